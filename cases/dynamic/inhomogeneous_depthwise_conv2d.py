"""Inhomogeneous dynamic depthwise convolution: a kernel for every position, generated from it alone.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022
(arXiv 2106.04263): I-D-DW. The channels of a group share a kernel; nothing normalises it. The released code
(Atten4Vis/DemystifyLocalViT, IDynamicDWConv) is involution's CUDA kernel under another name and runs on no
CPU; its first 1×1 layer has a bias, which involution's has not. Its configuration calls 3, 6, 12 and 24 the
number of heads but passes them as channels per group, so every stage has 32 groups. With an even kernel, for
which the code loses a row and a column, here a window reaches one further up and left. With ``norm="train"``
the batch norm takes the statistics of batch and map, and with them off what the bias before it adds, which is
left out there.
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
    buffer,
    generated,
    parameter,
    sweep,
)

from ..involution.involution import normalise, shifted, taps_inside
from ..workloads import grouped_maps

operator = Operator(
    "inhomogeneous_depthwise_conv2d",
    family="dynamic",
    source="Han et al. 2022, ICLR, arXiv 2106.04263",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
)


def reference(x: Tensor, kernel: Tensor) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b, ⌊cG/C⌋, u, v, i, j] · x[b, c, i+u−⌊K/2⌋, j+v−⌊K/2⌋].

    x [B, C, H, W], zero outside the map; kernel [B, G, K, K, H, W]; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    taps = F.pad(x, (K // 2, (K - 1) // 2) * 2).unfold(2, K, 1).unfold(3, K, 1)  # [B, C, H, W, K, K]
    grouped = taps.reshape(B, G, C // G, H, W, K, K)
    return torch.einsum("bgdhwuv,bguvhw->bgdhw", grouped, kernel).reshape(B, C, H, W)


def module_reference(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    reduce_bias: Tensor | None = None,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    *,
    groups: int,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b] with kernel = expand·ReLU(BN(reduce·x + reduce_bias)) + expand_bias.

    x [B, C, H, W]; reduce [C/R, C]; BN with gain, shift and the stored mean and variance [C/R], without
    which it takes those of the batch; reduce_bias [C/R], which may be absent; expand [G·K², C/R] with its
    bias [G·K²]; all of them act on every position alone, and ∗ applies the kernel of a position and group to
    its window, which reaches ⌊K/2⌋ up and left, zero outside the map; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, K = groups, math.isqrt(expand.shape[0] // groups)
    hidden = torch.einsum("oc,bchw->bohw", reduce, x)
    if reduce_bias is not None:
        hidden = hidden + reduce_bias[:, None, None]
    if mean is None or variance is None:
        mean = hidden.mean((0, 2, 3))
        variance = (hidden - mean[:, None, None]).square().mean((0, 2, 3))
    scale = (variance + 1e-5).rsqrt() * gain
    hidden = torch.relu((hidden - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None])
    kernel = torch.einsum("oc,bchw->bohw", expand, hidden) + expand_bias[:, None, None]
    taps = F.pad(x, (K // 2, (K - 1) // 2) * 2).unfold(2, K, 1).unfold(3, K, 1)
    grouped = taps.reshape(B, G, C // G, H, W, K, K)
    weights = kernel.reshape(B, G, K, K, H, W)
    return torch.einsum("bgdhwuv,bguvhw->bgdhw", grouped, weights).reshape(B, C, H, W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.G, d.K, d.K, d.H, d.W, fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; training has no stored statistics and no bias that they take off."""
    hidden = d.C // d.R
    learned = {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
        "expand": parameter(d.G * d.K**2, hidden, fan_in=hidden * d.K**2),
        "expand_bias": parameter(d.G * d.K**2, fan_in=d.K**2),
    }
    if d.get("norm") == "train":
        return learned
    return learned | {
        "reduce_bias": parameter(hidden),
        "mean": buffer(hidden),
        "variance": buffer(hidden, positive=True),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def domain(d: Dims) -> str | None:
    """Refuse groups of unequal size; kernels may be even, and larger than the map."""
    if d.C % d.G:
        return f"{d.C} channels do not form {d.G} groups of one size: choose G as a divisor of C"
    return None


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, a reduction to nothing, and unknown batch norms."""
    if d.C < d.R:
        return f"a reduction by {d.R} leaves none of {d.C} channels: choose R of at most C"
    if d.get("norm", "eval") not in ("eval", "train"):
        return f"no batch norm is called {d.norm!r}: name 'eval' or 'train'"
    return domain(d)


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.B * d.C * sum(taps_inside(d.H, d.K)) * sum(taps_inside(d.W, d.K)),
        elements_read=positions * (d.C + d.G * d.K**2),
        elements_written=positions * d.C,
    )


def generator_macs(d: Dims) -> int:
    """Count the multiply-adds of the two 1×1 layers that generate the kernels."""
    return int(d.B * d.H * d.W * (d.C // d.R) * (d.C + d.G * d.K**2))


def module_cost(d: Dims) -> Cost:
    """Count the core and, per position, two 1×1 layers; batch norm, ReLU and biases are elementwise."""
    convolution, hidden, taps = cost(d), d.C // d.R, d.G * d.K**2
    trains = d.get("norm") == "train"
    params = d.C * hidden + (2 if trains else 3) * hidden + (hidden + 1) * taps
    # Scale, shift and ReLU of the hidden units; a bias, or four operations for the statistics of the batch.
    per_unit = 7 if trains else 4
    return replace(
        convolution,
        params=params,
        macs=convolution.macs + generator_macs(d),
        macs_in_bounds=(convolution.macs_in_bounds or 0) + generator_macs(d),
        elements_read=d.B * d.C * d.H * d.W + params + (0 if trains else 2 * hidden),
        elementwise=d.B * d.H * d.W * (per_unit * hidden + taps),
    )


IDDW = "I-D-DW-Net-T, Han et al. 2022 and released configuration: kernels of 7×7, r = 4, 32 groups"
NETWORK = [
    Workload("iddwnet_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage3", Dims(B=1, C=384, H=14, W=14, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, G=32, R=4), IDDW),
]
# The second stage, because kernels of every channel's own at the first are as large as 96 maps of 7×7.
WORKLOADS = [*NETWORK, *sweep(NETWORK[1], K=(3, 5, 7, 9, 11), G=(1, 8, 32, 192), H=(7, 14, 28, 56))]
EVEN = Dims(B=2, C=6, H=5, W=8, K=2, G=3), Dims(B=2, C=4, H=3, W=7, K=4, G=2)

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=(*grouped_maps(), *EVEN),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"groups": d.G},
    domain=module_domain,
    workloads=[
        *WORKLOADS,
        Workload("iddwnet_t/stage2_train", NETWORK[1].dims.replace(norm="train"), IDDW),
        *sweep(NETWORK[1], R=(1, 2, 4, 8)),
    ],
    proof_dims=(
        *grouped_maps(C=8, R=2),
        Dims(B=2, C=8, H=5, W=4, K=3, G=2, R=2, norm="train"),
        *(even.replace(C=12, R=2) for even in EVEN),
    ),
)


@core.generator(inputs=lambda d: {"weight": parameter(d.G * d.K**2, d.C)})
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on every position."""
    kernel = torch.einsum("oc,bchw->bohw", weight, x)
    return {"kernel": kernel.reshape(d.B, d.G, d.K, d.K, d.H, d.W)}


@core.implementation("unfold", counted=lambda d: 0, counted_because=ELEMENTWISE)
def unfold(x: Tensor, kernel: Tensor) -> Tensor:
    """Gather all K² taps into one tensor, multiply and add."""
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    padded = F.pad(x, (K // 2, (K - 1) // 2) * 2)
    taps = F.unfold(padded, (K, K)).reshape(B, G, C // G, K * K, H, W)
    return (taps * kernel.reshape(B, G, 1, K * K, H, W)).sum(3).reshape(B, C, H, W)


# An involution with a square kernel is the same sum.
core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)(shifted)


@module.implementation("shifted", preferred=True, counted=generator_macs, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    reduce_bias: Tensor | None = None,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    *,
    groups: int,
) -> Tensor:
    """Generate the kernels with two 1×1 convolutions, then add up shifted copies."""
    B, _, H, W = x.shape
    K = math.isqrt(expand.shape[0] // groups)
    statistics = {} if mean is None or variance is None else {"mean": mean, "variance": variance}
    hidden = F.conv2d(x, reduce[:, :, None, None], reduce_bias)
    hidden = torch.relu(normalise(hidden, {"gain": gain, "shift": shift, **statistics}))
    kernel = F.conv2d(hidden, expand[:, :, None, None], expand_bias)
    return shifted(x, kernel.reshape(B, groups, K, K, H, W))
