"""Ranks say no more than the intervals allow."""

from __future__ import annotations

from harness.paper.record import Reading
from harness.paper.units import Unit

from .forms import group_forms, rank
from .specimen import RED, make_run

SECONDS = Unit.SECONDS_PER_CALL


def time(value: float, spread: float = 0.001) -> Reading:
    """Return a latency with a relative interval."""
    return Reading(SECONDS, value, value * (1 - spread), value * (1 + spread))


def test_a_difference_between_processes_decides_nothing() -> None:
    """Medians that differ by less than two processes of the same code share a rank."""
    assert rank([time(1.0), time(1.01), time(1.5)]) == [1, 1, 3]


def test_overlapping_intervals_share_a_rank() -> None:
    """Whole intervals decide, not medians."""
    assert rank([time(1.0, 0.2), time(1.2, 0.2)]) == [1, 1]


def test_what_has_no_number_has_no_rank() -> None:
    """A missing number neither takes nor shifts a place."""
    assert rank([Reading.missing(SECONDS, "red"), time(2.0)]) == [None, 1]


def test_a_red_implementation_is_never_the_best() -> None:
    """The best form is the fastest of those that agreed."""
    forms = group_forms(make_run())[RED.group]
    assert RED.implementation in forms.records
    assert forms.best == "shifted"
