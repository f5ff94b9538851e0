"""What a notebook amounts to: the tables, the document, and how the command ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.paper.errors import Exit
from harness.validation.peers.comparison import Plan, complaints
from harness.validation.peers.observations import Notebook
from harness.validation.peers.roster import OURS
from harness.validation.peers.tables import agreement_lines, spread_lines
from harness.validation.peers.verdicts import (
    SHARE,
    Agreement,
    Spread,
    SpreadVerdict,
    agreements,
    judge_spreads,
    spreads,
)


@dataclass(frozen=True)
class Summary:
    """Both tables with their verdicts. complaints: why some observation is missing."""

    peers: Sequence[str]
    agreed: Sequence[Agreement]
    spread: Mapping[str, Sequence[Spread]]
    judged: Mapping[str, Sequence[SpreadVerdict]]
    complaints: Sequence[str]

    @property
    def exit(self) -> Exit:
        """Pass where everything wanted holds, inconclusive where too little was observed to tell."""
        undecided = [one for one in self.agreed if one.is_undecided]
        if self.complaints or undecided or not all(self.judged.values()):
            return Exit.INCONCLUSIVE
        agree = sum(one.agrees for one in self.agreed) >= SHARE * len(self.agreed)
        hold = all(one.holds for group in self.judged.values() for one in group)
        return Exit.PASS if agree and hold else Exit.FAILED

    @property
    def lines(self) -> list[str]:
        """The tables as text."""
        lines = agreement_lines(self.agreed, self.peers) if self.agreed else []
        for load, found in self.spread.items():
            lines += ["", *spread_lines(found, self.judged[load])]
        return [*lines, *(f"Without a value: {line}." for line in self.complaints)]

    @property
    def document(self) -> Mapping[str, Any]:
        """The tables for a program."""
        return {
            "agreement": [
                {**asdict(one), "case": str(one.case), "verdict": one.verdict, "agrees": one.agrees}
                for one in self.agreed
            ],
            "spread": [asdict(one) for group in self.spread.values() for one in group],
            "verdicts": [
                {**asdict(one), "holds": one.holds} for group in self.judged.values() for one in group
            ],
            "without_a_value": list(self.complaints),
            "exit": int(self.exit),
        }


def summarise(plan: Plan, notebook: Notebook) -> Summary:
    """Judge what a notebook holds of a plan."""
    peers = [tool for tool in plan.tools if tool != OURS]
    compared = "quiet" in plan.loads and OURS in plan.tools and peers
    found = {load: spreads(notebook, load, plan.cases, plan.tools) for load in plan.loads}
    return Summary(
        peers,
        agreements(notebook, plan.cases, peers) if compared else [],
        found,
        {load: judge_spreads(group, peers) for load, group in found.items()},
        complaints(notebook),
    )
