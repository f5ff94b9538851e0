"""What the clocks say of a case, by the numbers of its processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1, inf, log1p, sqrt

import numpy as np
from numpy.typing import NDArray

from harness.paper.gate.outcome import Bounds, TwinNumber
from harness.paper.gate.policy import CasePolicy
from harness.paper.gate.stages import AMBIGUOUS, StagedTest, Step, quantile
from harness.paper.gate.wording import measured, pairs, percent, sentence, setting

CPU = "thread CPU time"
WALL = "wall"
# The wall's part of the error where it stands beside the CPU clock: its margin is so coarse that it rarely
# needs any, and the finer clock keeps the rest.
WALL_SHARE = 0.1
# A few calls may wait by accident, and such a process has no CPU time. That changes no case's clock.
_MOST = 0.75
# A test on fewer numbers than this is no test.
_FEWEST = 3
# The logarithm of the largest ratio that is told: beyond it no two times are compared any more.
_LARGEST = 20.0

# How sure it must be that a planted slowdown did not arrive: then every PASS of a run is withdrawn.
_SURE = 0.999

Stages = Sequence[Sequence[TwinNumber]]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What one clock says of a case.

    is_screened: the first stage let it pass. is_faster: surely so, with an error of 1 in 100.
    """

    clock: str
    test: StagedTest
    step: Step
    bounds: Bounds
    is_screened: bool = False
    is_faster: bool = False

    @property
    def reason(self) -> str:
        """Say what was measured, and what follows."""
        told = measured(self.bounds, is_sure=self.step in (Step.FAIL, Step.INCONCLUSIVE))
        by = "by the wall " if self.clock == WALL else ""
        return f"{sentence(by + told)}{self._consequence}."

    @property
    def _consequence(self) -> str:
        test = self.test
        margin, detect, sensitivity = (
            setting(expm1(value)) for value in (test.margin, test.detect, test.sensitivity)
        )
        found = percent(self.bounds.detectable)
        passed = f"a slowdown of {detect} is excluded"
        if not self.is_screened:
            passed = f"no slowdown beyond {margin} was found, and one of {found} would have been"
        return {
            Step.MORE: "",
            Step.PASS: f": {passed}",
            Step.FAIL: f"; {margin} is allowed",
            Step.INCONCLUSIVE: f": more than chance explains, and not surely above the {margin} allowed",
            Step.INSENSITIVE: f": a slowdown below {found} may be missed, one of {sensitivity} must not be",
        }[self.step]


@dataclass(frozen=True)
class Reader:
    """Reads the numbers of a case by one clock, or by two.

    error: the probability of a false alarm in this case. plan: the processes of each stage. clock: what the
    numbers named ``cpu`` were read from. is_held: the first stage lets nothing pass. is_cut: no stage
    follows although the plan has one.
    """

    policy: CasePolicy
    error: float
    plan: tuple[int, ...]
    stages: Stages
    clock: str = CPU
    is_held: bool = False
    is_cut: bool = False

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.is_cut or len(self.stages) >= len(self.plan)

    def read(self) -> list[Reading]:
        """Return what each clock says, the one that decides in detail first; nothing for too few numbers."""
        numbers = fresh(self.stages)
        wall, cpu = wall_values(numbers), cpu_values(numbers)
        if len(wall) < _FEWEST:
            return []
        if not _suffice(cpu, wall):
            return [self._read(WALL, self._wall_test(self.error, self.policy.wall_sensitivity), wall)]
        return [
            self._read(self.clock, self._cpu_test(self.error * (1 - WALL_SHARE)), cpu),
            self._read(WALL, self._wall_test(self.error * WALL_SHARE, inf), wall),
        ]

    def notes(self) -> list[str]:
        """Say how many of the numbers the finer clock lacks, where some have it."""
        numbers = fresh(self.stages)
        wall, cpu = wall_values(numbers), cpu_values(numbers)
        if len(cpu) in (0, len(wall)):
            return []
        used = self.clock if _suffice(cpu, wall) else WALL
        lacking = len(wall) - len(cpu)
        return [
            f"Calls waited in {lacking} of {pairs(len(wall))}, which have no {self.clock}: judged by {used}."
        ]

    def _cpu_test(self, error: float) -> StagedTest:
        policy = self.policy
        return self._test(policy.margin, policy.detect, policy.sensitivity, error)

    def _wall_test(self, error: float, sensitivity: float) -> StagedTest:
        return self._test(self.policy.wall_margin, self.policy.wall_detect, sensitivity, error)

    def _test(self, margin: float, detect: float, sensitivity: float, error: float) -> StagedTest:
        return StagedTest(log1p(margin), log1p(detect), log1p(sensitivity), error, self.plan)

    def _read(self, clock: str, test: StagedTest, values: Values) -> Reading:
        mean, spread, count = float(values.mean()), float(values.std(ddof=1)), len(values)
        is_screened = self._is_screened(test, mean, spread, count)
        if is_screened:
            step, detectable = Step.PASS, test.detectable_ahead(spread)
        else:
            step = self._step(test, mean, spread, count)
            detectable = test.detectable(spread, count, self.is_last)
        error = spread / sqrt(count)
        sure, half = (quantile(level, count) * error for level in (1 - test.stage_error, 0.975))
        bounds = Bounds(
            ratio=as_ratio(mean),
            low=as_ratio(mean - sure),
            interval=(as_ratio(mean - half), as_ratio(mean + half)),
            detectable=as_ratio(float(detectable)) - 1,
            processes=count,
        )
        is_faster = mean + quantile(AMBIGUOUS, count) * error < 0
        return Reading(clock, test, step, bounds, is_screened, is_faster)

    def _is_screened(self, test: StagedTest, mean: float, spread: float, count: int) -> bool:
        if len(self.stages) > 1 or self.is_held:
            return False
        return int(test.screen(mean, spread, count)) == Step.PASS

    def _step(self, test: StagedTest, mean: float, spread: float, count: int) -> Step:
        if len(self.stages) > 1:
            return Step(int(test.judge(mean, spread, count, self.is_last, self.is_cut)))
        if not self.is_cut:
            return Step.MORE
        # The first stage never FAILs a case: it chose which cases go on.
        step = Step(int(test.judge(mean, spread, count, is_cut=True)))
        return Step.INCONCLUSIVE if step is Step.FAIL else step


def fresh(stages: Stages) -> list[TwinNumber]:
    """Return the numbers of all stages but the first, or those of the first where it stands alone."""
    judged = stages[1:] if len(stages) > 1 else stages
    return [number for stage in judged for number in stage]


def wall_values(numbers: Sequence[TwinNumber]) -> Values:
    """Return the logarithms of the ratios by the wall."""
    return np.array([number.wall for number in numbers], dtype=float)


def cpu_values(numbers: Sequence[TwinNumber]) -> Values:
    """Return the logarithms of the ratios by the CPU clock, of the numbers that have them."""
    return np.array([number.cpu for number in numbers if number.cpu is not None], dtype=float)


def at_most(stages: Stages, clock: str) -> float:
    """Return the ratio by one clock that the true one exceeds with a probability of 1 in 1000."""
    numbers = fresh(stages)
    values = wall_values(numbers) if clock == WALL else cpu_values(numbers)
    count = len(values)
    return as_ratio(float(values.mean() + quantile(_SURE, count) * values.std(ddof=1) / sqrt(count)))


def _suffice(cpu: Values, wall: Values) -> bool:
    return len(cpu) >= max(_FEWEST, _MOST * len(wall))


def as_ratio(logarithm: float) -> float:
    """Return a ratio from its logarithm, the largest that is told for any beyond it."""
    return exp(max(-_LARGEST, min(_LARGEST, logarithm)))
