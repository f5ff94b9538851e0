"""Survey: which cases both sides have, and which of them can be compared; nothing is timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.bench.twins.inspection import Inspection
from harness.bench.twins.twins import Grove
from harness.paper.gate.outcome import CaseOutcome, Verdict
from harness.paper.record import CaseId, Status

BASE, HEAD = "base", "head"
_BOTH = (BASE, HEAD)


@dataclass(frozen=True)
class Choice:
    """Which cases to compare: those of a preset and a device whose names match."""

    preset: str = "quick"
    device: str = "all"
    match: str = "*"


@dataclass
class Survey:
    """What both sides have. decided: cases without a time to compare. known: inspections of all others.

    left_out: why a side has no case at all, by its name.
    """

    decided: list[CaseOutcome] = field(default_factory=list)
    known: dict[CaseId, Mapping[str, Inspection]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, case: CaseId, verdict: Verdict, reason: str, counts: Any = None) -> None:
        """Decide a case."""
        self.decided.append(CaseOutcome(str(case), verdict, reason, counts=counts or {}))


def survey(grove: Grove, choice: Choice, told: Callable[[str], None]) -> Survey:
    """Ask both sides for their cases, and inspect what both have. told: is told each name beforehand."""
    found = Survey()
    sides = {side: _cases(grove, side, choice, found) for side in _BOTH}
    for case in sides[BASE]:
        if case not in sides[HEAD]:
            found.add(case, Verdict.MISSING, "base has it and head has not: it was renamed or deleted.")
    for case, workload in sides[HEAD].items():
        told(str(case))
        if case not in sides[BASE]:
            _inspect_new(grove, case, found, "base has no such case")
        elif change := first_difference(sides[BASE][case], workload):
            found.add(case, Verdict.CHANGED, f"it keeps its name and measures something else: {change}.")
        else:
            _inspect(grove, case, found)
    return found


def _cases(grove: Grove, side: str, choice: Choice, found: Survey) -> dict[CaseId, Mapping[str, Any]]:
    answer = grove.list(side, choice.preset, choice.device, choice.match)
    if answer.get("left_out"):
        found.left_out[side] = answer["left_out"]
    return {CaseId(**entry["case"]): entry["workload"] for entry in answer.get("cases", ())}


def _inspect_new(grove: Grove, case: CaseId, found: Survey, why: str) -> None:
    """Head alone has a number; it must be sound all the same."""
    inspected = grove.inspect(case, (HEAD,))[HEAD]
    if inspected.is_sound:
        found.add(case, Verdict.NEW, f"{why}, so that there is nothing to compare with.", _counts(inspected))
    else:
        found.add(case, *_unsound(inspected))


def _inspect(grove: Grove, case: CaseId, found: Survey) -> None:
    inspected = grove.inspect(case, _BOTH)
    base, head = inspected[BASE], inspected[HEAD]
    if not head.is_sound:
        found.add(case, *_unsound(head))
    elif not base.is_sound:
        reason = f"base has no sound number ({base.reason}), so that there is nothing to compare with."
        found.add(case, Verdict.NEW, reason)
    elif base.bits != head.bits and not (judged := _match(grove, case))["agrees"]:
        reason = f"head computes another function than base: judged by base's reference, {judged['because']}"
        found.add(case, Verdict.CHANGED, reason)
    else:
        found.known[case] = inspected


def _match(grove: Grove, case: CaseId) -> Mapping[str, Any]:
    answer = grove.inspector(HEAD).match(case, grove.inspector(BASE))
    return {"agrees": False, "because": answer.get("reason"), **answer}


def _unsound(inspected: Inspection) -> tuple[Verdict, str]:
    wrong = inspected.answer["status"] in (Status.DISAGREED, Status.NONDETERMINISTIC)
    return Verdict.DISAGREED if wrong else Verdict.BROKEN, inspected.reason


def _counts(inspected: Inspection) -> dict[str, Mapping[str, float]]:
    return {HEAD: inspected.counts}


def first_difference(base: Any, head: Any, where: str = "") -> str:
    """Say where two descriptions differ first, empty where they are equal."""
    if isinstance(base, Mapping) and isinstance(head, Mapping):
        for key in dict.fromkeys([*base, *head]):
            place = f"{where} {key}".strip()
            if found := first_difference(base.get(key), head.get(key), place):
                return found
        return ""
    return "" if base == head else f"{where} is {base} in base and {head} in head"
