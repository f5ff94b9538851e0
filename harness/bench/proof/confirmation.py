"""Two programs on real numbers: a difference beyond what rounding explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.programs import (
    Difference,
    Mode,
    Point,
    Program,
    Shapes,
    different_shape,
    first_unequal,
    output_shapes,
    telling,
)
from harness.bench.proof.refusal import RefusedError
from harness.bench.proof.rules import RULES, gamma
from harness.bench.proof.shadow import Shadow
from harness.bench.proof.truths import Truths

_UNIT = 2.0**-53
# Sizes of the inputs, so that exponentials are steep or flat, and the states of torch in which a program
# must give the same values; the last draw is of positive numbers, of which every root is a number.
_DRAWS: tuple[tuple[float, Callable[[], Mode]], ...] = (
    (1.0, torch.no_grad),
    (0.25, torch.enable_grad),
    (3.0, torch.inference_mode),
    (1.0, torch.no_grad),
)
# Of polynomials, which have no steep places, fewer draws show as much.
_OF_POLYNOMIALS = 3
# Where no bound can be derived, sides that agree to this share of the largest value may be equal.
_UNBOUNDED = 1e-9
# A bound wider than this share of the terms says nothing.
_INFORMATIVE = 0.01

Side = tuple[str, Program]


def first_real_difference(
    left: Side,
    right: Side,
    shapes: Shapes,
    seed: int,
    *,
    vjp: bool,
    coarse: bool = False,
    polynomial: bool = False,
) -> Difference | None:
    """Return a place where two named programs differ on real numbers by more than both may round.

    coarse: by more than a billionth of the largest value as well, which is quicker to see. polynomial:
    whether both are polynomials.
    """
    draws = (1 if vjp else _OF_POLYNOMIALS) if polynomial else len(_DRAWS)
    for draw, (scale, state) in enumerate(_DRAWS[:draws]):
        sides = []
        for name, program in (left, right):
            with telling(name):
                positive = draw == len(_DRAWS) - 1
                point = _draw(program, shapes, scale, seed + draw, vjp=vjp, positive=positive)
                sides.append(_Side.compute(name, program, point, state))
        difference = _compare(*sides, coarse=coarse)
        if difference is not None:
            return difference
    return None


def demand_truths(side: Side, shapes: Shapes, seed: int, *, vjp: bool) -> None:
    """Refuse a named program that computes with truth values otherwise than with numbers."""
    name, program = side
    with telling(name):
        _draw(program, shapes, 1.0, seed, vjp=vjp, positive=False).evaluate(program, Truths())


@dataclass(frozen=True)
class _Side:
    """The results of a program at a point."""

    name: str
    program: Program
    point: Point
    values: Tensors

    @classmethod
    def compute(cls, name: str, program: Program, point: Point, state: Callable[[], Mode]) -> _Side:
        values = _evaluated(program, point, state)
        return cls(name, program, point, {key: value.detach().clone() for key, value in values.items()})

    def limits(self) -> Tensors:
        """Return how far rounding may have led from every result."""
        try:
            with telling(self.name):
                return self._bounded() or self.coarse_limits()
        except RefusedError:
            return self.coarse_limits()

    def _bounded(self) -> Tensors | None:
        """Return the rounding bound of every result, or None where it is void."""
        shadow = Shadow(RULES, unit=_UNIT, exact=False)
        for name, tensor in self.point.tensors.items():
            shadow.track(name, tensor, tensor.detach().abs())
        results = self.point.evaluate(self.program, shadow)
        seen = {name: shadow.see(result.detach()) for name, result in results.items()}
        shares = {name: gamma(found.roundings, _UNIT) for name, found in seen.items()}
        limits = {name: shares[name] * found.terms for name, found in seen.items()}
        informative = max(shares.values()) <= _INFORMATIVE
        return limits if informative and all(map(_is_finite, limits.values())) else None

    def coarse_limits(self) -> Tensors:
        """Return a billionth of the largest value, of results and inputs, for every result."""
        return {
            name: torch.full_like(value, self._share_of(value), dtype=torch.float64)
            for name, value in self.values.items()
        }

    def _share_of(self, value: Tensor) -> float:
        met = (value, *self.point.tensors.values())
        tensors = [tensor.detach().double() for tensor in met if tensor.numel()]
        return _UNBOUNDED * max((float(tensor.abs().nan_to_num().max()) for tensor in tensors), default=0.0)


def _evaluated(program: Program, point: Point, state: Callable[[], Mode]) -> Tensors:
    inputs = point.inputs
    if state is torch.enable_grad:
        inputs = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    try:
        return Point(inputs, point.cotangents).evaluate(program, state=state)
    except RuntimeError:
        # One that differentiates on its own cannot do so in inference mode.
        return point.evaluate(program)


def _draw(program: Program, shapes: Shapes, scale: float, seed: int, *, vjp: bool, positive: bool) -> Point:
    inputs = _draw_reals(shapes, seed, scale)
    if positive:
        inputs = {name: tensor.abs() for name, tensor in inputs.items()}
    cotangents = _draw_reals(output_shapes(program, inputs), seed + 1, 1.0) if vjp else None
    return Point(inputs, cotangents)


def _draw_reals(shapes: Shapes, seed: int, scale: float) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def _compare(left: _Side, right: _Side, *, coarse: bool) -> Difference | None:
    difference = different_shape(left.values, right.values)
    if difference is not None:
        return difference
    if coarse and _first_beyond(left, right, left.coarse_limits(), right.coarse_limits()) is None:
        return None
    return _first_beyond(left, right, left.limits(), right.limits())


def _first_beyond(left: _Side, right: _Side, limits: Tensors, others: Tensors) -> Difference | None:
    unequal = {}
    for name, first in left.values.items():
        second = right.values[name]
        same = (first == second) | (first.isnan() & second.isnan())
        if first.is_floating_point() or second.is_floating_point():
            # Written so that what is a number on one side alone differs.
            same |= (first.double() - second.double()).abs() <= limits[name] + others[name]
        unequal[name] = ~same
    return first_unequal(left.values, right.values, unequal)


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
