"""Latency: warm up until times are stable, then take samples for a fixed time."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from harness.bench.measure.clocks import Block, Call, Clock
from harness.paper.record import Reading
from harness.paper.stats import summarise
from harness.paper.units import Unit

# Clock reads cost some 50 ns each: in a block of 200 µs they are far below a thousandth.
_SHORTEST_BLOCK = 200e-6
_MAX_SAMPLES = 1000
# Times count as stable when the last two halves of a window agree to this share.
_STABLE_WITHIN = 0.05


@dataclass(frozen=True)
class Budget:
    """How long to warm up at most and to sample, in seconds, and the fewest samples."""

    warm_up_seconds: float = 0.5
    sample_seconds: float = 0.5
    fewest_samples: int = 11


@dataclass
class WarmUp:
    """What warming up found: calls made, seconds spent, whether times became stable."""

    calls: int = 0
    seconds: float = 0.0
    stable: bool = False
    blocks: list[Block] = field(default_factory=list)


def warm_up(call: Call, clock: Clock, budget: Budget) -> WarmUp:
    """Call until times and page faults per call stop changing, or the budget is spent.

    The first call says nothing and is not counted: it pays for caches, autotuning and compilation.
    """
    state = WarmUp()
    while not state.stable and (_spent(state) < budget.warm_up_seconds or state.calls < 3):
        block = clock.time(call, 1)
        state.calls += 1
        state.seconds += block.seconds
        state.blocks.append(block)
        state.stable = _is_stable(state.blocks)
    return state


def _spent(state: WarmUp) -> float:
    """Seconds after the first call, which may compile for longer than any budget."""
    return state.seconds - (state.blocks[0].seconds if state.blocks else 0.0)


def _is_stable(blocks: list[Block]) -> bool:
    if len(blocks) < 10:
        return False
    earlier, later = blocks[-10:-5], blocks[-5:]
    first, second = (median(block.seconds for block in part) for part in (earlier, later))
    faults = [sum(block.faults or 0 for block in part) for part in (earlier, later)]
    return abs(first - second) <= _STABLE_WITHIN * first and faults[1] <= faults[0] * 1.1 + 5


def take_samples(call: Call, clock: Clock, budget: Budget, warm: WarmUp) -> list[Block]:
    """Time blocks of equally many calls until the budget is spent."""
    per_call = median(block.seconds for block in warm.blocks[-5:])
    calls = max(1, round(_SHORTEST_BLOCK / max(per_call, 1e-9)))
    samples: list[Block] = []
    spent = 0.0
    while len(samples) < _MAX_SAMPLES and (
        spent < budget.sample_seconds or len(samples) < budget.fewest_samples
    ):
        block = clock.time(call, calls)
        samples.append(block)
        spent += block.seconds
    return samples


def latency_reading(samples: list[Block], warm: WarmUp, clock: Clock) -> Reading:
    """Turn the blocks into a reading in seconds per call."""
    per_call = [block.seconds / block.calls for block in samples]
    summary = summarise(per_call)
    cpu = [block.cpu_seconds / block.calls for block in samples if block.cpu_seconds is not None]
    faults = [block.faults for block in samples if block.faults is not None]
    calls = sum(block.calls for block in samples)
    return Reading(
        unit=Unit.SECONDS_PER_CALL,
        value=summary.median,
        low=summary.low,
        high=summary.high,
        samples=tuple(per_call),
        facts={
            "low_quartile": summary.low_quartile,
            "high_quartile": summary.high_quartile,
            "clock": clock.name,
            "calls_per_sample": samples[0].calls,
            "cpu_seconds_per_call": median(cpu) if cpu else None,
            "faults_per_call": sum(faults) / calls if faults else None,
            "warm_up_calls": warm.calls,
            "warm_up_stable": warm.stable,
            "launch": clock.launch,
            "cache": "hot",
        },
    )
