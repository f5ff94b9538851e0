"""Processors: a worker runs on those that were idle of late, as a made-up /proc/stat tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.bench.machine import usable_cpus
from harness.bench.measure.processors import Processors, usable_processors

USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, GUEST, GUEST_NICE = range(10)


class Machine:
    """A machine whose processors worked as much as a test says."""

    def __init__(self, folder: Path, count: int) -> None:
        self.stat = folder / "stat"
        self.ticks = [[1000] * 10 for _ in range(count)]
        self.write()

    def write(self) -> None:
        """Write what the kernel would."""
        lines = [f"cpu{number} {' '.join(map(str, ticks))}" for number, ticks in enumerate(self.ticks)]
        total = [sum(column) for column in zip(*self.ticks, strict=True)]
        whole = [
            "cpu  " + " ".join(map(str, total)),
            *lines,
            "intr 12 0 7",
            "ctxt 9",
            "btime 1",
            "procs_blocked 0",
        ]
        self.stat.write_text("\n".join(whole) + "\n", encoding="ascii")

    def work(self, busy: Sequence[int], column: int = USER, rest: int = IDLE) -> None:
        """Let a hundred ticks pass, of which each processor worked so many."""
        for ticks, share in zip(self.ticks, busy, strict=True):
            ticks[column] += share
            ticks[rest] += 100 - share
        self.write()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine of four processors."""
    return Machine(tmp_path, 4)


def test_the_idlest_are_chosen(machine: Machine) -> None:
    """What counts is how busy they were since the last look, and not since the machine started."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    assert processors.choose(1) == (0,)
    machine.work([90, 50, 10, 70])
    assert processors.choose(1) == (2,)
    machine.work([20, 50, 90, 70])
    assert processors.choose(2) == (0, 1)
    machine.work([0, 50, 30, 90])
    assert processors.choose(3) == (0, 2, 1)


def test_noise_decides_nothing(machine: Machine) -> None:
    """Processors that are about as busy are taken in their order."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    processors.choose(1)
    machine.work([4, 1, 0, 3])
    assert processors.choose(4 - 1) == (0, 1, 2)


@pytest.mark.parametrize("column", [USER, NICE, SYSTEM, IRQ, SOFTIRQ, STEAL])
def test_all_work_counts(machine: Machine, column: int) -> None:
    """A processor is busy whoever keeps it so, the host of a virtual machine included."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    processors.choose(1)
    machine.work([80, 80, 0, 80], column)
    assert processors.choose(1) == (2,)


@pytest.mark.parametrize("column", [IDLE, IOWAIT])
def test_waiting_is_no_work(machine: Machine, column: int) -> None:
    """A processor that waits for a disk is idle."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    processors.choose(1)
    machine.work([80, 80, 0, 80], rest=column)
    assert processors.choose(1) == (2,)


def test_guests_count_once(machine: Machine) -> None:
    """Time of a guest is user time already."""
    processors = Processors(machine.stat, (0, 1))
    processors.choose(1)
    machine.ticks[0][GUEST] += 1000
    machine.ticks[0][GUEST_NICE] += 1000
    machine.work([30, 60, 0, 0])
    assert processors.choose(1) == (0,)


def test_all_processors_are_no_choice(machine: Machine) -> None:
    """Where all are asked for, or more, none is named: the worker stays wherever it may be."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    assert processors.choose(4) == processors.choose(5) == ()
    assert Processors(machine.stat, ()).choose(1) == ()
    assert Processors(machine.stat, (3,)).choose(1) == ()


def test_only_usable_processors_are_chosen(machine: Machine) -> None:
    """A processor that this process may not use is never named, however idle."""
    processors = Processors(machine.stat, (1, 3))
    processors.choose(1)
    machine.work([0, 90, 0, 10])
    assert processors.choose(1) == (3,)


def test_without_the_file_they_are_taken_in_order(tmp_path: Path, machine: Machine) -> None:
    """Where the kernel tells nothing, or not of all, nothing is known against any."""
    assert Processors(tmp_path / "none", (2, 5, 7)).choose(2) == (2, 5)
    processors = Processors(machine.stat, (0, 9))
    processors.choose(1)
    machine.work([90, 0, 0, 0])
    assert processors.choose(1) == (9,)


def test_a_look_that_comes_at_once_is_none(machine: Machine) -> None:
    """Where no tick went by nothing is known."""
    processors = Processors(machine.stat, (0, 1, 2, 3))
    assert processors.choose(1) == processors.choose(1) == (0,)


def test_usable_processors_are_those_of_the_affinity() -> None:
    """As many as the harness counts elsewhere, each once."""
    found = usable_processors()
    assert len(found) in (usable_cpus(), 0)
    assert list(found) == sorted(set(found))
