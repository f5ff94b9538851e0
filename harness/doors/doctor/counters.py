"""Counters beside the clocks: energy, events of the processor, instructions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from harness.bench.conditions.tree import Tree
from harness.bench.measure.energycounters import POWERCAP, CounterError, Rapl
from harness.doors.doctor.finding import Finding, advise, fine, missing

_ENERGY = "energy of the CPU"
_EVENTS = "performance events"
_PARANOID = "proc/sys/kernel/perf_event_paranoid"
# From 3 on, a setting that some distributions add, only the administrator may count events.
_CLOSED = 3


def examine_counters(
    tree: Tree, which: Callable[[str], str | None] = shutil.which, administrator: bool | None = None
) -> list[Finding]:
    """Return which counters can be read, and what is lost without each.

    administrator: whether this process may do anything; looked up unless it is handed in.
    """
    if administrator is None:
        administrator = hasattr(os, "geteuid") and os.geteuid() == 0
    return [_energy(tree), _performance(tree, administrator), _valgrind(which("valgrind"))]


def _energy(tree: Tree) -> Finding:
    try:
        counter = Rapl(tree.root / POWERCAP.relative_to("/"))
    except CounterError as error:
        reason = str(error)
        lost = "Records of CPU cases hold this reason in the place of joules."
        return missing(_ENERGY, f"{reason[0].upper()}{reason[1:]}.", lost, _ENERGY)
    return fine(_ENERGY, f"The counter can be read: {counter.name}.", _ENERGY)


def _performance(tree: Tree, administrator: bool) -> Finding:
    setting = tree.number(_PARANOID)
    lost = "perf cannot count cycles or cache misses here, so it cannot help to explain a time."
    if setting is None:
        return missing(_EVENTS, "The kernel offers none.", lost, _EVENTS)
    if setting >= _CLOSED and not administrator:
        found = f"They are for the administrator alone (perf_event_paranoid is {setting})."
        return missing(_EVENTS, found, f"{lost} A setting of 2 allows it.", _EVENTS)
    if not tree.paths("sys/bus/event_source/devices/cpu*/type"):
        found = f"They are allowed (perf_event_paranoid is {setting}), but the processor shows no counters."
        return missing(_EVENTS, found, lost, _EVENTS)
    return fine(_EVENTS, f"They can be counted (perf_event_paranoid is {setting}).", _EVENTS)


def _valgrind(path: str | None) -> Finding:
    what = "instruction counts"
    if path is None:
        return missing(
            "valgrind", "It is not installed.", f"Without it {what} are left out: install valgrind.", what
        )
    return advise("valgrind", f"It is installed: {path}.", None, what)
