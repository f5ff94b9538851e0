"""The findings as tables: the same rows for the terminal, for Markdown, and as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import exp, inf, isfinite
from typing import Any

from harness.paper.gate.policy import Policy
from harness.validation.gate.exact import Mean, Share
from harness.validation.gate.findings import (
    BLIND,
    FOUND,
    MISSED,
    OPEN,
    Findings,
    Row,
    confusion,
    rival_finds,
)
from harness.validation.gate.frozen import Frozen
from harness.validation.gate.promises import Promise, exit_of, promises

Cells = Sequence[str]
# Fewer suites than this bound the rate of false alarms at no less than five percent.
_FEW = 59


@dataclass(frozen=True)
class Table:
    """A table under a heading, with sentences below it."""

    title: str
    head: Cells
    rows: Sequence[Cells]
    notes: Sequence[str] = ()

    def as_text(self) -> list[str]:
        """Return lines for a terminal."""
        every = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in every) for column in range(len(self.head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in every
        ]
        return [self.title, *lines, *self.notes, ""]

    def as_markdown(self) -> list[str]:
        """Return lines of Markdown."""
        rows = [self.head, ["---"] * len(self.head), *self.rows]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
        notes = [line for note in self.notes for line in ("", note)]
        return [f"## {self.title}", "", *lines, *notes, ""]


@dataclass(frozen=True)
class Report:
    """Everything that is told of a validation."""

    findings: Findings
    promises: Sequence[Promise]
    policy: Policy
    frozen: Frozen

    @classmethod
    def of(cls, findings: Findings, policy: Policy, frozen: Frozen) -> Report:
        """Judge the findings."""
        return cls(findings, promises(findings, policy), policy, frozen)

    @property
    def tables(self) -> list[Table]:
        """The tables in the order in which they are read."""
        found = self.findings
        tables = [_promises(self.promises), _suites(found), _confusion(confusion(found.planted))]
        tables += [_alarms(found)] if found.alarms else []
        tables += [_rivals(found, self.policy.detect)] if found.rival_suites else []
        return [*tables, _symmetry(found)] if found.symmetry else tables

    @property
    def text(self) -> str:
        """What a terminal shows."""
        return "\n".join(line for table in self.tables for line in table.as_text())

    @property
    def markdown(self) -> str:
        """The same for a page."""
        lines = ["# Validation of the gate", "", self.what_was_frozen, ""]
        return "\n".join([*lines, *(line for table in self.tables for line in table.as_markdown())])

    @property
    def what_was_frozen(self) -> str:
        """A sentence about what was fixed beforehand."""
        return (
            f"Frozen before the first trial: SHA-256 {self.frozen.digest} of the policy, the sources, the "
            f"plan, the cases and the machine; seed {self.frozen.seed}."
        )

    @property
    def document(self) -> dict[str, Any]:
        """The same for a program."""
        found = self.findings
        return {
            "frozen": asdict(self.frozen),
            "promises": [asdict(promise) for promise in self.promises],
            "suites": {load: _document(share) for load, share in found.suites.items()},
            "all_suites": _document(found.all_suites),
            "changes": {change: _document(share) for change, share in found.changes.items()},
            "alarms": [asdict(alarm) for alarm in found.alarms],
            "confusion": [
                {
                    "load": row.load,
                    "kind": row.kind,
                    "from": _finite(row.low),
                    "to": _finite(row.high),
                    "answers": row.answers,
                    "found": _document(row.found),
                }
                for row in confusion(found.planted)
            ],
            "planted": [asdict(one) for one in found.planted],
            "insensitive": {load: _document(share) for load, share in found.insensitive.items()},
            "seconds_per_case": {load: _mean(mean) for load, mean in found.seconds_per_case.items()},
            "controls_not_as_expected": {kind: _document(share) for kind, share in found.controls.items()},
            "symmetry": [{**asdict(one), "mean": _mean(one.mean)} for one in found.symmetry],
            "lean": _mean(found.lean) if found.lean else None,
            "peers": {
                "alarms_per_suite": {name: _document(share) for name, share in found.rival_suites.items()},
                "found_and_false": {
                    name: {"found": _document(slower), "false": _document(unchanged)}
                    for name, (slower, unchanged) in rival_finds(found.planted, self.policy.detect).items()
                },
            },
            "exit": int(exit_of(self.promises)),
        }


def earned(share: Share) -> str:
    """Say what so many suites bound."""
    small = "" if share.total >= _FEW else "; that is few, and says little"
    return f"{share.count} of {share.total} suites: at most {share.high():.2g} of all (95 %){small}"


def _promises(found: Sequence[Promise]) -> Table:
    rows = [(promise.wanted, promise.seen, promise.state) for promise in found]
    return Table("Promises", ("promise", "seen", "state"), rows)


def _suites(found: Findings) -> Table:
    rows = [
        (
            load,
            f"{share.count} of {share.total}",
            _percent(share.high()),
            _share(found.insensitive[load]),
            f"{found.seconds_per_case[load].value:.1f}" if load in found.seconds_per_case else "–",
        )
        for load, share in found.suites.items()
    ]
    notes = [f"False alarms earned by all loads together: {earned(found.all_suites)}."]
    notes += [f"By change: {'; '.join(f'{name} {_count(share)}' for name, share in found.changes.items())}."]
    notes += [f"Controls not as expected: {kind} {_count(share)}." for kind, share in found.controls.items()]
    head = ("load", "alarms", "at most (95 %)", "insensitive cases", "s a case")
    return Table("Suites in which nothing was changed", head, rows, notes)


def _confusion(rows: Sequence[Row]) -> Table:
    cells = []
    for row in rows:
        others = sum(n for answer, n in row.answers.items() if answer not in (FOUND, MISSED, BLIND, OPEN))
        counts = [str(row.answers.get(answer, 0)) for answer in (FOUND, MISSED, BLIND, OPEN)]
        low, high = row.found.interval
        cells.append(
            (row.load, row.kind, _class(row), *counts, str(others), f"{_percent(low)} to {_percent(high)}")
        )
    notes = [
        "True sizes are measured beside the gate: by the CPU clock, for a sleep by the wall; those of an "
        "allocation are shares of peak memory. Intervals: Clopper and Pearson.",
    ]
    head = ("load", "planted", "true size", FOUND, MISSED, BLIND, OPEN, "other", "found (95 %)")
    return Table("Plants", head, cells, notes)


def _alarms(found: Findings) -> Table:
    rows = [(alarm.trial, alarm.change, str(alarm.exit), alarm.cause) for alarm in found.alarms]
    return Table("Alarms without a change", ("trial", "change", "exit", "cause"), rows)


def _rivals(found: Findings, detect: float) -> Table:
    finds = rival_finds(found.planted, detect)
    none = Share(0, 0)
    rows = [
        (name, _share(share), *(_share(part) for part in finds.get(name, (none, none))))
        for name, share in found.rival_suites.items()
    ]
    notes = [
        "asv and pyperf judge the rounds of pytest-benchmark, in the same time slices; their own processes "
        "would see more of the machine. An alarm of the gate is any exit code but 0."
    ]
    head = (
        "rule",
        "suites without a change that alarm",
        f"slowdowns ≥ {detect:.0%} found",
        "false, of unchanged",
    )
    return Table("Side by side", head, rows, notes)


def _symmetry(found: Findings) -> Table:
    rows = [
        (
            one.case,
            str(one.numbers),
            _percent(one.positive / one.numbers),
            f"{one.p:.2g}",
            f"{exp(one.mean.value) - 1:+.2%}",
            f"{one.mean.low:+.2%} to {one.mean.high:+.2%}" if isfinite(one.mean.low) else "–",
        )
        for one in found.symmetry
    ]
    head = ("case", "pairs", "head slower", "p of the signs", "mean", "95 %, by suite")
    return Table("Which side looks slower where nothing was changed", head, rows)


def _class(row: Row) -> str:
    if row.low == row.high:
        return "none"
    if row.low == -inf:
        return "not measured" if row.high == inf else f"below {row.high:+.1%}"
    return f"above {row.low:.1%}" if row.high == inf else f"{row.low:.1%} to {row.high:.1%}"


def _share(share: Share) -> str:
    if not share.total:
        return "–"
    low, high = share.interval
    return f"{_count(share)} ({_percent(low)} to {_percent(high)})"


def _count(share: Share) -> str:
    return f"{share.count} of {share.total}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _document(share: Share) -> dict[str, Any]:
    low, high = share.interval
    bound = {"low": low, "high": high, "at_most_95": share.high()}
    return {"count": share.count, "total": share.total, **bound}


def _mean(mean: Mean) -> dict[str, Any]:
    return {"mean": mean.value, "low": _finite(mean.low), "high": _finite(mean.high), "count": mean.count}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
