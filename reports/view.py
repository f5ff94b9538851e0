"""What a page shows, as plain values: text, sort keys and links; no template decides anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.paper.record import CaseId

from .plots import Chart

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cell:
    """One value of a table: its text, a second line, a sort key, or the number of its reason.

    ``note`` says how it was found where that differs between cases, ``flags`` what speaks against it.
    """

    text: str = "–"
    detail: str = ""
    sort: float | None = None
    gap: int | None = None
    note: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A numeric column; ``hint`` says in a few words what it holds.

    ``is_known`` says that the title is one of ours and not the name of a meter in a file.
    """

    key: str
    title: str
    hint: str
    is_known: bool = True


@dataclass(frozen=True)
class FactGroup:
    """Named facts under one title."""

    title: str
    facts: Facts


@dataclass(frozen=True)
class Witness:
    """What one independent counter said of the MACs of a case."""

    name: str
    verdict: str
    mark: str
    reason: str
    macs: float | None


@dataclass(frozen=True)
class Row:
    """One case. ``name`` is its id as written in the plan; ``anchor`` is unique on the page.

    ``said`` tells in words what its witnesses said.
    """

    name: str
    anchor: str
    case: CaseId
    dims: str
    setting: str
    status: str
    fine: bool
    agreement: str
    cells: Mapping[str, Cell]
    witnesses: Mapping[str, Witness] = field(default_factory=dict)
    said: str = ""
    facts: tuple[FactGroup, ...] = ()


@dataclass
class Gap:
    """A reason for missing numbers: which numbers, of which cases."""

    number: int
    reason: str
    what: list[str] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WitnessGroup:
    """Cases about which a witness said the same, other than that it agrees."""

    name: str
    verdict: str
    mark: str
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """A choice over one part of the case id; ``part`` is its place in the id, -1 the status."""

    part: int
    title: str
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Cases:
    """The table of all cases.

    ``common`` names the parts that every case shares, ``gaps`` the numbers of the reasons that stand in it.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    filters: tuple[Filter, ...]
    common: tuple[str, ...]
    varying: bool
    witness_names: tuple[str, ...]
    witness_groups: tuple[WitnessGroup, ...]
    empty_columns: tuple[str, ...]
    gaps: frozenset[int]


@dataclass(frozen=True)
class Form:
    """How one operator does in one form (reference, authors' way, best) within a comparison."""

    implementation: str
    cell: Cell
    rank: int | None = None
    note: str = ""
    href: str = ""


@dataclass(frozen=True)
class Entry:
    """One operator of a comparison."""

    operator: str
    forms: tuple[Form, ...]
    ratio: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Meeting:
    """The operators of a comparison in one setting, ranked by their best forms."""

    setting: str
    entries: tuple[Entry, ...]
    columns: tuple[Column, ...]
    chart: Chart | None
    remark: str


@dataclass(frozen=True)
class ComparisonView:
    """Operators that meet on one input."""

    name: str
    scope: str
    workload: str
    dims: str
    matched: str
    meetings: tuple[Meeting, ...]


@dataclass(frozen=True)
class Panel:
    """One small multiple: the forms of one operator at one workload in one setting."""

    workload: str
    dims: str
    setting: str
    chart: Chart


@dataclass(frozen=True)
class OperatorView:
    """The panels of one operator and scope, with what its page says."""

    operator: str
    scope: str
    source: str
    note: str
    formula: str
    traits: Facts
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class EvidenceRow:
    """One pass of a certificate at one shape."""

    shape: str
    what: str
    numbers: tuple[str, ...]
    backend: str


@dataclass(frozen=True)
class MutantView:
    """A nearby statement and what the same check said of it."""

    name: str
    statement: str
    drops: str
    verdict: str
    fine: bool
    share: str
    counterexample: str
    script: str
    because: str


@dataclass(frozen=True)
class ClaimView:
    """A claim with its level in words that promise no more than the level gives."""

    name: str
    anchor: str
    statement: str
    kind: str
    source: str
    operators: tuple[str, ...]
    conditions: tuple[str, ...]
    verdict: str
    fine: bool
    level: str
    words: str
    corrects: str
    counterexample: str
    script: str
    evidence: tuple[EvidenceRow, ...]
    refuted: tuple[MutantView, ...]
    equivalent: tuple[MutantView, ...]
    seconds: str


@dataclass(frozen=True)
class RunView:
    """Everything that the page shows of one run."""

    number: int
    name: str
    prefix: str
    subtitle: tuple[str, ...]
    summary: Facts
    provenance: tuple[FactGroup, ...]
    limits: tuple[FactGroup, ...]
    sessions: tuple[FactGroup, ...]
    claims: tuple[ClaimView, ...]
    comparisons: tuple[ComparisonView, ...]
    operators: tuple[OperatorView, ...]
    cases: Cases
    gaps: tuple[Gap, ...]
    left_out: tuple[Gap, ...]
    damage: tuple[str, ...]
    methods: tuple[str, ...]
