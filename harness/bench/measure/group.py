"""A group: the implementations of one workload, measured in lock-step in several processes each."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from harness.bench.case import Case
from harness.bench.measure.clocks import Block
from harness.bench.measure.jobs import Job
from harness.bench.measure.latency import ProcessSamples, choose_clock, estimate_latency
from harness.bench.measure.losses import despite_losses
from harness.bench.measure.modes import Mode
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Worker, Workers
from harness.paper.account import Account
from harness.paper.record import Status

# Fewer blocks than this have no median worth the name, however slow the call.
_FEWEST_BLOCKS = 5

Answer = Mapping[str, Any]


@dataclass
class Member:
    """One implementation of a group with what its processes measured so far.

    begun and ended: the answers of its first process. failure: the answer that ended it, or None. samples: of
    every process, by mode. bits: what its first process of this lap returned. seconds: what it took, all in
    all; sampled: of these. scaling: the same case at other numbers of threads. paired: how it compares within
    each replicate, by mode.
    """

    case: Case
    begun: Answer = field(default_factory=dict)
    ended: Answer = field(default_factory=dict)
    failure: Answer | None = None
    samples: dict[str, list[ProcessSamples]] = field(default_factory=dict)
    deterministic: bool = True
    bits: str = ""
    stopped: str = ""
    scaling: dict[int, Member] = field(default_factory=dict)
    paired: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0
    sampled: float = 0.0

    def at_other_threads(self) -> Member:
        """Return a member without samples of the same case, whose judged results are known."""
        return Member(self.case, begun=self.begun)

    def half_width(self, mode: str, threads: int) -> float:
        """Return half the interval as a share of the median."""
        processes = self.samples.get(mode, [])
        if not processes:
            return float("inf")
        clock = choose_clock(processes, Mode.of(mode, self.case.device, threads))
        return estimate_latency(processes, clock).half_width


@dataclass
class _Seat:
    """One process of a member, for one replicate."""

    member: Member
    worker: Worker
    number: int
    calls: int
    taken: dict[str, ProcessSamples]
    alive: bool = True

    def turn(self, mode: str, *, rewarm: bool) -> None:
        answer = self.ask("turn", mode=mode, calls=self.calls, rewarm=rewarm)
        if answer is not None:
            self.taken[mode].blocks += [Block(**block) for block in answer["blocks"]]

    def ask(self, task: str, **options: Any) -> Answer | None:
        """Ask the worker; an answer other than "measured" ends the member."""
        answer = self.worker.ask(Job(task, options=options).as_request())
        self.member.seconds += float(answer.get("seconds", 0.0))
        if answer["status"] == Status.MEASURED:
            return answer
        self.alive = False
        self.member.failure = _in_process(answer, self.number)
        return None

    def has_enough(self, mode: str, seconds: float) -> bool:
        taken = self.taken[mode]
        return not self.alive or (taken.seconds >= seconds and len(taken.blocks) >= _FEWEST_BLOCKS)


@dataclass
class Lap:
    """Measures the members of a group in replicate after replicate, under one setting of threads.

    job: makes the job that begins a member. cpus: chooses so many processors. modes: those to time calls in.
    meters: whether the first replicate reads the other meters too. account: is told what was measuring and
    what was judging. done: replicates so far. spent: seconds that they took.
    """

    members: Sequence[Member]
    workers: Workers
    settings: Settings
    threads: int
    modes: tuple[str, ...]
    job: Callable[[Case], Job]
    cpus: Callable[[int], tuple[int, ...]]
    account: Account
    meters: bool = False
    now: Callable[[], float] = time.monotonic
    shuffle: Callable[[list[_Seat]], None] = field(default_factory=lambda: random.Random(0).shuffle)  # noqa: S311  # an order, no secret
    done: int = 0
    spent: float = 0.0

    @property
    def active(self) -> list[Member]:
        """The members that are still to be measured."""
        return [member for member in self.members if member.failure is None and not member.stopped]

    def replicate(self) -> None:
        """Measure the active members in one more process each; who is precise or out of time stops."""
        active, began = self.active, self.now()
        with self.account.phase("agreeing"):
            despite_losses(active, partial(self._replicate, number=self.done))
        self.done += 1
        self.spent += self.now() - began
        for member in active:
            member.stopped = self._reason_to_stop(member)

    def _reason_to_stop(self, member: Member) -> str:
        (fewest, most), done = self.settings.processes, self.done
        if done < fewest:
            return ""
        widths = [member.half_width(mode, self.threads) for mode in self.modes]
        if max(widths) <= self.settings.precision:
            return f"half the interval is at most {self.settings.precision:.1%} of the median"
        if done == most:
            return f"{most} processes"
        # Another process takes about as long as those before it did.
        if self.spent / len(self.members) * (done + 1) / done > self.settings.case_seconds:
            return "the time of the case was over"
        return ""

    def _replicate(self, members: Sequence[Member], number: int) -> None:
        cpus = self.cpus(self.threads)
        with contextlib.ExitStack() as stack:
            seats = []
            for member in members:
                worker = stack.enter_context(self.workers.hire(member.case.device, number))
                seat = self._begin(member, worker, number, cpus)
                if seat is not None:
                    seats.append(seat)
            with self.account.phase("measuring"):
                for mode in self.modes:
                    self._take_turns(seats, mode)
            for seat in seats:
                self._end(seat)

    def _begin(self, member: Member, worker: Worker, number: int, cpus: tuple[int, ...]) -> _Seat | None:
        began = self.now()
        known = {key: member.begun[key] for key in ("calls", "bits") if key in member.begun}
        if "agreement" in member.begun:
            known["level"] = member.begun["agreement"]["level"]
        options = {
            "warm_up_seconds": self.settings.warm_up_seconds,
            "modes": list(self.modes),
            **known,
        }
        job = replace(self.job(member.case), threads=self.threads, cpus=cpus, options=options)
        answer = worker.ask(job.as_request())
        member.seconds += float(answer.get("seconds", 0.0))
        # Warming up is a part of measuring; judging, which came before it in the same answer, is not.
        self.account.transfer("agreeing", "measuring", answer.get("measuring_seconds", 0.0))
        if answer["status"] != Status.MEASURED:
            member.failure = _in_process(answer, number)
            return None
        member.begun = member.begun or answer
        # Known bits only spare the judging: sums may depend on the number of threads, which a lap fixes.
        member.bits = member.bits or answer["bits"]
        member.deterministic &= bool(answer["deterministic"]) and answer["bits"] == member.bits
        found = answer["worker"].get("cpus") or ()
        warm = int(answer["warm_up_calls"]), bool(answer["warm_up_stable"])
        taken = {mode: ProcessSamples([], tuple(found), *warm, number, began) for mode in self.modes}
        return _Seat(member, worker, number, int(member.begun["calls"]), taken)

    def _take_turns(self, seats: Sequence[_Seat], mode: str) -> None:
        """Let the processes take turns, in a new order every round, until each has enough."""
        waiting = [seat for seat in seats if seat.alive]
        while waiting:
            self.shuffle(waiting)
            for seat in waiting:
                seat.turn(mode, rewarm=len(waiting) > 1)
            waiting = [seat for seat in waiting if not seat.has_enough(mode, self.settings.sample_seconds)]

    def _end(self, seat: _Seat) -> None:
        meters = self.meters and seat.number == 0
        answer = seat.ask("end", meters=meters) if seat.alive else None
        if answer is None:
            return
        self.account.transfer("agreeing", "measuring", answer.get("measuring_seconds", 0.0))
        member = seat.member
        member.deterministic &= bool(answer["deterministic"])
        if not member.ended:
            member.ended = answer
        for mode, taken in seat.taken.items():
            member.samples.setdefault(mode, []).append(taken)
            member.sampled += taken.seconds


@dataclass(eq=False)
class Group:
    """The cases of one workload while they are measured.

    expected: what evaluating the reference answered. laps: at the asked number of threads, and at the others
    for the scaling. after: what a closer look found, by case. seconds: what it took so far.
    """

    members: list[Member]
    started: str
    expected: Answer = field(default_factory=dict)
    laps: list[Lap] = field(default_factory=list)
    after: dict[str, dict[str, Answer]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def case(self) -> Case:
        """One of the cases, which share all but the implementation."""
        return self.members[0].case

    @property
    def sound(self) -> list[Member]:
        """The members that did not fail so far."""
        return [member for member in self.members if member.failure is None]

    @property
    def replicates(self) -> int:
        """How many replicates there are."""
        return self.laps[0].done if self.laps else 0

    @property
    def is_done(self) -> bool:
        """Whether nobody needs another replicate."""
        return not any(lap.active for lap in self.laps)

    @property
    def has_the_least(self) -> bool:
        """Whether every lap has as many replicates as a record has at least."""
        return all(lap.done >= lap.settings.processes[0] for lap in self.laps)

    def replicate(self) -> None:
        """Take one more replicate of every lap that needs one."""
        for lap in self.laps:
            if lap.active:
                lap.replicate()
        for member in self.members:
            # Nobody asks how a case scales that has no latency.
            for scaled in member.scaling.values():
                scaled.failure = scaled.failure or member.failure


def _in_process(answer: Answer, number: int) -> Answer:
    """Say in which process a case failed, where the first one did not."""
    if not number or not answer.get("reason"):
        return answer
    return {**answer, "reason": f"{answer['reason']} (in process {number + 1}, the earlier ones were sound)"}
