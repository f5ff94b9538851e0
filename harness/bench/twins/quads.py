"""Quads: four blocks in the order ABBA or BAAB, and what many of them say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from harness.bench.measure.clocks import Block
from harness.bench.measure.latency import CPU, ProcessSamples, choose_clock
from harness.bench.measure.modes import Mode
from harness.paper.gate.outcome import TwinNumber

# The mean of the middle half: where times jump between two values, the median of pairs jumps with them, and
# the mean follows every interruption.
_TRIMMED = 0.25


@dataclass(frozen=True)
class Quad:
    """Two blocks of each side, whose order makes a steady drift of the machine cancel."""

    base: tuple[Block, ...]
    head: tuple[Block, ...]

    @property
    def wall(self) -> float:
        """The logarithm of head's time by base's on the wall."""
        return math.log(_wall(self.head) / _wall(self.base))

    @property
    def cpu(self) -> float:
        """The same on the CPU clock of the calling thread."""
        return math.log(_cpu(self.head) / _cpu(self.base))


def fold(quads: Sequence[Quad], mode: Mode) -> TwinNumber:
    """Return the middle of at least one quad."""
    wall = [quad.wall for quad in quads]
    cpu = [quad.cpu for quad in quads] if _is_told_by_cpu(quads, mode) else None
    judged = wall if cpu is None else cpu
    low, high = _quartiles(judged)
    return TwinNumber(
        cpu=None if cpu is None else midmean(cpu),
        wall=midmean(wall),
        quads=len(quads),
        spread=high - low,
        seconds=median(
            (_wall if cpu is None else _cpu)(quad.base) / sum(block.calls for block in quad.base)
            for quad in quads
        ),
    )


def midmean(values: Sequence[float]) -> float:
    """Return the mean of the middle half."""
    ordered = sorted(values)
    left_out = int(len(ordered) * _TRIMMED)
    kept = ordered[left_out : len(ordered) - left_out]
    return sum(kept) / len(kept)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]


def _is_told_by_cpu(quads: Sequence[Quad], mode: Mode) -> bool:
    """Whether one thread that never waits does all the work, on both sides."""
    sides = [b for q in quads for b in q.base], [b for q in quads for b in q.head]
    return all(choose_clock([ProcessSamples(blocks)], mode) == CPU for blocks in sides)


def _wall(blocks: Sequence[Block]) -> float:
    return sum(block.seconds for block in blocks)


def _cpu(blocks: Sequence[Block]) -> float:
    return sum(block.cpu_seconds or 0.0 for block in blocks)
