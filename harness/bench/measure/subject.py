"""The subject of a measurement: one case made ready to be called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from harness.bench.catalog import Catalogue
from harness.bench.dims import Dims
from harness.bench.expectation import bind, cotangent_of, inputs_of
from harness.bench.inputs import Tensors, differentiable, other_values
from harness.bench.pages import Implementation, Scope
from harness.paper.record import CaseId


@dataclass
class Subject:
    """A case with its inputs on its device."""

    scope: Scope
    implementation: Implementation
    dims: Dims
    dtype: str
    device: str
    direction: str

    @classmethod
    def of(cls, catalogue: Catalogue, case: CaseId) -> Subject:
        """Find what a case id names."""
        scope = catalogue.operators[case.operator].scopes[case.scope]
        implementation = scope.implementations[case.implementation]
        dims = catalogue.workload(scope, case.workload).dims
        return cls(scope, implementation, dims, case.dtype, case.device, case.direction)

    def inputs(self) -> Tensors:
        """Draw the inputs that are timed."""
        return inputs_of(self.scope, self.dims, self.dtype, self.device)

    def timed_call(self) -> TimedCall:
        """Return what is timed: one forward call, or forward and backward."""
        inputs = self.inputs()
        function = bind(self.scope, self.implementation, self.dims)
        if self.direction == "forward":
            return TimedCall(partial(_forward, function, inputs), ("output",), list(inputs.values()))
        names = differentiable(self.scope.inputs(self.dims), inputs)
        wanted = [inputs[name].requires_grad_() for name in names]
        cotangent = cotangent_of(self.scope, self.dims, self.dtype, self.device)
        train = partial(_train, function, inputs, wanted, cotangent)
        results = tuple(f"gradient of {name}" for name in names)
        return TimedCall(train, results, [*inputs.values(), cotangent])


@dataclass(frozen=True)
class TimedCall:
    """What is timed, the names of its results, and the tensors that it reads."""

    run: Callable[[], object]
    names: tuple[str, ...]
    reads: list[Tensor]

    def rehearse(self) -> tuple[Tensors, str | None]:
        """Call on other values and then on the timed ones; return the results and what was done wrong.

        The values change beneath the tensors, as no version counter of autograd tells: a result that was
        kept from a former call cannot pass, whatever it was kept by.
        """
        with other_values(self.reads):
            other = self._named(self.run())
        results = self._named(self.run())
        kept = {result.untyped_storage().data_ptr() for result in other.values()}
        kept -= {tensor.untyped_storage().data_ptr() for tensor in self.reads}
        shared = any(result.untyped_storage().data_ptr() in kept for result in results.values())
        return (
            results,
            "two calls return the same memory, and the second overwrites the first" if shared else None,
        )

    def _named(self, results: object) -> Tensors:
        found = results if isinstance(results, tuple) else (results,)
        return {
            name: result
            for name, result in zip(self.names, found, strict=True)
            if isinstance(result, Tensor) and result.numel()
        }


def _forward(function: Callable[[Tensors], Tensor], inputs: Tensors) -> Tensor:
    with torch.no_grad():
        return function(inputs)


def _train(
    function: Callable[[Tensors], Tensor], inputs: Tensors, wanted: list[Tensor], cotangent: Tensor
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(function(inputs), wanted, cotangent, allow_unused=True)
