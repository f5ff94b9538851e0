"""Outlook attention: a position makes the attention map of the window around it, and windows overlap.

Yuan et al., VOLO: Vision Outlooker for Visual Recognition, 2021 (arXiv 2106.13112), eq. (3) to (5); the
paper's heads N are M here. A linear layer turns a position into M maps of K²×K²; a map mixes the values of
the window, and mixed windows are laid over each other and added up. Taps outside the map have the value zero
but take part in the softmax, and an output is the sum of as many windows as hold it (9, 6 or 4 for K = 3, by
how near the border is), so that its weights do not sum to one.

The released code (sail-sg/volo) has K = 3 and windows at every second position, with maps made from averages
over cells of 2×2, those at the border over what lies in the map: ``stride=2`` here. It computes the formula
with unfold, a product and fold on [B, H, W, C]; ``authors`` here does so from [B, C, H, W]. For an even K,
where the code pads too much, a window reaches one further up and left, as in eq. (3).
"""

import math
from collections.abc import Mapping
from itertools import product
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

from ..involution.involution import taps_inside
from ..workloads import grouped_maps

operator = Operator(
    "outlook_attention",
    family="attention",
    source="Yuan et al. 2021, arXiv 2106.13112, eq. (3) to (5)",
    note="its attention maps are linear in one position, without keys, so its degree is that of involution",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
)


def reference(value: Tensor, attention: Tensor, *, stride: int) -> Tensor:
    """y[b, mD+e, p] = Σ_n Σ_q attention[b, m, n, p−o_n, q−o_n] · value[b, mD+e, q], p and q in window n.

    value [B, C, H, W], zero outside the map; attention [B, M, P, K², K²], the P = ⌈H/s⌉·⌈W/s⌉ windows and the
    positions in them in row order, s the stride; window n = (i, j) begins at o_n = (i·s−⌊K/2⌋, j·s−⌊K/2⌋);
    y [B, C, H, W], head m owning the channels mD to mD+D−1.
    """
    B, C, H, W = value.shape
    M, K, s = attention.shape[1], math.isqrt(attention.shape[-1]), stride
    height, width = -(-H // s), -(-W // s)
    before, after = K // 2, (K - 1) // 2
    windows = F.pad(value, (before, after) * 2).unfold(2, K, s).unfold(3, K, s)
    windows = windows.reshape(B, M, C // M, height * width, K * K)
    mixed = torch.einsum("bmnpq,bmdnq->bmdpn", attention, windows).reshape(B, C, K, K, height, width, 1, 1)
    # Apart by the stride again, every tap of all windows is a map, moved by where the tap lies.
    spread = F.pad(mixed, (0, s - 1, 0, s - 1)).transpose(5, 6).reshape(B, C, K, K, height * s, width * s)
    moved = [
        F.pad(spread[:, :, u, v], (v, K - v, u, K - u))[..., before : before + H, before : before + W]
        for u in range(K)
        for v in range(K)
    ]
    return torch.stack(moved).sum(0)


def module_reference(
    x: Tensor,
    value: Tensor,
    attend: Tensor,
    attend_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    stride: int,
) -> Tensor:
    """y[b] = W_o·fold(A·unfold(W_v·x)) + b_o with A = softmax((attend·z + attend_bias)/√D).

    x [B, C, H, W]; z [B, C, ⌈H/s⌉, ⌈W/s⌉] its averages over cells of s×s, s the stride, a cell at the border
    over what lies in the map; value and proj [C, C]; attend [M·K⁴, C], ordered by heads, outputs and inputs
    of a window, the softmax being over inputs; windows and sums as in the core; y [B, C, H, W].
    """
    B, C, H, W = x.shape
    M, K, s = heads, math.isqrt(math.isqrt(attend.shape[0] // heads)), stride
    height, width = -(-H // s), -(-W // s)
    cells = F.pad(x, (0, -W % s, 0, -H % s)).reshape(B, C, height, s, width, s)
    inside = F.pad(torch.ones_like(x[:1, :1]), (0, -W % s, 0, -H % s)).reshape(height, s, width, s)
    means = cells.sum((3, 5)) / inside.sum((1, 3)) if s > 1 else x
    logits = torch.einsum("oc,bchw->bohw", attend, means) + attend_bias[:, None, None]
    logits = logits.reshape(B, M, K * K, K * K, height * width) * (C // M) ** -0.5
    before, after = K // 2, (K - 1) // 2
    projected = torch.einsum("oc,bchw->bohw", value, x)
    windows = F.pad(projected, (before, after) * 2).unfold(2, K, s).unfold(3, K, s)
    windows = windows.reshape(B, M, C // M, height * width, K * K)
    mixed = torch.einsum("bmpqn,bmdnq->bmdpn", logits.softmax(3), windows)
    mixed = mixed.reshape(B, C, K, K, height, width, 1, 1)
    spread = F.pad(mixed, (0, s - 1, 0, s - 1)).transpose(5, 6).reshape(B, C, K, K, height * s, width * s)
    moved = [
        F.pad(spread[:, :, u, v], (v, K - v, u, K - u))[..., before : before + H, before : before + W]
        for u in range(K)
        for v in range(K)
    ]
    return torch.einsum("oc,bchw->bohw", proj, torch.stack(moved).sum(0)) + proj_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "value": activation(d.B, d.C, d.H, d.W),
        "attention": generated(d.B, d.M, windows(d), d.K**2, d.K**2, softmax=-1),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "value": parameter(d.C, d.C, fan_in=d.C),
        "attend": parameter(d.M * d.K**4, d.C, fan_in=d.C),
        "attend_bias": parameter(d.M * d.K**4),
        "proj": parameter(d.C, d.C, fan_in=d.C),
        "proj_bias": parameter(d.C),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def domain(d: Dims) -> str | None:
    """Say why the formula defines nothing, or return None."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    return None


def windows(d: Dims) -> int:
    """Count the windows of a map."""
    stride = d.get("stride", 1)
    return int(-(-d.H // stride) * -(-d.W // stride))


def cost(d: Dims) -> Cost:
    """K⁴·C multiply-adds per window."""
    # A window with t taps inside the map has t² products of taps inside.
    rows, columns = (
        sum(taps**2 for taps in taps_inside(size, d.K, d.get("stride", 1))) for size in (d.H, d.W)
    )
    elements = d.B * d.C * d.H * d.W
    return Cost(
        params=0,
        macs=d.B * windows(d) * d.K**4 * d.C,
        macs_in_bounds=d.B * rows * columns * d.C,
        elements_read=elements + d.B * d.M * windows(d) * d.K**4,
        elements_written=elements,
    )


def module_cost(d: Dims) -> Cost:
    """2C² multiply-adds per position, and K⁴·C·(M + 1) per window."""
    elements = d.B * d.C * d.H * d.W
    weights = d.B * windows(d) * d.M * d.K**4
    params = 2 * d.C**2 + d.C + (d.C + 1) * d.K**4 * d.M
    layers = 2 * elements * d.C + weights * d.C
    products = cost(d)
    pooled = elements if d.get("stride", 1) > 1 else 0
    return Cost(
        params=params,
        macs=layers + products.macs,
        macs_in_bounds=layers + (products.macs_in_bounds or 0),
        elements_read=elements + params,
        elements_written=elements,
        # Bias, scale, sum and division of every weight; the average; the bias of the last layer.
        elementwise=4 * weights + pooled + elements,
        transcendental=weights,
    )


D1 = "VOLO-D1 as released (sail-sg/volo)"
D2 = "VOLO-D2 as released (sail-sg/volo), images of 384×384"
D5 = "VOLO-D5 as released (sail-sg/volo), images of 512×512"
NETWORK = [
    Workload("volo_d1/stage1", Dims(B=1, C=192, H=28, W=28, K=3, M=6, stride=2), D1),
    Workload("volo_d2_384/stage1", Dims(B=1, C=256, H=48, W=48, K=3, M=8, stride=2), D2),
    Workload("volo_d5_512/stage1", Dims(B=1, C=384, H=64, W=64, K=3, M=12, stride=2), D5),
]
# Windows that overlap and that do not; heads of all channels, of more and fewer than VOLO's 32, and of one.
WORKLOADS = [
    *NETWORK,
    *sweep(NETWORK[0], K=(2, 3, 5, 7), stride=(1, 2, 3), M=(1, 3, 12, 192), H=(7, 14, 28, 56)),
]
PROOF_DIMS = (
    *grouped_maps(M=2),
    *grouped_maps(M=2, stride=2),
    Dims(B=2, C=6, H=5, W=8, K=2, M=3),
    Dims(B=2, C=3, H=3, W=7, K=4, M=1, stride=3),
    Dims(B=2, C=3, H=4, W=5, K=3, M=3, stride=4),
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
    options=lambda d: {"heads": d.M, **options(d)},
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
)


@core.generator(inputs=lambda d: {"attend": parameter(d.M * d.K**4, d.C)})
def linear_maps(d: Dims, x: Tensor, attend: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on every position, or with a stride on the sum of every cell."""
    s = d.get("stride", 1)
    cells = F.pad(x, (0, -d.W % s, 0, -d.H % s)).unfold(2, s, s).unfold(3, s, s).sum((-1, -2))
    maps = torch.einsum("oc,bchw->bohw", attend, cells)
    return {"attention": maps.reshape(d.B, d.M, d.K**2, d.K**2, -1).permute(0, 1, 4, 2, 3)}


def released(d: Dims) -> str | None:
    """Say why the released code cannot take these dimensions, or return None."""
    return None if d.K % 2 else f"it pads by K/2 on all sides, which makes too many windows with K={d.K}"


@core.implementation("authors", supports=released)
def authors(value: Tensor, attention: Tensor, *, stride: int) -> Tensor:
    """Unfold, multiply every window by its maps, and fold, as VOLO does."""
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    columns = F.unfold(value, (K, K), padding=K // 2, stride=stride)
    tokens = columns.view(B, M, C // M, K * K, -1).permute(0, 1, 4, 3, 2)
    mixed = (attention @ tokens).permute(0, 1, 4, 3, 2).reshape(B, C * K * K, -1)
    return F.fold(mixed, (H, W), (K, K), padding=K // 2, stride=stride)


@core.implementation("shifted", preferred=True)
def shifted(value: Tensor, attention: Tensor, *, stride: int) -> Tensor:
    """Copy the windows with the channels of a head innermost, multiply, and add up shifted maps."""
    B, C, H, W = value.shape
    M, K = attention.shape[1], math.isqrt(attention.shape[-1])
    tokens = value.reshape(B, M, C // M, H, W).permute(0, 1, 3, 4, 2)
    windows: Tensor = Gather.apply(tokens, K, stride)  # type: ignore[no-untyped-call]
    laid: Tensor = Scatter.apply(attention @ windows, K, stride, H, W)  # type: ignore[no-untyped-call]
    return laid.permute(0, 1, 4, 2, 3).reshape(B, C, H, W)


@module.implementation("authors", supports=released)
def module_authors(
    x: Tensor,
    value: Tensor,
    attend: Tensor,
    attend_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    stride: int,
) -> Tensor:
    """Linear layers on [B, H, W, C] around unfold, a product and fold, as VOLO does."""
    values = F.linear(x.permute(0, 2, 3, 1), value).permute(0, 3, 1, 2)
    maps = make_maps(x, attend, attend_bias, heads, stride)
    mixed = authors(values, maps, stride=stride)
    return F.linear(mixed.permute(0, 2, 3, 1), proj, proj_bias).permute(0, 3, 1, 2)


@module.implementation("shifted", preferred=True)
def module_shifted(
    x: Tensor,
    value: Tensor,
    attend: Tensor,
    attend_bias: Tensor,
    proj: Tensor,
    proj_bias: Tensor,
    *,
    heads: int,
    stride: int,
) -> Tensor:
    """1×1 convolutions around shifted maps."""
    maps = make_maps(x, attend, attend_bias, heads, stride)
    mixed = shifted(F.conv2d(x, value[:, :, None, None]), maps, stride=stride)
    return F.conv2d(mixed, proj[:, :, None, None], proj_bias)


def make_maps(x: Tensor, attend: Tensor, bias: Tensor, heads: int, stride: int) -> Tensor:
    """Make the attention maps [B, M, P, K², K²] of all windows from averages of x [B, C, H, W]."""
    means = F.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x
    side = math.isqrt(attend.shape[0] // heads)
    rows = F.linear(means.flatten(2).mT, attend, bias)
    logits = rows.reshape(len(x), -1, heads, side, side).transpose(1, 2)
    return logits.mul((x.shape[1] // heads) ** -0.5).softmax(-1)


def gather(maps: Tensor, side: int, stride: int) -> Tensor:
    """Copy the windows of [B, M, H, W, D], zero outside the map, to [B, M, P, K², D]."""
    B, M, _, _, D = maps.shape
    padded = F.pad(maps, (0, 0) + (side // 2, (side - 1) // 2) * 2).contiguous()
    windows = padded.unfold(2, side, stride).unfold(3, side, stride)  # [B, M, ⌈H/s⌉, ⌈W/s⌉, D, K, K]
    return windows.permute(0, 1, 2, 3, 5, 6, 4).reshape(B, M, -1, side * side, D)


def scatter(windows: Tensor, side: int, stride: int, H: int, W: int) -> Tensor:
    """Add windows [B, M, P, K², D] up where they lie in a map, [B, M, H, W, D]."""
    B, M, _, _, D = windows.shape
    height, width = -(-H // stride), -(-W // stride)
    total = windows.new_zeros(B, M, H + side - 1, W + side - 1, D)
    taps = windows.view(B, M, height, width, side * side, D).unbind(4)
    for (u, v), tap in zip(product(range(side), range(side)), taps, strict=True):
        total[:, :, u : u + stride * height : stride, v : v + stride * width : stride] += tap
    return total[:, :, side // 2 : side // 2 + H, side // 2 : side // 2 + W]


class Gather(torch.autograd.Function):
    """Gathering windows, whose gradient scatters: autograd's own would fill a map for every tap."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, side: int, stride: int) -> Tensor:
        """Gather."""
        ctx.sizes = side, stride, *maps.shape[2:4]
        return gather(maps, side, stride)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Scatter."""
        return scatter(grad.contiguous(), *ctx.sizes), None, None


class Scatter(torch.autograd.Function):
    """Scattering windows, whose gradient gathers."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor, side: int, stride: int, H: int, W: int) -> Tensor:
        """Scatter."""
        ctx.sizes = side, stride
        return scatter(windows, side, stride, H, W)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Gather."""
        return gather(grad, *ctx.sizes), None, None, None, None
