"""A measuring session: takes the cases of one group and returns a record for each, whatever happens."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice

from harness.bench.case import Case
from harness.bench.machine import usable_cpus
from harness.bench.measure.group import Answer, Lap, Member
from harness.bench.measure.instructions import count_instructions
from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT, modes_of
from harness.bench.measure.pace import Pace
from harness.bench.measure.processors import Processors
from harness.bench.measure.records import make_record
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Workers
from harness.paper.account import Account
from harness.paper.record import Record, Status
from harness.paper.roofline import SpeedLimit

# Expectations of so many groups are computed at once, as far as there are processors for them.
_AHEAD = 4


@dataclass
class Session:
    """Measures groups of cases in worker processes, sharing what the reference computed among them.

    pace: how long a case may take. account: where the time goes. limits: the speed limit by device.
    """

    workers: Workers
    settings: Settings
    pace: Pace
    account: Account = field(default_factory=Account)
    limits: dict[str, SpeedLimit] = field(default_factory=dict)
    processors: Processors = field(default_factory=Processors)
    _expected: dict[str, Answer] = field(default_factory=dict)
    _certificates: dict[tuple[str, ...], Answer] = field(default_factory=dict)

    def measure(self, cases: Sequence[Case], ahead: Sequence[Case] = ()) -> list[Record]:
        """Measure the cases of one group together.

        ahead: one case of each of the groups that follow, whose references may be evaluated meanwhile.
        """
        began, started = time.perf_counter(), datetime.now(UTC).isoformat(timespec="seconds")
        with self.account.phase("expecting"):
            expected = self._expect(cases[0], ahead)
        members = [Member(case) for case in cases]
        if expected["status"] == Status.MEASURED:
            self._take_laps(members)
            sound = [member for member in members if member.failure is None]
            with self.account.phase("certifying"):
                after = self._look_closer(sound)
        else:
            reason = f"Its reference could not be evaluated. {expected['reason']}"
            for member in members:
                member.failure = {**expected, "reason": reason}
            after = {}
        if _group(cases[0]) not in map(_group, ahead):
            self._forget(cases[0])
        sampled = sum(member.sampled for member in members)
        self.pace.done(len(cases), time.perf_counter() - began, sampled)
        return [
            make_record(
                member, self.settings, expected, after.get(str(member.case.id), {}), self.limits, started
            )
            for member in members
        ]

    def find_limits(self, cases: Iterable[Case]) -> list[SpeedLimit]:
        """Measure the speed limit of every device that the cases run on, for their dtypes."""
        dtypes: dict[str, dict[str, None]] = {}
        for case in cases:
            dtypes.setdefault(case.device, {})[case.dtype] = None
        for device, wanted in dtypes.items():
            scaled = _other_threads(self.settings.threads) if self.settings.scaling != "off" else []
            threads = sorted({self.settings.threads, *scaled})
            options = {"device": device, "dtypes": list(wanted), "threads": threads}
            answer = self.workers.run(Job("limits", options=options))
            if answer["status"] == Status.MEASURED:
                self.limits[device] = SpeedLimit.from_json(answer["limit"])
            else:
                self.limits[device] = SpeedLimit(device, reasons={"copy": str(answer["reason"])})
        return list(self.limits.values())

    def _take_laps(self, members: Sequence[Member]) -> None:
        """Measure at the asked number of threads, and then at other numbers for the scaling."""
        settings = self._settings_for(members[0].case)
        modes = modes_of(members[0].case.device, settings.cold)
        self._lap(settings, settings.threads, modes).run(members, meters=True)
        if not _is_scaled(members[0].case, settings):
            return
        for threads in _other_threads(settings.threads):
            sound = [member for member in members if member.failure is None]
            scaled = [member.at_other_threads() for member in sound]
            self._lap(settings, threads, (HOT,)).run(scaled, meters=False)
            for member, other in zip(sound, scaled, strict=True):
                member.scaling[threads] = other

    def _settings_for(self, case: Case) -> Settings:
        settings = self.settings.within(self.pace.grant())
        if case.device == "cpu":
            return settings
        # A process makes its context on the device in seconds, and its memory lies where the driver puts it.
        return replace(settings, processes=(1, max(1, settings.processes[0] - 2)))

    def _lap(self, settings: Settings, threads: int, modes: tuple[str, ...]) -> Lap:
        return Lap(
            workers=self.workers,
            settings=settings,
            threads=threads,
            modes=modes,
            job=lambda case: self._job("begin", case),
            cpus=lambda: self.processors.choose(threads),
            account=self.account,
        )

    def _expect(self, case: Case, ahead: Sequence[Case]) -> Answer:
        """Evaluate the reference once for all implementations of a group; and of some groups ahead."""
        # Both directions of a workload share an expectation, and two jobs may not write the same file.
        wanted: dict[str, Case] = {}
        for found in (case, *ahead):
            wanted.setdefault(_group(found), found)
        nearest = islice(wanted.items(), _AHEAD)
        missing = [found for group, found in nearest if group not in self._expected]
        if _group(case) not in self._expected:
            at_once = min(len(missing), self.workers.at_once)
            threads = max(1, usable_cpus() // at_once)
            jobs = [replace(self._job("expect", found), threads=threads) for found in missing]
            answers = self.workers.run_all(jobs)
            self._expected |= {_group(found): answer for found, answer in zip(missing, answers, strict=True)}
        return self._expected[_group(case)]

    def _forget(self, case: Case) -> None:
        """Remove the file of a group, which may take hundreds of megabytes."""
        self._expected.pop(_group(case), None)
        self.workers.expectation(_group(case)).unlink(missing_ok=True)

    def _look_closer(self, members: Sequence[Member]) -> dict[str, dict[str, Answer]]:
        """Certify the implementations that nobody certified yet, and let counters count every case.

        Both come after the measurement: what crashes or hangs there is not asked again here.
        """
        jobs = [self._job("count", member.case) for member in members]
        new = [member.case for member in members if _subject(member.case) not in self._certificates]
        answers = self.workers.run_all([*jobs, *(self._job("certify", case) for case in new)])
        for case, answer in zip(new, answers[len(jobs) :], strict=True):
            self._certificates[_subject(case)] = answer
        found = {
            str(member.case.id): {"counted": counted, "certified": self._certificates[_subject(member.case)]}
            for member, counted in zip(members, answers, strict=False)
        }
        if self.settings.instructions:
            for case in (member.case for member in members):
                reading = count_instructions(case.id, self.workers.folders, self.settings.threads)
                found[str(case.id)]["instructions"] = asdict(reading)
        return found

    def _job(self, task: str, case: Case) -> Job:
        return Job(task, case.id, str(self.workers.expectation(_group(case))), self.settings.threads)


def _is_scaled(case: Case, settings: Settings) -> bool:
    if settings.scaling == "off" or case.device != "cpu":
        return False
    return settings.scaling == "on" or (
        case.direction == "forward" and case.workload is case.scope.workloads[0]
    )


def _other_threads(measured: int) -> list[int]:
    """List the powers of two up to all processors, and all of them, without the one that was measured."""
    most = usable_cpus()
    powers = {2**power for power in range(most.bit_length()) if 2**power <= most}
    return sorted({*powers, most} - {measured})


def _group(case: Case) -> str:
    # Values and gradients are expected together, so both directions share one evaluation.
    parts = (case.scope.operator.name, case.scope.name, case.workload.name, case.dtype, case.device)
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]


def _subject(case: Case) -> tuple[str, ...]:
    """Name what a certificate is about: it is the same for an implementation in all its cases."""
    return case.scope.operator.name, case.scope.name, case.implementation.name
