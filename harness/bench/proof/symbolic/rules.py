"""What each aten operation does to symbolic values: a rule by its name.

Operations that only move elements run on the numbers of the values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.symbolic.largest import largest, least
from harness.bench.proof.symbolic.operation import Call, Marked, Marks, Rule
from harness.bench.proof.symbolic.polynomials import NoFormError
from harness.bench.proof.symbolic.products import (
    attention,
    convolution,
    linear,
    matrix_product,
    max_pool,
)
from harness.bench.proof.symbolic.rows import (
    batch_norm,
    extreme,
    group_norm,
    layer_norm,
    mean,
    product_of_row,
    softmax,
    total,
)
from harness.bench.proof.symbolic.symbols import ONE, ZERO, Symbols

# A power is multiplied out.
_HIGHEST_POWER = 32


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
    """``index_put``, ``scatter``: place values or a number."""
    named = call.named
    if named.get("accumulate") or named.get("reduce"):
        raise NoFormError("places several values that are reduced")
    if "value" not in named or isinstance(named["value"], Marked):
        return _picked(call)
    number = float(call.symbols.number(named["value"]))
    return torch.scatter(named["self"].marks, named["dim"], call.indices(named["index"]), number)


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
    """``where`` with a constant mask."""
    mask = call.indices(call.named["condition"])
    return torch.where(mask, call.marks(call.named["self"]), call.marks(call.named["other"]))


# --- elements ---------------------------------------------------------------------------------


def _added(call: Call) -> Marks:
    return call.sum(call.named["self"], call.named["other"], (1, call.named["alpha"]))


def _subtracted(call: Call) -> Marks:
    return call.sum(call.named["self"], call.named["other"], (1, -call.named["alpha"]))


def _subtracted_from(call: Call) -> Marks:
    return call.sum(call.named["other"], call.named["self"], (1, -call.named["alpha"]))


def _divided(call: Call) -> Marks:
    if call.named.get("rounding_mode") is not None:
        raise NoFormError("rounds to integers")
    return call.map(partial(_quotient, call.symbols), call.named["self"], call.named["other"])


def _quotient(symbols: Symbols, top: int, bottom: int) -> int:
    return symbols.product(top, symbols.reciprocal(bottom))


def _fused(call: Call, combine: Callable[[Symbols, int, int], int]) -> Marks:
    """``addcmul`` and ``addcdiv``: self + value · (a combined with b)."""
    first, second = call.named["tensor1"], call.named["tensor2"]
    combined = call.map(partial(combine, call.symbols), first, second)
    return call.sum(call.named["self"], combined, (1, call.named["value"]))


def _interpolated(call: Call) -> Marks:
    """``lerp``: self + weight · (end − self)."""
    step = call.sum(call.named["end"], call.named["self"], (1, -1))
    return call.sum(call.named["self"], call.product(call.named["weight"], step))


def _powered(call: Call) -> Marks:
    return call.map(partial(_power, call.symbols), call.named["self"], call.named["exponent"])


def _power(symbols: Symbols, base: int, exponent: int) -> int:
    power = symbols.constant(exponent)
    if power is None:
        raise NoFormError("has the data in its exponent")
    halves = power * 2
    if halves.denominator != 1 or not -_HIGHEST_POWER <= power <= _HIGHEST_POWER:
        raise NoFormError(f"has the exponent {float(power)}")
    if power.denominator == 1:
        return symbols.power(base, int(power))
    return symbols.power(symbols.root(base), int(halves))


def _of_one(function: Callable[[Symbols, int], int]) -> Rule:
    """Return the rule of a function of single elements."""
    return lambda call: call.map(partial(function, call.symbols), call.named["self"])


def _of_two(function: Callable[[Symbols, int, int], int]) -> Rule:
    return lambda call: call.map(partial(function, call.symbols), call.named["self"], call.named["other"])


def _relu(symbols: Symbols, value: int) -> int:
    return largest(symbols, (value, ZERO))


def _leaky(symbols: Symbols, value: int, slope: int) -> int:
    """Return slope·x + (1 − slope)·relu(x), which holds for every slope."""
    rest = symbols.combination([(1, ONE), (-1, slope)])
    return symbols.sum_of_products([(slope, value), (rest, _relu(symbols, value))])


def _leaky_relu(call: Call) -> Marks:
    return call.map(partial(_leaky, call.symbols), call.named["self"], call.named["negative_slope"])


def _prelu(call: Call) -> Marks:
    return call.map(partial(_leaky, call.symbols), call.named["self"], call.named["weight"])


def _absolute(symbols: Symbols, value: int) -> int:
    return largest(symbols, (value, symbols.negative(value)))


def _clamped(call: Call) -> Marks:
    """``clamp`` and ``hardtanh``: the lower limit first, so that the upper one wins."""
    named, symbols = call.named, call.symbols
    low, high = (named.get(name, named.get(f"{name}_val")) for name in ("min", "max"))
    marks: Tensor = named["self"].marks
    if low is not None:
        marks = call.map(lambda a, b: largest(symbols, (a, b)), marks, low)
    if high is not None:
        marks = call.map(lambda a, b: least(symbols, (a, b)), marks, high)
    return marks


def _hard_sigmoid(symbols: Symbols, value: int) -> int:
    moved = symbols.combination([(1, value), (3, ONE)])
    clamped = least(symbols, (_relu(symbols, moved), symbols.number(6)))
    return symbols.product(symbols.reciprocal(symbols.number(6)), clamped)


def _gelu(call: Call) -> Marks:
    if call.named["approximate"] != "none":
        raise NoFormError(f"is approximated by {call.named['approximate']}")
    symbols = call.symbols
    return call.map(lambda x: symbols.product(x, symbols.normal_distribution(x)), call.named["self"])


def _table(rules: Mapping[Rule, str]) -> dict[str, Rule]:
    return {f"aten.{name}": rule for rule, names in rules.items() for name in names.split()}


# Operations that edit a tensor are looked up without their final underscore.
RULES: Mapping[str, Rule] = _table(
    {
        _moved: """
            view _unsafe_view expand permute transpose t squeeze unsqueeze slice select clone
            cat stack as_strided unfold diagonal diag_embed flip roll repeat unbind split
            split_with_sizes detach alias slice_backward select_backward slice_scatter select_scatter
            diagonal_scatter diagonal_backward im2col lift_fresh _to_copy tril triu
            reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
            unsafe_split pixel_shuffle pixel_unshuffle channel_shuffle rot90
        """,
        _picked: "index index_select gather take embedding",
        _placed: "index_put _index_put_impl scatter index_copy masked_scatter",
        _copied: "copy",
        _zeroed: "zero",
        _padded: "constant_pad_nd",
        _filled: "masked_fill fill",
        _chosen: "where",
        _added: "add",
        _subtracted: "sub",
        _subtracted_from: "rsub",
        _of_two(Symbols.product): "mul",
        _divided: "div",
        _powered: "pow",
        partial(_fused, combine=Symbols.product): "addcmul",
        partial(_fused, combine=_quotient): "addcdiv",
        _interpolated: "lerp",
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
        _of_two(lambda symbols, a, b: largest(symbols, (a, b))): "maximum",
        _of_two(lambda symbols, a, b: least(symbols, (a, b))): "minimum",
        _gelu: "gelu",
        _leaky_relu: "leaky_relu",
        _prelu: "_prelu_kernel",
        _clamped: "clamp clamp_min clamp_max hardtanh",
        matrix_product: "mm bmm mv dot addmm baddbmm addmv",
        convolution: "convolution",
        total: "sum",
        mean: "mean",
        product_of_row: "prod",
        partial(extreme, choose=largest): "amax max",
        partial(extreme, choose=least): "amin min",
        softmax: "_softmax _safe_softmax",
        layer_norm: "native_layer_norm",
        group_norm: "native_group_norm",
        batch_norm: "native_batch_norm",
        attention: "_scaled_dot_product_flash_attention_for_cpu",
        linear: "col2im avg_pool2d _adaptive_avg_pool2d avg_pool3d _adaptive_avg_pool3d cumsum trace",
        max_pool: "max_pool2d_with_indices",
    }
)
