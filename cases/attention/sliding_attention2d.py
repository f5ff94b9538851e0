"""Sliding-window attention: every position attends to the K×K window centred on it.

Ramachandran et al., Stand-Alone Self-Attention in Vision Models, NeurIPS 2019 (arXiv 1906.05909),
eq. (2), without position terms; Han et al., On the Connection between Local Attention and Dynamic
Depth-wise Convolution, ICLR 2022 (arXiv 2106.04263), for local attention as a weighted sum over
neighbours. Neighbours outside the map take no part in the softmax. The module scales by 1/√D and ends in
W_o, as Vaswani et al. 2017 and Swin do; the former paper has neither. Two programs that look alike are
other functions: leaderj1001/Stand-Alone-Self-Attention takes the softmax of q·k channel by channel, padded
keys included, and neighbourhood attention (SHI-Labs/NATTEN) moves windows at the border inwards.
"""

import math
from collections.abc import Mapping

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
    taps_in_bounds,
)

from ..workloads import grouped_maps

operator = Operator(
    "sliding_attention2d",
    family="attention",
    source="Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2)",
    note=(
        "Without position terms. No code by the authors for this function is public, so there is no "
        "`authors` form."
    ),
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=3),
)


def reference(value: Tensor, attention: Tensor) -> Tensor:
    """y[b, mD+e, i, j] = Σ_n attention[b, m, i, j, n] · value[b, mD+e, neighbour n of (i, j)].

    value [B, C, H, W], zero outside the map; attention [B, M, H, W, K²] over the window in row order;
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    neighbours = F.unfold(value, K, padding=K // 2).view(B, M, C // M, K * K, H, W)
    return torch.einsum("bmijn,bmdnij->bmdij", attention, neighbours).reshape(B, C, H, W)


def module_reference(
    x: Tensor, query: Tensor, key: Tensor, value: Tensor, proj: Tensor, *, heads: int, kernel: int
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] with a_m at (i, j) = Σ_n softmax_n(q_m·k_mn/√D)·v_mn, n in the map.

    x [B, C, H, W]; query, key, value and proj [C, C]; n runs over the K×K window; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, K = heads, kernel
    q = torch.einsum("oc,bchw->bohw", query, x).reshape(B, M, C // M, H, W)
    k, v = (
        F.unfold(torch.einsum("oc,bchw->bohw", weight, x), K, padding=K // 2).view(B, M, C // M, K * K, H, W)
        for weight in (key, value)
    )
    outside = F.unfold(torch.ones_like(x[:1, :1]), K, padding=K // 2).view(K * K, H, W) == 0
    logits = torch.einsum("bmdij,bmdnij->bmnij", q, k) * (C // M) ** -0.5
    weights = logits.masked_fill(outside, -torch.inf).softmax(2)
    mixed = torch.einsum("bmnij,bmdnij->bmdij", weights, v).reshape(B, C, H, W)
    return torch.einsum("oc,bchw->bohw", proj, mixed)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, d.M, d.H, d.W, d.K**2, softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    square = parameter(d.C, d.C, fan_in=d.C)
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "query": square,
        "key": square,
        "value": square,
        "proj": square,
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
        elements_read=positions * (d.C + d.M * d.K**2),
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2K²·C multiply-adds per position; softmax: one exp, add and divide, and the scale."""
    positions = d.B * d.H * d.W
    linear = positions * 4 * d.C**2
    pairs = d.B * taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K)
    return Cost(
        params=4 * d.C**2,
        macs=linear + 2 * positions * d.K**2 * d.C,
        macs_in_bounds=linear + 2 * pairs * d.C,
        elements_read=positions * d.C + 4 * d.C**2,
        elements_written=positions * d.C,
        elementwise=3 * pairs * d.M,
        transcendental=pairs * d.M,
    )


def counted_linear(d: Dims) -> int:
    """Count what counters see where attention is elementwise: the four linear layers."""
    return int(4 * d.B * d.H * d.W * d.C**2)


SWIN = "Swin-T with sliding windows, Liu et al. 2021, arXiv 2103.14030, table 5; windows of 7×7"
SASA = "ResNet-50 of attention, Ramachandran et al. 2019, section 4.1: windows of 7×7, 8 heads"
WORKLOADS = [
    Workload("swin_t/stage1_k7", Dims(B=1, C=96, H=56, W=56, K=7, M=3), SWIN),
    Workload("sasa50/stage2", Dims(B=1, C=128, H=28, W=28, K=7, M=8), SASA),
    Workload("sasa50/stage3", Dims(B=1, C=256, H=14, W=14, K=7, M=8), SASA),
    Workload("sasa50/stage4", Dims(B=1, C=512, H=7, W=7, K=7, M=8), SASA),
]

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=grouped_maps(M=2),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"heads": d.M, "kernel": d.K},
    workloads=WORKLOADS,
    proof_dims=grouped_maps(M=2),
)

ELEMENTWISE = "neighbours are multiplied and added elementwise, which product counters do not see"


@core.implementation("unfold", counted=lambda d: 0, counted_because=ELEMENTWISE)
def unfold(value: Tensor, attention: Tensor) -> Tensor:
    """Gather all K² neighbours into one tensor, multiply and add."""
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    neighbours = gather(value, K, M)
    weights = attention.view(B, M, 1, H, W, K, K)
    return (neighbours * weights).sum((-1, -2)).view(B, C, H, W)


@core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(value: Tensor, attention: Tensor) -> Tensor:
    """Add up shifted copies of the padded map, one neighbour at a time, without the K² copy."""
    maps = attention.permute(0, 1, 4, 2, 3).contiguous()
    return accumulate(value, maps)


@module.implementation("unfold", counted=counted_linear, counted_because=ELEMENTWISE)
def module_unfold(
    x: Tensor, query: Tensor, key: Tensor, value: Tensor, proj: Tensor, *, heads: int, kernel: int
) -> Tensor:
    """Gather all K² keys and values into tensors of their own, multiply and add."""
    q, k, v = project(x, query, key, value)
    keys, values = gather(k, kernel, heads), gather(v, kernel, heads)
    queries = (q * (x.shape[1] // heads) ** -0.5).view(*keys.shape[:5], 1, 1)
    logits = (queries * keys).sum(2, keepdim=True)
    inside = gather(torch.ones_like(x[:1, :1]), kernel, 1)
    weights = logits.masked_fill(inside == 0, -torch.inf).flatten(-2).softmax(-1).view(logits.shape)
    mixed = (values * weights).sum((-1, -2)).view(x.shape)
    return F.conv2d(mixed, proj[:, :, None, None])


@module.implementation("shifted", preferred=True, counted=counted_linear, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor, query: Tensor, key: Tensor, value: Tensor, proj: Tensor, *, heads: int, kernel: int
) -> Tensor:
    """Compute one logit map and add one weighted value map per neighbour, without any K² copy of them."""
    B, C, H, W = x.shape
    q, k, v = project(x, query, key, value)
    queries = (q * (C // heads) ** -0.5).view(B, heads, C // heads, H, W)
    logits = [(queries * keys).sum(2) for keys in shifts(k, heads, kernel)]
    inside = [ones.view(H, W) for ones in shifts(torch.ones_like(x[:1, :1]), 1, kernel)]
    masked = torch.stack(logits, 2).masked_fill(torch.stack(inside) == 0, -torch.inf)
    return F.conv2d(accumulate(v, masked.softmax(2)), proj[:, :, None, None])


def project(x: Tensor, *weights: Tensor) -> list[Tensor]:
    """Apply 1×1 convolutions [C, C] to x [B, C, H, W]."""
    return [F.conv2d(x, weight[:, :, None, None]) for weight in weights]


def gather(maps: Tensor, K: int, M: int) -> Tensor:
    """View all neighbours of every position, [B, M, D, H, W, K, K], zero outside the map."""
    B, C, H, W = maps.shape
    padded = F.pad(maps, (K // 2,) * 4)
    return padded.unfold(2, K, 1).unfold(3, K, 1).view(B, M, C // M, H, W, K, K)


def shifts(maps: Tensor, M: int, K: int) -> list[Tensor]:
    """View the map shifted to every neighbour in row order, each [B, M, D, H, W], zero outside the map."""
    B, C, H, W = maps.shape
    padded = F.pad(maps, (K // 2,) * 4).view(B, M, C // M, H + K - 1, W + K - 1)
    return [padded[..., u : u + H, v : v + W] for u in range(K) for v in range(K)]


def accumulate(value: Tensor, weights: Tensor) -> Tensor:
    """Add up the shifted value maps [B, C, H, W] times their weights [B, M, K², H, W]."""
    B, C, H, W = value.shape
    M, K = weights.shape[1], math.isqrt(weights.shape[2])
    total = value.new_zeros(B, M, C // M, H, W)
    for neighbours, weight in zip(shifts(value, M, K), weights.unbind(2), strict=True):
        total.addcmul_(neighbours, weight.unsqueeze(2))
    return total.view(B, C, H, W)
