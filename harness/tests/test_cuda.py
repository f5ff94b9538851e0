"""The clocks of a CUDA device, on a simulated one: the mistakes that they avoid are shown beside them."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.bench.machine import device_missing
from harness.bench.measure.clocks import Block, Call, Clock
from harness.bench.measure.cuda import (
    ColdCudaClock,
    Device,
    HotCudaClock,
    LaunchedCudaClock,
    TorchCuda,
)
from harness.bench.measure.gpu import GpuState

MICRO = 1e-6
L2_BYTES = 50 * 2**20
FLUSH_SECONDS = 40 * MICRO
# What each thing costs the host.
LAUNCH, RECORD, QUERY, WAIT = 10 * MICRO, 1 * MICRO, 0.5 * MICRO, 3 * MICRO
# What a kernel costs the device with its data in the cache, and without.
HOT, COLD = 2 * MICRO, 7 * MICRO


@dataclass
class Mark:
    """An event, stamped with the time at which the device reaches it."""

    gpu: Gpu
    stamp: float | None = None

    def record(self) -> None:
        """Enter the queue."""
        self.stamp = self.gpu.put(0.0, RECORD)

    def query(self) -> bool:
        """Whether the device has come so far."""
        self.gpu.now += QUERY
        assert self.stamp is not None
        return self.stamp <= self.gpu.now


@dataclass
class Gpu:
    """A device with one queue: launches cost the host, kernels the device, and a full queue blocks the host.

    now: the host's time. free: when the device has done all it was given. pauses: how long the host is kept
    away at its n-th launch.
    """

    now: float = 0.0
    free: float = 0.0
    capacity: int = 1024
    hertz: float = 1.5e9
    cached: bool = False
    launches: int = 0
    pauses: dict[int, float] = field(default_factory=dict)
    flushed: list[int] = field(default_factory=list)
    _ends: deque[float] = field(default_factory=deque)

    def put(self, device_seconds: float, host_seconds: float) -> float:
        """Queue something; return when the device will be done with it."""
        self.launches += 1
        self.now += host_seconds + self.pauses.get(self.launches, 0.0)
        while self._ends and self._ends[0] <= self.now:
            self._ends.popleft()
        if len(self._ends) >= self.capacity:
            self.now = self._ends.popleft()
        self.free = max(self.now, self.free) + device_seconds
        self._ends.append(self.free)
        return self.free

    def kernel(self, hot: float = HOT, cold: float = COLD) -> None:
        """Launch a kernel that finds its data in the cache, or brings it there."""
        self.put(hot if self.cached else cold, LAUNCH)
        self.cached = True

    def graph(self, kernels: int) -> None:
        """Replay a graph: one launch, however many kernels."""
        self.put(HOT * kernels if self.cached else COLD + HOT * (kernels - 1), LAUNCH)
        self.cached = True

    def synchronise(self) -> None:
        """Wait for the device."""
        self.now = max(self.now, self.free) + WAIT

    def event(self) -> Mark:
        """Return a new mark."""
        return Mark(self)

    def seconds(self, start: Mark, end: Mark) -> float:
        """Subtract two marks as CUDA does: milliseconds in 32 bits, and only what was reached."""
        assert start.stamp is not None
        assert end.stamp is not None
        assert end.stamp <= self.now, "the device has not reached this event"
        return float(np.float32((end.stamp - start.stamp) * 1e3)) * 1e-3

    def spin(self, cycles: int) -> None:
        """Hold the stream."""
        self.put(cycles / self.hertz, LAUNCH)

    def flush(self, count: int) -> None:
        """Overwrite; what is smaller than the cache leaves some of it."""
        self.flushed.append(count)
        self.put(FLUSH_SECONDS, LAUNCH)
        self.cached = self.cached and count <= L2_BYTES

    def l2_bytes(self) -> int:
        """Return the size of the cache."""
        return L2_BYTES

    def time(self) -> float:
        """Return the host's time."""
        return self.now


class HostClock:
    """The wall clock of the simulated host."""

    name, launch, cache = "wall", "included", "hot"

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def time(self, call: Call, calls: int) -> Block:
        """Time calls in a row."""
        begun = self.gpu.now
        for _ in range(calls):
            call()
        return Block(calls, self.gpu.now - begun)


@pytest.fixture
def gpu() -> Gpu:
    """Return a device that is idle."""
    return Gpu()


def hot_clock(gpu: Gpu) -> HotCudaClock:
    """Return the clock on hot caches, with the host's time simulated."""
    return HotCudaClock(gpu, now=gpu.time)


def cold_clock(gpu: Gpu) -> ColdCudaClock:
    """Return the clock on cold caches, with the host's time simulated."""
    return ColdCudaClock(gpu, now=gpu.time)


def per_call(block: Block) -> float:
    """Return a block's seconds per call."""
    return block.seconds / block.calls


def of(block: Block) -> dict[str, Any]:
    """Return the facts of a block about the GPU."""
    assert block.gpu is not None
    return dict(block.gpu)


def call_often(call: Call, calls: int) -> None:
    """Call in a row."""
    for _ in range(calls):
        call()


def between_events(gpu: Gpu, launch: Callable[[], None]) -> float:
    """Time as is often done: events around what is launched, and nothing before them."""
    gpu.synchronise()
    start, end = gpu.event(), gpu.event()
    start.record()
    launch()
    end.record()
    gpu.synchronise()
    return gpu.seconds(start, end)


def test_hot_clock_reads_the_kernel_and_not_its_launch(gpu: Gpu) -> None:
    """A kernel that is shorter than its launch has its own time, which wall and bare events do not show."""
    block = hot_clock(gpu).time(gpu.kernel, 40)
    assert per_call(block) == pytest.approx(HOT)
    assert of(block) == {"launch_hidden": True, "not_hidden_because": None, "parts": 1, "repeats": 0}
    assert per_call(HostClock(gpu).time(gpu.kernel, 40)) == pytest.approx(LAUNCH)  # timed the launch only
    in_a_row = between_events(gpu, lambda: call_often(gpu.kernel, 40))
    assert in_a_row / 40 == pytest.approx(LAUNCH, rel=0.1)  # the device waited for every launch


def test_hot_clock_reads_long_kernels_too(gpu: Gpu) -> None:
    """A kernel that is longer than its launch has the same time behind a spin as without."""
    block = hot_clock(gpu).time(lambda: gpu.kernel(hot=5e-3, cold=6e-3), 10)
    assert per_call(block) == pytest.approx(5e-3)
    assert of(block)["launch_hidden"]


@pytest.mark.parametrize("host_seconds", [0.0, 2.0], ids=["slow on the device", "slow on the host too"])
def test_first_call_is_not_timed(gpu: Gpu, host_seconds: float) -> None:
    """The first call of everything may compile: it is made before the clock starts, for every new call."""
    clock = hot_clock(gpu)
    for _ in range(2):
        made: list[float] = []

        def compiled(made: list[float] = made) -> None:
            made.append(gpu.now)
            gpu.now += 0.0 if len(made) > 1 else host_seconds
            gpu.kernel(hot=HOT if len(made) > 1 else 1.0, cold=1.0)

        assert per_call(clock.time(compiled, 5)) == pytest.approx(HOT)
        before = len(made)
        clock.time(compiled, 5)
        assert len(made) == before + 5, "and is made once for each"


def test_cold_clock_reads_every_call_on_a_cold_cache(gpu: Gpu) -> None:
    """Each call finds the cache overwritten; what overwrites it is before the interval and not within."""
    block = cold_clock(gpu).time(gpu.kernel, 40)
    assert per_call(block) == pytest.approx(COLD)
    assert of(block)["launch_hidden"]
    assert of(block)["flushed_bytes"] == 2 * L2_BYTES
    assert set(gpu.flushed) == {2 * L2_BYTES}

    def flush_and_call() -> None:
        gpu.flush(2 * L2_BYTES)
        gpu.kernel()

    leaked = between_events(gpu, flush_and_call)
    assert leaked > COLD + FLUSH_SECONDS, "an interval that is opened before the flush contains it"


def test_an_unknown_cache_is_overwritten_generously(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver tells no size of the cache, more than any cache is overwritten."""
    monkeypatch.setattr(Gpu, "l2_bytes", lambda self: 0)
    assert of(cold_clock(gpu).time(gpu.kernel, 1))["flushed_bytes"] == 256 * 2**20


def test_replaying_a_graph_is_hot_unless_the_cache_is_overwritten(gpu: Gpu) -> None:
    """A graph that is replayed in a row reads a hot cache, whatever was done before the first replay."""

    def replay() -> None:
        gpu.graph(3)

    gpu.flush(2 * L2_BYTES)
    in_a_row = hot_clock(gpu).time(replay, 20)
    assert per_call(in_a_row) == pytest.approx(3 * HOT)
    assert per_call(cold_clock(gpu).time(replay, 20)) == pytest.approx(COLD + 2 * HOT)


def test_launched_clock_reads_what_a_caller_waits(gpu: Gpu) -> None:
    """With the launch included a call is its launch, its kernel and the wait, and the host's clock tells."""
    block = LaunchedCudaClock(gpu, host=HostClock(gpu)).time(gpu.kernel, 10)
    assert block.calls == 10
    assert per_call(block) == pytest.approx(LAUNCH + HOT + WAIT)
    assert block.gpu is None


def test_launched_clock_counts_what_the_host_clock_counts() -> None:
    """Without another clock the host's own reports CPU time and faults beside the wall."""
    gpu = Gpu()
    block = LaunchedCudaClock(gpu).time(gpu.kernel, 3)
    assert block.seconds > 0
    assert block.cpu_seconds is not None


def test_more_calls_than_the_queue_holds_are_timed_in_parts(gpu: Gpu) -> None:
    """The queue is never filled; the parts are added, and none of their launches shows."""
    block = hot_clock(gpu).time(gpu.kernel, 5000)
    assert block.calls == 5000
    assert per_call(block) == pytest.approx(HOT)
    assert of(block) == {"launch_hidden": True, "not_hidden_because": None, "parts": 5, "repeats": 0}
    block = cold_clock(gpu).time(gpu.kernel, 600)
    assert per_call(block) == pytest.approx(COLD)
    assert (of(block)["parts"], of(block)["launch_hidden"]) == (3, True)


@pytest.mark.parametrize("make", [hot_clock, cold_clock])
def test_calls_of_many_kernels_are_timed_in_smaller_parts(
    gpu: Gpu, make: Callable[[Gpu], HotCudaClock]
) -> None:
    """How many calls the queue holds is found out once, and then known."""

    def call() -> None:
        for _ in range(30):
            gpu.kernel()

    clock = make(gpu)
    first, second = clock.time(call, 200), clock.time(call, 200)
    expected = 30 * HOT if make is hot_clock else COLD + 29 * HOT
    for block in (first, second):
        assert per_call(block) == pytest.approx(expected)
        assert of(block)["launch_hidden"]
    assert of(first)["repeats"] > 0
    assert of(second)["repeats"] == 0


def test_a_host_that_is_kept_away_is_noticed_and_the_part_repeated(gpu: Gpu) -> None:
    """A pause of the host leaves the device idle within the interval: that reading is not used."""
    clock = hot_clock(gpu)
    clock.time(gpu.kernel, 40)
    gpu.pauses[gpu.launches + 20] = 4e-3
    block = clock.time(gpu.kernel, 40)
    assert per_call(block) == pytest.approx(HOT)
    assert (of(block)["launch_hidden"], of(block)["repeats"]) == (True, 1)
    assert of(clock.time(gpu.kernel, 40))["repeats"] == 0
    gpu.pauses[gpu.launches + 20] = 4e-3
    assert between_events(gpu, lambda: call_often(gpu.kernel, 40)) > 4e-3


def test_spin_follows_the_host(gpu: Gpu) -> None:
    """A host that launches more slowly than it did gets a longer spin, and at once the right one."""
    made: list[None] = []

    def call() -> None:
        made.append(None)
        gpu.now += 5 * LAUNCH if len(made) > 2 else 0.0
        gpu.kernel()

    clock = hot_clock(gpu)
    blocks = [clock.time(call, 40) for _ in range(2)]
    assert [of(block)["launch_hidden"] for block in blocks] == [True, True]
    assert [of(block)["repeats"] for block in blocks] == [1, 0]
    assert [of(block)["parts"] for block in blocks] == [1, 1]


def test_what_was_launched_before_is_not_timed(gpu: Gpu) -> None:
    """A device that still works on something is waited for."""
    launched = LaunchedCudaClock(gpu, host=HostClock(gpu))
    for clock, seconds in ((hot_clock(gpu), HOT), (launched, LAUNCH + HOT + WAIT)):
        clock.time(gpu.kernel, 3)
        gpu.kernel(hot=1.0)
        assert per_call(clock.time(gpu.kernel, 3)) == pytest.approx(seconds)


def test_spin_follows_the_clock_of_the_device(gpu: Gpu) -> None:
    """A device that wakes from its idle clock runs through a spin faster; no reading shows it."""
    gpu.hertz = 0.3e9
    clock = hot_clock(gpu)
    assert of(clock.time(gpu.kernel, 40))["launch_hidden"]
    begun = gpu.now
    clock.time(gpu.kernel, 40)
    assert gpu.now - begun < 3 * 40 * LAUNCH, "at a known rate a spin is about twice the launches"
    gpu.hertz = 2e9
    block = clock.time(gpu.kernel, 40)
    assert per_call(block) == pytest.approx(HOT)
    assert (of(block)["launch_hidden"], of(block)["repeats"]) == (True, 1)
    assert of(clock.time(gpu.kernel, 40))["repeats"] == 0


def test_a_call_that_waits_for_the_device_is_told(gpu: Gpu) -> None:
    """Its launch cannot be hidden: the block says so and why, and the pains end after a few blocks."""

    def call() -> None:
        gpu.kernel()
        gpu.synchronise()

    clock = hot_clock(gpu)
    blocks = [clock.time(call, 40) for _ in range(5)]
    for block in blocks:
        assert (block.calls, of(block)["launch_hidden"]) == (40, False)
        assert of(block)["not_hidden_because"] == (
            "launching one call waits for the device, or fills the queue of launches"
        )
    assert of(blocks[0])["repeats"] > 0
    assert (of(blocks[-1])["repeats"], of(blocks[-1])["parts"]) == (0, 1)
    assert gpu.now < 0.25, "finding that out costs less than one longest spin"
    # An idle device between the calls is in this time, as it is for every caller.
    assert per_call(blocks[-1]) == pytest.approx(LAUNCH + HOT + WAIT, rel=0.2)


def test_a_call_that_fills_the_queue_is_told(gpu: Gpu) -> None:
    """More kernels in one call than the queue holds cannot all be launched behind a spin."""

    def call() -> None:
        for _ in range(3000):
            gpu.kernel()

    block = hot_clock(gpu).time(call, 2)
    assert (block.calls, of(block)["launch_hidden"]) == (2, False)
    assert "fills the queue" in of(block)["not_hidden_because"]


def test_a_slow_host_is_told(gpu: Gpu) -> None:
    """No spin outlasts a host that takes half a second to launch one call."""

    def call() -> None:
        gpu.now += 0.5
        gpu.kernel()

    block = hot_clock(gpu).time(call, 2)
    assert not of(block)["launch_hidden"]
    assert of(block)["not_hidden_because"] == (
        "launching one call takes longer than the longest spin, 0.25 s"
    )
    assert (block.calls, of(block)["repeats"]) == (2, 1)


def test_a_call_that_recovers_is_hidden_again(gpu: Gpu) -> None:
    """A call that could not be hidden is still looked at, and hidden once it no longer waits."""
    waits = True

    def call() -> None:
        gpu.kernel()
        if waits:
            gpu.synchronise()

    clock = hot_clock(gpu)
    for _ in range(6):
        clock.time(call, 3)
    waits = False
    assert of(clock.time(call, 3))["launch_hidden"]


def test_intervals_are_added_and_never_taken_from_afar(gpu: Gpu) -> None:
    """Events of 32-bit milliseconds lose short intervals when they are taken from one origin."""
    origin = gpu.event()
    origin.record()
    gpu.now += 1000.0
    assert per_call(cold_clock(gpu).time(gpu.kernel, 40)) == pytest.approx(COLD)
    start, end = gpu.event(), gpu.event()
    gpu.flush(2 * L2_BYTES)
    start.record()
    gpu.kernel()
    end.record()
    gpu.synchronise()
    from_origin = gpu.seconds(origin, end) - gpu.seconds(origin, start)
    assert abs(from_origin - COLD) > COLD / 2


def test_estimate_is_that_of_five_calls(gpu: Gpu) -> None:
    """An estimate comes from five calls, whose launches are hidden as in a block."""
    made: list[None] = []

    def call() -> None:
        made.append(None)
        gpu.kernel()

    clock = hot_clock(gpu)
    assert clock.estimate(call) == pytest.approx(HOT)
    made.clear()
    clock.estimate(call)
    assert len(made) == 5
    assert cold_clock(gpu).estimate(call) == pytest.approx(COLD)
    launched = LaunchedCudaClock(gpu, host=HostClock(gpu))
    assert launched.estimate(call) == pytest.approx(LAUNCH + HOT + WAIT)


def test_state_of_the_gpu_is_read_around_the_block(gpu: Gpu) -> None:
    """NVML is asked while nothing runs, before the block and after it, and both looks are in its facts."""
    looks: list[float] = []

    def look() -> GpuState:
        assert gpu.free <= gpu.now, "nothing runs while NVML is asked"
        looks.append(gpu.now)
        return GpuState(sm_mhz=1000 + 100 * len(looks), reasons=(), missing={"watts": "NVML says: no"})

    for make in (HotCudaClock, ColdCudaClock, LaunchedCudaClock):
        looks.clear()
        clock = make(gpu, look)
        clock.time(gpu.kernel, 4)
        looks.clear()
        facts = of(clock.time(gpu.kernel, 4))
        assert len(looks) == 2
        assert facts["sm_mhz"] == [1100, 1200]
        assert facts["throttled"] is False
        assert facts["missing"] == {"watts": "NVML says: no"}
        assert ("launch_hidden" in facts) == (make is not LaunchedCudaClock)


def test_clocks_say_what_they_time(gpu: Gpu) -> None:
    """Name, launch and cache are those of the record."""
    clocks: list[Clock] = [HotCudaClock(gpu), ColdCudaClock(gpu), LaunchedCudaClock(gpu)]
    assert [(clock.name, clock.launch, clock.cache) for clock in clocks] == [
        ("CUDA events", "excluded", "hot"),
        ("CUDA events", "excluded", "cold"),
        ("wall", "included", "hot"),
    ]


def test_torch_has_every_name_that_is_used() -> None:
    """The names of the device are in this torch's own declarations, also where it is built without CUDA."""
    assert callable(torch.cuda._sleep)
    assert callable(torch.cuda.synchronize)
    assert callable(torch.cuda.get_device_properties)
    assert all(callable(getattr(torch.cuda.Event, name)) for name in ("record", "query", "elapsed_time"))
    declared = (Path(torch.__file__).parent / "_C" / "__init__.pyi").read_text(encoding="utf-8")
    properties = declared.partition("class _CudaDeviceProperties:")[2].partition("\n\n")[0]
    assert {"L2_cache_size: _int", "uuid: str"} <= {line.strip() for line in properties.splitlines()}
    assert "def _cuda_sleep(cycles: _int)" in declared


def test_torch_device_passes_on_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's units are milliseconds; the buffer that is overwritten is made once for one size."""
    made: list[tuple[Any, ...]] = []
    empty = torch.empty

    def on_the_host(count: int, *, dtype: torch.dtype, device: str = "cpu") -> torch.Tensor:
        made.append((count, device))
        return empty(count, dtype=dtype)

    monkeypatch.setattr(torch, "empty", on_the_host)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: made.append(("spin", cycles)))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: made.append(("synchronise",)))
    properties = types.SimpleNamespace(L2_cache_size=7, uuid="0123-4567")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: properties)
    torch_cuda = TorchCuda()
    device: Device = torch_cuda
    made.clear()
    device.spin(12)
    device.synchronise()
    device.flush(64)
    device.flush(64)
    assert made == [("spin", 12), ("synchronise",), (64, "cuda")]
    assert (device.l2_bytes(), torch_cuda.uuid()) == (7, "0123-4567")
    start: Any = types.SimpleNamespace(elapsed_time=lambda end: 2.5)
    assert device.seconds(start, start) == pytest.approx(2.5e-3)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: ("event", enable_timing))
    mark: Any = torch_cuda.event()
    assert mark == ("event", True)


@pytest.mark.skipif(device_missing("cuda") is not None, reason=str(device_missing("cuda")))
def test_clocks_on_a_real_device() -> None:
    """On a GPU launches are hidden, a caller waits longer than a kernel runs, and a cold cache costs."""
    device = TorchCuda()
    x, y = (torch.ones(device.l2_bytes() // 16, dtype=torch.float32, device="cuda") for _ in range(2))

    def call() -> None:
        y.copy_(x)

    hot, cold, launched = HotCudaClock(device), ColdCudaClock(device), LaunchedCudaClock(device)
    for clock in (hot, cold, launched):
        clock.estimate(call)
    blocks = {clock: [clock.time(call, 100) for _ in range(9)] for clock in (hot, cold, launched)}
    assert all(of(block)["launch_hidden"] for clock in (hot, cold) for block in blocks[clock])
    median = {
        clock: float(np.median([per_call(block) for block in found])) for clock, found in blocks.items()
    }
    assert 0 < median[hot] < median[cold]
    assert median[hot] < median[launched]
