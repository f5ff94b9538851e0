"""The rule of a gate: from the numbers of a case to its verdict, or to the wish for more numbers.

Its promise: a run in which no case is slower than the margin FAILs with at most the probability that the
policy gives to false alarms, and a run of unchanged code is stopped by ambiguous numbers no more often. That
probability is shared out: evenly over the cases and controls of a run, nine to one over the CPU clock and the
wall beside it, evenly over the stages that judge. The numbers of the first stage only let cases pass, so that
choosing by them biases nothing.

The bounds are those of Student's t for the mean of the logarithms of the ratios. Where the code is unchanged
both sides are the same, so that these are symmetric about zero: the test then keeps its error for heavy tails
and for modes too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import expm1

from harness.paper.gate.counts import Counted, Sides, judge_counts
from harness.paper.gate.outcome import Bounds, CaseOutcome, Verdict
from harness.paper.gate.policy import Accept, CasePolicy, Policy
from harness.paper.gate.reading import CPU, Reader, Reading, Stages, at_most
from harness.paper.gate.stages import Step
from harness.paper.gate.wording import change, measured, pairs, percent, sentence


@dataclass(frozen=True)
class Decision:
    """What is known of a case: a verdict, or None where another stage must be measured first."""

    verdict: Verdict | None
    reason: str
    bounds: Bounds | None = None
    clock: str = ""
    wall: Bounds | None = None
    notes: tuple[str, ...] = ()

    def outcome(
        self, name: str, stages: Stages = (), counts: Sides | None = None, seconds: float = 0.0
    ) -> CaseOutcome:
        """Return what is told of a case that is decided."""
        if self.verdict is None:
            raise ValueError(f"{name} is not decided: {self.reason}")
        return CaseOutcome(
            name=name,
            verdict=self.verdict,
            reason=self.reason,
            bounds=self.bounds,
            clock=self.clock,
            stages=stages,
            wall=self.wall,
            counts=counts or {},
            notes=self.notes,
            seconds=seconds,
        )


@dataclass(frozen=True)
class Rule:
    """The rule for one run.

    cases and controls: how many are judged, and share the error. today: the day that acceptances expire by.
    """

    policy: Policy
    cases: int
    controls: int = 0
    today: date = field(default_factory=date.today)

    @property
    def error_per_case(self) -> float:
        """The probability of a false alarm in one case or control, over its clocks and stages."""
        return self.policy.false_alarms / max(1, self.cases + self.controls)

    def decide(
        self,
        name: str,
        stages: Stages,
        counts: Sides | None = None,
        *,
        is_cut: bool = False,
        is_control: bool = False,
        clock: str = CPU,
    ) -> Decision:
        """Decide about a case by the stages measured so far.

        The stage that may be asked for has ``policy.processes[len(stages)]`` pairs of processes. counts: what
        one call of each side does. is_cut: no stage can follow, so decide without. is_control: by time alone,
        nothing is accepted, the first stage decides nothing, and the last is measured wherever a slowdown of
        half the plant is not excluded. clock: what the numbers named ``cpu`` were read from.
        """
        policy = self.policy.for_case(name)
        if is_control:
            policy, counts = dataclasses.replace(policy, accepts=()), None
        counted = judge_counts(counts or {}, policy)
        is_held = is_control or counted.has_risen
        reader = Reader(policy, self.error_per_case, self.policy.processes, stages, clock, is_held)
        decision = self._decide(reader, policy, counted)
        if is_control and not reader.is_last and self._is_open(decision, stages):
            decision = Decision(None, f"{decision.reason} A plant could still hide in the noise.")
        if decision.verdict is None and is_cut:
            decision = self._decide(dataclasses.replace(reader, is_cut=True), policy, counted)
        return decision

    def _decide(self, reader: Reader, policy: CasePolicy, counted: Counted) -> Decision:
        readings = reader.read()
        step = _overall(readings)
        if step is Step.MORE and not reader.is_last:
            return Decision(None, _wish(readings))
        if not readings:
            return with_counts(_unmeasured(reader), counted)
        decision = _conclude(step, readings, reader)
        if step is Step.FAIL or (step is Step.INCONCLUSIVE and not reader.is_cut):
            ratio = max(reading.bounds.ratio for reading in readings if reading.step is step)
            decision = self.accept(decision, ratio, policy.accepts)
        return with_counts(decision, counted)

    def _is_open(self, decision: Decision, stages: Stages) -> bool:
        """Whether a control was not found, and might be one whose plant has arrived."""
        if decision.verdict is None or decision.verdict is Verdict.FAIL:
            return False
        return at_most(stages, decision.clock) >= 1 + self.policy.plant / 2

    def accept(self, decision: Decision, ratio: float, accepts: Sequence[Accept]) -> Decision:
        """Accept a slowdown that a line of the policy covers; where none does, say why the lines do not."""
        notes = list(decision.notes)
        for accept in accepts:
            limit = percent(accept.up_to - 1)
            if accept.expires < self.today:
                notes.append(f"{accept.place} expired on {accept.expires}.")
            elif ratio > accept.up_to:
                notes.append(f"{accept.place} covers {limit} at most.")
            else:
                reason = f"{decision.reason} Accepted up to {limit} until {accept.expires}: {accept.reason}"
                return _changed(decision, notes, Verdict.ACCEPTED, reason)
        return _changed(decision, notes)


VERDICTS: Mapping[Step, Verdict] = {
    Step.PASS: Verdict.PASS,
    Step.FAIL: Verdict.FAIL,
    Step.INCONCLUSIVE: Verdict.INCONCLUSIVE,
    Step.INSENSITIVE: Verdict.INSENSITIVE,
}
# The first of these that any clock says holds for the case.
_ORDER = (Step.FAIL, Step.MORE, Step.INCONCLUSIVE, Step.INSENSITIVE, Step.PASS)


def _overall(readings: Sequence[Reading]) -> Step:
    found = {reading.step for reading in readings} or {Step.MORE}
    return next(step for step in _ORDER if step in found)


def _wish(readings: Sequence[Reading]) -> str:
    wishing = [reading.reason for reading in readings if reading.step is Step.MORE]
    return f"{wishing[0] if wishing else 'Too few processes have ended.'} More processes are needed."


def _unmeasured(reader: Reader) -> Decision:
    found = sum(map(len, reader.stages))
    who = sentence(pairs(found)) if found else "No pair of processes"
    why = "the budget was over" if reader.is_cut else "the others gave no number"
    return Decision(Verdict.INCONCLUSIVE, f"{who} measured this case: {why}.")


def _conclude(step: Step, readings: Sequence[Reading], reader: Reader) -> Decision:
    first, beside = readings[0], readings[1] if len(readings) > 1 else None
    telling = next(reading for reading in readings if reading.step is step)
    reason = telling.reason
    if telling is beside:
        shown = f"By {first.clock} it is {change(first.bounds.ratio)}"
        reason += f" {shown}: it sleeps, waits or works in other threads."
    if reader.is_cut:
        reason += " The budget was over before the last stage."
    return Decision(
        verdict=VERDICTS[step],
        reason=reason,
        bounds=first.bounds,
        clock=first.clock,
        wall=beside.bounds if beside else None,
        notes=(*_remarks(first, beside), *reader.notes()),
    )


def _remarks(first: Reading, beside: Reading | None) -> list[str]:
    notes = []
    if first.is_faster:
        notes.append(f"A speed-up: {measured(first.bounds)}.")
    if first.step is Step.PASS and first.bounds.interval[0] - 1 > expm1(first.test.margin):
        notes.append("The whole 95 % interval is above the margin, as that of 1 unchanged case in 40 may be.")
    if beside and beside.bounds.detectable > expm1(beside.test.detect):
        found = percent(beside.bounds.detectable)
        notes.append(f"By the wall, which shows waiting, only a slowdown of {found} would surely be found.")
    return notes


def with_counts(decision: Decision, counted: Counted) -> Decision:
    """Return a decision by time as the counts leave it: what fails by them fails whatever the time says."""
    notes = [*decision.notes, *counted.remarks]
    if not counted.failures:
        return _changed(decision, notes)
    return _changed(decision, notes, Verdict.FAIL, " ".join((*counted.failures, decision.reason)))


def _changed(
    decision: Decision, notes: Sequence[str], verdict: Verdict | None = None, reason: str = ""
) -> Decision:
    return dataclasses.replace(
        decision,
        verdict=verdict or decision.verdict,
        reason=reason or decision.reason,
        notes=tuple(notes),
    )
