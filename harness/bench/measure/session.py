"""A measuring session: takes groups of cases and hands over a record for each case, whatever happens."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from harness.bench.case import Case
from harness.bench.machine import usable_cpus
from harness.bench.measure.closer import CloserLook
from harness.bench.measure.group import Answer, Group, Lap, Member
from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT, modes_of
from harness.bench.measure.pace import Pace
from harness.bench.measure.paired import pair_up
from harness.bench.measure.processors import Processors
from harness.bench.measure.records import make_record
from harness.bench.measure.references import References, expectation_of
from harness.bench.measure.settings import Settings
from harness.bench.measure.stretch import pass_by_pass
from harness.bench.measure.workers import Workers
from harness.paper.account import Account
from harness.paper.record import Record, Status
from harness.paper.roofline import SpeedLimit

_INTERRUPTED = "the run was interrupted"


class Listener(Protocol):
    """Who hears how a session gets on."""

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Hear that the group of a case has so many replicates, and what was done for it took so long."""

    def keep(self, records: Sequence[Record], seconds: float) -> None:
        """Take the records of a group that is done; it took so long in all."""


@dataclass
class Session:
    """Measures groups of cases in worker processes, sharing what the reference computed among them.

    pace: how long a case may take. account: where the time goes. limits: the speed limit by device. shuffle:
    decides the order of the groups in a pass.
    """

    workers: Workers
    settings: Settings
    pace: Pace
    account: Account = field(default_factory=Account)
    limits: dict[str, SpeedLimit] = field(default_factory=dict)
    processors: Processors = field(default_factory=Processors)
    shuffle: Callable[[list[Group]], None] = field(default_factory=lambda: random.Random(0).shuffle)  # noqa: S311  # an order, no secret
    now: Callable[[], float] = time.perf_counter
    references: References = field(init=False)
    closer: CloserLook = field(init=False)

    def __post_init__(self) -> None:
        self.references = References(self.workers, partial(self._job, "expect"))
        self.closer = CloserLook(self.workers, self.settings)

    def measure(self, groups: Sequence[Sequence[Case]], listener: Listener) -> None:
        """Measure a stretch: the first group, and those after it that there are time and room for."""
        self.references.announce(cases[0] for cases in groups)

        def replicate(group: Group) -> None:
            with self._charged(group, listener):
                group.replicate()

        finish = partial(self._finish, listener=listener)
        pass_by_pass(self._begun(groups, listener), replicate, finish, self.shuffle)

    def _begun(self, groups: Sequence[Sequence[Case]], listener: Listener) -> Iterator[Group]:
        """Give the groups of a stretch, each after its first replicate."""
        settings, left = (
            self.settings.within(self.pace.grant()),
            self.pace.stretch(self.settings.stretch_seconds),
        )
        for place, cases in enumerate(groups):
            if place and (left <= 0 or self.references.are_many):
                return
            started = datetime.now(UTC).isoformat(timespec="seconds")
            group = Group([Member(case) for case in cases], started)
            with self._charged(group, listener):
                self._begin(group, settings, [other[0] for other in groups[place + 1 :]])
            left -= self.pace.whole * len(cases)
            yield group

    @contextlib.contextmanager
    def _charged(self, group: Group, listener: Listener) -> Iterator[None]:
        """Charge what is done for a group to it."""
        began = self.now()
        yield
        seconds = self.now() - began
        group.seconds += seconds
        listener.advance(group.case, group.replicates, seconds)

    def _begin(self, group: Group, settings: Settings, ahead: Sequence[Case]) -> None:
        """Evaluate the reference of a group, take a first replicate, and look closer at what is sound.

        ahead: one case of each of the groups that follow, whose references may be evaluated meanwhile.
        """
        with self.account.phase("expecting"):
            group.expected = self._expect(group.case, ahead)
        if group.expected["status"] != Status.MEASURED:
            reason = f"Its reference could not be evaluated. {group.expected['reason']}"
            for member in group.members:
                member.failure = {**group.expected, "reason": reason}
            return
        group.laps = [self._lap(group.members, settings)]
        group.replicate()
        if _is_scaled(group.case, settings):
            self._scale(group, settings)
        # Not before the first replicate: what crashes or hangs there is not asked again here.
        with self.account.phase("certifying"):
            group.after = self._look_closer([member.case for member in group.sound])

    def _scale(self, group: Group, settings: Settings) -> None:
        """Add a lap for every other number of threads, with its first replicate."""
        for threads in _other_threads(settings.threads):
            for member in group.sound:
                member.scaling[threads] = member.at_other_threads()
            scaled = [member.scaling[threads] for member in group.sound]
            if scaled:
                lap = replace(self._lap(scaled, settings), threads=threads, modes=(HOT,), meters=False)
                lap.replicate()
                group.laps.append(lap)

    def _finish(self, group: Group, listener: Listener) -> None:
        """Hand over the records of a group."""
        with self._charged(group, listener):
            for member in group.sound:
                for lap in (member, *member.scaling.values()):
                    lap.stopped = lap.stopped or _INTERRUPTED
            pair_up(group.members, self.settings.threads)
            records = [self._record(group, member) for member in group.members]
            self.references.release(group.case)
        sampled = sum(member.sampled for member in group.members)
        self.pace.done(len(group.members), group.seconds, sampled)
        listener.keep(records, group.seconds)

    def _record(self, group: Group, member: Member) -> Record:
        after = group.after.get(str(member.case.id), {})
        return make_record(member, self.settings, group.expected, after, self.limits, group.started)

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

    def _lap(self, members: Sequence[Member], settings: Settings) -> Lap:
        device, threads = members[0].case.device, settings.threads
        if device != "cpu":
            # A process makes its context in seconds, and its memory lies where the driver puts it.
            settings = replace(settings, processes=(1, max(1, settings.processes[0] - 2)))
        return Lap(
            members=members,
            workers=self.workers,
            settings=settings,
            threads=threads,
            modes=modes_of(device, settings.cold),
            job=partial(self._job, "begin"),
            cpus=self.processors.choose,
            account=self.account,
            meters=True,
        )

    def _expect(self, case: Case, ahead: Sequence[Case] = ()) -> Answer:
        return self.references.expect(case, ahead)

    def _look_closer(self, cases: Sequence[Case]) -> dict[str, dict[str, Answer]]:
        return self.closer.at(cases, self._expectation(cases[0])) if cases else {}

    def _job(self, task: str, case: Case) -> Job:
        return Job(task, case.id, self._expectation(case), self.settings.threads)

    def _expectation(self, case: Case) -> str:
        return str(self.workers.expectation(expectation_of(case)))


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
