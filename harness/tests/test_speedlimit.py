"""The speed limit: what the machine does at best, whatever disturbs it, within the time allowed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.measure.clocks import Block, Call
from harness.bench.measure.speedlimit import (
    KINDS,
    CpuBench,
    cpu_working_sets,
    cuda_working_sets,
    measure_bench,
    measure_speed_limit,
)
from harness.paper.roofline import SpeedLimit, peak_name, roofline

KIB, MIB = 2**10, 2**20
RATES = {"copy": 100e9, "read": 160e9, "write": 120e9}
PEAKS = {"float32": 100e9, "float16": 1e9}
OVERHEAD = 1e-6


@dataclass
class FakeCall:
    """A call that takes the seconds it says it takes."""

    seconds: float

    def __call__(self) -> None:
        """Do nothing: the clock knows."""


class FakeBench:
    """A machine whose speed is known: rates fall with the working set, and grow with the threads."""

    device = "cpu"
    largest_side = 4096

    def __init__(
        self, working_sets: Sequence[int] = (32 * KIB, 2 * MIB, 128 * MIB), overhead: float = OVERHEAD
    ) -> None:
        self.working_sets, self.overhead, self.threads = working_sets, overhead, 5
        self.reasons: Mapping[str, str] = {}
        self.sides: list[int] = []

    def use_threads(self, threads: int) -> int:
        """Compute with so many threads."""
        before, self.threads = self.threads, threads
        return before

    def rate(self, kind: str, size: int) -> float:
        """Return bytes a second."""
        return RATES[kind] * self.threads / (1 if size < MIB else 2 if size < 32 * MIB else 10)

    def traffic(self, kind: str, size: int | None) -> Sequence[Call]:
        """Return a fast way of little ceremony and a slow one."""
        seconds = size / self.rate(kind, size) if size else 0.0
        return [FakeCall(self.overhead + seconds), FakeCall(self.overhead / 2 + 1.5 * seconds)]

    def product(self, dtype: str, side: int) -> Call:
        """Return a product; small ones are a little slower than the peak, unknown dtypes refused."""
        if dtype not in PEAKS:
            raise NotImplementedError(f'"addmm_impl_cpu_" not implemented for {dtype!r}\nand more')
        self.sides.append(side)
        return FakeCall(2 * side**3 / (PEAKS[dtype] * self.threads) * (1 + 8 / side))


class FakeClock:
    """A clock that adds up what calls say they take; ``disturb`` says by how much a block is slowed."""

    name, launch, cache = "fake", "included", "hot"

    def __init__(
        self, disturb: Callable[[int], float] = lambda block: 1.0, cpu_share: float | None = None
    ) -> None:
        self.disturb, self.cpu_share = disturb, cpu_share
        self.spent, self.blocks = 0.0, 0

    def time(self, call: Call, calls: int) -> Block:
        """Time a block."""
        assert isinstance(call, FakeCall)
        seconds = call.seconds * calls * self.disturb(self.blocks)
        self.spent += seconds
        self.blocks += 1
        return Block(calls, seconds, None if self.cpu_share is None else self.cpu_share * seconds)


def measured(
    bench: FakeBench | None = None,
    clock: FakeClock | None = None,
    dtypes: Sequence[str] = ("float32",),
    threads: Sequence[int] = (1,),
) -> SpeedLimit:
    """Measure a machine that is known."""
    return measure_bench(bench or FakeBench(), dtypes, threads, clock or FakeClock())


def test_the_limit_is_that_of_the_machine() -> None:
    """Every working set of every kind has the rate of the fastest way, the call itself subtracted."""
    bench = FakeBench()
    limit = measured(bench, threads=(1, 3))
    for kind in KINDS:
        points = [*getattr(limit, kind)]
        assert [(point.threads, point.working_set_bytes) for point in points] == [
            *itertools.product((1, 3), bench.working_sets)
        ]
        for point in points:
            bench.use_threads(point.threads)
            assert point.bytes_per_second == pytest.approx(bench.rate(kind, point.working_set_bytes))
    assert [(peak.dtype, peak.threads) for peak in limit.peak] == [("float32", 1), ("float32", 3)]
    for peak in limit.peak:
        assert peak.flops_per_second == pytest.approx(peak.threads * PEAKS["float32"], rel=0.01)
    assert (limit.device, limit.reasons) == ("cpu", {})


def test_a_roofline_can_be_made_of_it() -> None:
    """What is measured is what a roofline and its bound need."""
    found = roofline(measured(), 128 * MIB, 1e6, "float32", 1)
    assert found.bound == "bytes"
    assert found.least_bytes_seconds is not None
    assert found.seconds is not None
    assert 0 < found.least_bytes_seconds < found.seconds


@pytest.mark.parametrize("slower", [1.5, 3.0])
@pytest.mark.parametrize("begin", [0, 7, 30, 100])
def test_a_limit_is_a_best(begin: int, slower: float) -> None:
    """Where all but one round of blocks are slowed, the limit is that of the one."""
    few = (32 * KIB, 2 * MIB)
    probes = len(KINDS) * len([None, *few]) * 2
    quiet = range(begin, begin + 4 * probes)
    disturbed = measured(FakeBench(few), FakeClock(lambda block: 1.0 if block in quiet else slower))
    clean = measured(FakeBench(few))
    assert (disturbed.copy, disturbed.read, disturbed.write) == (clean.copy, clean.read, clean.write)


@pytest.mark.parametrize("begin", [0, 100, 500])
def test_one_disturbance_does_not_meet_every_repeat(begin: int) -> None:
    """All take turns: forty slow blocks in a row change no bandwidth."""
    disturbed = measured(clock=FakeClock(lambda block: 3.0 if begin <= block < begin + 40 else 1.0))
    assert (disturbed.copy, disturbed.read, disturbed.write) == (
        measured().copy,
        measured().read,
        measured().write,
    )


def test_one_thread_is_timed_by_its_own_clock() -> None:
    """What others do to a single thread is not its time; several threads have the wall alone."""
    both = measured(clock=FakeClock(cpu_share=0.25), threads=(1, 2))
    wall = measured(threads=(1, 2))
    ratios = {
        point.threads: point.bytes_per_second / other.bytes_per_second
        for point, other in zip(both.copy, wall.copy, strict=True)
    }
    assert ratios == {1: pytest.approx(4), 2: pytest.approx(1)}
    assert [peak.flops_per_second for peak in both.peak] == [
        pytest.approx(ratios[peak.threads] * peak.flops_per_second) for peak in wall.peak
    ]


@pytest.mark.parametrize("slow", [1, 4])
@pytest.mark.parametrize("threads", [(1,), (1, 2, 4)])
def test_the_time_is_bounded(slow: int, threads: tuple[int, ...]) -> None:
    """Two seconds for every number of threads, on a machine of 2.5 GB/s as well."""
    clock = FakeClock(lambda _: slow)
    measured(FakeBench(cpu_working_sets(32 * MIB)), clock, threads=threads)
    assert clock.spent < 2 * len(threads)


def test_a_slow_dtype_has_a_cap_and_a_reason() -> None:
    """Products that take too long are left at small matrices, and that is said."""
    bench, clock = FakeBench(), FakeClock()
    measured(FakeBench(), clock, dtypes=())
    without = clock.spent
    limit = measured(bench, clock, dtypes=("float16",))
    assert clock.spent - 2 * without < 0.5
    assert max(bench.sides) == 256
    assert limit.peak[0].flops_per_second == pytest.approx(PEAKS["float16"], rel=0.05)
    assert limit.reasons == {
        "peak float16 1": "measured on matrices of at most 256 × 256 float16 numbers: "
        "larger ones did not fit into 0.4 s, or the device refused them"
    }


def test_a_dtype_without_products_has_a_reason() -> None:
    """A dtype that the device refuses costs its own peak alone."""
    limit = measured(dtypes=("int4", "float32"))
    assert [peak.dtype for peak in limit.peak] == ["float32"]
    assert limit.reasons[peak_name("int4", 1)] == (
        "there is no product of int4: \"addmm_impl_cpu_\" not implemented for 'int4'"
    )
    assert roofline(limit, 1, 1, "int4", 1).reason == limit.reasons["peak int4 1"]


def test_without_room_for_the_working_sets_there_is_a_reason() -> None:
    """A device without memory for the traffic still has its peaks."""

    class Full(FakeBench):
        def traffic(self, kind: str, size: int | None) -> Sequence[Call]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    limit = measured(Full())
    assert (limit.copy, limit.read, limit.write) == ((), (), ())
    assert len(limit.peak) == 1
    assert roofline(limit, 1, 1, "float32", 1).reason == (
        "there is no room for the working sets: DefaultCPUAllocator: can't allocate memory"
    )


def test_a_working_set_that_the_call_hides_is_left_out() -> None:
    """The difference of two equal times is no bandwidth."""
    limit = measured(FakeBench(overhead=20e-6))
    assert [point.working_set_bytes for point in limit.copy] == [2 * MIB, 128 * MIB]
    assert limit.reasons["copy 32768 1"] == "the time of the call hides that of the bytes"


def test_the_number_of_threads_is_as_it_was() -> None:
    """It is restored, whatever happens."""
    bench = FakeBench()
    measured(bench, threads=(1, 2))
    assert bench.threads == 5

    def fail(_: int) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(bench, FakeClock(fail), threads=(1, 2))
    assert bench.threads == 5


@given(st.integers(1, 2**31))
def test_working_sets_reach_beyond_the_cache(cache: int) -> None:
    """From 32 KiB in steps of at most four to four times the cache, at least 64 and at most 256 MiB."""
    sizes = cpu_working_sets(cache)
    assert sizes[0] == 32 * KIB
    assert sizes[-1] == min(max(4 * cache, 64 * MIB), 256 * MIB)
    assert all(1 < later / earlier <= 4 for earlier, later in itertools.pairwise(sizes))


@given(st.integers(1, 2**28))
def test_working_sets_of_a_device_lie_on_both_sides_of_its_cache(cache: int) -> None:
    """The smallest is in the cache of the GPU, the largest far out of it, and all are whole numbers."""
    sizes = cuda_working_sets(cache)
    assert sizes[0] <= max(cache // 4, MIB)
    assert sizes[-1] >= 15 * cache
    assert all(size % KIB == 0 for size in sizes)
    assert all(1 < later / earlier <= 4 for earlier, later in itertools.pairwise(sizes))


def cache_of(folder: Path, *sizes: str) -> Path:
    """Describe caches as the kernel does."""
    for number, size in enumerate(sizes):
        (folder / f"index{number}").mkdir()
        (folder / f"index{number}" / "size").write_text(size + "\n")
    return folder


def test_the_last_cache_decides_the_working_sets(tmp_path: Path) -> None:
    """Its size is read from the kernel."""
    bench = CpuBench(cache_of(tmp_path, "32K", "32K", "1024K", "49152K"))
    assert (bench.working_sets[-1], bench.reasons) == (192 * MIB, {})


def test_an_unknown_cache_is_a_reason(tmp_path: Path) -> None:
    """Where the kernel describes none, what was taken in its place is said."""
    bench = CpuBench(tmp_path)
    assert bench.working_sets[-1] == 128 * MIB
    assert bench.reasons == {"cache": f"{tmp_path} describes no cache: the last one is taken to hold 32 MiB"}
    bench.working_sets = (32 * KIB,)
    limit = measure_bench(bench, (), (1,), ConstantClock())
    assert limit.reasons["cache"] == bench.reasons["cache"]


def test_a_cache_that_cannot_be_left_is_a_reason(tmp_path: Path) -> None:
    """On a cache as large as the largest working set, memory itself is never measured."""
    bench = CpuBench(cache_of(tmp_path, "480M"))
    assert bench.reasons == {
        "memory": "the last cache is as large as the largest working set measured (256 MiB): "
        "the speed of the memory behind it is not among these"
    }


class ConstantClock(FakeClock):
    """Makes the calls and says that each took as long as the others."""

    def time(self, call: Call, calls: int) -> Block:
        """Call once."""
        call()
        return Block(calls, calls * 1e-4)


def test_the_calls_of_torch_move_what_they_say() -> None:
    """Copying fills one half from the other, reading meets every number, writing meets every number."""
    bench = CpuBench()
    bench.working_sets = (32 * KIB,)
    bench.traffic("copy", 32 * KIB)
    numbers = bench._numbers
    assert numbers is not None
    assert numbers.numel() * numbers.element_size() == 32 * KIB
    numbers.copy_(torch.arange(8192.0))
    # Both write to one place.
    found = [torch.as_tensor(call()).item() for call in bench.traffic("read", 32 * KIB)]
    assert found == [8191, 8191 * 4096]
    (copy,) = bench.traffic("copy", 32 * KIB)
    copy()
    assert torch.equal(numbers, torch.arange(4096.0, 8192.0).repeat(2))
    for write in bench.traffic("write", 32 * KIB):
        numbers.fill_(math.nan)
        write()
        assert numbers.min() == numbers.max()
    for kind in KINDS:
        assert len(bench.traffic(kind, None)) == len(bench.traffic(kind, 32 * KIB))


def test_the_product_of_torch_is_one_of_whole_matrices() -> None:
    """A product of two square matrices has 2·n³ FLOPs, and is written where it is expected."""
    product = CpuBench().product("float32", 256)
    found = product()
    assert isinstance(found, torch.Tensor)
    assert found.shape == (256, 256)
    assert found.data_ptr() == product().data_ptr()  # type: ignore[attr-defined]
    assert (found > 0).all()


def test_this_machine_has_a_limit() -> None:
    """A real measurement in one number of threads finds all points, and leaves the threads as they were."""
    before = torch.get_num_threads()
    limit = measure_speed_limit("cpu", ("float32", "float64"), (1,))
    assert torch.get_num_threads() == before
    sizes = [*CpuBench().working_sets]
    for kind in KINDS:
        found = {point.working_set_bytes for point in getattr(limit, kind)}
        left_out = {size for size in sizes if f"{kind} {size} 1" in limit.reasons}
        assert found | left_out == {*sizes}
        assert sizes[-1] in found
    assert [peak.dtype for peak in limit.peak] == ["float32", "float64"]
    assert limit.seconds > 0
    assert SpeedLimit.from_json(limit.as_json()) == limit


def test_a_device_needs_its_own_clock() -> None:
    """The wall clock would time the launch of a kernel."""
    told = "^The speed limit of cuda was asked for without a clock: name one of the device.$"
    with pytest.raises(ValueError, match=told):
        measure_speed_limit("cuda", ("float32",), (1,))
