"""A run of the gate: two checkouts, a survey, controls, contests, and what all of it means."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from harness.bench.machine import machine_facts
from harness.bench.twins.side import Side
from harness.bench.twins.trunk import SideRefusedError
from harness.bench.twins.twins import Twins, TwinSettings
from harness.doors.gate.building import build
from harness.doors.gate.checkouts import Checkout, Checkouts, check_out
from harness.doors.gate.contests import Contest, Contestants
from harness.doors.gate.controls import AGAIN, Controls
from harness.doors.gate.installed import installed_from
from harness.doors.gate.survey import BASE, HEAD, Choice, Survey, survey
from harness.doors.project import Project, find_project
from harness.paper.errors import Exit, NothingToMeasureError, SameopError
from harness.paper.gate.controls import apply_controls, judge_plant, judge_same
from harness.paper.gate.outcome import ControlOutcome, GateOutcome
from harness.paper.gate.policy import Policy
from harness.paper.gate.rule import Rule

Tell = Callable[[str], None]
# What a case takes on average says little of one whose numbers scatter; cutting it short answers nothing.
_PATIENCE = 4.0
# Fresh interpreters take this long in all, however few cases there are.
_STARTING_SECONDS = 150.0


class BaseRefusedError(SameopError):
    """A base that does not import."""

    exit = Exit.BASELINE


class HeadRefusedError(SameopError):
    """A head that does not import."""

    exit = Exit.FAILED


@dataclass(frozen=True)
class Request:
    """What a gate is asked.

    base and head: names of commits; without a head the worktree as it stands. budget: seconds of the whole,
    None for what the policy grants. seed: of all that is left to chance.
    """

    base: str
    head: str | None = None
    choice: Choice = field(default_factory=Choice)
    budget: float | None = None
    seed: int = 0


def run_gate(project: Project, policy: Policy, request: Request, today: date, tell: Tell) -> GateOutcome:
    """Compare head with base. Raises :class:`SameopError` where there is nothing to compare."""
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    with check_out(project.root, request.base, request.head) as checkouts:
        for checkout in (checkouts.base, checkouts.head):
            build(checkout, policy.build)
        twins = _twins(checkouts, policy, request.seed)
        dice = random.Random(request.seed)  # noqa: S311  # an order, no secret
        with _refusals(), twins.grove((BASE, HEAD), judging=True) as grove:
            found = survey(grove, request.choice, lambda name: tell(f"judging  {name}"))
            _demand_cases(found, request)
            controls = Controls(checkouts, twins, policy).choose(grove, found, dice)
        contests = [
            Contest(case, (BASE, HEAD), known, policy.for_case(str(case)).threads)
            for case, known in found.known.items()
        ]
        rule = Rule(policy, len(contests), len(controls), today)
        everyone = [*contests, *controls]
        budget = request.budget or _STARTING_SECONDS + _PATIENCE * policy.seconds_per_case * len(everyone)
        with _refusals():
            Contestants(twins, rule, began + budget, tell).run(everyone)
        judged = [_judge(control, policy) for control in controls]
        cases = [*found.decided, *apply_controls([contest.outcome() for contest in contests], judged, policy)]
        return GateOutcome(
            base=checkouts.base.as_json(),
            head=checkouts.head.as_json(),
            machine=machine_facts(),
            policy={**policy.as_json(), "digest": policy.digest},
            twins={
                "how": "started" if twins.reason else "forked",
                "reason": twins.reason,
                "seed": str(request.seed),
            },
            cases=sorted(cases, key=lambda case: case.name),
            controls=judged,
            insensitive_share=policy.insensitive_share,
            started=started,
            seconds=time.monotonic() - began,
            notes=[*_notes(checkouts, controls), *policy.remarks([case.name for case in cases], today)],
        )


def _twins(checkouts: Checkouts, policy: Policy, seed: int) -> Twins:
    most = max([1, *(int(table.settings.get("threads", 1)) for table in policy.cases)])
    sides = {
        checkout.name: side_of(checkout, policy, checkouts) for checkout in (checkouts.base, checkouts.head)
    }
    return Twins(sides, TwinSettings(threads=most), checkouts.scratch, seed)


def side_of(checkout: Checkout, policy: Policy, checkouts: Checkouts) -> Side:
    """Describe a checkout to the processes that become it."""
    copies = (checkouts.base.copy, checkouts.head.copy)
    project = find_project(checkout.project)
    return Side(
        name=checkout.name,
        root=checkout.copy,
        folders=project.folders,
        paths=tuple((checkout.project / path).resolve() for path in policy.paths),
        caches=checkout.caches,
        foreign=(
            *(copy for copy in copies if copy != checkout.copy),
            checkouts.repository,
            *installed_from(checkout.project, checkouts.repository),
        ),
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """End the run with the exit code of a side that cannot be imported, or is not kept apart."""
    try:
        yield
    except SideRefusedError as error:
        kind = BaseRefusedError if error.side in (BASE, AGAIN) else HeadRefusedError
        raise kind(str(error)) from None


def _demand_cases(found: Survey, request: Request) -> None:
    if found.known or found.decided:
        return
    why = "; ".join(dict.fromkeys(found.left_out.values())) or "no name of a case matches"
    raise NothingToMeasureError(
        f"Neither {request.base} nor head has a case for {request.choice.match!r} "
        f"({why}): `sameop list` shows what there is."
    )


def _judge(control: Contest, policy: Policy) -> ControlOutcome:
    outcome = control.outcome()
    return judge_plant(outcome, control.planted) if control.planted else judge_same(outcome, policy)


def _notes(checkouts: Checkouts, controls: Sequence[Contest]) -> list[str]:
    notes = [f"{side.name}: {note}" for side in (checkouts.base, checkouts.head) for note in side.notes]
    if controls and not any(control.planted for control in controls):
        notes.append(
            "Nothing was planted: no case runs a function written in Python in the project's own files."
        )
    return notes
