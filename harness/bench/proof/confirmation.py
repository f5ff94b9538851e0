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
    left: Side, right: Side, shapes: Shapes, seed: int, *, vjp: bool
) -> Difference | None:
    """Return a place where two named programs differ on real numbers by more than both may round."""
    for draw, scale in enumerate(_SCALES):
        computed = []
        for name, program in (left, right):
            with telling(name):
                positive = draw == len(_SCALES) - 1
                point = _draw(program, shapes, scale, seed + draw, vjp=vjp, positive=positive)
                computed.append(_compute(program, point))
        difference = _compare(*computed)
        if difference is not None:
            return difference
    return None


@dataclass(frozen=True)
class _Computed:
    """Results and how far rounding may have led each of them away."""

    values: Tensors
    limits: Tensors


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


def _compute(program: Program, point: Point) -> _Computed:
    values = {name: value.detach().clone() for name, value in point.evaluate(program).items()}
    try:
        limits = _bounded(program, point)
    except RefusedError:
        limits = None
    return _Computed(values, limits or {name: _unbounded(value, point) for name, value in values.items()})


def _bounded(program: Program, point: Point) -> Tensors | None:
    """Return the rounding bound of every result, or None where it is void."""
    shadow = Shadow(RULES, unit=_UNIT, exact=False)
    for name, tensor in point.tensors.items():
        shadow.track(name, tensor, tensor.detach().abs())
    seen = {name: shadow.see(result.detach()) for name, result in point.evaluate(program, shadow).items()}
    shares = {name: gamma(found.roundings, _UNIT) for name, found in seen.items()}
    if any(share > _INFORMATIVE for share in shares.values()):
        return None
    limits = {name: shares[name] * found.terms for name, found in seen.items()}
    return limits if all(bool(limit.isfinite().all()) for limit in limits.values()) else None


def _unbounded(value: Tensor, point: Point) -> Tensor:
    tensors = [tensor.detach() for tensor in (value, *point.tensors.values())]
    largest = max(float(tensor.abs().nan_to_num().max()) for tensor in tensors)
    return torch.full_like(value, _UNBOUNDED * largest)


def _compare(left: _Computed, right: _Computed) -> Difference | None:
    unequal = {}
    difference = different_shape(left.values, right.values)
    if difference is not None:
        return difference
    for name, first in left.values.items():
        second = right.values[name]
        same = (first == second) | (first.isnan() & second.isnan())
        # Written so that what is a number on one side alone differs.
        unequal[name] = ~(same | ((first - second).abs() <= left.limits[name] + right.limits[name]))
    return first_unequal(left.values, right.values, unequal)
