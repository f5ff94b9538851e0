"""Inspection: whether a side is sound in a case, and what one call of it does; nothing is timed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT
from harness.bench.twins.trunk import Branch
from harness.paper.record import CaseId, Status

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Inspection:
    """What one process of a side found of a case.

    answer: the one that ended it, or the last. bits and level: of its results, which later processes are
    held to. counts: of one call.
    """

    answer: Answer
    bits: str = ""
    level: str = ""
    counts: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_sound(self) -> bool:
        """Whether it agrees with its own reference and may be timed."""
        return bool(self.answer["status"] == Status.MEASURED)

    @property
    def reason(self) -> str:
        """Why it is not sound."""
        return str(self.answer.get("reason") or "")


@dataclass(frozen=True)
class Inspector:
    """Asks a branch about its cases. expected: the folder for what references compute."""

    branch: Branch
    expected: Path
    threads: int

    def inspect(self, case: CaseId) -> Inspection:
        """Judge the implementation by the reference of its own side, and count what a call does."""
        expected = self.file(case)
        if not expected.exists():
            answer = self._ask("expect", case)
            if answer["status"] != Status.MEASURED:
                reason = f"Its reference could not be evaluated. {answer['reason']}"
                return Inspection({**answer, "reason": reason})
        with self.branch.hire() as worker:
            begun = worker.ask(self.begin(case, None, 0.0, ()).as_request())
            if begun["status"] != Status.MEASURED:
                return Inspection(begun)
            counted = worker.ask(Job("tally").as_request())
            ended = worker.ask(Job("end", options={"meters": False}).as_request())
            # Much is imported only by the call itself.
            self.branch.demand_apart(worker.ask(Job("strays").as_request()).get("strays", ()))
        counts = {**counted.get("counts", {}), **self._macs(case)}
        return Inspection(ended, begun["bits"], begun["agreement"]["level"], counts)

    def match(self, case: CaseId, other: Inspector) -> Answer:
        """Judge the implementation by what the reference of another side computed."""
        return self._ask("match", case, other.file(case))

    def called(self, case: CaseId) -> Answer:
        """List the functions of the side that one call runs."""
        return self._ask("called", case)

    def begin(
        self, case: CaseId, known: Inspection | None, warm_up_seconds: float, cpus: tuple[int, ...]
    ) -> Job:
        """Return the job that begins a case; what is known spares the judging of equal bits."""
        options: dict[str, Any] = {"warm_up_seconds": warm_up_seconds, "modes": [HOT]}
        if known is not None:
            options |= {"bits": known.bits, "level": known.level}
        return Job("begin", case, str(self.file(case)), self.threads, cpus, options)

    def file(self, case: CaseId) -> Path:
        """Return where the expectations of a case lie, for all its implementations and directions."""
        parts = (case.operator, case.scope, case.workload, case.dtype, case.device)
        return self.expected / f"{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:16]}.expected"

    def _macs(self, case: CaseId) -> Mapping[str, float]:
        macs = self._ask("macs", case).get("macs")
        return {} if macs is None else {"macs": macs}

    def _ask(self, task: str, case: CaseId, expected: Path | None = None) -> Answer:
        job = Job(task, case, str(expected or self.file(case)), self.threads)
        return self.branch.ask(job.as_request())
