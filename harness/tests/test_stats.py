"""Statistics, held against published tables and against what can be counted by hand."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.paper.stats import Estimate, estimate, find_modes, student_cdf, student_quantile, summarise

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


# Abramowitz and Stegun 1964, table 26.10, columns for two-sided probabilities of 5, 1 and 0.1 %.
_STUDENT = {
    1: (12.706, 63.657, 636.619),
    2: (4.303, 9.925, 31.598),
    3: (3.182, 5.841, 12.924),
    4: (2.776, 4.604, 8.610),
    5: (2.571, 4.032, 6.869),
    7: (2.365, 3.499, 5.408),
    10: (2.228, 3.169, 4.587),
    15: (2.131, 2.947, 4.073),
    30: (2.042, 2.750, 3.646),
    120: (1.980, 2.617, 3.373),
}


@pytest.mark.parametrize(("degrees", "quantiles"), _STUDENT.items())
def test_student_quantiles_are_the_tabled_ones(degrees: int, quantiles: tuple[float, ...]) -> None:
    """Quantiles of Student's t agree with the published table to its last digit."""
    for probability, tabled in zip((0.975, 0.995, 0.9995), quantiles, strict=True):
        # The table has 31.598 where the exact value is 31.5991.
        assert student_quantile(probability, degrees) == pytest.approx(tabled, abs=1.2e-3)


@pytest.mark.parametrize("t", [-3.0, -0.2, 0.0, 0.7, 2.5, 40.0])
def test_student_distributions_with_a_closed_form(t: float) -> None:
    """With one degree of freedom it is Cauchy's, with two algebraic, with many the normal one."""
    assert student_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi)
    assert student_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)))
    assert student_cdf(t, 20_000) == pytest.approx(0.5 + math.erf(t / math.sqrt(2)) / 2, abs=1e-4)


@given(st.floats(0.5, 0.9999), st.integers(1, 60))
def test_a_quantile_is_where_its_probability_is_reached(probability: float, degrees: int) -> None:
    """The quantile inverts the distribution, which is symmetric and grows."""
    t = student_quantile(probability, degrees)
    assert student_cdf(t, degrees) == pytest.approx(probability, abs=1e-9)
    assert student_cdf(-t, degrees) == pytest.approx(1 - probability, abs=1e-9)
    assert student_quantile((1 + probability) / 2, degrees) >= t


def test_an_estimate_by_hand() -> None:
    """Three processes: the median, and t of two degrees times √(π/2)·s/√3 either way, as a factor."""
    found = estimate([math.exp(-0.1), 1.0, math.exp(0.1)])
    reach = math.exp(4.302653 * math.sqrt(math.pi / 2) * 0.1 / math.sqrt(3))
    assert found.value == 1.0
    assert found.low == pytest.approx(1 / reach, rel=1e-6)
    assert found.high == pytest.approx(reach, rel=1e-6)
    assert found.half_width == pytest.approx((reach - 1 / reach) / 2, rel=1e-6)


@pytest.mark.parametrize("medians", [[1.0], [0.0, 1.0], [0.0, 0.0, 0.0]])
def test_what_has_no_interval_is_endlessly_wide(medians: list[float]) -> None:
    """One process says nothing about another, and no time at all has no logarithm."""
    found = estimate(medians)
    assert (found.low, found.high, found.half_width) == (None, None, math.inf)
    assert Estimate(0.0, 0.0, 0.0).half_width == math.inf


def test_processes_that_agree_have_no_width() -> None:
    """Equal medians give an interval of one point."""
    found = estimate([2.0, 2.0])
    assert (found.value, found.low, found.high, found.half_width) == (2.0, 2.0, 2.0, 0.0)


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=9), st.floats(1e-3, 1e3))
def test_an_estimate_knows_no_unit_and_no_order(medians: list[float], factor: float) -> None:
    """In other units the interval is the same, factor by factor, and it holds the value."""
    found, turned = estimate(medians), estimate(medians[::-1])
    other = estimate([factor * median for median in medians])
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert turned.low == pytest.approx(found.low)
    assert other.low == pytest.approx(factor * found.low, rel=1e-6)
    assert other.high == pytest.approx(factor * found.high, rel=1e-6)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_an_estimate_covers_as_often_as_it_says(count: int) -> None:
    """Of processes that scatter around a median, 95 % of the intervals hold it, and hardly more."""
    draw = random.Random(count)
    found = [estimate([draw.lognormvariate(0, 0.02) for _ in range(count)]) for _ in range(2000)]
    covered = sum((one.low or 1) <= 1.0 <= (one.high or 1) for one in found) / len(found)
    assert 0.945 <= covered <= 0.99


def test_more_processes_make_it_narrower() -> None:
    """Twice as many processes of the same scatter never widen the interval."""
    widths = [estimate([1.0, 1.1] * pairs).half_width for pairs in (1, 2, 4, 8)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize(
    ("medians", "within", "modes"),
    [
        ([1.0], 0.0, [[1.0]]),
        ([0.64, 2.3, 0.65], 0.01, [[0.64, 0.65], [2.3]]),
        ([3.0, 1.0, 2.0], 0.01, [[1.0], [2.0], [3.0]]),
        # Processes differ by a few percent for no reason that could be found.
        ([1.0, 1.07, 1.14], 0.0, [[1.0, 1.07, 1.14]]),
        ([1.0, 1.09], 0.0, [[1.0], [1.09]]),
        # Where the samples of one process scatter by a fifth, its median says no more than that.
        ([1.0, 1.5, 1.9], 0.2, [[1.0, 1.5, 1.9]]),
        ([1.0, 2.1], 0.2, [[1.0], [2.1]]),
    ],
)
def test_modes_are_far_apart(medians: list[float], within: float, modes: list[list[float]]) -> None:
    """A gap makes two modes where it is far wider than what a process varies by itself."""
    assert find_modes(medians, within) == modes


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=9), st.floats(0, 1))
def test_every_process_is_in_one_mode(medians: list[float], within: float) -> None:
    """Modes hold all medians, in order, and none is empty."""
    found = find_modes(medians, within)
    assert [median for mode in found for median in mode] == sorted(medians)
    assert all(found)
