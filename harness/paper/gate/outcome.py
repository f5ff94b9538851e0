"""What a gate found: a verdict with its reason for every case, and what the whole means for a job."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from harness.paper.errors import Exit

SCHEMA = 1


class Verdict(StrEnum):
    """How head compares to base in one case.

    ACCEPTED is a slowdown that a reviewed line of the policy allows. INSENSITIVE could not have found what
    the policy asks for. CHANGED keeps its name and compares something else. BROKEN has no sound number in
    head: it crashed, hung or raised.
    """

    PASS = "PASS"  # noqa: S105  # a verdict, no password
    FAIL = "FAIL"
    ACCEPTED = "ACCEPTED"
    INSENSITIVE = "INSENSITIVE"
    INCONCLUSIVE = "INCONCLUSIVE"
    MISSING = "MISSING"
    CHANGED = "CHANGED"
    NEW = "NEW"
    DISAGREED = "DISAGREED"
    BROKEN = "BROKEN"


# Where several exit codes hold, the first of these wins.
PRECEDENCE = (Exit.FAILED, Exit.CHANGED, Exit.REGRESSED, Exit.INCONCLUSIVE)
_EXITS = {
    Verdict.FAIL: Exit.REGRESSED,
    Verdict.INCONCLUSIVE: Exit.INCONCLUSIVE,
    Verdict.MISSING: Exit.CHANGED,
    Verdict.CHANGED: Exit.CHANGED,
    Verdict.DISAGREED: Exit.FAILED,
    Verdict.BROKEN: Exit.FAILED,
}


@dataclass(frozen=True)
class TwinNumber:
    """What one pair of fresh processes found.

    cpu and wall: the logarithm of head's time by base's, on the clock that stands still while others run
    (None where a call is not told by it) and on the wall. quads: how many comparisons it is the middle of.
    spread: the width of the middle half of those. seconds: a call of base, by the clock
    that is compared.
    """

    cpu: float | None
    wall: float
    quads: int
    spread: float
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """What the numbers of a case say of its ratio, head by base; all are ratios, 1 for equal times.

    low: the family-wise lower bound that a verdict rests on. interval: 95 %. detectable: the smallest
    slowdown, as a share, that would have been found 99 times of a hundred.
    """

    ratio: float
    low: float
    interval: tuple[float, float]
    detectable: float
    processes: int


@dataclass(frozen=True)
class CaseOutcome:
    """One case: its verdict, why, and everything that this rests on.

    clock: what the verdict's numbers were read from. stages: the numbers of each stage. wall: bounds by the
    wall where the verdict's clock is another one. counts: what one call of each side did, without any noise:
    ATen operators, bytes allocated, MACs, peak memory. notes: sentences worth knowing that decide nothing.
    medians: the seconds per call of every process of each side, where the sides were not measured in pairs.
    """

    name: str
    verdict: Verdict
    reason: str
    bounds: Bounds | None = None
    clock: str = ""
    stages: Sequence[Sequence[TwinNumber]] = ()
    wall: Bounds | None = None
    counts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    seconds: float = 0.0
    medians: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def numbers(self) -> list[TwinNumber]:
        """The numbers of all stages."""
        return [number for stage in self.stages for number in stage]


@dataclass(frozen=True)
class ControlOutcome:
    """A case whose answer is known beforehand: base against itself, or against itself made slower.

    kind: "A/A" or "plant". planted: the share that was added, 0 for A/A. is_sound: whether the gate answered
    as it had to; reason: what follows where it did not.
    """

    kind: str
    case: str
    planted: float
    outcome: CaseOutcome
    is_sound: bool
    reason: str


@dataclass(frozen=True)
class GateOutcome:
    """A whole run of the gate.

    base and head: {"ref", "commit", "dirty", ...}. twins: "forked" or "started", or "stored" where base is a
    run that was measured before, with the reason for the latter two. policy: its settings, and the digest of
    its file. insensitive_share: what the policy allows.
    """

    base: Mapping[str, Any]
    head: Mapping[str, Any]
    machine: Mapping[str, Any]
    policy: Mapping[str, Any]
    twins: Mapping[str, str]
    cases: Sequence[CaseOutcome]
    controls: Sequence[ControlOutcome] = ()
    insensitive_share: float = 0.0
    started: str = ""
    seconds: float = 0.0
    notes: Sequence[str] = ()

    @property
    def exits(self) -> list[Exit]:
        """Every exit code that holds, the one that wins first; empty when the gate is passed."""
        return [code for code in PRECEDENCE if code in self._found()]

    @property
    def exit(self) -> Exit:
        """The exit code of the command."""
        if not self.cases:
            return Exit.NOTHING
        return next(iter(self.exits), Exit.PASS)

    def _found(self) -> set[Exit]:
        found = {_EXITS[case.verdict] for case in self.cases if case.verdict in _EXITS}
        if self.is_insensitive:
            found.add(Exit.INCONCLUSIVE)
        return found

    @property
    def is_insensitive(self) -> bool:
        """Whether more cases are insensitive than the policy allows."""
        judged = [case for case in self.cases if case.verdict in _JUDGED]
        insensitive = sum(case.verdict is Verdict.INSENSITIVE for case in judged)
        return insensitive > self.insensitive_share * len(judged)

    def by_verdict(self) -> dict[Verdict, list[CaseOutcome]]:
        """Return the cases under their verdicts, in the order of :class:`Verdict`."""
        return {
            verdict: found
            for verdict in Verdict
            if (found := [case for case in self.cases if case.verdict is verdict])
        }

    def as_json(self) -> dict[str, Any]:
        """Return the document that tools read."""
        return {
            "schema": SCHEMA,
            **asdict(self),
            "exit": int(self.exit),
            "exits": [{"code": int(code), "meaning": code.meaning} for code in self.exits],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a document back; keys that are not known here are left out."""
        found = _known(cls, document)
        found["cases"] = tuple(_case(entry) for entry in document["cases"])
        found["controls"] = tuple(
            ControlOutcome(**{**_known(ControlOutcome, entry), "outcome": _case(entry["outcome"])})
            for entry in document.get("controls", ())
        )
        return cls(**found)


# Verdicts of cases whose times were compared.
_JUDGED = (Verdict.PASS, Verdict.FAIL, Verdict.ACCEPTED, Verdict.INSENSITIVE, Verdict.INCONCLUSIVE)


def _case(entry: Mapping[str, Any]) -> CaseOutcome:
    found = _known(CaseOutcome, entry)
    found["verdict"] = Verdict(entry["verdict"])
    for name in ("bounds", "wall"):
        found[name] = _bounds(entry.get(name))
    found["stages"] = tuple(
        tuple(TwinNumber(**_known(TwinNumber, number)) for number in stage)
        for stage in entry.get("stages", ())
    )
    return CaseOutcome(**found)


def _bounds(entry: Mapping[str, Any] | None) -> Bounds | None:
    if entry is None:
        return None
    found = _known(Bounds, entry)
    low, high = found["interval"]
    return Bounds(**{**found, "interval": (low, high)})


def _known(kind: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    names: Iterable[str] = (each.name for each in dataclasses.fields(kind))
    return {name: entry[name] for name in names if name in entry}
