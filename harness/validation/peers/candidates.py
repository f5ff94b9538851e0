"""Which cases are compared: operators of the catalogue, evenly spread over how long a call takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from harness.paper.errors import NothingToMeasureError
from harness.paper.record import CaseId

if TYPE_CHECKING:
    from harness.bench.catalog import Catalogue

SHORTEST, LONGEST = 50e-6, 20e-3


def offered(catalogue: Catalogue, patterns: Sequence[str]) -> list[CaseId]:
    """List the quick cases on the CPU of the operators that match: one workload each, best eager form."""
    from harness.bench.case import Selection, plan_cases

    found = [case.id for case in plan_cases(catalogue, Selection(preset="quick", device="cpu")).cases]
    return matching(found, patterns)


def matching(cases: Sequence[CaseId], patterns: Sequence[str]) -> list[CaseId]:
    """Keep the cases of operators that match one of the patterns."""
    kept = [case for case in cases if any(fnmatch(case.operator, pattern) for pattern in patterns)]
    if not kept:
        raise NothingToMeasureError(
            f"No operator is called {' or '.join(patterns)}: `sameop list` shows the names."
        )
    return kept


def spread_out(seconds: Mapping[CaseId, float], count: int) -> list[CaseId]:
    """Choose at most ``count`` cases, each of another operator, evenly over the logarithm of their time.

    Nothing but a first rough time decides, so that no case is chosen for how well it can be measured.
    """
    left = {case: time for case, time in seconds.items() if SHORTEST <= time <= LONGEST}
    chosen: list[CaseId] = []
    for step in range(count):
        if not left:
            break
        goal = SHORTEST * (LONGEST / SHORTEST) ** ((step + 0.5) / count)
        nearest = min(left, key=lambda case: (max(left[case] / goal, goal / left[case]), str(case)))
        chosen.append(nearest)
        left = {case: time for case, time in left.items() if case.operator != nearest.operator}
    return sorted(chosen, key=lambda case: seconds[case])
