"""Spatial-reduction attention: every position attends to a map that a strided convolution has made smaller.

Wang et al., Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without Convolutions,
ICCV 2021 (arXiv 2102.12122), eq. (1) to (4); the paper's reduction ratio R_i is R here, its heads are M. Keys
and values come from a layer norm of the reduced map. The released code (whai362/PVT, ``authors`` here)
reduces by a convolution with kernel and stride R, which leaves out the rows and columns of a map that do not
fill a cell of R×R, as here; biases are those of its released models. With R = 1 it leaves out the reduction
and its norm, as the module does here, and is self-attention; the core then reduces by a 1×1 convolution.

The core takes the attention map as given and the reduced map for values: norm and W_v are left out, so that
what it computes is linear in the map, and of a rank that the reduced map limits.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

from .self_attention import merge_heads, split_heads

operator = Operator(
    "spatial_reduction_attention",
    family="attention",
    source="Wang et al. 2021, ICCV, arXiv 2102.12122, eq. (1) to (4)",
    note="of lower rank in space than self-attention, whatever its softmax does",
    traits=Traits(space="global", channels="all", dynamic="per position", low_rank=("space",), degree=3),
    probed_at=Dims(B=1, C=4, H=4, W=6, M=2, R=2),
)


def reference(x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
    """y[b, mD+e, p] = Σ_q attention[b, m, p, q] · z[b, mD+e, q] with z = reduce ∗ x.

    x [B, C, H, W]; reduce [C, C, R, R], applied to the cells of R×R that lie in the map, which are the
    positions q; attention [B, M, N, ⌊H/R⌋·⌊W/R⌋]; all positions in row order; y [B, C, H, W], head m owning
    the channels mD to mD+D−1.
    """
    B, C, H, W = x.shape
    M, R = attention.shape[1], reduce.shape[-1]
    cells = x.unfold(2, R, R).unfold(3, R, R)  # [B, C, ⌊H/R⌋, ⌊W/R⌋, R, R]
    reduced = torch.einsum("ocuv,bcijuv->boij", reduce, cells).reshape(B, M, C // M, -1)
    return torch.einsum("bmpq,bmdq->bmdp", attention, reduced).reshape(B, C, H, W)


def module_reference(
    x: Tensor,
    query: Tensor,
    query_bias: Tensor,
    key_value: Tensor,
    key_value_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    **reduction: Tensor,
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] + b_o with a_m = softmax(q_m·k_m/√D)·v_m, k and v of LN(reduce ∗ x + b_r).

    x [B, C, H, W]; query [C, C]; key_value [2C, C], k before v, and proj [C, C], each with its bias; the
    reduction, absent for R = 1: reduce [C, C, R, R] on the cells of R×R in the map, with reduce_bias [C], and
    LN over the channels with gain and shift [C]; q, k, v ordered by heads; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, reduced = heads, x
    if reduction:
        R = reduction["reduce"].shape[-1]
        reduced = torch.einsum("ocuv,bcijuv->boij", reduction["reduce"], x.unfold(2, R, R).unfold(3, R, R))
        reduced = reduced + reduction["reduce_bias"][:, None, None]
        centred = reduced - reduced.mean(1, keepdim=True)
        scale = (centred.square().mean(1, keepdim=True) + 1e-5).rsqrt()
        reduced = centred * scale * reduction["gain"][:, None, None] + reduction["shift"][:, None, None]
    q = torch.einsum("oc,bchw->bohw", query, x) + query_bias[:, None, None]
    k_v = torch.einsum("oc,bchw->bohw", key_value, reduced) + key_value_bias[:, None, None]
    k, v = k_v.reshape(B, 2, M, C // M, -1).unbind(1)
    logits = torch.einsum("bmdp,bmdq->bmpq", q.reshape(B, M, C // M, H * W), k) * (C // M) ** -0.5
    mixed = torch.einsum("bmpq,bmdq->bmdp", logits.softmax(-1), v).reshape(B, C, H, W)
    return torch.einsum("oc,bchw->bohw", proj, mixed) + proj_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(d.C, d.C, d.R, d.R, fan_in=d.C * d.R**2),
        "attention": generated(d.B, d.M, d.H * d.W, cells(d), softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; what reduces by one is left out."""
    layers = {
        "x": activation(d.B, d.C, d.H, d.W),
        "query": parameter(d.C, d.C, fan_in=d.C),
        "query_bias": parameter(d.C),
        "key_value": parameter(2 * d.C, d.C, fan_in=d.C),
        "key_value_bias": parameter(2 * d.C),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
    }
    reduction = {
        "reduce": parameter(d.C, d.C, d.R, d.R, fan_in=d.C * d.R**2),
        "reduce_bias": parameter(d.C),
        "gain": parameter(d.C, mean=1.0),
        "shift": parameter(d.C),
    }
    return layers if d.R == 1 else layers | reduction


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if min(d.H, d.W) < d.R:
        return f"no cell of {d.R}×{d.R} lies in a map of {d.H}×{d.W}: choose R no larger than H and W"
    return None


def cells(d: Dims) -> int:
    """Count the cells that are reduced to a position each."""
    return int(d.H // d.R * (d.W // d.R))


def cost(d: Dims) -> Cost:
    """R²·C² multiply-adds per cell, and C per position and cell."""
    positions = d.B * d.H * d.W
    reduce = d.C**2 * d.R**2
    return Cost(
        params=reduce,
        macs=d.B * cells(d) * reduce + positions * cells(d) * d.C,
        elements_read=positions * (d.C + d.M * cells(d)) + reduce,
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """2C² + 2C per cell for a position, 2C² for a cell, R²·C² more where it is reduced."""
    positions, places = d.B * d.H * d.W, d.B * cells(d)
    reduce = d.C**2 * d.R**2 if d.R > 1 else 0
    params = 4 * d.C**2 + 4 * d.C + (reduce + 3 * d.C if reduce else 0)
    weights = positions * d.M * cells(d)
    # Bias and five operations of the norm.
    normed = 6 * places * d.C if reduce else 0
    return Cost(
        params=params,
        macs=2 * positions * (d.C**2 + cells(d) * d.C) + places * (reduce + 2 * d.C**2),
        elements_read=positions * d.C + params,
        elements_written=positions * d.C,
        # Scale, sum and division of every weight; the biases of q, k, v and the last layer.
        elementwise=3 * weights + 2 * (positions + places) * d.C + normed,
        transcendental=weights,
    )


PVT = "PVT-Tiny, Wang et al. 2021, table 1"
TWINS = "Twins-SVT-S, Chu et al. 2021, arXiv 2104.13840, table 7, where it is called GSA"
NETWORK = [
    Workload("pvt_tiny/stage1", Dims(B=1, C=64, H=56, W=56, M=1, R=8), PVT),
    Workload("pvt_tiny/stage2", Dims(B=1, C=128, H=28, W=28, M=2, R=4), PVT),
    Workload("pvt_tiny/stage3", Dims(B=1, C=320, H=14, W=14, M=5, R=2), PVT),
    Workload("twins_svt_s/stage3_global", Dims(B=1, C=256, H=14, W=14, M=8, R=2), TWINS),
]
# Attention to all positions and to ever fewer; heads of all channels, of fewer than PVT's 64, and of one.
WORKLOADS = [*NETWORK, *sweep(NETWORK[1], R=(1, 2, 4, 7, 14), M=(1, 4, 8, 128), H=(14, 28, 56))]
PROOF_DIMS = (
    Dims(B=2, C=4, H=4, W=6, M=2, R=2),
    Dims(B=2, C=4, H=7, W=9, M=2, R=2),
    Dims(B=2, C=6, H=3, W=8, M=3, R=3),
    Dims(B=2, C=3, H=5, W=4, M=1, R=4),
    Dims(B=2, C=3, H=3, W=2, M=3, R=1),
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
    options=lambda d: {"heads": d.M},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C, d.R, d.R)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries at any position and linear keys, W_k and reduction in one, of any cell."""
    q = torch.einsum("oc,bchw->bohw", query, x).reshape(d.B, d.M, d.C // d.M, -1)
    patches = x.unfold(2, d.R, d.R).unfold(3, d.R, d.R)
    k = torch.einsum("ocuv,bcijuv->boij", key, patches).reshape(d.B, d.M, d.C // d.M, -1)
    return {"attention": torch.einsum("bmdp,bmdq->bmpq", q, k)}


@core.implementation("authors")
def authors(x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
    """Reduce by a strided convolution, then multiply every head's map with its rows of tokens."""
    reduced = F.conv2d(x, reduce, stride=reduce.shape[-1])
    mixed = attention @ split_heads(reduced.flatten(2).mT, attention.shape[1])
    return merge_heads(mixed).mT.reshape(x.shape)


@core.implementation("unfold", preferred=True)
def unfold(x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
    """Reduce by one product with the cells as columns; the reduced map then needs no transposed copy."""
    reduced = reduce_cells(x, reduce)
    heads = reduced.view(len(x), attention.shape[1], -1, reduced.shape[-1])
    return (heads @ attention.mT).reshape(x.shape)


@module.implementation("authors")
def module_authors(
    x: Tensor,
    query: Tensor,
    query_bias: Tensor,
    key_value: Tensor,
    key_value_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    **reduction: Tensor,
) -> Tensor:
    """Reduce by a strided convolution, then linear layers and two products of matrices, as PVT does."""
    tokens = reduced = x.flatten(2).mT
    if reduction:
        weight, bias = reduction["reduce"], reduction["reduce_bias"]
        reduced = F.conv2d(x, weight, bias, stride=weight.shape[-1]).flatten(2).mT
        reduced = F.layer_norm(reduced, reduced.shape[-1:], reduction["gain"], reduction["shift"])
    q = split_heads(F.linear(tokens, query, query_bias), heads)
    both = F.linear(reduced, key_value, key_value_bias).chunk(2, dim=-1)
    k, v = (split_heads(part, heads) for part in both)
    logits = q @ k.mT * q.shape[-1] ** -0.5
    return F.linear(merge_heads(logits.softmax(-1) @ v), proj, proj_bias).mT.reshape(x.shape)


def counted_linear(d: Dims) -> int:
    """Count what counters see where attention is one fused kernel: the linear layers and the reduction."""
    return int(module_cost(d).macs - 2 * d.B * d.H * d.W * cells(d) * d.C)


@module.implementation(
    "sdpa",
    preferred=True,
    counted=counted_linear,
    counted_because="on the CPU attention is one fused kernel, whose two products counters do not see",
)
def sdpa(
    x: Tensor,
    query: Tensor,
    query_bias: Tensor,
    key_value: Tensor,
    key_value_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    **reduction: Tensor,
) -> Tensor:
    """Reduce by one product with the cells as columns, and leave attention to torch's fused kernel."""
    tokens = reduced = x.flatten(2).mT
    if reduction:
        reduced = reduce_cells(x, reduction["reduce"]).mT + reduction["reduce_bias"]
        reduced = F.layer_norm(reduced, reduced.shape[-1:], reduction["gain"], reduction["shift"])
    q = split_heads(F.linear(tokens, query, query_bias), heads)
    both = F.linear(reduced, key_value, key_value_bias).chunk(2, dim=-1)
    k, v = (split_heads(part, heads) for part in both)
    mixed = F.scaled_dot_product_attention(q, k, v)
    return F.linear(merge_heads(mixed), proj, proj_bias).mT.reshape(x.shape)


def reduce_cells(x: Tensor, weight: Tensor) -> Tensor:
    """Reduce the cells of [B, C, H, W] by a weight [C, C, R, R] to [B, C, ⌊H/R⌋·⌊W/R⌋]."""
    side = weight.shape[-1]
    columns = x.unfold(2, side, side).unfold(3, side, side).permute(0, 1, 4, 5, 2, 3)
    return weight.flatten(1) @ columns.flatten(4).flatten(1, 3)
