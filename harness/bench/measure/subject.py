"""The subject of a measurement: one case made ready to be called."""

from __future__ import annotations

import hashlib
import math
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
class Rehearsal:
    """What the timed call returned before anybody timed it.

    bits: digests of its results on other values and, last, on the timed ones. difference: by how much two
    calls on the same inputs differ, 0 where they are equal to the bit. misdeed: what was done wrong, or None.
    earlier: what the first of the two calls returned, where the second returned something else.
    """

    results: Tensors
    bits: str
    difference: float
    misdeed: str | None
    earlier: Tensors | None = None


@dataclass(frozen=True)
class TimedCall:
    """What is timed, the names of its results, and the tensors that it reads."""

    run: Callable[[], object]
    names: tuple[str, ...]
    reads: list[Tensor]

    def rehearse(self) -> Rehearsal:
        """Call on other values and then twice on the timed ones.

        The values change beneath the tensors, as no version counter of autograd tells: a result that was
        kept from a former call cannot pass, whatever it was kept by.
        """
        with other_values(self.reads):
            other = self._named(self.run())
        bits = digest(other) + " "
        first = self._named(self.run())
        kept = {result.untyped_storage().data_ptr() for result in other.values()}
        kept -= {tensor.untyped_storage().data_ptr() for tensor in self.reads}
        shared = any(result.untyped_storage().data_ptr() in kept for result in first.values())
        misdeed = "two calls return the same memory, and the second overwrites the first" if shared else None
        bits += digest(first)
        again = self._named(self.run())
        difference = _largest_difference(first, again)
        return Rehearsal(again, bits, difference, misdeed, first if difference else None)

    def digest(self, results: object) -> str:
        """Return a digest of what one call returned."""
        return digest(self._named(results))

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


def timed_part(bits: str) -> str:
    """Return of the bits of a rehearsal those of the results on the timed values."""
    return bits.rpartition(" ")[2]


def digest(results: Tensors) -> str:
    """Return a digest of the bits of results, their names and their shapes."""
    # Processors have instructions for it, which makes it faster than hashes that were made to be fast.
    found = hashlib.sha256()
    for name, result in sorted(results.items()):
        found.update(f"{name} {result.dtype} {list(result.shape)}".encode())
        found.update(_bits_of(result).numpy().data)
    return found.hexdigest()


def _bits_of(result: Tensor) -> Tensor:
    return result.detach().cpu().contiguous().view(-1).view(torch.uint8)


def _largest_difference(first: Tensors, second: Tensors) -> float:
    """Return by how much two results differ at most, 0 for equal bits; NaN is a difference without end."""
    if first.keys() != second.keys() or any(first[name].shape != second[name].shape for name in first):
        return math.inf
    if all(torch.equal(_bits_of(first[name]), _bits_of(second[name])) for name in first):
        return 0.0
    differences = [(first[name].double() - second[name].double()).abs().max() for name in first]
    return float(torch.stack(differences).max().nan_to_num(math.inf, posinf=math.inf))
