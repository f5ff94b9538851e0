"""References: evaluated once for all implementations of a group, and kept in files while they are needed."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from harness.bench.case import Case
from harness.bench.machine import usable_cpus
from harness.bench.measure.group import Answer
from harness.bench.measure.jobs import Job
from harness.bench.measure.workers import Workers

# Expectations of so many groups are computed at once, as far as there are processors for them.
_AHEAD = 4
# So many bytes of expectations may wait for their groups, and never more than this share of what is free.
_MOST_BYTES = 2 * 2**30
_SHARE_OF_FREE = 0.25


@dataclass
class References:
    """What references computed, by group. job: makes the job that evaluates the reference of a case."""

    workers: Workers
    job: Callable[[Case], Job]
    _answers: dict[str, Answer] = field(default_factory=dict)
    _needed: Counter[str] = field(default_factory=Counter)

    def expect(self, case: Case, ahead: Sequence[Case] = ()) -> Answer:
        """Evaluate the reference of a case, and of some of those ahead, unless it is known."""
        # Both directions of a workload share an expectation, and two jobs may not write the same file.
        wanted: dict[str, Case] = {}
        for found in (case, *ahead):
            wanted.setdefault(expectation_of(found), found)
        nearest = islice(wanted.items(), _AHEAD)
        missing = [found for name, found in nearest if name not in self._answers]
        if expectation_of(case) not in self._answers:
            at_once = min(len(missing), self.workers.at_once)
            threads = max(1, usable_cpus() // at_once)
            jobs = [replace(self.job(found), threads=threads) for found in missing]
            answers = self.workers.run_all(jobs)
            names = map(expectation_of, missing)
            self._answers |= dict(zip(names, answers, strict=True))
        return self._answers[expectation_of(case)]

    def announce(self, cases: Iterable[Case]) -> None:
        """Hear which groups are still to come, by one case each: what they need is kept."""
        self._needed = Counter(map(expectation_of, cases))

    def release(self, case: Case) -> None:
        """Hear that a group is done; the file that none needs now, which may be large, is removed."""
        name = expectation_of(case)
        self._needed[name] -= 1
        if self._needed[name] <= 0:
            self._answers.pop(name, None)
            self._file(name).unlink(missing_ok=True)

    @property
    def are_many(self) -> bool:
        """Whether the files take so much room that those of further groups should wait."""
        taken = 0
        for name in self._answers:
            # A reference that could not be evaluated left none.
            with contextlib.suppress(OSError):
                taken += self._file(name).stat().st_size
        if not taken:
            return False
        return taken > min(_MOST_BYTES, _SHARE_OF_FREE * (taken + self._free_bytes()))

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self.workers.scratch).free

    def _file(self, name: str) -> Path:
        return self.workers.expectation(name)


def expectation_of(case: Case) -> str:
    """Name the expectation of a case: values and gradients together, for both directions."""
    parts = (case.scope.operator.name, case.scope.name, case.workload.name, case.dtype, case.device)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
