"""One flat table of raw numbers: what a spreadsheet or a script reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from harness.paper.record import Reading, Record
from harness.paper.store import Run

from .gaps import Gaps
from .provenance import name_run
from .rows import list_cases
from .trust import meters_of, reading_of
from .view import Row

Value = str | float | int | None


def list_values(runs: Sequence[Run]) -> list[dict[str, Value]]:
    """Return a row for every case of every run, by the names of the columns."""
    return [line for run in runs for line in _list_run(run)]


def _list_run(run: Run) -> Iterator[dict[str, Value]]:
    gaps, name, latest = Gaps(), name_run(run), run.latest
    cases = list_cases(run, gaps, "")
    reasons = {gap.number: gap.reason for gap in gaps.entries}
    meters = meters_of(list(latest.values()))
    for row in cases.rows:
        record = latest.get(row.name)
        line: dict[str, Value] = {"run": name, "case": row.name, **asdict(row.case), "status": row.status}
        line |= {"agreement": row.agreement, "reason": "" if row.fine else _reason(row, reasons)}
        for meter, unit in meters.items():
            line |= _columns(meter, record, str(unit)) if record else {}
        for witness in row.witnesses.values():
            line |= {f"{witness.name}_macs": witness.macs, f"{witness.name}_verdict": witness.verdict}
        yield line


def _columns(meter: str, record: Record, unit: str) -> dict[str, Value]:
    reading = reading_of(record, meter)
    facts = {f"{meter}_{name}": value for name, value in reading.facts.items() if _is_plain(value)}
    return {
        unit if unit.startswith(meter) else f"{meter}_{unit}": reading.value,
        f"{meter}_low": reading.low,
        f"{meter}_high": reading.high,
        f"{meter}_samples": len(reading.samples) or None,
        **facts,
        f"{meter}_missing_because": _because(reading),
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _because(reading: Reading) -> str:
    return "" if reading.value is not None else reading.reason or ""


def _reason(row: Row, reasons: Mapping[int, str]) -> str:
    number = row.cells["calls"].gap
    return reasons.get(number, "") if number is not None else ""
