"""Exact intervals for counts, and what else is said of a few numbers; nothing here approximates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, fsum, inf, lgamma, log, log1p, sqrt
from statistics import fmean, stdev

from harness.paper.stats import student_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """A count of a total, with the exact interval for the probability behind it."""

    count: int
    total: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of Clopper and Pearson (1934), with 2.5 % on either side."""
        outside = (1 - CONFIDENCE) / 2
        return self.low(1 - outside), self.high(1 - outside)

    def low(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided lower bound: so many or more are this rare where the probability is lower."""
        if self.count == 0:
            return 0.0
        return _solve(lambda p: 1 - _cumulated(self.count - 1, self.total, p) < 1 - confidence)

    def high(self, confidence: float = CONFIDENCE) -> float:
        """Return the one-sided upper bound: so few or fewer are this rare where the probability is higher."""
        if self.count == self.total:
            return 1.0
        return _solve(lambda p: _cumulated(self.count, self.total, p) > 1 - confidence)


def _solve(is_below: Callable[[float], bool]) -> float:
    """Return the probability at which a condition that holds for small ones ends to hold."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return high


def _cumulated(most: int, total: int, p: float) -> float:
    """Return the probability of at most so many of a binomial."""
    return min(1.0, fsum(_probability(count, total, p) for count in range(most + 1)))


def _probability(count: int, total: int, p: float) -> float:
    if p in (0.0, 1.0):
        return float(count == total * p)
    ways = lgamma(total + 1) - lgamma(count + 1) - lgamma(total - count + 1)
    return exp(ways + count * log(p) + (total - count) * log1p(-p))


def sign_test(values: Sequence[float]) -> float:
    """Return how likely signs as uneven as these are where either is as likely; zeros say nothing."""
    positive = sum(value > 0 for value in values)
    total = positive + sum(value < 0 for value in values)
    fewer = min(positive, total - positive)
    return min(1.0, 2 * _cumulated(fewer, total, 0.5))


@dataclass(frozen=True)
class Mean:
    """The mean of some numbers with Student's interval for it; infinite for fewer than two."""

    value: float
    low: float
    high: float
    count: int


def mean_of(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """Return the mean of at least one number."""
    middle = fmean(values)
    if len(values) < 2:
        return Mean(middle, -inf, inf, len(values))
    reach = student_quantile((1 + confidence) / 2, len(values) - 1) * stdev(values) / sqrt(len(values))
    return Mean(middle, middle - reach, middle + reach, len(values))
