"""Limits: what a reference computes, and how far an implementation may be off by rounding alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.expectation import (
    PLAIN,
    Expected,
    bind,
    compute,
    demand_declared_shape,
    differentiate_call,
    draw,
    draw_cotangent,
    seed,
)
from harness.bench.inputs import Tensors
from harness.bench.pages import Scope
from harness.bench.proof.certificate import Analysis, follow
from harness.bench.proof.rules import RULES, gamma
from harness.bench.proof.shadow import RefusedError, Shadow, TooLargeError
from harness.paper.errors import SameopError

# A bound wider than this share of Σ|terms| would accept almost anything.
_INFORMATIVE = 0.01
# Where no bound can be derived, float64 must agree to this share of the largest value.
_UNBOUNDED_FLOAT64 = 1e-10
# Roundings that do not conspire add up like √n and not like n (Higham and Mary 2019, SIAM J. Sci.
# Comput. 41(5)): the error of a result as a whole stays below a few times √n·u of its norm. Half of
# the norm is where a result can no longer be told from another one.
_WHOLE_ERRORS, _WIDEST_WHOLE = 4.0, 0.5
# Zeros in place of a result are off by its whole norm, and must never pass.
_NOTHING_RIGHT = 0.9

_SIGNIFICAND_BITS = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}
# Odd integers up to this one need 13 bits: float32 holds them, TF32 (11 bits) and bfloat16 (8) do not.
_WIDE = 2**13 - 1
# What share of the other inputs is not zero, from the most that sums may allow.
_SHARES = (1.0, 2.0**-3, 2.0**-6, 2.0**-9)


@dataclass(frozen=True)
class _Study:
    """The reference followed in float64: its values, the terms of every result, and its roundings."""

    values: Tensors
    terms: Tensors
    roundings: float


def expectations(scope: Scope, dims: Dims, dtype: str, device: str) -> list[Expected]:
    """Run the reference and derive every check for implementations that run in ``dtype``.

    It follows the reference under a dispatch mode, so it must not run in a process that times anything.
    """
    checks = []
    if scope.polynomial:
        checks.append(_expect_integers(scope, dims, dtype, device))
        if dtype == "float32":
            checks += _expect_wide_integers(scope, dims, device)
    judged = ["float64"] if not scope.polynomial or dtype == "float64" else []
    if dtype == "float32":
        judged.append("float32")
    if judged:
        # Roundings grow with the unit roundoff, so a study at float32's also bounds float64.
        checks += _expect_floats(scope, dims, judged, _unit("float32"), device, drawn_as=dtype)
    if dtype not in ("float64", "float32"):
        checks += _expect_floats(scope, dims, [dtype], _unit(dtype), device, drawn_as=dtype)
    return checks


def _expect_integers(scope: Scope, dims: Dims, dtype: str, device: str) -> Expected:
    """Compute with the largest integers at which no sum can round.

    They are checked in ``dtype`` itself, or in float64 where so many terms meet that ``dtype`` would round.
    """
    analysis = _analyse(scope, dims)
    magnitude = _magnitude(analysis, dtype)
    if magnitude < 1 or dtype not in ("float32", "float64"):
        dtype, magnitude = "float64", _magnitude(analysis, "float64")
    if magnitude < 1:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} at {dims!r} sums so many terms that no integer stays exact "
            "in float64: declare a smaller workload."
        )
    rounding = 2 * gamma(analysis.roundings, _unit(dtype))
    expected = Expected(
        "integers",
        dtype,
        dtype,
        seed(scope, dims),
        magnitude,
        rounding=rounding * analysis.majorant * float(magnitude) ** analysis.degree,
    )
    wide = replace(expected, dtype="float64")
    expected.values = compute(scope, dims, device, wide)
    expected.limits = {name: torch.zeros(()) for name in expected.values}
    return expected


def _expect_wide_integers(scope: Scope, dims: Dims, device: str) -> list[Expected]:
    """Compute with integers that float32 holds and a coarser format does not, or return nothing.

    At large sums the integers that stay exact are so small that TF32, with its 11 bits, holds them too. Here
    activations are wide and all else is so sparse that the sums stay below 2²⁴. What is not zero at a small
    share is the same at a larger one, and terms grow with sizes: where the smallest share fails, all do.
    """
    first = _expect_share(scope, dims, device, _SHARES[0])
    if first is not None:
        return [first]
    last = _expect_share(scope, dims, device, _SHARES[-1])
    if last is None:
        return []
    between = (_expect_share(scope, dims, device, share) for share in _SHARES[1:-1])
    return [next(filter(None, between), last)]


def _expect_share(scope: Scope, dims: Dims, device: str, share: float) -> Expected | None:
    """Compute with wide integers where that share is not zero, or return None where a sum grows too large."""
    expected = Expected("wide integers", "float32", "float32", seed(scope, dims), _WIDE, share)
    wide = replace(expected, dtype="float64")
    tensors = draw(scope.inputs(dims), wide, device)
    shadow = Shadow(RULES, below=2.0 ** _SIGNIFICAND_BITS["float32"])
    try:
        results = _follow_drawn(scope, dims, shadow, tensors, wide)
    except TooLargeError:
        return None
    roundings = max(shadow.see(result).roundings for result in results.values())
    expected.rounding = 2 * gamma(roundings, _unit("float32")) * shadow.largest
    expected.values = {**results, PLAIN: results["output"]}
    expected.limits = {name: torch.zeros(()) for name in expected.values}
    return expected


def _magnitude(analysis: Analysis, dtype: str) -> int:
    room: float = 2.0 ** _SIGNIFICAND_BITS[dtype] / analysis.majorant
    return min(2**20, int(room ** (1 / analysis.degree)))


def _analyse(scope: Scope, dims: Dims) -> Analysis:
    shapes = {name: spec.shape for name, spec in scope.inputs(dims).items()}
    try:
        analysis = follow(bind(scope, scope.reference, dims), shapes, seed=0, vjp=True)
    except RefusedError as refusal:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} is declared a polynomial with integer coefficients, but in "
            f"its reference {refusal}: rewrite the reference, or leave `polynomial` out."
        ) from None
    # Nobody asks for its tensors, which may be large.
    return replace(analysis, results={}, bounds={})


def _expect_floats(
    scope: Scope, dims: Dims, dtypes: Sequence[str], unit: float, device: str, drawn_as: str
) -> list[Expected]:
    """Study the reference once, at a unit roundoff that no dtype exceeds, and bound each dtype by it."""
    blank = Expected("floats", "float64", drawn_as, seed(scope, dims))
    try:
        study = _study(scope, dims, unit, device, blank)
    except RefusedError:
        values = compute(scope, dims, device, blank)
        checks = [_unbounded(replace(blank, dtype=dtype, values=values)) for dtype in dtypes]
    else:
        checks = [_bounded(replace(blank, dtype=dtype), study) for dtype in dtypes]
        # Behind several norms a derived bound may be too wide even for float64, which then judges without it.
        checks = [
            check if check.informative or check.dtype != "float64" else _unbounded(check) for check in checks
        ]
    return [_widened(scope, dims, device, check) for check in checks]


def _widened(scope: Scope, dims: Dims, device: str, expected: Expected) -> Expected:
    """Allow twice what the reference itself is off in this dtype, where a unit may turn on or off."""
    if math.isinf(expected.whole) or expected.dtype not in scope.reference.dtypes:
        return expected
    own = compute(scope, dims, device, expected)
    shares = [
        float((own[name].double() - value).norm() / value.norm().clamp_min(1e-300))
        for name, value in expected.values.items()
    ]
    return replace(expected, whole=max(expected.whole, min(_NOTHING_RIGHT, 2 * max(shares))))


def _bounded(expected: Expected, study: _Study) -> Expected:
    # Twice the bound: both sides may round, in different orders.
    share = 2 * gamma(study.roundings, _unit(expected.dtype))
    # Each operation may also underflow (Higham, section 2.1), but none that has only zeros to work on.
    underflow = study.roundings * torch.finfo(getattr(torch, expected.dtype)).tiny
    limits = {
        name: (share * terms).add_(underflow * (terms > 0))
        for name, terms in study.terms.items()
        if name != PLAIN
    }
    informative = share <= _INFORMATIVE and all(map(_is_finite, limits.values()))
    limits[PLAIN] = limits["output"]
    # Only where the limits per element tell nothing: they are the sharper ones.
    whole = min(_WIDEST_WHOLE, _WHOLE_ERRORS * study.roundings**0.5 * _unit(expected.dtype))
    whole = math.inf if informative else whole
    return replace(expected, values=study.values, limits=limits, informative=informative, whole=whole)


def _unbounded(expected: Expected) -> Expected:
    """Limit what cannot be followed, for it has a step without a rule: only float64 can judge."""
    informative = expected.dtype == "float64"
    share = _UNBOUNDED_FLOAT64 if informative else 1.0
    limits = {name: share * value.abs().max() for name, value in expected.values.items()}
    return replace(expected, limits=limits, informative=informative, whole=_WIDEST_WHOLE, bounded=False)


def _study(scope: Scope, dims: Dims, unit: float, device: str, wide: Expected) -> _Study:
    tensors = draw(scope.inputs(dims), wide, device)
    shadow = Shadow(RULES, unit=unit, exact=False)
    results = _follow_drawn(scope, dims, shadow, tensors, wide)
    seen = {name: shadow.see(result) for name, result in results.items()}
    terms = {name: found.terms.clone() for name, found in seen.items()}
    return _Study(
        values={**results, PLAIN: results["output"]},
        terms={**terms, PLAIN: terms["output"]},
        roundings=max(found.roundings for found in seen.values()),
    )


def _is_finite(limit: Tensor) -> bool:
    """Whether every element is a finite number; a finite sum tells in one pass, as no limit is negative."""
    return math.isfinite(float(limit.sum())) or bool(limit.isfinite().all())


def _unit(dtype: str) -> float:
    """Return the unit roundoff of a dtype."""
    return 2.0 ** -_SIGNIFICAND_BITS[dtype]


def _follow_drawn(scope: Scope, dims: Dims, shadow: Shadow, tensors: Tensors, drawn: Expected) -> Tensors:
    """Follow the reference on inputs that were drawn, and their own sizes; values and gradients."""
    for name, tensor in tensors.items():
        shadow.track(name, tensor, tensor.abs())
    cotangent = draw_cotangent(scope.output(dims), drawn, next(iter(tensors.values())))
    shadow.track("cotangent", cotangent, cotangent.abs())
    with shadow:
        results = differentiate_call(scope, dims, bind(scope, scope.reference, dims), tensors, cotangent)
    demand_declared_shape(scope, dims, results)
    return results
