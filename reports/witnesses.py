"""The independent counts of MACs, and what they said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.paper.record import Record

from .facts import number_in, part_in
from .trust import reading_of
from .view import Row, Witness, WitnessGroup

_NAMES = {"ones_probe": "ones-probe", "flop_counter": "FlopCounter", "fvcore": "fvcore"}
_MARKS = {"agrees": "✓", "explained": "≈", "unexplained": "✗", "not counted": "○"}
# Counts closer than this are the same, as for the witnesses themselves.
_SAME_WITHIN = 1e-3


@dataclass(frozen=True)
class Executed:
    """The MACs that a program executes, or the reason why that is not known; and how many are useful."""

    macs: float | None
    useful: float
    reason: str


def executed_of(record: Record) -> Executed:
    """Return what a counter of products saw the program do, where it saw at least what the formula needs.

    Useful are the products inside the map; a counter that sees fewer has missed some.
    """
    reading = reading_of(record, "macs")
    said = part_in(part_in(reading.facts, "witnesses"), "flop_counter")
    if reading.value is None or not reading.value:
        return Executed(None, 0.0, reading.reason or "the operator has no MACs")
    useful = number_in(reading.facts, "in_bounds") or reading.value
    macs, reason = number_in(said, "macs"), str(said.get("reason") or "no reason was recorded")
    if not said:
        return Executed(None, useful, "no counter of products saw the program")
    if macs is None:
        return Executed(None, useful, f"FlopCounter did not count: {reason}")
    if macs < useful * (1 - _SAME_WITHIN):
        return Executed(None, useful, f"FlopCounter sees fewer products than the formula has: {reason}")
    return Executed(macs, useful, "")


def list_witnesses(record: Record) -> dict[str, Witness]:
    """Return the witnesses of a case's MACs by name, none where the count may not be shown."""
    facts = part_in(reading_of(record, "macs").facts, "witnesses")
    found = [_witness(name, said) for name, said in facts.items() if isinstance(said, Mapping)]
    return {witness.name: witness for witness in found}


def say_witnesses(witnesses: Mapping[str, Witness]) -> str:
    """Say what the witnesses said: those that agree, and then the others, by name."""
    if not witnesses:
        return "none"
    others = [
        f"{name} {witness.verdict}" for name, witness in witnesses.items() if witness.verdict != "agrees"
    ]
    if not others:
        return "all agree"
    return ", ".join(others) + (", others agree" if len(others) < len(witnesses) else "")


def _witness(name: str, said: Mapping[str, Any]) -> Witness:
    verdict = str(said.get("verdict", "not counted"))
    reason = str(said.get("reason") or "no reason was recorded")
    return Witness(_NAMES.get(name, name), verdict, _MARKS.get(verdict, "?"), reason, said.get("macs"))


def group_witnesses(rows: Iterable[Row]) -> tuple[WitnessGroup, ...]:
    """Group everything that a witness said other than "agrees" by its reason."""
    cases: dict[Witness, list[str]] = {}
    for row in rows:
        for witness in row.witnesses.values():
            if witness.verdict != "agrees":
                key = Witness(witness.name, witness.verdict, witness.mark, witness.reason, None)
                cases.setdefault(key, []).append(row.name)
    order = {"unexplained": 0, "explained": 1, "not counted": 2}
    ranked = sorted(cases, key=lambda key: order.get(key.verdict, 0))
    return tuple(
        WitnessGroup(key.name, key.verdict, key.mark, key.reason, tuple(cases[key])) for key in ranked
    )
