"""The certificate: two torch programs are equal, or an identity of small error probability says so.

Both programs run on random integers in float64. If every sum of absolute terms stays below 2⁵³, in units
of the finest binary fraction that occurs, no addition or multiplication rounds in any order, so equal
polynomials give bitwise equal results. Functions that are no polynomials are taken as arbitrary ones: an
oracle answers in their place, and what holds for arbitrary functions holds for them. How likely the
trials miss a difference is derived in :mod:`~harness.bench.proof.chance`. A difference is believed only
where the kernels of both sides were exact on the integers that show it.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from harness.bench.inputs import Tensors
from harness.bench.proof.analysis import EXACT_BELOW, Analysis, analyse, demand_same_outside, follow
from harness.bench.proof.chance import TARGET_LOG10_P, Chance
from harness.bench.proof.confirmation import demand_truths, first_real_difference
from harness.bench.proof.exactness import Watch, demand_exact
from harness.bench.proof.oracle import Oracle, Past
from harness.bench.proof.programs import (
    Difference,
    Outputs,
    Point,
    Program,
    Shapes,
    draw_integers,
    first_difference,
    telling,
    within,
)
from harness.bench.proof.refusal import RefusedError
from harness.bench.proof.uninterpreted import Trial

__all__ = [
    "EXACT_BELOW",
    "TARGET_LOG10_P",
    "Analysis",
    "Difference",
    "Evidence",
    "Known",
    "Outcome",
    "Outputs",
    "Program",
    "Shapes",
    "analyse",
    "certify",
    "draw_integers",
    "first_difference",
    "follow",
]


@dataclass(frozen=True)
class Evidence:
    """What one pass (values, or vector-Jacobian products) established at one shape.

    uninterpreted: the functions that were taken as arbitrary.
    """

    vjp: bool
    degree: int
    magnitude: int
    trials: int
    log10_p: float
    majorant_ratio: float
    backends: tuple[str, ...]
    uninterpreted: tuple[str, ...] = ()


@dataclass
class Outcome:
    """The verdict on one pair of programs at one shape.

    arbitrary: nothing else was found than that the sides differ for arbitrary functions, of values and of
    gradients; what is known of the real ones may still make them the same.
    """

    verdict: str
    evidence: list[Evidence] = field(default_factory=list)
    difference: Difference | None = None
    reason: str | None = None
    arbitrary: bool = False


class _ArbitraryError(RefusedError):
    """The sides differ for arbitrary functions, and on real numbers no difference was seen."""


# What is known of the programs: by side, and whether it is of the vector-Jacobian product.
Known = MutableMapping[tuple[str, bool], Analysis]


def certify(
    left: Program,
    right: Program,
    shapes: Shapes,
    seed: int,
    trials: int | None = None,
    known: Known | None = None,
) -> Outcome:
    """Compare two programs of named inputs, forward and by vector-Jacobian products.

    trials: how many; by default as many as bring the error probability to 1e-30. known: analyses of these
    programs, which are not repeated; new ones are added.
    The verdict is ``holds``, ``refuted`` with the difference, or ``refused`` with the reason; a
    program that raises is refused, and so is a difference that is there for arbitrary functions only.
    """
    outcome = Outcome("holds")
    known = {} if known is None else known
    passes = [_Pass(left, right, shapes, seed, vjp, known) for vjp in (False, True)]
    undecided = None
    try:
        for each in passes:
            try:
                evidence, difference = each.compare(trials)
            except _ArbitraryError as refusal:
                # The gradients may differ for real where the values do not.
                undecided = undecided or refusal
                continue
            if difference is not None:
                return Outcome("refuted", outcome.evidence, difference)
            outcome.evidence.append(evidence)
        if undecided is not None:
            return Outcome("refused", reason=_sentence(undecided), arbitrary=True)
        for each, evidence in zip(passes, outcome.evidence, strict=True):
            if not evidence.uninterpreted:
                each.demand_agreement_on_reals()
    except RefusedError as refusal:
        return Outcome("refused", reason=_sentence(refusal))
    return outcome


def _sentence(refusal: RefusedError) -> str:
    reason = str(refusal)
    return f"{reason[0].upper()}{reason[1:]}."


@dataclass(frozen=True)
class _Pass:
    """The comparison of two programs by values, or by vector-Jacobian products."""

    left: Program
    right: Program
    shapes: Shapes
    seed: int
    vjp: bool
    known: Known

    def compare(self, trials: int | None) -> tuple[Evidence, Difference | None]:
        analyses = self._analyse()
        degree = max(analysis.degree for analysis in analyses)
        magnitude = min(analysis.magnitude() for analysis in analyses)
        chance = Chance.of(degree, magnitude, *(analysis.asked for analysis in analyses))
        count = trials or chance.trials()
        difference = self._search(analyses, magnitude, count)
        functions = tuple(sorted(analyses[0].uninterpreted | analyses[1].uninterpreted))
        if difference is None:
            self._demand_same_outside(analyses)
        if functions:
            difference = self._confirm(functions, difference)
        backends = tuple(sorted(analyses[0].backends | analyses[1].backends))
        ratio = max(side.majorant * float(magnitude) ** side.degree for side in analyses) / EXACT_BELOW
        return (
            Evidence(self.vjp, degree, magnitude, count, chance.log10(count), ratio, backends, functions),
            difference,
        )

    @property
    def _sides(self) -> tuple[tuple[str, Program], tuple[str, Program]]:
        return ("left", self.left), ("right", self.right)

    def _analyse(self) -> list[Analysis]:
        for name, side in self._sides:
            if (name, self.vjp) not in self.known:
                with telling(name):
                    values = self.known.get((name, False))
                    self.known[name, self.vjp] = analyse(
                        side, self.shapes, self.seed, vjp=self.vjp, outputs=values.outputs if values else None
                    )
        return [self.known[name, self.vjp] for name, _ in self._sides]

    def _search(self, analyses: list[Analysis], magnitude: int, count: int) -> Difference | None:
        pasts = [Past(), Past()]
        for trial in range(count):
            results = []
            for (name, side), analysis, past in zip(self._sides, analyses, pasts, strict=True):
                with telling(name):
                    results.append(self._try(side, analysis, magnitude, self.seed + trial, past))
            difference = first_difference(*results)
            if difference is not None:
                self._demand_exact_kernels(analyses, magnitude, trial)
                return difference
        return None

    def _demand_exact_kernels(self, analyses: list[Analysis], magnitude: int, last: int) -> None:
        """Repeat the trials up to the one that found a difference, every contraction in integers too."""
        for (name, side), analysis in zip(self._sides, analyses, strict=True):
            past = Past()
            for trial in range(last + 1):
                with telling(name):
                    watch = Watch()
                    self._try(side, analysis, magnitude, self.seed + trial, past, watch)
                    demand_exact(watch)

    def _try(
        self,
        side: Program,
        analysis: Analysis,
        magnitude: int,
        seed: int,
        past: Past,
        watch: Watch | None = None,
    ) -> Tensors:
        point = Point.of_integers(side, self.shapes, magnitude, seed, vjp=self.vjp, outputs=analysis.outputs)
        if not analysis.uninterpreted:
            return _copied(point.evaluate(side, watch))
        trial = Trial(Oracle(magnitude, seed, past), analysis.plan)
        results = _copied(point.evaluate(side, within(trial, watch) if watch else trial))
        trial.demand_finished()
        return results

    def _confirm(self, functions: tuple[str, ...], difference: Difference | None) -> Difference | None:
        """Look at the real functions: a difference must be there too, and no difference must not."""
        agreed = difference is None
        found = first_real_difference(*self._sides, self.shapes, self.seed, vjp=self.vjp, coarse=agreed)
        shown = ", ".join(functions)
        if difference is not None and found is None:
            raise _ArbitraryError(
                f"the sides differ if any function may stand for {shown} ({difference.result}"
                f"{list(difference.index)}), but on real numbers no difference was seen"
            )
        if difference is None and found is not None:
            raise RefusedError(
                f"the sides agree if any function may stand for {shown}, but on real numbers "
                f"{found.result}{list(found.index)} is {found.left} and {found.right}"
            )
        for each in self._sides if agreed else ():
            demand_truths(each, self.shapes, self.seed, vjp=self.vjp)
        return found

    def demand_agreement_on_reals(self) -> None:
        """Refuse polynomials that differ on real numbers, for integers do not show what rounds to them."""
        found = first_real_difference(
            *self._sides, self.shapes, self.seed, vjp=self.vjp, coarse=True, polynomial=True
        )
        if found is not None:
            raise RefusedError(
                f"the sides agree on integers, but on real numbers {found.result}{list(found.index)} "
                f"is {found.left} and {found.right}"
            )

    def _demand_same_outside(self, analyses: list[Analysis]) -> None:
        for (name, side), analysis in zip(self._sides, analyses, strict=True):
            with telling(name):
                demand_same_outside(side, self.shapes, self.seed, analysis, vjp=self.vjp)


def _copied(results: Tensors) -> Tensors:
    # A program may give the same memory again.
    return {name: result.detach().clone() for name, result in results.items()}
