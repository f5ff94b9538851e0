"""Energy: joules per call above idle power, from the counter of the device, or the reason for none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.bench.measure.clocks import Call
from harness.bench.measure.energycounters import POWERCAP, CounterError, EnergyCounter, Nvml, Rapl
from harness.bench.measure.subject import Subject
from harness.paper.record import Reading
from harness.paper.units import Unit

# How often a counter is looked at while its next update is awaited: a small part of either one's period.
_LOOK_SECONDS = 1e-4


@dataclass(frozen=True)
class Timer:
    """The clock and the pause of a measurement, in seconds."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Plan:
    """How long nothing runs, how long the calls run, and what waits until they are done."""

    idle_seconds: float
    work_seconds: float
    finish: Callable[[], None]


def read_energy(
    subject: Subject, call: Call, *, powercap: Path = POWERCAP, timer: Timer | None = None
) -> Reading:
    """Measure a window of calls against a window in which nothing runs; without a counter neither."""
    try:
        if subject.device == "cuda":
            # NVML's counter stands still for up to a tenth of a second: the window is many times that.
            return _measure(Nvml(), call, Plan(0.5, 1.0, torch.cuda.synchronize), timer or Timer())
        # RAPL's moves every millisecond.
        return _measure(Rapl(powercap), call, Plan(0.2, 0.25, lambda: None), timer or Timer())
    except CounterError as error:
        return Reading.missing(Unit.JOULES_PER_CALL, str(error))


def _measure(counter: EnergyCounter, call: Call, plan: Plan, timer: Timer) -> Reading:
    plan.finish()
    # Two halves tell how steady idle power is, and with it how well it can be subtracted.
    halves = [_watch(counter, timer, lambda: timer.sleep(plan.idle_seconds / 2)) for _ in range(2)]
    calls = 0

    def work() -> None:
        nonlocal calls
        calls = _run_for(call, plan, timer)

    joules, seconds = _watch(counter, timer, work)
    idle_watts = sum(half[0] for half in halves) / sum(half[1] for half in halves)
    low, high = sorted(half[0] / half[1] for half in halves)
    if joules <= high * seconds:
        raise CounterError(
            f"the calls cannot be told from idle power: {joules / seconds:.3g} W with them, "
            f"{low:.3g} to {high:.3g} W without"
        )
    return Reading(
        unit=Unit.JOULES_PER_CALL,
        value=(joules - idle_watts * seconds) / calls,
        low=(joules - high * seconds) / calls,
        high=(joules - low * seconds) / calls,
        facts={
            "means": counter.means,
            "counter": counter.name,
            "calls": calls,
            "window_seconds": seconds,
            "watts": joules / seconds,
            "idle_watts": idle_watts,
            "idle_seconds": sum(half[1] for half in halves),
            "interval": "from the idle power of either half of the idle window",
        },
    )


def _watch(counter: EnergyCounter, timer: Timer, body: Callable[[], None]) -> tuple[float, float]:
    """Return the joules and the seconds from an update of the counter before to one after the body.

    Between updates the counter lags behind. What is waited for them is spent idle, and subtracted so.
    """
    before, start = _next_update(counter, timer)
    body()
    after, end = _next_update(counter, timer)
    return after - before, end - start


def _next_update(counter: EnergyCounter, timer: Timer) -> tuple[float, float]:
    value, end = counter.joules(), timer.now() + counter.slowest_update_seconds
    while timer.now() < end:
        timer.sleep(_LOOK_SECONDS)
        found = counter.joules()
        if found != value:
            return found, timer.now()
    raise CounterError(f"{counter.name} stood still for {counter.slowest_update_seconds:g} s")


def _run_for(call: Call, plan: Plan, timer: Timer) -> int:
    """Call until the time is over, and return how often."""
    calls, batch = 0, 1
    start = now = timer.now()
    while now - start < plan.work_seconds:
        for _ in range(batch):
            call()
        plan.finish()
        calls += batch
        took, now = timer.now() - now, timer.now()
        # A device that waits for every call draws less power than under load.
        if took < plan.work_seconds / 20:
            batch *= 2
    return calls
