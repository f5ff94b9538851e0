"""Dynamic depthwise convolution: one kernel per channel, generated anew for every image.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022
(arXiv 2106.04263): the homogeneous variant, D-DW. The kernels come from the pooled map, so all positions
share them; nothing normalises them. The released code (Atten4Vis/DemystifyLocalViT, DynamicDWConv at
4aa8326) computes this module, K = 7 and r = 4, with its batch folded into the channels of one grouped
convolution (``authors`` here). From ce3ada0 on its network overwrites the layer with a static convolution.
The authors count the additions of the pooling, N·C, among the multiply-adds; here they are elementwise.
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

from ..workloads import grouped_maps

operator = Operator(
    "dynamic_depthwise_conv2d",
    family="dynamic",
    source="Han et al. 2022, ICLR, arXiv 2106.04263",
    traits=Traits(space="local", channels="own", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(x: Tensor, kernel: Tensor) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b,c,u,v] · x[b, c, i+u−⌊K/2⌋, j+v−⌊K/2⌋].

    x [B, C, H, W], zero outside the map; kernel [B, C, K, K] with odd K; y [B, C, H, W].
    """
    K = kernel.shape[-1]
    taps = F.pad(x, (K // 2,) * 4).unfold(2, K, 1).unfold(3, K, 1)  # [B, C, H, W, K, K]
    return torch.einsum("bcijuv,bcuv->bcij", taps, kernel)


def module_reference(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b] + bias with kernel[b] = expand·ReLU(BN(reduce·mean(x[b]))) + expand_bias.

    x [B, C, H, W], its mean over all positions; reduce [C/R, C]; BN with gain, shift and the stored mean
    and variance [C/R]; expand [C·K², C/R]; expand_bias [C·K²]; bias [C]; ∗ convolves every channel with
    its own kernel, zero outside the map; y [B, C, H, W].
    """
    B, C = x.shape[:2]
    hidden = torch.einsum("oc,bc->bo", reduce, x.mean((2, 3)))
    hidden = torch.relu((hidden - mean) * (variance + 1e-5).rsqrt() * gain + shift)
    kernel = torch.einsum("oc,bc->bo", expand, hidden) + expand_bias
    K = math.isqrt(kernel.shape[1] // C)
    taps = F.pad(x, (K // 2,) * 4).unfold(2, K, 1).unfold(3, K, 1)
    return torch.einsum("bcijuv,bcuv->bcij", taps, kernel.view(B, C, K, K)) + bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.C, d.K, d.K, fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.C // d.R
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
        "mean": buffer(hidden),
        "variance": buffer(hidden, positive=True),
        "expand": parameter(d.C * d.K**2, hidden, fan_in=hidden * d.K**2),
        "expand_bias": parameter(d.C * d.K**2, fan_in=d.K**2),
        "bias": parameter(d.C),
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
        elements_read=positions * d.C + d.B * d.C * d.K**2,
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and, per image, two matrices; pooling, batch norm, ReLU and biases are elementwise."""
    convolution, hidden, taps = cost(d), d.C // d.R, d.C * d.K**2
    params = d.C * hidden + 2 * hidden + (hidden + 1) * taps + d.C
    generator = d.B * hidden * (d.C + taps)
    return replace(
        convolution,
        params=params,
        macs=convolution.macs + generator,
        macs_in_bounds=(convolution.macs_in_bounds or 0) + generator,
        elements_read=d.B * d.C * d.H * d.W + params + 2 * hidden,
        # A sum over the map; scale, shift and ReLU of the hidden units; the biases of kernels and outputs.
        elementwise=d.B * (2 * d.C * d.H * d.W + 3 * hidden + taps),
    )


DDW = "D-DW-Net-T, Han et al. 2022 and released configuration: kernels of 7×7, r = 4"
WORKLOADS = [
    Workload("ddwnet_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7, R=4), DDW),
    Workload("ddwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7, R=4), DDW),
    Workload("ddwnet_t/stage3", Dims(B=1, C=384, H=14, W=14, K=7, R=4), DDW),
    Workload("ddwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, R=4), DDW),
]

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(C=12, R=2),
)

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"


@core.implementation("authors", preferred=True)
def authors(x: Tensor, kernel: Tensor) -> Tensor:
    """Fold the batch into the channels and call one convolution with B·C groups, as the authors do."""
    B, C, H, W = x.shape
    K = kernel.shape[-1]
    folded = F.conv2d(x.reshape(1, B * C, H, W), kernel.reshape(B * C, 1, K, K), padding=K // 2, groups=B * C)
    return folded.view(B, C, H, W)


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, without the K² copy."""
    H, W = x.shape[2:]
    K = kernel.shape[-1]
    padded = F.pad(x, (K // 2,) * 4)
    total = torch.zeros_like(x)
    for u in range(K):
        for v in range(K):
            total.addcmul_(padded[..., u : u + H, v : v + W], kernel[..., u, v, None, None])
    return total


@module.implementation("authors", preferred=True)
def module_authors(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor,
    variance: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
) -> Tensor:
    """Generate the kernels with 1×1 layers on the pooled map, then one grouped convolution for the batch."""
    B, C, H, W = x.shape
    hidden = F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), reduce)
    hidden = torch.relu(F.batch_norm(hidden, mean, variance, gain, shift))
    K = math.isqrt(expand.shape[0] // C)
    kernel = F.linear(hidden, expand, expand_bias).view(B * C, 1, K, K)
    folded = F.conv2d(x.reshape(1, B * C, H, W), kernel, bias.repeat(B), padding=K // 2, groups=B * C)
    return folded.view(B, C, H, W)
