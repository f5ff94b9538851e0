"""The test that a clock's numbers of one case go through: a screen, then stages of fresh processes.

A number is the logarithm of head's time by base's in one pair of fresh processes. Everything here works on
the mean and the spread of such numbers, for one case or for an array of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from math import inf, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.paper.stats import student_quantile

# A slowdown as large as the policy looks for is let through the screen at most once in 200.
SCREEN = 0.995
# A lower bound of this confidence above the margin asks for another stage. It costs processes and no error:
# one unchanged case in ten or fewer goes on, and a real slowdown near the margin is not dropped on the way.
SUSPECT = 0.90
# What was neither found nor cleared by the last stage has a lower bound of this confidence above the margin.
AMBIGUOUS = 0.99
# Of the 1 in 100 that a detectable slowdown may be missed, half belongs to each of the two steps below.
POWER = 0.995
# Unchanged code differs by up to 0.2 % through the layout of its memory, which is this share of the margin
# of 0.5 %. An INCONCLUSIVE at the end needs a family-wise bound above it, a FAIL one above the whole margin.
FLOOR = 0.4


class Step(IntEnum):
    """What follows from the numbers so far."""

    MORE = 0
    PASS = 1
    FAIL = 2
    INCONCLUSIVE = 3
    INSENSITIVE = 4


@dataclass(frozen=True)
class StagedTest:
    """One clock's test of one case.

    margin, detect and sensitivity are logarithms of ratios: what head may be slower by, what the screen must
    not let through, and what the last stage must be able to find. error: the probability of an alarm in a
    case that is no slower than the margin, over all stages. processes: of each stage, the screen first.
    """

    margin: float
    detect: float
    sensitivity: float
    error: float
    processes: tuple[int, ...]

    @property
    def stage_error(self) -> float:
        """The probability of an alarm in one stage that judges: each has the same."""
        return self.error / (len(self.processes) - 1)

    @property
    def planned(self) -> int:
        """The processes that judge a case which goes through every stage."""
        return sum(self.processes[1:])

    def screen(self, mean: ArrayLike, spread: ArrayLike, count: int) -> NDArray[np.int_]:
        """Pass what excludes a slowdown of ``detect``; everything else needs fresh processes."""
        high = np.asarray(mean) + quantile(SCREEN, count) * np.asarray(spread) / sqrt(count)
        return np.where(high < self.detect, Step.PASS, Step.MORE)

    def judge(
        self, mean: ArrayLike, spread: ArrayLike, count: int, is_last: bool = True, is_cut: bool = False
    ) -> NDArray[np.int_]:
        """Judge the pooled numbers of all stages but the screen.

        is_cut: no stage follows although one was planned. Then what is ambiguous is told as it stands; after
        the planned last stage it must also exceed what unchanged code does, with the family-wise error.
        """
        mean = np.asarray(mean)
        error = np.asarray(spread) / sqrt(count)
        sure = mean - quantile(1 - self.stage_error, count) * error
        detectable = self.detectable(spread, count, is_last)
        blind = detectable > self.sensitivity
        fails = sure > self.margin
        if not is_last:
            goes_on = (mean - quantile(SUSPECT, count) * error > self.margin) | blind
            return np.select([fails, goes_on], [Step.FAIL, Step.MORE], Step.PASS)
        ambiguous = mean - quantile(AMBIGUOUS, count) * error > self.margin
        if not is_cut:
            ambiguous &= sure > FLOOR * self.margin
        steps = [Step.FAIL, Step.INCONCLUSIVE, Step.INSENSITIVE]
        return np.select([fails, ambiguous, blind], steps, Step.PASS)

    def detectable(self, spread: ArrayLike, count: int, is_last: bool) -> NDArray[np.float64]:
        """Return the smallest slowdown that is found 99 times of a hundred at this spread of processes.

        Where stages follow, it need only look suspicious now and be found at their end.
        """
        spread = np.asarray(spread, dtype=float)
        now = self._reach(1 - self.stage_error, count)
        if not is_last:
            now = min(now, self._later(count))
        return self.margin + now * spread

    def detectable_ahead(self, spread: ArrayLike) -> NDArray[np.float64]:
        """Return the smallest slowdown that screen and stages together find, at the spread of the screen."""
        return np.maximum(self.detect, self.margin + self._later(self.processes[1]) * np.asarray(spread))

    def _later(self, count: int) -> float:
        """How many spreads a slowdown needs to look suspicious by so many numbers and be found at last."""
        found = self._reach(1 - self.stage_error, max(self.planned, count))
        return found if count >= self.planned else max(self._reach(SUSPECT, count), found)

    def _reach(self, confidence: float, count: int) -> float:
        """How many spreads above the margin a slowdown passes a bound with the probability POWER."""
        if count < 2:
            return inf
        return (quantile(confidence, count) + quantile(POWER, count)) / sqrt(count)


@cache
def quantile(confidence: float, count: int) -> float:
    """Return Student's quantile for the mean of ``count`` numbers."""
    return student_quantile(confidence, count - 1)
