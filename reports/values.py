"""One flat table of raw numbers: what a spreadsheet or a script reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from harness.paper.record import Reading, Record
from harness.paper.store import Run

from .details import describe_kernels, describe_libraries
from .facts import number_in, part_in
from .gaps import Gaps
from .latencies import is_latency, list_flags, processes_of, say_processors, say_scaling, share_of
from .provenance import name_run
from .rows import list_cases
from .trust import meters_of, reading_of
from .view import Row
from .witnesses import executed_of

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
        line |= _what_ran(record) if record else {}
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
        **(_words(meter, reading) if is_latency(meter) else {}),
        f"{meter}_missing_because": _because(reading),
    }


def _words(meter: str, reading: Reading) -> dict[str, Value]:
    """Write the facts of a latency that have parts."""
    share, words = share_of(reading)
    roofline = part_in(reading.facts, "roofline")
    gpu = part_in(reading.facts, "gpu")
    named: dict[str, Value] = {
        "processes": len(processes_of(reading)) or None,
        "process_medians": " ".join(
            repr(median)
            for process in processes_of(reading)
            if (median := number_in(process, "median")) is not None
        ),
        "processors": say_processors(reading),
        "scaling": say_scaling(reading),
        "flags": "; ".join(list_flags(meter, reading)),
        **{f"gpu_{name}": value for name, value in gpu.items() if _is_plain(value)},
    }
    if roofline:
        named |= {
            "roofline_seconds": number_in(roofline, "seconds"),
            "roofline_share": share,
            "roofline_bound": words if share is not None else "",
            "roofline_missing_because": "" if share is not None else words,
        }
    return {f"{meter}_{name}": value for name, value in named.items()}


def _what_ran(record: Record) -> dict[str, Value]:
    executed = executed_of(record)
    return {
        "executed_macs": executed.macs,
        "executed_macs_missing_because": executed.reason,
        "libraries": describe_libraries(record),
        "kernels": describe_kernels(record),
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float))


def _because(reading: Reading) -> str:
    return "" if reading.value is not None else reading.reason or ""


def _reason(row: Row, reasons: Mapping[int, str]) -> str:
    number = row.cells["calls"].gap
    return reasons.get(number, "") if number is not None else ""
