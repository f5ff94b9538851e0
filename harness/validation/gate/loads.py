"""What else runs while a trial does: nothing of ours, loops on every processor, or loops from a moment on.

The two sides of a gate take turns every few milliseconds, so that no load of seconds meets one of them alone;
tools that measure one side after the other meet it in head alone.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from harness.validation.peers.load import busy_processors

QUIET, BUSY, ONSET = "quiet", "busy", "onset"
LOADS = (QUIET, BUSY, ONSET)
ALL = "all"


def chosen(asked: str) -> tuple[str, ...]:
    """Return the loads that a word asks for."""
    return LOADS if asked == ALL else (asked,)


@contextlib.contextmanager
def during_gate(load: str, onset_seconds: float) -> Iterator[None]:
    """Keep the processors busy during a gate: throughout, or from so many seconds after its start."""
    with contextlib.ExitStack() as stack:
        if load == BUSY:
            stack.enter_context(busy_processors())
        if load == ONSET:
            stack.enter_context(_later(onset_seconds))
        yield


@contextlib.contextmanager
def during_side(load: str, *, is_first: bool) -> Iterator[None]:
    """Keep the processors busy while one side is measured by itself; an onset is at the second one."""
    busy = load == BUSY or (load == ONSET and not is_first)
    with busy_processors() if busy else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _later(seconds: float) -> Iterator[None]:
    ended = threading.Event()

    def wait() -> None:
        if not ended.wait(seconds):
            with busy_processors():
                ended.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
