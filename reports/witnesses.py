"""The independent counts of MACs, and what they said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.paper.record import Record

from .trust import reading_of
from .view import Row, Witness, WitnessGroup

_NAMES = {"ones_probe": "ones-probe", "flop_counter": "FlopCounter", "fvcore": "fvcore"}
_MARKS = {"agrees": "✓", "explained": "≈", "unexplained": "✗", "not counted": "○"}


def list_witnesses(record: Record) -> dict[str, Witness]:
    """Return the witnesses of a case's MACs by name, none where the count may not be shown."""
    facts = reading_of(record, "macs").facts.get("witnesses")
    if not isinstance(facts, Mapping):
        return {}
    found = [_witness(name, said) for name, said in facts.items() if isinstance(said, Mapping)]
    return {witness.name: witness for witness in found}


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
