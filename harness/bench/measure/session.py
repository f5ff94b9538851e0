"""A measuring session: takes cases one by one and returns a record for each, whatever happens."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from harness.bench.case import Case, Preset
from harness.bench.measure.worker import Job
from harness.bench.measure.workers import Workers
from harness.paper.record import Agreement, Reading, Record, Status
from harness.paper.units import Unit

# Seconds of sampling and, at most, of warming up, by preset.
_SECONDS: Mapping[Preset, tuple[float, float]] = {
    "quick": (0.3, 0.3),
    "standard": (0.5, 0.5),
    "full": (1.0, 1.0),
}


@dataclass
class Session:
    """Measures cases in worker processes, sharing what the reference computed among implementations."""

    workers: Workers
    preset: Preset
    threads: int
    _expected: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _certificates: dict[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict)

    def measure(self, case: Case) -> Record:
        """Measure one case: expectations of its group, the measurement, its certificate, the counters."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        expected = self._expect(case)
        if expected["status"] != Status.MEASURED:
            reason = f"Its reference could not be evaluated. {expected['reason']}"
            return Record(
                case.id, Status(expected["status"]), reason, started=started, seconds=expected["seconds"]
            )
        measured = self.workers.run(self._job("measure", case))
        readings = _readings(measured)
        seconds, certificate = measured["seconds"], None
        if measured["status"] == Status.MEASURED:
            certificate = self._certify(case)
            if not certificate["agrees"]:
                return _refuted(case, certificate, started, seconds)
            counted = self.workers.run(self._job("count", case))
            readings["macs"] = _counted(counted, expected["ones_probe"])
            seconds += counted["seconds"]
        return Record(
            case=case.id,
            status=Status(measured["status"]),
            reason=measured.get("reason"),
            agreement=_agreement(measured, certificate),
            readings=readings,
            inputs=expected["inputs"],
            worker=measured.get("worker", {}),
            started=started,
            seconds=seconds,
        )

    def _expect(self, case: Case) -> Mapping[str, Any]:
        """Evaluate the reference once for all implementations; only the last group is kept on disk."""
        group = self._group(case)
        if group not in self._expected:
            for old in self.workers.scratch.glob("*.expected"):
                old.unlink()
            self._expected = {group: self.workers.run(self._job("expect", case))}
        return self._expected[group]

    def _certify(self, case: Case) -> Mapping[str, Any]:
        """Certify an implementation once, for its certificate is the same in all its cases."""
        subject = (case.scope.operator.name, case.scope.name, case.implementation.name)
        if subject not in self._certificates:
            self._certificates[subject] = _certificate(self.workers.run(self._job("certify", case)))
        return self._certificates[subject]

    def _group(self, case: Case) -> str:
        # Values and gradients are expected together, so both directions share one evaluation.
        parts = (case.scope.operator.name, case.scope.name, case.workload.name, case.dtype, case.device)
        return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]

    def _job(self, task: str, case: Case) -> Job:
        sample, warm_up = _SECONDS[self.preset]
        return Job(
            task=task,
            case=case.id,
            expected=str(self.workers.scratch / f"{self._group(case)}.expected"),
            threads=self.threads,
            sample_seconds=sample,
            warm_up_seconds=warm_up,
            result="",
        )


def _refuted(case: Case, certificate: Mapping[str, Any], started: str, seconds: float) -> Record:
    """Return the record of an implementation that was followed and differs from its reference."""
    reason = f"It disagrees with the reference: {certificate['reason']}"
    agreement = Agreement(False, "L1", certificate["reason"], {"certificate": certificate})
    missing = Reading.missing(
        Unit.SECONDS_PER_CALL, "withheld, because the implementation disagrees with its reference"
    )
    return Record(
        case.id,
        Status.DISAGREED,
        reason,
        agreement,
        {"latency": missing},
        started=started,
        seconds=seconds,
    )


def _certificate(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how an implementation was certified; a box that broke when it was opened is black."""
    if result["status"] == Status.MEASURED:
        return dict(_writable(result["certificate"]))
    return {"box": "black", "agrees": True, "reason": f"following it failed: {result['reason']}"}


def _agreement(result: Mapping[str, Any], certificate: Mapping[str, Any] | None) -> Agreement | None:
    found = _writable(result.get("agreement"))
    if not found or certificate is None:
        return Agreement(**found) if found else None
    return Agreement(**{**found, "evidence": {**found["evidence"], "certificate": certificate}})


def _readings(result: Mapping[str, Any]) -> dict[str, Reading]:
    return {name: _reading(content) for name, content in result.get("readings", {}).items()}


def _reading(content: Mapping[str, Any]) -> Reading:
    unit, value = Unit(content["unit"]), content["value"]
    if value is not None and not math.isfinite(value):
        return Reading.missing(unit, f"the meter returned {value}")
    return Reading(**{**_writable(content), "unit": unit, "samples": tuple(content["samples"])})


def _writable(value: Any) -> Any:
    """Spell out what JSON has no number for, such as the error of an output that is not a number."""
    if isinstance(value, dict):
        return {key: _writable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_writable(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _counted(result: Mapping[str, Any], ones_probe: Mapping[str, Any]) -> Reading:
    """Return the reading of the counters, with the witness that is common to all implementations."""
    if result["status"] != Status.MEASURED:
        return Reading.missing(Unit.MACS_PER_CALL, f"counting failed: {result['reason']}")
    reading = _readings(result)["macs"]
    witnesses = {"ones_probe": ones_probe, **reading.facts["witnesses"]}
    return replace(reading, facts={**reading.facts, "witnesses": witnesses})
