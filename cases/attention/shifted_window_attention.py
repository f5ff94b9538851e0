"""Shifted window attention: the map is rolled before it is cut into S×S windows, and rolled back after.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021
(arXiv 2103.14030), section 3.2 and fig. 4, called SW-MSA there; the paper's window side M is S here, its
heads are M. The map is rolled up and left by ``shift``, ⌊S/2⌋ unless the workload names another. The windows
at the lower and right border then hold positions that the roll carried from the other side of the map; these
and those that were there before do not attend to each other. The paper masks such pairs, here with −∞.

The released code (microsoft/Swin-Transformer) adds −100 in place of −∞: a masked logit that is larger than
the others by d still gets a weight of e^(d−100), which rounding hides up to about d = 63 in float64 and
d = 83 in float32. It does not shift where a side of the map is a single window, and neither does this page
unless the shift is named. The core takes attention maps with all entries as given, those of masked pairs
included.
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

from .self_attention import merge_heads, split_heads
from .window_attention import cut, lay, pick, position_bias, put_back

operator = Operator(
    "shifted_window_attention",
    family="attention",
    source="Liu et al. 2021, ICCV, arXiv 2103.14030, section 3.2",
    note="the partition of window attention, rolled by half a window",
    traits=Traits(space="window", channels="own", sharing=("groups",), dynamic="per position", degree=3),
    probed_at=Dims(B=1, C=4, H=9, W=6, S=3, M=2),
)


def reference(value: Tensor, attention: Tensor, *, shift: int) -> Tensor:
    """y[b, mD+e, p] = Σ_q attention[b, n, m, p, q] · value[b, mD+e, q], p and q in rolled window n.

    Row r of the rolled map is row (r+shift) mod H of the map, and columns likewise. value [B, C, H, W];
    attention [B, HW/S², M, S², S²], windows and the positions in them in row order of the rolled map;
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, S = attention.shape[2], math.isqrt(attention.shape[-1])
    rolled = torch.cat([value[:, :, shift:], value[:, :, :shift]], 2)
    rolled = torch.cat([rolled[..., shift:], rolled[..., :shift]], 3)
    windows = rolled.reshape(B, M, C // M, H // S, S, W // S, S)
    maps = attention.reshape(B, H // S, W // S, M, S, S, S, S)
    mixed = torch.einsum("bhwmijkl,bmdhkwl->bmdhiwj", maps, windows).reshape(B, C, H, W)
    mixed = torch.cat([mixed[:, :, H - shift :], mixed[:, :, : H - shift]], 2)
    return torch.cat([mixed[..., W - shift :], mixed[..., : W - shift]], 3)


def module_reference(
    x: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    table: Tensor,
    *,
    heads: int,
    window: int,
    shift: int,
) -> Tensor:
    """y[b] = W_o·[a_1; …; a_M] + b_o with a_m = softmax(q_m·k_m/√D + table[offset, m] + mask)·v_m.

    Windows are those of the map rolled by shift; mask is −∞ for two positions of a window of which the roll
    carried one across the border of the rows, or of the columns, and not the other, else 0. x [B, C, H, W];
    qkv [3C, C] with qkv_bias [3C], ordered q, k, v and by heads within each; proj [C, C] with proj_bias [C];
    table [(2S−1)², M] by the offset of the query from the key, rows first; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, S = heads, window
    projected = torch.einsum("oc,bchw->bohw", qkv, x) + qkv_bias[:, None, None]
    rolled = projected.roll((-shift, -shift), (2, 3))
    q, k, v = rolled.reshape(B, 3, M, C // M, H // S, S, W // S, S).unbind(1)
    steps = torch.arange(S, device=x.device)
    offsets = steps[:, None] - steps + S - 1
    entries = offsets[:, None, :, None] * (2 * S - 1) + offsets[:, None, :]
    logits = torch.einsum("bmdhiwj,bmdhkwl->bhwmijkl", q, k) * (C // M) ** -0.5
    logits = logits + table[entries].permute(4, 0, 1, 2, 3)
    rows = (torch.arange(H, device=x.device) >= H - shift).reshape(H // S, S)
    columns = (torch.arange(W, device=x.device) >= W - shift).reshape(W // S, S)
    apart_in_rows = (rows[:, :, None] != rows[:, None, :]).reshape(H // S, 1, 1, S, 1, S, 1)
    apart_in_columns = (columns[:, :, None] != columns[:, None, :]).reshape(W // S, 1, 1, S, 1, S)
    logits = logits.masked_fill(apart_in_rows | apart_in_columns, -torch.inf)
    weights = logits.flatten(-2).softmax(-1).reshape(logits.shape)
    mixed = torch.einsum("bhwmijkl,bmdhkwl->bmdhiwj", weights, v).reshape(B, C, H, W)
    back = mixed.roll((shift, shift), (2, 3))
    return torch.einsum("oc,bchw->bohw", proj, back) + proj_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    windows = d.H // d.S * (d.W // d.S)
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, windows, d.M, d.S**2, d.S**2, softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "qkv": parameter(3 * d.C, d.C, fan_in=d.C),
        "qkv_bias": parameter(3 * d.C),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
        "table": parameter((2 * d.S - 1) ** 2, d.M),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def options(d: Dims) -> Mapping[str, int]:
    """Shift: ⌊S/2⌋ unless the workload names it, and none where a side of the map is a single window."""
    default = d.S // 2 if min(d.H, d.W) > d.S else 0
    return {"shift": d.get("shift", default)}


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if d.H % d.S or d.W % d.S:
        return (
            f"windows of {d.S}×{d.S} do not tile a map of {d.H}×{d.W}: choose H and W as multiples of S, or "
            "pad the map before"
        )
    if options(d)["shift"] >= min(d.H, d.W):
        return (
            f"a shift of {d.shift} carries a map of {d.H}×{d.W} across its own border: choose it below both"
        )
    return None


def cost(d: Dims) -> Cost:
    """S²·C multiply-adds per position, masked pairs included."""
    positions = d.B * d.H * d.W
    return Cost(
        params=0,
        macs=positions * d.C * d.S**2,
        elements_read=positions * (d.C + d.M * d.S**2),
        elements_written=positions * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """4C² + 2S²·C multiply-adds per position, as the authors count: masked pairs are computed as well."""
    positions = d.B * d.H * d.W
    params = 4 * d.C**2 + 4 * d.C + (2 * d.S - 1) ** 2 * d.M
    weights = positions * d.M * d.S**2
    masked = weights if options(d)["shift"] else 0
    return Cost(
        params=params,
        macs=positions * (4 * d.C**2 + 2 * d.S**2 * d.C),
        elements_read=positions * d.C + params,
        elements_written=positions * d.C,
        # Scale, position bias, sum and division of every weight, and its mask; the biases of four layers.
        elementwise=4 * weights + masked + 4 * positions * d.C,
        transcendental=weights,
    )


SWIN = "Swin-T, Liu et al. 2021, table 7: windows of 7×7 shifted by 3, 32 channels per head"
NETWORK = [
    Workload("swin_t/stage1_shifted", Dims(B=1, C=96, H=56, W=56, S=7, M=3), SWIN),
    Workload("swin_t/stage2_shifted", Dims(B=1, C=192, H=28, W=28, S=7, M=6), SWIN),
    Workload("swin_t/stage3_shifted", Dims(B=1, C=384, H=14, W=14, S=7, M=12), SWIN),
]
# Windows of all sizes that tile the map; weights shared by all channels, by a head's, and by none.
WORKLOADS = [
    *NETWORK,
    *sweep(NETWORK[1], S=(2, 4, 7, 14), M=(1, 3, 6, 24, 192), H=(14, 28, 56, 112), shift=(1, 6)),
]
PROOF_DIMS = (
    Dims(B=2, C=4, H=9, W=6, S=3, M=2),
    Dims(B=2, C=4, H=4, W=6, S=2, M=2),
    Dims(B=2, C=3, H=8, W=12, S=4, M=3),
    Dims(B=2, C=3, H=6, W=9, S=3, M=1, shift=2),
    # A side that is a single window: not shifted, then shifted because it is asked for.
    Dims(B=2, C=4, H=2, W=6, S=2, M=2),
    Dims(B=2, C=4, H=3, W=6, S=3, M=2, shift=1),
    Dims(B=2, C=4, H=6, W=4, S=2, M=2, shift=3),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
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
    options=lambda d: {"heads": d.M, "window": d.S, **options(d)},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
)


@core.generator(inputs=lambda d: {"query": parameter(d.C, d.C), "key": parameter(d.C, d.C)})
def linear_logits(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
    """The logits of linear queries and keys at any two positions of a window, zero for masked pairs."""
    shift = options(d)["shift"]
    rolled = x.roll((-shift, -shift), (2, 3))
    q, k = (
        torch.einsum("oc,bchw->bohw", weight, rolled).reshape(d.B, d.M, -1, d.H // d.S, d.S, d.W // d.S, d.S)
        for weight in (query, key)
    )
    logits = torch.einsum("bmdhiwj,bmdhkwl->bhwmijkl", q, k).reshape(d.B, -1, d.M, d.S**2, d.S**2)
    return {"attention": logits.masked_fill(apart(d.H, d.W, d.S, shift, x.device)[:, None], 0)}


@core.implementation("authors")
def authors(value: Tensor, attention: Tensor, *, shift: int) -> Tensor:
    """Roll the map, cut it into windows, multiply matrices per head, and undo both, as Swin does."""
    S = math.isqrt(attention.shape[-1])
    tokens = split_heads(cut(roll(value, -shift), S), attention.shape[2])
    mixed = merge_heads(attention.flatten(0, 1) @ tokens)
    return roll(put_back(mixed, value), shift)


@core.implementation("indexed", preferred=True)
def indexed(value: Tensor, attention: Tensor, *, shift: int) -> Tensor:
    """Pick the tokens of all windows by number, which rolls and cuts in one copy, and put them back so."""
    S = math.isqrt(attention.shape[-1])
    there, back = orders(value, S, shift)
    tokens = split_heads(pick(value, there).view(-1, S * S, value.shape[1]), attention.shape[2])
    return lay(merge_heads(attention.flatten(0, 1) @ tokens), back, value)


def released(d: Dims) -> str | None:
    """Say why the released code cannot take these dimensions, or return None."""
    shift = options(d)["shift"]
    if shift and min(d.H, d.W) <= d.S:
        return "it does not shift where a side of the map is a single window"
    if shift and shift >= d.S:
        return f"it shifts by less than a window, not by {shift}"
    return None


@module.implementation("authors", supports=released)
def module_authors(
    x: Tensor,
    qkv: Tensor,
    qkv_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    table: Tensor,
    *,
    heads: int,
    window: int,
    shift: int,
) -> Tensor:
    """Roll, cut into windows, linear layers and two products of matrices, masked by −100, as Swin does."""
    H, W = x.shape[2:]
    tokens = F.linear(cut(roll(x, -shift), window), qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    logits = q * q.shape[-1] ** -0.5 @ k.mT + position_bias(table, window)
    if shift:
        masked = apart(H, W, window, shift, x.device)
        mask = x.new_zeros(masked.shape).masked_fill(masked, -100.0)
        logits = (logits.unflatten(0, (len(x), -1)) + mask[:, None]).flatten(0, 1)
    mixed = F.linear(merge_heads(logits.softmax(-1) @ v), proj, proj_bias)
    return roll(put_back(mixed, x), shift)


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
    table: Tensor,
    *,
    heads: int,
    window: int,
    shift: int,
) -> Tensor:
    """Pick the tokens of all windows and leave attention to torch's fused kernel, biases and −∞ its mask."""
    B, C, H, W = x.shape
    there, back = orders(x, window, shift)
    tokens = F.linear(pick(x, there).view(-1, window**2, C), qkv, qkv_bias)
    q, k, v = (split_heads(part, heads) for part in tokens.chunk(3, dim=-1))
    mask = position_bias(table, window).unsqueeze(0)
    if shift:
        # One mask per window, so the windows of an image stand beside its heads, and images share the mask.
        masked = apart(H, W, window, shift, x.device)
        mask = mask.masked_fill(masked[:, None], -torch.inf).flatten(0, 1).unsqueeze(0)
        q, k, v = (part.reshape(B, -1, *part.shape[2:]) for part in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    mixed = mixed.reshape(-1, heads, *mixed.shape[2:])
    return lay(F.linear(merge_heads(mixed), proj, proj_bias), back, x)


def roll(maps: Tensor, steps: int) -> Tensor:
    """Roll [B, C, H, W] down and right; nothing is copied where there is nothing to roll."""
    return maps.roll((steps, steps), (2, 3)) if steps else maps


def orders(maps: Tensor, side: int, shift: int) -> tuple[Tensor, Tensor]:
    """Number the positions of [B, C, H, W] in the order of rolled windows, and those in the map's order."""
    H, W = maps.shape[2:]
    places = torch.arange(H * W, device=maps.device).view(1, 1, H, W)
    windows = places.view(-1, side * side, 1)
    return cut(roll(places, -shift), side).flatten(), roll(put_back(windows, places), shift).flatten()


def apart(H: int, W: int, side: int, shift: int, device: torch.device) -> Tensor:
    """Tell which pairs of a window lie apart on the map before it was rolled, [windows, S², S²].

    As Swin does it: the borders of the last windows and of the rolled part cut the map into nine regions.
    """
    down, right = (
        (at >= len(at) - side).long() + (at >= len(at) - shift).long()
        for at in (torch.arange(size, device=device) for size in (H, W))
    )
    regions = cut((3 * down[:, None] + right)[None, None], side).squeeze(-1)
    return regions[:, None, :] != regions[:, :, None]
