"""Inhomogeneous dynamic depthwise convolution: a kernel for every position, generated from it alone.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022
(arXiv 2106.04263): I-D-DW. The channels of a group share a kernel; nothing normalises it. The released code
(Atten4Vis/DemystifyLocalViT, IDynamicDWConv) is involution's CUDA kernel under another name and runs on no
CPU; its first 1×1 layer has a bias, which involution's has not. Its configuration calls 3, 6, 12 and 24 the
number of heads but passes them as channels per group, so every stage has 32 groups.
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
    taps_in_bounds,
)

from ..involution.involution import shifted
from ..workloads import grouped_maps

operator = Operator(
    "inhomogeneous_depthwise_conv2d",
    family="dynamic",
    source="Han et al. 2022, ICLR, arXiv 2106.04263",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
)


def reference(x: Tensor, kernel: Tensor) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b, ⌊cG/C⌋, u, v, i, j] · x[b, c, i+u−⌊K/2⌋, j+v−⌊K/2⌋].

    x [B, C, H, W], zero outside the map; kernel [B, G, K, K, H, W] with odd K; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    padded = F.pad(x, (K // 2,) * 4).reshape(B, G, C // G, H + K - 1, W + K - 1)
    shifts = (padded[..., u : u + H, v : v + W] for u in range(K) for v in range(K))
    weights = kernel.reshape(B, G, 1, K * K, H, W).unbind(3)
    products = (weight * values for weight, values in zip(weights, shifts, strict=True))
    return sum(products, start=x.new_zeros(())).reshape(B, C, H, W)


def module_reference(
    x: Tensor,
    reduce: Tensor,
    reduce_bias: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    *,
    groups: int,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b] with kernel = expand·ReLU(BN(reduce·x + reduce_bias)) + expand_bias.

    x [B, C, H, W]; reduce [C/R, C] with its bias [C/R]; BN with gain, shift and the stored mean and
    variance [C/R]; expand [G·K², C/R] with its bias [G·K²]; all of them act on every position alone, and
    ∗ applies the kernel of a position and group around it, zero outside the map; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, K = groups, math.isqrt(expand.shape[0] // groups)
    hidden = torch.einsum("oc,bchw->bohw", reduce, x) + reduce_bias[:, None, None]
    scale = (variance + 1e-5).rsqrt() * gain
    hidden = torch.relu((hidden - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None])
    kernel = torch.einsum("oc,bchw->bohw", expand, hidden) + expand_bias[:, None, None]
    padded = F.pad(x, (K // 2,) * 4).reshape(B, G, C // G, H + K - 1, W + K - 1)
    shifts = (padded[..., u : u + H, v : v + W] for u in range(K) for v in range(K))
    weights = kernel.reshape(B, G, 1, K * K, H, W).unbind(3)
    products = (weight * values for weight, values in zip(weights, shifts, strict=True))
    return sum(products, start=x.new_zeros(())).reshape(B, C, H, W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.G, d.K, d.K, d.H, d.W, fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.C // d.R
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "reduce_bias": parameter(hidden),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
        "mean": buffer(hidden),
        "variance": buffer(hidden, positive=True),
        "expand": parameter(d.G * d.K**2, hidden, fan_in=hidden * d.K**2),
        "expand_bias": parameter(d.G * d.K**2, fan_in=d.K**2),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.B * d.C * taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K),
        elements_read=positions * (d.C + d.G * d.K**2),
        elements_written=positions * d.C,
    )


def generator_macs(d: Dims) -> int:
    """Count the multiply-adds of the two 1×1 layers that generate the kernels."""
    return int(d.B * d.H * d.W * (d.C // d.R) * (d.C + d.G * d.K**2))


def module_cost(d: Dims) -> Cost:
    """Count the core and, per position, two 1×1 layers; batch norm, ReLU and biases are elementwise."""
    convolution, hidden, taps = cost(d), d.C // d.R, d.G * d.K**2
    params = d.C * hidden + 3 * hidden + (hidden + 1) * taps
    return replace(
        convolution,
        params=params,
        macs=convolution.macs + generator_macs(d),
        macs_in_bounds=(convolution.macs_in_bounds or 0) + generator_macs(d),
        elements_read=d.B * d.C * d.H * d.W + params + 2 * hidden,
        # Bias, scale, shift and ReLU of the hidden units; the bias of the kernels.
        elementwise=d.B * d.H * d.W * (4 * hidden + taps),
    )


IDDW = "I-D-DW-Net-T, Han et al. 2022 and released configuration: kernels of 7×7, r = 4, 32 groups"
WORKLOADS = [
    Workload("iddwnet_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage3", Dims(B=1, C=384, H=14, W=14, K=7, G=32, R=4), IDDW),
    Workload("iddwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, G=32, R=4), IDDW),
]

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(),
    polynomial=True,
    counted=lambda d: 0,
    counted_because=ELEMENTWISE,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"groups": d.G},
    workloads=WORKLOADS,
    proof_dims=grouped_maps(C=8, R=2),
    counted=generator_macs,
    counted_because=ELEMENTWISE,
)


@core.implementation("unfold", counted=lambda d: 0, counted_because=ELEMENTWISE)
def unfold(x: Tensor, kernel: Tensor) -> Tensor:
    """Gather all K² taps into one tensor, multiply and add."""
    B, C, H, W = x.shape
    G, K = kernel.shape[1:3]
    taps = F.unfold(x, K, padding=K // 2).view(B, G, C // G, K * K, H, W)
    return (taps * kernel.view(B, G, 1, K * K, H, W)).sum(3).view(B, C, H, W)


# An involution with a square kernel is the same sum.
core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)(shifted)


@module.implementation("shifted", preferred=True, counted=generator_macs, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor,
    reduce: Tensor,
    reduce_bias: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    *,
    groups: int,
) -> Tensor:
    """Generate the kernels with two 1×1 convolutions, then add up shifted copies."""
    B, _, H, W = x.shape
    K = math.isqrt(expand.shape[0] // groups)
    hidden = F.conv2d(x, reduce[:, :, None, None], reduce_bias)
    hidden = torch.relu(F.batch_norm(hidden, mean, variance, gain, shift))
    kernel = F.conv2d(hidden, expand[:, :, None, None], expand_bias)
    return shifted(x, kernel.view(B, groups, K, K, H, W))
