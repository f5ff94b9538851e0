"""Expectation: what a reference computes on given inputs, and how far rounding may lead away from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.inputs import (
    Specs,
    Tensors,
    differentiable,
    draw_inputs,
    draw_integers,
    draw_wide_integers,
    other_values,
    seed_of,
)
from harness.bench.pages import Implementation, Scope
from harness.paper.errors import SameopError

# The output of a call that nobody asks for gradients: programs may take another path there.
PLAIN = "output without gradients"


@dataclass
class Expected:
    """What the reference computes on one set of inputs, and how far rounding may lead away from it.

    kind is ``integers``, ``wide integers`` or ``floats``; drawn_as the dtype whose values the inputs take;
    ``share`` that of the wide integers which are not zero. ``limits`` holds one tensor per result, zero for
    exactness; ``informative`` says whether the limits could refute anything; ``rounding`` bounds what an
    inexact kernel may be off on the integers; ``whole`` bounds the norm of the error as a share of the
    result's; ``bounded`` says whether the limits are derived, and not the free ones for a reference that
    cannot be followed.
    """

    kind: str
    dtype: str
    drawn_as: str
    seed: int
    magnitude: int = 0
    share: float = 1.0
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


def inputs_of(scope: Scope, dims: Dims, dtype: str, device: str) -> Tensors:
    """Draw the inputs that are timed: the same for every implementation of a scope."""
    return draw_inputs(scope.inputs(dims), seed(scope, dims), getattr(torch, dtype), device)


def cotangent_of(scope: Scope, dims: Dims, dtype: str, device: str) -> Tensor:
    """Draw the cotangent of a training call that is timed: that of the check on floats."""
    expected = Expected("floats", dtype, dtype, seed(scope, dims))
    return draw_cotangent(
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
    tensors = draw(scope.inputs(dims), expected, device)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    cotangent = draw_cotangent(scope.output(dims), expected, next(iter(tensors.values())))
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
        results = differentiate_call(scope, dims, function, tensors, cotangent)
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


def compute(scope: Scope, dims: Dims, device: str, expected: Expected) -> Tensors:
    """Compute values and gradients by the reference."""
    tensors = draw(scope.inputs(dims), expected, device)
    cotangent = draw_cotangent(scope.output(dims), expected, next(iter(tensors.values())))
    results = differentiate_call(scope, dims, bind(scope, scope.reference, dims), tensors, cotangent)
    demand_declared_shape(scope, dims, results)
    return {**results, PLAIN: results["output"]}


def demand_declared_shape(scope: Scope, dims: Dims, results: Tensors) -> None:
    """Raise :class:`SameopError` where a reference computes another shape than its page declares."""
    declared, found = list(scope.output(dims)), list(results["output"].shape)
    if declared != found:
        raise SameopError(
            f"{scope.operator.name}/{scope.name} declares an output of shape {declared} at {dims!r}, "
            f"its reference computes {found}: correct `output`."
        )


def differentiate_call(
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


def draw(specs: Specs, expected: Expected, device: str) -> Tensors:
    """Draw the inputs of a check."""
    dtype = getattr(torch, expected.dtype)
    if expected.kind == "wide integers":
        return draw_wide_integers(specs, expected.magnitude, expected.share, expected.seed, dtype, device)
    if expected.kind == "integers":
        return draw_integers(specs, expected.magnitude, expected.seed, dtype, device)
    # Cast through the dtype that is measured, so that the inputs themselves carry no error.
    measured = draw_inputs(specs, expected.seed, getattr(torch, expected.drawn_as))
    return {name: tensor.to(dtype).to(device) for name, tensor in measured.items()}


def draw_cotangent(shape: tuple[int, ...], expected: Expected, like: Tensor) -> Tensor:
    """Draw what a check multiplies the gradients with; ones of either sign beside wide integers."""
    generator = torch.Generator().manual_seed(expected.seed + 1)
    if expected.kind == "wide integers":
        values = (2 * torch.randint(0, 2, shape, generator=generator) - 1).double()
    elif expected.kind == "integers":
        high = expected.magnitude + 1
        values = torch.randint(-expected.magnitude, high, shape, generator=generator).double()
    else:
        values = torch.randn(shape, generator=generator).to(getattr(torch, expected.drawn_as))
    return values.to(like.dtype).to(like.device)


def seed(scope: Scope, dims: Dims) -> int:
    """Return the seed of a scope's inputs at given dimensions."""
    return seed_of(scope.operator.name, scope.name, repr(dims))
