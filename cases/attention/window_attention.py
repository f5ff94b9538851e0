"""Window attention: the map is cut into S×S windows, and a position attends to its own window only.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021
(arXiv 2103.14030), eq. (4), called W-MSA there; the paper's window side M is S here, its heads are M.
This page is the regular partition; ``shifted_window_attention`` has the shifted one of every other layer.
The released code (microsoft/Swin-Transformer) keeps its maps as [B, H·W, C]; here every implementation
starts from [B, C, H, W] like all other operators and pays for the way there and back. ``position="none"``
leaves out the table of position biases, as Twins does (Chu et al. 2021, arXiv 2104.13840, called LSA there).
With one head all channels share their weights, with C heads each channel has weights of its own.
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
    sweep,
)

from ..workloads import windowed_maps
from .self_attention import merge_heads, split_heads

operator = Operator(
    "window_attention",
    family="attention",
    source="Liu et al. 2021, ICCV, arXiv 2103.14030, eq. (4)",
    note="a partition into windows, not a sliding window",
    traits=Traits(space="window", channels="own", sharing=("groups",), dynamic="per position", degree=3),
)


def reference(value: Tensor, attention: Tensor) -> Tensor:
    """y[b, mD+e, p] = Σ_q attention[b, n, m, p, q] · value[b, mD+e, q], p and q in window n.

    value [B, C, H, W]; attention [B, HW/S², M, S², S²], windows and the positions in them in row order;
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, S = attention.shape[2], math.isqrt(attention.shape[-1])
    windows = value.reshape(B, M, C // M, H // S, S, W // S, S)
    maps = attention.reshape(B, H // S, W // S, M, S, S, S, S)
    return torch.einsum("bhwmijkl,bmdhkwl->bmdhiwj", maps, windows).reshape(B, C, H, W)


def module_reference(
    x: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    window: int,
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] + b_o with a_m = softmax(q_m·k_m/√D + table[offset, m])·v_m, per window.

    x [B, C, H, W]; qkv [3C, C] with qkv_bias [3C], ordered q, k, v and by heads within each;
    table [(2S−1)², M], which may be absent, by the offset of the query from the key, rows first; proj [C, C]
    with proj_bias [C]; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, S = heads, window
    projected = torch.einsum("oc,bchw->bohw", qkv, x) + qkv_bias[:, None, None]
    q, k, v = projected.reshape(B, 3, M, C // M, H // S, S, W // S, S).unbind(1)
    logits = torch.einsum("bmdhiwj,bmdhkwl->bhwmijkl", q, k) * (C // M) ** -0.5
    if table is not None:
        steps = torch.arange(S, device=x.device)
        offsets = steps[:, None] - steps + S - 1
        rows = offsets[:, None, :, None] * (2 * S - 1) + offsets[:, None, :]
        logits = logits + table[rows].permute(4, 0, 1, 2, 3)
    weights = logits.flatten(-2).softmax(-1).reshape(logits.shape)
    mixed = torch.einsum("bhwmijkl,bmdhkwl->bmdhiwj", weights, v).reshape(B, C, H, W)
    return torch.einsum("oc,bchw->bohw", proj, mixed) + proj_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    windows = d.H // d.S * (d.W // d.S)
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, windows, d.M, d.S**2, d.S**2, softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    inputs = {
        "x": activation(d.B, d.C, d.H, d.W),
        "qkv": parameter(3 * d.C, d.C, fan_in=d.C),
        "qkv_bias": parameter(3 * d.C),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
    }
    return {**inputs, "table": parameter((2 * d.S - 1) ** 2, d.M)} if has_table(d) else inputs


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if d.H % d.S or d.W % d.S:
        return (
            f"windows of {d.S}×{d.S} do not tile a map of {d.H}×{d.W}: choose H and W as multiples of S, or "
            "pad the map before"
        )
    if d.get("position", "table") not in ("table", "none"):
        return f"no position term is called {d.position!r}: name 'table' or 'none'"
    return None


def has_table(d: Dims) -> bool:
    """Tell whether the module adds biases by position; it does unless the workload says ``none``."""
    return bool(d.get("position", "table") == "table")


def cost(d: Dims) -> Cost:
    """S²·C multiply-adds per position."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.S**2,
        elements_read=positions * (d.C + d.M * d.S**2),
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2S²·C multiply-adds per position, as the authors count; softmax: one exp, add and divide."""
    positions = d.B * d.H * d.W
    table = (2 * d.S - 1) ** 2 * d.M if has_table(d) else 0
    params = 4 * d.C**2 + 4 * d.C + table
    weights = positions * d.M * d.S**2
    return Cost(
        params=params,
        macs=positions * (4 * d.C**2 + 2 * d.S**2 * d.C),
        elements_read=positions * d.C + params,
        elements_written=positions * d.C,
        # Scale, position bias, sum and division of every weight; the biases of four layers.
        elementwise=(4 if table else 3) * weights + 4 * positions * d.C,
        transcendental=weights,
    )


SWIN = "Swin-T, Liu et al. 2021, table 7: windows of 7×7, 32 channels per head"
TWINS = "Twins-SVT-S as released (Meituan-AutoML/Twins), first stage: windows of 7×7 without position biases"
NETWORK = [
    Workload("swin_t/stage1", Dims(B=1, C=96, H=56, W=56, S=7, M=3), SWIN),
    Workload("swin_t/stage2", Dims(B=1, C=192, H=28, W=28, S=7, M=6), SWIN),
    Workload("swin_t/stage3", Dims(B=1, C=384, H=14, W=14, S=7, M=12), SWIN),
    Workload("swin_t/stage4", Dims(B=1, C=768, H=7, W=7, S=7, M=24), SWIN),
    Workload("twins_svt_s/stage1", Dims(B=1, C=64, H=56, W=56, S=7, M=2, position="none"), TWINS),
]
# Windows of all sizes that tile the map; weights shared by all channels, by a head's, and by none.
WORKLOADS = [*NETWORK, *sweep(NETWORK[1], S=(2, 4, 7, 14, 28), M=(1, 3, 6, 24, 192), H=(7, 14, 28, 56, 112))]
PROOF_DIMS = (
    *windowed_maps(),
    Dims(B=2, C=3, H=4, W=2, S=2, M=1),
    Dims(B=2, C=3, H=3, W=6, S=3, M=3),
    Dims(B=2, C=4, H=2, W=3, S=1, M=2),
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
    options=lambda d: {"heads": d.M, "window": d.S},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=(*PROOF_DIMS, Dims(B=2, C=4, H=4, W=6, S=2, M=2, position="none")),
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries and keys at any two positions of a window."""
    q, k = (
        torch.einsum("oc,bchw->bohw", weight, x).reshape(d.B, d.M, -1, d.H // d.S, d.S, d.W // d.S, d.S)
        for weight in (query, key)
    )
    logits = torch.einsum("bmdhiwj,bmdhkwl->bhwmijkl", q, k)
    return {"attention": logits.reshape(d.B, -1, d.M, d.S**2, d.S**2)}


@core.implementation("authors")
def authors(value: Tensor, attention: Tensor) -> Tensor:
    """Cut into windows, multiply matrices per head, and put the windows back, as Swin does."""
    S = math.isqrt(attention.shape[-1])
    tokens = split_heads(cut(value, S), attention.shape[2])
    return put_back(merge_heads(attention.flatten(0, 1) @ tokens), value)


@core.implementation("indexed", preferred=True)
def indexed(value: Tensor, attention: Tensor) -> Tensor:
    """Pick the tokens of all windows by number, whole rows of channels at once, and put them back so."""
    H, W = value.shape[2:]
    S = math.isqrt(attention.shape[-1])
    if S * S == H * W:
        return authors(value, attention)  # one window: there is nothing to pick
    places = torch.arange(H * W, device=value.device).view(1, 1, H, W)
    there, back = cut(places, S).flatten(), put_back(places.view(-1, S * S, 1), places).flatten()
    tokens = split_heads(pick(value, there).view(-1, S * S, value.shape[1]), attention.shape[2])
    return lay(merge_heads(attention.flatten(0, 1) @ tokens), back, value)


@module.implementation("authors")
def module_authors(
    x: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    window: int,
) -> Tensor:
    """Cut into windows, then linear layers and two products of matrices, as Swin does."""
    tokens = F.linear(cut(x, window), qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    logits = q * q.shape[-1] ** -0.5 @ k.mT
    if table is not None:
        logits = logits + position_bias(table, window)
    return put_back(F.linear(merge_heads(logits.softmax(-1) @ v), proj, proj_bias), x)


@module.implementation(
    "sdpa",
    preferred=True,
    counted=lambda d: 4 * d.B * d.H * d.W * d.C**2,
    counted_because="on the CPU attention is one fused kernel, whose two products counters do not see",
)
def sdpa(
    x: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    table: Tensor | None = None,
    *,
    heads: int,
    window: int,
) -> Tensor:
    """Cut into windows and leave attention to torch's fused kernel, the position bias being its mask."""
    tokens = F.linear(cut(x, window), qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    # With four dimensions the mask is taken by the fused kernel, with three only by the slow path.
    mask = None if table is None else position_bias(table, window).unsqueeze(0)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return put_back(F.linear(merge_heads(mixed), proj, proj_bias), x)


def cut(maps: Tensor, side: int) -> Tensor:
    """Cut [B, C, H, W] into windows of tokens [windows of all images, S², C]."""
    B, C, H, W = maps.shape
    windows = maps.reshape(B, C, H // side, side, W // side, side)
    return windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, C)


def put_back(tokens: Tensor, like: Tensor) -> Tensor:
    """Put windows of tokens [windows of all images, S², C] back into a map shaped ``like`` [B, C, H, W]."""
    B, C, H, W = like.shape
    side = math.isqrt(tokens.shape[1])
    windows = tokens.reshape(B, H // side, W // side, side, side, C)
    return windows.permute(0, 5, 1, 3, 2, 4).reshape(B, C, H, W)


def pick(maps: Tensor, order: Tensor) -> Tensor:
    """Pick the positions of [B, C, H, W] in an order, as tokens [B, HW, C]."""
    return maps.flatten(2).mT.contiguous().index_select(1, order)


def lay(tokens: Tensor, order: Tensor, like: Tensor) -> Tensor:
    """Lay tokens [..., C] out in an order as a map shaped ``like`` [B, C, H, W]."""
    B, C = like.shape[:2]
    return tokens.reshape(B, -1, C).index_select(1, order).mT.reshape(like.shape)


def position_bias(table: Tensor, side: int) -> Tensor:
    """Look up the bias [M, S², S²] of every query and key of a window in the table [(2S−1)², M]."""
    places = torch.cartesian_prod(*[torch.arange(side, device=table.device)] * 2)
    down, right = (places[:, None] - places + side - 1).unbind(-1)
    return table[down * (2 * side - 1) + right].permute(2, 0, 1)
