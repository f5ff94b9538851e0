"""Following a program once: its degree, the size of its terms, and what it takes as an arbitrary function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.oracle import Oracle, Past
from harness.bench.proof.programs import Point, Program, Shapes
from harness.bench.proof.refusal import RefusedError
from harness.bench.proof.rules import RULES
from harness.bench.proof.shadow import Seen, Shadow
from harness.bench.proof.uninterpreted import Repetition, Trial, Uninterpreted

EXACT_BELOW = 2.0**53
# A program is followed on integers of this size; a bound on its terms then holds for every size.
_FOLLOWED = 3


@dataclass(frozen=True)
class Analysis:
    """What following a program says of it: degree, majorant for inputs of size one, constants, backends.

    degree and majorant hold for every intermediate tensor, the majorant in units of its grain; roundings
    for the results. uninterpreted: the functions that were taken as arbitrary. plan: which operations they
    took the place of, in order. asked: how many of their values were asked for, by how deep they are
    nested. results: at the point where the program was followed. bounds: how large each may be on
    integers of that size. outputs: the shapes of its values.
    grain: the finest of any tensor.
    """

    degree: int
    majorant: float
    roundings: float
    constants: list[Tensor]
    operations: list[str]
    backends: frozenset[str]
    uninterpreted: frozenset[str] = frozenset()
    plan: tuple[bool, ...] = ()
    asked: Mapping[int, int] = field(default_factory=dict)
    results: Tensors = field(default_factory=dict)
    bounds: Tensors = field(default_factory=dict)
    outputs: Shapes = field(default_factory=dict)
    grain: int = 0

    def magnitude(self) -> int:
        """Return the largest integer range at which nothing can round."""
        limit: float = (EXACT_BELOW / self.majorant) ** (1 / self.degree)
        return int(limit * (1 - 1e-12))


def analyse(
    program: Program, shapes: Shapes, seed: int, *, vjp: bool, outputs: Shapes | None = None
) -> Analysis:
    """Follow a program twice on different integers; both must do the same to the same constants.

    Functions that are no polynomials are taken as arbitrary ones. outputs: the shapes of its values, if
    known.
    """
    analysis = follow(program, shapes, seed, vjp=vjp, uninterpreted=True, outputs=outputs)
    _demand_same_elsewhere(program, shapes, seed + 1, analysis, vjp=vjp)
    return analysis


def _demand_same_elsewhere(
    program: Program, shapes: Shapes, seed: int, analysis: Analysis, *, vjp: bool
) -> None:
    """Refuse a program that does something else on other integers, or is bounded otherwise.

    The same operations, in the same places arbitrary, on the same constants have the same degrees and terms.
    """
    point = Point.of_integers(program, shapes, _FOLLOWED, seed, vjp=vjp, outputs=analysis.outputs)
    repetition = Repetition(Oracle(_FOLLOWED, seed, Past()), analysis.plan)
    for tensor in point.tensors.values():
        repetition.meet(tensor)
    results = point.evaluate(program, repetition)
    repetition.demand_finished()
    for result in results.values():
        repetition.see(result)
    constants = repetition.constants
    same = repetition.operations == analysis.operations and len(constants) == len(analysis.constants)
    if not same or not all(map(torch.equal, constants, analysis.constants)):
        raise RefusedError("the program does something else on other inputs, or carries data out of torch")
    for name, result in results.items():
        _demand_bounded(result.detach(), analysis.bounds[name])


def follow(
    program: Program,
    shapes: Shapes,
    seed: int,
    *,
    vjp: bool,
    uninterpreted: bool = False,
    outputs: Shapes | None = None,
) -> Analysis:
    """Follow a program once on small integers, or raise :class:`RefusedError`.

    uninterpreted: take functions that are no polynomials as arbitrary ones, and do not refuse them.
    outputs: the shapes of its values, if known.
    """
    point = Point.of_integers(program, shapes, _FOLLOWED, seed, vjp=vjp, outputs=outputs)
    functions = Uninterpreted(Oracle(_FOLLOWED, seed, Past()), vjp=vjp)
    shadow = Shadow(RULES, replacement=functions if uninterpreted else None)
    for name, tensor in point.tensors.items():
        shadow.track(name, tensor, 1.0)
    results = {name: result.detach() for name, result in point.evaluate(program, shadow).items()}
    functions.demand_apart()
    bounds = {name: _bound_of(shadow.see(result)) for name, result in results.items()}
    for name, result in results.items():
        _demand_bounded(result, bounds[name])
    degree, largest = functions.bounds.highest_degree, functions.bounds.largest
    return Analysis(
        max(1, shadow.highest_degree, degree),
        max(1.0, shadow.largest, largest),
        max((shadow.see(result).roundings for result in results.values()), default=0.0),
        shadow.constants,
        shadow.operations,
        frozenset(shadow.backends),
        frozenset(functions.titles),
        tuple(functions.plan),
        dict(functions.bounds.asked),
        {name: result.clone() for name, result in results.items()},
        bounds,
        {name: tuple(values.shape) for name, values in (point.cotangents or results).items()},
        max(shadow.finest_grain, functions.bounds.finest_grain),
    )


def demand_same_outside(
    program: Program, shapes: Shapes, seed: int, analysis: Analysis, *, vjp: bool
) -> None:
    """Refuse a program that computes something else now, where nothing follows it, than it did then."""
    point = Point.of_integers(program, shapes, _FOLLOWED, seed, vjp=vjp, outputs=analysis.outputs)
    trial = Trial(Oracle(_FOLLOWED, seed, Past()), analysis.plan) if analysis.uninterpreted else None
    results = point.evaluate(program, trial)
    for name, result in analysis.results.items():
        if name not in results or not torch.equal(results[name], result):
            raise RefusedError("the program computes something else than when it was followed")


def _bound_of(result: Seen) -> Tensor:
    """Return how large a result can be on the integers on which a program is followed."""
    return result.terms * float(_FOLLOWED) ** result.degree.total


def _demand_bounded(result: Tensor, bound: Tensor) -> None:
    """Refuse a result that its shadow does not bound: something wrote it that torch knows nothing of."""
    if bool(result.isneginf().any()):
        raise RefusedError("a result is minus infinity")
    if result.shape != bound.shape or not bool((result.abs() <= bound).all()):
        raise RefusedError("a result was never written, or written in a way that cannot be followed")
