"""The subject of a measurement: one case made ready to be called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from harness.bench.catalog import Catalogue
from harness.bench.dims import Dims
from harness.bench.expectation import bind, inputs_of
from harness.bench.inputs import Tensors, differentiable
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
        dims = scope.workload(case.workload).dims
        return cls(scope, implementation, dims, case.dtype, case.device, case.direction)

    def inputs(self) -> Tensors:
        """Draw the inputs that are timed."""
        return inputs_of(self.scope, self.dims, self.dtype, self.device)

    def call(self, inputs: Tensors) -> Callable[[], object]:
        """Return what is timed: one forward call, or forward and backward."""
        function = bind(self.scope, self.implementation, self.dims)
        if self.direction == "forward":
            return _forward(function, inputs)
        wanted = [
            inputs[name].requires_grad_() for name in differentiable(self.scope.inputs(self.dims), inputs)
        ]
        cotangent = torch.ones(
            self.scope.output(self.dims), dtype=getattr(torch, self.dtype), device=self.device
        )

        def train() -> object:
            return torch.autograd.grad(function(inputs), wanted, cotangent, allow_unused=True)

        return train


def _forward(function: Callable[[Tensors], Any], inputs: Tensors) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return function(inputs)

    return forward


def case_id(parts: Mapping[str, str]) -> CaseId:
    """Rebuild a case id from its parts."""
    return CaseId(**parts)
