"""The pace of a session: how many seconds the next case may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Below this a process samples fewer blocks than a median needs.
_LEAST_SECONDS = 0.3
# How much a group counts beside all before it.
_RECENT = 0.2


@dataclass
class Pace:
    """Shares the time of a session among the cases that are still to come.

    total_seconds: of the whole session, None where there is no limit. most: seconds of sampling that a case
    gets at most. overhead: what a case costs beside being sampled, and whole: what it takes in all, both
    learned from those that were measured.
    """

    total_seconds: float | None
    most: float
    cases: int
    overhead: float = 0.3
    whole: float = 2.0
    now: Callable[[], float] = time.monotonic
    started: float = field(default=0.0)

    def __post_init__(self) -> None:
        self.started = self.started or self.now()

    def grant(self) -> float:
        """Return how long the next case may be sampled."""
        if self.total_seconds is None:
            return self.most
        left = self.total_seconds - (self.now() - self.started)
        return min(self.most, max(_LEAST_SECONDS, left / max(1, self.cases) - self.overhead))

    def stretch(self, seconds: float) -> float:
        """Return the seconds of the next stretch, so that all are about equal and near to what is asked."""
        left = self.cases * self.whole
        return left / max(1, round(left / seconds)) if left > 0 < seconds else seconds

    def done(self, cases: int, seconds: float, sampled: float) -> None:
        """Learn from cases that took so long, of which so much was sampling."""
        self.cases -= cases
        beside = max(0.0, seconds - sampled) / max(1, cases)
        # Recent cases count more: the workloads of a plan grow and shrink.
        self.overhead += _RECENT * (beside - self.overhead)
        self.whole += _RECENT * (seconds / max(1, cases) - self.whole)
