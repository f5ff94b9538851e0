"""The state of the GPU while it was timed, as NVML tells it: clocks, temperature, power, throttling.

Nothing here changes a setting. A counter that cannot be read is a reason in NVML's own words.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.bench.measure.clocks import Block

# The bits of nvmlDeviceGetCurrentClocksEventReasons (NVML API reference, nvmlClocksEventReasons); written
# out, because older releases of the interface lack some of the names.
REASONS: Mapping[int, str] = {
    0x001: "gpu idle",
    0x002: "applications clocks setting",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake slowdown",
    0x100: "display clock setting",
    0x200: "board limit",
    0x400: "reliability",
}
# These say that nothing ran, or that somebody chose the clocks: no disturbance of a measurement.
HARMLESS = frozenset({"gpu idle", "applications clocks setting"})
# NVML renews most counters every 20 to 100 ms, and a reading may take milliseconds: more often tells nothing.
_FRESH_SECONDS = 0.02
_COUNTERS = ("sm_mhz", "memory_mhz", "celsius", "watts")


@dataclass(frozen=True)
class GpuState:
    """One look at the GPU; a counter that cannot be read is None, and ``missing`` says why.

    watts: as NVML averages them, on most GPUs over a second. reasons: names of every bit that is set,
    harmless ones included. others: other processes on this GPU.
    """

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    celsius: int | None = None
    watts: float | None = None
    reasons: tuple[str, ...] | None = None
    others: tuple[int, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def throttled(self) -> bool | None:
        """Whether the clocks are held down by power, heat or the like; None where NVML does not tell."""
        return None if self.reasons is None else bool(throttling(self.reasons))


def throttling(reasons: Sequence[str]) -> list[str]:
    """Leave out the harmless reasons."""
    return [reason for reason in reasons if reason not in HARMLESS]


def reason_names(bits: int) -> tuple[str, ...]:
    """Name the bits that are set; one that is not known keeps its number, and counts as throttling."""
    ones = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(REASONS.get(one, f"unknown reason {one:#x}") for one in ones)


class Watch:
    """Looks at one GPU through NVML, or at none and knows why."""

    def __init__(
        self, nvml: Any, handle: Any, unseen: str | None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._nvml, self._handle, self._unseen, self._now = nvml, handle, unseen, now
        self._seen: tuple[float, GpuState] | None = None

    def state(self) -> GpuState:
        """Return the state of now, or of at most 20 ms ago."""
        now = self._now()
        if self._seen is None or now - self._seen[0] > _FRESH_SECONDS:
            self._seen = now, self._look()
        return self._seen[1]

    def _look(self) -> GpuState:
        if self._unseen is not None:
            return GpuState(missing=dict.fromkeys((*_COUNTERS, "reasons", "others"), self._unseen))
        nvml, handle = self._nvml, self._handle
        missing: dict[str, str] = {}

        def read(counter: str, query: Callable[[], Any]) -> Any:
            try:
                return query()
            except Exception as error:  # whatever a driver does, the measurement goes on
                missing[counter] = _words(nvml, error)
            return None

        return GpuState(
            sm_mhz=read("sm_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            memory_mhz=read("memory_mhz", lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            celsius=read("celsius", lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            watts=read("watts", lambda: nvml.nvmlDeviceGetPowerUsage(handle) * 1e-3),
            reasons=read("reasons", lambda: reason_names(self._bits())),
            others=read("others", self._others),
            missing=missing,
        )

    def _bits(self) -> int:
        """Read the reasons by their present name, or by the one that older drivers know."""
        try:
            return int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except (AttributeError, self._nvml.NVMLError):
            return int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))

    def _others(self) -> tuple[int, ...]:
        """Return the other processes, if the numbers are of our own name space."""
        nvml, handle = self._nvml, self._handle
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        drawing = nvml.nvmlDeviceGetGraphicsRunningProcesses(handle)
        found = {process.pid for process in (*running, *drawing)}
        own = os.getpid()
        if own not in found:
            raise LookupError(
                f"NVML lists {len(found)} processes without this one, {own}: "
                "either it counts them as another container does, or this one has not used the GPU yet"
            )
        return tuple(sorted(found - {own}))


def watch(uuid: str, now: Callable[[], float] = time.monotonic) -> Watch:
    """Return what looks at the GPU of this UUID, which CUDA and NVML spell alike but for a prefix.

    NVML is not shut down again: a worker process looks until it ends.
    """
    try:
        with warnings.catch_warnings():
            # The older distribution of this module announces that it is deprecated.
            warnings.simplefilter("ignore")
            import pynvml
    except ImportError:
        return Watch(None, None, "nvidia-ml-py is not installed", now)
    try:
        pynvml.nvmlInit()
        return Watch(pynvml, _handle(pynvml, uuid), None, now)
    except Exception as error:  # no driver, another driver, a device that NVML does not list
        return Watch(None, None, _words(pynvml, error), now)


def _words(nvml: Any, error: Exception) -> str:
    return f"NVML says: {error}" if isinstance(error, nvml.NVMLError) else str(error)


def _handle(nvml: Any, uuid: str) -> Any:
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except nvml.NVMLError:
        # A slice of a GPU has a UUID of its own.
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def around(before: GpuState, after: GpuState) -> dict[str, Any]:
    """Return the state around a block, as its facts: ranges of the counters, reasons of either look."""
    states = (before, after)
    known = [state.reasons for state in states if state.reasons is not None]
    return {
        **{name: _range(getattr(state, name) for state in states) for name in _COUNTERS},
        "reasons": sorted(set().union(*known)) if known else None,
        "throttled": any(throttling(reasons) for reasons in known) if known else None,
        "others": _union(state.others for state in states),
        "missing": {**before.missing, **after.missing},
    }


def discard_throttled(blocks: Sequence[Block]) -> tuple[list[Block], dict[str, Any]]:
    """Leave out throttled blocks, and return the facts about the GPU for the record.

    At most half of the blocks are left out. Where more were throttled that is how this GPU runs this work:
    all are kept, and ``flag`` says so. A block whose reasons are not known is kept.
    """
    told = [block for block in blocks if _of(block, "throttled") is not None]
    throttled = [block for block in told if _of(block, "throttled")]
    kept = [block for block in blocks if not _of(block, "throttled")]
    flag = None
    if 2 * len(throttled) > len(blocks):
        kept = list(blocks)
        flag = f"{len(throttled)} of {len(blocks)} blocks were throttled: more than half, so all are kept"
    reasons = _union(_of(block, "reasons") for block in told) or ()
    hidden = [_of(block, "launch_hidden") for block in kept]
    seen = [why for block in kept if (why := _of(block, "not_hidden_because"))]
    return kept, {
        **{name: _range(end for block in kept for end in _of(block, name) or ()) for name in _COUNTERS},
        "throttled_share": len(throttled) / len(told) if told else None,
        "discarded": len(blocks) - len(kept),
        "reasons": throttling(reasons),
        "harmless_reasons": [reason for reason in reasons if reason in HARMLESS],
        "others": _union(_of(block, "others") for block in kept),
        "flag": flag,
        "missing": {key: why for block in blocks for key, why in (_of(block, "missing") or {}).items()},
        "launch_hidden": None if None in hidden or not hidden else all(hidden),
        "not_hidden_because": seen[0] if seen else None,
    }


def _of(block: Block, fact: str) -> Any:
    return None if block.gpu is None else block.gpu.get(fact)


def _range(values: Any) -> list[float] | None:
    known = [value for value in values if value is not None]
    return [min(known), max(known)] if known else None


def _union(sets: Any) -> list[Any] | None:
    known = [found for found in sets if found is not None]
    return sorted(set().union(*known)) if known else None
