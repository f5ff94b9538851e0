"""Cases whose answer is known beforehand, and what follows for the others where it did not come."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from harness.paper.gate.counts import judge_counts
from harness.paper.gate.outcome import CaseOutcome, ControlOutcome, Verdict
from harness.paper.gate.policy import Policy
from harness.paper.gate.reading import WALL, at_most
from harness.paper.gate.wording import measured, percent, sentence, setting

SAME, PLANT = "A/A", "plant"


def judge_same(outcome: CaseOutcome, policy: Policy) -> ControlOutcome:
    """Judge base against itself: it may neither be slower than the margin nor surely faster."""
    told = _told(outcome)
    allowed = policy.for_case(outcome.name)
    margin = allowed.wall_margin if outcome.clock == WALL else allowed.margin
    if outcome.bounds is None:
        is_sound, reason = False, f"Base against itself gave no number: {outcome.reason}"
    elif outcome.verdict is Verdict.FAIL:
        is_sound, reason = False, f"Base against itself FAILs: {outcome.reason}"
    elif _sure_high(outcome) < 1 / (1 + margin):
        is_sound, reason = False, f"Base against itself is {told}: slowdowns could hide behind this."
    else:
        is_sound, reason = True, f"Base against itself is {told}, within {setting(margin)} as far as is sure."
    return ControlOutcome(SAME, outcome.name, 0.0, outcome, is_sound, reason)


def judge_plant(outcome: CaseOutcome, planted: float) -> ControlOutcome:
    """Judge base against itself made slower by ``planted``.

    At least half of it must have arrived. Where it was not found, noise excuses that, told in numbers.
    """
    what, told = f"The planted slowdown of {setting(planted)}", _told(outcome)
    if outcome.bounds is None:
        is_sound, reason = False, f"{what} gave no number: {outcome.reason}"
    elif (high := at_most(outcome.stages, outcome.clock)) < 1 + planted / 2:
        is_sound = False
        reason = (
            f"{what} did not reach the timed process: {told}, at most {percent(high - 1)}. "
            "What is measured is not what head's files say."
        )
    elif outcome.verdict is Verdict.FAIL:
        is_sound, reason = True, f"{what} was found: {told}."
    else:
        is_sound = True
        reason = (
            f"{what} was lost in the noise: {told}, at most {percent(high - 1)}; this case could have found "
            f"{percent(outcome.bounds.detectable)}."
        )
    return ControlOutcome(PLANT, outcome.name, planted, outcome, is_sound, reason)


def apply_controls(
    cases: Sequence[CaseOutcome], controls: Sequence[ControlOutcome], policy: Policy
) -> list[CaseOutcome]:
    """Return the cases with the verdicts that the controls leave standing.

    Where base FAILs against itself, no time FAILs a case. Where a plant did not arrive, base is faster than
    itself, or a control gave no number, no case passes. What was counted stands in any case.
    """
    unsound = [control for control in controls if not control.is_sound]
    spoilt_fails = [control for control in unsound if _spoils_fails(control)]
    spoilt_passes = [control for control in unsound if not _spoils_fails(control)]
    return [_apply(case, spoilt_fails, spoilt_passes, policy) for case in cases]


def _apply(
    case: CaseOutcome,
    spoilt_fails: Sequence[ControlOutcome],
    spoilt_passes: Sequence[ControlOutcome],
    policy: Policy,
) -> CaseOutcome:
    if case.verdict is Verdict.FAIL and not judge_counts(case.counts, policy.for_case(case.name)).failures:
        spoilt = spoilt_fails
    elif case.verdict in (Verdict.PASS, Verdict.ACCEPTED):
        spoilt = spoilt_passes
    else:
        spoilt = ()
    if not spoilt:
        return case
    reason = (
        f"{case.verdict} by itself, but a control on {spoilt[0].case} takes that back. {spoilt[0].reason}"
    )
    return dataclasses.replace(
        case, verdict=Verdict.INCONCLUSIVE, reason=reason, notes=(*case.notes, case.reason)
    )


def _spoils_fails(control: ControlOutcome) -> bool:
    return control.kind == SAME and control.outcome.verdict is Verdict.FAIL


def _told(outcome: CaseOutcome) -> str:
    return measured(outcome.bounds) if outcome.bounds else sentence(outcome.reason)


def _sure_high(outcome: CaseOutcome) -> float:
    """Return the upper bound that is as far from the ratio as the family-wise lower one."""
    assert outcome.bounds is not None
    return outcome.bounds.ratio**2 / outcome.bounds.low
