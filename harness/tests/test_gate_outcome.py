"""What a gate's outcome means for a job, and how it is written."""

from __future__ import annotations

import dataclasses
import json

import pytest

from harness.paper.errors import Exit
from harness.paper.gate.outcome import (
    Bounds,
    CaseOutcome,
    ControlOutcome,
    GateOutcome,
    TwinNumber,
    Verdict,
)


def case(verdict: Verdict, name: str = "a") -> CaseOutcome:
    """Return a case that has nothing but a verdict."""
    return CaseOutcome(name, verdict, "because")


def gate(*verdicts: Verdict, share: float = 0.1) -> GateOutcome:
    """Return a run whose cases have these verdicts."""
    cases = [case(verdict, f"case{k}") for k, verdict in enumerate(verdicts)]
    return GateOutcome({}, {}, {}, {}, {}, cases, insensitive_share=share)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.PASS, Exit.PASS),
        (Verdict.ACCEPTED, Exit.PASS),
        (Verdict.NEW, Exit.PASS),
        (Verdict.FAIL, Exit.REGRESSED),
        (Verdict.INCONCLUSIVE, Exit.INCONCLUSIVE),
        (Verdict.INSENSITIVE, Exit.INCONCLUSIVE),
        (Verdict.MISSING, Exit.CHANGED),
        (Verdict.CHANGED, Exit.CHANGED),
        (Verdict.DISAGREED, Exit.FAILED),
        (Verdict.BROKEN, Exit.FAILED),
    ],
)
def test_every_verdict_has_its_exit_code(verdict: Verdict, code: Exit) -> None:
    """One case alone decides the code of its run."""
    assert gate(verdict).exit is code


def test_the_first_of_several_codes_wins_and_all_are_named() -> None:
    """What is wrong comes before what is other, slower and unknown."""
    found = gate(Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.MISSING, Verdict.BROKEN, Verdict.PASS)
    assert found.exits == [Exit.FAILED, Exit.CHANGED, Exit.REGRESSED, Exit.INCONCLUSIVE]
    assert found.exit is Exit.FAILED


def test_nothing_measured_is_no_pass() -> None:
    """A gate without cases has let nothing through."""
    assert gate().exit is Exit.NOTHING


def test_insensitive_cases_stop_a_run_beyond_their_share() -> None:
    """One of ten is allowed by a share of a tenth, two are not; cases that were not timed do not count."""
    passes = [Verdict.PASS] * 8
    assert gate(*passes, Verdict.PASS, Verdict.INSENSITIVE).exit is Exit.PASS
    assert gate(*passes, Verdict.INSENSITIVE, Verdict.INSENSITIVE).exit is Exit.INCONCLUSIVE
    assert gate(*passes, Verdict.NEW, Verdict.INSENSITIVE).exit is Exit.INCONCLUSIVE


def test_cases_are_found_by_verdict() -> None:
    """Verdicts come in their own order, and only those that occur."""
    found = gate(Verdict.NEW, Verdict.PASS, Verdict.PASS).by_verdict()
    assert [(verdict, len(cases)) for verdict, cases in found.items()] == [
        (Verdict.PASS, 2),
        (Verdict.NEW, 1),
    ]


def test_an_outcome_survives_being_written() -> None:
    """What is read back from JSON is what was written; keys of later versions are left out."""
    number = TwinNumber(0.01, 0.02, 20, 0.003, 1e-3)
    bounds = Bounds(1.01, 1.002, (1.005, 1.015), 0.02, 12)
    full = CaseOutcome(
        "a/b",
        Verdict.FAIL,
        "slower",
        bounds,
        "thread CPU time",
        ((number,), (number, dataclasses.replace(number, cpu=None))),
        bounds,
        {"base": {"macs": 1.0}, "head": {"macs": 2.0}},
        ("a note",),
        1.5,
    )
    control = ControlOutcome("plant", "a/b", 0.05, full, True, "found")
    outcome = GateOutcome(
        {"ref": "main"}, {"ref": "HEAD"}, {}, {"margin": 0.005}, {"kind": "forked"}, (full,), (control,), 0.1
    )
    document = json.loads(json.dumps(outcome.as_json()))
    assert (document["exit"], document["exits"]) == (10, [{"code": 10, "meaning": "regressed"}])
    document["later"] = document["cases"][0]["later"] = 1
    found = GateOutcome.from_json(document)
    assert json.loads(json.dumps(found.as_json())) == json.loads(json.dumps(outcome.as_json()))
    assert found.cases[0].numbers == full.numbers
    assert found.cases[0].bounds == bounds
    assert found.controls[0].outcome.verdict is Verdict.FAIL
