"""A closer look at implementations beside their timing: they are counted, and certified once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from harness.bench.case import Case
from harness.bench.measure.group import Answer
from harness.bench.measure.instructions import count_instructions
from harness.bench.measure.jobs import Job
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Workers


@dataclass
class CloserLook:
    """Certifies the implementations that nobody certified yet, and lets counters count every case."""

    workers: Workers
    settings: Settings
    _certificates: dict[tuple[str, ...], Answer] = field(default_factory=dict)

    def at(self, cases: Sequence[Case], expected: str) -> dict[str, dict[str, Answer]]:
        """Return by case what was found. expected: the file of what their reference computed."""
        jobs = [self._job("count", case, expected) for case in cases]
        new = [case for case in cases if _subject(case) not in self._certificates]
        answers = self.workers.run_all([*jobs, *(self._job("certify", case, expected) for case in new)])
        for case, answer in zip(new, answers[len(jobs) :], strict=True):
            self._certificates[_subject(case)] = answer
        found = {
            str(case.id): {"counted": counted, "certified": self._certificates[_subject(case)]}
            for case, counted in zip(cases, answers, strict=False)
        }
        if self.settings.instructions:
            for case in cases:
                reading = count_instructions(case.id, self.workers.folders, self.settings.threads)
                found[str(case.id)]["instructions"] = asdict(reading)
        return found

    def _job(self, task: str, case: Case, expected: str) -> Job:
        return Job(task, case.id, expected, self.settings.threads)


def _subject(case: Case) -> tuple[str, ...]:
    """Name what a certificate is about: it is the same for an implementation in all its cases."""
    return case.scope.operator.name, case.scope.name, case.implementation.name
