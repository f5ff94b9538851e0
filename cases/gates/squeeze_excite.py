"""Squeeze-and-excitation: every channel of an image is scaled by a number that its whole map decides.

Hu et al., Squeeze-and-Excitation Networks, CVPR 2018 (arXiv 1709.01507), eq. (2) for the squeeze, (3) for
the excitation and (4) for the scale. The released code (hujie-frank/SENet, in Caffe) computes the module with
r = 16 and biases in both layers; it fuses the scale with the addition of the shortcut, which is no part of
the operator. Among the multiply-adds here are those of the scale, N·C; the additions of the mean are
elementwise.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import (
    Cost,
    Dims,
    Operator,
    Spec,
    Traits,
    Workload,
    activation,
    generated,
    parameter,
    sweep,
)

operator = Operator(
    "squeeze_excite",
    family="gates",
    source="Hu et al. 2018, CVPR, arXiv 1709.01507, eq. (2) to (4)",
    traits=Traits(space="position", channels="own", sharing=("positions",), dynamic="per image", degree=2),
    probed_at=Dims(B=2, C=4, H=3, W=5, R=2),
)


def reference(x: Tensor, gate: Tensor) -> Tensor:
    """y[b,c,i,j] = gate[b,c] · x[b,c,i,j]. x [B, C, H, W]; gate [B, C]; y [B, C, H, W]."""
    B, C = gate.shape
    return x * gate.reshape(B, C, 1, 1).expand_as(x)


def module_reference(
    x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> Tensor:
    """y[b,c,i,j] = gate[b,c]·x[b,c,i,j] with gate[b] = σ(expand·ReLU(reduce·mean(x[b]) + a) + e).

    x [B, C, H, W], its mean over all positions; reduce [C/R, C]; a the reduce_bias [C/R]; expand
    [C, C/R]; e the expand_bias [C]; σ the sigmoid; y [B, C, H, W].
    """
    B, C = x.shape[:2]
    hidden = torch.relu(torch.einsum("oc,bc->bo", reduce, x.mean((2, 3))) + reduce_bias)
    gate = torch.sigmoid(torch.einsum("co,bo->bc", expand, hidden) + expand_bias)
    return x * gate.reshape(B, C, 1, 1).expand_as(x)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "gate": generated(d.B, d.C)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.C // d.R
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "reduce_bias": parameter(hidden),
        "expand": parameter(d.C, hidden, fan_in=hidden),
        "expand_bias": parameter(d.C),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def module_domain(d: Dims) -> str | None:
    """Say why the formula of the module defines nothing, or return None; C/R is rounded down."""
    if d.C < d.R:
        return f"{d.C} channels reduced by {d.R} leave none: choose R no larger than C"
    return None


def cost(d: Dims) -> Cost:
    """One multiply-add per element, as the authors count a scale; nothing is learned in the core."""
    elements = math.prod(output(d))
    return Cost(
        params=0,
        macs=elements,
        elements_read=elements + d.B * d.C,
        elements_written=elements,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and, per image, two matrices of C·C/R; the mean, biases and ReLU are elementwise."""
    scale, hidden = cost(d), d.C // d.R
    params = 2 * d.C * hidden + hidden + d.C
    return replace(
        scale,
        params=params,
        macs=scale.macs + layer_macs(d),
        elements_read=math.prod(output(d)) + params,
        elementwise=math.prod(output(d)) + d.B * (2 * hidden + d.C),
        transcendental=d.B * d.C,
    )


def layer_macs(d: Dims) -> int:
    """Count the multiply-adds of the two layers."""
    return int(2 * d.B * d.C * (d.C // d.R))


SENET = "SE-ResNet-50, Hu et al. 2018, table 1: r = 16, before the shortcut is added"
WORKLOADS = [
    Workload("se_resnet50/stage1", Dims(B=1, C=256, H=56, W=56, R=16), SENET),
    Workload("se_resnet50/stage2", Dims(B=1, C=512, H=28, W=28, R=16), SENET),
    Workload("se_resnet50/stage3", Dims(B=1, C=1024, H=14, W=14, R=16), SENET),
    Workload("se_resnet50/stage4", Dims(B=1, C=2048, H=7, W=7, R=16), SENET),
    Workload("se_resnet50/stage3_b8", Dims(B=8, C=1024, H=14, W=14, R=16), SENET),
]
SWEPT = sweep(WORKLOADS[0], H=(14, 28, 56, 112))
PROOF_DIMS = (
    Dims(B=2, C=8, H=4, W=5, R=2),
    Dims(B=3, C=9, H=1, W=4, R=2),
    Dims(B=2, C=12, H=7, W=3, R=1),
    Dims(B=1, C=16, H=1, W=1, R=2),
)

BROADCAST = "the scale is multiplied elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
    polynomial=True,
    counted=lambda d: 0,
    counted_because=BROADCAST,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    domain=module_domain,
    workloads=[*WORKLOADS, *SWEPT, *sweep(WORKLOADS[0], R=(2, 4, 8, 16, 32))],
    proof_dims=PROOF_DIMS,
    counted=layer_macs,
    counted_because=BROADCAST,
)


@core.generator(inputs=lambda d: {"weight": parameter(d.C, d.C)})
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on the sum over all positions."""
    return {"gate": torch.einsum("oc,bchw->bo", weight, x)}


@core.implementation("authors", preferred=True, counted=lambda d: 0, counted_because=BROADCAST)
def authors(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply with two axes of size one."""
    return x * gate[:, :, None, None]


@core.implementation("convolution")
def convolution(x: Tensor, gate: Tensor) -> Tensor:
    """Fold the batch into the channels and call one 1×1 convolution with B·C groups."""
    B, C, H, W = x.shape
    return F.conv2d(x.reshape(1, B * C, H, W), gate.reshape(B * C, 1, 1, 1), groups=B * C).view(x.shape)


@module.implementation("authors", counted=layer_macs, counted_because=BROADCAST)
def module_authors(
    x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> Tensor:
    """Pool to a map of 1×1, two 1×1 convolutions on it, and scale, as the authors do."""
    hidden = F.relu(F.conv2d(F.adaptive_avg_pool2d(x, 1), reduce[:, :, None, None], reduce_bias))
    return x * torch.sigmoid(F.conv2d(hidden, expand[:, :, None, None], expand_bias))


@module.implementation("linear", preferred=True, counted=layer_macs, counted_because=BROADCAST)
def linear(x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor) -> Tensor:
    """Take the mean, two linear layers on the vector, and scale."""
    hidden = F.relu(F.linear(x.mean((2, 3)), reduce, reduce_bias))
    return authors(x, torch.sigmoid(F.linear(hidden, expand, expand_bias)))
