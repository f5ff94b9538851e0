"""Agreement: an implementation equals its reference, in values and in gradients.

Where a scope is a polynomial both sides run on integers so small that nothing rounds, and must be
bitwise equal. Elsewhere, and again on the very inputs that are timed, the difference must be explained
by rounding: it may not exceed γₙ·Σ|terms|, a bound that is derived from the reference and has no free
tolerance. Where that bound is too wide to tell anything, a comparison in float64 decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.inputs import Specs, Tensors, differentiable, draw_inputs, draw_integers, seed_of
from harness.bench.pages import Implementation, Scope
from harness.bench.proof.certificate import Analysis, follow
from harness.bench.proof.rules import RULES, gamma
from harness.bench.proof.shadow import Refused, Shadow
from harness.paper.errors import SameopError
from harness.paper.record import Agreement

# A bound wider than this share of Σ|terms| would accept almost anything.
_INFORMATIVE = 0.01
# Where no bound can be derived, float64 must agree to this share of the largest value.
_UNBOUNDED_FLOAT64 = 1e-10

_SIGNIFICAND_BITS = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}


@dataclass
class Expected:
    """What the reference computes on one set of inputs, and how far rounding may lead away from it.

    kind is ``integers`` or ``floats``; drawn_as the dtype whose values the inputs take. ``limits``
    holds one tensor per result, zero for exactness; ``informative`` says whether the limits could
    refute anything; ``rounding`` bounds what an inexact kernel may be off on the integers.
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


@dataclass
class Judge:
    """Decides whether an implementation of a scope agrees with its reference at given dimensions."""

    scope: Scope
    dims: Dims
    device: str
    checks: list[Expected]

    def judge(self, implementation: Implementation) -> Agreement:
        """Run every check that the implementation supports; the first that fails decides."""
        evidence: list[dict[str, Any]] = []
        for expected in self._checks_for(implementation):
            found = evaluate(self.scope, implementation, self.dims, self.device, expected)
            entry, failure = _compare(expected, found)
            evidence.append(entry)
            if failure and not self._is_inexact_kernel(implementation, expected, entry):
                return Agreement(False, _level(expected), failure, {"checks": evidence})
        if not any(entry["informative"] for entry in evidence):
            reason = "no check that ran could have refuted it: let the implementation support float64"
            return Agreement(False, "L0", reason, {"checks": evidence})
        exact = any(check["kind"] == "integers" for check in evidence)
        return Agreement(True, "exact on integers" if exact else "L0", None, {"checks": evidence})

    def _checks_for(self, implementation: Implementation) -> list[Expected]:
        return [check for check in self.checks if check.dtype in implementation.dtypes]

    def _is_inexact_kernel(
        self, implementation: Implementation, expected: Expected, entry: dict[str, Any]
    ) -> bool:
        """Whether integers differ only because the kernel rounds, as Winograd and FFT kernels do.

        Then the error lies within the rounding bound, and float64, which has no such kernels, is exact.
        """
        if expected.kind != "integers" or expected.dtype == "float64":
            return False
        if entry["largest_error"] > expected.rounding or "float64" not in implementation.dtypes:
            return False
        entry["note"] = "the kernel is not exact on integers; its error lies within the rounding bound"
        exact = replace(expected, dtype="float64")
        found = evaluate(self.scope, implementation, self.dims, self.device, exact)
        return _compare(exact, found)[1] is None


def prepare(scope: Scope, dims: Dims, dtype: str, device: str) -> Judge:
    """Run the reference and derive every limit.

    It follows the reference under a dispatch mode, so it must not run in a process that times anything.
    """
    checks = []
    if scope.polynomial:
        exact_in = dtype if dtype in ("float32", "float64") else "float64"
        checks.append(_expect_integers(scope, dims, exact_in, device))
    elif dtype != "float64":
        checks.append(_expect_floats(scope, dims, "float64", device, drawn_as=dtype))
    checks.append(_expect_floats(scope, dims, dtype, device, drawn_as=dtype))
    return Judge(scope, dims, device, checks)


def inputs_of(scope: Scope, dims: Dims, dtype: str, device: str) -> Tensors:
    """Draw the inputs that are timed: the same for every implementation of a scope."""
    return draw_inputs(scope.inputs(dims), _seed(scope, dims), getattr(torch, dtype), device)


def bind(scope: Scope, implementation: Implementation, dims: Dims) -> Callable[[Tensors], Tensor]:
    """Return the implementation as a function of its named inputs alone."""
    options = dict(scope.options(dims))
    return lambda tensors: implementation.function(**tensors, **options)


def evaluate(
    scope: Scope, implementation: Implementation, dims: Dims, device: str, expected: Expected
) -> Tensors:
    """Compute values and gradients on the inputs of a check."""
    tensors = _draw(scope.inputs(dims), expected, device)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    results = _results(scope, bind(scope, implementation, dims), dims, tensors, expected)
    for name, tensor in tensors.items():
        if not torch.equal(tensor.detach(), before[name]):
            results[f"input {name} after the call"] = tensor.detach()
    return results


def _results(
    scope: Scope,
    function: Callable[[Tensors], Tensor],
    dims: Dims,
    tensors: Tensors,
    expected: Expected,
) -> Tensors:
    names = differentiable(scope.inputs(dims), tensors)
    for name in names:
        tensors[name].requires_grad_()
    output = function(tensors)
    results = {"output": output.detach()}
    if output.requires_grad:
        cotangent = _cotangent(scope.output(dims), expected, output)
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


def _cotangent(shape: tuple[int, ...], expected: Expected, output: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(expected.seed + 1)
    if expected.kind == "integers":
        high = expected.magnitude + 1
        values = torch.randint(-expected.magnitude, high, shape, generator=generator).double()
    else:
        values = torch.randn(shape, generator=generator).to(getattr(torch, expected.drawn_as))
    return values.to(output.dtype).to(output.device)


def _expect_integers(scope: Scope, dims: Dims, dtype: str, device: str) -> Expected:
    """Choose the largest integers at which no sum can round in ``dtype``, and compute with them."""
    analysis = _analyse(scope, dims)
    room = 2.0 ** _SIGNIFICAND_BITS[dtype] / analysis.majorant
    magnitude = min(2**20, int(room ** (1 / analysis.degree)))
    if magnitude < 1:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} at {dims!r} sums so many terms that no integer stays exact "
            f"in {dtype}: declare a smaller workload."
        )
    rounding = 2 * gamma(analysis.roundings, 2.0 ** -_SIGNIFICAND_BITS[dtype])
    expected = Expected(
        "integers",
        dtype,
        dtype,
        _seed(scope, dims),
        magnitude,
        rounding=rounding * analysis.majorant * float(magnitude) ** analysis.degree,
    )
    wide = replace(expected, dtype="float64")
    expected.values = evaluate(scope, scope.reference, dims, device, wide)
    expected.limits = {name: torch.zeros(()) for name in expected.values}
    return expected


def _analyse(scope: Scope, dims: Dims) -> Analysis:
    shapes = {name: spec.shape for name, spec in scope.inputs(dims).items()}
    try:
        return follow(bind(scope, scope.reference, dims), shapes, seed=0, vjp=True)
    except Refused as refusal:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} is declared a polynomial with integer coefficients, but in "
            f"its reference {refusal}: rewrite the reference, or leave `polynomial` out."
        ) from None


def _expect_floats(scope: Scope, dims: Dims, dtype: str, device: str, drawn_as: str) -> Expected:
    expected = Expected("floats", dtype, drawn_as, _seed(scope, dims))
    wide = replace(expected, dtype="float64")
    expected.values = evaluate(scope, scope.reference, dims, device, wide)
    try:
        expected.limits, share = _limits(scope, dims, dtype, device, wide)
        expected.informative = share <= _INFORMATIVE
    except Refused:
        # The reference has a step without a rule: only float64 is precise enough to judge by.
        expected.informative = dtype == "float64"
        share = _UNBOUNDED_FLOAT64 if expected.informative else 1.0
        scale = {name: float(value.abs().max()) for name, value in expected.values.items()}
        expected.limits = {name: torch.tensor(share * size) for name, size in scale.items()}
    return expected


def _limits(scope: Scope, dims: Dims, dtype: str, device: str, wide: Expected) -> tuple[Tensors, float]:
    """Follow the reference and turn roundings and terms into one limit per element."""
    unit = 2.0 ** -_SIGNIFICAND_BITS[dtype]
    shadow = Shadow(RULES, unit=unit, exact=False)
    tensors = _draw(scope.inputs(dims), wide, device)
    for name, tensor in tensors.items():
        shadow.track(name, tensor, tensor.abs())
    cotangent = _cotangent(scope.output(dims), wide, next(iter(tensors.values())))
    shadow.track("cotangent", cotangent, cotangent.abs())
    names = differentiable(scope.inputs(dims), tensors)
    program = bind(scope, scope.reference, dims)
    with shadow:
        for name in names:
            tensors[name].requires_grad_()
        output = program(tensors)
        gradients = torch.autograd.grad(output, [tensors[n] for n in names], cotangent, allow_unused=True)
    limits, widest = {}, 0.0
    for name, result in [
        ("output", output),
        *zip((f"gradient of {n}" for n in names), gradients, strict=True),
    ]:
        if result is None:
            limits[name] = torch.zeros(())
            continue
        seen = shadow.see(result.detach())
        # Twice the bound: both sides may round, in different orders.
        share = 2 * gamma(seen.roundings, unit)
        limits[name], widest = share * seen.terms.clone(), max(widest, share)
    return limits, widest


def _compare(expected: Expected, found: Tensors) -> tuple[dict[str, Any], str | None]:
    """Return the evidence of one check, and a sentence about the worst element if it fails."""
    entry: dict[str, Any] = {
        "kind": expected.kind,
        "dtype": expected.dtype,
        "informative": expected.informative,
        "results": list(found),
        "magnitude": expected.magnitude or None,
        "largest_error": 0.0,
        "largest_share_of_limit": 0.0,
    }
    failure = None
    for name, actual in found.items():
        if name not in expected.values:
            return entry, f"the implementation changes its inputs: {name} differs from before"
        failure = failure or _compare_one(name, actual, expected, entry)
    return entry, failure


def _compare_one(name: str, actual: Tensor, expected: Expected, entry: dict[str, Any]) -> str | None:
    wanted = expected.values[name]
    if actual.shape != wanted.shape:
        return f"the {name} has shape {list(actual.shape)}, the reference has {list(wanted.shape)}"
    if not actual.numel():
        return None
    limit = expected.limits[name].to(wanted.device).expand(wanted.shape)
    error = (actual.double() - wanted).abs()
    # A NaN is an error without bound; written so that it never compares as small.
    error = torch.where(torch.isnan(error), torch.inf, error)
    entry["largest_error"] = max(entry["largest_error"], float(error.max()))
    excess = torch.where(error > limit, error - limit, -1.0)
    if float(excess.max()) < 0:
        shares = torch.where(limit > 0, error / limit, 0.0)
        entry["largest_share_of_limit"] = max(entry["largest_share_of_limit"], float(shares.max()))
        return None
    place = torch.unravel_index(excess.argmax(), wanted.shape)
    index = tuple(int(i) for i in place)
    allowed = "must be exact" if expected.kind == "integers" else f"at most {float(limit[index]):.3g}"
    return (
        f"{name}{list(index)} is {float(actual[index]):.9g}, the reference has {float(wanted[index]):.9g}: "
        f"the error is {float(error[index]):.3g}, allowed is {allowed} ({expected.kind}, {expected.dtype})"
    )


def _level(expected: Expected) -> str:
    return "exact on integers" if expected.kind == "integers" else "L0"


def _seed(scope: Scope, dims: Dims) -> int:
    return seed_of(scope.operator.name, scope.name, repr(dims))


def describe_inputs(scope: Scope, dims: Dims) -> Mapping[str, Any]:
    """Return what a record says of the inputs: seed, shapes, roles and distributions."""
    return {
        "seed": _seed(scope, dims),
        "tensors": {
            name: {"shape": list(spec.shape), "role": spec.role, "distribution": spec.distribution}
            for name, spec in scope.inputs(dims).items()
        },
    }


def save(judge: Judge) -> dict[str, Any]:
    """Return the judge's expectations in a form that torch.save writes and torch.load reads safely."""
    return {"checks": [asdict(check) for check in judge.checks]}


def restore(scope: Scope, dims: Dims, device: str, saved: Mapping[str, Any]) -> Judge:
    """Rebuild a judge from what :func:`save` returned."""
    return Judge(scope, dims, device, [Expected(**check) for check in saved["checks"]])
