"""What functions that are no polynomials do to terms, degrees and roundings.

They turn the bound of their argument into a relative error of their result, which is counted in roundings.
Where every coefficient has to be exact they are refused, but for a division by powers of two.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof.degree import Degree
from harness.bench.proof.effects import (
    as_roundings,
    capped_expm1,
    demand_erf,
    demand_floats,
    effect_of,
    effect_of_function,
    gamma,
    largest_error,
    largest_errors,
    relative_roundings,
    roundings_of,
)
from harness.bench.proof.grain import are_powers_of_two, is_power_of_two
from harness.bench.proof.operation import Call, Effect, Seen
from harness.bench.proof.refusal import RefusedError, demand_grain

# exp of less than minus this is zero in every dtype.
_EXP_UNDERFLOWS = 746.0
# The largest slope of GELU and of its derivative, at √2 and at 0.
_GELU_SLOPE, _GELU_CURVATURE = 1.13, 0.798
# Measured in float32: oneDNN's GELU is off by up to 6 roundings, torch's derivative of it by up to 9.1.
_GELU_ROUNDINGS = 12


def divided(name: str, call: Call) -> Effect:
    """Follow a division: a relative error of the divisor is one of the quotient."""
    if call.kwargs.get("rounding_mode") is not None:
        raise RefusedError(f"{name} rounds to integers")
    top, bottom = call.args[0], call.args[1]
    if call.exact:
        return _divided_exactly(name, call, bottom)
    if not isinstance(bottom, Seen):
        return effect_of(top.terms / abs(bottom), top.degree, top.roundings + 2 + roundings_of(bottom))
    size = bottom.value.abs().double()
    # Dividing by 1 − r instead of 1 makes the result larger by r + r² + …, hence twice.
    roundings = top.roundings + 1 + 2 * relative_roundings(call, bottom)
    return effect_of(top.terms / size, top.degree.join(bottom.degree), roundings)


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
    return effect_of(top.terms * shares.abs(), degree, top.roundings)


def root(name: str, call: Call) -> Effect:
    """Square root, its reciprocal, and the reciprocal: the relative error at most doubles."""
    demand_floats(name, call)
    source = call.args[0]
    return effect_of_function(call, source.degree, 2 * relative_roundings(call, source) + 2)


def exponential(name: str, call: Call) -> Effect:
    """Exp and sigmoid: an absolute error ε of the argument is a relative error of at most e^ε − 1."""
    demand_floats(name, call)
    source = call.args[0]
    return effect_of_function(
        call, source.degree, as_roundings(call, capped_expm1(largest_error(call, source))) + 4
    )


def softmax(name: str, call: Call) -> Effect:
    """Softmax: an absolute error ε of the arguments is a relative error of at most e^2ε − 1.

    Every argument has the largest of its row subtracted first, and that difference is rounded.
    """
    demand_floats(name, call)
    source, axis = call.args[0], call.args[1]
    values = source.value.double()
    below = (values.amax(axis, keepdim=True) - values).nan_to_num(0.0, posinf=0.0)
    subtraction = call.unit * min(float(below.max()), _EXP_UNDERFLOWS)
    inherited = as_roundings(call, capped_expm1(2 * (largest_error(call, source) + subtraction)))
    return effect_of_function(call, source.degree, inherited + source.value.shape[axis] + 6)


def softmax_backward(name: str, call: Call) -> Effect:
    """Follow y·(g − Σ g·y)."""
    demand_floats(name, call)
    grad, output, axis = call.args[:3]
    size = output.value.abs().double()
    terms = size * (grad.terms + (grad.terms * size).sum(axis, keepdim=True))
    roundings = grad.roundings + 2 * output.roundings + output.value.shape[axis] + 4
    return effect_of(terms, grad.degree.join(output.degree), roundings)


def sigmoid_backward(name: str, call: Call) -> Effect:
    """Follow g·y·(1 − y)."""
    demand_floats(name, call)
    grad, output = call.args[:2]
    size = output.value.abs().double()
    return effect_of(
        grad.terms * size * (1 + size),
        grad.degree.join(output.degree),
        grad.roundings + 2 * output.roundings + 4,
    )


def relu(name: str, call: Call) -> Effect:
    """Follow a rectifier, which no error can grow in."""
    demand_floats(name, call)
    source = call.args[0]
    terms = source.terms.clone()
    if not name.endswith("_"):  # in place, the argument's sign is gone
        # A unit that is off beyond doubt is exactly zero, and so is what flows back through it.
        terms[source.value.double() < -gamma(source.roundings, call.unit) * source.terms] = 0.0
    return effect_of(terms, source.degree, source.roundings)


def relu_backward(name: str, call: Call) -> Effect:
    """Follow a gradient where a unit is on, off, or in doubt."""
    demand_floats(name, call)
    grad, source = call.args[:2]
    doubtful = (source.value.abs().double() <= largest_errors(call, source)) & (source.terms > 0)
    return _passed_on(call, grad, source.value > 0, doubtful)


def clamped(name: str, call: Call) -> Effect:
    """Between two constants: an argument that is outside beyond doubt gives the constant itself."""
    demand_floats(name, call)
    source, low, high = call.args[0], *_limits(call.args[1:])
    value, error = source.value.double(), largest_errors(call, source)
    terms = torch.where(value < low - error, abs(low), source.terms)
    terms = torch.where(value > high + error, abs(high), terms)
    return effect_of(terms, source.degree, max(source.roundings, *map(roundings_of, (low, high))))


def clamped_backward(name: str, call: Call) -> Effect:
    """Follow a gradient that passes between two limits."""
    demand_floats(name, call)
    grad, source, low, high = *call.args[:2], *_limits(call.args[2:])
    value = source.value.double()
    distance = torch.minimum((value - low).abs(), (value - high).abs())
    inside = (value > low) & (value < high)
    return _passed_on(call, grad, inside, distance <= largest_errors(call, source))


def _limits(given: tuple[float, ...]) -> tuple[float, float]:
    """Return the limits of a hard tanh, −1 and 1 where they are not given."""
    low, high = (*given, *(-1.0, 1.0)[len(given) :])
    return low, high


def _passed_on(call: Call, grad: Seen, passes: Tensor, doubtful: Tensor) -> Effect:
    """Follow a gradient that passes or not; where the error leaves that in doubt, it may be there or not."""
    roundings = grad.roundings + 1
    # Of a void bound the terms themselves are left, by which a finer unit is judged.
    whole = grad.terms / min(max(gamma(roundings, call.unit), call.unit), 1.0)
    return effect_of(torch.where(doubtful, whole, grad.terms * passes), grad.degree, roundings)


def error_function(name: str, call: Call) -> Effect:
    """Erf: its slope within the error of the argument carries that error on, and is small far from zero."""
    demand_floats(name, call)
    source = call.args[0]
    nearest = (source.value.double().abs() - largest_errors(call, source)).nan_to_num(0.0, posinf=math.inf)
    slope = 2 / math.sqrt(math.pi) * torch.exp(-nearest.clamp_min(0).square())
    terms = call.result.abs().double() + slope * source.terms
    return effect_of(terms, source.degree, source.roundings + 4)


def gelu(name: str, call: Call) -> Effect:
    """GELU, x·Φ(x): its slope carries the error of the argument on; Φ is a sum with terms 1/2 and erf/2."""
    demand_floats(name, call)
    demand_erf(name, call)
    source = call.args[0]
    value = source.value.double()
    slope = _gelu_slope(value).abs() + _GELU_CURVATURE * largest_errors(call, source)
    terms = slope.clamp_max(_GELU_SLOPE) * source.terms + value.abs() * _normal_terms(value)
    return effect_of(terms, source.degree, source.roundings + _GELU_ROUNDINGS)


def gelu_backward(name: str, call: Call) -> Effect:
    """Φ(x) + x·φ(x) times the gradient; the exponent of φ is rounded as well, hence 1 + x²."""
    demand_floats(name, call)
    demand_erf(name, call)
    grad, source = call.args[:2]
    value = source.value.double()
    own = _normal_terms(value) + value.abs() * _normal_density(value) * (1 + value.square())
    return effect_of(
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
