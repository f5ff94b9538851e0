"""Clocks: what time a block of calls took, and what disturbed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch

from harness.bench.measure.caches import last_level_cache_bytes

Call = Callable[[], object]


@dataclass(frozen=True)
class Block:
    """One timed block of calls; what a clock cannot tell is None.

    seconds: by the wall, or on the device. cpu_seconds: of the calling thread. others_seconds: CPU time of
    the other threads of the process. faults: minor page faults. waits: how often the thread gave the
    processor away. preemptions: how often it was taken away. gpu: the state of the GPU around the block.
    """

    calls: int
    seconds: float
    cpu_seconds: float | None = None
    others_seconds: float | None = None
    faults: int | None = None
    waits: int | None = None
    preemptions: int | None = None
    gpu: Mapping[str, Any] | None = None


class Clock(Protocol):
    """Times blocks of calls. ``name``, ``launch`` and ``cache`` go into the record."""

    name: str
    launch: str
    cache: str

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row."""


class CpuClock:
    """Wall time and CPU time of a block of calls, with what disturbed it."""

    name = "perf_counter and thread_time"
    launch = "included"
    cache = "hot"

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row."""
        repeat = range(calls)
        before = _Usage.now()
        # Innermost the clocks, the wall within the CPU clock: what the reading costs falls outside of both.
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        for _ in repeat:
            call()
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        return _Usage.now().since(before).block(calls, wall * 1e-9, cpu * 1e-9)


class ColdCpuClock:
    """As :class:`CpuClock`, each call after the caches were overwritten; only the calls are timed."""

    name = "perf_counter and thread_time"
    launch = "included"
    cache = "cold"

    def __init__(self) -> None:
        # Twice the cache, so that what is replaced does not depend on how the cache chooses.
        self._others = torch.zeros(2 * last_level_cache_bytes(), dtype=torch.uint8)

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls, every one on cold caches."""
        clock = CpuClock()
        blocks = []
        for _ in range(calls):
            self._others.add_(1)
            blocks.append(clock.time(call, 1))
        return Block(
            calls,
            sum(block.seconds for block in blocks),
            sum(block.cpu_seconds or 0.0 for block in blocks),
            sum(block.others_seconds or 0.0 for block in blocks),
            sum(block.faults or 0 for block in blocks),
            sum(block.waits or 0 for block in blocks),
            sum(block.preemptions or 0 for block in blocks),
        )


class _Usage(NamedTuple):
    """What the kernel has counted for this thread and this process so far."""

    faults: int | None
    waits: int | None
    preemptions: int | None
    others_seconds: float

    @classmethod
    def now(cls) -> _Usage:
        others = time.process_time() - time.thread_time()
        try:
            import resource
        except ImportError:  # Windows has no getrusage
            return cls(None, None, None, others)
        whole = resource.getrusage(resource.RUSAGE_SELF)
        # Only Linux counts a thread by itself.
        one = resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF))
        return cls(whole.ru_minflt, one.ru_nvcsw, one.ru_nivcsw, others)

    def since(self, before: _Usage) -> _Usage:
        return _Usage(
            _less(self.faults, before.faults),
            _less(self.waits, before.waits),
            _less(self.preemptions, before.preemptions),
            # Two clocks that are read one after the other may differ by the time of the reading.
            max(0.0, self.others_seconds - before.others_seconds),
        )

    def block(self, calls: int, wall_seconds: float, cpu_seconds: float) -> Block:
        return Block(
            calls,
            wall_seconds,
            cpu_seconds,
            self.others_seconds,
            self.faults,
            self.waits,
            self.preemptions,
        )


def _less(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before
