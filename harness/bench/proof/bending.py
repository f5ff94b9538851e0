"""Functions that bend or jump: rectifiers, comparisons, the largest of several.

All of them are made of one step p(x), in place of 1 for positive and 0 for negative x, of which the
formulas know that p(−x) = 1 − p(x); a rectifier is x·p(x), and p is also its slope. A mask that is made of
data holds steps in place of truth values. The largest of more than two is an arbitrary function of them
in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.bench.proof.formula import Function, One, any_is_data, second_is_data, table


@dataclass(frozen=True)
class Row:
    """What a largest element was chosen from, or a smallest one."""

    x: Any
    axes: tuple[int, ...]
    smallest: bool = False


@dataclass(frozen=True)
class Winners:
    """Where the largest elements along some axes stand: one in each row."""

    axes: tuple[int, ...]


def _rectified(k: Any, x: Any) -> Any:
    return x * k.positive(x, 0)


def _relu(k: Any, x: Any) -> Any:
    k.keep(x.clone())
    return _rectified(k, x)


def _relu_backward(k: Any, grad: Any, result: Any, threshold: float) -> Any:
    # A rectifier is above a threshold where its argument is, unless the threshold is below zero.
    bent = result if threshold < 0 else _bent(k, result)
    return grad * k.positive(bent - threshold, 0)


def _leaky_relu(k: Any, x: Any, slope: float = 0.01) -> Any:
    if slope >= 0:  # otherwise its sign is not that of its argument
        k.keep(x.clone())
    return _leaking(k, x, slope)


def _leaking(k: Any, x: Any, slope: Any) -> Any:
    bent = _rectified(k, x)
    return bent + (x - bent) * slope


def _leaky_relu_backward(k: Any, grad: Any, x: Any, slope: float, is_result: bool) -> Any:
    passed = grad * k.positive(_bent(k, x), 0)
    return passed + (grad - passed) * slope


def _prelu(k: Any, x: Any, weight: Any) -> Any:
    return _leaking(k, x, weight)


def _prelu_backward(k: Any, grad: Any, x: Any, weight: Any) -> Any:
    passed = grad * k.positive(x, 0)
    return passed + (grad - passed) * weight, (grad - passed) * x


def _bent(k: Any, result: Any) -> Any:
    """Return what a rectifier was applied to, if its result is at hand and not the argument itself."""
    argument = k.recall(result, in_place=True)
    return result if argument is None else argument


def _clamp(k: Any, x: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002  # named as torch does
    bounded = x if min is None else min + _rectified(k, x - min)
    return bounded if max is None else bounded - _rectified(k, x - max)


def _clamp_max(k: Any, x: Any, max: Any) -> Any:  # noqa: A002  # named as torch does
    return _clamp(k, x, None, max)


def _hardtanh(k: Any, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    return _clamp(k, x, low, high)


def _hardtanh_backward(k: Any, grad: Any, x: Any, low: float, high: float) -> Any:
    return grad * (k.positive(x - low, 0) - k.positive(x - high, 1))


def _maximum(k: Any, a: Any, b: Any) -> Any:
    return b + _rectified(k, a - b)


def _minimum(k: Any, a: Any, b: Any) -> Any:
    return a - _rectified(k, a - b)


def _absolute(k: Any, x: Any) -> Any:
    return _rectified(k, x) * 2 - x


def _sign(k: Any, x: Any) -> Any:
    return k.positive(x, 0.5) * 2 - 1


# --- masks that are made of data: numbers in place of truth values --------------------------------


def _greater(k: Any, a: Any, b: Any) -> Any:
    return k.positive(a - b, 0)


def _greater_or_equal(k: Any, a: Any, b: Any) -> Any:
    return k.positive(a - b, 1)


def _less(k: Any, a: Any, b: Any) -> Any:
    return k.positive(b - a, 0)


def _less_or_equal(k: Any, a: Any, b: Any) -> Any:
    return k.positive(b - a, 1)


def _equal(k: Any, a: Any, b: Any) -> Any:
    for largest, x in ((a, b), (b, a)):
        row = k.recall(largest)
        if isinstance(row, Row) and _stands_beside(largest, row) and k.same(x, row.x):
            k.keep(Winners(row.axes))
            return _winners(k, row)
    return k.is_zero(a - b)


def _stands_beside(largest: Any, row: Row) -> bool:
    """Whether a view of the largest elements has each of them beside the row that it is from."""
    tensor = getattr(largest, "value", largest)
    sizes = [1 if axis in row.axes else size for axis, size in enumerate(row.x.shape)]
    # As they came out of the reduction, but for axes of one.
    return bool(list(tensor.shape) == sizes and tensor.is_contiguous())


def _unequal(k: Any, a: Any, b: Any) -> Any:
    return 1 - _equal(k, a, b)


def _where(k: Any, mask: Any, a: Any, b: Any) -> Any:
    return b + mask * (a - b)


def _masked_fill(k: Any, x: Any, mask: Any, value: Any) -> Any:
    return x + mask * (value - x)


def _not(k: Any, mask: Any) -> Any:
    return 1 - mask


def _and(k: Any, a: Any, b: Any) -> Any:
    return a * b


def _or(k: Any, a: Any, b: Any) -> Any:
    return a + b - a * b


# --- the largest of several ------------------------------------------------------------------------


def _largest(k: Any, x: Any, axes: Sequence[int] = (), keepdim: bool = False) -> Any:
    row = Row(x.clone(), _axes_of(x, axes))
    k.keep(row)
    size = _size(row)
    if size == 1:
        return x.sum(row.axes, keepdim=keepdim)
    if size > _PAIR:
        return k.whole("largest", x, row.axes, keepdim=keepdim)
    other = x.flip(row.axes)
    # Both elements of the row get the same number, of which one is taken.
    return (other + _rectified(k, x - other)).amax(row.axes, keepdim=keepdim)


def _smallest(k: Any, x: Any, axes: Sequence[int] = (), keepdim: bool = False) -> Any:
    result = 0 - _largest(k, 0 - x, axes, keepdim)
    k.keep(Row(x.clone(), _axes_of(x, axes), smallest=True))
    return result


def _winners(k: Any, row: Row) -> Any:
    x = 0 - row.x if row.smallest else row.x
    if _size(row) == 1:
        return k.one(x)
    if _size(row) > _PAIR:
        return k.member("is largest", x, row.axes)
    return k.positive(x - x.flip(row.axes), 0.5)


def _count_winners(k: Any, mask: Any, axes: Sequence[int] = (), keepdim: bool = False) -> Any:
    k.keep(One())
    return mask.sum(_axes_of(mask, axes), keepdim=keepdim)


_PAIR = 2


def _size(row: Row) -> int:
    return math.prod(row.x.shape[axis] for axis in row.axes)


def _axes_of(x: Any, axes: Sequence[int]) -> tuple[int, ...]:
    count = len(x.shape)
    return tuple(sorted(axis % count for axis in axes)) if axes else tuple(range(count))


def _are_counted(k: Any, args: Sequence[Any]) -> bool:
    found = k.recall(args[0])
    return isinstance(found, Winners) and found.axes == _axes_of(args[0].terms, [*args, ()][1])


BENDING = table(
    {
        "relu relu_": Function("relu", _relu),
        "threshold_backward": Function("relu", _relu_backward, second_is_data),
        "leaky_relu leaky_relu_": Function("leaky relu", _leaky_relu),
        "leaky_relu_backward": Function("leaky relu", _leaky_relu_backward, second_is_data),
        "_prelu_kernel": Function("prelu", _prelu),
        "_prelu_kernel_backward": Function("prelu", _prelu_backward, second_is_data),
        "clamp clamp_ clamp_min clamp_min_": Function("clamp", _clamp, any_is_data),
        "clamp_max clamp_max_": Function("clamp", _clamp_max, any_is_data),
        "hardtanh hardtanh_": Function("hardtanh", _hardtanh),
        "hardtanh_backward": Function("hardtanh", _hardtanh_backward, second_is_data),
        "maximum": Function("maximum", _maximum, any_is_data),
        "minimum": Function("minimum", _minimum, any_is_data),
        "abs abs_": Function("abs", _absolute),
        "sgn sign sgn_ sign_": Function("sign", _sign, jumps=True),
        "gt": Function("comparison", _greater, any_is_data, jumps=True),
        "ge": Function("comparison", _greater_or_equal, any_is_data, jumps=True),
        "lt": Function("comparison", _less, any_is_data, jumps=True),
        "le": Function("comparison", _less_or_equal, any_is_data, jumps=True),
        "eq": Function("comparison", _equal, any_is_data, jumps=True),
        "ne": Function("comparison", _unequal, any_is_data, jumps=True),
        "where": Function("mask", _where),
        "masked_fill masked_fill_": Function("mask", _masked_fill, second_is_data, in_rows=True),
        "logical_not logical_not_ bitwise_not": Function("mask", _not),
        "logical_and logical_and_ bitwise_and bitwise_and_": Function("mask", _and, any_is_data),
        "logical_or logical_or_ bitwise_or bitwise_or_": Function("mask", _or, any_is_data),
        "amax": Function("largest", _largest),
        "amin": Function("largest", _smallest),
        "sum": Function("largest", _count_winners, _are_counted),
    }
)
