"""From the blocks of several processes to one reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.bench.measure.clocks import Block
from harness.bench.measure.latency import ProcessSamples, choose_clock, estimate_latency, latency_reading
from harness.bench.measure.modes import Mode

ONE = Mode.of("hot", "cpu", 1)


def process(seconds: Sequence[float], wall: float = 1.0, **facts: Any) -> ProcessSamples:
    """Return a process with blocks of two calls, which take so long by the CPU clock, and so much more."""
    known: dict[str, Any] = {"others_seconds": 0.0, "faults": 0, "waits": 0, "preemptions": 0, **facts}
    return ProcessSamples(
        [Block(2, 2 * wall * value, 2 * value, **known) for value in seconds], (1,), 12, True
    )


def test_value_is_the_median_of_the_processes() -> None:
    """A process counts once, however many samples it has."""
    processes = [process([1.0] * 3), process([2.0] * 500), process([1.2] * 7)]
    reading = latency_reading(processes, ONE, "enough")
    assert reading.value == 1.2
    assert [found["median"] for found in reading.facts["processes"]] == [1.0, 2.0, 1.2]


def test_interval_comes_from_the_processes_alone() -> None:
    """Samples that all agree within a process do not narrow the interval between processes."""
    apart = latency_reading([process([1.0] * 500), process([1.1] * 500), process([1.2] * 500)], ONE, "")
    together = latency_reading([process([0.5, 1.0, 1.5] * 50)] * 3, ONE, "")
    assert apart.low is not None
    assert apart.high is not None
    assert apart.low < 1.0
    assert apart.high > 1.2
    assert (together.low, together.high) == (1.0, 1.0)
    assert apart.facts["interval"] == "95 % Student's t over the logarithms of the medians of 3 processes"


def test_one_process_has_the_interval_of_its_samples() -> None:
    """A single process gives an interval of another kind, and says so."""
    reading = latency_reading([process([float(n) for n in range(1, 12)])], ONE, "")
    assert reading.value == 6
    assert reading.low is not None
    assert reading.high is not None
    assert 1 < reading.low < 6 < reading.high < 11
    assert reading.facts["interval"] == "95 % order statistics of the samples of one process"


def test_preempted_samples_do_not_move_the_value() -> None:
    """Where one thread computes without waiting, its CPU clock tells, and the wall stands beside it."""
    reading = latency_reading([process([1.0] * 5, wall=1.9, preemptions=3)] * 2, ONE, "")
    assert reading.value == 1.0
    assert reading.facts["clock"] == "thread CPU time"
    assert reading.facts["wall_seconds_per_call"] == pytest.approx(1.9)
    assert reading.facts["preempted_share"] == 1.0


@pytest.mark.parametrize(
    ("device", "threads", "facts", "clock"),
    [
        ("cpu", 1, {}, "thread CPU time"),
        ("cpu", 2, {}, "wall"),
        ("cpu", 1, {"waits": 1}, "wall"),
        ("cpu", 1, {"others_seconds": 0.5}, "wall"),
        ("cpu", 1, {"waits": None}, "wall"),
        ("cuda", 1, {}, "CUDA events"),
    ],
)
def test_clock_fits_the_program(device: str, threads: int, facts: dict[str, Any], clock: str) -> None:
    """A program that sleeps, waits, or lets others work is told by the wall: no work is hidden."""
    assert choose_clock([process([1.0] * 5, **facts)], Mode.of("hot", device, threads)) == clock


def test_modes_of_processes_are_told() -> None:
    """Processes that fall into groups are no spread: the reading names the groups."""
    reading = latency_reading([process([0.64] * 9), process([2.3] * 9), process([0.65] * 9)], ONE, "")
    assert reading.facts["modes"] == [
        {"median": pytest.approx(0.645), "processes": 2},
        {"median": 2.3, "processes": 1},
    ]
    assert latency_reading([process([0.64] * 9), process([0.65] * 9)], ONE, "").facts["modes"] is None


def test_faults_count_per_call() -> None:
    """Page faults are those of one call, not of a block."""
    assert latency_reading([process([1.0] * 4, faults=6)], ONE, "").facts["faults_per_call"] == 3


def test_unknown_is_unknown_and_not_zero() -> None:
    """What a clock cannot tell is left out of the reading as unknown."""
    reading = latency_reading([ProcessSamples([Block(1, 1e-3)])], Mode.of("hot", "cuda", 1), "")
    for name in ("cpu_seconds_per_call", "faults_per_call", "waits_per_call", "preempted_share"):
        assert reading.facts[name] is None


def test_samples_are_bounded() -> None:
    """However many samples were taken a record holds few, thinned out evenly; the median counts them all."""
    reading = latency_reading([process([1.0] * 5000 + [2.0] * 5001)] * 3, ONE, "")
    assert len(reading.samples) == 600
    assert reading.samples.count(1.0) == pytest.approx(300, abs=3)
    assert reading.value == 2.0


def test_estimate_of_one_process_is_endlessly_wide() -> None:
    """One process never ends the sampling by being precise."""
    assert estimate_latency([process([1.0] * 100)], "wall").half_width == float("inf")
