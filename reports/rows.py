"""The table of cases: every planned or recorded case is a row, with numbers or with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.paper.record import CaseId, Record, Status
from harness.paper.store import Run
from harness.paper.units import Unit

from .cells import calls_cell, meter_cell, rate_cell, setting_of
from .facts import common_facts, list_facts
from .gaps import Gaps
from .legend import Legend
from .trust import meters_of, reading_of, why_withheld
from .view import Cases, Cell, Column, FactGroup, Filter, Row
from .witnesses import group_witnesses, list_witnesses

_PARTS = tuple(CaseId.__dataclass_fields__)
_SETTING = ("dtype", "device", "direction")
_TITLES = {"latency": "Latency", "memory": "Peak memory", "macs": "MACs", "energy": "Energy"}
_HINTS = {
    "latency": "median per call, ± half the 95 % interval of the median",
    "calls": "samples × calls per sample",
    "memory": "above the inputs, output included",
    "macs": "nominal, of one forward call",
    "rate": "nominal MACs ÷ median latency, forward only",
    "energy": "per call",
}
_NO_RECORD = (
    "planned, but the run holds no record of it: it was stopped before; "
    "pytest --benchmark with --bench-run and this folder resumes it"
)
# Above this the facts of every case would make the page too heavy to open.
_FACTS_UP_TO = 1000


def list_cases(run: Run, gaps: Gaps, prefix: str) -> Cases:
    """Build the table of cases and note every missing number."""
    latest = run.latest
    names = list(dict.fromkeys([*run.header.plan, *latest]))
    legend = Legend(run.header.catalogue)
    cases = {name: latest[name].case if name in latest else parse_id(name, legend) for name in names}
    varying = [part for part in _SETTING if len({getattr(case, part) for case in cases.values()}) > 1]
    meters = meters_of(list(latest.values()))
    builder = _RowBuilder(run, gaps, prefix, tuple(varying), tuple(meters), len(names) <= _FACTS_UP_TO)
    rows = tuple(builder.build(name, case, latest.get(name)) for name, case in cases.items())
    shown = [meter for meter in meters if any(row.cells[meter].sort is not None for row in rows)]
    return Cases(
        rows=rows,
        columns=tuple(_columns(shown)),
        filters=tuple(_filters(rows)),
        common=tuple(_common(cases.values(), varying)),
        varying=bool(varying),
        witness_names=tuple(dict.fromkeys(name for row in rows for name in row.witnesses)),
        witness_groups=group_witnesses(rows),
        empty_columns=tuple(title_of(meter) for meter in meters if meter not in shown),
    )


def parse_id(name: str, legend: Legend) -> CaseId:
    """Read a planned case id back; what is no case id becomes the name of an operator."""
    parts = name.split("/")
    if len(parts) != len(_PARTS):
        return CaseId(name, *[""] * (len(_PARTS) - 1))
    case = CaseId(*parts)
    return replace(case, workload=legend.workload(case.operator, case.workload))


def title_of(meter: str) -> str:
    """Return the heading of a meter's column."""
    return _TITLES.get(meter, meter.replace("_", " ").capitalize())


class _RowBuilder:
    """Builds rows that share a run, its meters and the reasons for what is missing."""

    def __init__(
        self,
        run: Run,
        gaps: Gaps,
        prefix: str,
        varying: tuple[str, ...],
        meters: tuple[str, ...],
        with_facts: bool,
    ) -> None:
        self._legend = Legend(run.header.catalogue)
        self._gaps, self._prefix, self._varying = gaps, prefix, varying
        self._meters, self._with_facts = meters, with_facts
        self._shared = set(common_facts([record.worker for record in run.latest.values()]))

    def build(self, name: str, case: CaseId, record: Record | None) -> Row:
        """Build one row."""
        fine = record is not None and why_withheld(record) is None
        return Row(
            name=name,
            anchor=self._prefix + name,
            case=case,
            dims=self._legend.dims(case.operator, case.workload),
            setting=setting_of(case, self._varying),
            status=_status(record, fine),
            fine=fine,
            agreement=_agreement(record),
            cells=self._cells(name, record, fine),
            witnesses=list_witnesses(record) if record else {},
            facts=tuple(self._facts(record)) if record and self._with_facts else (),
        )

    def _cells(self, name: str, record: Record | None, fine: bool) -> Mapping[str, Cell]:
        keys = (*self._meters, "calls", "rate")
        if record is None or not fine:
            reason = _NO_RECORD if record is None else why_withheld(record) or ""
            gap = self._gaps.note(reason, "every number", name)
            return {key: Cell(gap=gap) for key in keys}
        cells = {meter: meter_cell(record, meter, self._gaps) for meter in self._meters}
        return {**cells, "calls": calls_cell(record, self._gaps), "rate": rate_cell(record, self._gaps)}

    def _facts(self, record: Record) -> Iterator[FactGroup]:
        if record.agreement is not None:
            yield FactGroup("agreement", list_facts(_judged(record.agreement.evidence)))
        for meter in record.readings:
            reading = reading_of(record, meter)
            facts = {key: value for key, value in reading.facts.items() if key != "witnesses"}
            interval = _interval(reading.low, reading.high, reading.unit)
            yield FactGroup(meter, (*interval, *list_facts(facts)))
        yield FactGroup("inputs", list_facts(record.inputs))
        own = {key: value for key, value in record.worker.items() if key not in self._shared}
        yield FactGroup("worker", list_facts({**own, "started": record.started or None}))


def _interval(low: float | None, high: float | None, unit: Unit) -> tuple[tuple[str, str], ...]:
    if low is None or high is None:
        return ()
    return (("95 % interval of the median", f"{unit.format(low)} to {unit.format(high)}"),)


def _judged(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell once what was the same before and after timing."""
    if "before" in evidence and evidence["before"] == evidence.get("after"):
        others = {key: value for key, value in evidence.items() if key not in ("before", "after")}
        return {"before and after timing": evidence["before"], **others}
    return evidence


def _status(record: Record | None, fine: bool) -> str:
    if record is None:
        return "not measured"
    return "withheld" if record.status is Status.MEASURED and not fine else str(record.status)


def _agreement(record: Record | None) -> str:
    if record is None or record.agreement is None:
        return ""
    if not record.agreement.agrees:
        return "differs from the reference"
    box = record.agreement.evidence.get("certificate", {}).get("box")
    return f"{record.agreement.level}, {box} box" if box else record.agreement.level


def _columns(meters: Sequence[str]) -> Iterator[Column]:
    for meter in meters:
        yield Column(meter, title_of(meter), _HINTS.get(meter, ""))
        if meter == "latency":
            yield Column("calls", "Calls", _HINTS["calls"])
        if meter == "macs" and "latency" in meters:
            yield Column("rate", "GMAC/s", _HINTS["rate"])


def _filters(rows: Sequence[Row]) -> Iterator[Filter]:
    for place, part in enumerate(_PARTS):
        choices = sorted({value for row in rows if (value := getattr(row.case, part).replace("/", "-"))})
        if len(choices) > 1:
            yield Filter(place, part, tuple(choices))
    statuses = sorted({row.status for row in rows})
    if len(statuses) > 1:
        yield Filter(-1, "status", tuple(statuses))


def _common(cases: Any, varying: Sequence[str]) -> Iterator[str]:
    first = next(iter(cases), None)
    for part in _SETTING:
        if first is not None and part not in varying and getattr(first, part):
            yield getattr(first, part)
