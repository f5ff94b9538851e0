"""What the doctor says of GPUs, with an NVML of the test's own."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from harness.doors.doctor import gpu
from harness.doors.doctor.finding import Finding


class NVMLError(Exception):
    """What NVML raises."""


def refuse(*_: object) -> Any:
    """Refuse as NVML does."""
    raise NVMLError("Not Supported")


def fake_nvml(**other: Any) -> SimpleNamespace:
    """Return an NVML with one GPU that is fine in every respect."""
    own = SimpleNamespace(pid=os.getpid())
    return SimpleNamespace(
        **{
            "NVMLError": NVMLError,
            "NVML_CLOCK_SM": 1,
            "NVML_CLOCK_MEM": 2,
            "NVML_TEMPERATURE_GPU": 0,
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda number: number,
            "nvmlDeviceGetHandleByUUID": lambda name: name,
            "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 5,
            "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 345, 2: 2619}[kind],
            "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
            "nvmlDeviceGetTemperature": lambda handle, kind: 31,
            "nvmlDeviceGetPowerUsage": lambda handle: 76_400,
            "nvmlDeviceGetPersistenceMode": lambda handle: 1,
            "nvmlDeviceGetMigMode": lambda handle: [0, 0],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 1,
            "nvmlDeviceGetComputeRunningProcesses": lambda handle: [own],
            "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: [],
            **other,
        }
    )


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Examine a machine where torch has CUDA."""
    monkeypatch.setattr(gpu, "device_missing", lambda device: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def examine(**other: Any) -> dict[str, Finding]:
        findings = gpu.examine_gpus(["NVIDIA H200"], "570.1", fake_nvml(**other))
        return {finding["what"]: finding for finding in findings}

    return examine


def test_no_gpu_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CUDA there is one finding, with its reason and what happens to CUDA cases."""
    monkeypatch.setattr(gpu, "device_missing", lambda device: "no CUDA device was found")
    assert gpu.examine_gpus([], None) == [
        {
            "what": "CUDA",
            "found": "No CUDA device was found.",
            "advice": "CUDA cases are left out; an explicit --bench-device=cuda ends with exit 13.",
            "level": "missing",
            "measures": "latency on the GPU",
        }
    ]


def test_a_quiet_gpu_is_fine(examined: Any) -> None:
    """Everything that NVML tells stands in one sentence."""
    found = examined()
    assert found["CUDA"]["found"] == "torch can use NVIDIA H200 (driver 570.1)."
    assert found["energy of the GPU"]["found"] == "NVML's counter can be read."
    assert found["GPU 0"] == {
        "what": "GPU 0",
        "found": "SM clock 345 of at most 1980 MHz, memory clock 2619 MHz, 31 °C, 76 W, persistence mode on, "
        "not throttled, no other process on it.",
        "advice": None,
        "level": "fine",
        "measures": None,
    }


@pytest.mark.parametrize(
    ("other", "found", "advice"),
    [
        (
            {"nvmlDeviceGetPersistenceMode": lambda handle: 0},
            "persistence mode off",
            "Without persistence mode the driver is loaded anew for every process: `nvidia-smi -pm 1`.",
        ),
        (
            {"nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0x44},
            "throttled by software power cap and hardware thermal slowdown",
            "It is throttled at rest: look at its cooling and its power limit.",
        ),
        (
            {"nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=1)]},
            "other processes on it: 1",
            "Other processes disturb times: end them, or take another GPU.",
        ),
        (
            {"nvmlDeviceGetMigMode": lambda handle: [1, 1]},
            "divided into slices (MIG)",
            "A slice shares memory and power with the others: its times depend on them.",
        ),
    ],
)
def test_what_disturbs_a_gpu(examined: Any, other: dict[str, Any], found: str, advice: str) -> None:
    """Each disturbance is told with its advice."""
    finding = examined(**other)["GPU 0"]
    assert found in finding["found"]
    assert finding["advice"] == advice


def test_counters_that_are_refused_are_left_out(examined: Any) -> None:
    """A GPU that tells nothing is still named, and the energy counter's refusal is quoted."""
    names = [name for name in vars(fake_nvml()) if name.startswith("nvmlDeviceGet")]
    kept = ("nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex")
    found = examined(**{name: refuse for name in names if name not in kept})
    assert found["GPU 0"]["found"] == "NVML tells nothing of its state."
    assert found["energy of the GPU"]["found"] == "The counter cannot be read: NVML says: Not Supported."
    assert found["energy of the GPU"]["level"] == "missing"


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetCount"])
def test_nvml_that_does_not_start(examined: Any, name: str) -> None:
    """Where NVML itself refuses, its words are the finding."""
    found = examined(**{name: refuse})
    assert list(found) == ["CUDA", "energy of the GPU"]
    assert found["energy of the GPU"]["found"] == "NVML says: Not Supported."


def test_without_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without nvidia-ml-py CUDA is found all the same."""
    monkeypatch.setattr(gpu, "device_missing", lambda device: None)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    cuda, energy = gpu.examine_gpus(["CUDA device 0"], None)
    assert cuda["found"] == "torch can use CUDA device 0 (driver of an unknown version)."
    assert energy["found"] == "nvidia-ml-py is not installed."
