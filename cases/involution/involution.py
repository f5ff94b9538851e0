"""Involution: a kernel for every position, shared by the channels of a group.

Li et al., Involution: Inverting the Inherence of Convolution for Visual Recognition, CVPR 2021
(arXiv 2103.06255), eq. (4) for the operator and eq. (6) for the kernels' generator, W₁σ(W₀x) with σ a
batch norm and a ReLU; the paper's K×K×G kernel at a position is ``kernel`` here. A workload may choose
``generator="linear"``, a single layer in place of two. The released code (d-li14/involution) fixes r = 4,
16 channels per group and a bias in the last layer, as here; its CPU module gathers all taps with unfold
(``authors`` here), its CUDA kernel needs a CuPy of version 12 or older. This page has stride 1; with
stride 2 the code generates kernels from a pooled map.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import (
    Cost,
    Dims,
    Operator,
    SameopError,
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
    "involution",
    family="involution",
    source="Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4) and (6)",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
)


def reference(x: Tensor, kernel: Tensor) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b, ⌊cG/C⌋, u, v, i, j] · x[b, c, i+u−⌊U/2⌋, j+v−⌊V/2⌋].

    x [B, C, H, W], zero outside the map; kernel [B, G, U, V, H, W] with odd U and V; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, U, V = kernel.shape[1:4]
    padded = F.pad(x, (V // 2, V // 2, U // 2, U // 2))
    taps = padded.unfold(2, U, 1).unfold(3, V, 1)  # [B, C, H, W, U, V]
    grouped = taps.reshape(B, G, C // G, H, W, U, V)
    weights = kernel.permute(0, 1, 4, 5, 2, 3).unsqueeze(2)  # [B, G, 1, H, W, U, V]
    return (grouped * weights).sum((-1, -2)).reshape(B, C, H, W)


def module_reference(
    x: Tensor, span: Tensor, span_bias: Tensor, *, groups: int, generator: str, **reduction: Tensor
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b], kernel = span·h + span_bias with h = ReLU(BN(reduce·x)), or h = x if linear.

    x [B, C, H, W]; span [G·K², C/R], [G·K², C] if linear, and span_bias [G·K²]; the reduction, absent if
    linear: reduce [C/R, C], BN with gain, shift and the stored mean and variance [C/R]. The layers act on
    every position alone; ∗ applies its kernel around it, zero outside the map; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    G, K = groups, math.isqrt(span.shape[0] // groups)
    hidden = x
    if generator == "bottleneck":
        gain, shift, mean, variance = (
            reduction[name][:, None, None] for name in ("gain", "shift", "mean", "variance")
        )
        hidden = torch.einsum("oc,bchw->bohw", reduction["reduce"], x)
        hidden = torch.relu((hidden - mean) * (variance + 1e-5).rsqrt() * gain + shift)
    kernel = torch.einsum("oc,bchw->bohw", span, hidden) + span_bias[:, None, None]
    taps = F.pad(x, (K // 2,) * 4).unfold(2, K, 1).unfold(3, K, 1)
    grouped = taps.reshape(B, G, C // G, H, W, K, K)
    weights = kernel.reshape(B, G, 1, K, K, H, W).permute(0, 1, 2, 5, 6, 3, 4)
    return (grouped * weights).sum((-1, -2)).reshape(B, C, H, W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.G, d.K, d.K, d.H, d.W, fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; a linear generator has no reduction."""
    hidden, taps = hidden_channels(d), d.G * d.K**2
    reduction = {
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
        "mean": buffer(hidden),
        "variance": buffer(hidden, positive=True),
    }
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "span": parameter(taps, hidden, fan_in=hidden * d.K**2),
        "span_bias": parameter(taps, fan_in=d.K**2),
        **({} if is_linear(d) else reduction),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position; nothing is learned in the core."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.B * d.C * taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K),
        elements_read=positions * (d.C + d.G * d.K**2),
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and, per position, the layers; batch norm, ReLU and biases are elementwise."""
    operation, hidden, taps = cost(d), hidden_channels(d), d.G * d.K**2
    normed = 0 if is_linear(d) else hidden
    params = d.C * normed + 2 * normed + (hidden + 1) * taps
    return replace(
        operation,
        params=params,
        macs=operation.macs + generator_macs(d),
        macs_in_bounds=(operation.macs_in_bounds or 0) + generator_macs(d),
        elements_read=d.B * d.C * d.H * d.W + params + 2 * normed,
        # Scale, shift and ReLU of the hidden units; the bias of the kernels.
        elementwise=d.B * d.H * d.W * (3 * normed + taps),
    )


def generator_macs(d: Dims) -> int:
    """Count the multiply-adds of the layers that generate the kernels."""
    hidden = hidden_channels(d)
    reduction = 0 if is_linear(d) else d.C * hidden
    return int(d.B * d.H * d.W * (reduction + hidden * d.G * d.K**2))


def is_linear(d: Dims) -> bool:
    """Tell whether the workload asks for a single layer as generator; by default it has two."""
    return bool(module_options(d)["generator"] == "linear")


def hidden_channels(d: Dims) -> int:
    """Count the channels that the last layer of the generator reads."""
    return int(d.C if is_linear(d) else d.C // d.R)


def module_options(d: Dims) -> Mapping[str, int | str]:
    """Return the groups, and the generator: ``bottleneck`` unless the workload names ``linear``."""
    generator = d.get("generator", "bottleneck")
    if generator not in ("bottleneck", "linear"):
        raise SameopError(
            f"Involution was asked for with the generator {generator!r}: name 'bottleneck' or 'linear'."
        )
    return {"groups": d.G, "generator": generator}


REDNET = "RedNet-50, Li et al. 2021, table 1: K = 7, r = 4, 16 channels per group"
LINEAR = "RedNet-50's second stage with one linear layer as generator, as in Wu et al. 2019, arXiv 1901.10430"
WORKLOADS = [
    Workload("rednet50/stage1", Dims(B=1, C=64, H=56, W=56, K=7, G=4, R=4), REDNET),
    Workload("rednet50/stage2", Dims(B=1, C=128, H=28, W=28, K=7, G=8, R=4), REDNET),
    Workload("rednet50/stage3", Dims(B=1, C=256, H=14, W=14, K=7, G=16, R=4), REDNET),
    Workload("rednet50/stage4", Dims(B=1, C=512, H=7, W=7, K=7, G=32, R=4), REDNET),
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
    options=module_options,
    workloads=[
        *WORKLOADS,
        Workload("rednet50/stage2_linear", WORKLOADS[1].dims.replace(generator="linear"), LINEAR),
    ],
    proof_dims=(*grouped_maps(C=8, R=2), *grouped_maps(generator="linear")),
    counted=generator_macs,
    counted_because=ELEMENTWISE,
)


@core.implementation("authors", counted=lambda d: 0, counted_because=ELEMENTWISE)
def authors(x: Tensor, kernel: Tensor) -> Tensor:
    """Gather all taps into one tensor, multiply and add, as the authors' CPU module does."""
    B, C, H, W = x.shape
    G, U, V = kernel.shape[1:4]
    taps = F.unfold(x, (U, V), padding=(U // 2, V // 2)).view(B, G, C // G, U * V, H, W)
    return (kernel.view(B, G, 1, U * V, H, W) * taps).sum(dim=3).view(B, C, H, W)


@core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, without a copy per tap."""
    B, C, H, W = x.shape
    G, U, V = kernel.shape[1:4]
    padded = F.pad(x, (V // 2, V // 2, U // 2, U // 2)).view(B, G, C // G, H + U - 1, W + V - 1)
    total = x.new_zeros(B, G, C // G, H, W)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    weights = kernel.reshape(B, G, 1, U * V, H, W).unbind(3)
    for (u, v), weight in zip(product(range(U), range(V)), weights, strict=True):
        total.addcmul_(padded[..., u : u + H, v : v + W], weight)
    return total.view(B, C, H, W)


@module.implementation("authors", counted=generator_macs, counted_because=ELEMENTWISE)
def module_authors(
    x: Tensor, span: Tensor, span_bias: Tensor, *, groups: int, generator: str, **reduction: Tensor
) -> Tensor:
    """Generate the kernels with 1×1 convolutions, then gather all taps, as the authors' CPU module does."""
    return authors(x, generate(x, span, span_bias, groups, reduction))


@module.implementation("shifted", preferred=True, counted=generator_macs, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor, span: Tensor, span_bias: Tensor, *, groups: int, generator: str, **reduction: Tensor
) -> Tensor:
    """Generate the kernels with 1×1 convolutions, then add up shifted copies."""
    return shifted(x, generate(x, span, span_bias, groups, reduction))


def generate(
    x: Tensor, span: Tensor, span_bias: Tensor, groups: int, reduction: Mapping[str, Tensor]
) -> Tensor:
    """Generate the kernels [B, G, K, K, H, W] of every position; a linear generator has no reduction."""
    B, _, H, W = x.shape
    K = math.isqrt(span.shape[0] // groups)
    if reduction:
        reduced = F.conv2d(x, reduction["reduce"][:, :, None, None])
        statistics = reduction["mean"], reduction["variance"]
        x = torch.relu(F.batch_norm(reduced, *statistics, reduction["gain"], reduction["shift"]))
    return F.conv2d(x, span[:, :, None, None], span_bias).view(B, groups, K, K, H, W)
