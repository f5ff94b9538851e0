"""Progress with the time left: one line rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from harness.paper.units import format_clock


class Screen(Protocol):
    """Where progress is written; pytest's terminal reporter is one."""

    @property
    def isatty(self) -> bool:
        """Whether a person watches."""

    def rewrite(self, line: str, *, erase: bool = False) -> None:
        """Replace the current line."""

    def write_line(self, line: str) -> None:
        """Write a whole line."""

    def ensure_newline(self) -> None:
        """End an unfinished line."""


@dataclass
class Progress:
    """Counts steps and says how long the rest will take, from how long the finished ones took."""

    screen: Screen
    total: int
    now: Callable[[], float] = time.monotonic
    done: int = 0
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.now()

    def begin(self, what: str) -> None:
        """Say what is under way."""
        if self.screen.isatty:
            self.screen.rewrite(f"{self._counter()} {what} …", erase=True)

    def end(self, what: str) -> None:
        """Say how a step ended."""
        self.done += 1
        line = f"{self._counter()} {what} ({self.time_left()} left)"
        if self.screen.isatty:
            self.screen.rewrite("", erase=True)
        else:
            self.screen.ensure_newline()
        self.screen.write_line(line)

    def time_left(self) -> str:
        """Estimate the remaining time as minutes and seconds."""
        spent = self.now() - self._started
        return format_clock(spent / max(1, self.done) * (self.total - self.done))

    def _counter(self) -> str:
        width = len(str(self.total))
        return f"[{self.done:{width}}/{self.total}]"
