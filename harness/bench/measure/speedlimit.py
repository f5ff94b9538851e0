"""The speed limit of a machine: how fast it copies, reads and writes, and multiplies matrices at best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import torch

from harness.bench.measure.caches import last_level_cache_bytes
from harness.bench.measure.clocks import Block, Call, Clock, CpuClock
from harness.bench.measure.procedure import first_line
from harness.paper.roofline import (
    CopyPoint,
    PeakPoint,
    ReadPoint,
    SpeedLimit,
    Traffic,
    WritePoint,
    peak_name,
)

KINDS: Mapping[str, type[Traffic]] = {"copy": CopyPoint, "read": ReadPoint, "write": WritePoint}
_KIB, _MIB = 2**10, 2**20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# Reading a clock costs some 100 ns: below a thousandth of such a block.
_SHORTEST_BLOCK = 200e-6
# More repeats take longer and find little that is better.
_MOST_REPEATS = 7
# What may be spent on all working sets, and on the products of one dtype, for each number of threads.
_TRAFFIC_SECONDS, _PRODUCTS_SECONDS = 0.8, 0.4
# From 512 × 512 on, a matrix product is within some per cent of the fastest on the processors of today.
_SMALLEST_SIDE, _LARGE_SIDE = 128, 512
# What is left after the call itself is subtracted must be more than the uncertainty of that difference.
_LEAST_NET_SHARE = 0.05


class Bench(Protocol):
    """What a device lets be done at full speed. A call that it cannot do raises RuntimeError."""

    device: str
    working_sets: Sequence[int]
    largest_side: int
    reasons: Mapping[str, str]

    def use_threads(self, threads: int) -> int:
        """Compute with so many threads; return how many it were."""

    def traffic(self, kind: str, size: int | None) -> Sequence[Call]:
        """Return ways to copy, read or write ``size`` bytes, None for a single element."""

    def product(self, dtype: str, side: int) -> Call:
        """Return a product of two square matrices."""


def measure_speed_limit(
    device: str, dtypes: Sequence[str], threads: Sequence[int], clock: Clock | None = None
) -> SpeedLimit:
    """Measure what ``device`` can do at best, for every dtype and every number of threads.

    Run it in a process that is prepared as the workers are, since its flags (TF32, denormals) decide the
    peak, and that has nothing else to do. The number of threads is as it was when it returns; it plays no
    part on CUDA, where the clock has to be one of the device.
    """
    if device == "cpu":
        return measure_bench(CpuBench(), dtypes, threads, clock or CpuClock())
    if clock is None:
        raise ValueError(
            f"The speed limit of {device} was asked for without a clock: name one of the device."
        )
    return measure_bench(CudaBench(), dtypes, (1,), clock)


def measure_bench(bench: Bench, dtypes: Sequence[str], threads: Sequence[int], clock: Clock) -> SpeedLimit:
    """Measure one device through its bench."""
    started, begun = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    found = _Found(dict(bench.reasons))
    before = bench.use_threads(threads[0])
    try:
        for count in threads:
            bench.use_threads(count)
            timer = _Timer(clock, by_thread=count == 1)
            _measure_traffic(bench, timer, count, found)
            for dtype in dtypes:
                _measure_peak(bench, timer, dtype, count, found)
    finally:
        bench.use_threads(before)
    return SpeedLimit(
        device=bench.device,
        copy=tuple(found.copy),
        read=tuple(found.read),
        write=tuple(found.write),
        peak=tuple(found.peak),
        reasons=found.reasons,
        started=started,
        seconds=time.perf_counter() - begun,
    )


@dataclass
class _Found:
    reasons: dict[str, str]
    copy: list[CopyPoint] = field(default_factory=list)
    read: list[ReadPoint] = field(default_factory=list)
    write: list[WritePoint] = field(default_factory=list)
    peak: list[PeakPoint] = field(default_factory=list)


@dataclass
class _Timer:
    """Times calls and keeps account of the seconds spent.

    A single thread is timed by its own clock where there is one, which does not count what others do to it.
    """

    clock: Clock
    by_thread: bool
    spent: float = 0.0

    def seconds_per_call(self, call: Call, calls: int) -> float:
        block = self.clock.time(call, calls)
        self.spent += block.seconds
        return self._seconds(block) / calls

    def _seconds(self, block: Block) -> float:
        return block.cpu_seconds if self.by_thread and block.cpu_seconds else block.seconds


@dataclass
class _Probe:
    """One call that is timed again and again, and its best."""

    call: Call
    best: float = math.inf

    def once(self, timer: _Timer) -> None:
        """Time one call, which brings its working set near."""
        self._time(timer, 1)

    def repeat(self, timer: _Timer) -> None:
        """Time one call, and then as many as make a block."""
        self.once(timer)
        self._time(timer, max(1, math.ceil(_SHORTEST_BLOCK / max(self.best, 1e-9))))

    def _time(self, timer: _Timer, calls: int) -> None:
        self.best = min(self.best, timer.seconds_per_call(self.call, calls))


def _measure_traffic(bench: Bench, timer: _Timer, threads: int, found: _Found) -> None:
    try:
        probes = {
            (kind, size): [_Probe(call) for call in bench.traffic(kind, size)]
            for kind in KINDS
            for size in (None, *bench.working_sets)
        }
    except (RuntimeError, MemoryError) as error:
        found.reasons["copy"] = f"there is no room for the working sets: {first_line(error)}"
        return
    every = [probe for ways in probes.values() for probe in ways]
    begun = timer.spent
    # All take turns, so that a disturbance does not meet every repeat of one of them.
    for probe in _MOST_REPEATS * every:
        if timer.spent - begun < _TRAFFIC_SECONDS:
            probe.repeat(timer)
        elif probe.best == math.inf:
            probe.once(timer)
    for kind, size in probes:
        if size is not None:
            _keep_traffic(
                kind, size, threads, zip(probes[kind, size], probes[kind, None], strict=True), found
            )


def _keep_traffic(
    kind: str, size: int, threads: int, ways: Iterable[tuple[_Probe, _Probe]], found: _Found
) -> None:
    """Keep the fastest way, the time of the call itself subtracted; one that cannot be told may be faster."""
    net = [(probe.best - call.best, probe.best) for probe, call in ways]
    if all(seconds > _LEAST_NET_SHARE * whole for seconds, whole in net):
        getattr(found, kind).append(KINDS[kind](size, threads, size / min(net)[0]))
    else:
        found.reasons[f"{kind} {size} {threads}"] = "the time of the call hides that of the bytes"


def _measure_peak(bench: Bench, timer: _Timer, dtype: str, threads: int, found: _Found) -> None:
    begun, peak, side = timer.spent, 0.0, _SMALLEST_SIDE
    try:
        while side <= bench.largest_side:
            left = _PRODUCTS_SECONDS - (timer.spent - begun)
            if peak and 2 * _flops(side) / peak > left:
                break
            peak = max(peak, _flops(side) / _best_product(bench.product(dtype, side), timer, left))
            side *= 2
    except (RuntimeError, MemoryError) as error:
        if not peak:
            found.reasons[peak_name(dtype, threads)] = f"there is no product of {dtype}: {first_line(error)}"
            return
    found.peak.append(PeakPoint(dtype, threads, peak))
    if side <= _LARGE_SIDE:
        found.reasons[peak_name(dtype, threads)] = (
            f"measured on matrices of at most {side // 2} × {side // 2} {dtype} numbers: "
            f"larger ones did not fit into {_PRODUCTS_SECONDS:g} s, or the device refused them"
        )


def _flops(side: int) -> int:
    return 2 * side**3


def _best_product(call: Call, timer: _Timer, left: float) -> float:
    """Return the best time of a product, of as many repeats as fit into the seconds that are left."""
    probe, begun = _Probe(call), timer.spent
    for _ in range(_MOST_REPEATS):
        probe.repeat(timer)
        if timer.spent - begun + 2 * probe.best > left:
            break
    return probe.best


class _TorchBench:
    """Calls of torch on float32 numbers, all in one block of memory as large as the largest working set."""

    device: str

    def __init__(self, working_sets: Sequence[int], largest_side: int, reasons: Mapping[str, str]) -> None:
        self.working_sets, self.largest_side, self.reasons = working_sets, largest_side, reasons
        self._numbers: torch.Tensor | None = None

    def use_threads(self, threads: int) -> int:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        return before

    def traffic(self, kind: str, size: int | None) -> Sequence[Call]:
        if self._numbers is None:
            # Written before it is read: pages that were never written are all one page, and in the cache.
            self._numbers = torch.ones(max(self.working_sets) // 4, device=self.device)
        return list(_ways(kind, self._numbers, 2 if size is None else size // 4))

    def product(self, dtype: str, side: int) -> Call:
        few = torch.rand(_SMALLEST_SIDE, _SMALLEST_SIDE, device=self.device)
        left = few.to(getattr(torch, dtype)).repeat(side // _SMALLEST_SIDE, side // _SMALLEST_SIDE)
        return partial(torch.mm, left, left.clone(), out=torch.empty_like(left))


def _ways(kind: str, numbers: torch.Tensor, count: int) -> Iterator[Callable[[], object]]:
    """Yield the ways to move ``count`` numbers; which of them is the fastest differs between processors."""
    used = numbers[:count]
    if kind == "copy":
        yield partial(used[: count // 2].copy_, used[count // 2 :])
    elif kind == "read":
        result = torch.empty((), device=numbers.device)
        yield partial(torch.amax, used, 0, out=result)
        yield partial(torch.sum, used, 0, out=result)
    else:
        yield partial(used.fill_, 1.0)
        yield used.zero_


class CpuBench(_TorchBench):
    """The processors of this machine: working sets from the nearest cache to beyond the last."""

    device = "cpu"

    def __init__(self, caches: Path = _CACHES) -> None:
        """Read the size of the last cache from the kernel's description in ``caches``."""
        cache = last_level_cache_bytes(caches)
        working_sets = cpu_working_sets(cache)
        reasons = {}
        if not any(caches.glob("index*/size")):
            reasons["cache"] = (
                f"{caches} describes no cache: the last one is taken to hold {cache // _MIB} MiB"
            )
        elif working_sets[-1] <= cache:
            reasons["memory"] = (
                f"the last cache is as large as the largest working set measured "
                f"({working_sets[-1] // _MIB} MiB): the speed of the memory behind it is not among these"
            )
        super().__init__(working_sets, 4096, reasons)


class CudaBench(_TorchBench):
    """The current CUDA device: working sets from a quarter of its cache to beyond it."""

    device = "cuda"

    def __init__(self) -> None:
        cache = torch.cuda.get_device_properties().L2_cache_size
        super().__init__(cuda_working_sets(cache), 8192, {})

    def use_threads(self, threads: int) -> int:
        """Threads play no part."""
        return threads


def cpu_working_sets(cache: int) -> list[int]:
    """Return working sets in bytes, in steps of four from 32 KiB to four times the last cache.

    The largest is at least 64 MiB, in case the size of the cache is wrong, and at most 256 MiB.
    """
    return _steps_of_four(32 * _KIB, min(max(4 * cache, 64 * _MIB), 256 * _MIB))


def cuda_working_sets(cache: int) -> list[int]:
    """Return working sets in bytes, in steps of four from a quarter of the cache to sixteen times it."""
    smallest = max(cache // 4, _MIB) // _KIB * _KIB
    return _steps_of_four(smallest, 64 * smallest)


def _steps_of_four(smallest: int, largest: int) -> list[int]:
    steps = math.ceil(math.log(largest / smallest, 4))
    return [*(smallest * 4**step for step in range(steps)), largest]
