"""The order of events of one measurement: agree, warm up, sample, agree again, read other meters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.bench.measure.clocks import Call, Clock
from harness.bench.measure.latency import Budget, latency_reading, take_samples, warm_up
from harness.paper.record import Agreement, Reading, Status
from harness.paper.units import Unit


@dataclass(frozen=True)
class Meter:
    """What reads one further quantity of a call, and its unit where there is nothing to read."""

    unit: Unit
    read: Callable[[Call], Reading]

    def try_reading(self, call: Call) -> Reading:
        """Read; a meter that fails costs its own reading alone."""
        try:
            return self.read(call)
        except Exception as error:
            return Reading.missing(self.unit, f"the meter raised {type(error).__name__}: {first_line(error)}")


@dataclass
class Outcome:
    """How a measurement ended. Without agreement before and after there is no latency in it."""

    status: Status
    agreement: Agreement
    reason: str | None = None
    readings: dict[str, Reading] = field(default_factory=dict)


def measure(
    judge: Callable[[], Agreement],
    prepare_call: Callable[[], Call],
    clock: Clock,
    meters: Mapping[str, Meter],
    budget: Budget,
) -> Outcome:
    """Measure one case. A number exists only between two agreements; red before means never timed."""
    before = judge()
    if not before.agrees:
        return _withheld(before, "before timing", meters)
    call = prepare_call()
    warm = warm_up(call, clock, budget)
    samples = take_samples(call, clock, budget, warm)
    after = judge()
    if not after.agrees:
        return _withheld(after, "after timing", meters)
    readings = {"latency": latency_reading(samples, warm, clock)}
    readings.update({name: meter.try_reading(call) for name, meter in meters.items()})
    return Outcome(Status.MEASURED, _both(before, after), None, readings)


def _withheld(agreement: Agreement, when: str, meters: Mapping[str, Meter]) -> Outcome:
    reason = f"It disagrees with the reference {when}: {agreement.reason}"
    withheld = f"withheld, because the implementation disagrees with its reference {when}"
    units = {"latency": Unit.SECONDS_PER_CALL, **{name: meter.unit for name, meter in meters.items()}}
    return Outcome(
        Status.DISAGREED,
        replace(agreement, evidence={**agreement.evidence, "when": when}),
        reason,
        {name: Reading.missing(unit, withheld) for name, unit in units.items()},
    )


def _both(before: Agreement, after: Agreement) -> Agreement:
    evidence: dict[str, Any] = {"before": before.evidence, "after": after.evidence}
    return replace(before, evidence=evidence)


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says."""
    return (str(error).strip().splitlines() or ["no message"])[0]
