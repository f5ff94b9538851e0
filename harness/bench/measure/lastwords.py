"""Last words: what a process that crashed printed, and the line of a page at which it was."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

# torch's profiler and faulthandler announce themselves; neither says why a process ended.
_NOISE = ("USDT", "Fatal Python error", "Extension modules:", "Current thread", "Thread 0x", "  ")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_LONGEST = 300


class LastWords:
    """The file into which workers print, read from where the present job began."""

    def __init__(self, path: Path, folders: Iterable[str]) -> None:
        self.path = path
        self._folders = tuple(folders)
        self._start = 0

    def mark(self) -> None:
        """Forget what was printed so far: it belongs to other jobs."""
        self._start = self.path.stat().st_size if self.path.exists() else 0

    def told(self) -> str:
        """End a sentence with the page's line and with what was printed last, as far as known."""
        place, last = self._place(), self.last_line()
        return (f" at {place}" if place else "") + (f"; it printed last: {last}" if last else ".")

    def last_line(self) -> str:
        """Return the last line that a person could want to read."""
        spoken = [line.strip() for line in self._lines() if line.strip() and not line.startswith(_NOISE)]
        return spoken[-1][:_LONGEST] if spoken else ""

    def _place(self) -> str:
        """Name the innermost line of a page in what faulthandler printed."""
        frames = (_FRAME.search(line) for line in self._lines() if line.startswith("  File "))
        for frame in filter(None, frames):
            if frame["file"].startswith(self._folders):
                return f"{Path(frame['file']).name}:{frame['line']}"
        return ""

    def _lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            log.seek(self._start)
            return log.read().decode(errors="replace").splitlines()
