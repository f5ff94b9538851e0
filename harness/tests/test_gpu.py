"""The state of the GPU, from an NVML that a test invents."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from harness.bench.measure import gpu
from harness.bench.measure.clocks import Block
from harness.bench.measure.gpu import GpuState, around, discard_throttled, reason_names, watch

UUID = "0123-4567"


class NVMLError(Exception):
    """What the interface raises."""


def refuse(*_: Any) -> Any:
    """Be a counter that this GPU does not have."""
    raise NVMLError("Not Supported")


def running(*pids: int) -> Callable[[Any], list[types.SimpleNamespace]]:
    """Return a list of processes."""
    return lambda handle: [types.SimpleNamespace(pid=pid) for pid in pids]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Pretend that a GPU is there, which is found by its UUID alone, and that two others use it."""
    module = types.ModuleType("pynvml")

    def handle(name: str) -> str:
        if name != f"GPU-{UUID}":
            raise NVMLError("Not Found")
        return name

    vars(module).update(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetClockInfo=lambda handle, clock: {1: 1755, 2: 3201}[clock],
        nvmlDeviceGetTemperature=lambda handle, sensor: {0: 41}[sensor],
        nvmlDeviceGetPowerUsage=lambda handle: 123456,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: 0x1 | 0x4 | 0x40,
        nvmlDeviceGetComputeRunningProcesses=running(os.getpid(), 77),
        nvmlDeviceGetGraphicsRunningProcesses=running(11, 77),
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return module


def test_state_is_what_nvml_says(nvml: types.ModuleType) -> None:
    """Clocks in MHz, power in watts, bits by name, processes without this one."""
    vars(nvml)["nvmlDeviceGetPowerUsage"] = lambda handle: 123500
    state = watch(UUID).state()
    assert state == GpuState(
        sm_mhz=1755,
        memory_mhz=3201,
        celsius=41,
        watts=123.5,
        reasons=("gpu idle", "software power cap", "hardware thermal slowdown"),
        others=(11, 77),
        missing={},
    )
    assert state.throttled


QUERIES = {
    "sm_mhz": "nvmlDeviceGetClockInfo",
    "memory_mhz": "nvmlDeviceGetClockInfo",
    "celsius": "nvmlDeviceGetTemperature",
    "watts": "nvmlDeviceGetPowerUsage",
    "reasons": "nvmlDeviceGetCurrentClocksEventReasons",
    "others": "nvmlDeviceGetGraphicsRunningProcesses",
}


@pytest.mark.parametrize("counter", QUERIES)
def test_a_counter_that_is_missing_is_a_reason_in_nvmls_words(nvml: types.ModuleType, counter: str) -> None:
    """One counter that cannot be read leaves the others alone."""
    vars(nvml)[QUERIES[counter]] = refuse
    vars(nvml)["nvmlDeviceGetCurrentClocksThrottleReasons"] = refuse
    state = watch(UUID).state()
    assert state.missing[counter] == "NVML says: Not Supported"
    assert getattr(state, counter) is None
    lost = {name for name, query in QUERIES.items() if query == QUERIES[counter]}
    assert set(state.missing) == lost
    assert all(getattr(state, name) is not None for name in set(QUERIES) - lost)
    assert state.throttled is (None if counter == "reasons" else True)


def test_a_name_that_the_interface_lacks_is_a_reason(nvml: types.ModuleType) -> None:
    """An older interface has not every function; a broken one may raise anything."""
    del vars(nvml)["nvmlDeviceGetPowerUsage"]
    vars(nvml)["nvmlDeviceGetTemperature"] = lambda handle, sensor: 1 // 0
    missing = watch(UUID).state().missing
    assert missing == {
        "watts": "module 'pynvml' has no attribute 'nvmlDeviceGetPowerUsage'",
        "celsius": "integer division or modulo by zero",
    }


@pytest.mark.parametrize("absent", [True, False])
def test_older_drivers_know_the_reasons_by_another_name(nvml: types.ModuleType, *, absent: bool) -> None:
    """Where the present name is absent or answers nothing, the former one is asked."""
    vars(nvml)["nvmlDeviceGetCurrentClocksThrottleReasons"] = lambda handle: 0x8
    if absent:
        del vars(nvml)["nvmlDeviceGetCurrentClocksEventReasons"]
    else:
        vars(nvml)["nvmlDeviceGetCurrentClocksEventReasons"] = refuse
    assert watch(UUID).state().reasons == ("hardware slowdown",)


def test_processes_of_another_name_space_are_not_taken_for_others(nvml: types.ModuleType) -> None:
    """In a container NVML may count processes by other numbers: then nobody knows which one is ours."""
    vars(nvml).update(
        nvmlDeviceGetComputeRunningProcesses=running(4242),
        nvmlDeviceGetGraphicsRunningProcesses=running(),
    )
    state = watch(UUID).state()
    assert state.others is None
    assert state.missing["others"] == (
        f"NVML lists 1 processes without this one, {os.getpid()}: "
        "either it counts them as another container does, or this one has not used the GPU yet"
    )


def test_a_slice_of_a_gpu_is_found(nvml: types.ModuleType) -> None:
    """A MIG device has a UUID of its own, with another prefix."""
    asked: list[str] = []

    def handle(name: str) -> str:
        asked.append(name)
        if name.startswith("GPU-"):
            raise NVMLError("Not Found")
        return name

    vars(nvml)["nvmlDeviceGetHandleByUUID"] = handle
    assert watch(UUID).state().missing == {}
    assert asked == [f"GPU-{UUID}", f"MIG-{UUID}"]


def nothing_seen(why: str) -> GpuState:
    """Return the state of a GPU that cannot be looked at."""
    return GpuState(missing=dict.fromkeys(QUERIES, why))


def test_no_gpu_no_library_no_interface_are_reasons(
    nvml: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is absent, every counter says why, and nothing raises."""
    assert watch("another").state() == nothing_seen("NVML says: Not Found")
    vars(nvml)["nvmlInit"] = refuse
    state = watch(UUID).state()
    assert state == nothing_seen("NVML says: Not Supported")
    assert state.throttled is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert watch(UUID).state() == nothing_seen("nvidia-ml-py is not installed")


def test_real_interface_without_a_gpu_gives_reasons() -> None:
    """The installed interface either finds no such GPU or no driver, and says so in words."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    state = watch("00000000-0000-0000-0000-000000000000").state()
    assert state.sm_mhz is None
    assert state.missing["sm_mhz"].startswith("NVML says: ")


def test_real_interface_has_every_name() -> None:
    """The names that are asked for, and the bits that are named, are those of the installed interface."""
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    asked = {
        *QUERIES.values(),
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetHandleByUUID",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlInit",
        "NVMLError",
    }
    assert {name for name in asked if not hasattr(pynvml, name)} == set()
    assert (pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM, pynvml.NVML_TEMPERATURE_GPU) == (1, 2, 0)
    kinds = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")
    known = {name: bits for name, bits in vars(pynvml).items() if name.startswith(kinds)}
    single = {name: bits for name, bits in known.items() if bits.bit_count() == 1}
    assert len(single) > 8
    for name, bits in single.items():
        spoken = gpu.REASONS[bits].replace("software", "sw").replace("hardware", "hw").replace(" ", "")
        assert spoken in name.lower() or name.endswith("UserDefinedClocks"), name


def test_bits_are_named() -> None:
    """No bit is no reason; a bit that nobody has named yet keeps its number and counts as throttling."""
    assert reason_names(0) == ()
    assert reason_names(0x2 | 0x20) == ("applications clocks setting", "software thermal slowdown")
    assert reason_names(0x8000) == ("unknown reason 0x8000",)
    assert GpuState(reasons=reason_names(0x8000)).throttled
    assert GpuState(reasons=reason_names(0x1 | 0x2)).throttled is False


def test_a_fresh_look_is_not_repeated(nvml: types.ModuleType) -> None:
    """NVML's counters are renewed every 20 ms at best: within that time it is not asked again."""
    clock = iter([0.0, 0.01, 0.05])
    degrees = iter([40, 50])
    vars(nvml)["nvmlDeviceGetTemperature"] = lambda handle, sensor: next(degrees)
    looker = watch(UUID, now=lambda: next(clock))
    assert [looker.state().celsius for _ in range(3)] == [40, 40, 50]


def test_around_a_block_are_two_looks() -> None:
    """Counters become ranges, reasons and neighbours those of either look; unknown stays unknown."""
    before = GpuState(1000, 3201, 40, None, ("gpu idle",), (7,), {"watts": "NVML says: Not Supported"})
    after = GpuState(1980, 3201, 42, None, ("software power cap",), None, {"others": "gone"})
    assert around(before, after) == {
        "sm_mhz": [1000, 1980],
        "memory_mhz": [3201, 3201],
        "celsius": [40, 42],
        "watts": None,
        "reasons": ["gpu idle", "software power cap"],
        "throttled": True,
        "others": [7],
        "missing": {"watts": "NVML says: Not Supported", "others": "gone"},
    }
    unknown = around(GpuState(), GpuState())
    assert (unknown["reasons"], unknown["throttled"], unknown["others"]) == (None, None, None)


def block(number: int, *reasons: str) -> Block:
    """Return a block whose clock tells its number."""
    state = GpuState(1000 + number, 3201, 40, 100.0, reasons, ())
    return Block(1, 1e-3 * number, gpu={"launch_hidden": True, **around(state, state)})


def numbers(blocks: Iterable[Block]) -> list[int]:
    """Return the numbers of blocks."""
    return [round(block.seconds * 1e3) for block in blocks]


HEAT = "software thermal slowdown"


def test_throttled_blocks_are_discarded() -> None:
    """What was throttled is left out and counted; idle and chosen clocks are no throttling."""
    blocks = [block(1), block(2, HEAT), block(3, "gpu idle"), block(4, "applications clocks setting")]
    kept, facts = discard_throttled(blocks)
    assert numbers(kept) == [1, 3, 4]
    assert facts == {
        "sm_mhz": [1001, 1004],
        "memory_mhz": [3201, 3201],
        "celsius": [40, 40],
        "watts": [100.0, 100.0],
        "throttled_share": 0.25,
        "discarded": 1,
        "reasons": [HEAT],
        "harmless_reasons": ["applications clocks setting", "gpu idle"],
        "others": [],
        "flag": None,
        "missing": {},
        "launch_hidden": True,
        "not_hidden_because": None,
    }


@pytest.mark.parametrize("throttled", range(9))
def test_at_most_half_of_the_blocks_are_discarded(throttled: int) -> None:
    """Beyond half all are kept, and the facts say so."""
    blocks = [block(number, *([HEAT] if number < throttled else [])) for number in range(8)]
    kept, facts = discard_throttled(blocks)
    assert facts["throttled_share"] == throttled / 8
    assert len(kept) + facts["discarded"] == 8
    if throttled <= 4:
        assert numbers(kept) == list(range(throttled, 8))
        assert facts["flag"] is None
    else:
        assert numbers(kept) == list(range(8))
        assert facts["flag"] == (f"{throttled} of 8 blocks were throttled: more than half, so all are kept")


def test_unknown_throttling_discards_nothing() -> None:
    """A block whose reasons nobody tells is kept, and the share is that of the others."""
    untold = Block(1, 1e-3, gpu=around(GpuState(missing={"reasons": "no"}), GpuState()))
    kept, facts = discard_throttled([Block(1, 1e-3), untold])
    assert len(kept) == 2
    assert (facts["throttled_share"], facts["discarded"], facts["launch_hidden"]) == (None, 0, None)
    assert facts["missing"] == {"reasons": "no"}
    kept, facts = discard_throttled([Block(1, 1e-3), block(2, HEAT), block(3)])
    assert (len(kept), facts["throttled_share"]) == (2, 0.5)


def test_no_blocks_are_no_facts() -> None:
    """Of no block nothing is known."""
    kept, facts = discard_throttled([])
    assert kept == []
    assert (facts["throttled_share"], facts["sm_mhz"], facts["launch_hidden"]) == (None, None, None)


def test_a_launch_that_shows_is_told() -> None:
    """One block whose launches could not be hidden makes the whole set say so, and why."""
    seen = Block(1, 1e-3, gpu={"launch_hidden": False, "not_hidden_because": "it waits"})
    _, facts = discard_throttled([block(1), seen])
    assert (facts["launch_hidden"], facts["not_hidden_because"]) == (False, "it waits")
