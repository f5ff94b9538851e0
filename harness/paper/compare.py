"""Two runs side by side, case by case."""

from __future__ import annotations

from harness.paper.record import Reading, Record
from harness.paper.store import Run
from harness.paper.verdicts import Compared, Verdict

# Medians of identical code differ by 0.3 to 1.6 % from one process to the next, because its memory lies
# elsewhere. A run has few processes a case, and the machine changes between two runs, which no interval of
# one of them tells: a smaller difference decides nothing.
PROCESS_SPREAD = 0.016


def compare_runs(before: Run, after: Run) -> list[Compared]:
    """Compare every case of either run, in the order of the first."""
    earlier, later = before.latest, after.latest
    names = [*earlier, *(name for name in later if name not in earlier)]
    return [_compare_case(name, earlier.get(name), later.get(name)) for name in names]


def machine_difference(before: Run, after: Run) -> str | None:
    """Return one sentence where two runs come from machines whose times cannot be compared."""
    first, second = before.header.identity["machine"], after.header.identity["machine"]
    differing = sorted(key for key in {*first, *second} if first.get(key) != second.get(key))
    if not differing:
        return None
    key = differing[0]
    return (
        f"The runs come from different machines ({key} is {first.get(key)!r} and {second.get(key)!r}): "
        "their ratios compare the machines too."
    )


def _compare_case(name: str, before: Record | None, after: Record | None) -> Compared:
    if before is None:
        return Compared(name, Verdict.ONLY_AFTER, "the first run has no such case")
    if after is None:
        return Compared(name, Verdict.ONLY_BEFORE, "the second run has no such case")
    first, second = _latency(before), _latency(after)
    for which, record, reading in (("first", before, first), ("second", after, second)):
        if reading is None or not reading.value:
            reason = record.reason or (reading.reason if reading else None) or "no latency was recorded"
            return Compared(name, Verdict.NO_NUMBER, f"{which} run: {reason}")
    assert first is not None
    assert second is not None
    return _compare_times(name, first, second)


def _compare_times(name: str, first: Reading, second: Reading) -> Compared:
    before, after = first.value or 0.0, second.value or 0.0
    low = (second.low or after) / (first.high or before) / (1 + PROCESS_SPREAD)
    high = (second.high or after) / (first.low or before) * (1 + PROCESS_SPREAD)
    if low > 1:
        verdict, reason = Verdict.SLOWER, "the whole interval of the ratio lies above 1"
    elif high < 1:
        verdict, reason = Verdict.FASTER, "the whole interval of the ratio lies below 1"
    else:
        verdict, reason = Verdict.UNDECIDED, "the interval of the ratio holds 1"
    return Compared(name, verdict, reason, before, after, after / before, low, high)


def _latency(record: Record) -> Reading | None:
    return record.readings.get("latency")
