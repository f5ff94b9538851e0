"""Energy: joules per call from NVML's counter, or the reason why it cannot be read."""

from __future__ import annotations

import time

import torch

from harness.bench.measure.clocks import Call
from harness.bench.measure.subject import Subject
from harness.paper.record import Reading
from harness.paper.units import Unit

# NVML updates the counter every 20 to 100 ms: the window must be many times that.
_WINDOW_SECONDS = 1.0


def read_energy(subject: Subject, call: Call) -> Reading:
    """Measure a second of calls on CUDA; on the CPU no counter is read yet."""
    if subject.device != "cuda":
        return Reading.missing(Unit.JOULES_PER_CALL, "on the CPU energy is not read by this version")
    try:
        import pynvml
    except ImportError:
        return Reading.missing(Unit.JOULES_PER_CALL, "nvidia-ml-py is not installed")
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid())
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        calls = _call_for(call, _WINDOW_SECONDS)
        joules = (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) * 1e-3
    except pynvml.NVMLError as error:
        return Reading.missing(Unit.JOULES_PER_CALL, f"NVML says: {error}")
    return Reading(
        unit=Unit.JOULES_PER_CALL,
        value=joules / calls,
        facts={"calls": calls, "idle_power": "not subtracted"},
    )


def _uuid() -> str:
    """Name the device as NVML does; the two count devices in different orders."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"


def _call_for(call: Call, seconds: float) -> int:
    calls, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        call()
        calls += 1
        if calls % 100 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return calls
