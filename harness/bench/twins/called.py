"""Which functions of a project one call runs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType

# A suspended frame is entered again: these have more events than calls.
_SUSPENDS = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
# What runs below it has been translated: a change of the source changes the program and not just its time.
_COMPILED = "compile_wrapper"


@dataclass(frozen=True)
class Called:
    """A function that a call ran.

    file: relative to the root, with slashes. name: qualified. line: the first one, which is a decorator's
    where it has any. times: how often one call ran it.
    """

    file: str
    name: str
    line: int
    times: int


def functions_called(call: Callable[[], object], root: Path) -> list[Called]:
    """Return the functions below ``root`` that one call runs in its thread, in the order of their start.

    The function is called once unobserved before: it may import and compile. What ``torch.compile`` has
    translated is left out.
    """
    call()
    seen = _Seen(str(root.resolve()) + "/")
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(before)
    return [
        Called(_relative(code.co_filename, root), code.co_qualname, code.co_firstlineno, times)
        for code, times in seen.times.items()
    ]


def _relative(file: str, root: Path) -> str:
    return Path(file).resolve().relative_to(root.resolve()).as_posix()


@dataclass
class _Seen:
    """A profile function that counts the calls of functions whose file lies below a folder."""

    folder: str
    times: Counter[CodeType] = field(default_factory=Counter)
    _files: dict[str, bool] = field(default_factory=dict)
    _suspended: set[FrameType] = field(default_factory=set)
    _compiled: int = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if code.co_name == _COMPILED:
            self._compiled += {"call": 1, "return": -1}.get(event, 0)
        elif event == "call" and not self._compiled and self._is_ours(code.co_filename):
            self._count(frame)

    def _count(self, frame: FrameType) -> None:
        if frame.f_code.co_flags & _SUSPENDS:
            if frame in self._suspended:
                return
            self._suspended.add(frame)
        self.times[frame.f_code] += 1

    def _is_ours(self, file: str) -> bool:
        if file not in self._files:
            # Pages may have been found through a link; names such as <string> are no files.
            self._files[file] = not file.startswith("<") and str(Path(file).resolve()).startswith(self.folder)
        return self._files[file]
