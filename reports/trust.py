"""Which numbers of a record may be shown, and the reason where one may not."""

from __future__ import annotations

from dataclasses import replace

from harness.paper.record import Reading, Record, Status
from harness.paper.units import Unit

# The order in which meters are shown; any other meter follows by name.
_FIRST_METERS = ("latency", "memory", "macs", "energy")

_DISAGREED = "withheld, because the implementation disagreed with its reference"
_STATUS_WORDS = {
    Status.DISAGREED: "withheld",
    Status.NONDETERMINISTIC: "withheld",
    Status.OUT_OF_MEMORY: "the case ran out of memory",
    Status.CRASHED: "the worker process crashed",
    Status.TIMED_OUT: "the case ran out of time",
    Status.FAILED: "the case failed",
}


def why_withheld(record: Record) -> str | None:
    """Return the reason why no number of a record may be shown, or None.

    A number needs an implementation that agreed with its reference in the same run. This is asked
    again here, so that a number which should not be in a record cannot leave it.
    """
    if record.status is not Status.MEASURED:
        if not record.reason:
            return _DISAGREED if record.status is Status.DISAGREED else _STATUS_WORDS[record.status]
        return f"{_STATUS_WORDS[record.status]}: {record.reason}"
    if record.agreement is None:
        return "withheld: the record does not say whether the implementation agreed with its reference"
    if not record.agreement.agrees:
        return f"{_DISAGREED}: {record.agreement.reason or 'no reason was recorded'}"
    return None


def reading_of(record: Record, meter: str, unit: Unit = Unit.SECONDS_PER_CALL) -> Reading:
    """Return what a meter found, with every number removed where it may not be shown."""
    found = record.readings.get(meter)
    withheld = why_withheld(record)
    if withheld is not None:
        return Reading.missing(found.unit if found else unit, withheld)
    if found is None:
        return Reading.missing(unit, f"no {meter} reading was recorded")
    if found.value is None and not found.reason:
        return replace(found, reason=f"the {meter} meter gave neither a value nor a reason")
    return found


def meters_of(records: list[Record]) -> dict[str, Unit]:
    """Return every meter that any record knows, with its unit, in the order of display."""
    units = {name: reading.unit for record in records for name, reading in record.readings.items()}
    names = [name for name in _FIRST_METERS if name in units]
    return {name: units[name] for name in [*names, *sorted(set(units) - set(names))]}
