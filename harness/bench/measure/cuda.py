"""Clocks of a CUDA device: its own time on hot and on cold caches, and what a caller waits.

A launch returns before its kernel has run, so timing the call alone times the launch; and a short kernel is
over before the next one is launched, so that events around both time the launching again. Here a kernel that
only spins holds the stream until the host has launched the whole block: what runs then runs without a gap.
It ends by itself, so a call that waits for the device is slow behind it but never waits for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from harness.bench.measure.clocks import Block, Call, Clock, CpuClock
from harness.bench.measure.gpu import GpuState, around

# A stream takes about 1024 launches and then blocks the host, which would wait for the spin.
_QUEUE = 1000
# A cold call is launched with an overwriting of the cache and two events.
_COLD_LAUNCHES = 4
# Long enough for the events themselves; far below the seconds after which a display driver intervenes.
_SHORTEST_SPIN, _LONGEST_SPIN = 50e-6, 0.25
# Faster than any GPU ticks, so that the first spin, before the rate is measured, is never too short.
_HIGHEST_HERTZ = 3e9
# After so many failures in a row a call is taken to be one whose launch cannot be hidden.
_PATIENCE = 3
_ESTIMATED_FROM = 5
# Where the driver tells no size: as much as Triton's do_bench overwrites.
_UNKNOWN_L2_BYTES = 128 * 2**20
_TOO_LONG = f"launching one call takes longer than the longest spin, {_LONGEST_SPIN} s"
_WAITS = "launching one call waits for the device, or fills the queue of launches"

Look = Callable[[], GpuState]


class Event(Protocol):
    """A mark in the stream that is stamped when the device reaches it."""

    def record(self) -> Any:
        """Put the mark behind everything launched so far."""

    def query(self) -> Any:
        """Whether the device has reached the mark."""


class Device(Protocol):
    """The little that the clocks need of a device; everything is put into one stream, in order."""

    def synchronise(self) -> None:
        """Wait until everything launched has run."""

    def event(self) -> Event:
        """Return a new mark."""

    def seconds(self, start: Any, end: Any) -> float:
        """Return the device's seconds between two marks that it has reached."""

    def spin(self, cycles: int) -> None:
        """Hold the stream for so many cycles of the clock that the multiprocessors run at."""

    def flush(self, count: int) -> None:
        """Overwrite so many bytes that no call uses."""

    def l2_bytes(self) -> int:
        """Return the size of the cache that all multiprocessors share; 0 where it is not known."""


class TorchCuda:
    """The current CUDA device, through torch."""

    def __init__(self) -> None:
        self._others = torch.empty(0, dtype=torch.uint8)

    def synchronise(self) -> None:
        """Wait until everything launched has run."""
        torch.cuda.synchronize()

    def event(self) -> torch.cuda.Event:
        """Return a new mark."""
        return torch.cuda.Event(enable_timing=True)

    def seconds(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """Return the device's seconds between two marks that it has reached."""
        return float(start.elapsed_time(end)) * 1e-3

    def spin(self, cycles: int) -> None:
        """Hold the stream for so many cycles."""
        torch.cuda._sleep(cycles)

    def flush(self, count: int) -> None:
        """Overwrite so many bytes that no call uses."""
        if self._others.numel() != count:
            self._others = torch.empty(count, dtype=torch.uint8, device="cuda")
        self._others.zero_()

    def l2_bytes(self) -> int:
        """Return the size of the cache that all multiprocessors share."""
        return int(torch.cuda.get_device_properties().L2_cache_size)

    def uuid(self) -> str:
        """Return the name by which NVML finds the same device; the two count devices in different orders."""
        return str(torch.cuda.get_device_properties().uuid)


@dataclass
class _Launching:
    """What is known about launching one call.

    seconds_per_call: of the host, the last time. calls: how many are tried behind one spin. failures: blocks
    in a row that could not be hidden, and because of what.
    """

    seconds_per_call: float
    calls: int
    failures: int = 0
    because: str | None = None

    @property
    def hopeless(self) -> bool:
        return self.failures >= _PATIENCE


@dataclass(frozen=True)
class _Part:
    """Calls behind one spin: the device's seconds, and whether all was launched before the spin ended."""

    calls: int
    seconds: float
    spin_seconds: float
    launch_seconds: float
    hidden: bool


class _CudaClock:
    """What the clocks share: a warm-up, an estimate, and the state of the GPU around a block."""

    cache = "hot"

    def __init__(self, device: Device, look: Look | None = None) -> None:
        self._device, self._look = device, look
        self._warmed: Call | None = None

    def estimate(self, call: Call) -> float:
        """Return roughly the seconds of one call, from five; the first calls ever are not among them."""
        return self.time(call, _ESTIMATED_FROM).seconds / _ESTIMATED_FROM

    def time(self, call: Call, calls: int) -> Block:
        """Time ``calls`` calls in a row, none of them the first."""
        if self._warmed != call:  # a method is a new object each time it is named, but an equal one
            self._warm(call)
            self._warmed = call
        if self._look is None:
            return self._time(call, calls)
        before = self._look()
        block = self._time(call, calls)
        return replace(block, gpu={**(block.gpu or {}), **around(before, self._look())})

    def _warm(self, call: Call) -> None:
        """Run once everything that takes part: a first launch loads its kernel, and may compile it."""
        call()
        self._device.synchronise()

    def _time(self, call: Call, calls: int) -> Block:
        raise NotImplementedError


class HotCudaClock(_CudaClock):
    """The device's seconds of calls in a row behind one spin, from event to event."""

    name = "CUDA events"
    launch = "excluded"

    def __init__(
        self, device: Device, look: Look | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(device, look)
        self._now = now
        self._hertz = _HIGHEST_HERTZ
        self._marks: list[Event] = []
        self._launching = _Launching(0.0, 1)
        self._most_calls = _QUEUE

    def _warm(self, call: Call) -> None:
        self._device.spin(1)
        self._launch(call, 1)
        self._device.synchronise()
        begun = self._now()
        self._launch(call, 1)
        self._launching = _Launching(self._now() - begun, self._most_calls)
        self._device.synchronise()

    def _time(self, call: Call, calls: int) -> Block:
        """Time a block in as few parts as the queue allows.

        Only neighbouring events are subtracted: CUDA gives 32-bit milliseconds, too coarse from afar.
        """
        known = self._launching
        parts: list[_Part] = []
        tries, hidden = 0, True
        while (left := calls - sum(part.calls for part in parts)) > 0:
            # A block that shows its launches somewhere shows them: no more pains are taken with the rest.
            part, tried = self._part(call, left, patient=hidden and not known.hopeless)
            parts.append(part)
            tries += tried
            hidden = hidden and part.hidden
        known.failures = 0 if hidden else known.failures + 1
        facts = {
            "launch_hidden": hidden,
            "not_hidden_because": None if hidden else known.because,
            "parts": len(parts),
            "repeats": tries - len(parts),
        }
        return Block(calls, sum(part.seconds for part in parts), gpu=facts)

    def _part(self, call: Call, left: int, *, patient: bool) -> tuple[_Part, int]:
        """Time at most ``left`` calls; repeat with a longer spin, and then with fewer calls, until hidden."""
        known, at_first, tried = self._launching, self._launching.seconds_per_call, 0
        while True:
            part = self._try(call, min(left, known.calls))
            tried += 1
            if part.hidden or patient:
                known.seconds_per_call = part.launch_seconds / part.calls
            if part.hidden or not patient:
                return part, tried
            longest = part.spin_seconds >= _LONGEST_SPIN
            if part.calls == 1 and (tried > 1 or longest):
                # Not even one call can be hidden, so nothing is gained by timing single ones.
                known.because = _TOO_LONG if at_first >= _LONGEST_SPIN else _WAITS
                known.seconds_per_call, known.calls = at_first, self._most_calls
                return part, tried
            if tried > 1 or longest:
                # A longer spin did not help: the queue was full, and the host waited for the spin.
                known.calls = max(1, part.calls // 2)

    def _try(self, call: Call, calls: int) -> _Part:
        """Time calls behind a spin that is twice as long as launching them took the last time."""
        known, device = self._launching, self._device
        wanted = 0.0 if known.hopeless else 2 * known.seconds_per_call * calls
        spin_seconds = min(_LONGEST_SPIN, _SHORTEST_SPIN + wanted)
        cycles = round(spin_seconds * self._hertz)
        before, held = self._mark(0), self._mark(1)
        device.synchronise()
        before.record()
        device.spin(cycles)
        held.record()
        begun = self._now()
        pairs = self._launch(call, calls)
        launch_seconds = self._now() - begun
        hidden = not held.query()
        device.synchronise()
        spun = device.seconds(before, held)
        # The clock of the device rises and falls: the next spin is counted at the rate of this one.
        self._hertz = cycles / spun if spun > 0 else _HIGHEST_HERTZ
        seconds = sum(device.seconds(start, end) for start, end in pairs)
        return _Part(calls, seconds, spin_seconds, launch_seconds, hidden)

    def _launch(self, call: Call, calls: int) -> list[tuple[Event, Event]]:
        """Launch the calls, and return the marks around what is timed."""
        start, end = self._mark(2), self._mark(3)
        start.record()
        for _ in range(calls):
            call()
        end.record()
        return [(start, end)]

    def _mark(self, number: int) -> Event:
        while len(self._marks) <= number:
            self._marks.append(self._device.event())
        return self._marks[number]


class ColdCudaClock(HotCudaClock):
    """The device's seconds of calls, each after its second-level cache was overwritten.

    Twice the cache is overwritten, before the event that starts the interval and in the same stream. What
    was overwritten is still to be written back, as after another operator, and as in Triton and nvbench.
    """

    cache = "cold"

    def __init__(
        self, device: Device, look: Look | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(device, look, now)
        self._flushed_bytes = 2 * (device.l2_bytes() or _UNKNOWN_L2_BYTES)
        self._most_calls = _QUEUE // _COLD_LAUNCHES

    def _launch(self, call: Call, calls: int) -> list[tuple[Event, Event]]:
        pairs = [(self._mark(2 + 2 * number), self._mark(3 + 2 * number)) for number in range(calls)]
        for start, end in pairs:
            self._device.flush(self._flushed_bytes)
            start.record()
            call()
            end.record()
        return pairs

    def _time(self, call: Call, calls: int) -> Block:
        block = super()._time(call, calls)
        return replace(block, gpu={**(block.gpu or {}), "flushed_bytes": self._flushed_bytes})


class LaunchedCudaClock(_CudaClock):
    """What a caller waits for one call: wall time from its launch until the device is done."""

    name = "wall"
    launch = "included"

    def __init__(self, device: Device, look: Look | None = None, host: Clock | None = None) -> None:
        super().__init__(device, look)
        self._host = host or CpuClock()

    def _time(self, call: Call, calls: int) -> Block:
        def call_and_wait() -> None:
            call()
            self._device.synchronise()

        self._device.synchronise()
        return self._host.time(call_and_wait, calls)
