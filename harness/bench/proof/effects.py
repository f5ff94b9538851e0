"""Effects: terms, degrees and roundings of results, from those of arguments.

If every element went through at most n roundings, its error is at most γₙ·Σ|terms| with γₙ = n·u/(1 − n·u)
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), whatever the order of
summation.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof.degree import Degree
from harness.bench.proof.nesting import leaves
from harness.bench.proof.operation import Call, Effect, Seen, facts_of
from harness.bench.proof.refusal import RefusedError, demand_coefficient


def gamma(roundings: float, unit: float) -> float:
    """Return γₙ, the relative error that n roundings of the given unit roundoff can add up to."""
    product = roundings * unit
    return product / (1 - product) if product < 1 else math.inf


def effect_of(terms: Any, degree: Degree, roundings: float) -> Effect:
    """Return the effect of an operation whose results share a degree and their roundings."""
    found = [leaf for leaf in leaves(terms) if isinstance(leaf, Tensor)]
    return Effect(found, [degree] * len(found), roundings)


def effect_of_function(call: Call, degree: Degree, roundings: float) -> Effect:
    """Effect of a function whose result has a relative error: its terms are its own values."""
    return effect_of(call.result.abs().double(), degree, roundings)


def scaling_roundings(factor: float) -> int:
    """Count the roundings that a coefficient brings: its own, and that of the product."""
    return 0 if abs(factor) == 1 else 2


def largest_errors(call: Call, seen: Seen) -> Tensor:
    """Return the largest absolute error of every element; one without terms has none."""
    return (gamma(seen.roundings, call.unit) * seen.terms).nan_to_num(0.0, posinf=math.inf)


def largest_error(call: Call, seen: Seen) -> float:
    """Return the largest absolute error of a tensor."""
    return gamma(seen.roundings, call.unit) * float(seen.terms.max()) if seen.roundings else 0.0


def relative_roundings(call: Call, seen: Seen) -> float:
    """Return the largest relative error of a tensor, counted in roundings."""
    share = float((seen.terms / seen.value.abs().double()).max())
    return as_roundings(call, gamma(seen.roundings, call.unit) * share) if seen.roundings else 0.0


def as_roundings(call: Call, relative: float) -> float:
    """Count the roundings that a relative error is as large as."""
    return math.log1p(relative) / call.unit if relative < math.inf else math.inf


def capped_expm1(value: float) -> float:
    """Return exp(x) − 1, infinite where it overflows."""
    return math.expm1(value) if value < 700 else math.inf


def joined(seen: list[Seen]) -> Degree:
    """Return the degree of tensors side by side."""
    floats = [tensor.degree for tensor in seen if tensor.value.is_floating_point()]
    return reduce(Degree.join, floats) if floats else Degree()


def most_roundings(seen: list[Seen]) -> float:
    """Return the roundings of the tensor that went through most."""
    return max((tensor.roundings for tensor in seen), default=0.0)


def degree_of(factor: Any) -> Degree:
    """Return the degree of a tensor or of a plain number."""
    return factor.degree if isinstance(factor, Seen) else Degree.of_number(factor)


def roundings_of(factor: Any) -> float:
    """Return the roundings of a tensor or of a number; one that is no integer is rounded to the dtype."""
    if isinstance(factor, Seen):
        return factor.roundings
    return 0.0 if float(factor).is_integer() else 1.0


def terms_of(call: Call, factor: Any) -> Any:
    """Return the terms of a tensor or of a plain number."""
    if isinstance(factor, Seen):
        return factor.terms
    demand_exact_coefficient(call, factor)
    return abs(factor)


def finite(terms: Any) -> Any:
    """Return the terms, none where they are infinite: such an element is what a softmax leaves out."""
    if isinstance(terms, Tensor):
        return terms.nan_to_num(torch.nan, posinf=0.0)
    return terms if math.isfinite(terms) else 0.0


def demand_exact_coefficient(call: Call, value: float) -> None:
    """Refuse a coefficient that is too fine, where all have to be exact."""
    if call.exact:
        demand_coefficient(facts_of(call.op).name, value)


def demand_no_factor(name: str, call: Call) -> None:
    """Refuse an operation that scales what it adds."""
    factors = [call.kwargs.get(factor, 1) for factor in ("alpha", "beta")]
    if any(factor != 1 for factor in factors):
        raise RefusedError(f"{name} with a factor other than 1")


def demand_erf(name: str, call: Call) -> None:
    """Refuse a GELU that is only approximated."""
    approximation = call.kwargs.get("approximate", "none")
    if approximation != "none":
        raise RefusedError(f"{name} is approximated by {approximation}")


def demand_floats(name: str, call: Call) -> None:
    """Refuse a function where only polynomials are followed."""
    if call.exact:
        raise RefusedError(f"{name} is no polynomial")
