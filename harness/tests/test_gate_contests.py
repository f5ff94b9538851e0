"""Contests in stages, with groves that need no process."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log1p
from typing import Any, cast

import pytest

from harness.bench.twins.inspection import Inspection
from harness.bench.twins.pair import BASE, HEAD, SideFailedError
from harness.bench.twins.twins import Twins
from harness.doors.gate.contests import Contest, Contestants
from harness.paper.gate.outcome import TwinNumber, Verdict
from harness.paper.gate.policy import Policy
from harness.paper.gate.rule import Rule
from harness.paper.record import CaseId, Status

Answer = Mapping[str, Any]
SOUND = Inspection({"status": Status.MEASURED}, "bits", "L0")
SLOWER = {"one": 0.0, "two": 0.10}


def case(name: str) -> CaseId:
    """Name a case by its implementation."""
    return CaseId("scale", "core", name, "tiny/one", "float32", "cpu", "forward")


def contest(name: str) -> Contest:
    """Set a case up between base and head."""
    return Contest(case(name), ("base", "head"), {"base": SOUND, "head": SOUND})


@dataclass
class World:
    """Groves with what they measure. slower: by case. fails: raises for a case in the n-th grove, from 1."""

    slower: Mapping[str, float] = field(default_factory=lambda: dict(SLOWER))
    fails: Callable[[str, int], Answer | None] = lambda name, grove: None
    dies: Callable[[str, int], bool] = lambda name, grove: False
    measured: list[list[str]] = field(default_factory=list)
    sides: list[Sequence[str]] = field(default_factory=list)
    seconds: float = 0.0

    @contextlib.contextmanager
    def grove(self, sides: Sequence[str]) -> Iterator[Grove]:
        """Give a fresh grove."""
        self.measured.append([])
        self.sides.append(sides)
        yield Grove(self, len(self.measured))


@dataclass
class Grove:
    """Measures by what its world says, with a little noise."""

    world: World
    number: int
    is_alive: bool = True
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def measure(self, case: CaseId, sides: object, known: object, threads: int) -> TwinNumber:
        """Return a number, or raise what the world says."""
        name = case.implementation
        self.world.measured[-1].append(name)
        self.world.seconds += 1.0
        if self.world.dies(name, self.number):
            self.is_alive = False
        if failed := self.world.fails(name, self.number):
            raise SideFailedError(failed["side"], failed)
        noise = random.Random(f"{name}{self.number}").gauss(0, 0.002)
        value = log1p(self.world.slower[name]) + noise
        return TwinNumber(value, value, 20, 0.01, 1e-3)


def run(world: World, *names: str, until: float = 1e9) -> dict[str, Contest]:
    """Run contests to their end."""
    contests = [contest(name) for name in names]
    rule = Rule(Policy(processes=(4, 12, 12)), len(contests))
    told: list[str] = []
    twins = cast("Twins", world)
    Contestants(twins, rule, until, told.append, now=lambda: world.seconds).run(contests)
    return {found.case.implementation: found for found in contests}


def test_only_what_is_flagged_takes_fresh_processes() -> None:
    """The unchanged case ends with the screen, the slower one goes on in other groves."""
    world = World()
    found = run(world, "one", "two")
    assert [sorted(names) for names in world.measured] == [["one", "two"]] * 4 + [["two"]] * 12
    assert found["one"].outcome().verdict is Verdict.PASS
    assert found["two"].outcome().verdict is Verdict.FAIL
    assert [len(stage) for stage in found["two"].stages] == [4, 12]


def test_a_crash_in_a_later_process_ends_its_case_alone() -> None:
    """The others go on; the verdict says in whose process it was."""
    crash = {"status": Status.CRASHED, "reason": "Its process ended with signal SIGSEGV.", "side": HEAD}
    world = World(fails=lambda name, grove: crash if (name, grove) == ("two", 3) else None)
    found = run(world, "one", "two")
    outcome = found["two"].outcome()
    assert outcome.verdict is Verdict.BROKEN
    assert "head was sound at first" in outcome.reason
    assert "SIGSEGV" in outcome.reason
    assert found["one"].outcome().verdict is Verdict.PASS
    assert "two" not in world.measured[3]


@pytest.mark.parametrize(
    ("side", "status", "verdict"),
    [
        (HEAD, Status.DISAGREED, Verdict.DISAGREED),
        (HEAD, Status.NONDETERMINISTIC, Verdict.DISAGREED),
        (HEAD, Status.TIMED_OUT, Verdict.BROKEN),
        (BASE, Status.DISAGREED, Verdict.INCONCLUSIVE),
    ],
)
def test_a_later_failure_has_the_verdict_of_its_side(side: int, status: Status, verdict: Verdict) -> None:
    """What base does wrong is nobody's slowdown, and no pass either."""
    failed = {"status": status, "reason": "no.", "side": side}
    assert run(World(fails=lambda *_: failed), "one")["one"].outcome().verdict is verdict


def test_a_grove_that_a_page_ended_is_grown_again() -> None:
    """Every case has its four numbers all the same."""
    world = World(dies=lambda name, grove: (name, grove) == ("one", 2))
    found = run(world, "one", "two")
    assert len(found["one"].stages[0]) == len(found["two"].stages[0]) == 4
    assert len(world.measured) == 17 if world.measured[1] == ["one"] else 16


def test_without_time_what_is_ambiguous_is_no_pass() -> None:
    """The slower case was flagged, and nothing fresh could be measured."""
    outcome = run(World(), "one", "two", until=8.0)["two"].outcome()
    assert outcome.verdict is Verdict.INCONCLUSIVE
    assert "budget was over" in outcome.reason


def test_a_grove_has_the_sides_of_its_contests() -> None:
    """Controls have sides of their own, which cost nothing once they are decided."""
    world = World(slower={"one": 0.0, "two": 0.0})
    contests = [
        contest("one"),
        Contest(case("two"), ("base", "again"), {"base": SOUND, "again": SOUND}, kind="A/A"),
    ]
    rule = Rule(Policy(processes=(4, 12, 12)), 1, 1)
    Contestants(cast("Twins", world), rule, 1e9, lambda _: None, now=lambda: 0.0).run(contests)
    assert set(world.sides[0]) == {"base", "head", "again"}
    assert all(set(sides) == {"base", "again"} for sides in world.sides[4:])
    assert all(each.is_decided for each in contests)
