"""What each aten operation does to terms, degrees and roundings: where elements move, sums and products.

Sums and products follow the classical bound, whatever the order of summation; with exact coefficients the
same rules tell degrees and the sizes of integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof import nonlinear
from harness.bench.proof.degree import Degree
from harness.bench.proof.effects import (
    degree_of,
    demand_exact_coefficient,
    demand_no_factor,
    effect_of,
    finite,
    gamma,
    joined,
    most_roundings,
    roundings_of,
    scaling_roundings,
    terms_of,
)
from harness.bench.proof.grain import is_power_of_two
from harness.bench.proof.nesting import leaves, mapped
from harness.bench.proof.operation import Call, Effect, Rule, Seen
from harness.bench.proof.refusal import RefusedError, demand_grain

__all__ = ["RULES", "gamma"]


# --- structure: elements move, none is changed -----------------------------------------------


def _moved(name: str, call: Call) -> Effect:
    """Follow views, copies, concatenation, indexing by constants."""
    return effect_of(call.on_terms(), joined(call.seen), most_roundings(call.seen))


def _overwritten(name: str, call: Call) -> Effect:
    """``copy_``: what stood there is gone."""
    source = call.args[1]
    return effect_of(call.on_terms(), source.degree, source.roundings)


def _constant(name: str, call: Call) -> Effect:
    """Follow new tensors whose values do not depend on the arguments' values."""
    results = [leaf for leaf in leaves(call.result) if isinstance(leaf, Tensor)]
    degrees = [Degree.of(out, demand_grain(out) if call.exact else 0) for out in results]
    return Effect([finite(result.double().abs()) for result in results], degrees, 0.0)


def _uninitialised(name: str, call: Call) -> Effect:
    """Memory that the program must write before it reads it."""
    nothing = torch.full(call.result.shape, torch.nan, dtype=torch.float64, device=call.result.device)
    return Effect([nothing], [Degree(is_zero=True)], 0.0)


def _padded(name: str, call: Call) -> Effect:
    value = call.args[2] if len(call.args) > 2 else 0
    source = call.args[0]
    demand_exact_coefficient(call, value)
    terms = call.op(source.terms, call.args[1], abs(value))
    return effect_of(terms, source.degree.join(degree_of(value)), source.roundings)


def _filled(name: str, call: Call) -> Effect:
    """``masked_fill`` and ``fill_``: an infinite filling marks what a softmax leaves out, without error."""
    source, value = call.args[0], call.args[-1]
    masks = [mask.value for mask in call.args[1:-1]]
    left_out = not isinstance(value, Seen) and value == -math.inf
    filling = 0.0 if left_out else finite(terms_of(call, value))
    terms = call.op.overloadpacket(source.terms, *masks, filling)
    degree = degree_of(value) if not masks else source.degree.join(degree_of(value))
    return effect_of(terms, degree, max(source.roundings, roundings_of(value)))


def _chosen(name: str, call: Call) -> Effect:
    """``where`` with a constant mask."""
    mask, first, second = call.args
    terms = torch.where(mask.value, first.terms, second.terms)
    return effect_of(terms, first.degree.join(second.degree), most_roundings([first, second]))


# --- sums and products -----------------------------------------------------------------------


def _added(name: str, call: Call) -> Effect:
    first, second, *rest = call.args
    factor = rest[0] if rest else call.kwargs.get("alpha", 1)
    if name == "aten.rsub":
        first, second = second, first
    demand_exact_coefficient(call, factor)
    terms = terms_of(call, first) + abs(factor) * terms_of(call, second)
    if name.endswith("_"):
        terms = call.args[0].terms.copy_(terms)
    most = max(roundings_of(first), roundings_of(second) + scaling_roundings(factor))
    scaled = degree_of(second).times(degree_of(factor))
    return effect_of(terms, degree_of(first).join(scaled), most + 1)


def _multiplied(name: str, call: Call) -> Effect:
    first, second = call.args[0], call.args[1]
    terms = terms_of(call, first) * terms_of(call, second)
    if name.endswith("_"):
        terms = call.args[0].terms.copy_(terms)
    roundings = roundings_of(first) + roundings_of(second) + 1
    return effect_of(terms, degree_of(first).times(degree_of(second)), roundings)


def _powered(name: str, call: Call) -> Effect:
    """Follow a small power: torch multiplies up to the third, higher ones may round in its library."""
    source, exponent = call.args
    if isinstance(exponent, Seen) or exponent not in (1, 2, 3):
        shown = "of data" if isinstance(exponent, Seen) else exponent
        raise RefusedError(f"{name} with the exponent {shown}")
    power = int(exponent)
    degree = reduce(Degree.times, [source.degree] * power)
    return effect_of(source.terms**power, degree, power * source.roundings + power - 1)


def _negated(name: str, call: Call) -> Effect:
    source = call.args[0]
    return effect_of(source.terms.clone(), source.degree, source.roundings)


def _fused_product(name: str, call: Call) -> Effect:
    """``addcmul``: self + value · a · b."""
    base, first, second = call.args[:3]
    factor = call.kwargs.get("value", 1)
    demand_exact_coefficient(call, factor)
    terms = base.terms + abs(factor) * first.terms * second.terms
    if name.endswith("_"):
        terms = base.terms.copy_(terms)
    product = first.roundings + second.roundings + 1 + scaling_roundings(factor)
    roundings = max(base.roundings, product) + 1
    scaled = first.degree.times(second.degree).times(degree_of(factor))
    return effect_of(terms, base.degree.join(scaled), roundings)


def _matrix_product(name: str, call: Call) -> Effect:
    """``mm``, ``bmm``, ``mv``, ``dot`` and their forms with an addend."""
    *addend, first, second = [arg for arg in call.args if isinstance(arg, Seen)]
    demand_no_factor(name, call)
    roundings = first.roundings + second.roundings + 1 + first.value.shape[-1]
    degree = first.degree.times(second.degree)
    for seen in addend:
        degree, roundings = degree.join(seen.degree), max(roundings, seen.roundings) + 1
    return effect_of(call.on_terms(), degree, roundings)


def _sum(name: str, call: Call) -> Effect:
    """Follow sums, and backward passes of gathers: several elements land on one."""
    source = call.args[0]
    return effect_of(call.on_terms(), source.degree, source.roundings + _most_terms(name, call))


def _most_terms(name: str, call: Call) -> float:
    """Count the terms of the result's element that has most: what the operation makes of ones."""
    if not call.result.numel():
        return 0.0
    if not call.args[0].value.is_floating_point():
        return float(call.on_ones().max())
    if name == "aten.sum":
        return float(call.args[0].value.numel() // call.result.numel())
    # It depends on shapes alone, and following a program meets the same ones again and again.
    key = repr((call.op, mapped(_shape_of, call.args), mapped(_shape_of, call.kwargs)))
    if key not in _MOST_TERMS:
        _MOST_TERMS[key] = float(call.on_ones().max())
    return _MOST_TERMS[key]


_MOST_TERMS: dict[str, float] = {}


def _shape_of(leaf: Any) -> Any:
    return tuple(leaf.value.shape) if isinstance(leaf, Seen) else leaf


def _averaged(name: str, call: Call) -> Effect:
    """Follow means and average pools, forward and backward: sums whose terms are divided by their number."""
    source = call.args[0]
    if name == "aten.mean":
        count = source.value.numel() // max(1, call.result.numel())
    else:  # no element of the result has more terms than one channel of the source has elements
        count = math.prod(source.value.shape[-2:])
    degree = source.degree.times(_share_of_one(name, call, count)) if call.exact else source.degree
    return effect_of(call.on_terms(), degree, source.roundings + count + 2)


def _share_of_one(name: str, call: Call, count: int) -> Degree:
    """Return the degree of one over the number of terms of an average, which must be a power of two."""
    if name != "aten.mean":
        count = (_adaptive_window if "adaptive" in name else _window)(name, call)
    if not is_power_of_two(count):
        raise RefusedError(f"{name} over {count} elements, which is no power of two")
    return Degree.of_number(1 / count)


def _window(name: str, call: Call) -> int:
    """Count the elements of a window of ``avg_pool2d``, which must be the same everywhere."""
    given = list(call.args[2 if name.endswith("backward") else 1 :])
    given += ([], [0], False, True, None)[len(given) - 1 :]
    kernel, _, padding, partial, with_padding, divisor = given
    if divisor is None and (partial or (any(padding) and not with_padding)):
        raise RefusedError(f"{name} over windows of several sizes")
    if divisor is not None and divisor < 0:
        raise RefusedError(f"{name} divides by {divisor}, which turns its terms around")
    return int(divisor or math.prod(kernel))


def _adaptive_window(name: str, call: Call) -> int:
    """Count the elements of a window of ``_adaptive_avg_pool2d``, which must be the same everywhere."""
    backward = name.endswith("backward")
    small = (call.args[0].value if backward else call.result).shape[-2:]
    large = call.args[1 if backward else 0].value.shape[-2:]
    if any(size % parts for size, parts in zip(large, small, strict=True)):
        raise RefusedError(f"{name} over windows of several sizes")
    return int(large.numel() // small.numel())


def _index_put(name: str, call: Call) -> Effect:
    target, values = call.args[0], call.seen[-1]
    demand_no_factor(name, call)
    degree = target.degree.join(values.degree)
    roundings = max(target.roundings, values.roundings) + values.value.numel()
    return effect_of(call.on_terms(), degree, roundings)


def _convolved(name: str, call: Call) -> Effect:
    source, weight, bias = call.args[:3]
    per_output, per_input = _taps(weight.value, call.args[8])
    reduction = per_input if call.args[6] else per_output
    roundings = source.roundings + weight.roundings + 1 + reduction
    degree = source.degree.times(weight.degree)
    if bias is not None:
        degree, roundings = degree.join(bias.degree), max(roundings, bias.roundings) + 1
    return effect_of(call.on_terms(), degree, roundings)


def _convolution_backward(name: str, call: Call) -> Effect:
    grad, source, weight = call.args[:3]
    wanted = call.args[-1]
    degrees = [grad.degree.times(weight.degree), grad.degree.times(source.degree), grad.degree]
    terms = [term for term in call.on_terms() if isinstance(term, Tensor)]
    per_output, per_input = _taps(weight.value, call.args[9])
    reduction = max(
        per_output if call.args[7] else per_input,
        grad.value.numel() // grad.value.shape[1],
        source.value.numel() // source.value.shape[1],
    )
    roundings = grad.roundings + max(source.roundings, weight.roundings) + 1 + reduction
    chosen = [degree for degree, want in zip(degrees, wanted, strict=True) if want]
    return Effect(terms, chosen, roundings)


def _taps(weight: Tensor, groups: int) -> tuple[int, int]:
    """Count the products that meet in an output, and those that an input takes part in.

    A transposed convolution has the two exchanged.
    """
    first, second = weight.shape[:2]
    return weight.numel() // first, weight.numel() // (second * groups)


def _table(rules: Mapping[Callable[..., Effect], str]) -> dict[str, Rule]:
    return {f"aten.{name}": rule for rule, names in rules.items() for name in names.split()}


RULES: Mapping[str, Rule] = _table(
    {
        _moved: """
            view _unsafe_view expand permute transpose t squeeze unsqueeze slice select clone
            cat stack as_strided unfold diagonal diag_embed flip roll repeat unbind split
            split_with_sizes detach alias slice_backward select_backward slice_scatter select_scatter
            index index_select gather im2col lift_fresh _to_copy tril triu
            reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d
            unsafe_split pixel_shuffle pixel_unshuffle channel_shuffle diagonal_backward
        """,
        _overwritten: "copy_",
        _constant: "zeros_like ones_like new_zeros new_ones zero_ new_full full_like arange zeros ones full",
        _uninitialised: "empty empty_like new_empty new_empty_strided empty_strided",
        _padded: "constant_pad_nd",
        _filled: "masked_fill masked_fill_ fill_",
        _chosen: "where",
        _added: "add add_ sub sub_ rsub",
        _multiplied: "mul mul_",
        _powered: "pow",
        _negated: "neg",
        _fused_product: "addcmul addcmul_",
        _matrix_product: "mm bmm mv dot addmm baddbmm addmv",
        _sum: """
            sum col2im trace unfold_backward reflection_pad2d_backward replication_pad2d_backward
            reflection_pad1d_backward replication_pad1d_backward
        """,
        _averaged: "mean avg_pool2d _adaptive_avg_pool2d avg_pool2d_backward _adaptive_avg_pool2d_backward",
        _index_put: "index_put index_put_ _index_put_impl_ index_add scatter_add",
        _convolved: "convolution",
        _convolution_backward: "convolution_backward",
        nonlinear.divided: "div",
        nonlinear.root: "sqrt rsqrt reciprocal",
        nonlinear.exponential: "exp sigmoid",
        nonlinear.softmax: "_softmax",
        nonlinear.softmax_backward: "_softmax_backward_data",
        nonlinear.sigmoid_backward: "sigmoid_backward",
        nonlinear.relu: "relu relu_",
        nonlinear.relu_backward: "threshold_backward",
        nonlinear.clamped: "hardtanh",
        nonlinear.clamped_backward: "hardtanh_backward",
        nonlinear.error_function: "erf",
        nonlinear.gelu: "gelu",
        nonlinear.gelu_backward: "gelu_backward",
    }
)
