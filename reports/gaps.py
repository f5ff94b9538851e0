"""Missing numbers: each distinct reason once, numbered, with what it is the reason for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .view import Gap


class Gaps:
    """Collects reasons while a page is built; the number of a reason is what a cell refers to."""

    def __init__(self) -> None:
        self._by_reason: dict[str, Gap] = {}

    def note(self, reason: str, what: str, case: str) -> int:
        """Add a missing number and return the number of its reason."""
        gap = self._by_reason.setdefault(reason, Gap(len(self._by_reason) + 1, reason))
        if what not in gap.what:
            gap.what.append(what)
        # The numbers of one case are noted in a row, so a look at the last one finds every repetition.
        if gap.cases[-1:] != [case]:
            gap.cases.append(case)
        return gap.number

    @property
    def entries(self) -> tuple[Gap, ...]:
        """The reasons in the order of their numbers."""
        return tuple(self._by_reason.values())


def group_left_out(entries: Iterable[Mapping[str, Any]]) -> tuple[Gap, ...]:
    """Group what a run left out on purpose by its reason."""
    gaps = Gaps()
    for entry in entries:
        gaps.note(str(entry.get("reason", "no reason was recorded")), "", str(entry.get("what", "unnamed")))
    return gaps.entries
