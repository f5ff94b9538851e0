"""Latency: from the blocks of several processes to one reading."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from harness.bench.measure.clocks import Block
from harness.bench.measure.gpu import discard_throttled
from harness.bench.measure.modes import Mode
from harness.paper.record import Reading
from harness.paper.stats import Estimate, estimate, find_modes, summarise
from harness.paper.units import Unit

# A record holds so many samples at most; what is beyond is thinned out evenly, process by process.
_MOST_SAMPLES = 600
# So much CPU time of other threads is bookkeeping of the interpreter.
_OTHERS_SHARE = 0.02
WALL, CPU, EVENTS = "wall", "thread CPU time", "CUDA events"


@dataclass
class ProcessSamples:
    """What one process measured in one mode. number: of its replicate. began: on a clock that all share."""

    blocks: list[Block] = field(default_factory=list)
    cpus: tuple[int, ...] = ()
    warm_up_calls: int = 0
    warm_up_stable: bool = True
    number: int = 0
    began: float = 0.0

    @property
    def seconds(self) -> float:
        """The time that was sampled."""
        return sum(block.seconds for block in self.blocks)

    def per_call(self, clock: str) -> list[float]:
        """Return the seconds per call of every block by a clock."""
        if clock == CPU:
            return [(block.cpu_seconds or 0.0) / block.calls for block in self.blocks]
        return [block.seconds / block.calls for block in self.blocks]


def choose_clock(processes: Sequence[ProcessSamples], mode: Mode) -> str:
    """Choose the clock that tells how long a call takes on a processor that nobody else uses.

    What one thread computes without ever waiting takes its own CPU time, and this clock stands still while
    the kernel runs something else. A program that sleeps, waits for locks or lets other threads work is
    told by the wall alone.
    """
    if mode.launch == "excluded":
        return EVENTS
    if mode.device != "cpu" or mode.threads != 1 or time.get_clock_info("thread_time").resolution > 1e-6:
        return WALL
    blocks = [block for process in processes for block in process.blocks]
    if any(block.cpu_seconds is None or block.waits is None for block in blocks):
        return WALL
    waits = median(block.waits or 0 for block in blocks)
    seconds = sum(block.cpu_seconds or 0.0 for block in blocks)
    others = sum(block.others_seconds or 0.0 for block in blocks)
    return WALL if waits or others > _OTHERS_SHARE * seconds else CPU


def estimate_latency(processes: Sequence[ProcessSamples], clock: str) -> Estimate:
    """Estimate the seconds per call from the median of every process."""
    return estimate([median(process.per_call(clock)) for process in processes])


def latency_reading(processes: Sequence[ProcessSamples], mode: Mode, stopped: str) -> Reading:
    """Make the reading of a case from its processes, each of which has at least one block."""
    clock = choose_clock(processes, mode)
    began = [process.began for process in processes]
    processes, gpu = without_throttled(processes)
    samples = [process.per_call(clock) for process in processes]
    found = estimate_latency(processes, clock)
    whole = [summarise(part) for part in samples]
    within = median((part.high_quartile - part.low_quartile) / part.median for part in whole)
    low, high = (found.low, found.high) if len(processes) > 1 else (whole[0].low, whole[0].high)
    modes = find_modes([part.median for part in whole], within)
    blocks = [block for process in processes for block in process.blocks]
    return Reading(
        unit=Unit.SECONDS_PER_CALL,
        value=found.value,
        low=low,
        high=high,
        samples=tuple(sample for part in samples for sample in _thin(part, _MOST_SAMPLES // len(samples))),
        facts={
            "clock": clock,
            "cache": mode.cache,
            "threads": mode.threads,
            "launch": mode.launch,
            "calls_per_sample": blocks[0].calls,
            "blocks": len(blocks),
            "low_quartile": median(part.low_quartile for part in whole),
            "high_quartile": median(part.high_quartile for part in whole),
            "interval": _say_interval(len(processes)),
            "stopped": stopped,
            "first_to_last_process_seconds": max(began) - min(began),
            "wall_seconds_per_call": _per_call(blocks, "seconds"),
            "cpu_seconds_per_call": _per_call(blocks, "cpu_seconds"),
            "faults_per_call": _mean(blocks, "faults"),
            "waits_per_call": _mean(blocks, "waits"),
            "preempted_share": _preempted(blocks),
            "warm_up_stable": all(process.warm_up_stable for process in processes),
            "modes": [_mode(mode) for mode in modes] if len(modes) > 1 else None,
            "processes": [_describe(process, clock) for process in processes],
            **gpu,
        },
    )


def without_throttled(processes: Sequence[ProcessSamples]) -> tuple[list[ProcessSamples], dict[str, Any]]:
    """Leave out the blocks during which a GPU was throttled, and return its state for the record."""
    blocks = [block for process in processes for block in process.blocks]
    if all(block.gpu is None for block in blocks):
        return list(processes), {}
    kept, facts = discard_throttled(blocks)
    chosen = {id(block) for block in kept}
    left = [
        replace(process, blocks=[block for block in process.blocks if id(block) in chosen])
        for process in processes
    ]
    return [process for process in left if process.blocks], {"gpu": facts}


def _say_interval(processes: int) -> str:
    if processes == 1:
        return "95 % order statistics of the samples of one process"
    return f"95 % Student's t over the logarithms of the medians of {processes} processes"


def _mode(medians: Sequence[float]) -> dict[str, Any]:
    return {"median": median(medians), "processes": len(medians)}


def _describe(process: ProcessSamples, clock: str) -> dict[str, Any]:
    return {
        "median": median(process.per_call(clock)),
        "samples": len(process.blocks),
        "wall": _per_call(process.blocks, "seconds"),
        "cpu": _per_call(process.blocks, "cpu_seconds"),
        "faults_per_call": _mean(process.blocks, "faults"),
        "preempted_share": _preempted(process.blocks),
        "warm_up_calls": process.warm_up_calls,
        "warm_up_stable": process.warm_up_stable,
        "cpus": list(process.cpus),
    }


def _per_call(blocks: Sequence[Block], what: str) -> float | None:
    """Return the median per call, None where a block does not know."""
    found = [getattr(block, what) for block in blocks]
    if not found or any(value is None for value in found):
        return None
    return float(median(value / block.calls for value, block in zip(found, blocks, strict=True)))


def _mean(blocks: Sequence[Block], what: str) -> float | None:
    found = [getattr(block, what) for block in blocks]
    if not found or any(value is None for value in found):
        return None
    return float(sum(found)) / sum(block.calls for block in blocks)


def _preempted(blocks: Sequence[Block]) -> float | None:
    found = [block.preemptions for block in blocks if block.preemptions is not None]
    return sum(count > 0 for count in found) / len(found) if found else None


def _thin(samples: Sequence[float], most: int) -> Sequence[float]:
    if len(samples) <= most:
        return samples
    return [samples[place] for place in np.linspace(0, len(samples) - 1, most).round().astype(int)]
