"""The record: what one case yielded, with everything needed to trust or to distrust it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from harness.paper.errors import SameopError
from harness.paper.units import Unit

# History of the schema. Keys may be added without a new number; a new number means
# that a reader of the older one would misread the file.
#   1  first schema
SCHEMA = 1

Facts = Mapping[str, Any]


class Status(StrEnum):
    """How a case ended."""

    MEASURED = "measured"
    DISAGREED = "disagreed"
    NONDETERMINISTIC = "nondeterministic"
    OUT_OF_MEMORY = "out of memory"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    FAILED = "failed"


@dataclass(frozen=True)
class CaseId:
    """The stable, readable name of a case: seven parts joined by ``/``."""

    operator: str
    scope: str
    implementation: str
    workload: str
    dtype: str
    device: str
    direction: str

    def __str__(self) -> str:
        parts = (self.operator, self.scope, self.implementation, self.workload.replace("/", "-"))
        return "/".join((*parts, self.dtype, self.device, self.direction))

    @property
    def group(self) -> Self:
        """The case id with the implementation left out: cases that compute the same thing."""
        return type(self)(**{**asdict(self), "implementation": "*"})


@dataclass(frozen=True)
class Reading:
    """What one meter found for one case: a value with its spread, or the reason for none."""

    unit: Unit
    value: float | None = None
    low: float | None = None
    high: float | None = None
    samples: tuple[float, ...] = ()
    facts: Facts = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            object.__setattr__(self, "reason", f"the meter read {self.value}")
            for number in ("value", "low", "high"):
                object.__setattr__(self, number, None)

    @classmethod
    def missing(cls, unit: Unit, reason: str) -> Self:
        """Return a reading that has a reason in place of a value."""
        return cls(unit=unit, reason=reason)

    def __str__(self) -> str:
        return self.unit.format(self.value) if self.value is not None else f"none: {self.reason}"


@dataclass(frozen=True)
class Agreement:
    """Whether an implementation equalled its reference, how that was decided, and the evidence."""

    agrees: bool
    level: str
    reason: str | None = None
    evidence: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One case of one run. Readings are kept by the name of their meter."""

    case: CaseId
    status: Status
    reason: str | None = None
    agreement: Agreement | None = None
    readings: Mapping[str, Reading] = field(default_factory=dict)
    inputs: Facts = field(default_factory=dict)
    worker: Facts = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the record as one line of a run's ``records.jsonl``."""
        return writable({"kind": "case", "schema": SCHEMA, "id": str(self.case), **asdict(self)})

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Read back what :meth:`as_json` wrote; unknown keys are left alone.

        Raises :class:`SameopError` for a newer schema or a line that is no record.
        """
        with readable(line):
            return cls(
                case=_build(CaseId, line["case"]),
                status=Status(line["status"]),
                reason=line.get("reason"),
                agreement=_build(Agreement, line["agreement"]) if line.get("agreement") else None,
                readings={name: _reading(value) for name, value in line.get("readings", {}).items()},
                inputs=line.get("inputs", {}),
                worker=line.get("worker", {}),
                started=line.get("started", ""),
                seconds=line.get("seconds", 0.0),
            )


@dataclass(frozen=True)
class ClaimRecord:
    """What proving one claim yielded, in the shape of ``sameop prove --json``."""

    name: str
    result: Facts

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one and every mutant was judged as expected."""
        mutants = self.result.get("mutants", ())
        return bool(self.result["verdict"] == self.result["expected"]) and all(
            mutant["verdict"] == mutant["expected"] for mutant in mutants
        )

    def flipped(self) -> Iterator[Self]:
        """Give the record with the expectation of the claim, and of each of its mutants, turned around."""
        yield replace(self, result={**self.result, "expected": _OTHER[self.result["expected"]]})
        mutants = list(self.result.get("mutants", ()))
        for place, mutant in enumerate(mutants):
            turned = {**mutant, "expected": _OTHER[mutant["expected"]]}
            changed = [*mutants[:place], turned, *mutants[place + 1 :]]
            yield replace(
                self, name=f"{self.name}: {mutant['name']}", result={**self.result, "mutants": changed}
            )

    def as_json(self) -> dict[str, Any]:
        """Return the claim as one line of a run's ``records.jsonl``."""
        return writable({"kind": "claim", "schema": SCHEMA, "name": self.name, "result": dict(self.result)})

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Read back what :meth:`as_json` wrote, or raise :class:`SameopError`."""
        with readable(line):
            result = {**line["result"]}
            for key in _CLAIM_KEYS:
                if key not in result:
                    raise KeyError(key)
            return cls(line["name"], result)


# What every reader of a claim relies on.
_OTHER = {"holds": "refuted", "refuted": "holds"}
_CLAIM_KEYS = ("expected", "verdict", "level", "evidence", "mutants")


def writable(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return content with every float that JSON lacks written as a word: ``"inf"``, ``"nan"``."""
    return {name: _finite(value) for name, value in content.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return writable(value)
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def readable(line: Mapping[str, Any]) -> Iterator[None]:
    """Refuse a line of a newer schema, and one that is not what it is read as."""
    try:
        schema = line.get("schema", 0)
        if schema > SCHEMA:
            raise SameopError(
                f"The record has schema {schema}, this sameop reads up to {SCHEMA}: "
                "read it with the version that wrote it, or a newer one."
            )
        yield
    except KeyError as error:
        raise SameopError(f"The line is no record of sameop (it lacks {error}): leave it out.") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise SameopError(f"The line is no record of sameop ({error}): leave it out.") from None


def _reading(line: Mapping[str, Any]) -> Reading:
    known = {name: line[name] for name in Reading.__dataclass_fields__ if name in line}
    return Reading(**{**known, "unit": Unit(line["unit"]), "samples": tuple(line.get("samples", ()))})


def _build(kind: type[Any], line: Mapping[str, Any]) -> Any:
    return kind(**{name: line[name] for name in kind.__dataclass_fields__ if name in line})
