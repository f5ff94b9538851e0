"""What each GPU is, what it does just now, and what of it can be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from harness.bench.machine import device_missing, visible_gpus
from harness.bench.measure.gpu import GpuState, Watch, throttling
from harness.doors.doctor.finding import Finding, advise, fine, missing
from harness.doors.doctor.wording import listed

_CUDA = "latency on the GPU"
_ENERGY = "energy of the GPU"
_LEFT_OUT = "CUDA cases are left out; an explicit --bench-device=cuda ends with exit 13."


def examine_gpus(names: list[str], driver: str | None, nvml: Any = None) -> list[Finding]:
    """Return what CUDA can use, and the state of every GPU as NVML tells it.

    nvml: the module pynvml, imported unless one is handed in.
    """
    reason = device_missing("cuda")
    if reason:
        return [missing("CUDA", f"{reason[0].upper()}{reason[1:]}.", _LEFT_OUT, _CUDA)]
    found = f"torch can use {listed(names)} (driver {driver or 'of an unknown version'})."
    return [fine("CUDA", found, _CUDA), *_by_nvml(nvml or _imported())]


def _imported() -> Any:
    try:
        with warnings.catch_warnings():
            # The older distribution of this module announces that it is deprecated.
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError:
        return None
    return pynvml


def _by_nvml(nvml: Any) -> list[Finding]:
    lost = "Clocks, throttling and energy of the GPU are left out of records."
    if nvml is None:
        return [missing(_ENERGY, "nvidia-ml-py is not installed.", lost, _ENERGY)]
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [missing(_ENERGY, f"NVML says: {error}.", lost, _ENERGY)]
    try:
        handles = visible_gpus(nvml)
        return [
            _energy(nvml, handles),
            *(_gpu(nvml, number, handle) for number, handle in enumerate(handles)),
        ]
    except nvml.NVMLError as error:
        return [missing(_ENERGY, f"NVML says: {error}.", lost, _ENERGY)]
    finally:
        nvml.nvmlShutdown()


def _energy(nvml: Any, handles: list[Any]) -> Finding:
    said = _refusal(nvml, lambda: [nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles])
    if said is None:
        return fine(_ENERGY, "NVML's counter can be read.", _ENERGY)
    lost = "Records of CUDA cases hold this reason in the place of joules."
    return missing(_ENERGY, f"The counter cannot be read: {said}", lost, _ENERGY)


def _refusal(nvml: Any, query: Callable[[], Any]) -> str | None:
    try:
        query()
    except nvml.NVMLError as error:
        return f"NVML says: {error}."
    except AttributeError:
        return "this nvidia-ml-py does not know it."
    return None


def _gpu(nvml: Any, number: int, handle: Any) -> Finding:
    def ask(query: Callable[[], Any]) -> Any:
        return None if _refusal(nvml, query) else query()

    state = Watch(nvml, handle, None).state()
    persistent = ask(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
    sliced = ask(lambda: nvml.nvmlDeviceGetMigMode(handle))
    most = ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
    others = ask(lambda: _others(nvml, handle))
    told = [
        *_counters(state, most),
        *([] if persistent is None else [f"persistence mode {'on' if persistent else 'off'}"]),
        *(["divided into slices (MIG)"] if sliced and sliced[0] else []),
        *([] if state.reasons is None else [_held_down(state.reasons)]),
        *(
            []
            if others is None
            else ["no other process on it" if not others else f"other processes on it: {len(others)}"]
        ),
    ]
    found = ", ".join(told) if told else "NVML tells nothing of its state"
    return advise(
        f"GPU {number}", f"{found[0].upper()}{found[1:]}.", _advice(state, persistent, sliced, others)
    )


def _counters(state: GpuState, most: int | None) -> list[str]:
    bound = f" of at most {most}" if most else ""
    return [
        *([] if state.sm_mhz is None else [f"SM clock {state.sm_mhz}{bound} MHz"]),
        *([] if state.memory_mhz is None else [f"memory clock {state.memory_mhz} MHz"]),
        *([] if state.celsius is None else [f"{state.celsius} °C"]),
        *([] if state.watts is None else [f"{state.watts:.0f} W"]),
    ]


def _held_down(reasons: tuple[str, ...]) -> str:
    held = throttling(reasons)
    return f"throttled by {listed(held)}" if held else "not throttled"


def _others(nvml: Any, handle: Any) -> set[int]:
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    drawing = nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
    return {process.pid for process in (*running, *drawing)} - {os.getpid()}


def _advice(state: GpuState, persistent: Any, sliced: Any, others: set[int] | None) -> str | None:
    said = [
        "Other processes disturb times: end them, or take another GPU." if others else "",
        "It is throttled at rest: look at its cooling and its power limit." if state.throttled else "",
        "A slice shares memory and power with the others: its times depend on them."
        if sliced and sliced[0]
        else "",
        "Without persistence mode the driver is loaded anew for every process: `nvidia-smi -pm 1`."
        if persistent == 0
        else "",
    ]
    return " ".join(filter(None, said)) or None
