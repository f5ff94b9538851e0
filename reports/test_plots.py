"""Charts place values where the axis says."""

from __future__ import annotations

import pytest

from harness.paper.record import Reading
from harness.paper.units import Unit

from .plots import Chart, Item, draw_chart

SECONDS = Unit.SECONDS_PER_CALL


def draw(*readings: Reading) -> Chart:
    """Draw readings that hold at least one number."""
    chart = draw_chart("", [Item("", "best", reading) for reading in readings], SECONDS)
    assert chart is not None
    return chart


def at(place: str | None) -> float:
    """Read a position back."""
    assert place is not None
    return float(place.removesuffix("%"))


def test_a_linear_axis_starts_at_zero() -> None:
    """Where values are alike, the length of a bar is in proportion to its value."""
    chart = draw(Reading(SECONDS, 2e-3), Reading(SECONDS, 1e-3))
    long, short = (at(bar.end) for bar in chart.bars)
    assert not chart.logarithmic
    assert long == pytest.approx(2 * short, rel=1e-3)
    assert chart.ticks[0] == ("0.00%", "0")


def test_values_far_apart_get_a_logarithmic_axis() -> None:
    """Equal ratios are equal distances, and the axis begins and ends at powers of ten."""
    chart = draw(*(Reading(SECONDS, value) for value in (1e-5, 1e-4, 1e-3)))
    first, second, third = (at(bar.end) for bar in chart.bars)
    assert chart.logarithmic
    assert third - second == pytest.approx(second - first, abs=0.02)
    assert [text for _, text in chart.ticks] == ["10 µs", "100 µs", "1 ms"]


@pytest.mark.parametrize("top", [1.0, 1.2e-6, 3.3e-3, 9.99, 7.0e2])
def test_everything_lies_on_the_axis(top: float) -> None:
    """The upper end of an interval is on the axis, and the axis has a handful of marks."""
    chart = draw(Reading(SECONDS, top, 0.9 * top, 1.1 * top))
    interval = chart.bars[0].interval
    assert interval is not None
    assert at(interval[0]) < at(chart.bars[0].end) < at(interval[1]) <= 100
    assert 3 <= len(chart.ticks) <= 6


def test_a_missing_number_is_a_line_without_a_bar() -> None:
    """What has no number keeps its place and draws nothing; nothing but that draws no chart."""
    missing = Reading.missing(SECONDS, "no clock")
    assert draw(Reading(SECONDS, 1.0), missing).bars[1].end is None
    assert draw_chart("", [Item("", "best", missing)], SECONDS) is None
