"""The truth about plants: their size on this machine, and the scale by which they are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import expm1
from pathlib import Path
from typing import Any

from harness.paper.errors import SameopError
from harness.validation.gate.exact import mean_of
from harness.validation.gate.plants import SLEEP, Plant, Scale
from harness.validation.gate.suite import Entry
from harness.validation.peers.turns import environment

_SCALED_BY = 3
# So many processes measure a plant, for so long each: together they know it to about a third of a percent
# where a single process is off by one.
_PROCESSES, _SECONDS = 8, 0.5
_PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True)
class Truth:
    """What a plant costs: a share of a call without it, with its 95 % interval, and on which clock."""

    value: float
    low: float
    high: float
    clock: str


def scales(folder: Path, entries: Sequence[Entry]) -> dict[str, Scale]:
    """Measure by operator what sizes are reckoned by, in a folder with the cases."""
    found = _ask("scale", {"base": folder}, entries, _SCALED_BY, 0.0)
    return {operator: _median(answers) for operator, answers in found.items()}


def truths(
    base: Path,
    head: Path,
    plants: Mapping[Entry, Plant],
    processes: int = _PROCESSES,
    seconds: float = _SECONDS,
) -> dict[str, Truth]:
    """Measure by operator what plants cost, in folders with the cases before and after the change."""
    found = _ask("truth", {"base": base, "head": head}, list(plants), processes, seconds)
    kinds = {entry.operator: plant.kind for entry, plant in plants.items()}
    return {operator: _truth(answers, kinds[operator]) for operator, answers in found.items()}


def _truth(answers: Sequence[Mapping[str, float]], kind: str) -> Truth:
    # A sleep is invisible to the clock that stands still while others run.
    clock = "wall" if kind == SLEEP else "cpu"
    mean = mean_of([answer[clock] for answer in answers])
    return Truth(expm1(mean.value), expm1(mean.low), expm1(mean.high), clock)


def _median(answers: Sequence[Mapping[str, Any]]) -> Scale:
    middle = {name: sorted(answer[name] for answer in answers)[len(answers) // 2] for name in answers[0]}
    return Scale(**middle)


def _ask(
    what: str, sides: Mapping[str, Path], entries: Iterable[Entry], processes: int, seconds: float
) -> dict[str, list[dict[str, Any]]]:
    """Let a fresh interpreter measure. Raises :class:`SameopError` where it fails."""
    task = {
        "what": what,
        "sides": {side: str(folder) for side, folder in sides.items()},
        "entries": [asdict(entry) for entry in entries],
        "processes": processes,
        "seconds": seconds,
        "parent": os.getpid(),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "harness.validation.gate.instrument"],
        input=json.dumps(task),
        env=environment("pinned"),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SameopError(f"The instrument for the size of plants failed ({said}): run it again.")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {Entry(**line["entry"]).operator: line["found"] for line in lines}
    failed = [answer["failed"] for answers in found.values() for answer in answers if "failed" in answer]
    if failed:
        raise SameopError(f"The instrument for the size of plants failed ({failed[0]}): run it again.")
    return found
