"""Both sides of a gate: what they offer, whether they are sound, and one number per pair of processes."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT, Mode
from harness.bench.measure.processors import Processors
from harness.bench.measure.workers import Allocator, worker_environment
from harness.bench.twins.pair import BASE, HEAD, Pair
from harness.bench.twins.side import Side
from harness.bench.twins.trunk import Branch, ShadowedError, Trunk
from harness.paper.gate.outcome import TwinNumber
from harness.paper.record import CaseId, Status

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class TwinSettings:
    """How a pair of processes measures: threads of torch, seconds of warming up and of sampling."""

    threads: int = 1
    warm_up_seconds: float = 0.05
    sample_seconds: float = 0.15
    timeout_seconds: float = 120.0
    allocator: Allocator = "pinned"


@dataclass(frozen=True)
class Inspection:
    """What one process of a side found of a case, without timing it.

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


@dataclass
class Grove:
    """One pair of branches, of base and of head, and what is done with it."""

    branches: tuple[Branch, Branch]
    settings: TwinSettings
    scratch: Path
    processors: Processors
    dice: random.Random

    def list(self, preset: str, device: str, match: str) -> tuple[Answer, Answer]:
        """Ask both sides for the cases that match."""
        job = Job("list", options={"preset": preset, "device": device, "match": match})
        base, head = (branch.ask(job.as_request()) for branch in self.branches)
        return base, head

    def inspect(self, case: CaseId) -> tuple[Inspection, Inspection]:
        """Judge both sides by their own references, and count what a call does. Nothing is timed."""
        with ThreadPoolExecutor(2) as pool:
            base, head = pool.map(lambda side: self._inspect(side, case), (BASE, HEAD))
        return base, head

    def match(self, case: CaseId) -> Answer:
        """Judge head's implementation by base's reference, on base's inputs."""
        job = Job("match", case, str(self._expected(BASE, case)), self.settings.threads)
        return self.branches[HEAD].ask(job.as_request())

    def measure(self, case: CaseId, known: Sequence[Inspection], sides: tuple[int, int]) -> TwinNumber:
        """Measure a case in a fresh pair of processes; raises :class:`SideFailedError`.

        known: the inspections of the two sides. sides: which branches the pair is made of.
        """
        cpus = self.processors.choose(self.settings.threads)
        with contextlib.ExitStack() as stack:
            first, second = (self.branches[side] for side in sides)
            hired: dict[int, Any] = {}
            # Who is forked first finds other memory free.
            for place in self.dice.sample((0, 1), 2):
                hired[place] = stack.enter_context((first, second)[place].hire())
            mode = Mode.of(HOT, case.device, self.settings.threads)
            pair = Pair((hired[0], hired[1]), mode, self.dice)
            begin = [self._begin(case, side, known[place], cpus) for place, side in enumerate(sides)]
            pair.begin((begin[0], begin[1]))
            number = pair.measure(self.settings.sample_seconds)
            pair.end()
            return number

    def _inspect(self, side: int, case: CaseId) -> Inspection:
        expected = self._expected(side, case)
        if not expected.exists():
            answer = self.branches[side].ask(
                Job("expect", case, str(expected), self.settings.threads).as_request()
            )
            if answer["status"] != Status.MEASURED:
                reason = f"Its reference could not be evaluated. {answer['reason']}"
                return Inspection({**answer, "reason": reason})
        with self.branches[side].hire() as worker:
            answer = worker.ask(self._begin(case, side, None, ()).as_request())
            if answer["status"] != Status.MEASURED:
                return Inspection(answer)
            counted = worker.ask(Job("tally").as_request())
            ended = worker.ask(Job("end", options={"meters": False}).as_request())
        counts = {**counted.get("counts", {}), **self._macs(side, case)}
        return Inspection(ended, answer["bits"], answer["agreement"]["level"], counts)

    def _macs(self, side: int, case: CaseId) -> Mapping[str, float]:
        answer = self.branches[side].ask(Job("macs", case, threads=self.settings.threads).as_request())
        return {"macs": answer["macs"]} if answer.get("macs") is not None else {}

    def _begin(self, case: CaseId, side: int, known: Inspection | None, cpus: tuple[int, ...]) -> Job:
        options: dict[str, Any] = {"warm_up_seconds": self.settings.warm_up_seconds, "modes": [HOT]}
        if known is not None:
            options |= {"bits": known.bits, "level": known.level}
        return Job("begin", case, str(self._expected(side, case)), self.settings.threads, cpus, options)

    def _expected(self, side: int, case: CaseId) -> Path:
        parts = (str(side), case.operator, case.scope, case.workload, case.dtype, case.device)
        return self.scratch / f"{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:16]}.expected"


@dataclass
class Twins:
    """Grows fresh groves of two sides. reason: why they are started apart, empty where they are forked.

    seed: of every choice that is left to chance.
    """

    sides: tuple[Side, Side]
    settings: TwinSettings
    scratch: Path
    seed: int = 0
    reason: str = ""
    processors: Processors = field(default_factory=Processors)
    _grown: int = 0

    @contextlib.contextmanager
    def grove(self) -> Iterator[Grove]:
        """Start fresh interpreters and give their branches; raises :class:`SideRefusedError`."""
        self._grown += 1
        dice = random.Random(f"{self.seed}/{self._grown}")  # noqa: S311  # an order, no secret
        with contextlib.ExitStack() as stack:
            try:
                branches = self._branches(stack, dice, started=bool(self.reason))
            except ShadowedError as error:
                stack.close()
                self.reason = str(error)
                branches = self._branches(stack, dice, started=True)
            yield Grove(branches, self.settings, self.scratch, self.processors, dice)

    def _branches(
        self, stack: contextlib.ExitStack, dice: random.Random, *, started: bool
    ) -> tuple[Branch, Branch]:
        if started:
            trunks = [stack.enter_context(self._trunk(side.paths)) for side in self.sides]
        else:
            trunks = [stack.enter_context(self._trunk(()))] * 2
        found: dict[int, Branch] = {}
        for place in dice.sample((BASE, HEAD), 2):
            found[place] = trunks[place].branch(
                self.sides[place], self.settings.timeout_seconds, started=started
            )
        return found[BASE], found[HEAD]

    def _trunk(self, paths: Sequence[Path]) -> Trunk:
        environment = worker_environment(self.settings.threads, self.settings.allocator, self.scratch)
        if paths:
            # What torch imports too must come from here in the first place.
            environment["PYTHONPATH"] = ":".join([*map(str, paths), environment["PYTHONPATH"]])
        return Trunk(sys.executable, environment, self.scratch / "twins.log")
