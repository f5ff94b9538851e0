"""The order of an examination: nothing that works stands before what looks at the load."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from harness.bench.conditions.frequency import slowed_by_heat
from harness.bench.conditions.load import Ticks, read_ticks
from harness.bench.conditions.processor import hypervisor
from harness.bench.conditions.tree import Tree
from harness.bench.machine import TESTED_TORCH, identity, torch_notice
from harness.doors.doctor.allocator import examine_allocator
from harness.doors.doctor.clocks import examine_clocks
from harness.doors.doctor.counters import examine_counters
from harness.doors.doctor.finding import Finding, missing
from harness.doors.doctor.folder import examine_folder
from harness.doors.doctor.frequency import examine_frequency, throttling
from harness.doors.doctor.gpu import examine_gpus
from harness.doors.doctor.load import examine_load, stolen_time
from harness.doors.doctor.memory import examine_memory
from harness.doors.doctor.noise import examine_noise
from harness.doors.doctor.processor import examine_processor
from harness.doors.doctor.summary import summarise_findings
from harness.doors.doctor.tools import examine_tools
from harness.doors.doctor.trial import Trial, run_trial


@dataclass(frozen=True)
class Counted:
    """What the kernel has counted until a moment: ticks of the processors, and times of heat."""

    ticks: dict[str, Ticks]
    heat: int | None


@dataclass(frozen=True)
class Measured:
    """A measurement, or what went wrong with it, between two counts."""

    result: Trial | Exception
    before: Counted
    after: Counted


@dataclass
class Patient:
    """The machine under examination."""

    tree: Tree = field(default_factory=Tree)
    measure: Callable[[], Trial] = run_trial
    start: Path = field(default_factory=Path.cwd)

    @cached_property
    def cpus(self) -> frozenset[int]:
        """The processors that this process may use."""
        if hasattr(os, "sched_getaffinity"):
            return frozenset(os.sched_getaffinity(0))
        return frozenset(range(os.cpu_count() or 1))

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What machine this is."""
        return identity()

    @cached_property
    def trial(self) -> Trial:
        """The measurement of the allocator and of noise; what went wrong with it is raised every time."""
        if isinstance(self.measured.result, Exception):
            raise self.measured.result
        return self.measured.result

    @cached_property
    def measured(self) -> Measured:
        """The same with what was counted around it, made when it is first asked for."""
        before, result = self._counted(), _attempt(self.measure)
        return Measured(result, before, self._counted())

    def _counted(self) -> Counted:
        return Counted(read_ticks(self.tree), slowed_by_heat(self.tree))


def _attempt(measure: Callable[[], Trial]) -> Trial | Exception:
    try:
        return measure()
    except Exception as error:
        return error


def make_checks(patient: Patient) -> list[Finding]:
    """Return one finding per check: what was looked at, what was found, the advice or None, and the level.

    A check that fails is a finding too.
    """
    findings = [finding for name, check in _CHECKS.items() for finding in _made(name, check, patient)]
    return [*findings, summarise_findings(findings)]


def _made(name: str, check: Callable[[Patient], list[Finding]], patient: Patient) -> list[Finding]:
    try:
        return check(patient)
    except Exception as error:
        # The doctor is asked when something is amiss: one surprise must not hide the other findings.
        reason = f"It could not be examined: {type(error).__name__}: {error}".rstrip(".")
        return [missing(name, f"{reason}.", "Everything else below and above still holds.")]


def _processor(patient: Patient) -> list[Finding]:
    facts, capability = patient.identity, torch.backends.cpu.get_cpu_capability()
    installed = facts["cpus"] or len(patient.cpus)
    return examine_processor(patient.tree, patient.cpus, facts["cpu"], installed, capability)


def _disturbances(patient: Patient) -> list[Finding]:
    """Return what was counted while the noise was measured."""
    before, after = patient.measured.before, patient.measured.after
    stolen = stolen_time(before.ticks, after.ticks, hypervisor(patient.tree))
    return [stolen, throttling(before.heat, after.heat)]


# By the name that a failed check is reported under.
_CHECKS: dict[str, Callable[[Patient], list[Finding]]] = {
    "load": lambda patient: examine_load(patient.tree, patient.cpus),
    "processor": _processor,
    "frequency scaling": lambda patient: examine_frequency(patient.tree, patient.cpus),
    "memory": lambda patient: examine_memory(patient.tree),
    "clocks": lambda patient: examine_clocks(patient.tree),
    "allocator": lambda patient: examine_allocator(patient.trial, platform=sys.platform),
    "noise floor": lambda patient: examine_noise(patient.trial),
    "stolen time": _disturbances,
    "counters": lambda patient: examine_counters(patient.tree),
    "CUDA": lambda patient: examine_gpus(patient.identity["gpus"], patient.identity["driver"]),
    "torch": lambda _: examine_tools(torch.__version__, TESTED_TORCH, torch_notice()),
    "run folder": lambda patient: examine_folder(patient.start),
}
