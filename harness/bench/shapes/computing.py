"""Computing: where a formula defines something, everybody computes it, in every layout of the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.expectation import bind, seed
from harness.bench.inputs import Tensors, differentiable, draw_inputs, draw_integers
from harness.bench.pages import Implementation, Scope
from harness.bench.shapes.breach import BreachError, attempt
from harness.bench.shapes.layouts import LAYOUTS

# Products of a few of them, summed over maps of a hundred positions, stay far below 2⁵³: nothing rounds.
_MAGNITUDE = 3
# At these sizes a result meets some thousand roundings of 2⁻⁵³, and the inverse root of a variance that is
# zero but for its epsilon enlarges them by up to 10³: 10⁻⁹ of the largest value leaves room for both, and
# for no tap, index or normalisation that is wrong.
_SHARE_OF_LARGEST = 1e-9
# A gradient that vanishes identically has no size of its own; it takes this share of the largest result's.
_SMALLEST_SIZE = 1e-3
_HALVES = ("bfloat16", "float16")


def demand_computed(scope: Scope, dims: Dims) -> None:
    """Raise :class:`BreachError` unless everything computes the same at dimensions that are not refused.

    That is, in float64: the output's shape as declared, finite values and gradients, and equal ones by
    every eager implementation for the CPU that takes these dimensions, in every layout of the inputs; of
    the reference finite values in the half precisions; and of the costs those that need no counter.
    """
    tensors = _drawn(scope, dims)
    wanted = _Call(scope, scope.reference, dims).results(tensors)
    for name, values in wanted.items():
        if not bool(values.isfinite().all()):
            raise BreachError(scope, dims, f"the {name} of the reference is not finite")
    _demand_costs(scope, dims)
    for call in _calls(scope, dims):
        call.demand_equal(call.results(tensors), wanted)
    for dtype in (dtype for dtype in _HALVES if dtype in scope.reference.dtypes):
        _demand_finite_in(scope, dims, dtype)


@dataclass(frozen=True)
class _Call:
    """One implementation at given dimensions, called with inputs in a layout of the memory."""

    scope: Scope
    implementation: Implementation
    dims: Dims
    layout: str = "contiguous"

    @property
    def name(self) -> str:
        return f"{self.implementation.name} with {self.layout} inputs"

    def results(self, tensors: Tensors) -> Tensors:
        """Return the output and the gradients, of the shapes that are declared."""
        lay = LAYOUTS[self.layout]
        leaves = {name: lay(tensor).detach() for name, tensor in tensors.items()}
        takes = differentiable(self.scope.inputs(self.dims), leaves)
        for name in takes:
            leaves[name].requires_grad_()
        output = self._output(leaves)
        results = {"output": output.detach()}
        if output.requires_grad:
            wanted = [leaves[name] for name in takes]
            cotangent = lay(_cotangent(self.scope, self.dims, output))
            found = attempt(
                self.scope,
                self.dims,
                f"the gradient of {self.name}",
                lambda: torch.autograd.grad(output, wanted, cotangent, allow_unused=True),
            )
            for leaf, name, gradient in zip(wanted, takes, found, strict=True):
                results[f"gradient of {name}"] = torch.zeros_like(leaf) if gradient is None else gradient
        return results

    def _output(self, leaves: Tensors) -> Tensor:
        function = bind(self.scope, self.implementation, self.dims)
        output = attempt(self.scope, self.dims, self.name, lambda: function(leaves))
        declared = tuple(self.scope.output(self.dims))
        if tuple(output.shape) != declared:
            found = f"{self.name} computes {list(output.shape)}, the output is declared as {list(declared)}"
            raise BreachError(self.scope, self.dims, found)
        return output

    def demand_equal(self, found: Tensors, wanted: Tensors) -> None:
        """Raise :class:`BreachError` unless the results are those of the reference."""
        largest = max(map(_largest, wanted.values()))
        for name, values in wanted.items():
            size = max(_largest(values), _SMALLEST_SIZE * largest)
            limit = 0.0 if self.scope.polynomial else _SHARE_OF_LARGEST * size
            actual = found.get(name, torch.tensor(math.nan))
            # A NaN compares as nothing, so that it is never within the limit.
            if not bool(((actual - values).abs() <= limit).all()):
                raise BreachError(self.scope, self.dims, self._difference(name, actual, values, limit))

    def _difference(self, name: str, actual: Tensor, wanted: Tensor, limit: float) -> str:
        errors = (actual - wanted).abs().nan_to_num(nan=math.inf).expand(wanted.shape)
        place = tuple(int(index) for index in torch.unravel_index(errors.argmax(), wanted.shape))
        return (
            f"the {name} of {self.name} is off by {float(errors[place]):.3g} at {list(place)}, where the "
            f"reference has {float(wanted[place]):.6g}; the limit is {limit:.3g}"
        )


def _calls(scope: Scope, dims: Dims) -> Iterator[_Call]:
    """Pair every eager implementation that takes these dimensions on the CPU with every layout."""
    for implementation in scope.implementations.values():
        eager = implementation.kind == "eager" and "cpu" in implementation.devices
        if eager and "float64" in implementation.dtypes and _takes(scope, implementation, dims):
            yield from (_Call(scope, implementation, dims, layout) for layout in LAYOUTS)


def _takes(scope: Scope, implementation: Implementation, dims: Dims) -> bool:
    what = f"whether {implementation.name} supports it"
    return attempt(scope, dims, what, lambda: implementation.refusal(dims)) is None


def _drawn(scope: Scope, dims: Dims) -> Tensors:
    """Draw integers where agreement is exact, and otherwise what the page says of its inputs."""
    specs = scope.inputs(dims)
    if scope.polynomial:
        return draw_integers(specs, _MAGNITUDE, seed(scope, dims), torch.float64)
    return draw_inputs(specs, seed(scope, dims), torch.float64)


def _cotangent(scope: Scope, dims: Dims, like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(seed(scope, dims) + 1)
    if scope.polynomial:
        values = torch.randint(-_MAGNITUDE, _MAGNITUDE + 1, like.shape, generator=generator)
        return values.to(like.dtype)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def _demand_costs(scope: Scope, dims: Dims) -> None:
    """Demand the costs that the shapes of inputs and output give: learned numbers, elements moved."""
    cost = attempt(scope, dims, "its cost", lambda: scope.cost(dims))
    for name, found in scope.costs_of_shapes(dims).items():
        if getattr(cost, name) != found:
            told = f"its cost has {getattr(cost, name)} {name}, its shapes give {found}"
            raise BreachError(scope, dims, told)


def _demand_finite_in(scope: Scope, dims: Dims, dtype: str) -> None:
    tensors = draw_inputs(scope.inputs(dims), seed(scope, dims), getattr(torch, dtype))
    what = f"the reference in {dtype}"
    with torch.no_grad():
        output = attempt(scope, dims, what, lambda: bind(scope, scope.reference, dims)(tensors))
    if str(output.dtype) != f"torch.{dtype}":
        raise BreachError(scope, dims, f"{what} computes {output.dtype}")
    if not bool(output.isfinite().all()):
        raise BreachError(scope, dims, f"{what} is not finite for moderate inputs")


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
