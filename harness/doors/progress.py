"""Progress with the time left: one line rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.paper.units import format_clock

# The first steps often pay for what the others find ready.
_GUESS_WEIGHT = 5
# In a log nothing is rewritten: so much later another line tells what is under way.
_SILENCE_SECONDS = 10.0


class Screen(Protocol):
    """Where progress is written; pytest's terminal reporter is one."""

    @property
    def isatty(self) -> object:
        """Whether a person watches."""

    def rewrite(self, line: str, *, erase: bool = False) -> None:
        """Replace the current line."""

    def write_line(self, line: str) -> None:
        """Write a whole line."""

    def ensure_newline(self) -> None:
        """End an unfinished line."""


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns


@dataclass
class Progress:
    """Counts steps and says how long the rest will take, from how long the finished ones took.

    kinds: the kind of every step to come. Steps of one kind take about equally long, those of another
    may take a hundred times as long, so each kind has a mean of its own. guesses: the seconds of a step by
    kind, which count like a few steps until others are known.
    """

    screen: Screen
    kinds: Iterable[str]
    now: Callable[[], float] = time.monotonic
    width: Callable[[], int] = _terminal_width
    guesses: Mapping[str, float] = field(default_factory=dict)
    done: int = 0
    _total: int = field(init=False)
    _left: Counter[str] = field(init=False)
    _seconds: dict[str, list[float]] = field(init=False, default_factory=dict)
    _begun: float = field(init=False)
    _shown: float = field(init=False)
    _finished: Counter[str] = field(init=False, default_factory=Counter)
    _spent_ahead: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._left = Counter(self.kinds)
        self._total = self._left.total()
        self._begun = self._shown = self.now()

    def begin(self, what: str) -> None:
        """Say what is under way."""
        self._begun = self.now()
        if self.screen.isatty:
            # A line that wraps cannot be rewritten.
            self.screen.rewrite(_shorten(f"{self._counter()} {what} …", self.width() - 1), erase=True)

    def advance(self, what: str, seconds: float) -> None:
        """Say what is under way where several steps are worked on at a time, which took so long meanwhile."""
        self._spent_ahead += seconds
        line = f"{self._counter()} {what} … ({self.time_left()} left)"
        if self.screen.isatty:
            self.screen.rewrite(_shorten(line, self.width() - 1), erase=True)
        elif self.now() - self._shown >= _SILENCE_SECONDS:
            # Below the counters, as no step ended.
            self.screen.ensure_newline()
            self.screen.write_line(" " * len(self._counter()) + line.removeprefix(self._counter()))
            self._shown = self.now()

    def finish(self, kind: str, steps: int, seconds: float) -> None:
        """Note that steps are done that end later, and which of the seconds spent ahead they took."""
        self._spent_ahead = max(0.0, self._spent_ahead - seconds)
        self._finished[kind] += steps
        self._left[kind] -= steps
        self._seconds.setdefault(kind, []).extend([seconds / steps] * steps)

    def end(self, kind: str, what: str, *, worked: bool = True) -> None:
        """Say how a step ended; one that had nothing left to do says nothing about the others."""
        self.done += 1
        if worked and self._finished[kind]:
            self._finished[kind] -= 1
        else:
            self._left[kind] -= 1
            if worked:
                self._seconds.setdefault(kind, []).append(self.now() - self._begun)
        self._shown = self.now()
        line = f"{self._counter()} {what}"
        if self.done < self._total:
            line += f" ({self.time_left()} left)"
        if self.screen.isatty:
            self.screen.rewrite(line, erase=True)
            self.screen.write_line("")
        else:
            self.screen.ensure_newline()
            self.screen.write_line(line)

    def time_left(self) -> str:
        """Estimate the remaining time as minutes and seconds."""
        if not self._seconds and not self.guesses:
            return "unknown time"
        seconds = sum(count * self._mean(kind) for kind, count in self._left.items())
        return format_clock(max(0.0, seconds - self._spent_ahead))

    def _mean(self, kind: str) -> float:
        """Return the mean of the finished steps of a kind; of all of them where it has none."""
        spent = self._seconds.get(kind, [])
        if kind in self.guesses:
            spent = [*spent, *[self.guesses[kind]] * _GUESS_WEIGHT]
        spent = spent or [value for values in self._seconds.values() for value in values]
        return sum(spent) / len(spent)

    def _counter(self) -> str:
        width = len(str(self._total))
        return f"[{self.done:{width}}/{self._total}]"


def _shorten(line: str, width: int) -> str:
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
