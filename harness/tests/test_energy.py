"""Energy: joules per call on a simulated machine whose power is known, or the reason for none."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.bench.measure.energy import Timer, read_energy
from harness.bench.measure.energycounters import CounterError, Rapl
from harness.bench.measure.subject import Subject
from harness.paper.units import Unit

IDLE_WATTS, CALL_WATTS, CALL_SECONDS = 40.0, 90.0, 0.01
# In microjoules; a real one lasts for a minute at least, this one for longer than any window.
RANGE = 20_000_000


def subject(device: str) -> Subject:
    """Return a subject of which only the device matters here."""
    nothing: Any = None
    return Subject(nothing, nothing, nothing, "float32", device, "forward")


class Machine:
    """Time and power of a simulated machine, whose counter moves once in a period."""

    def __init__(self, period: float, call_watts: float = CALL_WATTS) -> None:
        self.time = 0.0
        self.used = 0.0
        self.period = period
        self.call_watts = call_watts
        self.shown = 0.0
        self.calls: list[float] = []

    @property
    def timer(self) -> Timer:
        """The clock and the pause of this machine."""
        return Timer(now=lambda: self.time, sleep=lambda seconds: self.spend(seconds, IDLE_WATTS))

    def call(self) -> None:
        """Work for a while."""
        self.calls.append(self.time)
        self.spend(CALL_SECONDS, self.call_watts)

    def spend(self, seconds: float, watts: float) -> None:
        """Let time pass, and show at every end of a period what was used by then."""
        end, counted = self.time + seconds, None
        while (update := (self.time // self.period + 1) * self.period) <= end:
            self.used += watts * (update - self.time)
            self.time = update + 1e-12
            counted = self.used
        self.used += watts * (end - self.time)
        self.time = end
        if counted is not None:
            self.show(counted)

    def show(self, joules: float) -> None:
        """Move the counter."""
        self.shown = joules


class Processor(Machine):
    """A machine with two packages, one of which wraps early, and with domains that must not be added."""

    def __init__(self, tree: Path, call_watts: float = CALL_WATTS) -> None:
        super().__init__(period=0.001, call_watts=call_watts)
        self.powercap = tree
        for zone, name in (
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "dram"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl:2", "psys"),
            ("intel-rapl-mmio:0", "package-0"),
        ):
            (tree / zone).mkdir(parents=True)
            (tree / zone / "name").write_text(f"{name}\n")
            (tree / zone / "energy_uj").write_text("0\n")
            (tree / zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
        self.show(0.0)

    def show(self, joules: float) -> None:
        """Give a quarter to package 0 and the rest to package 1; the others count much faster."""
        for zone, share in (
            ("intel-rapl:0", 0.25),
            ("intel-rapl:1", 0.75),
            ("intel-rapl:0:0", 9),
            ("intel-rapl:2", 9),
            ("intel-rapl-mmio:0", 9),
        ):
            counted = (19_500_000 + int(joules * share * 1e6)) % RANGE
            (self.powercap / zone / "energy_uj").write_text(f"{counted}\n")


def test_energy_of_a_processor_is_what_its_packages_used_above_idle(tmp_path: Path) -> None:
    """Package domains are summed across wraps of their counters, and idle power is subtracted."""
    machine = Processor(tmp_path)
    reading = read_energy(subject("cpu"), machine.call, powercap=tmp_path, timer=machine.timer)
    assert reading.reason is None
    assert reading.unit is Unit.JOULES_PER_CALL
    assert reading.value == pytest.approx((CALL_WATTS - IDLE_WATTS) * CALL_SECONDS, rel=0.01)
    assert reading.low == pytest.approx(reading.value, rel=0.05)
    assert reading.high == pytest.approx(reading.value, rel=0.05)
    facts = reading.facts
    assert facts["counter"] == "RAPL package-0 + package-1"
    assert facts["calls"] == len(machine.calls)
    assert facts["idle_watts"] == pytest.approx(IDLE_WATTS, rel=0.01)
    assert facts["watts"] == pytest.approx(CALL_WATTS, rel=0.02)
    assert facts["window_seconds"] == pytest.approx(len(machine.calls) * CALL_SECONDS, rel=0.02)
    assert facts["means"].endswith("meaningful only where nothing else runs")
    # Package 1 wrapped, in the idle window and again under load.
    assert IDLE_WATTS * facts["idle_seconds"] * 0.75e6 > 0.5e6
    assert machine.used * 0.75e6 > RANGE + 0.5e6


def test_a_processor_is_watched_for_half_a_second_at_most(tmp_path: Path) -> None:
    """Nothing runs in the idle window, the calls run behind it, and both together take half a second."""
    machine = Processor(tmp_path)
    reading = read_energy(subject("cpu"), machine.call, powercap=tmp_path, timer=machine.timer)
    assert machine.time <= 0.5
    assert machine.calls[0] >= reading.facts["idle_seconds"] >= 0.2


def test_a_call_longer_than_the_window_is_made_once(tmp_path: Path) -> None:
    """A slow operator is called once and no more."""
    machine = Processor(tmp_path)

    def slow() -> None:
        machine.calls.append(machine.time)
        machine.spend(0.28, CALL_WATTS)

    reading = read_energy(subject("cpu"), slow, powercap=tmp_path, timer=machine.timer)
    assert len(machine.calls) == reading.facts["calls"] == 1
    assert reading.value == pytest.approx(0.28 * (CALL_WATTS - IDLE_WATTS), rel=0.01)


def test_calls_that_draw_no_more_than_idle_power_have_a_reason(tmp_path: Path) -> None:
    """Where the calls cannot be told from idle power there is no number, least of all a negative one."""
    machine = Processor(tmp_path, call_watts=IDLE_WATTS - 1)
    reading = read_energy(subject("cpu"), machine.call, powercap=tmp_path, timer=machine.timer)
    assert reading.value is None
    assert reading.reason == ("the calls cannot be told from idle power: 39 W with them, 40 to 40 W without")


def test_unsteady_idle_power_widens_the_interval(tmp_path: Path) -> None:
    """Idle power that differs between the halves of its window shows in the interval of the reading."""
    machine = Processor(tmp_path)
    timer = Timer(
        now=machine.timer.now,
        sleep=lambda seconds: machine.spend(seconds, 30.0 if machine.time < 0.1 else 50.0),
    )
    reading = read_energy(subject("cpu"), machine.call, powercap=tmp_path, timer=timer)
    assert reading.value == pytest.approx((CALL_WATTS - 40) * CALL_SECONDS, rel=0.02)
    assert reading.low == pytest.approx((CALL_WATTS - 50) * CALL_SECONDS, rel=0.02)
    assert reading.high == pytest.approx((CALL_WATTS - 30) * CALL_SECONDS, rel=0.02)


def never() -> object:
    """Fail the test: this must not be called."""
    raise AssertionError("called although there is no counter")


def no_time() -> Timer:
    """Return a timer that fails the test: nothing may be waited for."""

    def refuse(*_: object) -> Any:
        raise AssertionError("waited although there is no counter")

    return Timer(now=refuse, sleep=refuse)


def test_absent_counter_is_a_reason_and_costs_nothing(tmp_path: Path) -> None:
    """Without RAPL neither the call nor the clock is touched, and the reading says where was looked."""
    for powercap in (tmp_path, tmp_path / "absent"):
        reading = read_energy(subject("cpu"), never, powercap=powercap, timer=no_time())
        assert reading.unit is Unit.JOULES_PER_CALL
        assert reading.reason == (
            f"there is no RAPL counter at {powercap}/intel-rapl:*: "
            "the processor has none, or a virtual machine or container hides it"
        )


def test_forbidden_counter_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter that only root may read says so, with the command that changes it."""
    Processor(tmp_path)
    read_text = Path.read_text

    # The tests may themselves run as root, who may read everything.
    def forbid(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", forbid)
    assert read_energy(subject("cpu"), never, powercap=tmp_path, timer=no_time()).reason == (
        f"{tmp_path}/intel-rapl:0/energy_uj may not be read by this user: run as root, or have an "
        f"administrator allow it with chmod a+r {tmp_path}/intel-rapl:*/energy_uj"
    )


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_forbidden_counter_is_met_as_the_system_forbids_it(tmp_path: Path) -> None:
    """The file's own permissions lead to the same reason."""
    Processor(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").chmod(0)
    with pytest.raises(CounterError, match="may not be read by this user"):
        Rapl(tmp_path)


def test_broken_counter_is_a_reason(tmp_path: Path) -> None:
    """A file without a number, and one that is gone, are reasons."""
    Processor(tmp_path)
    path = tmp_path / "intel-rapl:1" / "energy_uj"
    path.write_text("none\n")
    reading = read_energy(subject("cpu"), never, powercap=tmp_path, timer=no_time())
    assert reading.reason == f"{path} cannot be read: invalid literal for int() with base 10: 'none\\n'"
    path.unlink()
    reading = read_energy(subject("cpu"), never, powercap=tmp_path, timer=no_time())
    assert reading.reason is not None
    assert reading.reason.startswith(f"{path} cannot be read: [Errno 2]")


def test_counter_that_stands_still_is_a_reason(tmp_path: Path) -> None:
    """A counter that never moves, as some virtual machines show it, ends the measurement soon."""
    Processor(tmp_path)
    machine = Machine(period=0.001)
    reading = read_energy(subject("cpu"), never, powercap=tmp_path, timer=machine.timer)
    assert reading.reason == "RAPL package-0 + package-1 stood still for 0.05 s"
    assert machine.time < 0.1


class NVMLError(Exception):
    """What the interface raises."""


class Gpu(Machine):
    """A machine with a GPU: calls are queued and cost nothing until somebody waits for them."""

    def __init__(self) -> None:
        super().__init__(period=0.1)
        self.queued = 0
        self.waits = 0

    def call(self) -> None:
        """Launch a kernel."""
        self.calls.append(self.time)
        self.queued += 1
        self.spend(1e-5, IDLE_WATTS)

    def synchronize(self) -> None:
        """Run what was launched."""
        self.waits += 1
        self.spend(self.queued * CALL_SECONDS, CALL_WATTS)
        self.queued = 0


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Pretend that a GPU is there whose counter NVML reads in millijoules."""
    machine = Gpu()
    module = types.ModuleType("pynvml")
    vars(module).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: int(1e6 + machine.shown * 1e3),
    )
    properties = types.SimpleNamespace(uuid="0123-4567")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", machine.synchronize)
    return machine


def test_energy_of_a_gpu_is_what_the_calls_used_above_idle(gpu: Gpu) -> None:
    """The counter's lag does not blur the result: every window begins and ends at an update."""
    reading = read_energy(subject("cuda"), gpu.call, timer=gpu.timer)
    assert reading.reason is None
    assert reading.value == pytest.approx((CALL_WATTS - IDLE_WATTS) * CALL_SECONDS, rel=0.02)
    assert reading.facts["means"] == "energy of the GPU above its idle power"
    assert reading.facts["counter"] == "NVML total energy"
    assert reading.facts["calls"] == len(gpu.calls)
    assert reading.facts["idle_watts"] == pytest.approx(IDLE_WATTS, rel=0.01)
    # The counter moves ten times in a second: a window must be many times that.
    assert reading.facts["window_seconds"] > 1.0
    assert reading.facts["idle_seconds"] > 0.5


def test_a_gpu_is_waited_for_a_few_times_in_a_window(gpu: Gpu) -> None:
    """Calls are launched in batches, and the last of them is done before the counter is read."""
    read_energy(subject("cuda"), gpu.call, timer=gpu.timer)
    assert gpu.queued == 0
    assert gpu.waits <= 20 < len(gpu.calls)


def test_silent_counter_is_a_reason_in_its_own_words(gpu: Gpu) -> None:
    """A GPU whose counter cannot be read gives NVML's words in place of a number, before any call."""

    def refuse(handle: str) -> int:
        assert handle == "GPU-0123-4567", "the device that is measured, by a name that both sides know"
        raise NVMLError("Not Supported")

    vars(sys.modules["pynvml"])["nvmlDeviceGetTotalEnergyConsumption"] = refuse
    reading = read_energy(subject("cuda"), never, timer=no_time())
    assert (reading.value, reading.reason) == (None, "NVML says: Not Supported")


def test_an_unknown_device_is_a_reason(gpu: Gpu) -> None:
    """A device that NVML does not find by its name gives NVML's words."""

    def refuse(name: str) -> str:
        raise NVMLError("Not Found")

    vars(sys.modules["pynvml"])["nvmlDeviceGetHandleByUUID"] = refuse
    assert read_energy(subject("cuda"), never, timer=no_time()).reason == "NVML says: Not Found"


def test_absent_interface_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVML's Python interface the reading names what to install."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    reading = read_energy(subject("cuda"), never, timer=no_time())
    assert reading.reason == "nvidia-ml-py is not installed"
