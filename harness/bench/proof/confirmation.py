"""Two programs on real numbers: a difference beyond what rounding explains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.programs import (
    Difference,
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

_UNIT = 2.0**-53
# Sizes of the inputs, so that exponentials are steep or flat; the last draw is of positive numbers, of
# which every root is a number.
_SCALES = (1.0, 0.25, 3.0, 1.0)
# Where no bound can be derived, sides that agree to this share of the largest value may be equal.
_UNBOUNDED = 1e-9
# A bound wider than this share of the terms says nothing.
_INFORMATIVE = 0.01

Side = tuple[str, Program]


def first_real_difference(
    left: Side, right: Side, shapes: Shapes, seed: int, *, vjp: bool, coarse: bool = False
) -> Difference | None:
    """Return a place where two named programs differ on real numbers by more than both may round.

    coarse: by more than a billionth of the largest value as well, which is quicker to see.
    """
    for draw, scale in enumerate(_SCALES):
        sides = []
        for name, program in (left, right):
            with telling(name):
                positive = draw == len(_SCALES) - 1
                point = _draw(program, shapes, scale, seed + draw, vjp=vjp, positive=positive)
                sides.append(_Side.compute(name, program, point))
        difference = _compare(*sides, coarse=coarse)
        if difference is not None:
            return difference
    return None


@dataclass(frozen=True)
class _Side:
    """The results of a program at a point."""

    name: str
    program: Program
    point: Point
    values: Tensors

    @classmethod
    def compute(cls, name: str, program: Program, point: Point) -> _Side:
        values = point.evaluate(program)
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
        return {name: torch.full_like(value, self._share_of(value)) for name, value in self.values.items()}

    def _share_of(self, value: Tensor) -> float:
        tensors = [tensor.detach() for tensor in (value, *self.point.tensors.values()) if tensor.numel()]
        return _UNBOUNDED * max((float(tensor.abs().nan_to_num().max()) for tensor in tensors), default=0.0)


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
        # Written so that what is a number on one side alone differs.
        unequal[name] = ~(same | ((first - second).abs() <= limits[name] + others[name]))
    return first_unequal(left.values, right.values, unequal)


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
