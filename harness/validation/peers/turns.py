"""Turns as the comparison sees them: a tool, its cases, a time each; estimates or reasons come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.paper.errors import SameopError
from harness.paper.record import CaseId
from harness.validation.peers.peer import Estimate, Peer
from harness.validation.peers.roster import peer_named

# Importing torch from a slow disk on a loaded machine, and then what no tool should need for one case.
_START_SECONDS, _SECONDS_A_CASE = 180.0, 60.0
# What an allocator is told by; sameop leaves the same out of the environment of its own workers.
_ALLOCATION = ("MALLOC_", "SAMEOP_ALLOCATOR")


@dataclass(frozen=True)
class Turn:
    """One tool measures some cases, ``seconds`` each. allocator: ``default`` or ``pinned``."""

    tool: str
    cases: tuple[CaseId, ...]
    seconds: float
    allocator: str


@dataclass(frozen=True)
class Outcome:
    """What came of one case in a turn: an estimate, or the reason for none.

    spent: seconds that its processes took to measure.
    """

    estimate: Estimate | None
    spent: float | None = None
    reason: str | None = None


def environment(allocator: str) -> dict[str, str]:
    """Return the environment of a measuring process: one thread, and the allocator that is asked for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_ALLOCATION)}
    return {
        **kept,
        **(_pinned() if allocator == "pinned" else {}),
        **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _pinned() -> Mapping[str, str]:
    from harness.bench.measure.workers import PINNED_ALLOCATOR

    return PINNED_ALLOCATOR


def take_turn(turn: Turn, folders: Sequence[Path]) -> Mapping[CaseId, Outcome]:
    """Let a peer take its turn in a fresh interpreter. Raises :class:`SameopError` where none can be had."""
    peer = peer_named(turn.tool)
    with tempfile.TemporaryDirectory() as answers:
        content = {
            "peer": turn.tool,
            "cases": [asdict(case) for case in turn.cases],
            "seconds": turn.seconds,
            "folders": [str(folder) for folder in folders],
            "answers": answers,
            "parent": os.getpid(),
        }
        said = _run(turn, json.dumps(content))
        read = {case: _read(Path(answers), number, peer) for number, case in enumerate(turn.cases)}
    if all(outcome.reason == _NO_ANSWER for outcome in read.values()):
        raise SameopError(f"{turn.tool} could not take its turn: {said or 'it said nothing'}")
    return read


_NO_ANSWER = "it gave no answer"


def _run(turn: Turn, content: str) -> str:
    """Run the turn to its end, and return its last words."""
    command = [sys.executable, "-P", "-m", "harness.validation.peers.turn"]
    limit = _START_SECONDS + len(turn.cases) * (_SECONDS_A_CASE + 10 * turn.seconds)
    try:
        done = subprocess.run(
            command,
            input=content,
            env=environment(turn.allocator),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {limit:g} s"
    return (done.stderr.strip().splitlines() or [""])[-1]


def _read(folder: Path, number: int, peer: Peer) -> Outcome:
    answers: list[Mapping[str, Any]] = []
    for process in range(peer.processes):
        path = folder / f"{number}-{process}.json"
        if not path.exists():
            return Outcome(None, reason=_NO_ANSWER)
        answers.append(json.loads(path.read_text(encoding="utf-8")))
    failed = [answer["failed"] for answer in answers if "failed" in answer]
    if failed:
        return Outcome(None, reason=failed[0])
    found = [answer["found"] for answer in answers]
    return Outcome(peer.combine([one["answer"] for one in found]), sum(one["spent"] for one in found))
