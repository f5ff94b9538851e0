"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from harness.paper.units import format_seconds
from harness.paper.verdicts import Compared


def catalogue_tables(description: Mapping[str, Any]) -> list[Table]:
    """Return one table each for operators, claims and comparisons."""
    operators = _table("operators", "operator", "scopes", "implementations", "workloads", "source")
    for entry in description["operators"]:
        names = ", ".join(found["name"] for found in entry["implementations"])
        _add(
            operators,
            entry["name"],
            ", ".join(entry["scopes"]),
            names,
            len(entry["workloads"]),
            entry["source"],
        )
    claims = _table("claims", "claim", "kind", "statement")
    for entry in description["claims"]:
        _add(claims, entry["name"], entry["kind"], entry["statement"])
    comparisons = _table("comparisons", "comparison", "scope", "operators", "workloads")
    for entry in description["comparisons"]:
        shared = ", ".join(entry["workloads"])
        _add(comparisons, entry["name"], entry["scope"], ", ".join(entry["operators"]), shared)
    return [operators, claims, comparisons]


def comparison_table(rows: Sequence[Compared]) -> Table:
    """Return the table of two runs: times, their ratio with its interval, and the verdict."""
    table = _table("after ÷ before", "case", "before", "after", "ratio", "interval", "verdict", "because")
    for row in rows:
        interval = f"{row.low:.3f} to {row.high:.3f}" if row.low and row.high else ""
        ratio = f"{row.ratio:.3f}" if row.ratio else ""
        _add(table, row.case, _time(row.before), _time(row.after), ratio, interval, row.verdict, row.reason)
    return table


def doctor_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """Return what the doctor found."""
    table = _table("doctor", "what", "found", "advice")
    for finding in findings:
        _add(table, finding["what"], finding["found"], finding["advice"] or "fine")
    return table


_NAMES = ("operator", "claim", "comparison")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        # Names are copied into commands: they stay on one line.
        table.add_column(column, overflow="fold", no_wrap=column in _NAMES)
    return table


def _add(table: Table, *cells: object) -> None:
    # Text, not str: names are data, and rich would read [brackets] in them as markup.
    table.add_row(*(Text(str(cell)) for cell in cells))


def _time(seconds: float | None) -> str:
    return "" if seconds is None else format_seconds(seconds)
