"""Tables without a format: titled columns of text, from the same rows as the page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from .view import Cell, ComparisonView, Entry, FactGroup, Form, Meeting, Row, RunView

Line = tuple[str, ...]


# Details that belong to their number: half an interval, what bounds a share of the roofline, a ratio.
_BESIDE = re.compile(r"±.*|bytes|products|\S+×")


class Kind(Enum):
    """What a column holds: numbers stand to the right, prose may be broken."""

    TEXT = "text"
    NUMBER = "number"
    PROSE = "prose"


@dataclass(frozen=True)
class Sheet:
    """A table with a title, a kind for every column, and a note below."""

    title: str
    columns: tuple[tuple[str, Kind], ...]
    lines: tuple[Line, ...]
    note: str = ""


def list_sheets(view: RunView) -> Iterator[Sheet]:
    """Yield every table of a run: claims, comparisons, cases, and the reasons for missing numbers."""
    if view.claims:
        yield _tabulate_claims(view)
    for comparison in view.comparisons:
        yield from (_tabulate_meeting(comparison, meeting) for meeting in comparison.meetings)
    yield _tabulate_cases(view)
    if view.gaps:
        yield _tabulate_gaps(view)
    for title, groups in (("Speed limit", view.limits), ("Where the time went", view.sessions)):
        if groups:
            yield _tabulate_facts(title, groups)
    if view.left_out:
        lines = tuple((gap.reason, ", ".join(gap.cases)) for gap in view.left_out)
        yield Sheet("Left out on purpose", _of(Kind.PROSE, "Reason", "What"), lines)
    if view.damage:
        damage = tuple((line,) for line in view.damage)
        yield Sheet("Lines of the run that could not be read", _of(Kind.PROSE, "Line"), damage)


def _tabulate_claims(view: RunView) -> Sheet:
    columns = (
        *_of(Kind.TEXT, "Claim", "Verdict", "Level"),
        *_of(Kind.PROSE, "What the level gives"),
        *_of(Kind.NUMBER, "Mutants refuted", "Equivalent"),
    )
    lines = tuple(
        (
            claim.name,
            claim.verdict,
            claim.level,
            claim.words,
            f"{sum(mutant.fine for mutant in claim.refuted)} of {len(claim.refuted)}",
            str(len(claim.equivalent)),
        )
        for claim in view.claims
    )
    return Sheet("Claims", columns, lines)


def _tabulate_meeting(comparison: ComparisonView, meeting: Meeting) -> Sheet:
    columns = (
        *_of(Kind.TEXT, "Operator"),
        *_of(Kind.NUMBER, "Reference", "Authors’ way", "Best measured"),
        *_of(Kind.TEXT, "Best form"),
        *_of(Kind.NUMBER, "To the fastest", *(column.title for column in meeting.columns)),
    )
    where = " ".join(part for part in (comparison.workload, comparison.dims) if part)
    title = f"{comparison.name}: {comparison.scope} at {where}, {meeting.setting}"
    lines = tuple(_write_entry(entry, meeting) for entry in meeting.entries)
    return Sheet(title, columns, lines, meeting.remark)


def _tabulate_cases(view: RunView) -> Sheet:
    cases = view.cases
    titles = {column.key: column.title for column in cases.columns}
    remarks = any(_remark(row, titles) for row in cases.rows)
    columns = (
        *_of(Kind.TEXT, "Operator", "Scope", "Implementation", "Workload"),
        *(_of(Kind.TEXT, "Setting") if cases.varying else ()),
        *_of(Kind.TEXT, "Status", "Agreement"),
        *_of(Kind.NUMBER, *(column.title for column in cases.columns)),
        *(_of(Kind.PROSE, "Remarks") if remarks else ()),
    )
    lines = tuple(
        (
            *(row.case.operator, row.case.scope, row.case.implementation, row.case.workload),
            *((row.setting,) if cases.varying else ()),
            *(row.status, row.agreement),
            *(_write(row.cells[column.key]) for column in cases.columns),
            *((_remark(row, titles),) if remarks else ()),
        )
        for row in cases.rows
    )
    common = f"Every case: {', '.join(cases.common)}. " if cases.common else ""
    return Sheet("Cases", columns, lines, f"{common}A number in brackets is that of a reason below.")


def _tabulate_facts(title: str, groups: Sequence[FactGroup]) -> Sheet:
    lines = tuple((group.title, name, value) for group in groups for name, value in group.facts)
    return Sheet(title, (*_of(Kind.TEXT, "Of", "What"), *_of(Kind.PROSE, "Value")), lines)


def _tabulate_gaps(view: RunView) -> Sheet:
    columns = (*_of(Kind.NUMBER, "No."), *_of(Kind.PROSE, "Reason"), *_of(Kind.TEXT, "Missing"))
    lines = tuple(
        (str(gap.number), gap.reason, ", ".join(gap.what), _name_cases(gap.cases, view.cases.rows))
        for gap in view.gaps
    )
    return Sheet("Missing numbers", (*columns, *_of(Kind.PROSE, "Of")), lines)


def _of(kind: Kind, *titles: str) -> tuple[tuple[str, Kind], ...]:
    return tuple((title, kind) for title in titles)


def _name_cases(names: Sequence[str], rows: Sequence[Row]) -> str:
    fine = [row.name for row in rows if row.fine]
    if len(names) > 1 and list(names) == fine:
        return f"every case with status measured ({len(names)})"
    return ", ".join(names)


def _write_entry(entry: Entry, meeting: Meeting) -> Line:
    beside = (_write(entry.cells.get(column.key, Cell())) for column in meeting.columns)
    forms = (_write_form(form) for form in entry.forms)
    return (entry.operator, *forms, entry.forms[-1].implementation, entry.ratio or "–", *beside)


def _write(cell: Cell) -> str:
    if cell.gap is not None:
        return f"– [{cell.gap}]"
    return f"{cell.text} {cell.detail}" if _BESIDE.fullmatch(cell.detail) else cell.text


def _remark(row: Row, titles: Mapping[str, str]) -> str:
    """Tell what speaks against the numbers of a row, or how they were found where that differs."""
    told = {
        title: [text for text in (cell.note, *cell.flags) if text]
        for key, title in titles.items()
        if (cell := row.cells[key])
    }
    return "; ".join(f"{title}: {', '.join(texts)}" for title, texts in told.items() if texts)


def _write_form(form: Form) -> str:
    return form.note or _write(form.cell)
