"""Modes: in which state of the caches, and with or without the launch, a call is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from harness.bench.measure.clocks import Clock, ColdCpuClock, CpuClock

HOT, COLD, LAUNCHED = "hot", "cold", "launched"
# The reading that each mode fills.
READINGS = {HOT: "latency", COLD: "latency_cold", LAUNCHED: "latency_launched"}


@dataclass(frozen=True)
class Mode:
    """The conditions of a latency, as its record names them."""

    device: str
    cache: str
    threads: int
    launch: str

    @classmethod
    def of(cls, name: str, device: str, threads: int) -> Self:
        """Return what a name stands for on a device: its own time alone, or from the launch to the end."""
        included = device == "cpu" or name == LAUNCHED
        return cls(device, COLD if name == COLD else HOT, threads, "included" if included else "excluded")


def modes_of(device: str, cold: bool) -> tuple[str, ...]:
    """List the modes of a device. On the CPU overwriting the caches takes longer than most calls."""
    if device == "cpu":
        return (HOT, COLD) if cold else (HOT,)
    return (HOT, COLD, LAUNCHED)


def clocks_for(device: str) -> Mapping[str, Callable[[], Clock]]:
    """Return how to make the clock of every mode of a device."""
    if device == "cpu":
        return {HOT: CpuClock, COLD: ColdCpuClock}
    from harness.bench.measure.cuda import ColdCudaClock, HotCudaClock, LaunchedCudaClock, TorchCuda
    from harness.bench.measure.gpu import watch

    gpu = TorchCuda()
    look = watch(gpu.uuid()).state
    return {
        HOT: lambda: HotCudaClock(gpu, look),
        COLD: lambda: ColdCudaClock(gpu, look),
        LAUNCHED: lambda: LaunchedCudaClock(gpu, look),
    }
