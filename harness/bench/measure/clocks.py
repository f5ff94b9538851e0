"""Clocks: what time a block of calls took, and what disturbed it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

Call = Callable[[], object]


@dataclass(frozen=True)
class Block:
    """One timed block of calls: seconds by the wall and by the thread's own CPU clock, page faults."""

    calls: int
    seconds: float
    cpu_seconds: float | None = None
    faults: int | None = None


class Clock(Protocol):
    """Times blocks of calls. ``name`` and ``launch`` go into the record."""

    name: str
    launch: str

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row."""


class CpuClock:
    """Wall time, thread-CPU time and minor page faults of a block on the CPU."""

    name = "perf_counter and thread_time"
    launch = "included"

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row."""
        repeat = range(calls)
        faults, cpu, wall = minor_faults(), time.thread_time_ns(), time.perf_counter_ns()
        for _ in repeat:
            call()
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        return Block(calls, wall * 1e-9, cpu * 1e-9, minor_faults() - faults)


class CudaClock:
    """Device time of a block between two events; launches are hidden once the queue is full."""

    name = "CUDA events"
    launch = "excluded once the queue is full"

    def __init__(self) -> None:
        self._start = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row and wait for the device."""
        torch.cuda.synchronize()
        self._start.record()
        for _ in range(calls):
            call()
        self._end.record()
        torch.cuda.synchronize()
        return Block(calls, self._start.elapsed_time(self._end) * 1e-3)


def clock_for(device: str) -> Clock:
    """Return the clock of a device."""
    return CudaClock() if device == "cuda" else CpuClock()


def minor_faults() -> int:
    """Return the page faults of this process that needed no disk."""
    try:
        import resource
    except ImportError:  # Windows has no getrusage
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
