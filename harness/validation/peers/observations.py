"""What was observed so far: a folder with one file of JSON lines, so that a killed comparison goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.paper.errors import RunRefusedError
from harness.paper.record import CaseId

FILE = "observations.jsonl"


@dataclass(frozen=True)
class Experiment:
    """What must stay the same for observations to belong together.

    seconds: what each tool has for a case in a round. machine, versions, sources: where and with what.
    """

    cases: tuple[CaseId, ...]
    seconds: float
    allocator: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    sources: str


@dataclass(frozen=True)
class Observation:
    """What one tool reported for one case in one round, or why it reported nothing.

    load: ``quiet`` or ``busy``. spent: seconds that the tool's processes took beside starting.
    """

    load: str
    round: int
    tool: str
    case: CaseId
    value: float | None = None
    low: float | None = None
    high: float | None = None
    also: Mapping[str, float] = field(default_factory=dict)
    spent: float | None = None
    reason: str | None = None
    started: str | None = None
    load_average: float | None = None


class Notebook:
    """The file of one experiment. Raises :class:`RunRefusedError` for one that another experiment wrote."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.experiment: Experiment | None = None
        self.observations: list[Observation] = []
        for entry in self._entries():
            if entry.get("kind") == "experiment":
                self.experiment = _experiment(entry)
            elif entry.get("kind") == "observation":
                self.observations.append(_observation(entry))

    def _entries(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        # What follows the last newline is empty, or a line that a killed process left unfinished.
        for number, line in enumerate(lines[:-1], 1):
            try:
                entry = json.loads(line)
            except ValueError:
                raise RunRefusedError(
                    f"Line {number} of {self.path} is no JSON: name another folder with --out."
                ) from None
            yield entry

    def open(self, asked: Experiment) -> None:
        """Begin an experiment, or go on with it where it is the same in all but its cases."""
        if self.experiment is None:
            self._append({"kind": "experiment", **asdict(asked)})
            self.experiment = asked
            return
        found, wanted = asdict(self.experiment), asdict(asked)
        for name in ("seconds", "allocator", "machine", "versions", "sources"):
            if found[name] != wanted[name]:
                raise RunRefusedError(
                    f"{self.path} was begun with {name} {found[name]!r}, and now it is {wanted[name]!r}: "
                    "name another folder with --out."
                )

    def add(self, observations: Sequence[Observation]) -> None:
        """Append what a turn brought."""
        for observation in observations:
            self._append({"kind": "observation", **asdict(observation)})
            self.observations.append(observation)

    def values(self, load: str, tool: str, case: CaseId) -> list[Observation]:
        """Return what has a value, in the order of rounds."""
        found = [
            one
            for one in self.observations
            if (one.load, one.tool, one.case) == (load, tool, case) and one.value is not None
        ]
        return sorted(found, key=lambda one: one.round)

    def has(self, load: str, number: int, tool: str, case: CaseId) -> bool:
        """Whether a round holds an observation; one without a value is asked for again."""
        return any(one.round == number for one in self.values(load, tool, case))

    def _append(self, entry: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            _cut_unfinished_line(file)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _cut_unfinished_line(file: Any) -> None:
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)


def _experiment(entry: Mapping[str, Any]) -> Experiment:
    content = {name: value for name, value in entry.items() if name != "kind"}
    return Experiment(**{**content, "cases": tuple(CaseId(**case) for case in content["cases"])})


def _observation(entry: Mapping[str, Any]) -> Observation:
    content = {name: value for name, value in entry.items() if name != "kind"}
    return Observation(**{**content, "case": CaseId(**content["case"])})
