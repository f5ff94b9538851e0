"""The two tables, as text."""

from __future__ import annotations

from collections.abc import Sequence

from harness.paper.record import CaseId
from harness.paper.units import format_seconds
from harness.validation.peers.roster import OURS
from harness.validation.peers.verdicts import (
    SHARE,
    WANTED,
    Agreement,
    Interval,
    Spread,
    SpreadVerdict,
)

_MEASURES = {"deviation": "relative standard deviation", "quartiles": "interquartile range over median"}


def agreement_lines(found: Sequence[Agreement], peers: Sequence[str]) -> list[str]:
    """Return the table of agreement, one line an operator."""
    rows = [["operator", OURS, *(f"{peer} (diff.)" for peer in peers), "verdict"]]
    for one in found:
        cells = [_cell(one.peers[peer], one.difference(peer)) for peer in peers]
        rows.append([_short(one.case), _cell(one.ours, None), *cells, one.verdict])
    agreeing = sum(one.agrees for one in found)
    share = f"{agreeing} of {len(found)} operators agree; wanted are {SHARE:.0%}."
    return [*_aligned(rows), share, "Intervals: Student's t over the logarithms of the rounds, 95 %."]


def spread_lines(found: Sequence[Spread], verdicts: Sequence[SpreadVerdict]) -> list[str]:
    """Return the table of spreads under one load, one line a tool."""
    if not found:
        return ["Spreads need three rounds of a tool; --rounds and --minutes give more."]
    rows = [["load", "tool", "rounds", "operators", "std. dev.", "quartiles", "against quiet", "s a case"]]
    rows += [
        [
            one.load,
            one.tool,
            str(one.rounds),
            str(one.cases),
            f"{one.deviation:.2%}",
            f"{one.quartiles:.2%}",
            "" if one.bias is None else f"{one.bias:+.1%}",
            "" if one.spent is None else f"{one.spent:.2f}",
        ]
        for one in found
    ]
    return [*_aligned(rows), *(_sentence(verdict) for verdict in verdicts)]


def _sentence(verdict: SpreadVerdict) -> str:
    times = f"{verdict.ours / verdict.best:.2f} times" if verdict.best else "more than none of"
    longer = "" if verdict.is_fair else f", but it took {verdict.longer:.1f} times as long"
    return (
        f"{verdict.load}, {_MEASURES[verdict.measure]}: {OURS}'s is {times} that of {verdict.best_tool}, the "
        f"best peer{longer}; wanted is at most {WANTED[verdict.load]:g} times, in the same time: "
        f"{'holds' if verdict.holds else 'does not hold'}."
    )


def _cell(found: Interval | None, difference: float | None) -> str:
    if found is None:
        return "–"
    told = "" if difference is None else f" ({difference:+.1%})"
    return f"{format_seconds(found.value)} ±{found.half_width:.1%}{told}"


def _short(case: CaseId) -> str:
    return f"{case.operator}/{case.implementation}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
