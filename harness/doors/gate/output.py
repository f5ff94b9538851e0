"""Where a gate's outcome goes: the files that were asked for, each in its own format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.doors.gate.junit import render_junit
from harness.doors.project import load_renderer
from harness.paper.errors import Exit, SameopError
from harness.paper.gate.outcome import GateOutcome

# What renderers of a gate's outcome are found by; they get a GateOutcome.
GATE = "sameop.renderers.gate"
Render = Callable[[GateOutcome], str]


@dataclass(frozen=True)
class Outputs:
    """The files that were asked for; None is one that was not."""

    junit: Path | None = None
    markdown: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise :class:`SameopError` for what cannot be written, before minutes go into measuring."""
        taken: dict[Path, str] = {}
        for option, path, load in self._asked():
            if path.is_dir():
                raise SameopError(f"--{option} {path} is a folder: name a file.")
            if not path.parent.is_dir():
                raise SameopError(f"--{option} {path} lies in no folder: make {path.parent} first.")
            other = taken.setdefault(path.resolve(), option)
            if other != option:
                raise SameopError(f"--{other} and --{option} both name {path}: give each a file of its own.")
            load()

    def write(self, outcome: GateOutcome, say: Callable[[str], None]) -> Exit:
        """Write the files, say where each lies, and return the exit code of the whole.

        A file that cannot be written costs no other file and hides no verdict: the code becomes that of
        usage only where the gate is passed.
        """
        code = outcome.exit
        for option, path, load in self._asked():
            try:
                path.write_text(load()(outcome), encoding="utf-8")
                say(str(path))
            except OSError as error:
                say(f"--{option} {path} cannot be written ({error.strerror}): name another file.")
                code = code or Exit.USAGE
        return code

    def _asked(self) -> Iterator[tuple[str, Path, Callable[[], Render]]]:
        loaders: dict[str, tuple[Path | None, Callable[[], Render]]] = {
            "junit": (self.junit, lambda: render_junit),
            "markdown": (self.markdown, partial(load_renderer, "markdown", GATE)),
            "html": (self.html, partial(load_renderer, "html", GATE)),
        }
        for option, (path, load) in loaders.items():
            if path is not None:
                yield option, path, load
