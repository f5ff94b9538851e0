"""Pairs: the state of the machine in a replicate cancels from the ratio of two times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.bench.case import Case
from harness.bench.measure.clocks import Block
from harness.bench.measure.group import Member
from harness.bench.measure.latency import ProcessSamples
from harness.bench.measure.paired import pair_up
from harness.tests.specimens import implementation, mixing, polynomial


def member(name: str, *seconds: float | None, waits: int = 0) -> Member:
    """Return a member with one process for every number; by the wall they took twice as long."""
    scope = polynomial()
    case = Case(
        scope, replace(implementation(mixing), name=name), scope.workloads[0], "float32", "cpu", "forward"
    )
    samples = [
        ProcessSamples([Block(1, 2 * taken, taken, 0.0, 0, waits, 0)] * 5, number=number)
        for number, taken in enumerate(seconds)
        if taken is not None
    ]
    return Member(case, samples={"hot": samples} if samples else {})


def paired(*members: Member, threads: int = 1) -> list[dict[str, object]]:
    """Pair members and return what is known of each."""
    pair_up(members, threads)
    return [dict(found.paired.get("hot", {})) for found in members]


DRIFT: Sequence[float] = (1.0, 1.3, 0.8, 1.1)


def test_a_drift_of_the_machine_cancels() -> None:
    """Times that vary by a half together have a ratio that does not vary at all."""
    base = member("a", *DRIFT)
    first, second = paired(base, member("b", *(3 * state for state in DRIFT)))
    assert first == {}
    assert second["against"] == str(base.case.id)
    assert second["processes"] == 4
    assert [second[key] for key in ("ratio", "low", "high")] == pytest.approx([3.0, 3.0, 3.0])
    assert second["clock"] == "thread CPU time"


def test_who_was_in_every_replicate_is_compared_with() -> None:
    """A member that stopped early is no base for the others, and shares its own replicates alone."""
    early, late, other = paired(member("a", 1.0, 1.0), member("b", *DRIFT), member("c", *DRIFT))
    assert late == {}
    assert early["processes"] == 2
    assert early["ratio"] == pytest.approx((1 / 1.0 + 1 / 1.3) / 2)
    assert other["processes"] == 4
    assert str(other["against"]) == str(early["against"])
    assert "/b/" in str(other["against"])


def test_replicates_are_matched_by_number() -> None:
    """A replicate that one of them lacks is left out of both."""
    _, second = paired(member("a", 1.0, 2.0, 3.0), member("b", None, 4.0, 6.0))
    assert (second["ratio"], second["processes"]) == (pytest.approx(2.0), 2)


def test_two_clocks_are_not_compared() -> None:
    """Where one is told by the wall, both are."""
    _, second = paired(member("a", 1.0, 1.0), member("b", 1.0, 1.0, waits=1))
    assert (second["ratio"], second["clock"]) == (1.0, "wall")


def test_failures_and_what_is_alone_have_no_ratio() -> None:
    """A member that failed is no base and has none."""
    broken, alone = member("a", 1.0, 1.0), member("b", 1.0, 1.0)
    broken.failure = {"status": "failed"}
    assert paired(broken, alone) == [{}, {}]
    assert paired(member("a")) == [{}]
    assert paired() == []


def test_one_replicate_has_a_ratio_without_an_interval() -> None:
    """One pair says nothing of its spread."""
    _, second = paired(member("a", 1.0), member("b", 2.0))
    assert (second["ratio"], second["low"], second["high"]) == (2.0, None, None)
