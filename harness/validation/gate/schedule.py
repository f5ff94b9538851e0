"""The schedule: which trials there are, in an order in which every beginning is a fair part of the whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.validation.gate.noops import NOOPS

SAME, PLANT = "same", "plant"


@dataclass(frozen=True)
class Trial:
    """One run of the gate over the suite. kind: on a head that changes nothing, or on one with plants."""

    kind: str
    load: str
    number: int

    @property
    def name(self) -> str:
        """What it is called in the notebook."""
        return f"{self.kind}/{self.load}/{self.number}"

    def dice(self, seed: str, what: str) -> random.Random:
        """Return what decides something of this trial; the same in every run of the same validation."""
        return random.Random(f"{seed}/{self.name}/{what}")  # noqa: S311  # a lot, no secret

    def seed(self, seed: str) -> str:
        """Return what decides its plants."""
        return f"{seed}/{self.name}/plants"

    @property
    def noop(self) -> str:
        """The kind of change that changes nothing, each in its turn."""
        return list(NOOPS)[self.number % len(NOOPS)]


def schedule(suites: int, plants: int, loads: Sequence[str]) -> list[Trial]:
    """Return so many trials of either kind, the loads in turn and the kinds evenly mixed."""
    counts = {SAME: suites, PLANT: plants}
    placed = [
        ((place + 0.5) / count, Trial(kind, loads[place % len(loads)], place // len(loads)))
        for kind, count in counts.items()
        for place in range(count)
    ]
    return [trial for _, trial in sorted(placed, key=lambda pair: (pair[0], pair[1].kind == PLANT))]
