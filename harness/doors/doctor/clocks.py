"""How finely the clocks tell time, and where the system takes it from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import pairwise

from harness.bench.conditions.tree import Tree
from harness.doors.doctor.finding import Finding, advise
from harness.paper.units import format_seconds

_SOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"
# Sources that are read without entering the kernel.
_QUICK = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
_READINGS = 2000
# Blocks last 200 µs and more: a step of a fiftieth of a per cent of that is not seen in any interval.
_COARSE_SECONDS = 1e-6

Read = Callable[[], int]


def examine_clocks(
    tree: Tree, wall: Read = time.perf_counter_ns, thread: Read = time.thread_time_ns
) -> list[Finding]:
    """Return the smallest steps that both clocks were seen to make, and their source."""
    steps = {"perf_counter": smallest_step(wall), "thread_time": smallest_step(thread)}
    told = [f"{name} by {_written(step)}" for name, step in steps.items()]
    source = tree.text(_SOURCE)
    whence = f"; the system takes its time from {source}" if source else ""
    found = f"The smallest steps seen: {' and '.join(told)}{whence}."
    return [advise("clocks", found, _advice(source, steps.values()))]


def smallest_step(read: Read) -> float | None:
    """Return in seconds the least by which a clock was seen to advance; None where it stood still."""
    readings = [read() for _ in range(_READINGS)]
    step = min((after - before for before, after in pairwise(readings) if after > before), default=None)
    return None if step is None else step * 1e-9


def _written(step: float | None) -> str:
    return "nothing at all" if step is None else format_seconds(step)


def _advice(source: str | None, steps: Iterable[float | None]) -> str | None:
    if source and source not in _QUICK:
        return (
            f"Reading {source} is slow: short calls then cost more than they take. Boot with the processor's "
            "own counter (tsc) where it is reliable."
        )
    if any(step is None or step > _COARSE_SECONDS for step in steps):
        return "Times of single short calls are coarse here; blocks of calls are not."
    return None
