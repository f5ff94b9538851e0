"""Warming up and sampling, with clocks that tell what a test wants to hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat

import pytest

from harness.bench.measure.clocks import Block, Call, CpuClock
from harness.bench.measure.latency import Budget, WarmUp, latency_reading, take_samples, warm_up


class Told:
    """A clock that returns the given seconds per call, and faults, one block after the other."""

    name = "told"
    launch = "included"

    def __init__(self, seconds: Iterable[float], faults: Iterable[int] = repeat(0)) -> None:
        self.seconds, self.faults = iter(seconds), iter(faults)
        self.calls: list[int] = []

    def time(self, call: Call, calls: int) -> Block:
        """Return the next block."""
        self.calls.append(calls)
        return Block(calls, next(self.seconds) * calls, None, next(self.faults))


@pytest.fixture
def call() -> Callable[[], object]:
    """Stand in for an operator."""
    return lambda: None


def test_warm_up_passes_a_slow_first_call(call: Call) -> None:
    """One cold call, however slow, does not decide how long to warm up or how many calls a sample has."""
    clock = Told(chain([2.0], repeat(1e-5)))
    state = warm_up(call, clock, Budget(warm_up_seconds=0.01))
    assert state.stable
    assert state.calls == 10
    take_samples(call, clock, Budget(sample_seconds=1e-3, fewest_samples=1), state)
    assert clock.calls[-1] == 20  # 200 µs in calls of 10 µs


def test_warm_up_goes_on_while_times_fall(call: Call) -> None:
    """Times that still change are not stable; the budget ends the warm-up and the state says so."""
    state = warm_up(call, Told(0.1 * 0.8**step for step in range(1000)), Budget(warm_up_seconds=0.35))
    assert not state.stable
    assert state.seconds - 0.1 >= 0.35


def test_warm_up_goes_on_while_pages_fault(call: Call) -> None:
    """Equal times are not enough: calls that still fault pages are not warm."""
    faults = chain(range(0, 2000, 100), repeat(0))
    state = warm_up(call, Told(repeat(1e-3), faults), Budget(warm_up_seconds=1.0))
    assert state.stable
    assert state.calls > 20


def test_warm_up_calls_at_least_three_times(call: Call) -> None:
    """An operator that is slower than the budget is still called three times."""
    assert warm_up(call, Told(repeat(9.0)), Budget(warm_up_seconds=0.1)).calls == 3


def test_samples_are_at_least_the_fewest(call: Call) -> None:
    """A slow operator gets the fewest samples, even beyond its budget."""
    clock = Told(repeat(0.5))
    warm = WarmUp(3, 1.5, True, [Block(1, 0.5)] * 3)
    samples = take_samples(call, clock, Budget(sample_seconds=0.1, fewest_samples=11), warm)
    assert len(samples) == 11
    assert set(clock.calls) == {1}


def test_samples_are_bounded(call: Call) -> None:
    """However long the budget, a record holds at most a thousand samples."""
    warm = WarmUp(3, 0.0, True, [Block(1, 1e-3)] * 3)
    assert len(take_samples(call, Told(repeat(1e-3)), Budget(sample_seconds=1e9), warm)) == 1000


def test_a_clock_that_reads_zero_ends(call: Call) -> None:
    """A device whose events read zero is sampled a bounded number of times."""
    warm = WarmUp(3, 0.0, True, [Block(1, 0.0)] * 3)
    assert len(take_samples(call, Told(repeat(0.0)), Budget(), warm)) == 1000


def blocks() -> Iterator[Block]:
    """Yield eleven blocks of two calls, from 1 to 11 ms, with a fault in every second call."""
    return (Block(2, 2e-3 * n, 1e-3 * n, 1) for n in range(1, 12))


def test_reading_holds_raw_samples_and_order_statistics() -> None:
    """The value is the median of the samples, which are kept per call and in their order."""
    reading = latency_reading(list(blocks()), WarmUp(12, 0.1, True), CpuClock())
    assert reading.samples == tuple(pytest.approx(1e-3 * n) for n in range(1, 12))
    assert reading.value == reading.samples[5]
    assert reading.low is not None
    assert reading.high is not None
    assert reading.low < reading.samples[5] < reading.high
    assert dict(reading.facts) == {
        "low_quartile": pytest.approx(3.5e-3),
        "high_quartile": pytest.approx(8.5e-3),
        "clock": "perf_counter and thread_time",
        "calls_per_sample": 2,
        "cpu_seconds_per_call": pytest.approx(3e-3),
        "faults_per_call": 0.5,
        "warm_up_calls": 12,
        "warm_up_stable": True,
        "launch": "included",
        "cache": "hot",
    }


def test_unknown_clocks_are_unknown_and_not_zero() -> None:
    """A clock without CPU time or faults leaves them out of the reading as unknown."""
    facts = latency_reading([Block(1, 1e-3)], WarmUp(), Told([])).facts
    assert facts["cpu_seconds_per_call"] is None
    assert facts["faults_per_call"] is None


def test_cpu_clock_times_exactly_the_calls() -> None:
    """The clock makes the calls it was asked for, and both of its times are theirs."""
    made: list[int] = []
    block = CpuClock().time(lambda: made.append(1), 7)
    assert len(made) == block.calls == 7
    assert block.seconds > 0
    assert block.cpu_seconds is not None
    assert block.faults is not None
