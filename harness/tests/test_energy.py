"""Energy: joules per call from a counter that a test turns, or the reason for none."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from harness.bench.measure import energy
from harness.bench.measure.energy import read_energy
from harness.bench.measure.subject import Subject
from harness.paper.units import Unit


class NVMLError(Exception):
    """What the interface raises."""


def subject(device: str) -> Subject:
    """Return a subject of which only the device matters here."""
    nothing: Any = None
    return Subject(nothing, nothing, nothing, "float32", device, "forward")


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Pretend that a GPU is there whose counter, in millijoules, stands at 1000 and then at 4000."""
    module = types.ModuleType("pynvml")
    counted = iter([1000, 4000])
    vars(module).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(counted),
    )
    properties = types.SimpleNamespace(uuid="0123-4567")
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(energy, "_call_for", lambda call, seconds: 1500)
    return module


def test_no_energy_on_the_cpu() -> None:
    """On the CPU energy is a reason."""
    reading = read_energy(subject("cpu"), lambda: None)
    assert (reading.unit, reading.value) == (Unit.JOULES_PER_CALL, None)
    assert reading.reason == "on the CPU energy is not read by this version"


def test_energy_is_shared_by_the_calls(counter: types.ModuleType) -> None:
    """The counter's rise is divided by the calls; idle power is not subtracted, and the record says so."""
    reading = read_energy(subject("cuda"), lambda: None)
    assert reading.value == pytest.approx(3.0 / 1500)
    assert dict(reading.facts) == {"calls": 1500, "idle_power": "not subtracted"}


def test_silent_counter_is_a_reason_in_its_own_words(counter: types.ModuleType) -> None:
    """A GPU whose counter cannot be read gives NVML's words in place of a number."""

    def refuse(handle: str) -> int:
        assert handle == "GPU-0123-4567", "the device that is measured, by a name that both sides know"
        raise NVMLError("Not Supported")

    vars(counter)["nvmlDeviceGetTotalEnergyConsumption"] = refuse
    reading = read_energy(subject("cuda"), lambda: None)
    assert (reading.value, reading.reason) == (None, "NVML says: Not Supported")


def test_absent_interface_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without NVML's Python interface the reading names what to install."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_energy(subject("cuda"), lambda: None).reason == "nvidia-ml-py is not installed"
