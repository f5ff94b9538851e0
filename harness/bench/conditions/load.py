"""What the processors are busy with, between two looks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from harness.bench.conditions.tree import Tree, to_number


@dataclass(frozen=True)
class Ticks:
    """What one processor, or all of them, did since the machine started, in ticks of the kernel."""

    busy: int
    idle: int
    stolen: int

    def since(self, earlier: Ticks) -> Ticks:
        """Return what was done in between."""
        return Ticks(self.busy - earlier.busy, self.idle - earlier.idle, self.stolen - earlier.stolen)

    @property
    def busy_share(self) -> float | None:
        """Share of the time in which it worked; None where no tick passed."""
        passed = self.busy + self.idle + self.stolen
        return self.busy / passed if passed > 0 else None

    @property
    def stolen_share(self) -> float | None:
        """Share of the time in which it had work that the hypervisor gave to somebody else."""
        wanted = self.busy + self.stolen
        return self.stolen / wanted if wanted > 0 else None


def read_ticks(tree: Tree) -> dict[str, Ticks]:
    """Return the ticks of ``cpu``, which is all of them together, of ``cpu0`` and so on."""
    found = {}
    for line in (tree.text("proc/stat") or "").splitlines():
        name, *fields = line.split()
        if not name.startswith("cpu"):
            break
        counts = [to_number(field) for field in fields[:8]]
        if len(counts) == 8 and None not in counts:
            user, nice, system, idle, waiting, hard, soft, stolen = (count or 0 for count in counts)
            found[name] = Ticks(user + nice + system + hard + soft, idle + waiting, stolen)
    return found


@dataclass(frozen=True)
class Process:
    """A process and the ticks that it has used."""

    number: int
    name: str
    ticks: int


def read_processes(tree: Tree) -> dict[int, Process]:
    """Return the processes that may be seen, by number."""
    found = {}
    for path in tree.paths("proc/[0-9]*/stat"):
        # The name stands in parentheses and may hold any character.
        start, _, rest = (tree.text(path) or "").rpartition(")")
        number, _, name = start.partition("(")
        fields = rest.split()
        if to_number(number) is not None and len(fields) > 12:
            used = (to_number(fields[11]) or 0) + (to_number(fields[12]) or 0)
            found[int(number)] = Process(int(number), name, used)
    return found


def busiest(
    before: Mapping[int, Process], after: Mapping[int, Process], besides: Collection[int]
) -> list[Process]:
    """Return the processes that worked in between, each with the ticks that it used, most first."""
    used = [
        Process(process.number, process.name, process.ticks - before[process.number].ticks)
        for process in after.values()
        if process.number in before and process.number not in besides
    ]
    return sorted((process for process in used if process.ticks > 0), key=lambda one: -one.ticks)


def load_average(tree: Tree) -> float | None:
    """Return how many processes wanted to run over the last minute, on average."""
    first, _, _ = (tree.text("proc/loadavg") or "").partition(" ")
    if not first and tree == Tree() and hasattr(os, "getloadavg"):
        # Other systems than Linux keep the number, and show no file.
        return os.getloadavg()[0]
    try:
        return float(first)
    except ValueError:
        return None
