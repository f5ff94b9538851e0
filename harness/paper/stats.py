"""Order statistics of samples; nothing here assumes a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, comb, cos, exp, inf, pi, sin, sqrt
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Median of the samples with their quartiles and an interval for the median."""

    count: int
    median: float
    low_quartile: float
    high_quartile: float
    low: float
    high: float


def summarise(samples: Sequence[float], confidence: float = 0.95) -> Summary:
    """Summarise at least one sample.

    The interval for the median is the distribution-free one between two order statistics
    (binomial argument); below six samples 95 % cannot be reached and the whole range is given.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    low, high = _median_ranks(len(ordered), confidence)
    quartiles = np.quantile(ordered, [0.25, 0.5, 0.75])
    return Summary(
        count=len(ordered),
        median=float(quartiles[1]),
        low_quartile=float(quartiles[0]),
        high_quartile=float(quartiles[2]),
        low=float(ordered[low]),
        high=float(ordered[high]),
    )


def _median_ranks(count: int, confidence: float) -> tuple[int, int]:
    """Ranks (from zero) of the two order statistics that enclose the median."""
    if count > 1000:
        # The normal approximation of the binomial is within one rank here.
        half = NormalDist().inv_cdf((1 + confidence) / 2) * count**0.5 / 2
        return int(count / 2 - half), min(count - 1, int(count / 2 + half) + 1)
    tail, rank = 0.0, 0
    for k in range(count // 2):
        tail += comb(count, k) / 2**count
        if 2 * tail > 1 - confidence:
            break
        rank = k + 1
    rank = max(0, rank - 1)
    return rank, count - 1 - rank


@dataclass(frozen=True)
class Estimate:
    """The median of several processes with an interval for it; without an interval it is one process."""

    value: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None or not self.value:
            return inf
        return (self.high - self.low) / 2 / self.value


def estimate(medians: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Estimate a positive quantity from one median per process.

    The processes are the independent unit, so nothing but their medians counts. Their logarithms are taken
    as normal: Student's t gives the interval of the mean, and √(π/2) widens it to that of the median, whose
    standard error is larger by this factor for many processes and by less for few (Cramér 1946, 28.5).
    """
    value = float(np.median(medians))
    if len(medians) < 2 or min(medians) <= 0:
        return Estimate(value, None, None)
    spread = float(np.std(np.log(medians), ddof=1))
    t = student_quantile((1 + confidence) / 2, len(medians) - 1)
    reach = exp(t * spread * sqrt(pi / 2) / sqrt(len(medians)))
    return Estimate(value, value / reach, value * reach)


def student_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t for a probability of at least one half."""
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < probability:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < probability else (low, middle)
    return high


def student_cdf(t: float, degrees: int) -> float:
    """Return the probability of at most ``t`` (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = atan2(t, sqrt(degrees))
    sine, square = sin(angle), cos(angle) ** 2
    term, total = 1.0, 0.0
    first = 1 if degrees % 2 else 0
    for k in range(first, degrees - 1, 2):
        total += term
        term *= square * (k + 1) / (k + 2)
    inner = 2 / pi * (angle + sine * cos(angle) * total) if degrees % 2 else sine * total
    return 0.5 + inner / 2


def find_modes(medians: Sequence[float], within: float) -> list[list[float]]:
    """Split the medians of processes where a gap is far wider than what a process varies by itself.

    within: the width of the middle half of the samples of a process, as a share of its median. Times that
    fall into groups come from a choice that a process makes once, such as where its memory lies.
    """
    ordered = sorted(medians)
    modes = [[ordered[0]]]
    for previous, value in pairwise(ordered):
        if value > previous * (1 + max(_SMALLEST_GAP, _GAP * within)):
            modes.append([])
        modes[-1].append(value)
    return modes


# Processes differ by up to 1.6 % for no reason that could be found; five times that is another mode.
_SMALLEST_GAP = 0.08
# Medians of samples whose middle half has this width hardly ever lie five widths apart.
_GAP = 5.0
