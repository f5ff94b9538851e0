"""Stored baselines: the run that head is held against, and what the times of both say of a case."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import expm1, inf, log1p, sqrt
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from harness.paper.errors import Exit, RunRefusedError, SameopError
from harness.paper.gate.counts import BASE, HEAD, PEAK, judge_counts
from harness.paper.gate.outcome import Bounds, CaseOutcome, GateOutcome, Verdict
from harness.paper.gate.policy import CasePolicy
from harness.paper.gate.reading import WALL, as_ratio
from harness.paper.gate.rule import VERDICTS, Decision, Rule, with_counts
from harness.paper.gate.stages import AMBIGUOUS, StagedTest, Step, quantile
from harness.paper.gate.wording import estimated, percent, sentence, setting
from harness.paper.record import Facts, Reading, Record, Status
from harness.paper.store import Run, read_run

# How an outcome says that base was measured before.
STORED = "stored"
# So many further pairs of sessions are drawn to see which slowdown 99 of a hundred would find.
_DRAWS, _POWER = 10_000, 0.99
# Nothing becomes slower by this factor.
_BLIND = 100.0
_MEASURE_ANEW = "Measure a baseline here and now: `pytest --benchmark`."


class BaselineRefusedError(SameopError):
    """A baseline that is absent, damaged or of another machine."""

    exit = Exit.BASELINE


def is_stored(outcome: GateOutcome) -> bool:
    """Whether head was held against a run that was measured before."""
    return outcome.twins.get("how") == STORED


def read_baseline(folder: Path, machine: Facts) -> Run:
    """Read a run that times of this machine may be compared with.

    Raises :class:`BaselineRefusedError` for one that is absent, damaged, of another machine or without times.
    """
    try:
        run = read_run(folder)
    except RunRefusedError as error:
        raise BaselineRefusedError(str(error)) from None
    except OSError as error:
        raise BaselineRefusedError(
            f"The baseline {folder} cannot be read ({error.strerror}): correct that, or name another run."
        ) from None
    if run.damage:
        more = f" ({len(run.damage)} lines in all)" if len(run.damage) > 1 else ""
        raise BaselineRefusedError(
            f"The baseline {folder} is damaged{more}: {run.damage[0]} What is lost would pass in silence; "
            f"name a whole run. {_MEASURE_ANEW}"
        )
    _demand_machine(run, machine)
    if not any(latency and latency.medians for latency in map(Latency.of, run.latest.values())):
        raise BaselineRefusedError(
            f"The baseline {folder} holds no time of any case, so that there is nothing to compare with. "
            f"{_MEASURE_ANEW}"
        )
    return run


def _demand_machine(run: Run, machine: Facts) -> None:
    """Refuse a run of another machine, and name everything that differs."""
    theirs = run.header.identity.get("machine", {})
    differing = [
        f"{key} was {theirs.get(key)!r} and is {machine.get(key)!r}"
        for key in dict.fromkeys([*machine, *theirs])
        if theirs.get(key) != machine.get(key)
    ]
    if differing:
        raise BaselineRefusedError(
            f"The baseline {run.folder} is of another machine: {'; '.join(differing)}. Times of two machines "
            f"are never compared. {_MEASURE_ANEW}"
        )


@dataclass(frozen=True)
class Latency:
    """What a record says of the processes of its case: the seconds per call of each.

    medians: by the clock that the record was read from. walls: by the wall, empty where one is not known.
    """

    clock: str
    medians: tuple[float, ...]
    walls: tuple[float, ...]

    @classmethod
    def of(cls, record: Record) -> Self | None:
        """Return it, or None for a case that has no sound number."""
        reading = record.readings.get("latency")
        if record.status is not Status.MEASURED or reading is None or not reading.value:
            return None
        processes = _parts(reading.facts, "processes")
        return cls(
            clock=str(reading.facts.get("clock")),
            medians=_times(processes, "median"),
            walls=_times(processes, "wall"),
        )


def _times(processes: Sequence[Facts], name: str) -> tuple[float, ...]:
    """Return a time of every process, none where one lacks it."""
    found = [process.get(name) for process in processes]
    times = tuple(float(time) for time in found if isinstance(time, int | float) and time > 0)
    return times if len(times) == len(found) else ()


def _parts(facts: Any, name: str) -> list[Facts]:
    found = facts.get(name) if isinstance(facts, Mapping) else None
    return [part for part in found if isinstance(part, Mapping)] if isinstance(found, Sequence) else []


def counts_of(record: Record) -> dict[str, float]:
    """Return what one call did, as far as the record knows it without any noise."""
    counts = {}
    memory = record.readings.get("memory")
    if memory is not None and memory.value is not None:
        counts[PEAK] = memory.value
    macs = _executed_macs(record.readings.get("macs"))
    return counts if macs is None else {**counts, "macs": macs}


def _executed_macs(reading: Reading | None) -> float | None:
    """Return what was counted while the program ran; the value of the reading is the formula's."""
    found: Any = reading.facts if reading else {}
    for name in ("witnesses", "flop_counter", "macs"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None


@dataclass(frozen=True)
class Times:
    """The seconds per call of every process of either side, by one clock."""

    clock: str
    base: tuple[float, ...]
    head: tuple[float, ...]
    note: str = ""

    @classmethod
    def of(cls, base: Latency, head: Latency) -> Self:
        """Read both sides by the clock of their records, or by the wall where these are two."""
        if base.clock == head.clock:
            return cls(base.clock, base.medians, head.medians)
        note = (
            f"Compared by the wall, since the baseline was read from the {base.clock} and head from the "
            f"{head.clock}: one of them sleeps, waits or works in other threads."
        )
        return cls(WALL, base.walls, head.walls, note)

    @property
    def is_enough(self) -> bool:
        """Whether either side has a spread."""
        return min(len(self.base), len(self.head)) > 1

    @cached_property
    def mean(self) -> float:
        """The mean logarithm of the ratio, head by base."""
        return float(np.mean(np.log(self.head)) - np.mean(np.log(self.base)))

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return sqrt(sum(self._variances))

    @cached_property
    def count(self) -> int:
        """How many numbers a mean has whose t has as many degrees of freedom.

        These are Welch's, rounded down: the processes of the two sides need not scatter alike.
        """
        return 1 + int(_welch(np.array(self._variances), self._degrees))

    def reach(self, confidence: float) -> float:
        """Return what a logarithm exceeds a bound of this confidence by, 99 times of a hundred.

        It is drawn from further sessions that scatter as these did. With few processes the bound itself
        varies from one to the next, by its spread and by its degrees of freedom, more than the mean does.
        """
        rng = np.random.default_rng(0)
        degrees = self._degrees[:, None]
        drawn = np.array(self._variances)[:, None] * rng.chisquare(degrees, (2, _DRAWS)) / degrees
        found = _welch(drawn, degrees)
        kinds, which = np.unique(found, return_inverse=True)
        bounds = np.array([quantile(confidence, 1 + each) for each in kinds.tolist()])
        sure = bounds[which] * np.sqrt(drawn.sum(axis=0))
        return float(np.quantile(sure + self.error * rng.standard_normal(_DRAWS), _POWER))

    @property
    def spread(self) -> float:
        """The standard deviation of so many numbers that have the same error."""
        return self.error * sqrt(self.count)

    @property
    def _degrees(self) -> NDArray[np.int_]:
        return np.array([len(self.base) - 1, len(self.head) - 1])

    @cached_property
    def _variances(self) -> tuple[float, float]:
        """The variances of the mean logarithms."""
        first, second = (float(np.var(np.log(side), ddof=1)) / len(side) for side in (self.base, self.head))
        return first, second

    def told(self) -> str:
        """Say how many processes there are."""
        head, base = len(self.head), len(self.base)
        return f"{head} process{'es' * (head != 1)} of head against {base} of the baseline"


def _welch(variances: NDArray[np.float64], degrees: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the degrees of freedom of the sum of the variances of two means, rounded down.

    variances [2, ...]; degrees [2, ...]; result [...].
    """
    below = (variances**2 / degrees).sum(axis=0)
    above = variances.sum(axis=0) ** 2
    # Sides without any spread, by a clock that is too coarse for it, have all degrees.
    found = np.divide(above, below, out=np.full_like(above, degrees.sum()), where=below > 0)
    whole: NDArray[np.int_] = np.maximum(1, np.floor(found + 1e-9)).astype(int)
    return whole


@dataclass(frozen=True)
class StoredRule(Rule):
    """The rule for head against a stored run: one look, at times that were not measured side by side.

    Processes are what varies, as in a run of twins, and the error is shared out over the cases in the same
    way. It speaks of these two sessions; what sessions differ by is left to the margin.
    """

    def judge(self, name: str, base: Record | None, head: Record) -> CaseOutcome:
        """Judge a case by the records of both sides; base: None for a case that the baseline lacks."""
        ours = Latency.of(head)
        if ours is None or not ours.medians:
            wrong = head.status in (Status.DISAGREED, Status.NONDETERMINISTIC)
            reason = _why_no_time(head)
            return CaseOutcome(name, Verdict.DISAGREED if wrong else Verdict.BROKEN, reason)
        theirs = Latency.of(base) if base else None
        if theirs is None or not theirs.medians:
            why = f"has no sound number ({_why_no_time(base)})" if base else "has no record of it"
            reason = f"The baseline {why}, so that there is nothing to compare with."
            return CaseOutcome(name, Verdict.NEW, reason, counts={HEAD: counts_of(head)})
        assert base is not None
        times = Times.of(theirs, ours)
        counts = {BASE: counts_of(base), HEAD: counts_of(head)}
        policy = self.policy.for_case(name)
        decision = with_counts(self._compare(times, policy), judge_counts(counts, policy))
        outcome = decision.outcome(name, counts=counts, seconds=head.seconds)
        return dataclasses.replace(outcome, medians={BASE: list(times.base), HEAD: list(times.head)})

    def _compare(self, times: Times, policy: CasePolicy) -> Decision:
        notes = (times.note,) if times.note else ()
        if not times.is_enough:
            reason = f"{sentence(times.told())}: fewer than two of a side do not tell how processes differ."
            return Decision(Verdict.INSENSITIVE, reason, clock=times.clock, notes=notes)
        test, sensitivity = self._test(times, policy)
        reach = times.reach(1 - test.error)
        step = Step(int(test.judge(times.mean, times.spread, times.count)))
        if step is Step.PASS and test.margin + reach > log1p(sensitivity):
            step = Step.INSENSITIVE
        bounds = _bounds(test, times, reach)
        reason = _tell(step, test, bounds, times, sensitivity)
        decision = Decision(VERDICTS[step], reason, bounds, times.clock, notes=notes)
        if times.mean + quantile(AMBIGUOUS, times.count) * times.error < -test.margin:
            margin = setting(expm1(test.margin))
            note = f"A speed-up beyond the {margin} that two sessions may differ by."
            decision = dataclasses.replace(decision, notes=(*notes, note))
        if step in (Step.FAIL, Step.INCONCLUSIVE):
            return self.accept(decision, bounds.ratio, policy.accepts)
        return decision

    def _test(self, times: Times, policy: CasePolicy) -> tuple[StagedTest, float]:
        """Return the test of a clock, and the slowdown that must be found."""
        margin, sensitivity = policy.baseline_margin, policy.baseline_sensitivity
        if times.clock == WALL:
            # What else runs on the machine shows there too, in either session.
            margin = max(margin, policy.wall_margin)
            sensitivity = max(sensitivity, policy.wall_sensitivity)
        # One stage after a screen that nobody took.
        plan = (0, times.count)
        test = StagedTest(log1p(margin), log1p(margin), inf, self.error_per_case, plan)
        return test, sensitivity


def _why_no_time(record: Record) -> str:
    reading = record.readings.get("latency")
    return record.reason or (reading and reading.reason) or "its record holds no time of a process"


def _bounds(test: StagedTest, times: Times, reach: float) -> Bounds:
    sure, half = (quantile(level, times.count) * times.error for level in (1 - test.error, 0.975))
    return Bounds(
        ratio=as_ratio(times.mean),
        low=as_ratio(times.mean - sure),
        interval=(as_ratio(times.mean - half), as_ratio(times.mean + half)),
        detectable=as_ratio(test.margin + reach) - 1,
        processes=min(len(times.base), len(times.head)),
    )


def _tell(step: Step, test: StagedTest, bounds: Bounds, times: Times, sensitivity: float) -> str:
    """Say what was measured, and what follows."""
    margin = setting(expm1(test.margin))
    found = percent(bounds.detectable)
    by = "by the wall " if times.clock == WALL else ""
    blind = bounds.detectable >= _BLIND
    missed = "any slowdown may be missed" if blind else f"a slowdown below {found} may be missed"
    told = estimated(bounds, is_sure=step in (Step.FAIL, Step.INCONCLUSIVE))
    follows = {
        Step.PASS: f": no slowdown beyond {margin} was found, and one of {found} would have been",
        Step.FAIL: f"; {margin} is allowed",
        Step.INCONCLUSIVE: f": not surely above the {margin} allowed",
        Step.INSENSITIVE: f": {missed}, one of {setting(sensitivity)} must not be",
    }[step]
    return f"{sentence(by + told)}, {times.told()}{follows}."
