"""Which numbers of a record may be shown, and the reason where one may not."""

from __future__ import annotations

from dataclasses import replace

from harness.paper.record import Reading, Record, Status
from harness.paper.units import Unit

from .latencies import EVENTS, is_latency

# The order in which meters are shown; any other meter follows by name.
_FIRST_METERS = (
    *("latency", "latency_cold", "latency_launched", "latency_all_threads"),
    *("memory", "macs", "energy", "instructions", "compilation"),
)

_DISAGREED = "withheld, because the implementation disagreed with its reference"
_STATUS_WORDS = {
    Status.DISAGREED: "withheld",
    Status.NONDETERMINISTIC: "withheld",
    Status.OUT_OF_MEMORY: "the case ran out of memory",
    Status.CRASHED: "the worker process crashed",
    Status.TIMED_OUT: "the case ran out of time",
    Status.FAILED: "the case failed",
}
_NO_GPU = "withheld: the case is one of a GPU, and the record holds no time by the clock of one"
# Why a case has no reading of a meter that others of its run have, by device where that decides.
_ABSENT = {
    ("latency_cold", ""): "calls on cold caches were not timed",
    ("latency_launched", "cpu"): "on the CPU the launch is a part of every call",
    ("latency_all_threads", "cpu"): "calls on all processors were not timed",
    ("latency_all_threads", "cuda"): "the threads of the CPU play no part on a GPU",
    ("instructions", ""): "instructions were not counted",
    ("compilation", ""): "the implementation compiles nothing",
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
    return None if record.case.device != "cuda" or _ran_on_a_gpu(record) else _NO_GPU


def _ran_on_a_gpu(record: Record) -> bool:
    """Whether a latency of the record was told by the GPU itself."""
    times = [reading for meter, reading in record.readings.items() if is_latency(meter)]
    return any(reading.value is not None and reading.facts.get("clock") == EVENTS for reading in times)


def reading_of(record: Record, meter: str, unit: Unit = Unit.SECONDS_PER_CALL) -> Reading:
    """Return what a meter found, with every number removed where it may not be shown."""
    found = record.readings.get(meter)
    withheld = why_withheld(record)
    if withheld is not None:
        return Reading.missing(found.unit if found else unit, withheld)
    if found is None:
        return Reading.missing(unit, _say_absence(record, meter))
    if found.value is None and not found.reason:
        return replace(found, reason=f"the {meter} meter gave neither a value nor a reason")
    return found


def _say_absence(record: Record, meter: str) -> str:
    told = _ABSENT.get((meter, record.case.device)) or _ABSENT.get((meter, ""))
    return told or f"no {meter} reading was recorded"


def meters_of(records: list[Record]) -> dict[str, Unit]:
    """Return every meter that any record knows, with its unit, in the order of display."""
    units = {name: reading.unit for record in records for name, reading in record.readings.items()}
    names = [name for name in _FIRST_METERS if name in units]
    return {name: units[name] for name in [*names, *sorted(set(units) - set(names))]}
