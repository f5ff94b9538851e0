"""Expectation: what a reference computes on given inputs, and how far rounding may lead away from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.inputs import (
    Specs,
    Tensors,
    differentiable,
    draw_inputs,
    draw_integers,
    other_values,
    seed_of,
)
from harness.bench.pages import Implementation, Scope
from harness.bench.proof.certificate import Analysis, follow
from harness.bench.proof.rules import RULES, gamma
from harness.bench.proof.shadow import RefusedError, Shadow
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

# The output of a call that nobody asks for gradients: programs may take another path there.
PLAIN = "output without gradients"

_SIGNIFICAND_BITS = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}


@dataclass
class Expected:
    """What the reference computes on one set of inputs, and how far rounding may lead away from it.

    kind is ``integers`` or ``floats``; drawn_as the dtype whose values the inputs take. ``limits``
    holds one tensor per result, zero for exactness; ``informative`` says whether the limits could
    refute anything; ``rounding`` bounds what an inexact kernel may be off on the integers; ``whole``
    bounds the norm of the error as a share of the result's; ``bounded`` says whether the limits are
    derived, and not the free ones for a reference that cannot be followed.
    """

    kind: str
    dtype: str
    drawn_as: str
    seed: int
    magnitude: int = 0
    values: Tensors = field(default_factory=dict)
    limits: Tensors = field(default_factory=dict)
    informative: bool = True
    rounding: float = 0.0
    whole: float = math.inf
    bounded: bool = True


@dataclass(frozen=True)
class Evaluation:
    """What an implementation computed on the inputs of a check, or what it did that none may do."""

    results: Tensors
    misdeed: str | None = None


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
    # Roundings grow with the unit roundoff, so a study at float32's also bounds float64.
    fine = _expect_floats(scope, dims, ("float64", "float32"), device, drawn_as=dtype)
    if not scope.polynomial or dtype == "float64":
        checks.append(fine["float64"])
    if dtype == "float32":
        checks.append(fine["float32"])
    elif dtype != "float64":
        checks.append(_expect_floats(scope, dims, (dtype,), device, drawn_as=dtype)[dtype])
    return checks


def inputs_of(scope: Scope, dims: Dims, dtype: str, device: str) -> Tensors:
    """Draw the inputs that are timed: the same for every implementation of a scope."""
    return draw_inputs(scope.inputs(dims), seed(scope, dims), getattr(torch, dtype), device)


def cotangent_of(scope: Scope, dims: Dims, dtype: str, device: str) -> Tensor:
    """Draw the cotangent of a training call that is timed: that of the check on floats."""
    expected = Expected("floats", dtype, dtype, seed(scope, dims))
    return _cotangent(
        scope.output(dims), expected, torch.empty((), dtype=getattr(torch, dtype), device=device)
    )


def bind(scope: Scope, implementation: Implementation, dims: Dims) -> Callable[[Tensors], Tensor]:
    """Return the implementation as a function of its named inputs alone."""
    options = dict(scope.options(dims))
    return lambda tensors: implementation.function(**tensors, **options)


def evaluate(
    scope: Scope, implementation: Implementation, dims: Dims, device: str, expected: Expected
) -> Evaluation:
    """Compute values and gradients on the inputs of a check, and watch what else happens."""
    tensors = _draw(scope.inputs(dims), expected, device)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    cotangent = _cotangent(scope.output(dims), expected, next(iter(tensors.values())))
    function = bind(scope, implementation, dims)
    for name in differentiable(scope.inputs(dims), tensors):
        # A copy of a leaf, because autograd lets no program edit a leaf: that it does is what we look for.
        tensors[name] = tensors[name].requires_grad_().clone()
    with other_values(tensors.values()):
        function(tensors)
    state = _random_state(device)
    copies = {name: tensor.clone() for name, tensor in before.items()}
    with torch.no_grad():
        plain = function(copies)
    edited = _edited(copies, before)
    if edited is None:
        results = _differentiate(scope, dims, function, tensors, cotangent)
        results[PLAIN] = plain.detach()
        edited = _edited(tensors, before)
    if edited is not None:
        return Evaluation({}, f"the implementation changes its input {edited}")
    # A compiler may draw random numbers of its own while it compiles.
    if implementation.kind != "compiled" and not torch.equal(state, _random_state(device)):
        return Evaluation(results, "the implementation draws random numbers")
    return Evaluation(results)


def _edited(tensors: Tensors, before: Tensors) -> str | None:
    """Name the first input that is no longer what it was."""
    changed = (name for name, tensor in tensors.items() if not torch.equal(tensor.detach(), before[name]))
    return next(changed, None)


def _random_state(device: str) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.startswith("cuda") else torch.get_rng_state()


def _compute(scope: Scope, dims: Dims, device: str, expected: Expected) -> Tensors:
    """Compute values and gradients by the reference."""
    tensors = _draw(scope.inputs(dims), expected, device)
    cotangent = _cotangent(scope.output(dims), expected, next(iter(tensors.values())))
    results = _differentiate(scope, dims, bind(scope, scope.reference, dims), tensors, cotangent)
    _demand_declared_shape(scope, dims, results)
    return {**results, PLAIN: results["output"]}


def _demand_declared_shape(scope: Scope, dims: Dims, results: Tensors) -> None:
    declared, found = list(scope.output(dims)), list(results["output"].shape)
    if declared != found:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} declares an output of shape {declared} at {dims!r}, "
            f"its reference computes {found}: correct `output`."
        )


def _differentiate(
    scope: Scope,
    dims: Dims,
    function: Callable[[Tensors], Tensor],
    tensors: Tensors,
    cotangent: Tensor,
) -> Tensors:
    """Return the output and the vector-Jacobian product with respect to every input that takes one.

    Only the output, where no gradient can be taken: it takes none, or has another shape than declared.
    """
    names = differentiable(scope.inputs(dims), tensors)
    for name in names:
        tensors[name].requires_grad_()
    output = function(tensors)
    if not isinstance(output, Tensor):
        raise SameopError(
            f"{scope.operator.name}/{scope.name} was computed as a {type(output).__name__}: "
            "return one tensor."
        )
    results = {"output": output.detach()}
    if output.requires_grad and output.shape == cotangent.shape:
        wanted = [tensors[name] for name in names]
        found = torch.autograd.grad(output, wanted, cotangent, allow_unused=True)
        for name, gradient in zip(names, found, strict=True):
            results[f"gradient of {name}"] = (
                torch.zeros_like(tensors[name]) if gradient is None else gradient
            ).detach()
    return results


def _draw(specs: Specs, expected: Expected, device: str) -> Tensors:
    dtype = getattr(torch, expected.dtype)
    if expected.kind == "integers":
        return draw_integers(specs, expected.magnitude, expected.seed, dtype, device)
    # Cast through the dtype that is measured, so that the inputs themselves carry no error.
    measured = draw_inputs(specs, expected.seed, getattr(torch, expected.drawn_as))
    return {name: tensor.to(dtype).to(device) for name, tensor in measured.items()}


def _cotangent(shape: tuple[int, ...], expected: Expected, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(expected.seed + 1)
    if expected.kind == "integers":
        high = expected.magnitude + 1
        values = torch.randint(-expected.magnitude, high, shape, generator=generator).double()
    else:
        values = torch.randn(shape, generator=generator).to(getattr(torch, expected.drawn_as))
    return values.to(like.dtype).to(like.device)


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
    expected.values = _compute(scope, dims, device, wide)
    expected.limits = {name: torch.zeros(()) for name in expected.values}
    return expected


def _magnitude(analysis: Analysis, dtype: str) -> int:
    room: float = 2.0 ** _SIGNIFICAND_BITS[dtype] / analysis.majorant
    return min(2**20, int(room ** (1 / analysis.degree)))


def _analyse(scope: Scope, dims: Dims) -> Analysis:
    shapes = {name: spec.shape for name, spec in scope.inputs(dims).items()}
    try:
        return follow(bind(scope, scope.reference, dims), shapes, seed=0, vjp=True)
    except RefusedError as refusal:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} is declared a polynomial with integer coefficients, but in "
            f"its reference {refusal}: rewrite the reference, or leave `polynomial` out."
        ) from None


def _expect_floats(
    scope: Scope, dims: Dims, dtypes: tuple[str, ...], device: str, drawn_as: str
) -> dict[str, Expected]:
    """Study the reference once, at the coarsest of the dtypes, and bound each dtype by it."""
    blank = Expected("floats", "float64", drawn_as, seed(scope, dims))
    try:
        study = _study(scope, dims, _unit(dtypes[-1]), device, blank)
    except RefusedError:
        values = _compute(scope, dims, device, blank)
        checks = [_unbounded(replace(blank, dtype=dtype, values=values)) for dtype in dtypes]
    else:
        checks = [_bounded(replace(blank, dtype=dtype), study) for dtype in dtypes]
        # Behind several norms a derived bound may be too wide even for float64, which then judges without it.
        checks = [
            check if check.informative or check.dtype != "float64" else _unbounded(check) for check in checks
        ]
    return {check.dtype: _widened(scope, dims, device, check) for check in checks}


def _widened(scope: Scope, dims: Dims, device: str, expected: Expected) -> Expected:
    """Allow twice what the reference itself is off in this dtype, where a unit may turn on or off."""
    if math.isinf(expected.whole) or expected.dtype not in scope.reference.dtypes:
        return expected
    own = _compute(scope, dims, device, expected)
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
    limits = {name: share * terms + underflow * (terms > 0) for name, terms in study.terms.items()}
    informative = share <= _INFORMATIVE and all(bool(limit.isfinite().all()) for limit in limits.values())
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
    shadow = Shadow(RULES, unit=unit, exact=False)
    tensors = _draw(scope.inputs(dims), wide, device)
    for name, tensor in tensors.items():
        shadow.track(name, tensor, tensor.abs())
    cotangent = _cotangent(scope.output(dims), wide, next(iter(tensors.values())))
    shadow.track("cotangent", cotangent, cotangent.abs())
    with shadow:
        results = _differentiate(scope, dims, bind(scope, scope.reference, dims), tensors, cotangent)
    _demand_declared_shape(scope, dims, results)
    seen = {name: shadow.see(result) for name, result in results.items()}
    terms = {name: found.terms.clone() for name, found in seen.items()}
    return _Study(
        values={**results, PLAIN: results["output"]},
        terms={**terms, PLAIN: terms["output"]},
        roundings=max(found.roundings for found in seen.values()),
    )


def seed(scope: Scope, dims: Dims) -> int:
    """Return the seed of a scope's inputs at given dimensions."""
    return seed_of(scope.operator.name, scope.name, repr(dims))


def _unit(dtype: str) -> float:
    """Return the unit roundoff of a dtype."""
    return 2.0 ** -_SIGNIFICAND_BITS[dtype]
