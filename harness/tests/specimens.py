"""Little operators made in memory, for tests of what runs and judges them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from harness.bench.cost import Cost
from harness.bench.dims import Dims, Workload
from harness.bench.inputs import Spec, activation, parameter
from harness.bench.pages import Implementation, Operator, Scope

Function = Callable[..., Tensor]
DIMS = Dims(B=2, C=4, H=5, W=3)


def scope_of(
    reference: Function,
    inputs: Callable[[Dims], Mapping[str, Spec]],
    output: Callable[[Dims], tuple[int, ...]],
    **properties: Any,
) -> Scope:
    """Make the core of an operator called ``tiny`` from a reference."""
    operator = Operator("tiny", family="specimens", source="made for a test")
    return operator.scope(
        "core",
        reference=reference,
        inputs=inputs,
        output=output,
        cost=lambda d: Cost(params=0, macs=0, elements_read=0, elements_written=0),
        workloads=[Workload("tiny/one", DIMS, "made for a test")],
        proof_dims=(DIMS,),
        **properties,
    )


def mixing(x: Tensor, weight: Tensor) -> Tensor:
    """y[b, o, i, j] = Σ_c weight[o, c] · x[b, c, i, j], a polynomial with an exact check."""
    B, C, H, W = x.shape
    return (weight @ x.reshape(B, C, H * W)).reshape(B, -1, H, W)


def attending(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the input by the softmax over channels of the mixed input; no polynomial."""
    return mixing(x, weight).softmax(1) * x


def mixed_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of both specimens' inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.C, d.C, fan_in=d.C)}


def mixed_output(d: Dims) -> tuple[int, ...]:
    """Shape of both specimens' output."""
    return d.B, d.C, d.H, d.W


def polynomial() -> Scope:
    """Make the specimen whose agreement is exact."""
    return scope_of(mixing, mixed_inputs, mixed_output, polynomial=True)


def transcendental() -> Scope:
    """Make the specimen whose agreement allows for rounding."""
    return scope_of(attending, mixed_inputs, mixed_output)


def implementation(function: Function, **properties: Any) -> Implementation:
    """Make an implementation called ``subject``."""
    return Implementation("subject", function, **properties)
