"""Sliding-window attention: every position attends to the K×K window centred on it.

Ramachandran et al., Stand-Alone Self-Attention in Vision Models, NeurIPS 2019 (arXiv 1906.05909),
eq. (2), without position terms; Han et al., On the Connection between Local Attention and Dynamic
Depth-wise Convolution, ICLR 2022 (arXiv 2106.04263), for local attention as a weighted sum over
neighbours. Neighbours outside the map take no part in the softmax. The module scales by 1/√D and ends in
W_o, as Vaswani et al. 2017 and Swin do; the former paper has neither. Two programs that look alike are
other functions: leaderj1001/Stand-Alone-Self-Attention takes the softmax of q·k channel by channel, padded
keys included, and neighbourhood attention (SHI-Labs/NATTEN) moves windows at the border inwards. A window
of even side, which has no centre, reaches one further up and left.
"""

import math
from collections.abc import Mapping
from typing import Any

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

from ..involution.involution import WeightedTaps, multiply, spread, taps_inside, weigh
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
    """y[b, mD+e, i, j] = Σ_uv attention[b, m, i, j, uK+v] · value[b, mD+e, i+u−⌊K/2⌋, j+v−⌊K/2⌋].

    value [B, C, H, W], zero outside the map; attention [B, M, H, W, K²] over the window in row order;
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    padded = F.pad(value, (K // 2, (K - 1) // 2) * 2)
    neighbours = padded.unfold(2, K, 1).unfold(3, K, 1).reshape(B, M, C // M, H, W, K * K)
    return torch.einsum("bmijn,bmdijn->bmdij", attention, neighbours).reshape(B, C, H, W)


def module_reference(
    x: Tensor, query: Tensor, key: Tensor, value: Tensor, proj: Tensor, *, heads: int, kernel: int
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] with a_m at (i, j) = Σ_n softmax_n(q_m·k_mn/√D)·v_mn, n in the map.

    x [B, C, H, W]; query, key, value and proj [C, C]; n runs over the K×K window, whose first position is
    (i−⌊K/2⌋, j−⌊K/2⌋); y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, K = heads, kernel
    q = torch.einsum("oc,bchw->bohw", query, x).reshape(B, M, C // M, H, W)
    reach = (K // 2, (K - 1) // 2) * 2
    k, v, inside = (
        F.pad(maps, reach).unfold(2, K, 1).unfold(3, K, 1).reshape(len(maps), -1, H, W, K * K)
        for maps in (
            torch.einsum("oc,bchw->bohw", key, x),
            torch.einsum("oc,bchw->bohw", value, x),
            torch.ones_like(x[:1, :1]),
        )
    )
    k, v = (neighbours.reshape(B, M, C // M, H, W, K * K) for neighbours in (k, v))
    logits = torch.einsum("bmdij,bmdijn->bmijn", q, k) * (C // M) ** -0.5
    weights = logits.masked_fill(inside == 0, -torch.inf).softmax(-1)
    mixed = torch.einsum("bmijn,bmdijn->bmdij", weights, v).reshape(B, C, H, W)
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


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    return None


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.K**2,
        macs_in_bounds=d.C * pairs(d),
        elements_read=positions * (d.C + d.M * d.K**2),
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2K²·C multiply-adds per position; softmax: one exp, add and divide, and the scale."""
    positions = d.B * d.H * d.W
    linear = positions * 4 * d.C**2
    return Cost(
        params=4 * d.C**2,
        macs=linear + 2 * positions * d.K**2 * d.C,
        macs_in_bounds=linear + 2 * pairs(d) * d.C,
        elements_read=positions * d.C + 4 * d.C**2,
        elements_written=positions * d.C,
        elementwise=3 * pairs(d) * d.M,
        transcendental=pairs(d) * d.M,
    )


def pairs(d: Dims) -> int:
    """Count the pairs of a position and a neighbour in the map."""
    return int(d.B * sum(taps_inside(d.H, d.K)) * sum(taps_inside(d.W, d.K)))


def counted_linear(d: Dims) -> int:
    """Count what counters see where attention is elementwise: the four linear layers."""
    return int(4 * d.B * d.H * d.W * d.C**2)


SWIN = "Swin-T with sliding windows, Liu et al. 2021, arXiv 2103.14030, table 5; windows of 7×7"
SASA = "ResNet-50 of attention, Ramachandran et al. 2019, section 4.1: windows of 7×7, 8 heads"
NETWORK = [
    Workload("swin_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7, M=3), SWIN),
    Workload("sasa50/stage2", Dims(B=1, C=128, H=28, W=28, K=7, M=8), SASA),
    Workload("sasa50/stage3", Dims(B=1, C=256, H=14, W=14, K=7, M=8), SASA),
    Workload("sasa50/stage4", Dims(B=1, C=512, H=7, W=7, K=7, M=8), SASA),
]
# Heads of all channels, of more and fewer than 16, and of one channel.
WORKLOADS = [*NETWORK, *sweep(NETWORK[1], K=(3, 5, 7, 9, 11), M=(1, 4, 8, 32, 128), H=(7, 14, 28, 56))]
PROOF_DIMS = (
    *grouped_maps(M=2),
    Dims(B=2, C=6, H=5, W=8, K=2, M=3),
    Dims(B=2, C=3, H=3, W=6, K=4, M=1),
    Dims(B=2, C=3, H=4, W=2, K=3, M=3),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {"heads": d.M, "kernel": d.K},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries and keys at a position and its neighbours, zero outside the map."""
    q, k = (torch.einsum("oc,bchw->bohw", weight, x) for weight in (query, key))
    padded = F.pad(k, (d.K // 2, (d.K - 1) // 2) * 2)
    neighbours = padded.unfold(2, d.K, 1).unfold(3, d.K, 1).reshape(d.B, d.M, -1, d.H, d.W, d.K**2)
    queries = q.reshape(d.B, d.M, -1, d.H, d.W)
    return {"attention": torch.einsum("bmdij,bmdijn->bmijn", queries, neighbours)}


ELEMENTWISE = "neighbours are multiplied and added elementwise, which product counters do not see"


@core.implementation("unfold", counted=lambda d: 0, counted_because=ELEMENTWISE)
def unfold(value: Tensor, attention: Tensor) -> Tensor:
    """Gather all K² neighbours into one tensor, multiply and add."""
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    neighbours = gather(value, K, M)
    weights = attention.reshape(B, M, 1, H, W, K, K)
    return (neighbours * weights).sum((-1, -2)).view(B, C, H, W)


@core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(value: Tensor, attention: Tensor) -> Tensor:
    """Add up shifted copies of the padded map, one neighbour at a time, without the K² copy."""
    K = math.isqrt(attention.shape[-1])
    kernel = attention.permute(0, 1, 4, 2, 3).unflatten(2, (K, K))
    mixed: Tensor = WeightedTaps.apply(value, kernel.contiguous(), 1)  # type: ignore[no-untyped-call]
    return mixed


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
    """Compute one logit map and add one weighted value map per neighbour, without a K² copy of any."""
    q, k, v = project(x, query, key, value)
    queries = q * (x.shape[1] // heads) ** -0.5
    logits: Tensor = TapProducts.apply(queries, k, heads, kernel)  # type: ignore[no-untyped-call]
    ones = torch.ones_like(x[:1, :1])
    inside = multiply(ones, ones, torch.Size((1, 1, *logits.shape[2:])))
    masked = logits.masked_fill(inside == 0, -torch.inf)
    weights = masked.flatten(2, 3).softmax(2).view(logits.shape)
    mixed: Tensor = WeightedTaps.apply(v, weights, 1)  # type: ignore[no-untyped-call]
    return F.conv2d(mixed, proj[:, :, None, None])


class TapProducts(torch.autograd.Function):
    """Products with the taps of a map; autograd's own gradient would fill a whole map for every tap."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, heads: int, kernel: int) -> Tensor:
        """Multiply queries with the taps of keys, both [B, C, H, W], per head: [B, M, K, K, H, W]."""
        ctx.save_for_backward(queries, keys)
        B, _, H, W = queries.shape
        return multiply(queries, keys, torch.Size((B, heads, kernel, kernel, H, W)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Weigh the keys by the gradient, and spread the queries by it."""
        queries, keys = ctx.saved_tensors
        into_queries, into_keys = ctx.needs_input_grad[:2]
        return (
            weigh(keys, grad) if into_queries else None,
            spread(queries, grad, keys.shape) if into_keys else None,
            None,
            None,
        )


def project(x: Tensor, *weights: Tensor) -> list[Tensor]:
    """Apply 1×1 convolutions [C, C] to x [B, C, H, W]."""
    return [F.conv2d(x, weight[:, :, None, None]) for weight in weights]


def gather(maps: Tensor, K: int, M: int) -> Tensor:
    """View all neighbours of every position, [B, M, D, H, W, K, K], zero outside the map."""
    B, C, H, W = maps.shape
    padded = F.pad(maps, (K // 2, (K - 1) // 2) * 2)
    return padded.unfold(2, K, 1).unfold(3, K, 1).view(B, M, C // M, H, W, K, K)
