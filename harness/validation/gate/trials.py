"""A trial: a head is made, the real command judges it in a process of its own, and its exit code answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.doors.gate.repository import environment
from harness.paper.errors import Exit
from harness.paper.gate.outcome import CaseOutcome, GateOutcome, Verdict
from harness.validation.gate import loads, noops, plants, rivals
from harness.validation.gate.clone import Clone
from harness.validation.gate.plants import Plant, Scale
from harness.validation.gate.schedule import SAME, Trial
from harness.validation.gate.suite import PATTERN, Entry

# What no run of ten cases needs, whatever else runs.
_PATIENCE_SECONDS = 3600.0
# A part of the run in which a load may begin.
_ONSET = (0.1, 0.9)


@dataclass(frozen=True)
class Sides:
    """The commits of one trial."""

    base: str
    head: str


@dataclass(frozen=True)
class Laboratory:
    """What trials are done in. policy: a file, None for the defaults. typical_seconds: of one run."""

    clone: Clone
    seed: str
    scales: Mapping[str, Scale]
    policy: Path | None = None
    peers: bool = False
    typical_seconds: float = 60.0

    def take(self, trial: Trial) -> dict[str, Any]:
        """Do one trial and return what is written down of it."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        sides = self.sides(trial)
        onset = trial.dice(self.seed, "onset").uniform(*_ONSET) * self.typical_seconds
        with loads.during_gate(trial.load, onset):
            found = self._run_gate(trial, sides)
        return {
            "change": trial.noop if trial.kind == SAME else "plants",
            **found,
            "rivals": self._ask_rivals(trial, sides) if self.peers else None,
            "started": started,
            "load_average": average,
        }

    def sides(self, trial: Trial) -> Sides:
        """Commit what a trial compares."""
        pages = self.clone.pages()
        if trial.kind == SAME:
            return Sides(self.clone.base, self.clone.commit(noops.change(pages, trial.noop)))
        fates = plants.draw(trial.seed(self.seed))
        # A speed-up is work that head no longer does.
        in_base = {entry: plant for entry, plant in fates.items() if plant.is_speed_up}
        in_head = {entry: plant for entry, plant in fates.items() if not plant.is_speed_up}
        return Sides(self._commit(pages, in_base), self._commit(pages, in_head))

    def commit(self, fates: Mapping[Entry, Plant]) -> str:
        """Commit what is planted, and nothing else."""
        return self._commit(self.clone.pages(), fates)

    def _commit(self, pages: Mapping[str, str], fates: Mapping[Entry, Plant]) -> str:
        return self.clone.commit(
            {
                entry.file: plants.write(
                    pages[entry.file], entry.function, plant, self.scales[entry.operator]
                )
                for entry, plant in fates.items()
            }
        )

    def _run_gate(self, trial: Trial, sides: Sides) -> dict[str, Any]:
        seed = trial.dice(self.seed, "gate").randrange(2**32)
        command = [
            # -P: the harness that judges is this one, whatever folder the command runs in.
            *(sys.executable, "-P", "-m", "harness", "gate", "--base", sides.base, "--head", sides.head),
            *("--cases", PATTERN, "--seed", str(seed), "--json"),
            *(("--policy", str(self.policy)) if self.policy else ()),
        ]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command,
                cwd=self.clone.root,
                env=_environment(),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"exit": -1, "cause": f"It did not end within {_PATIENCE_SECONDS:g} s.", "cases": []}
        return {"seconds": time.monotonic() - began, **read(done.returncode, done.stdout, done.stderr)}

    def _ask_rivals(self, trial: Trial, sides: Sides) -> dict[str, Any]:
        with self.clone.worktree(sides.base) as base, self.clone.worktree(sides.head) as head:
            return rivals.ask(base, head, trial.load)


def _environment() -> dict[str, str]:
    """Return the variables of a command that a user would type, importing this harness."""
    return {**environment(), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def read(code: int, printed: str, said: str) -> dict[str, Any]:
    """Return what is kept of a run of the gate, from its exit code and what it wrote."""
    try:
        outcome = GateOutcome.from_json(json.loads(printed))
    except ValueError:
        lines = said.strip().splitlines() or ["it said nothing"]
        return {"exit": code, "cause": " ".join(lines[-2:]), "cases": []}
    return {
        "exit": code,
        "cause": "" if code == Exit.PASS else cause(outcome),
        "cases": [_case(case) for case in outcome.cases],
        "controls": [
            {"kind": one.kind, "case": one.case, "is_sound": one.is_sound, "reason": one.reason}
            for one in outcome.controls
        ],
        "gate_seconds": outcome.seconds,
    }


def cause(outcome: GateOutcome) -> str:
    """Say in a line why a gate was not passed: its cases that do not pass, or what else it says."""
    found = [case for case in outcome.cases if case.verdict not in (Verdict.PASS, Verdict.ACCEPTED)]
    return "; ".join(f"{case.verdict} {case.name}: {case.reason}" for case in found) or "no case"


def _case(case: CaseOutcome) -> dict[str, Any]:
    bounds, wall = case.bounds, case.wall
    return {
        "name": case.name,
        "verdict": str(case.verdict),
        "reason": case.reason,
        "clock": case.clock,
        "ratio": bounds.ratio if bounds else None,
        "detectable": bounds.detectable if bounds else None,
        "wall_ratio": wall.ratio if wall else None,
        "cpu": [[number.cpu for number in stage] for stage in case.stages],
        "wall": [[number.wall for number in stage] for stage in case.stages],
        "peak_bytes": {side: counts.get("peak_bytes") for side, counts in case.counts.items()},
        "seconds": case.seconds,
    }
