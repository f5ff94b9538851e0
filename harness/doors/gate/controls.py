"""Controls: contests whose answer is known, measured among the others in every run of the gate."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from harness.bench.twins.called import Called
from harness.bench.twins.pair import SideFailedError
from harness.bench.twins.side import Side
from harness.bench.twins.twins import Grove, Twins
from harness.doors.gate.checkouts import Checkouts
from harness.doors.gate.contests import Contest
from harness.doors.gate.planting import NotPlantedError, plant
from harness.doors.gate.survey import BASE, HEAD, Survey
from harness.paper.gate.policy import Policy
from harness.paper.record import CaseId, Status

AGAIN, PLANT = "again", "plant"
# What is planted is exact to half a microsecond: reading the clock takes as long.
_SMALLEST_PLANT = 5_000


@dataclass(frozen=True)
class Controls:
    """Sets up base against itself, and head against a copy of head that was made slower."""

    checkouts: Checkouts
    twins: Twins
    policy: Policy

    def choose(self, grove: Grove, found: Survey, dice: random.Random) -> list[Contest]:
        """Return the controls of a run, on cases that chance chooses; none where no case is sound."""
        cases = dice.sample(list(found.known), len(found.known))
        if not cases:
            return []
        return [self._again(cases[0], found), *self._planted(cases, grove, found)]

    def _again(self, case: CaseId, found: Survey) -> Contest:
        base = self.twins.sides[BASE]
        self.twins.sides[AGAIN] = replace(base, name=AGAIN, like=BASE)
        known = {BASE: found.known[case][BASE], AGAIN: found.known[case][BASE]}
        return Contest(case, (BASE, AGAIN), known, self._threads(case), kind="A/A")

    def _planted(self, cases: list[CaseId], grove: Grove, found: Survey) -> list[Contest]:
        """Plant into the first case that runs a function of the project's own."""
        for case in cases:
            try:
                side = self._plant(case, grove, found)
            except (NotPlantedError, SideFailedError):
                continue
            self.twins.sides[PLANT] = side
            known = {HEAD: found.known[case][HEAD], PLANT: found.known[case][HEAD]}
            threads, planted = self._threads(case), self.policy.plant
            return [Contest(case, (HEAD, PLANT), known, threads, kind="plant", planted=planted)]
        return []

    def _plant(self, case: CaseId, grove: Grove, found: Survey) -> Side:
        """Write a copy of head in which one call of the case takes longer by the planted share."""
        head = self.twins.sides[HEAD]
        answer = grove.inspector(HEAD, self._threads(case)).called(case)
        if answer["status"] != Status.MEASURED:
            raise NotPlantedError(str(answer["reason"]))
        called = [Called(**entry) for entry in answer["called"]]
        seconds = grove.measure(case, (BASE, HEAD), found.known[case], self._threads(case)).seconds
        nanoseconds = round(seconds * self.policy.plant * 1e9)
        if nanoseconds < _SMALLEST_PLANT:
            raise NotPlantedError(f"{case} is too fast for a plant of a known size: choose another case.")
        copy = self.checkouts.copy(self.checkouts.head, PLANT)
        moved = {path: copy.copy / path.relative_to(head.root) for path in (*head.folders, *head.paths)}
        plant(
            copy.copy,
            called,
            nanoseconds,
            [moved[folder] for folder in head.folders],
        )
        return Side(
            name=PLANT,
            root=copy.copy,
            folders=tuple(moved[folder] for folder in head.folders),
            paths=tuple(moved[path] for path in head.paths),
            caches=copy.caches,
            foreign=(*head.foreign, head.root),
            like=HEAD,
        )

    def _threads(self, case: CaseId) -> int:
        return self.policy.for_case(str(case)).threads
