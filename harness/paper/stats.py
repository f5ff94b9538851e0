"""Order statistics of samples; nothing here assumes a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
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
