"""Programs of named tensors: running them, their gradients, and where two of them differ."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.refusal import RefusedError
from harness.paper.errors import SameopError

Outputs = Tensor | tuple[Tensor, ...]
Program = Callable[[Tensors], Outputs]
Shapes = Mapping[str, tuple[int, ...]]
Mode = contextlib.AbstractContextManager[object]

# The cotangents of a trial are drawn apart from its inputs.
_COTANGENTS = 1_000_003


@dataclass(frozen=True)
class Difference:
    """Where two programs differ: which result, at which index, and both values there."""

    result: str
    index: tuple[int, ...]
    left: float
    right: float
    share: float


@dataclass(frozen=True)
class Point:
    """Where programs are evaluated: inputs, and cotangents for the outputs where gradients are asked for."""

    inputs: Tensors
    cotangents: Tensors | None

    @classmethod
    def of_integers(
        cls,
        program: Program,
        shapes: Shapes,
        magnitude: int,
        seed: int,
        *,
        vjp: bool,
        outputs: Shapes | None = None,
    ) -> Point:
        """Draw a point of integers; the program tells the shapes of its outputs where nobody knows them."""
        inputs = draw_integers(shapes, magnitude, seed)
        if not vjp:
            return cls(inputs, None)
        if outputs is None:
            outputs = output_shapes(program, inputs)
        return cls(inputs, draw_integers(outputs, magnitude, seed + _COTANGENTS))

    @property
    def tensors(self) -> Tensors:
        """The inputs and the cotangents by name."""
        cotangents = self.cotangents or {}
        return {**self.inputs, **{f"cotangent of {name}": tensor for name, tensor in cotangents.items()}}

    def evaluate(
        self, program: Program, mode: Mode | None = None, state: Callable[[], Mode] = torch.no_grad
    ) -> Tensors:
        """Return the values or the gradients of a program under a mode; it must leave its inputs alone.

        state: of torch, in which values are computed.
        """
        before = {name: tensor.clone() for name, tensor in self.inputs.items()}
        with mode or contextlib.nullcontext():
            results = self._run(program, state)
        demand_unchanged(self.inputs, before)
        return results

    def _run(self, program: Program, state: Callable[[], Mode]) -> Tensors:
        if self.cotangents is None:
            with state():
                return named(program(dict(self.inputs)))
        leaves = {name: tensor.requires_grad_() for name, tensor in self.inputs.items()}
        return gradients(program, leaves, self.cotangents)


@contextlib.contextmanager
def telling(side: str) -> Iterator[None]:
    """Say of which side a refusal speaks, and turn whatever the program raises into one."""
    try:
        yield
    except RefusedError as refusal:
        raise RefusedError(f"on the {side} side {refusal}") from None
    except SameopError:
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or ["no message"])[0]
        raise RefusedError(f"the {side} side raises {type(error).__name__}: {said}") from error


@contextlib.contextmanager
def within(outer: Mode, inner: Mode) -> Iterator[None]:
    """Enter two modes: the inner one sees the program, the outer one what the inner one lets run."""
    with outer, inner:
        yield


def demand_unchanged(inputs: Tensors, before: Tensors) -> None:
    """Refuse a program that writes into what it was given."""
    for name, tensor in inputs.items():
        if not torch.equal(tensor.detach(), before[name]):
            raise RefusedError(f"the program changes its input {name}")


def output_shapes(program: Program, inputs: Tensors) -> Shapes:
    """Return the shapes of the outputs by name."""
    # On copies, so that a result which the program keeps for these very tensors is not met again.
    with torch.no_grad():
        outputs = named(program({name: tensor.clone() for name, tensor in inputs.items()}))
    return {name: tuple(out.shape) for name, out in outputs.items()}


def gradients(program: Program, inputs: Tensors, cotangents: Tensors) -> Tensors:
    """Return the vector-Jacobian product with respect to every input."""
    outputs = named(program(dict(inputs)))
    if outputs.keys() != cotangents.keys():
        raise RefusedError("the program gives other results than before")
    pairs = [(outputs[name], cotangents[name]) for name in outputs if outputs[name].requires_grad]
    found = torch.autograd.grad(
        [output for output, _ in pairs],
        list(inputs.values()),
        [cotangent for _, cotangent in pairs],
        allow_unused=True,
    )
    return {
        f"gradient of {name}": torch.zeros_like(inputs[name]) if gradient is None else gradient
        for name, gradient in zip(inputs, found, strict=True)
    }


def named(outputs: Outputs) -> Tensors:
    """Name the outputs of a program, or refuse what is no tensor."""
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    if not several:
        raise RefusedError("there are no results")
    for output in several:
        if not isinstance(output, Tensor):
            raise RefusedError(f"the result is a {type(output).__name__}, no tensor")
    if isinstance(outputs, Tensor):
        return {"output": outputs}
    return {f"output {number}": output for number, output in enumerate(several, start=1)}


def draw_integers(shapes: Shapes, magnitude: int, seed: int) -> Tensors:
    """Draw integers of at most the given size for named shapes, as float64."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-magnitude, magnitude + 1, shape, generator=generator).double()
        for name, shape in shapes.items()
    }


def first_difference(left: Tensors, right: Tensors) -> Difference | None:
    """Return the first place where two sets of results differ bitwise, or None."""
    return different_shape(left, right) or first_unequal(
        left, right, {name: ~(first == right[name]) for name, first in left.items()}
    )


def first_unequal(left: Tensors, right: Tensors, unequal: Mapping[str, Tensor]) -> Difference | None:
    """Return the first place that is marked as unequal, or None."""
    for name, marks in unequal.items():
        if bool(marks.any()):
            index = tuple(int(i) for i in marks.nonzero()[0])
            share = float(marks.double().mean())
            return Difference(name, index, float(left[name][index]), float(right[name][index]), share)
    return None


def different_shape(left: Tensors, right: Tensors) -> Difference | None:
    """Return where the number or the shapes of results differ, or None."""
    if left.keys() != right.keys():
        return Difference("number of results", (), len(left), len(right), 1.0)
    for name, first in left.items():
        second = right[name]
        if first.ndim != second.ndim:
            return Difference(f"number of axes of the {name}", (), first.ndim, second.ndim, 1.0)
        for axis, sizes in enumerate(zip(first.shape, second.shape, strict=True)):
            if sizes[0] != sizes[1]:
                return Difference(f"size of the {name} along axis", (axis,), *sizes, 1.0)
    return None
