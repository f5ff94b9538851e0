"""Order statistics, held against what can be counted by hand."""

from __future__ import annotations

import random

import pytest

from harness.paper.stats import summarise

# Ranks r and n + 1 − r, from one, of the order statistics that enclose the median with at least 95 %:
# r is the largest for which fewer than r of n fair coins show heads with a chance of at most 2.5 %.
_RANKS = {6: (1, 6), 9: (2, 8), 10: (2, 9), 20: (6, 15), 25: (8, 18), 100: (40, 61)}


@pytest.mark.parametrize(("count", "ranks"), _RANKS.items())
def test_the_interval_lies_between_the_tabled_ranks(count: int, ranks: tuple[int, int]) -> None:
    """The interval for the median is the distribution-free one."""
    found = summarise(range(1, count + 1))
    assert (found.low, found.high) == ranks


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_samples_give_their_whole_range(count: int) -> None:
    """Below six samples no interval reaches 95 %, so the widest one is given."""
    found = summarise(range(1, count + 1))
    assert (found.low, found.high) == (1, count)


@pytest.mark.parametrize("count", [1001, 4000])
def test_many_samples_are_within_one_rank_of_the_binomial(count: int) -> None:
    """Above a thousand samples the normal approximation is as wide as the binomial, or one rank wider."""
    found = summarise(range(count))
    exact = summarise(range(1000)) if count == 1001 else None
    half = 0.98 * count**0.5
    assert count / 2 - half - 1 <= found.low <= count / 2 - half
    assert count / 2 + half <= found.high <= count / 2 + half + 2
    assert exact is None or abs((found.high - found.low) - (exact.high - exact.low)) <= 2


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    """Of many skewed samples at least 95 % have the true median in their interval."""
    draw = random.Random(1)
    intervals = [summarise([draw.lognormvariate(0, 1) for _ in range(25)]) for _ in range(800)]
    covered = sum(found.low <= 1.0 <= found.high for found in intervals)
    assert covered >= 0.94 * len(intervals)


def test_a_summary_does_not_depend_on_the_order_of_samples() -> None:
    """Median and quartiles are those of the sorted samples."""
    found = summarise([5.0, 1.0, 4.0, 2.0, 3.0])
    assert (found.count, found.low_quartile, found.median, found.high_quartile) == (5, 2.0, 3.0, 4.0)


def test_one_slow_sample_moves_no_median() -> None:
    """An interrupt during one sample leaves the median alone."""
    calm = summarise([1.0] * 20)
    assert summarise([1.0] * 20 + [1000.0]).median == calm.median
