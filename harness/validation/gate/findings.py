"""What the trials say: alarms, plants found and missed, blindness, seconds, symmetry, and the other rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from statistics import fmean

from harness.paper.gate.outcome import Verdict
from harness.validation.gate import plants
from harness.validation.gate.exact import Mean, Share, mean_of, sign_test
from harness.validation.gate.loads import LOADS
from harness.validation.gate.notebook import Line, Notebook, key_of
from harness.validation.gate.plants import ALLOCATION, NULL, Plant
from harness.validation.gate.schedule import PLANT, SAME
from harness.validation.gate.suite import SUITE, Entry
from harness.validation.gate.truth import Truth

# The classes of true sizes in the table of plants, as shares; each ends where the next begins.
SIZES = (-inf, -0.005, 0.005, 0.01, 0.02, 0.03, 0.05, 0.10, inf)
_TIMED = (Verdict.PASS, Verdict.FAIL, Verdict.ACCEPTED, Verdict.INSENSITIVE, Verdict.INCONCLUSIVE)
OURS = "sameop gate"
FOUND, MISSED, BLIND, OPEN = "found", "not found", "insensitive", "inconclusive"
_ANSWERS = {
    Verdict.FAIL: FOUND,
    Verdict.INSENSITIVE: BLIND,
    Verdict.INCONCLUSIVE: OPEN,
    Verdict.PASS: MISSED,
    Verdict.ACCEPTED: MISSED,
}


@dataclass(frozen=True)
class Alarm:
    """A run that ended with something else than 0 although nothing was changed."""

    trial: str
    change: str
    exit: int
    cause: str


@dataclass(frozen=True)
class Planted:
    """One case of a suite with plants. truth: what it cost, None where that is not known yet.

    answer: what the gate said. extra_bytes: that an allocation held. rivals: whether other rules alarmed, by
    name; None where none was asked.
    """

    load: str
    operator: str
    kind: str
    size: float
    truth: Truth | None
    answer: str
    extra_bytes: int
    rivals: Mapping[str, bool] | None

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing was planted."""
        return self.kind == NULL

    def is_at_least(self, share: float) -> bool:
        """Whether it is surely slower than that."""
        return self.truth is not None and self.truth.low >= share

    def is_at_most(self, share: float) -> bool:
        """Whether it is surely no slower than that: by nothing, by a speed-up, or by too little."""
        if self.is_unchanged:
            return True
        # More memory is a rise of its own, whatever the time does.
        return self.kind != ALLOCATION and self.truth is not None and self.truth.high <= share


@dataclass(frozen=True)
class Symmetry:
    """The log ratios of one case where nothing was changed: one number a pair, and their mean by suite."""

    case: str
    numbers: int
    positive: int
    p: float
    mean: Mean


@dataclass
class Findings:
    """Everything that is told of a notebook. lean: the mean log ratio of a suite without a change."""

    suites: dict[str, Share] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    planted: list[Planted] = field(default_factory=list)
    insensitive: dict[str, Share] = field(default_factory=dict)
    seconds_per_case: dict[str, Mean] = field(default_factory=dict)
    symmetry: list[Symmetry] = field(default_factory=list)
    lean: Mean | None = None
    controls: dict[str, Share] = field(default_factory=dict)
    rival_suites: dict[str, Share] = field(default_factory=dict)
    changes: dict[str, Share] = field(default_factory=dict)

    @property
    def all_suites(self) -> Share:
        """The alarms of all loads."""
        return _sum(self.suites.values())


def gather(notebook: Notebook) -> Findings:
    """Work out what a notebook says."""
    same = notebook.trials(SAME)
    lines = [line for _, line in same]
    present = [load for load in LOADS if any(trial.load == load for trial, _ in same)]
    by_load = {load: [line for trial, line in same if trial.load == load] for load in present}
    return Findings(
        suites={load: _share(_is_alarm(line) for line in found) for load, found in by_load.items()},
        alarms=[
            Alarm(trial.name, line["change"], line["exit"], line["cause"])
            for trial, line in same
            if _is_alarm(line)
        ],
        planted=list(_planted(notebook)),
        insensitive={
            load: _share(case["verdict"] == Verdict.INSENSITIVE for case in _timed(found))
            for load, found in by_load.items()
        },
        seconds_per_case={
            load: mean_of(seconds)
            for load, found in by_load.items()
            if (seconds := [line["seconds"] / len(line["cases"]) for line in found if line["cases"]])
        },
        symmetry=_symmetry(lines),
        lean=_lean(lines),
        controls=_controls([line for kind in (SAME, PLANT) for _, line in notebook.trials(kind)]),
        rival_suites=_rival_suites(lines),
        changes={
            change: _share(_is_alarm(line) for line in lines if line["change"] == change)
            for change in dict.fromkeys(line["change"] for line in lines)
        },
    )


def _is_alarm(line: Line) -> bool:
    return bool(line["exit"] != 0)


def _timed(lines: Iterable[Line]) -> list[Line]:
    return [case for line in lines for case in line["cases"] if case["verdict"] in _TIMED]


def _planted(notebook: Notebook) -> Iterator[Planted]:
    """Draw the plants again, which no trial has written down, and hold the verdicts against them."""
    assert notebook.frozen is not None or not notebook.results
    for trial, line in notebook.trials(PLANT):
        assert notebook.frozen is not None
        fates = plants.draw(trial.seed(notebook.frozen.seed))
        verdicts = {case["name"]: case for case in line["cases"]}
        for entry, plant in fates.items():
            case = verdicts.get(entry.case, {})
            yield Planted(
                trial.load,
                entry.operator,
                plant.kind,
                plant.size,
                _truth(notebook, entry, plant),
                _ANSWERS.get(
                    case.get("verdict", ""), f"exit {line['exit']}" if not case else case["verdict"]
                ),
                _extra_bytes(notebook, entry, plant),
                _rivals_of(line, entry),
            )


def _truth(notebook: Notebook, entry: Entry, plant: Plant) -> Truth | None:
    """Return the true size: exactly nothing, a share of peak memory, or what was measured."""
    if plant.is_null:
        return Truth(0.0, 0.0, 0.0, "nothing")
    if plant.kind == ALLOCATION:
        share = _extra_bytes(notebook, entry, plant) / notebook.scales[entry.operator].peak_bytes
        return Truth(share, share, share, "memory")
    return notebook.truths.get(key_of(entry, plant))


def _extra_bytes(notebook: Notebook, entry: Entry, plant: Plant) -> int:
    if plant.kind != ALLOCATION:
        return 0
    return plants.allocated_bytes(plant, notebook.scales[entry.operator])


def _rivals_of(line: Line, entry: Entry) -> dict[str, bool] | None:
    if not line.get("rivals"):
        return None
    return {rule: entry.operator in operators for rule, operators in line["rivals"]["alarms"].items()}


def _symmetry(lines: Sequence[Line]) -> list[Symmetry]:
    found = []
    for entry in SUITE:
        suites = [numbers for line in lines if (numbers := _numbers(line, entry.case))]
        if suites:
            every = [number for numbers in suites for number in numbers]
            means = [fmean(numbers) for numbers in suites]
            positive = sum(number > 0 for number in every)
            found.append(Symmetry(entry.operator, len(every), positive, sign_test(every), mean_of(means)))
    return found


def _lean(lines: Sequence[Line]) -> Mean | None:
    """Return the mean over suites, each of which is one number: its cases met the same machine."""
    suites = [[fmean(found) for entry in SUITE if (found := _numbers(line, entry.case))] for line in lines]
    means = [fmean(suite) for suite in suites if suite]
    return mean_of(means) if means else None


def _numbers(line: Line, name: str) -> list[float]:
    """Return the log ratios of a case in one run, by the clock that decided."""
    for case in line["cases"]:
        if case["name"] == name:
            stages = case["wall"] if case["clock"] == "wall" else case["cpu"]
            return [number for stage in stages for number in stage if number is not None]
    return []


def _controls(lines: Sequence[Line]) -> dict[str, Share]:
    """Count by kind the controls that were not answered as they had to be."""
    every = [control for line in lines for control in line.get("controls", ())]
    kinds = dict.fromkeys(control["kind"] for control in every)
    return {
        kind: _share(not control["is_sound"] for control in every if control["kind"] == kind)
        for kind in kinds
    }


def _rival_suites(lines: Sequence[Line]) -> dict[str, Share]:
    """Count the suites in which a rule alarmed for at least one case, ours among them."""
    asked = [line for line in lines if line.get("rivals")]
    if not asked:
        return {}
    names = list(asked[0]["rivals"]["alarms"])
    others = {name: _share(bool(line["rivals"]["alarms"][name]) for line in asked) for name in names}
    return {OURS: _share(_is_alarm(line) for line in asked), **others}


def rival_finds(planted: Sequence[Planted], least: float) -> dict[str, tuple[Share, Share]]:
    """Return by rule the shares of real slowdowns found, and of unchanged cases that it alarms for."""
    asked = [(one, {OURS: one.answer == FOUND, **one.rivals}) for one in planted if one.rivals is not None]
    slower = [alarms for one, alarms in asked if one.is_at_least(least) and one.kind != ALLOCATION]
    unchanged = [alarms for one, alarms in asked if one.is_unchanged]
    names = dict.fromkeys(name for _, alarms in asked for name in alarms)
    return {
        name: (_share(alarms[name] for alarms in slower), _share(alarms[name] for alarms in unchanged))
        for name in names
    }


@dataclass(frozen=True)
class Row:
    """One row of the confusion table. low and high: the class of true sizes; none for an unknown size."""

    load: str
    kind: str
    low: float
    high: float
    answers: Mapping[str, int]

    @property
    def found(self) -> Share:
        """How many were found."""
        return Share(self.answers.get(FOUND, 0), sum(self.answers.values()))


def confusion(planted: Sequence[Planted]) -> list[Row]:
    """Count the answers by load, kind and true size."""
    counts: dict[tuple[int, str, float, float], Counter[str]] = {}
    for one in planted:
        key = (LOADS.index(one.load), one.kind, *_class_of(one))
        counts.setdefault(key, Counter())[one.answer] += 1
    return [
        Row(LOADS[load], kind, low, high, dict(answers))
        for (load, kind, low, high), answers in sorted(counts.items())
    ]


def _class_of(one: Planted) -> tuple[float, float]:
    if one.is_unchanged or one.truth is None:
        return (0.0, 0.0) if one.is_unchanged else (-inf, inf)
    value = one.truth.value
    return next((low, high) for low, high in pairwise(SIZES) if low <= value < high)


def _share(found: Iterable[bool]) -> Share:
    every = list(found)
    return Share(sum(every), len(every))


def _sum(shares: Iterable[Share]) -> Share:
    every = list(shares)
    return Share(sum(one.count for one in every), sum(one.total for one in every))
