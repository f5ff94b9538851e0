"""The rule of a gate: which stage comes next, which verdict, and the sentence that says why."""

from __future__ import annotations

import dataclasses
from datetime import date
from math import log1p

import numpy as np
import pytest

from harness.paper.gate.outcome import TwinNumber, Verdict
from harness.paper.gate.policy import Accept, CaseTable, Policy
from harness.paper.gate.reading import WALL, WALL_SHARE
from harness.paper.gate.rule import Decision, Rule
from harness.paper.gate.stages import StagedTest, Step
from harness.tests.gate_numbers import twins

NAME = "involution/core/shifted/rednet50-stage2/float32/cpu/forward"
TODAY = date(2030, 1, 15)
# A plan with one stage after the one that most verdicts come from.
PLAN = (4, 12, 36)
Counts = dict[str, dict[str, float]]


def rule(policy: Policy | None = None, cases: int = 12) -> Rule:
    """Return the rule of a run of twelve cases."""
    return Rule(dataclasses.replace(policy or Policy(), processes=PLAN), cases, today=TODAY)


def spaced(count: int, slowdown: float, spread: float, wall: float | None = None) -> list[TwinNumber]:
    """Return numbers evenly spaced about a slowdown, with this standard deviation, alike on both clocks."""
    steps = np.arange(count) - (count - 1) / 2
    cpu = log1p(slowdown) + steps / steps.std(ddof=1) * spread
    shift = 0.0 if wall is None else log1p(wall) - log1p(slowdown)
    return [TwinNumber(float(value), float(value) + shift, 20, 0.01, 1e-3) for value in cpu]


def without_cpu(numbers: list[TwinNumber], count: int) -> list[TwinNumber]:
    """Take the CPU time from the first numbers."""
    return [dataclasses.replace(each, cpu=None) for each in numbers[:count]] + numbers[count:]


def test_a_calm_case_passes_by_its_first_stage() -> None:
    """Four processes that exclude the slowdown to be detected are enough."""
    found = rule().decide(NAME, [spaced(4, 0.001, 0.002)])
    assert found.verdict is Verdict.PASS
    assert found.reason == (
        "0.10 % slower (95 % interval −0.22 to 0.42 %) in 4 pairs of processes: "
        "a slowdown of 2 % is excluded."
    )
    assert found.bounds is not None
    assert (found.bounds.processes, found.clock) == (4, "thread CPU time")
    assert found.bounds.detectable == pytest.approx(0.02)


def test_the_first_stage_never_fails_a_case() -> None:
    """However slow head looks there, fresh processes decide."""
    found = rule().decide(NAME, [spaced(4, 0.5, 0.001)])
    assert found.verdict is None
    assert found.reason == (
        "50 % slower (95 % interval 50 to 50 %) in 4 pairs of processes. More processes are needed."
    )
    cut = rule().decide(NAME, [spaced(4, 0.5, 0.001)], is_cut=True)
    assert cut.verdict is Verdict.INCONCLUSIVE


def test_only_fresh_processes_are_judged() -> None:
    """The first stage's numbers choose which cases go on, and would bias what is judged."""
    found = rule().decide(NAME, [spaced(4, 0.5, 0.01), spaced(12, 0.0, 0.002)])
    assert found.verdict is Verdict.PASS
    assert found.bounds is not None
    assert (found.bounds.processes, round(found.bounds.ratio, 6)) == (12, 1)


def test_a_slowdown_fails_with_what_is_sure() -> None:
    """The sentence has the estimate, the bound that decided, and what is allowed."""
    found = rule().decide(NAME, [spaced(4, 0.02, 0.005), spaced(12, 0.018, 0.004)])
    assert found.verdict is Verdict.FAIL
    assert found.reason == (
        "1.8 % slower (at least 1.1 %, 95 % interval 1.5 to 2.1 %) in 12 pairs of processes; "
        "0.5 % is allowed."
    )


def test_suspicion_asks_for_the_next_stage() -> None:
    """Between cleared and surely slower, more processes decide."""
    stages = [spaced(4, 0.02, 0.01), spaced(12, 0.015, 0.01)]
    assert rule().decide(NAME, stages).verdict is None
    assert rule().decide(NAME, [*stages, spaced(36, 0.018, 0.01)]).verdict is Verdict.FAIL
    assert rule().decide(NAME, [*stages, spaced(36, 0.001, 0.01)]).verdict is Verdict.PASS


def test_what_stays_ambiguous_is_inconclusive() -> None:
    """Slower than chance explains, and not surely by more than the margin."""
    stages = [spaced(4, 0.02, 0.01), spaced(12, 0.01, 0.01), spaced(36, 0.01, 0.01)]
    found = rule().decide(NAME, stages)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason == (
        "1.0 % slower (at least 0.38 %, 95 % interval 0.71 to 1.3 %) in 48 pairs of processes: "
        "more than chance explains, and not surely above the 0.5 % allowed."
    )


def test_noise_is_told_as_insensitivity() -> None:
    """A case that could not have found what the policy asks for has not passed."""
    stages = [spaced(4, 0.0, 0.08), spaced(12, 0.0, 0.08), spaced(36, 0.0, 0.08)]
    assert rule().decide(NAME, stages[:2]).verdict is None
    found = rule().decide(NAME, stages)
    assert found.verdict is Verdict.INSENSITIVE
    assert found.reason == (
        "As fast (95 % interval −2.3 to 2.3 %) in 48 pairs of processes: "
        "a slowdown below 8.9 % may be missed, one of 5 % must not be."
    )


def test_a_pass_after_the_last_stage_says_what_is_odd() -> None:
    """An interval above the margin is not silent, though it is what chance does in one case of 40."""
    stages = [spaced(4, 0.02, 0.02), spaced(12, 0.015, 0.02), spaced(36, 0.013, 0.02)]
    found = rule().decide(NAME, stages)
    assert found.verdict is Verdict.PASS
    assert found.notes == (
        "The whole 95 % interval is above the margin, as that of 1 unchanged case in 40 may be.",
    )


def test_a_speed_up_passes_and_is_noted() -> None:
    """Good news is told with its interval."""
    found = rule().decide(NAME, [spaced(4, -0.03, 0.002)])
    assert found.verdict is Verdict.PASS
    assert found.notes == (
        "A speed-up: 3.0 % faster (95 % interval −3.3 to −2.7 %) in 4 pairs of processes.",
    )


def test_sleep_is_seen_by_the_wall() -> None:
    """What the CPU clock cannot see fails by the coarse rule, and the sentence says which clock saw it."""
    stages = [spaced(4, 0.0, 0.003, wall=0.3), spaced(12, 0.0, 0.003, wall=0.3)]
    assert rule().decide(NAME, stages[:1]).verdict is None
    found = rule().decide(NAME, stages)
    assert found.verdict is Verdict.FAIL
    assert found.reason == (
        "By the wall 30 % slower (at least 29 %, 95 % interval 30 to 30 %) in 12 pairs of processes; "
        "10 % is allowed. By thread CPU time it is as fast: it sleeps, waits or works in other threads."
    )
    assert found.wall is not None
    assert found.bounds is not None
    assert (round(found.wall.ratio, 6), round(found.bounds.ratio, 6)) == (1.3, 1)


def test_without_cpu_time_the_wall_decides() -> None:
    """Threads and devices are judged by the wall and its margin; a few waiting processes are left out."""
    stages = [spaced(4, 0.3, 0.02), spaced(12, 0.3, 0.02)]
    blind = [without_cpu(stage, len(stage)) for stage in stages]
    found = rule().decide(NAME, blind)
    assert (found.verdict, found.clock, found.wall) == (Verdict.FAIL, WALL, None)
    within = rule().decide(NAME, [without_cpu(spaced(4, 0.05, 0.01), 4)])
    assert within.verdict is Verdict.PASS
    assert within.reason.endswith("a slowdown of 20 % is excluded.")
    some = rule().decide(NAME, [stages[0], without_cpu(spaced(12, 0.02, 0.002), 2)])
    assert (some.verdict, some.clock) == (Verdict.FAIL, "thread CPU time")
    assert some.notes == (
        "Calls waited in 2 of 12 pairs of processes, which have no thread CPU time: "
        "judged by thread CPU time.",
    )
    many = rule().decide(NAME, [stages[0], without_cpu(spaced(12, 0.02, 0.002), 4)])
    assert (many.verdict, many.clock) == (Verdict.PASS, WALL)
    assert many.notes[-1].endswith("which have no thread CPU time: judged by wall.")


def test_a_loud_wall_is_told() -> None:
    """Where waiting could not have been found, the sentence says so and the CPU clock still decides."""
    rng = np.random.default_rng(1)
    loud = [dataclasses.replace(each, wall=float(rng.normal(0, 0.3))) for each in spaced(12, 0.0, 0.003)]
    found = rule().decide(NAME, [spaced(4, 0.0, 0.02), loud])
    assert found.verdict is Verdict.PASS
    assert "By the wall, which shows waiting, only a slowdown of" in found.notes[0]


def test_a_budget_that_ends_early_is_told() -> None:
    """What is ambiguous then is INCONCLUSIVE, what merely lacks numbers INSENSITIVE, what is calm passes."""
    calm, noisy = spaced(4, 0.0, 0.002), spaced(4, 0.0, 0.02)
    assert rule().decide(NAME, [calm], is_cut=True) == rule().decide(NAME, [calm])
    found = rule().decide(NAME, [noisy], is_cut=True)
    assert found.verdict is Verdict.INSENSITIVE
    assert found.reason.endswith("The budget was over before the last stage.")
    found = rule().decide(NAME, [noisy, spaced(12, 0.015, 0.01)], is_cut=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.endswith("The budget was over before the last stage.")
    none = rule().decide(NAME, [], is_cut=True)
    assert (none.verdict, none.reason) == (
        Verdict.INCONCLUSIVE,
        "No pair of processes measured this case: the budget was over.",
    )


def test_lost_processes_are_no_pass() -> None:
    """Without numbers, the next stage is measured; at the end that is inconclusive."""
    assert rule().decide(NAME, [[], []]).verdict is None
    lost = rule().decide(NAME, [[], [], spaced(2, 0.0, 0.001)])
    assert (lost.verdict, lost.reason) == (
        Verdict.INCONCLUSIVE,
        "2 pairs of processes measured this case: the others gave no number.",
    )


def counts(**head: float) -> Counts:
    """Return the counts of two sides, alike but for what is named."""
    base = {
        "aten_operators": 10.0,
        "bytes_allocated": 2.0**20,
        "macs": 1e6,
        "peak_bytes": 2.0**20,
    }
    return {"base": base, "head": base | head}


def test_more_peak_memory_fails() -> None:
    """Memory has no noise: beyond its margin it fails, with the bytes."""
    stages = [spaced(4, 0.0, 0.002), spaced(12, 0.0, 0.002)]
    found = rule().decide(NAME, stages, counts(peak_bytes=2.0**21))
    assert found.verdict is Verdict.FAIL
    assert found.reason.startswith(
        "Peak memory rose by 1.00 MiB, from 1.00 MiB to 2.00 MiB; 2 % and 64 KiB are allowed. As fast"
    )
    small = rule().decide(NAME, stages, counts(peak_bytes=2.0**20 + 65536))
    assert small.verdict is Verdict.PASS


def test_a_rise_in_counts_is_named_and_not_passed_early() -> None:
    """More work per call needs the judging stage, or fails where the policy says so; less is only told."""
    calm, fresh = spaced(4, 0.0, 0.002), spaced(12, 0.0, 0.002)
    more = counts(aten_operators=12.0)
    assert rule().decide(NAME, [calm], more).verdict is None
    found = rule().decide(NAME, [calm, fresh], more)
    assert (found.verdict, found.notes) == (Verdict.PASS, ("ATen operators of one call rose from 10 to 12.",))
    strict = rule(Policy(counts="fail")).decide(NAME, [calm, fresh], more)
    assert strict.verdict is Verdict.FAIL
    assert strict.reason.startswith(
        "ATen operators of one call rose from 10 to 12, and the policy allows no rise. As fast"
    )
    less = rule(Policy(counts="fail")).decide(NAME, [calm], counts(macs=9e5, bytes_allocated=2.0**20 - 1))
    assert less.verdict is Verdict.PASS
    assert less.notes == (
        "The memory that one call allocates fell from 1048576 to 1048575.",
        "MACs of one call fell from 1.00 M to 900 k.",
    )


def accepting(up_to: float, expires: date) -> Policy:
    """Return a policy that accepts a slowdown of involutions."""
    return Policy(accepts=(Accept("involution/*", up_to, "It is exact now.", expires),))


def test_a_reviewed_slowdown_is_accepted() -> None:
    """Up to its ratio, and through its last day."""
    stages = [spaced(4, 0.05, 0.004), spaced(12, 0.05, 0.004)]
    found = rule(accepting(1.06, TODAY)).decide(NAME, stages)
    assert found.verdict is Verdict.ACCEPTED
    assert found.reason.endswith("0.5 % is allowed. Accepted up to 6.0 % until 2030-01-15: It is exact now.")
    expired = rule(accepting(1.06, date(2030, 1, 14))).decide(NAME, stages)
    assert expired.verdict is Verdict.FAIL
    assert expired.notes == ("The acceptance of 'involution/*' expired on 2030-01-14.",)
    beyond = rule(accepting(1.04, TODAY)).decide(NAME, stages)
    assert (beyond.verdict, beyond.notes) == (
        Verdict.FAIL,
        ("The acceptance of 'involution/*' covers 4.0 % at most.",),
    )
    assert rule(accepting(1.06, TODAY)).decide("dot/core", stages).verdict is Verdict.FAIL
    memory = rule(accepting(1.06, TODAY)).decide(NAME, stages, counts(peak_bytes=2.0**21))
    assert memory.verdict is Verdict.FAIL


def test_an_accepted_slowdown_may_stay_ambiguous() -> None:
    """An acceptance covers less evidence too, but not a budget that was over."""
    stages = [spaced(4, 0.02, 0.01), spaced(12, 0.01, 0.01), spaced(36, 0.01, 0.01)]
    accepts = rule(accepting(1.02, TODAY))
    assert accepts.decide(NAME, stages).verdict is Verdict.ACCEPTED
    cut = accepts.decide(NAME, [stages[0], spaced(12, 0.015, 0.01)], is_cut=True)
    assert cut.verdict is Verdict.INCONCLUSIVE


def test_a_control_is_judged_by_fresh_processes_and_by_time_alone() -> None:
    """Neither the first stage nor an acceptance nor counts answer what a control asks."""
    policy = accepting(1.5, TODAY)
    calm, slow = spaced(4, 0.0, 0.002), spaced(12, 0.05, 0.002)
    more = counts(peak_bytes=2.0**21)
    assert rule(policy).decide(NAME, [calm], is_control=True).verdict is None
    assert rule(policy).decide(NAME, [calm, slow], is_control=True).verdict is Verdict.FAIL
    same = rule(policy).decide(NAME, [calm, spaced(12, 0.0, 0.002)], more, is_control=True)
    assert same.verdict is Verdict.PASS


def test_a_case_of_its_own_has_its_own_margin() -> None:
    """What a table says holds in the numbers and in the sentence."""
    policy = Policy(cases=(CaseTable("involution/*", "Noisy.", {"margin": 0.03, "detect": 0.05}),))
    stages = [spaced(4, 0.04, 0.01), spaced(12, 0.025, 0.003)]
    found = rule(policy).decide(NAME, stages)
    assert found.verdict is Verdict.PASS
    assert "no slowdown beyond 3 % was found" in found.reason
    assert rule(policy).decide("dot/core", stages).verdict is Verdict.FAIL


def test_a_decision_makes_an_outcome_once_it_is_one() -> None:
    """What is told of a case carries the numbers that it rests on."""
    stages = [spaced(4, 0.0, 0.002)]
    found = rule().decide(NAME, stages).outcome(NAME, stages, counts(), 1.5)
    assert (found.verdict, found.numbers, found.seconds) == (Verdict.PASS, stages[0], 1.5)
    with pytest.raises(ValueError, match="x is not decided"):
        Decision(None, "More.").outcome("x")


def test_the_rule_applies_the_staged_test() -> None:
    """For drawn cases the verdict is that of the test that is held against its promise."""
    policy = Policy()
    test = StagedTest(
        log1p(policy.margin),
        log1p(policy.detect),
        log1p(policy.sensitivity),
        rule().error_per_case * (1 - WALL_SHARE),
        PLAN,
    )
    rng, seen = np.random.default_rng(5), set()
    for _ in range(200):
        slowdown, spread = rng.choice([0, 0.01, 0.02, 0.04]), rng.choice([0.003, 0.01, 0.03, 0.05])
        stages = [twins(rng, count, float(slowdown), float(spread)) for count in PLAN]
        for have in (2, 3):
            values = np.array([each.cpu for stage in stages[1:have] for each in stage])
            step = Step(int(test.judge(values.mean(), values.std(ddof=1), len(values), have == 3)))
            found = rule().decide(NAME, stages[:have])
            assert found.verdict == (None if step is Step.MORE else Verdict[step.name])
            seen.add(step)
    assert seen == set(Step)


def test_unchanged_suites_pass_on_both_clocks() -> None:
    """With a loud wall beside a calm CPU clock, no suite of a hundred is stopped."""
    rng, judge = np.random.default_rng(6), rule()
    for _ in range(100 * judge.cases):
        stages: list[list[TwinNumber]] = []
        found = judge.decide(NAME, stages)
        while found.verdict is None:
            numbers = twins(rng, judge.policy.processes[len(stages)], 0.0, 0.006)
            loud = [dataclasses.replace(each, wall=float(rng.normal(0, 0.06))) for each in numbers]
            stages.append(loud)
            found = judge.decide(NAME, stages)
        assert found.verdict is Verdict.PASS
