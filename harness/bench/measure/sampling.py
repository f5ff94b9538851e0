"""Sampling within one process: warm up until times are stable, then take turns of timed blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from harness.bench.measure.clocks import Block, Call, Clock

# Clock reads cost some 50 ns each: in a block of 200 µs they are far below a thousandth.
_SHORTEST_BLOCK = 200e-6
# Long enough that the untimed call that begins a turn is a small part of it, short enough that the
# implementations of one workload see the same state of the machine.
_TURN_SECONDS = 10e-3
_FEWEST_BLOCKS, _MOST_BLOCKS = 2, 50
# Times count as stable when the last two halves of a window agree to this share.
_STABLE_WITHIN = 0.05


@dataclass
class WarmUp:
    """What warming up found: calls made, seconds spent, whether times became stable."""

    calls: int = 0
    seconds: float = 0.0
    stable: bool = False
    blocks: list[Block] = field(default_factory=list)

    @property
    def seconds_per_call(self) -> float:
        """The time of one call at the end of the warm-up."""
        return median(block.seconds / block.calls for block in self.blocks[-5:])

    @property
    def calls_per_block(self) -> int:
        """How many calls make a block long enough for the clocks."""
        return max(1, round(_SHORTEST_BLOCK / max(self.seconds_per_call, 1e-9)))


def warm_up(call: Call, clock: Clock, seconds: float) -> WarmUp:
    """Call until times and page faults per call stop changing, or for at most so long.

    The first call says nothing and is not counted: it pays for caches, autotuning and compilation.
    """
    state = WarmUp()
    while not state.stable and (_spent(state) < seconds or state.calls < 3):
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


def take_turn(call: Call, clock: Clock, calls: int, *, rewarm: bool) -> list[Block]:
    """Time blocks of equally many calls for the length of a turn.

    rewarm: whether another process ran since the last turn, and its data lies in the caches.
    """
    if rewarm and clock.cache == "hot":
        call()
    blocks: list[Block] = []
    spent = 0.0
    while len(blocks) < _FEWEST_BLOCKS or (spent < _TURN_SECONDS and len(blocks) < _MOST_BLOCKS):
        block = clock.time(call, calls)
        blocks.append(block)
        spent += block.seconds
    return blocks
