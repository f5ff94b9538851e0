"""What was observed so far: one file of JSON lines, so that a killed validation goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.paper.errors import RunRefusedError
from harness.validation.gate.frozen import Frozen
from harness.validation.gate.plants import Plant, Scale
from harness.validation.gate.schedule import Trial
from harness.validation.gate.suite import Entry
from harness.validation.gate.truth import Truth

FILE = "trials.jsonl"
Line = Mapping[str, Any]


class Notebook:
    """The file of one validation. Raises :class:`RunRefusedError` for one that cannot be gone on with.

    frozen: what was fixed before the first trial. results: of trials, by name. truths: of plants, by key.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.frozen: Frozen | None = None
        self.results: dict[str, Line] = {}
        self.scales: dict[str, Scale] = {}
        self.truths: dict[str, Truth] = {}
        for entry in self._entries():
            self._take(entry)

    def open(self, asked: Frozen) -> Frozen:
        """Write down what is frozen, or compare it with what an earlier command wrote; return the latter."""
        if self.frozen is None:
            self._append({"line": "frozen", **asdict(asked)})
        else:
            difference = self.frozen.difference(asked)
            if difference:
                raise RunRefusedError(
                    f"{self.path} was begun with {difference}: thresholds may not change once trials have "
                    "been seen, so name another folder with --out."
                )
        assert self.frozen is not None
        return self.frozen

    def add_scales(self, scales: Mapping[str, Scale]) -> None:
        """Write down by what plants are sized."""
        self._append({"line": "scales", "scales": {name: asdict(one) for name, one in scales.items()}})

    def add_result(self, trial: Trial, result: Line) -> None:
        """Write down a finished trial."""
        self._append({"line": "trial", "trial": asdict(trial), **result})

    def add_truths(self, truths: Mapping[str, Truth]) -> None:
        """Write down the true sizes of plants by their keys."""
        self._append({"line": "truths", "truths": {key: asdict(one) for key, one in truths.items()}})

    def trials(self, kind: str) -> list[tuple[Trial, Line]]:
        """Return the finished trials of a kind with their results."""
        found = [(Trial(**line["trial"]), line) for line in self.results.values()]
        return [(trial, line) for trial, line in found if trial.kind == kind]

    def _take(self, entry: Line) -> None:
        kind = entry.get("line")
        if kind == "frozen":
            self.frozen = Frozen(**{name: value for name, value in entry.items() if name != "line"})
        elif kind == "scales":
            self.scales |= {name: Scale(**one) for name, one in entry["scales"].items()}
        elif kind == "trial":
            self.results[Trial(**entry["trial"]).name] = entry
        elif kind == "truths":
            self.truths |= {key: Truth(**one) for key, one in entry["truths"].items()}

    def _entries(self) -> Iterator[Line]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        # What follows the last newline is empty, or a line that a killed process left unfinished.
        for number, line in enumerate(lines[:-1], 1):
            try:
                yield json.loads(line)
            except ValueError:
                raise RunRefusedError(
                    f"Line {number} of {self.path} is no JSON: name another folder with --out."
                ) from None

    def _append(self, entry: Line) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            _cut_unfinished_line(file)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(entry)


def _cut_unfinished_line(file: Any) -> None:
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        file.truncate(whole)


def key_of(entry: Entry, plant: Plant) -> str:
    """Return what the truth about a plant is kept under."""
    return f"{entry.operator}/{plant.kind}/{plant.size:g}"
