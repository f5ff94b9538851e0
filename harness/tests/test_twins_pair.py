"""A pair of processes in lock-step, with workers that compute as long as a test says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from math import log
from typing import Any

import pytest

from harness.bench.measure.clocks import Block
from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT, Mode
from harness.bench.twins.pair import BASE, HEAD, Pair, SideFailedError
from harness.paper.record import Status

MODE = Mode.of(HOT, "cpu", 1)
BEGUN = {"status": Status.MEASURED, "seconds_per_call": 300e-6, "bits": "", "reason": None}


@dataclass
class Machine:
    """What both processes run on. moment: seconds since the start. speed: of a call, by the moment."""

    speed: Callable[[float], float] = lambda moment: 1.0
    moment: float = 0.0
    asked: list[tuple[int, str]] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)


@dataclass
class Process:
    """Answers for one side. seconds: of a call. waits: how often a block gives the processor away."""

    machine: Machine
    side: int
    seconds: float
    waits: int = 0
    asleep: float = 0.0
    answers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Compute, and let time pass."""
        task = request["task"]
        self.machine.asked.append((self.side, task))
        if task in self.answers:
            return self.answers[task]
        if task != "block":
            return BEGUN
        calls = request["options"]["calls"]
        self.machine.calls.append(calls)
        cpu = calls * self.seconds * self.machine.speed(self.machine.moment)
        wall = cpu + calls * self.asleep
        self.machine.moment += wall
        block = Block(calls, wall, cpu, 0.0, 0, self.waits, 0)
        return {"status": Status.MEASURED, "block": asdict(block)}


def pair_of(machine: Machine, base: Process, head: Process) -> Pair:
    """Begin a pair on a machine whose clock is that of the blocks."""
    pair = Pair((base, head), MODE, random.Random(1), now=lambda: machine.moment)
    pair.begin((Job("begin"), Job("begin")))
    return pair


def test_the_ratio_is_that_of_the_processes() -> None:
    """Head takes a tenth longer, whatever the machine does meanwhile."""
    machine = Machine(speed=lambda moment: 1 + 3 * moment)
    pair = pair_of(machine, Process(machine, BASE, 300e-6), Process(machine, HEAD, 330e-6))
    found = pair.measure(0.2)
    assert found.cpu == pytest.approx(log(1.1), abs=2e-3)
    assert found.wall == pytest.approx(log(1.1), abs=2e-3)


def test_a_steady_drift_cancels_in_every_quad() -> None:
    """ABBA and BAAB weigh a linear drift equally on both sides."""
    machine = Machine(speed=lambda moment: 1 + 0.5 * moment)
    pair = pair_of(machine, Process(machine, BASE, 300e-6), Process(machine, HEAD, 300e-6))
    found = pair.measure(0.1)
    assert found.cpu == pytest.approx(0, abs=1e-4)
    assert found.spread < 1e-4


def test_blocks_come_in_quads_that_either_side_may_open() -> None:
    """The first and the last block of a quad are of one side, and chance says of which."""
    machine = Machine()
    pair_of(machine, Process(machine, BASE, 300e-6), Process(machine, HEAD, 300e-6)).measure(0.3)
    sides = [side for side, task in machine.asked if task == "block"]
    quads = {tuple(sides[start : start + 4]) for start in range(0, len(sides), 4)}
    assert quads == {(BASE, HEAD, HEAD, BASE), (HEAD, BASE, BASE, HEAD)}


def test_both_sides_make_equally_many_calls() -> None:
    """A block lasts about 1.5 ms, by the faster side."""
    machine = Machine()
    pair_of(machine, Process(machine, BASE, 300e-6), Process(machine, HEAD, 600e-6)).measure(0.05)
    assert set(machine.calls) == {5}


@pytest.mark.parametrize("side", [BASE, HEAD])
def test_what_waits_is_told_by_the_wall_alone(side: int) -> None:
    """The CPU clock stands still in a sleep, on whichever side it is."""
    machine = Machine()
    processes = [
        Process(machine, each, 300e-6, waits=5 * (each == side), asleep=30e-6 * (each == side))
        for each in (BASE, HEAD)
    ]
    found = pair_of(machine, *processes).measure(0.05)
    assert found.cpu is None
    assert found.wall == pytest.approx(log(1.1) * (1 if side == HEAD else -1), abs=1e-3)


def test_slow_calls_still_make_enough_quads() -> None:
    """Six quads, however little time was granted."""
    machine = Machine()
    base, head = Process(machine, BASE, 50e-3), Process(machine, HEAD, 50e-3)
    slow = {"begin": {**BEGUN, "seconds_per_call": 50e-3}}
    base.answers = head.answers = slow
    found = pair_of(machine, base, head).measure(0.01)
    assert found.quads == 6
    assert found.seconds == pytest.approx(50e-3)
    assert set(machine.calls) == {1}


def test_one_interrupted_block_moves_little() -> None:
    """The mean of the middle half leaves it out."""
    ticks: Iterator[int] = count()
    machine = Machine(speed=lambda _: 50.0 if next(ticks) == 7 else 1.0)
    pair = pair_of(machine, Process(machine, BASE, 300e-6), Process(machine, HEAD, 300e-6))
    assert pair.measure(0.2).cpu == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("task", ["begin", "block", "end"])
@pytest.mark.parametrize("side", [BASE, HEAD])
def test_a_process_that_fails_is_named_by_its_side(side: int, task: str) -> None:
    """Whoever asked decides what it means."""
    machine = Machine()
    failed = {"status": Status.CRASHED, "reason": "Its process ended with signal SIGSEGV."}
    processes = [Process(machine, each, 300e-6) for each in (BASE, HEAD)]
    processes[side].answers = {task: failed}
    with pytest.raises(SideFailedError, match="SIGSEGV") as raised:
        measure_all(machine, *processes)
    assert raised.value.side == side


def measure_all(machine: Machine, base: Process, head: Process) -> None:
    """Begin, measure and end."""
    pair = pair_of(machine, base, head)
    pair.measure(0.05)
    pair.end()
