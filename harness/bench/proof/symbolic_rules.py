"""What each aten operation does to symbolic values.

Operations that only move elements run on the numbers of the values. Linear ones with constant coefficients,
such as pools, are read off their results on one-hot inputs; the others are written out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from harness.bench.proof.polynomials import NoFormError, Rational
from harness.bench.proof.symbols import LEAST, ONE, UNDECIDED, UNWRITTEN, ZERO, Symbols

# A coefficient of a pool is one by a number of elements; its float is that of the fraction, as is checked.
_MOST_POOLED = 4096
# A power is multiplied out.
_HIGHEST = 32


@dataclass(frozen=True)
class Marked:
    """A tensor argument and the numbers of its values, as float64."""

    value: Tensor
    marks: Tensor


@dataclass(frozen=True)
class Call:
    """One operation under way: its arguments with every tensor replaced by a :class:`Marked`.

    named: the arguments by their names in the schema, defaults included.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: Mapping[str, Any]
    symbols: Symbols

    @classmethod
    def of(cls, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], symbols: Symbols) -> Call:
        """Name the arguments of an operation."""
        arguments = op._schema.arguments
        named = {argument.name: argument.default_value for argument in arguments}
        named |= dict(zip((argument.name for argument in arguments), args, strict=False))
        return cls(op, args, kwargs, {**named, **kwargs}, symbols)

    @property
    def marked(self) -> list[Marked]:
        """The tensor arguments in order."""
        return [leaf for leaf in tree_flatten((self.args, dict(self.kwargs)))[0] if isinstance(leaf, Marked)]

    def marks(self, operand: Any) -> Tensor:
        """Return the marks of a tensor or of a number."""
        if isinstance(operand, Marked):
            return operand.marks
        return torch.tensor(float(self.symbols.number(operand)), dtype=torch.float64)

    def indices(self, marked: Marked) -> Tensor:
        """Return the values of indices or of a mask, which must not depend on data."""
        for mark in (UNDECIDED, UNWRITTEN):
            if bool((marked.marks == mark).any()):
                self.symbols.polynomial(mark)  # raises
        return marked.value

    def run(self, replaced: Callable[[Marked], Tensor]) -> Any:
        """Run the operation with other tensors in place of its arguments."""
        kwargs = {name: value for name, value in self.kwargs.items() if name not in _OF_THE_RESULT}
        args, named = tree_map(
            lambda leaf: replaced(leaf) if isinstance(leaf, Marked) else leaf, (self.args, kwargs)
        )
        return self.op(*args, **named)

    def map(self, function: Callable[..., int], *operands: Any) -> Tensor:
        """Apply a function of values to every element of the operands, which are broadcast."""
        several = torch.broadcast_tensors(*map(self.marks, operands))
        known: dict[tuple[float, ...], int] = {}
        for key in zip(*(marks.reshape(-1).tolist() for marks in several), strict=True):
            if key not in known:
                known[key] = function(*map(int, key))
        rows = zip(*(marks.reshape(-1).tolist() for marks in several), strict=True)
        return _tensor([known[key] for key in rows], several[0].shape)


# The marks are float64 whatever dtype, layout or device the program asks for.
_OF_THE_RESULT = frozenset({"dtype", "layout", "device", "pin_memory", "out"})
Marks = Tensor | Sequence[Tensor]
Rule = Callable[[Call], Marks]


# --- structure: elements move, none is changed ------------------------------------------------


def _moved(call: Call) -> Marks:
    """Run the operation on the marks, an edited one on a copy."""
    found: Marks = call.run(lambda marked: marked.marks.clone())
    return found


def _picked(call: Call) -> Marks:
    """Run an operation whose tensors of integers or bools are indices."""
    found: Marks = call.run(
        lambda marked: marked.marks.clone() if marked.value.is_floating_point() else call.indices(marked)
    )
    return found


def _placed(call: Call) -> Marks:
    """``index_put``, ``scatter``: place values, or add them up where they meet."""
    reduces = call.named.get("accumulate") or call.named.get("reduce")
    if reduces:
        raise NoFormError("places several values that are reduced")
    if "value" in call.named and not isinstance(call.named["value"], Marked):
        return torch.scatter(
            call.named["self"].marks,
            call.named["dim"],
            call.indices(call.named["index"]),
            float(call.symbols.number(call.named["value"])),
        )
    return _picked(call)


def _padded(call: Call) -> Marks:
    value = call.symbols.number(call.named["value"])
    return F.pad(call.named["self"].marks, call.named["pad"], value=value)


def _filled(call: Call) -> Marks:
    """``masked_fill`` and ``fill_``."""
    source, value = call.named["self"].marks, call.marks(call.named["value"])
    if "mask" not in call.named:
        return value.expand_as(source)
    return torch.where(call.indices(call.named["mask"]), value, source)


def _zeroed(call: Call) -> Marks:
    return torch.full_like(call.named["self"].marks, ZERO)


def _copied(call: Call) -> Marks:
    target: Tensor = call.named["self"].marks
    return call.marks(call.named["src"]).expand_as(target)


def _chosen(call: Call) -> Marks:
    mask = call.indices(call.named["condition"])
    return torch.where(mask, call.marks(call.named["self"]), call.marks(call.named["other"]))


# --- elements ---------------------------------------------------------------------------------


def _added(call: Call, sign: int = 1) -> Marks:
    factor = sign * Fraction(call.named["alpha"])
    return call.map(
        lambda a, b: call.symbols.combination([(1, a), (factor, b)]),
        call.named["self"],
        call.named["other"],
    )


def _subtracted_from(call: Call) -> Marks:
    factor = Fraction(call.named["alpha"])
    return call.map(
        lambda a, b: call.symbols.combination([(1, b), (-factor, a)]),
        call.named["self"],
        call.named["other"],
    )


def _multiplied(call: Call) -> Marks:
    return call.map(call.symbols.product, call.named["self"], call.named["other"])


def _divided(call: Call) -> Marks:
    if call.named.get("rounding_mode") is not None:
        raise NoFormError("rounds to integers")
    return call.map(partial(_quotient, call.symbols), call.named["self"], call.named["other"])


def _quotient(symbols: Symbols, top: int, bottom: int) -> int:
    return symbols.product(top, symbols.reciprocal(bottom))


def _fused(call: Call, combine: Callable[[Symbols, int, int], int]) -> Marks:
    """``addcmul`` and ``addcdiv``: self + value · (a combined with b)."""
    symbols, factor = call.symbols, Fraction(call.named["value"])
    return call.map(
        lambda base, a, b: symbols.combination([(1, base), (factor, combine(symbols, a, b))]),
        *(call.named[name] for name in ("self", "tensor1", "tensor2")),
    )


def _powered(call: Call) -> Marks:
    return call.map(partial(_power, call.symbols), call.named["self"], call.named["exponent"])


def _power(symbols: Symbols, base: int, exponent: int) -> int:
    power = symbols.constant(exponent)
    if power is None:
        raise NoFormError("has the data in its exponent")
    halves = power * 2
    if halves.denominator != 1 or not -_HIGHEST <= power <= _HIGHEST:
        raise NoFormError(f"has the exponent {float(power)}")
    if power.denominator == 1:
        return symbols.power(base, int(power))
    return symbols.power(symbols.root(base), int(halves))


def _of_one(function: Callable[[Symbols, int], int]) -> Rule:
    """Return the rule of a function of single elements."""

    def rule(call: Call) -> Marks:
        return call.map(partial(function, call.symbols), call.named["self"])

    return rule


def _of_two(function: Callable[[Symbols, int, int], int]) -> Rule:
    def rule(call: Call) -> Marks:
        return call.map(partial(function, call.symbols), call.named["self"], call.named["other"])

    return rule


def _relu(symbols: Symbols, value: int) -> int:
    return symbols.largest((value, ZERO))


def _leaky(symbols: Symbols, value: int, slope: int) -> int:
    """Return slope·x + (1 − slope)·relu(x), which holds for every slope."""
    rest = symbols.combination([(1, ONE), (-1, slope)])
    return symbols.sum_of_products([(slope, value), (rest, _relu(symbols, value))])


def _leaky_relu(call: Call) -> Marks:
    return call.map(partial(_leaky, call.symbols), call.named["self"], call.named["negative_slope"])


def _prelu(call: Call) -> Marks:
    return call.map(partial(_leaky, call.symbols), call.named["self"], call.named["weight"])


def _absolute(symbols: Symbols, value: int) -> int:
    return symbols.largest((value, symbols.negative(value)))


def _least(symbols: Symbols, values: Sequence[int]) -> int:
    return symbols.negative(symbols.largest([symbols.negative(value) for value in values]))


def _largest(symbols: Symbols, values: Sequence[int]) -> int:
    return symbols.largest(values)


def _clamped(call: Call) -> Marks:
    """``clamp`` and ``hardtanh``: the lower limit first, so that the upper one wins."""
    named, symbols = call.named, call.symbols
    low, high = (named.get(name, named.get(f"{name}_val")) for name in ("min", "max"))
    marks = call.marks(named["self"])
    if low is not None:
        marks = call.map(lambda a, b: symbols.largest((a, b)), _as_marked(marks), low)
    if high is not None:
        marks = call.map(lambda a, b: _least(symbols, (a, b)), _as_marked(marks), high)
    return marks


def _as_marked(marks: Tensor) -> Marked:
    return Marked(marks, marks)


def _hard_sigmoid(symbols: Symbols, value: int) -> int:
    moved = symbols.combination([(1, value), (3, ONE)])
    clamped = _least(symbols, (_relu(symbols, moved), symbols.number(6)))
    return symbols.combination([(Fraction(1, 6), clamped)])


def _gelu(call: Call) -> Marks:
    if call.named["approximate"] != "none":
        raise NoFormError(f"is approximated by {call.named['approximate']}")
    symbols = call.symbols
    return call.map(lambda x: symbols.product(x, symbols.normal_distribution(x)), call.named["self"])


# --- sums, products of matrices, rows ----------------------------------------------------------


def _matrix_product(call: Call) -> Marks:
    """``mm``, ``bmm``, ``mv``, ``dot`` and their forms with an addend."""
    *addends, first, second = [arg.marks for arg in call.args if isinstance(arg, Marked)]
    if second.ndim == 1:
        product = _contracted(call, first, second)
    else:
        product = _contracted(call, first[..., :, None, :], second.mT[..., None, :, :])
    for addend in addends:
        beta, alpha = (Fraction(call.named[name]) for name in ("beta", "alpha"))
        product = call.map(
            lambda a, b, beta=beta, alpha=alpha: call.symbols.combination([(beta, a), (alpha, b)]),
            _as_marked(addend),
            _as_marked(product),
        )
    return product


def _contracted(call: Call, first: Tensor, second: Tensor) -> Tensor:
    """Return Σₙ first[…, n]·second[…, n], both broadcast."""
    first, second = torch.broadcast_tensors(first, second)
    length = first.shape[-1]
    rows = zip(_rows(first, length), _rows(second, length), strict=True)
    products = [call.symbols.sum_of_products(zip(*pair, strict=True)) for pair in rows]
    return _tensor(products, first.shape[:-1])


def _convolved(call: Call) -> Marks:
    """Follow a convolution of any dimension; a transposed one is that of the map with zeros between."""
    named = call.named
    source, weight, groups = named["input"].marks, named["weight"].marks, named["groups"]
    stride, dilation, padding = named["stride"], named["dilation"], named["padding"]
    if named["transposed"]:
        source, padding = _spread(source, weight, stride, dilation, padding, named["output_padding"])
        weight, stride = _turned(weight, groups), [1] * len(stride)
    else:
        padding = [[size, size] for size in padding]
    windows = _windows(source, weight.shape[2:], stride, dilation, padding)  # [B, C, *out, *kernel]
    batch, channels, *rest = windows.shape
    space = rest[: len(stride)]
    windows = windows.reshape(batch, groups, 1, channels // groups, math.prod(space), -1)
    columns = windows.transpose(3, 4).flatten(4)  # [B, G, 1, places, taps of a group]
    rows = weight.reshape(1, groups, weight.shape[0] // groups, 1, -1)
    result = _contracted(call, columns, rows).reshape(batch, weight.shape[0], *space)
    if named["bias"] is None:
        return result
    bias = named["bias"].marks.reshape(1, -1, *[1] * len(space))
    return call.map(
        lambda a, b: call.symbols.combination([(1, a), (1, b)]), _as_marked(result), _as_marked(bias)
    )


def _windows(
    source: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[Sequence[int]],
) -> Tensor:
    """Return [B, C, *places, *kernel] of a map [B, C, *sizes], zero outside; padding is before and after."""
    sides = [side for pair in reversed(padding) for side in pair]
    windows = F.pad(source, sides, value=ZERO)
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
    wide = torch.full((*source.shape[:2], *sizes), ZERO, dtype=torch.float64)
    places: tuple[Any, ...] = tuple(slice(None, None, step) for step in stride)
    wide[(..., *places)] = source
    reach = [(size - 1) * apart for size, apart in zip(weight.shape[2:], dilation, strict=True)]
    before = [size - cut for size, cut in zip(reach, padding, strict=True)]
    return wide, [[size, size + extra] for size, extra in zip(before, output_padding, strict=True)]


def _turned(weight: Tensor, groups: int) -> Tensor:
    """Exchange input and output channels within groups, and flip every axis of the kernel."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
    return grouped.flip(tuple(range(2, weight.ndim)))


def _summed(call: Call) -> Marks:
    return _reduced(call, lambda row: call.symbols.combination([(1, value) for value in row]))


def _averaged(call: Call) -> Marks:
    def mean(row: list[int]) -> int:
        return call.symbols.combination([(Fraction(1, len(row)), value) for value in row])

    return _reduced(call, mean)


def _extreme(call: Call, choose: Callable[[Symbols, Sequence[int]], int]) -> Marks:
    """``amax``, ``max`` and the like: where a place is returned too, it may not be read."""
    if isinstance(call.named.get("other"), Marked):
        return call.map(lambda a, b: choose(call.symbols, (a, b)), call.named["self"], call.named["other"])
    found = _reduced(call, partial(choose, call.symbols))
    if isinstance(call.named.get("dim"), int):
        return found, torch.full_like(found, UNDECIDED)
    return found


def _product_of_row(call: Call) -> Marks:
    def product(row: list[int]) -> int:
        result = ONE
        for value in row:
            result = call.symbols.product(result, value)
        return result

    return _reduced(call, product)


def _reduced(call: Call, function: Callable[[list[int]], int]) -> Tensor:
    """Apply a function to the elements along the axes ``dim``, or to all."""
    marks: Tensor = call.named["self"].marks
    given = call.named.get("dim")
    several = [given] if isinstance(given, int) else given or range(marks.ndim)
    axes = sorted(axis % marks.ndim for axis in several) if marks.ndim else []
    kept = [axis for axis in range(marks.ndim) if axis not in axes]
    length = math.prod(marks.shape[axis] for axis in axes)
    rows = _rows(marks.permute(*kept, *axes), length)
    keeps = call.named.get("keepdim", False)
    shape = [
        1 if axis in axes else size for axis, size in enumerate(marks.shape) if keeps or axis not in axes
    ]
    return _tensor([function(row) for row in rows], shape)


def _softmax(call: Call) -> Marks:
    marks: Tensor = call.named["self"].marks.movedim(call.named["dim"], -1)
    safe = "_safe" in str(call.op)
    return _softmax_of_rows(call, marks, safe=safe).movedim(-1, call.named["dim"])


def _softmax_of_rows(call: Call, marks: Tensor, *, safe: bool = False) -> Tensor:
    """Return eˣ/Σeˣ along the last axis; safe: a row without a finite element gives zeros."""
    symbols = call.symbols
    found: list[int] = []
    for row in _rows(marks, marks.shape[-1]):
        if safe and set(row) == {LEAST}:
            found += [ZERO] * len(row)
        else:
            powers = [symbols.exponential(value) for value in row]
            inverse = symbols.reciprocal(symbols.combination([(1, power) for power in powers]))
            found += [symbols.product(power, inverse) for power in powers]
    return _tensor(found, marks.shape)


def _attended(call: Call) -> Marks:
    """``scaled_dot_product_attention`` by torch's kernel for the CPU; its logarithms may not be read."""
    named, symbols = call.named, call.symbols
    if named["dropout_p"]:
        raise NoFormError("draws random numbers")
    query, key, value = (named[name].marks for name in ("query", "key", "value"))
    products = _contracted(call, query[..., :, None, :], key[..., None, :, :])
    factor = _attention_scale(named["scale"], query.shape[-1])
    logits = call.map(lambda a: symbols.combination([(factor, a)]), _as_marked(products))
    if named["is_causal"]:
        allowed = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
        logits = torch.where(allowed, logits, float(LEAST))
    if named["attn_mask"] is not None:
        logits = call.map(
            lambda a, b: symbols.combination([(1, a), (1, b)]), _as_marked(logits), named["attn_mask"]
        )
    weights = _softmax_of_rows(call, logits)
    mixed = _contracted(call, weights[..., :, None, :], value.mT[..., None, :, :])
    return mixed, torch.full(logits.shape[:-1], UNDECIDED, dtype=torch.float64)


def _attention_scale(given: float | None, width: int) -> Rational:
    root = math.isqrt(width)
    if given is None and root**2 == width:
        return Fraction(1, root)
    return Fraction(1 / math.sqrt(width) if given is None else given)


def _linear(call: Call) -> Marks:
    """Follow a linear operation with constant coefficients by its results on one-hot inputs."""
    source: Tensor = call.named["self"].marks
    columns = [_on_one_hot(call, place) for place in range(source.numel())]
    matrix = torch.stack([column.flatten() for column in columns], 1)
    values = [int(mark) for mark in source.flatten().tolist()]
    found = []
    for row in matrix:
        terms = [(_coefficient(float(row[n])), values[n]) for n in row.nonzero().flatten().tolist()]
        found.append(call.symbols.combination(terms))
    return _tensor(found, columns[0].shape)


def _on_one_hot(call: Call, place: int) -> Tensor:
    one_hot = torch.zeros_like(call.named["self"].marks).flatten()
    one_hot[place] = 1.0
    result: Tensor = call.run(lambda marked: one_hot.view(marked.value.shape))
    return result


def _coefficient(value: float) -> Rational:
    fraction = Fraction(value).limit_denominator(_MOST_POOLED)
    return fraction if float(fraction) == value else Fraction(value)


def _max_pooled(call: Call) -> Marks:
    """Take the largest of every window: the window's elements are those that show in its result."""
    source: Tensor = call.named["self"].marks
    shown = []
    for place in range(source.numel()):
        lone = torch.full_like(source, -math.inf).flatten()
        lone[place] = 0.0
        shown.append(call.run(lambda marked, lone=lone: lone.view(marked.value.shape))[0])  # type: ignore[misc]
    inside = torch.stack([one.flatten() for one in shown], 1).isfinite()
    values = source.flatten()
    found = [call.symbols.largest([int(mark) for mark in values[row].tolist()]) for row in inside]
    result = _tensor(found, shown[0].shape)
    return result, torch.full_like(result, UNDECIDED)


def _rows(marks: Tensor, length: int) -> list[list[int]]:
    rows: list[list[int]] = marks.reshape(-1, length).long().tolist() if marks.numel() else []
    return rows


def _tensor(numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64).reshape(tuple(shape))


def _table(rules: Mapping[Rule, str]) -> dict[str, Rule]:
    return {f"aten.{name}": rule for rule, names in rules.items() for name in names.split()}


# Operations that edit a tensor are looked up without their final underscore, unless they have none.
RULES: Mapping[str, Rule] = _table(
    {
        _moved: """
            view _unsafe_view expand permute transpose t squeeze unsqueeze slice select clone
            cat stack as_strided unfold diagonal diag_embed flip roll repeat unbind split
            split_with_sizes detach alias slice_backward select_backward slice_scatter select_scatter
            diagonal_scatter im2col lift_fresh _to_copy tril triu
            reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
            unsafe_split pixel_shuffle pixel_unshuffle channel_shuffle diagonal_backward
            rot90 movedim unsafe_chunk
        """,
        _picked: "index index_select gather take embedding",
        _placed: "index_put _index_put_impl scatter index_copy masked_scatter",
        _copied: "copy",
        _zeroed: "zero",
        _padded: "constant_pad_nd",
        _filled: "masked_fill fill",
        _chosen: "where",
        _added: "add",
        partial(_added, sign=-1): "sub",
        _subtracted_from: "rsub",
        _multiplied: "mul",
        _divided: "div",
        _powered: "pow",
        partial(_fused, combine=Symbols.product): "addcmul",
        partial(_fused, combine=_quotient): "addcdiv",
        _of_one(Symbols.negative): "neg",
        _of_one(Symbols.exponential): "exp",
        _of_one(Symbols.sigmoid): "sigmoid",
        _of_one(Symbols.tanh): "tanh",
        _of_one(Symbols.reciprocal): "reciprocal",
        _of_one(Symbols.root): "sqrt",
        _of_one(lambda symbols, x: symbols.reciprocal(symbols.root(x))): "rsqrt",
        _of_one(Symbols.error_function): "erf",
        _of_one(_relu): "relu",
        _of_one(_absolute): "abs",
        _of_one(lambda symbols, x: symbols.product(x, symbols.sigmoid(x))): "silu",
        _of_one(_hard_sigmoid): "hardsigmoid",
        _of_one(lambda symbols, x: symbols.product(x, _hard_sigmoid(symbols, x))): "hardswish",
        _of_two(lambda symbols, a, b: symbols.largest((a, b))): "maximum",
        _of_two(lambda symbols, a, b: _least(symbols, (a, b))): "minimum",
        _gelu: "gelu",
        _leaky_relu: "leaky_relu",
        _prelu: "_prelu_kernel",
        _clamped: "clamp clamp_min clamp_max hardtanh",
        _matrix_product: "mm bmm mv dot addmm baddbmm addmv",
        _convolved: "convolution",
        _summed: "sum",
        _averaged: "mean",
        _product_of_row: "prod",
        partial(_extreme, choose=_largest): "amax max",
        partial(_extreme, choose=_least): "amin min",
        _softmax: "_softmax _safe_softmax",
        _attended: "_scaled_dot_product_flash_attention_for_cpu",
        _linear: "col2im avg_pool2d _adaptive_avg_pool2d avg_pool3d _adaptive_avg_pool3d cumsum trace",
        _max_pooled: "max_pool2d_with_indices",
    }
)
