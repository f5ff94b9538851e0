"""Contests: one case between two sides, measured stage by stage until the rule decides."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.bench.twins.inspection import Inspection
from harness.bench.twins.pair import HEAD, SideFailedError
from harness.bench.twins.twins import Grove, Twins
from harness.paper.gate.outcome import CaseOutcome, TwinNumber, Verdict
from harness.paper.gate.rule import Decision, Rule
from harness.paper.record import CaseId, Status

Tell = Callable[[str], None]


@dataclass
class Contest:
    """One case between two sides.

    sides: what counts as base, and what as head. known: their inspections. kind: empty for a case that the
    gate is asked about, otherwise the kind of control. planted: the share that head was made slower by.
    """

    case: CaseId
    sides: tuple[str, str]
    known: Mapping[str, Inspection]
    threads: int = 1
    kind: str = ""
    planted: float = 0.0
    stages: list[list[TwinNumber]] = field(default_factory=list)
    seconds: float = 0.0
    decision: Decision | None = None
    failure: tuple[Verdict, str] | None = None

    @property
    def name(self) -> str:
        """The name of its case."""
        return str(self.case)

    @property
    def counts(self) -> dict[str, Mapping[str, float]]:
        """What one call of each side does."""
        base, head = self.sides
        return {"base": self.known[base].counts, "head": self.known[head].counts}

    @property
    def is_decided(self) -> bool:
        """Whether no more numbers are wanted."""
        return self.failure is not None or (self.decision is not None and self.decision.verdict is not None)

    def measure(self, grove: Grove) -> None:
        """Add the number of one fresh pair of processes to the last stage."""
        began = time.monotonic()
        try:
            number = grove.measure(self.case, self.sides, self.known, self.threads)
        except SideFailedError as error:
            self.failure = _failed(error)
        else:
            self.stages[-1].append(number)
        self.seconds += time.monotonic() - began

    def decide(self, rule: Rule, *, is_cut: bool = False) -> None:
        """Let the rule decide; nothing is changed where it wants more."""
        if self.failure is None:
            self.decision = rule.decide(
                self.name, self.stages, self.counts, is_cut=is_cut, is_control=bool(self.kind)
            )

    def outcome(self) -> CaseOutcome:
        """Return what is told of it, once it is decided."""
        if self.failure is not None:
            return CaseOutcome(self.name, *self.failure, stages=self.stages, counts=self.counts)
        assert self.decision is not None
        return self.decision.outcome(self.name, self.stages, self.counts, self.seconds)


def _failed(error: SideFailedError) -> tuple[Verdict, str]:
    """Judge a case of which one process failed although its side was found sound."""
    said = f"in one of its processes: {error}"
    if error.side != HEAD:
        return Verdict.INCONCLUSIVE, f"base was sound at first and not {said}"
    wrong = error.answer["status"] in (Status.DISAGREED, Status.NONDETERMINISTIC)
    return Verdict.DISAGREED if wrong else Verdict.BROKEN, f"head was sound at first and not {said}"


@dataclass
class Contestants:
    """Measures contests together, so that the processes of each are spread over the run.

    until: the moment by ``now`` after which no further process is started. tell: is told what is under way.
    """

    twins: Twins
    rule: Rule
    until: float
    tell: Tell
    now: Callable[[], float] = time.monotonic

    def run(self, contests: Sequence[Contest]) -> None:
        """Measure stage after stage what is not decided, and decide everything at the end."""
        for stage in range(len(self.rule.policy.processes)):
            active = [contest for contest in contests if not contest.is_decided]
            if not active or self._is_over:
                break
            for contest in active:
                contest.stages.append([])
            self._measure(active, stage)
            for contest in active:
                contest.decide(self.rule, is_cut=self._is_over)
        for contest in contests:
            if not contest.is_decided:
                contest.decide(self.rule, is_cut=True)

    @property
    def _is_over(self) -> bool:
        return self.now() >= self.until

    def _measure(self, contests: Sequence[Contest], stage: int) -> None:
        processes = self.rule.policy.processes[stage]
        for number in range(processes):
            waiting = [contest for contest in contests if contest.failure is None]
            if not waiting or self._is_over:
                return
            self.tell(f"stage {stage + 1}, processes {number + 1} of {processes}, {len(waiting)} cases")
            self._pass(waiting)

    def _pass(self, contests: Sequence[Contest]) -> None:
        """Measure every contest in one more pair of processes."""
        waiting = list(contests)
        while waiting and not self._is_over:
            with self.twins.grove(_sides(waiting)) as grove:
                grove.dice.shuffle(waiting)
                while waiting and grove.is_alive and not self._is_over:
                    waiting.pop().measure(grove)


def _sides(contests: Iterable[Contest]) -> list[str]:
    return list(dict.fromkeys(side for contest in contests for side in contest.sides))
