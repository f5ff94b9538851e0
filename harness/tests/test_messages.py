"""The sentences about results, each tested whole."""

from __future__ import annotations

from typing import Any

import pytest

from harness.doors.messages import (
    account_line,
    claim_failure,
    claim_line,
    exit_line,
    left_out_lines,
    left_out_of_claims,
    plan_line,
    record_line,
    resume_line,
    summary_lines,
)
from harness.paper.account import SessionAccount
from harness.paper.errors import Exit
from harness.paper.record import CaseId, Reading, Record, Status
from harness.paper.units import Unit


def record(implementation: str, seconds: float | None, reason: str = "it would not") -> Record:
    """Return a record with a latency, or with a reason for none."""
    case = CaseId("scale", "core", implementation, "tiny/one", "float32", "cpu", "forward")
    if seconds is None:
        return Record(case, Status.FAILED, reason)
    latency = Reading(Unit.SECONDS_PER_CALL, seconds, seconds * 0.99, seconds * 1.03, (seconds,))
    return Record(case, Status.MEASURED, readings={"latency": latency, "memory": Reading(Unit.BYTES, 96.0)})


def mutant(name: str, verdict: str, expected: str = "refuted", **more: Any) -> dict[str, Any]:
    """Return the judgement of a mutant."""
    return {"name": name, "verdict": verdict, "expected": expected, **more}


def claim(verdict: str, *mutants: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a result of proving."""
    return {
        "name": "a-is-b",
        "verdict": verdict,
        "expected": "holds",
        "level": "L1",
        "evidence": [{"log10_p": -31.2, "vjp": True}, {"log10_p": -40.0, "vjp": True}],
        "mutants": list(mutants),
        "counterexample": None,
        "reason": None,
        **more,
    }


def test_claim_line_names_the_weakest_evidence() -> None:
    """A claim's line shows the largest chance of error over its shapes, and how its mutants fared."""
    result = claim("holds", mutant("one", "refuted"), mutant("two", "holds", "holds"))
    assert claim_line(result) == (
        "a-is-b: holds at L1, error probability at most 1e-31, values and gradients; "
        "1 of 1 mutants refuted, 1 equivalent"
    )


def test_claim_failure_shows_where_the_sides_differ() -> None:
    """A refuted claim shows the shape, the index and both values."""
    found = {"shape": {"B": 2}, "result": "output", "index": [0, 1], "left": 3.0, "right": 4.0}
    assert claim_failure(claim("refuted", counterexample=found)) == (
        "The claim a-is-b was expected to be holds and is refuted.\n"
        "At {'B': 2} output[0, 1] is 3.0 on the left and 4.0 on the right."
    )


def test_claim_failure_names_every_wrong_mutant() -> None:
    """A mutant that survives is as bad as a claim that falls, and a refusal says why."""
    result = claim("holds", mutant("kept", "holds"), mutant("odd", "refused", reason="a sort has no rule"))
    assert claim_failure(result) == (
        "Its mutant kept was expected to be refuted and is holds.\n"
        "Its mutant odd was expected to be refuted and is refused.\n"
        "a sort has no rule"
    )


def test_record_line() -> None:
    """A case ends in one line: its time and spread, or its status and reason."""
    name = "scale/core/{}/tiny-one/float32/cpu/forward"
    assert record_line(record("fast", 1.5e-3)) == f"{name.format('fast')}  1.50 ms ±2.0%"
    assert record_line(record("bad", None)) == f"{name.format('bad')}  failed: it would not"


@pytest.mark.parametrize("code", list(Exit))
def test_every_exit_code_has_a_meaning(code: Exit) -> None:
    """No code of ours is printed without saying what it means."""
    assert exit_line(code) == f"exit {int(code)}: {code.meaning}"


def test_foreign_exit_code_is_printed_alone() -> None:
    """A code that is pytest's own gets no meaning of ours."""
    assert exit_line(3) == "exit 3"


def test_summary_puts_the_fastest_first() -> None:
    """Of cases that compute the same, the fastest comes first and the others are its multiples."""
    lines = summary_lines([record("slow", 3e-3), record("fast", 1.5e-3), record("bad", None)])
    assert lines == [
        "scale/core tiny/one float32 cpu forward",
        "    fast               1.50 ms    1.00×        96 B",
        "    slow               3.00 ms    2.00×        96 B",
        "    bad             failed: it would not",
    ]


def test_summary_of_equal_times() -> None:
    """Two equal times are no reason to stop."""
    lines = summary_lines([record("one", 1e-3), record("two", 1e-3)])
    assert [line.split()[0] for line in lines[1:]] == ["one", "two"]


def test_left_out_is_told_once_a_reason() -> None:
    """What is left out is grouped by its reason, with one example and a count."""
    entries = [{"what": what, "reason": "too slow"} for what in ("a", "b", "c")]
    assert left_out_lines([*entries, {"what": "d", "reason": "absent"}]) == [
        "left out: a and 2 more (too slow)",
        "left out: d (absent)",
    ]


def test_what_a_proof_leaves_out_names_its_claim() -> None:
    """A level that several claims do not reach for one reason is told once, with one of them."""
    results = [claim("holds", name=name, left_out=[{"what": "L3", "reason": "no z3"}]) for name in ("a", "b")]
    assert left_out_lines(left_out_of_claims(results)) == ["left out: L3 of a and 1 more (no z3)"]


def test_resume_line() -> None:
    """An unfinished run says how much is missing and what to type."""
    assert resume_line(2, 5, "pytest --benchmark --bench-run=here") == (
        "2 of 5 cases have no record yet. To measure the rest: pytest --benchmark --bench-run=here"
    )


@pytest.mark.parametrize(
    ("cases", "claims", "seconds", "line"),
    [
        (120, 44, 163.4, "plan  120 cases to measure and 44 claims to prove: about 2:43 minutes"),
        (1, 1, 12.0, "plan  1 case to measure and 1 claim to prove: about 0:12 minutes"),
        (0, 0, 10.0, "plan  0 cases to measure and 0 claims to prove: about 0:10 minutes"),
    ],
)
def test_plan_line(cases: int, claims: int, seconds: float, line: str) -> None:
    """A session begins with what is to come and how long it will take."""
    assert plan_line(cases, claims, seconds) == line


def test_account_line() -> None:
    """A session ends with where its time went: phases of no time are not told, the rest is overhead."""
    phases = {"start-up": 4.2, "proving": 0.0, "agreeing": 1.5, "measuring": 6.0, "writing": 0.013}
    account = SessionAccount(phases, 125.0, "now", "later", 3)
    assert account_line(account) == (
        "time  2:05 minutes: start-up 4.20 s, agreeing 1.50 s, measuring 6.00 s, writing 13.0 ms; "
        "95% of it was not measuring"
    )
