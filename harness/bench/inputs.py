"""Inputs of an operator: their shapes, their roles, and seeded values with a recorded distribution."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Role = Literal["activation", "parameter", "generated", "buffer"]


@dataclass(frozen=True)
class Spec:
    """One named input: its shape, its role and how its values are drawn.

    activation: what the layer before produced. parameter: learned. generated: computed from the
    activation by a generator that the core leaves out (kernels, attention maps, routing).
    buffer: stored but not learned (statistics of a batch norm); it takes no gradient.
    """

    shape: tuple[int, ...]
    role: Role
    distribution: str
    draw: Callable[[Tensor], Tensor]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return int(torch.Size(self.shape).numel())


Specs = Mapping[str, Spec]


def activation(*shape: int) -> Spec:
    """Describe an activation: standard normal."""
    return Spec(shape, "activation", "normal(0, 1)", lambda noise: noise)


def parameter(*shape: int, fan_in: int | None = None, mean: float = 0.0) -> Spec:
    """Describe a learned tensor: normal with variance 1/fan_in, so that outputs keep unit variance."""
    scale = (fan_in or 1) ** -0.5
    return Spec(shape, "parameter", f"normal({mean:g}, {scale:.3g}²)", lambda noise: mean + noise * scale)


def buffer(*shape: int, positive: bool = False) -> Spec:
    """Describe a stored statistic: small normal, or uniform-like between 0.5 and 1.5 where positive."""
    if positive:
        return Spec(shape, "buffer", "0.5 + sigmoid(normal)", lambda noise: 0.5 + torch.sigmoid(noise))
    return Spec(shape, "buffer", "normal(0, 0.1²)", lambda noise: 0.1 * noise)


def generated(*shape: int, softmax: int | tuple[int, ...] | None = None, fan_in: int | None = None) -> Spec:
    """Describe what a generator produces: a softmax over the given axes, or a scaled normal."""
    if softmax is None:
        scale = (fan_in or 1) ** -0.5
        return Spec(shape, "generated", f"normal(0, {scale:.3g}²)", lambda noise: noise * scale)
    axes = (softmax,) if isinstance(softmax, int) else softmax
    return Spec(
        shape, "generated", f"softmax over axes {axes} of normal(0, 1)", lambda noise: _softmax(noise, axes)
    )


def _softmax(noise: Tensor, axes: tuple[int, ...]) -> Tensor:
    weights = noise.exp()
    return weights / weights.sum(dim=axes, keepdim=True)


def seed_of(*names: str) -> int:
    """Derive a seed from names, so that equal cases get equal inputs on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:6])


def draw_inputs(specs: Specs, seed: int, dtype: torch.dtype, device: str = "cpu") -> Tensors:
    """Draw every input from its distribution.

    Values are drawn in float32 on the CPU and then cast and moved, so that every dtype and
    device gets the same ones.
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: spec.draw(torch.randn(spec.shape, generator=generator)).to(dtype).to(device).contiguous()
        for name, spec in specs.items()
    }


def draw_integers(
    specs: Specs, magnitude: int, seed: int, dtype: torch.dtype, device: str = "cpu"
) -> Tensors:
    """Draw every input uniformly from the integers between -magnitude and magnitude."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-magnitude, magnitude + 1, spec.shape, generator=generator).to(dtype).to(device)
        for name, spec in specs.items()
    }


def draw_wide_integers(
    specs: Specs, magnitude: int, share: float, seed: int, dtype: torch.dtype, device: str = "cpu"
) -> Tensors:
    """Draw activations from the odd integers up to ``magnitude``, and of the rest that share as 1 or −1."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {}
    for name, spec in specs.items():
        signs = 2 * torch.randint(0, 2, spec.shape, generator=generator) - 1
        if spec.role == "activation":
            sizes = 2 * torch.randint(0, (magnitude + 1) // 2, spec.shape, generator=generator) + 1
        else:
            sizes = (torch.rand(spec.shape, generator=generator) < share).long()
        drawn[name] = (signs * sizes).to(dtype).to(device)
    return drawn


@contextlib.contextmanager
def other_values(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Hold other values in the same tensors for a while, so that a result kept from a former call shows.

    The values change beneath autograd: no version counter tells, and no gradient is refused.
    """
    held = [(tensor, tensor.detach().clone()) for tensor in tensors]
    for tensor, values in held:
        tensor.data.copy_(values.flatten().flip(0).view_as(values))
    yield
    for tensor, values in held:
        tensor.data.copy_(values)


def differentiable(specs: Specs, tensors: Tensors) -> list[str]:
    """Name the inputs that take a gradient: all but buffers."""
    return [name for name in tensors if name not in specs or specs[name].role != "buffer"]
