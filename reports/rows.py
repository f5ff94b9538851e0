"""The table of cases: every planned or recorded case is a row, with numbers or with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.paper.record import CaseId, Record, Status
from harness.paper.store import Run

from .cells import setting_of
from .columns import Source, list_sources
from .details import list_at_length, list_briefly
from .facts import common_facts
from .gaps import Gaps
from .legend import Legend
from .trust import why_withheld
from .view import Cases, Cell, FactGroup, Filter, Row
from .witnesses import group_witnesses, list_witnesses, say_witnesses

_PARTS = tuple(CaseId.__dataclass_fields__)
_SETTING = ("dtype", "device", "direction")
_NO_RECORD = (
    "planned, but the run holds no record of it: it was stopped before; "
    "pytest --benchmark with --bench-run and this folder resumes it"
)
# Above this everything that is known of every case would make the page too heavy to open.
_AT_LENGTH_UP_TO = 200


def list_cases(run: Run, gaps: Gaps, prefix: str) -> Cases:
    """Build the table of cases and note every missing number."""
    latest = run.latest
    names = list(dict.fromkeys([*run.header.plan, *latest]))
    legend = Legend(run.header.catalogue)
    cases = {name: latest[name].case if name in latest else parse_id(name, legend) for name in names}
    varying = [part for part in _SETTING if len({getattr(case, part) for case in cases.values()}) > 1]
    at_length = len(names) <= _AT_LENGTH_UP_TO
    sources = list_sources(list(latest.values()), is_brief=not at_length)
    builder = _RowBuilder(run, gaps, prefix, tuple(varying), sources, at_length)
    rows = tuple(builder.build(name, case, latest.get(name)) for name, case in cases.items())
    shown = {key for row in rows for key, cell in row.cells.items() if cell.sort is not None}
    columns = tuple(source.column for source in sources if source.column.key in shown)
    numbers = (row.cells[column.key].gap for row in rows for column in columns)
    return Cases(
        rows=rows,
        columns=columns,
        gaps=frozenset(number for number in numbers if number is not None),
        filters=tuple(_filters(rows)),
        common=tuple(_common(cases.values(), varying)),
        varying=bool(varying),
        witness_names=tuple(dict.fromkeys(name for row in rows for name in row.witnesses)),
        witness_groups=group_witnesses(rows),
        empty_columns=tuple(
            source.column.title for source in sources if source.is_meter and source.column.key not in shown
        ),
    )


def parse_id(name: str, legend: Legend) -> CaseId:
    """Read a planned case id back; what is no case id becomes the name of an operator."""
    parts = name.split("/")
    if len(parts) != len(_PARTS):
        return CaseId(name, *[""] * (len(_PARTS) - 1))
    case = CaseId(*parts)
    return replace(case, workload=legend.workload(case.operator, case.workload))


class _RowBuilder:
    """Builds rows that share a run, its columns and the reasons for what is missing."""

    def __init__(
        self,
        run: Run,
        gaps: Gaps,
        prefix: str,
        varying: tuple[str, ...],
        sources: tuple[Source, ...],
        at_length: bool,
    ) -> None:
        self._legend = Legend(run.header.catalogue)
        self._gaps, self._prefix, self._varying = gaps, prefix, varying
        self._sources, self._at_length = sources, at_length
        self._shared = set(common_facts([record.worker for record in run.latest.values() if record.worker]))

    def build(self, name: str, case: CaseId, record: Record | None) -> Row:
        """Build one row."""
        fine = record is not None and why_withheld(record) is None
        witnesses = list_witnesses(record) if record else {}
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
            witnesses=witnesses,
            said=say_witnesses(witnesses),
            facts=tuple(group for group in self._facts(record) if group.facts) if record else (),
        )

    def _cells(self, name: str, record: Record | None, fine: bool) -> Mapping[str, Cell]:
        if record is None or not fine:
            reason = _NO_RECORD if record is None else why_withheld(record) or ""
            gap = self._gaps.note(reason, "every number", name)
            return {source.column.key: Cell(gap=gap) for source in self._sources}
        return {source.column.key: source.cell(record, self._gaps) for source in self._sources}

    def _facts(self, record: Record) -> Iterator[FactGroup]:
        return list_at_length(record, self._shared) if self._at_length else list_briefly(record)


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
