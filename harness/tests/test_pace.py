"""The pace of a session: its time is shared among the cases that are still to come."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.bench.measure.pace import Pace


@dataclass
class Time:
    """A clock that moves only when it is told to."""

    seconds: float = 100.0

    def __call__(self) -> float:
        """Return the seconds since some moment."""
        return self.seconds


@pytest.fixture
def time() -> Time:
    """Return a clock that stands still."""
    return Time()


def test_without_a_limit_every_case_gets_the_most(time: Time) -> None:
    """A session that may take as long as it takes shares nothing."""
    pace = Pace(None, 6.0, 1000, now=time)
    time.seconds += 1e6
    assert pace.grant() == 6.0


def test_time_is_shared(time: Time) -> None:
    """Every case gets its part of what is left, less what it costs beside sampling."""
    pace = Pace(100.0, 6.0, 50, overhead=0.5, now=time)
    assert pace.grant() == pytest.approx(1.5)
    time.seconds += 50
    assert pace.grant() == pytest.approx(0.5)
    pace.done(25, 12.5, 0.0)
    assert pace.grant() == pytest.approx(1.5)


def test_no_case_gets_more_than_the_most_or_less_than_the_least(time: Time) -> None:
    """Few cases do not stretch; a session that is late still samples what a median needs."""
    assert Pace(1000.0, 6.0, 3, now=time).grant() == 6.0
    late = Pace(10.0, 6.0, 1000, now=time)
    assert late.grant() == 0.3
    time.seconds += 100
    assert late.grant() == 0.3


def test_time_counts_from_when_the_session_began(time: Time) -> None:
    """A session that began before counts from there."""
    assert Pace(100.0, 60.0, 1, overhead=0, now=time, started=40.0).grant() == pytest.approx(40.0)
    assert Pace(100.0, 60.0, 2, overhead=0, now=time).grant() == pytest.approx(50.0)


def test_what_a_case_costs_beside_sampling_is_learned(time: Time) -> None:
    """The overhead comes near that of the cases that were measured, the recent ones most of all."""
    pace = Pace(1000.0, 60.0, 100, overhead=0.3, now=time)
    pace.done(2, 2 * 1.8, 2 * 0.5)
    assert pace.overhead == pytest.approx(0.3 + 0.2 * (1.3 - 0.3))
    for _ in range(40):
        pace.done(1, 1.8, 0.5)
    assert pace.overhead == pytest.approx(1.3, abs=1e-3)
    assert pace.cases == 58


def test_more_sampling_than_time_is_no_gain(time: Time) -> None:
    """Clocks that differ do not make the overhead negative; after the last case nothing divides by zero."""
    pace = Pace(10.0, 60.0, 1, overhead=0.3, now=time)
    pace.done(1, 1.0, 1.5)
    assert 0 <= pace.overhead < 0.3
    assert pace.grant() == pytest.approx(10 - pace.overhead)


@pytest.mark.parametrize(
    ("cases", "seconds", "stretch"),
    [(56, 45.0, 56 * 2 / 2), (60, 45.0, 60 * 2 / 3), (3, 45.0, 6.0), (0, 45.0, 45.0), (9, 0.0, 0.0)],
)
def test_stretches_are_about_equal(time: Time, cases: int, seconds: float, stretch: float) -> None:
    """No stretch is left over that would be much shorter than the others."""
    assert Pace(None, 6.0, cases, whole=2.0, now=time).stretch(seconds) == pytest.approx(stretch)


def test_what_a_case_takes_in_all_is_learned(time: Time) -> None:
    """It comes near to that of the cases that were measured."""
    pace = Pace(None, 6.0, 100, whole=2.0, now=time)
    pace.done(2, 8.0, 1.0)
    assert pace.whole == pytest.approx(2.4)


@pytest.mark.parametrize(("beside", "cases"), [(0.2, 100), (1.5, 80), (4.0, 30)])
def test_a_session_keeps_its_time(time: Time, beside: float, cases: int) -> None:
    """However much a case costs beside sampling, a session ends on time if the least can be kept."""
    pace, began = Pace(165.0, 4.0, cases, now=time), time.seconds
    for _ in range(cases):
        granted = pace.grant()
        time.seconds += granted + beside
        pace.done(1, granted + beside, granted)
    assert time.seconds - began <= 165.1
    # And makes use of it, unless every case had the most.
    assert time.seconds - began >= min(150.0, cases * (4.0 + beside) - 1e-6)
