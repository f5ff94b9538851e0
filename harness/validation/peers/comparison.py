"""The comparison itself: rounds in which every tool has one turn, in an order drawn anew."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from harness.paper.errors import SameopError
from harness.paper.record import CaseId
from harness.validation.peers.observations import Notebook, Observation
from harness.validation.peers.turns import Outcome, Turn

LOADS = ("quiet", "busy")
TakeTurn = Callable[[Turn], Mapping[CaseId, Outcome]]
Loaded = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Plan:
    """How much is observed: which tools, under which loads, how often."""

    cases: tuple[CaseId, ...]
    tools: tuple[str, ...]
    loads: tuple[str, ...]
    rounds: int
    seconds: float
    allocator: str


@dataclass(frozen=True)
class Step:
    """One turn that is still to be taken."""

    load: str
    round: int
    turn: Turn


def steps(plan: Plan, notebook: Notebook) -> Iterator[Step]:
    """Yield what the notebook does not hold yet, round after round.

    The order of tools and of cases is drawn for every round from the round's own number, so that a comparison
    that goes on does so in the order that it would have had.
    """
    for number in range(plan.rounds):
        for load in plan.loads:
            draw = random.Random(f"{load} {number}")  # noqa: S311  # an order, no secret
            for tool in draw.sample(sorted(plan.tools), len(plan.tools)):
                order = draw.sample(plan.cases, len(plan.cases))
                left = tuple(case for case in order if not notebook.has(load, number, tool, case))
                if left:
                    yield Step(load, number, Turn(tool, left, plan.seconds, plan.allocator))


@dataclass
class Deadline:
    """When to stop before a turn that would end too late; a turn is taken to last as long as the longest."""

    seconds: float
    now: Callable[[], float] = time.monotonic
    _longest: float = 0.0

    def __post_init__(self) -> None:
        self._began = self._last = self.now()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now() - self._began

    def turn_ended(self) -> float:
        """Return how long the turn took that ends now."""
        before, self._last = self._last, self.now()
        self._longest = max(self._longest, self._last - before)
        return self._last - before

    @property
    def is_near(self) -> bool:
        """Whether another turn might end too late."""
        return self.elapsed + self._longest > self.seconds


def compare(
    plan: Plan,
    notebook: Notebook,
    take: TakeTurn,
    busy: Loaded,
    say: Callable[[str], None],
    deadline: Deadline,
) -> int:
    """Take the turns that are left, each written down before the next begins; return how many remain."""
    waiting = list(steps(plan, notebook))
    done = 0
    for load, group in groupby(waiting, key=lambda step: step.load):
        with busy() if load == "busy" else contextlib.nullcontext():
            for step in group:
                if deadline.is_near:
                    return len(waiting) - done
                said = _observe(step, notebook, take)
                done += 1
                seconds, left = deadline.turn_ended(), deadline.elapsed / done * (len(waiting) - done)
                place = f"round {step.round + 1} of {plan.rounds}, {load}"
                say(f"{place}, {said} in {seconds:.1f} s; all done in {left / 60:.1f} min")
    return 0


def _observe(step: Step, notebook: Notebook, take: TakeTurn) -> str:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    try:
        outcomes = take(step.turn)
    except SameopError as error:
        outcomes = {case: Outcome(None, reason=str(error)) for case in step.turn.cases}
    notebook.add([_observation(step, case, outcome, started, average) for case, outcome in outcomes.items()])
    failed = [outcome.reason for outcome in outcomes.values() if outcome.reason]
    said = f"{step.turn.tool}: {len(outcomes) - len(failed)} cases"
    return said + (f", {len(failed)} without a value ({failed[0]})" if failed else "")


def _observation(
    step: Step, case: CaseId, outcome: Outcome, started: str, average: float | None
) -> Observation:
    place = Observation(
        step.load,
        step.round,
        step.turn.tool,
        case,
        spent=outcome.spent,
        reason=outcome.reason,
        started=started,
        load_average=average,
    )
    found = outcome.estimate
    if found is None:
        return place
    return Observation(
        **{**vars(place), "value": found.value, "low": found.low, "high": found.high, "also": found.also}
    )


def complaints(notebook: Notebook) -> list[str]:
    """Name every tool and reason for which a case still has no value in some round."""
    missing = [
        one
        for one in notebook.observations
        if one.reason and not notebook.has(one.load, one.round, one.tool, one.case)
    ]
    return sorted({f"{one.tool} at {one.case}: {one.reason}" for one in missing})
