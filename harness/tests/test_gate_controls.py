"""Controls of a gate: what an answer known beforehand says of all the others."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from harness.paper.gate.controls import apply_controls, judge_plant, judge_same
from harness.paper.gate.outcome import CaseOutcome, TwinNumber, Verdict
from harness.paper.gate.policy import Policy
from harness.paper.gate.rule import Rule
from harness.tests.gate_numbers import twins

POLICY = Policy()
RULE = Rule(POLICY, cases=12, controls=2, today=date(2030, 1, 15))
PLANTED = POLICY.plant


def control(slowdown: float, spread: float, seed: int = 1) -> CaseOutcome:
    """Play a control through its stages."""
    rng = np.random.default_rng(seed)
    stages: list[list[TwinNumber]] = []
    found = RULE.decide("a", stages, is_control=True)
    while found.verdict is None:
        stages.append(twins(rng, POLICY.processes[len(stages)], slowdown, spread))
        found = RULE.decide("a", stages, is_control=True)
    return found.outcome("a", stages)


def case(verdict: Verdict, **counts: dict[str, float]) -> CaseOutcome:
    """Return a case with a verdict and the sentence that goes with it."""
    return CaseOutcome("b", verdict, f"Because of {verdict}.", counts=counts)


CASES = [case(verdict) for verdict in Verdict]


def test_sound_controls_change_nothing() -> None:
    """Base is as fast as itself and the plant is found: verdicts stand."""
    controls = [judge_same(control(0.0, 0.005), POLICY), judge_plant(control(0.05, 0.005), PLANTED)]
    assert [each.is_sound for each in controls] == [True, True]
    assert apply_controls(CASES, controls, POLICY) == CASES
    assert controls[1].reason == (
        "The planted slowdown of 5 % was found: 5.0 % slower (95 % interval 4.8 to 5.1 %) "
        "in 12 pairs of processes."
    )


def test_a_base_that_fails_against_itself_withdraws_every_fail() -> None:
    """What shows a slowdown where there is none proves none elsewhere."""
    same = judge_same(control(0.04, 0.005), POLICY)
    assert not same.is_sound
    found = apply_controls(CASES, [same], POLICY)
    changed = [(before.verdict, after.verdict) for before, after in zip(CASES, found, strict=True)]
    assert [pair for pair in changed if pair[0] is not pair[1]] == [(Verdict.FAIL, Verdict.INCONCLUSIVE)]
    fail = found[CASES.index(case(Verdict.FAIL))]
    assert fail.reason == f"FAIL by itself, but a control on a takes that back. {same.reason}"
    assert fail.notes == ("Because of FAIL.",)


def test_what_was_counted_stands_whatever_the_controls_say() -> None:
    """A rise in memory has nothing to do with clocks."""
    same = judge_same(control(0.04, 0.005), POLICY)
    memory = case(Verdict.FAIL, base={"peak_bytes": 2.0**20}, head={"peak_bytes": 2.0**22})
    assert apply_controls([memory], [same], POLICY) == [memory]


def test_a_base_that_is_faster_than_itself_withdraws_every_pass() -> None:
    """A bias in that direction hides slowdowns, though it FAILs nothing."""
    same = judge_same(control(-0.04, 0.005), POLICY)
    assert not same.is_sound
    assert same.reason.endswith("slowdowns could hide behind this.")
    found = apply_controls([case(Verdict.PASS), case(Verdict.FAIL)], [same], POLICY)
    assert [each.verdict for each in found] == [Verdict.INCONCLUSIVE, Verdict.FAIL]


def test_a_plant_that_does_not_arrive_withdraws_every_pass() -> None:
    """Head's files are not what is timed: then nothing that passes has been looked at."""
    plant = judge_plant(control(0.0, 0.005), PLANTED)
    assert not plant.is_sound
    assert plant.reason == (
        "The planted slowdown of 5 % did not reach the timed process: 0.04 % faster (95 % interval −0.18 to "
        "0.11 %) in 12 pairs of processes, at most 0.24 %. What is measured is not what head's files say."
    )
    found = apply_controls([case(Verdict.PASS), case(Verdict.ACCEPTED), case(Verdict.FAIL)], [plant], POLICY)
    assert [each.verdict for each in found] == [Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE, Verdict.FAIL]


def test_a_plant_that_arrives_by_a_fifth_has_not_arrived() -> None:
    """A slowdown that is found and far too small says that part of head was not timed."""
    assert not judge_plant(control(0.01, 0.001), PLANTED).is_sound


def test_noise_excuses_a_plant_that_was_not_found() -> None:
    """As long as half of it may be there; the sentence has the numbers."""
    plant = judge_plant(control(0.02, 0.06), PLANTED)
    assert plant.outcome.verdict is not Verdict.FAIL
    assert plant.is_sound
    assert "was lost in the noise" in plant.reason
    assert "this case could have found" in plant.reason
    assert apply_controls(CASES, [plant], POLICY) == CASES


@pytest.mark.parametrize("kind", ["same", "plant"])
def test_a_control_without_numbers_vouches_for_nothing(kind: str) -> None:
    """One that crashed withdraws what passes."""
    broken = CaseOutcome("a", Verdict.BROKEN, "It crashed.")
    found = judge_same(broken, POLICY) if kind == "same" else judge_plant(broken, PLANTED)
    assert not found.is_sound
    assert found.reason.endswith("gave no number: It crashed.")
    after = apply_controls([case(Verdict.PASS), case(Verdict.FAIL)], [found], POLICY)
    assert [each.verdict for each in after] == [Verdict.INCONCLUSIVE, Verdict.FAIL]


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.02, 0.03])
def test_controls_are_sound_where_everything_is(spread: float) -> None:
    """Noise alone turns no run: a few hundred plants and comparisons with itself are all sound."""
    for seed in range(250):
        assert judge_plant(control(PLANTED, spread, seed), PLANTED).is_sound
        assert judge_same(control(0.0, spread, seed), POLICY).is_sound


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.02, 0.03])
def test_a_lost_plant_is_noticed(spread: float) -> None:
    """Up to a spread of 3 % noise excuses hardly a plant that never arrived."""
    excused = sum(judge_plant(control(0.0, spread, seed), PLANTED).is_sound for seed in range(200))
    assert excused <= (0 if spread < 0.03 else 10)
