"""Warming up and taking turns, with clocks that tell what a test wants to hear."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, repeat

import pytest

from harness.bench.measure.clocks import Block, Call, ColdCpuClock, CpuClock
from harness.bench.measure.sampling import take_turn, warm_up


class Told:
    """A clock that returns the given seconds per call, and faults, one block after the other."""

    name = "told"
    launch = "included"

    def __init__(
        self, seconds: Iterable[float], faults: Iterable[int] = repeat(0), cache: str = "hot"
    ) -> None:
        self.seconds, self.faults, self.cache = iter(seconds), iter(faults), cache
        self.calls: list[int] = []

    def time(self, call: Call, calls: int) -> Block:
        """Return the next block."""
        self.calls.append(calls)
        return Block(calls, next(self.seconds) * calls, faults=next(self.faults))


@pytest.fixture
def made() -> list[str]:
    """Hold a word for every call that no clock timed."""
    return []


@pytest.fixture
def call(made: list[str]) -> Callable[[], object]:
    """Stand in for an operator."""
    return lambda: made.append("call")


def test_warm_up_passes_a_slow_first_call(call: Call) -> None:
    """One cold call, however slow, does not decide how long to warm up or how many calls a block has."""
    state = warm_up(call, Told(chain([2.0], repeat(1e-5))), 0.01)
    assert state.stable
    assert state.calls == 10
    assert state.calls_per_block == 20  # 200 µs in calls of 10 µs


def test_warm_up_goes_on_while_times_fall(call: Call) -> None:
    """Times that still change are not stable; the time ends the warm-up and the state says so."""
    state = warm_up(call, Told(0.1 * 0.8**step for step in range(1000)), 0.35)
    assert not state.stable
    assert state.seconds - 0.1 >= 0.35


def test_warm_up_goes_on_while_pages_fault(call: Call) -> None:
    """Equal times are not enough: calls that still fault pages are not warm."""
    state = warm_up(call, Told(repeat(1e-3), chain(range(0, 2000, 100), repeat(0))), 1.0)
    assert state.stable
    assert state.calls > 20


def test_warm_up_calls_at_least_three_times(call: Call) -> None:
    """An operator that is slower than the time it has is still called three times."""
    assert warm_up(call, Told(repeat(9.0)), 0.1).calls == 3


def test_turn_lasts_ten_milliseconds(call: Call) -> None:
    """A turn times blocks of equally many calls until some ten milliseconds are over."""
    clock = Told(repeat(1e-4))
    assert len(take_turn(call, clock, 10, rewarm=False)) == 10
    assert set(clock.calls) == {10}


def test_slow_calls_make_two_blocks_a_turn(call: Call) -> None:
    """However slow a call, a turn has two of them: the one that warms the caches is at most a third."""
    assert len(take_turn(call, Told(repeat(5.0)), 1, rewarm=False)) == 2


def test_a_clock_that_reads_zero_ends(call: Call) -> None:
    """A device whose events read zero is asked a bounded number of times."""
    assert len(take_turn(call, Told(repeat(0.0)), 1, rewarm=False)) == 50


@pytest.mark.parametrize(
    ("cache", "rewarm", "untimed"), [("hot", True, 1), ("hot", False, 0), ("cold", True, 0)]
)
def test_caches_are_warmed_where_another_process_ran(
    cache: str, rewarm: bool, untimed: int, call: Call, made: list[str]
) -> None:
    """One untimed call brings the data back into the caches; on cold caches there is nothing to bring."""
    take_turn(call, Told(repeat(1e-3), cache=cache), 1, rewarm=rewarm)
    assert len(made) == untimed


@pytest.mark.parametrize("clock", [CpuClock(), ColdCpuClock()], ids=["hot", "cold"])
def test_clocks_time_exactly_the_calls(clock: CpuClock, call: Call, made: list[str]) -> None:
    """A clock makes the calls it was asked for, and knows everything of a block that it promises."""
    block = clock.time(call, 7)
    assert len(made) == block.calls == 7
    assert block.seconds > 0
    for known in (block.cpu_seconds, block.others_seconds, block.faults, block.waits, block.preemptions):
        assert known is not None
        assert known >= 0


def test_cold_clock_times_no_flush(made: list[str]) -> None:
    """What overwrites the caches takes milliseconds and lies outside of the time."""
    cold = ColdCpuClock()
    assert cold.cache == "cold"
    before = cold._others[0].item()
    block = cold.time(lambda: made.append("call"), 3)
    assert cold._others[0].item() == before + 3
    assert block.seconds < 1e-3
