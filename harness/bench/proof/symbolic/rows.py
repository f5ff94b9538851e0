"""Operations on rows of elements: sums, means, extremes, softmax and normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial, reduce

import torch
from torch import Tensor

from harness.bench.proof.symbolic.operation import Call, Marked, Marks, rows_of, tensor_of
from harness.bench.proof.symbolic.polynomials import NoFormError
from harness.bench.proof.symbolic.symbols import LEAST, ONE, UNDECIDED, ZERO, Symbols


def total(call: Call) -> Marks:
    """Sum."""
    return _reduced(call, lambda row: call.symbols.combination([(1, value) for value in row]))


def mean(call: Call) -> Marks:
    """Sum, divided by the number of terms."""
    return _reduced(call, partial(_mean, call.symbols))


def product_of_row(call: Call) -> Marks:
    """Multiply."""
    return _reduced(call, lambda row: reduce(call.symbols.product, row, ONE))


def extreme(call: Call, choose: Callable[[Symbols, Sequence[int]], int]) -> Marks:
    """``amax``, ``max`` and the like: where a place is returned too, it may not be read."""
    if isinstance(call.named.get("other"), Marked):
        return call.map(lambda a, b: choose(call.symbols, (a, b)), call.named["self"], call.named["other"])
    found = _reduced(call, partial(choose, call.symbols))
    if isinstance(call.named.get("dim"), int):
        return found, torch.full_like(found, UNDECIDED)
    return found


def _reduced(call: Call, function: Callable[[list[int]], int]) -> Tensor:
    """Apply a function to the elements along the axes ``dim``, or to all."""
    marks: Tensor = call.named["self"].marks
    given = call.named.get("dim")
    several = [given] if isinstance(given, int) else given or range(marks.ndim)
    axes = sorted(axis % marks.ndim for axis in several) if marks.ndim else []
    kept = [axis for axis in range(marks.ndim) if axis not in axes]
    length = math.prod(marks.shape[axis] for axis in axes)
    rows = marks.permute(*kept, *axes).reshape(*(marks.shape[axis] for axis in kept), length)
    shape = [
        1 if axis in axes else size
        for axis, size in enumerate(marks.shape)
        if call.named.get("keepdim") or axis not in axes
    ]
    return tensor_of([function(row) for row in rows_of(rows)], shape)


def softmax(call: Call) -> Marks:
    """Return eˣ/Σeˣ along an axis; the safe one gives zeros where no element is finite."""
    axis = call.named["dim"]
    rows = call.named["self"].marks.movedim(axis, -1)
    return softmax_of_rows(call, rows, is_safe="_safe" in str(call.op)).movedim(-1, axis)


def softmax_of_rows(call: Call, marks: Tensor, *, is_safe: bool = False) -> Tensor:
    """Return eˣ/Σeˣ along the last axis of marks."""
    found: list[int] = []
    for row in rows_of(marks):
        nothing = is_safe and set(row) == {LEAST}
        found += [ZERO] * len(row) if nothing else _softmax_of_row(call.symbols, row)
    return tensor_of(found, marks.shape)


def _softmax_of_row(symbols: Symbols, row: list[int]) -> list[int]:
    powers = [symbols.exponential(value) for value in row]
    inverse = symbols.reciprocal(symbols.combination([(1, power) for power in powers]))
    return [symbols.product(power, inverse) for power in powers]


# --- normalisation ----------------------------------------------------------------------------


def layer_norm(call: Call) -> Marks:
    """Normalise over the last axes; means and reciprocal deviations are returned as well."""
    marks: Tensor = call.named["input"].marks
    axes = len(call.named["normalized_shape"])
    kept = marks.shape[: marks.ndim - axes]
    normal, *statistics = _normalised(call, marks.reshape(*kept, -1))
    result = _scaled(call, normal.reshape(marks.shape), marks.shape[marks.ndim - axes :])
    return result, *(each.reshape(*kept, *[1] * axes) for each in statistics)


def group_norm(call: Call) -> Marks:
    """Normalise over the channels of a group and all places."""
    marks: Tensor = call.named["input"].marks
    normal, *statistics = _normalised(call, marks.reshape(call.named["N"], call.named["group"], -1))
    return _scaled(call, normal.reshape(marks.shape), _across(marks)), *statistics


def batch_norm(call: Call) -> Marks:
    """Normalise every channel by the statistics of the batch, or by stored ones."""
    marks: Tensor = call.named["input"].marks
    stored = call.named["running_mean"], call.named["running_var"]
    if not call.named["training"]:
        average, variance = (each.marks.reshape(_across(marks)) for each in stored)
        normal = call.map(partial(_deviation, call), marks, average, variance)
        return _scaled(call, normal, _across(marks)), *[torch.empty(0, dtype=torch.float64)] * 2
    if stored != (None, None):
        raise NoFormError("edits running statistics")
    channels = marks.transpose(0, 1)
    normal, *statistics = _normalised(call, channels.flatten(1))
    normal = normal.reshape(channels.shape).transpose(0, 1)
    return _scaled(call, normal, _across(marks)), *statistics


def _across(marks: Tensor) -> list[int]:
    """Return the shape of a number per channel."""
    return [1, -1, *[1] * (marks.ndim - 2)]


def _normalised(call: Call, marks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows less their means, over their deviations; their means; the reciprocals of the deviations."""
    rows = rows_of(marks)
    shape = (*marks.shape[:-1], 1)
    averages = tensor_of([_mean(call.symbols, row) for row in rows], shape)
    variances = tensor_of([_variance(call.symbols, row) for row in rows], shape)
    normal = call.map(partial(_deviation, call), marks, averages, variances)
    reciprocals = call.map(partial(_reciprocal_deviation, call), variances)
    return normal, averages.squeeze(-1), reciprocals.squeeze(-1)


def _mean(symbols: Symbols, row: list[int]) -> int:
    return symbols.combination([(Fraction(1, len(row)), value) for value in row])


def _variance(symbols: Symbols, row: list[int]) -> int:
    average = _mean(symbols, row)
    apart = [symbols.combination([(1, value), (-1, average)]) for value in row]
    return _mean(symbols, [symbols.product(value, value) for value in apart])


def _deviation(call: Call, value: int, average: int, variance: int) -> int:
    apart = call.symbols.combination([(1, value), (-1, average)])
    return call.symbols.product(apart, _reciprocal_deviation(call, variance))


def _reciprocal_deviation(call: Call, variance: int) -> int:
    symbols = call.symbols
    raised = symbols.combination([(1, variance), (1, symbols.number(call.named["eps"]))])
    return symbols.reciprocal(symbols.root(raised))


def _scaled(call: Call, marks: Tensor, shape: Sequence[int]) -> Tensor:
    """Apply ``weight`` and ``bias`` where they are given, both reshaped first."""
    weight, bias = call.named["weight"], call.named["bias"]
    if weight is not None:
        marks = call.product(marks, weight.marks.reshape(tuple(shape)))
    if bias is not None:
        marks = call.sum(marks, bias.marks.reshape(tuple(shape)))
    return marks
