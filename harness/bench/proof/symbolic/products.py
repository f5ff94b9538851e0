"""Products of matrices and of windows, attention, and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.symbolic.largest import largest
from harness.bench.proof.symbolic.operation import Call, Marked, Marks, tensor_of
from harness.bench.proof.symbolic.polynomials import NoFormError, Rational
from harness.bench.proof.symbolic.rows import softmax_of_rows
from harness.bench.proof.symbolic.symbols import LEAST, UNDECIDED, ZERO

# A coefficient of a pool is one by a number of elements; that its float is the one found is checked.
_MOST_POOLED = 4096


def matrix_product(call: Call) -> Marks:
    """``mm``, ``bmm``, ``mv``, ``dot`` and their forms with an addend."""
    *addends, first, second = [arg.marks for arg in call.args if isinstance(arg, Marked)]
    product = call.contracted(first, second) if second.ndim == 1 else _multiplied(call, first, second)
    for addend in addends:
        product = call.sum(addend, product, (call.named["beta"], call.named["alpha"]))
    return product


def _multiplied(call: Call, first: Tensor, second: Tensor) -> Tensor:
    """Multiply matrices [..., n, k] and [..., k, m]."""
    return call.contracted(first[..., :, None, :], second.mT[..., None, :, :])


def attention(call: Call) -> Marks:
    """Follow scaled dot-product attention by torch's kernel; its logarithms may not be read."""
    named = call.named
    if named["dropout_p"]:
        raise NoFormError("draws random numbers")
    query, key, value = (named[name].marks for name in ("query", "key", "value"))
    factor = call.symbols.number(_attention_scale(named["scale"], query.shape[-1]))
    logits = call.product(_multiplied(call, query, key.mT), torch.tensor(float(factor)))
    if named["is_causal"]:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
        logits = torch.where(allowed, logits, float(LEAST))
    if named["attn_mask"] is not None:
        logits = call.sum(logits, named["attn_mask"])
    mixed = _multiplied(call, softmax_of_rows(call, logits), value)
    return mixed, torch.full(logits.shape[:-1], float(UNDECIDED))


def _attention_scale(given: float | None, width: int) -> Rational | float:
    root = math.isqrt(width)
    if given is None and root**2 == width:
        return Fraction(1, root)
    return 1 / math.sqrt(width) if given is None else given


# --- convolution ------------------------------------------------------------------------------


def convolution(call: Call) -> Marks:
    """Follow a convolution of any dimension; a transposed one is that of the map with zeros between."""
    named = call.named
    source, weight, groups = named["input"].marks, named["weight"].marks, named["groups"]
    stride, dilation, padding = named["stride"], named["dilation"], named["padding"]
    if named["transposed"]:
        source, margins = _spread(source, weight, stride, dilation, padding, named["output_padding"])
        weight, stride = _turned(weight, groups), [1] * len(stride)
    else:
        margins = [[size, size] for size in padding]
    windows = _windows(source, weight.shape[2:], stride, dilation, margins)
    batch, channels, *space = windows.shape[: 2 + len(stride)]
    windows = windows.reshape(batch, groups, 1, channels // groups, math.prod(space), -1)
    columns = windows.transpose(3, 4).flatten(4)  # [B, G, 1, places, taps of all channels of a group]
    rows = weight.reshape(1, groups, weight.shape[0] // groups, 1, -1)
    result = call.contracted(columns, rows).reshape(batch, weight.shape[0], *space)
    if named["bias"] is None:
        return result
    return call.sum(result, named["bias"].marks.reshape(1, -1, *[1] * len(space)))


def _windows(
    source: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    margins: Sequence[Sequence[int]],
) -> Tensor:
    """Return [B, C, *places, *kernel] of a map [B, C, *sizes], zero outside; margins are before and after."""
    windows = F.pad(source, [side for pair in reversed(margins) for side in pair], value=ZERO)
    for axis, (size, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        windows = windows.unfold(axis, (size - 1) * apart + 1, step)[..., ::apart]
    return windows


def _spread(
    source: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
) -> tuple[Tensor, list[list[int]]]:
    """Put the zeros of a transposed convolution between the elements, and say how far to pad."""
    sizes = [(size - 1) * step + 1 for size, step in zip(source.shape[2:], stride, strict=True)]
    wide = torch.full((*source.shape[:2], *sizes), float(ZERO), dtype=torch.float64)
    places: tuple[Any, ...] = tuple(slice(None, None, step) for step in stride)
    wide[(..., *places)] = source
    reach = [(size - 1) * apart for size, apart in zip(weight.shape[2:], dilation, strict=True)]
    before = [size - cut for size, cut in zip(reach, padding, strict=True)]
    return wide, [[size, size + extra] for size, extra in zip(before, output_padding, strict=True)]


def _turned(weight: Tensor, groups: int) -> Tensor:
    """Exchange input and output channels within groups, and flip every axis of the kernel."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return grouped.flip(tuple(range(2, weight.ndim)))


# --- pools ------------------------------------------------------------------------------------


def linear(call: Call) -> Marks:
    """Follow a linear operation with constant coefficients by its results on one-hot inputs."""
    source = _pooled(call)
    columns = [_on_one_hot(call, place, 1.0, 0.0) for place in range(source.numel())]
    values = source.flatten().long().tolist()
    found = []
    for row in torch.stack([column.flatten() for column in columns], 1):
        terms = [(_coefficient(float(row[n])), values[n]) for n in row.nonzero().flatten().tolist()]
        found.append(call.symbols.combination(terms))
    return tensor_of(found, columns[0].shape)


def max_pool(call: Call) -> Marks:
    """Take the largest of every window: the elements of a window are those that show in its result."""
    source = _pooled(call)
    shown = [_on_one_hot(call, place, 0.0, -math.inf)[0] for place in range(source.numel())]
    values = source.flatten()
    windows = torch.stack([result.flatten() for result in shown], 1).isfinite()
    found = [largest(call.symbols, values[window].long().tolist()) for window in windows]
    result = tensor_of(found, shown[0].shape)
    return result, torch.full_like(result, UNDECIDED)


def _pooled(call: Call) -> Tensor:
    """Return the marks of what is pooled, after counting the work that this takes."""
    source: Tensor = call.named["self"].marks
    call.symbols.ring.spend(source.numel() ** 2)
    return source


def _on_one_hot(call: Call, place: int, there: float, elsewhere: float) -> Tensor:
    """Run an operation of one tensor on another that is the same everywhere but at one place."""
    one_hot = torch.full_like(call.named["self"].marks, elsewhere).flatten()
    one_hot[place] = there
    result: Tensor = call.run(lambda marked: one_hot.view(marked.value.shape))
    return result


def _coefficient(value: float) -> Rational:
    fraction = Fraction(value).limit_denominator(_MOST_POOLED)
    return fraction if float(fraction) == value else Fraction(value)
