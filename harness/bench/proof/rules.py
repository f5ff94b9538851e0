"""What each aten operation does to terms, degrees and roundings.

Sums and products follow the classical bound: if every element went through at most n roundings,
its error is at most γₙ·Σ|terms| with γₙ = n·u/(1 − n·u) (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed., section 3.1), whatever the order of summation. Functions that are no polynomials
turn the bound of their argument into a relative error of their result, which is again counted in
roundings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from harness.bench.proof.degree import Degree
from harness.bench.proof.grain import are_powers_of_two, is_power_of_two
from harness.bench.proof.refusal import demand_coefficient, demand_grain
from harness.bench.proof.shadow import Call, Effect, RefusedError, Rule, Seen

# exp of less than minus this is zero in every dtype.
_EXP_UNDERFLOWS = 746.0
# The largest slope of GELU and of its derivative, at √2 and at 0.
_GELU_SLOPE, _GELU_CURVATURE = 1.13, 0.798
# Measured in float32: oneDNN's GELU is off by up to 6 roundings, torch's derivative of it by up to 9.1.
_GELU_ROUNDINGS = 12


def gamma(roundings: float, unit: float) -> float:
    """Return γₙ, the relative error that n roundings of the given unit roundoff can add up to."""
    product = roundings * unit
    return product / (1 - product) if product < 1 else math.inf


# --- structure: elements move, none is changed -----------------------------------------------


def _moved(name: str, call: Call) -> Effect:
    """Follow views, copies, concatenation, indexing by constants."""
    return _effect(call, call.on_terms(), _joined(call.seen), _most(call.seen))


def _overwritten(name: str, call: Call) -> Effect:
    """``copy_``: what stood there is gone."""
    source = call.args[1]
    return _effect(call, call.on_terms(), source.degree, source.roundings)


def _constant(name: str, call: Call) -> Effect:
    """Follow new tensors whose values do not depend on the arguments' values."""
    results = [leaf for leaf in tree_flatten(call.result)[0] if isinstance(leaf, Tensor)]
    degrees = [Degree.of(out, demand_grain(out) if call.exact else 0) for out in results]
    return Effect([_finite(result.double().abs()) for result in results], degrees, 0.0)


def _uninitialised(name: str, call: Call) -> Effect:
    """Memory that the program must write before it reads it."""
    nothing = torch.full(call.result.shape, torch.nan, dtype=torch.float64, device=call.result.device)
    return Effect([nothing], [Degree(is_zero=True)], 0.0)


def _padded(name: str, call: Call) -> Effect:
    value = call.args[2] if len(call.args) > 2 else 0
    source = call.args[0]
    _demand_coefficient(call, value)
    terms = call.op(source.terms, call.args[1], abs(value))
    return _effect(call, terms, source.degree.join(_degree_of(value)), source.roundings)


def _filled(name: str, call: Call) -> Effect:
    """``masked_fill`` and ``fill_``: an infinite filling marks what a softmax leaves out, without error."""
    source, value = call.args[0], call.args[-1]
    masks = [mask.value for mask in call.args[1:-1]]
    left_out = not isinstance(value, Seen) and value == -math.inf
    filling = 0.0 if left_out else _finite(_terms_of(call, value))
    terms = call.op.overloadpacket(source.terms, *masks, filling)
    degree = _degree_of(value) if not masks else source.degree.join(_degree_of(value))
    return _effect(call, terms, degree, max(source.roundings, _roundings_of(value)))


def _chosen(name: str, call: Call) -> Effect:
    """``where`` with a constant mask."""
    mask, first, second = call.args
    terms = torch.where(mask.value, first.terms, second.terms)
    return _effect(call, terms, first.degree.join(second.degree), _most([first, second]))


# --- sums and products -----------------------------------------------------------------------


def _added(name: str, call: Call) -> Effect:
    first, second, *rest = call.args
    factor = rest[0] if rest else call.kwargs.get("alpha", 1)
    if name == "aten.rsub":
        first, second = second, first
    _demand_coefficient(call, factor)
    terms = _terms_of(call, first) + abs(factor) * _terms_of(call, second)
    if name.endswith("_"):
        terms = call.args[0].terms.copy_(terms)
    most = max(_roundings_of(first), _roundings_of(second) + _scaling(factor))
    scaled = _degree_of(second).times(_degree_of(factor))
    return _effect(call, terms, _degree_of(first).join(scaled), most + 1)


def _multiplied(name: str, call: Call) -> Effect:
    first, second = call.args[0], call.args[1]
    terms = _terms_of(call, first) * _terms_of(call, second)
    if name.endswith("_"):
        terms = call.args[0].terms.copy_(terms)
    roundings = _roundings_of(first) + _roundings_of(second) + 1
    return _effect(call, terms, _degree_of(first).times(_degree_of(second)), roundings)


def _powered(name: str, call: Call) -> Effect:
    """Follow a small power: torch multiplies up to the third, higher ones may round in its library."""
    source, exponent = call.args
    if isinstance(exponent, Seen) or exponent not in (1, 2, 3):
        shown = "of data" if isinstance(exponent, Seen) else exponent
        raise RefusedError(f"{name} with the exponent {shown}")
    power = int(exponent)
    degree = reduce(Degree.times, [source.degree] * power)
    return _effect(call, source.terms**power, degree, power * source.roundings + power - 1)


def _negated(name: str, call: Call) -> Effect:
    source = call.args[0]
    return _effect(call, source.terms.clone(), source.degree, source.roundings)


def _fused_product(name: str, call: Call) -> Effect:
    """``addcmul``: self + value · a · b."""
    base, first, second = call.args[:3]
    factor = call.kwargs.get("value", 1)
    _demand_coefficient(call, factor)
    terms = base.terms + abs(factor) * first.terms * second.terms
    if name.endswith("_"):
        terms = base.terms.copy_(terms)
    product = first.roundings + second.roundings + 1 + _scaling(factor)
    roundings = max(base.roundings, product) + 1
    scaled = first.degree.times(second.degree).times(_degree_of(factor))
    return _effect(call, terms, base.degree.join(scaled), roundings)


def _matrix_product(name: str, call: Call) -> Effect:
    """``mm``, ``bmm``, ``mv``, ``dot`` and their forms with an addend."""
    *addend, first, second = [arg for arg in call.args if isinstance(arg, Seen)]
    _demand_no_factor(name, call)
    roundings = first.roundings + second.roundings + 1 + first.value.shape[-1]
    degree = first.degree.times(second.degree)
    for seen in addend:
        degree, roundings = degree.join(seen.degree), max(roundings, seen.roundings) + 1
    return _effect(call, call.on_terms(), degree, roundings)


def _sum(name: str, call: Call) -> Effect:
    """Follow sums, and backward passes of gathers: several elements land on one."""
    source = call.args[0]
    count = float(call.on_ones().max()) if call.result.numel() else 0.0
    return _effect(call, call.on_terms(), source.degree, source.roundings + count)


def _averaged(name: str, call: Call) -> Effect:
    """Follow means and average pools, forward and backward: sums whose terms are divided by their number."""
    source = call.args[0]
    if name == "aten.mean":
        count = source.value.numel() // max(1, call.result.numel())
    else:  # no element of the result has more terms than one channel of the source has elements
        count = math.prod(source.value.shape[-2:])
    degree = source.degree.times(_share_of_one(name, call, count)) if call.exact else source.degree
    return _effect(call, call.on_terms(), degree, source.roundings + count + 2)


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
    _demand_no_factor(name, call)
    degree = target.degree.join(values.degree)
    roundings = max(target.roundings, values.roundings) + values.value.numel()
    return _effect(call, call.on_terms(), degree, roundings)


def _convolved(name: str, call: Call) -> Effect:
    source, weight, bias = call.args[:3]
    per_output, per_input = _taps(weight.value, call.args[8])
    reduction = per_input if call.args[6] else per_output
    roundings = source.roundings + weight.roundings + 1 + reduction
    degree = source.degree.times(weight.degree)
    if bias is not None:
        degree, roundings = degree.join(bias.degree), max(roundings, bias.roundings) + 1
    return _effect(call, call.on_terms(), degree, roundings)


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


# --- functions that are no polynomials -------------------------------------------------------


def _divided(name: str, call: Call) -> Effect:
    if call.kwargs.get("rounding_mode") is not None:
        raise RefusedError(f"{name} rounds to integers")
    top, bottom = call.args[0], call.args[1]
    if call.exact:
        return _divided_exactly(name, call, bottom)
    if not isinstance(bottom, Seen):
        return _effect(call, top.terms / abs(bottom), top.degree, top.roundings + 2 + _roundings_of(bottom))
    size = bottom.value.abs().double()
    # Dividing by 1 − r instead of 1 makes the result larger by r + r² + …, hence twice.
    roundings = top.roundings + 1 + 2 * _relative(call, bottom)
    return _effect(call, top.terms / size, top.degree.join(bottom.degree), roundings)


def _divided_exactly(name: str, call: Call, bottom: Any) -> Effect:
    """Divide by powers of two, which only moves the binary point."""
    top, constant = call.args[0], not isinstance(bottom, Seen) or bottom.is_constant
    if not constant or not isinstance(top, Seen):
        raise RefusedError(f"{name} is no polynomial")
    parts = bottom.value if isinstance(bottom, Seen) else torch.tensor(float(bottom), dtype=torch.float64)
    if not are_powers_of_two(parts):
        wrong = next(part for part in parts.flatten().tolist() if not is_power_of_two(part))
        raise RefusedError(f"{name} by {wrong:g}, which is no power of two")
    shares = 1 / parts.double()
    degree = top.degree.times(Degree.of(shares, demand_grain(shares)))
    return _effect(call, top.terms * shares.abs(), degree, top.roundings)


def _root(name: str, call: Call) -> Effect:
    """Square root, its reciprocal, and the reciprocal: the relative error at most doubles."""
    _demand_floats(name, call)
    source = call.args[0]
    return _result(call, source.degree, 2 * _relative(call, source) + 2)


def _exponential(name: str, call: Call) -> Effect:
    """Exp and sigmoid: an absolute error ε of the argument is a relative error of at most e^ε − 1."""
    _demand_floats(name, call)
    source = call.args[0]
    return _result(call, source.degree, _as_roundings(call, _capped_expm1(_error(call, source))) + 4)


def _softmax(name: str, call: Call) -> Effect:
    """Softmax: an absolute error ε of the arguments is a relative error of at most e^2ε − 1.

    Every argument has the largest of its row subtracted first, and that difference is rounded.
    """
    _demand_floats(name, call)
    source, axis = call.args[0], call.args[1]
    values = source.value.double()
    below = (values.amax(axis, keepdim=True) - values).nan_to_num(0.0, posinf=0.0)
    subtraction = call.unit * min(float(below.max()), _EXP_UNDERFLOWS)
    inherited = _as_roundings(call, _capped_expm1(2 * (_error(call, source) + subtraction)))
    return _result(call, source.degree, inherited + source.value.shape[axis] + 6)


def _softmax_backward(name: str, call: Call) -> Effect:
    _demand_floats(name, call)
    grad, output, axis = call.args[:3]
    size = output.value.abs().double()
    terms = size * (grad.terms + (grad.terms * size).sum(axis, keepdim=True))
    roundings = grad.roundings + 2 * output.roundings + output.value.shape[axis] + 4
    return _effect(call, terms, grad.degree.join(output.degree), roundings)


def _sigmoid_backward(name: str, call: Call) -> Effect:
    _demand_floats(name, call)
    grad, output = call.args[:2]
    size = output.value.abs().double()
    return _effect(
        call,
        grad.terms * size * (1 + size),
        grad.degree.join(output.degree),
        grad.roundings + 2 * output.roundings + 4,
    )


def _relu(name: str, call: Call) -> Effect:
    _demand_floats(name, call)
    source = call.args[0]
    terms = source.terms.clone()
    if not name.endswith("_"):  # in place, the argument's sign is gone
        # A unit that is off beyond doubt is exactly zero, and so is what flows back through it.
        terms[source.value.double() < -gamma(source.roundings, call.unit) * source.terms] = 0.0
    return _effect(call, terms, source.degree, source.roundings)


def _relu_backward(name: str, call: Call) -> Effect:
    _demand_floats(name, call)
    grad, source = call.args[:2]
    doubtful = (source.value.abs().double() <= _errors(call, source)) & (source.terms > 0)
    return _passed_on(call, grad, source.value > 0, doubtful)


def _clamped(name: str, call: Call) -> Effect:
    """Between two constants: an argument that is outside beyond doubt gives the constant itself."""
    _demand_floats(name, call)
    source, low, high = call.args[0], *_limits(call.args[1:])
    value, error = source.value.double(), _errors(call, source)
    terms = torch.where(value < low - error, abs(low), source.terms)
    terms = torch.where(value > high + error, abs(high), terms)
    return _effect(call, terms, source.degree, max(source.roundings, *map(_roundings_of, (low, high))))


def _clamped_backward(name: str, call: Call) -> Effect:
    _demand_floats(name, call)
    grad, source, low, high = *call.args[:2], *_limits(call.args[2:])
    value = source.value.double()
    distance = torch.minimum((value - low).abs(), (value - high).abs())
    inside = (value > low) & (value < high)
    return _passed_on(call, grad, inside, distance <= _errors(call, source))


def _limits(given: tuple[float, ...]) -> tuple[float, float]:
    """Return the limits of a hard tanh, −1 and 1 where they are not given."""
    low, high = (*given, *(-1.0, 1.0)[len(given) :])
    return low, high


def _passed_on(call: Call, grad: Seen, passes: Tensor, doubtful: Tensor) -> Effect:
    """Follow a gradient that passes or not; where the error leaves that in doubt, it may be there or not."""
    roundings = grad.roundings + 1
    # Of a void bound the terms themselves are left, by which a finer unit is judged.
    whole = grad.terms / min(max(gamma(roundings, call.unit), call.unit), 1.0)
    return _effect(call, torch.where(doubtful, whole, grad.terms * passes), grad.degree, roundings)


def _error_function(name: str, call: Call) -> Effect:
    """Erf: its slope within the error of the argument carries that error on, and is small far from zero."""
    _demand_floats(name, call)
    source = call.args[0]
    nearest = (source.value.double().abs() - _errors(call, source)).nan_to_num(0.0, posinf=math.inf)
    slope = 2 / math.sqrt(math.pi) * torch.exp(-nearest.clamp_min(0).square())
    terms = call.result.abs().double() + slope * source.terms
    return _effect(call, terms, source.degree, source.roundings + 4)


def _gelu(name: str, call: Call) -> Effect:
    """GELU, x·Φ(x): its slope carries the error of the argument on; Φ is a sum with terms 1/2 and erf/2."""
    _demand_floats(name, call)
    _demand_erf(name, call)
    source = call.args[0]
    value = source.value.double()
    slope = _gelu_slope(value).abs() + _GELU_CURVATURE * _errors(call, source)
    terms = slope.clamp_max(_GELU_SLOPE) * source.terms + value.abs() * _normal_terms(value)
    return _effect(call, terms, source.degree, source.roundings + _GELU_ROUNDINGS)


def _gelu_backward(name: str, call: Call) -> Effect:
    """Φ(x) + x·φ(x) times the gradient; the exponent of φ is rounded as well, hence 1 + x²."""
    _demand_floats(name, call)
    _demand_erf(name, call)
    grad, source = call.args[:2]
    value = source.value.double()
    own = _normal_terms(value) + value.abs() * _normal_density(value) * (1 + value.square())
    return _effect(
        call,
        grad.terms * (own + _GELU_CURVATURE * source.terms),
        grad.degree.join(source.degree),
        grad.roundings + source.roundings + _GELU_ROUNDINGS,
    )


def _normal_density(value: Tensor) -> Tensor:
    return torch.exp(-value.square() / 2) / math.sqrt(2 * math.pi)


def _normal_terms(value: Tensor) -> Tensor:
    """Return the terms of the normal distribution function, (1 + |erf|)/2."""
    return (1 + torch.erf(value.abs() / math.sqrt(2))) / 2


def _gelu_slope(value: Tensor) -> Tensor:
    return (1 + torch.erf(value / math.sqrt(2))) / 2 + value * _normal_density(value)


# --- helpers -----------------------------------------------------------------------------------


def _effect(call: Call, terms: Any, degree: Degree, roundings: float) -> Effect:
    found = [leaf for leaf in tree_flatten(terms)[0] if isinstance(leaf, Tensor)]
    return Effect(found, [degree] * len(found), roundings)


def _result(call: Call, degree: Degree, roundings: float) -> Effect:
    """Effect of a function whose result has a relative error: its terms are its own values."""
    return _effect(call, call.result.abs().double(), degree, roundings)


def _scaling(factor: float) -> int:
    """Count the roundings that a coefficient brings: its own, and that of the product."""
    return 0 if abs(factor) == 1 else 2


def _errors(call: Call, seen: Seen) -> Tensor:
    """Return the largest absolute error of every element; one without terms has none."""
    return (gamma(seen.roundings, call.unit) * seen.terms).nan_to_num(0.0, posinf=math.inf)


def _error(call: Call, seen: Seen) -> float:
    """Return the largest absolute error of a tensor."""
    return gamma(seen.roundings, call.unit) * float(seen.terms.max()) if seen.roundings else 0.0


def _relative(call: Call, seen: Seen) -> float:
    """Return the largest relative error of a tensor, counted in roundings."""
    share = float((seen.terms / seen.value.abs().double()).max())
    return _as_roundings(call, gamma(seen.roundings, call.unit) * share) if seen.roundings else 0.0


def _as_roundings(call: Call, relative: float) -> float:
    return math.log1p(relative) / call.unit if relative < math.inf else math.inf


def _capped_expm1(value: float) -> float:
    return math.expm1(value) if value < 700 else math.inf


def _joined(seen: list[Seen]) -> Degree:
    floats = [tensor.degree for tensor in seen if tensor.value.is_floating_point()]
    return reduce(Degree.join, floats) if floats else Degree()


def _most(seen: list[Seen]) -> float:
    return max((tensor.roundings for tensor in seen), default=0.0)


def _degree_of(factor: Any) -> Degree:
    return factor.degree if isinstance(factor, Seen) else Degree.of_number(factor)


def _roundings_of(factor: Any) -> float:
    """Return the roundings of a tensor or of a number; one that is no integer is rounded to the dtype."""
    if isinstance(factor, Seen):
        return factor.roundings
    return 0.0 if float(factor).is_integer() else 1.0


def _terms_of(call: Call, factor: Any) -> Any:
    if isinstance(factor, Seen):
        return factor.terms
    _demand_coefficient(call, factor)
    return abs(factor)


def _finite(terms: Any) -> Any:
    """Return the terms, none where they are infinite: such an element is what a softmax leaves out."""
    if isinstance(terms, Tensor):
        return terms.nan_to_num(torch.nan, posinf=0.0)
    return terms if math.isfinite(terms) else 0.0


def _demand_coefficient(call: Call, value: float) -> None:
    if call.exact:
        demand_coefficient(str(call.op.overloadpacket), value)


def _demand_no_factor(name: str, call: Call) -> None:
    factors = [call.kwargs.get(factor, 1) for factor in ("alpha", "beta")]
    if any(factor != 1 for factor in factors):
        raise RefusedError(f"{name} with a factor other than 1")


def _demand_erf(name: str, call: Call) -> None:
    approximation = call.kwargs.get("approximate", "none")
    if approximation != "none":
        raise RefusedError(f"{name} is approximated by {approximation}")


def _demand_floats(name: str, call: Call) -> None:
    if call.exact:
        raise RefusedError(f"{name} is no polynomial")


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
        _divided: "div",
        _root: "sqrt rsqrt reciprocal",
        _exponential: "exp sigmoid",
        _softmax: "_softmax",
        _softmax_backward: "_softmax_backward_data",
        _sigmoid_backward: "sigmoid_backward",
        _relu: "relu relu_",
        _relu_backward: "threshold_backward",
        _clamped: "hardtanh",
        _clamped_backward: "hardtanh_backward",
        _error_function: "erf",
        _gelu: "gelu",
        _gelu_backward: "gelu_backward",
    }
)
