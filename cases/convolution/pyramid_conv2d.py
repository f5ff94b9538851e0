"""Pyramidal convolution: every level has its own kernel size and number of groups, and some of the outputs.

Duta et al., Pyramidal Convolution, 2020 (arXiv 2006.11538), section 3 and figure 2. The levels have kernels
of 3×3, 5×5, 7×7 and 9×9, in that order; all see the whole input, and their outputs are joined. PyConvResNet
gives them 1, 4, 8 and 16 groups, and 4, 3, 2 and 1 levels in its four stages, with Co/4 outputs each of
four levels, Co/4, Co/4 and Co/2 of three and Co/2 each of two, as in the released code (iduta/pyconv).
PyConvHGResNet has more groups, which the option ``groups`` names. That code calls the framework's
convolution level by level: ``authors`` here; it computes the formula. The operator equals one dense
convolution with the largest kernel, in which the rims of smaller kernels and all entries between channels
of different groups are zero.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

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
    parameter,
    sweep,
    taps_in_bounds,
)

operator = Operator(
    "pyramid_conv2d",
    family="convolution",
    source="Duta et al. 2020, arXiv 2006.11538, section 3",
    note=(
        "Han et al. 2022 call it low rank in space; the matrices between its positions have full rank. The "
        "traits are those of one group at every level: of several groups, levels read different channels."
    ),
    traits=Traits(space="local", channels="all", sharing=("positions",)),
    probed_at=Dims(B=1, C=4, Co=8, H=7, W=9, levels=3, groups="1-1-1"),
)


def reference(
    x: Tensor,
    weight3: Tensor,
    weight5: Tensor | None = None,
    weight7: Tensor | None = None,
    weight9: Tensor | None = None,
    *,
    stride: int = 1,
) -> Tensor:
    """y[b,f+o,i,j] = Σ_cuv weightK[o,c,u,v] · x[b, ⌊oG/O⌋·C/G + c, i·s+u−⌊K/2⌋, j·s+v−⌊K/2⌋] for every level.

    x [B, C, H, W], zero outside the map; weightK [O, C/G, K, K] with the kernel side K, the groups G and the
    outputs O of a level; f the outputs of all levels before it; s the stride; y [B, Co, ⌈H/s⌉, ⌈W/s⌉] with Co
    the sum of all O.
    """
    B, C = x.shape[:2]
    levels = []
    for weight in (weight3, weight5, weight7, weight9):
        if weight is not None:
            outputs, C_group, K = weight.shape[:3]
            G = C // C_group
            taps = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
            grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
            kernels = weight.reshape(G, outputs // G, C_group, K, K)
            level = torch.einsum("bgchwuv,gocuv->bgohw", grouped, kernels)
            levels.append(level.reshape(B, outputs, *taps.shape[2:4]))
    return torch.cat(levels, 1)


class Level(NamedTuple):
    """A level: its kernel side, its groups and its outputs."""

    K: int
    G: int
    outputs: int


# By the number of levels: their shares of the outputs, in quarters.
QUARTERS = {1: (4,), 2: (2, 2), 3: (1, 1, 2), 4: (1, 1, 1, 1)}


def groups_of(d: Dims) -> str:
    """Return the groups of the levels, joined by hyphens: 1, 4, 8 and 16 unless the workload names others."""
    return str(d.get("groups", "-".join(("1", "4", "8", "16")[: d.levels])))


def levels_of(d: Dims) -> list[Level]:
    """Return the levels that the workload has."""
    groups = (int(part) for part in groups_of(d).split("-"))
    shares = (d.Co * quarters // 4 for quarters in QUARTERS[d.levels])
    return [Level(*level) for level in zip((3, 5, 7, 9), groups, shares, strict=False)]


def domain(d: Dims) -> str | None:
    """Refuse other numbers of levels, and levels or groups of unequal size."""
    if d.levels not in QUARTERS:
        return f"a pyramid of {d.levels} levels has no kernels here: choose 1 to 4 levels"
    if not re.fullmatch(r"[1-9]\d*(-[1-9]\d*)*", groups_of(d)) or groups_of(d).count("-") != d.levels - 1:
        return (
            f"{groups_of(d)!r} are not the groups of {d.levels} levels: "
            "name one positive number for each, joined by hyphens"
        )
    parts = 4 // min(QUARTERS[d.levels])
    if d.Co % parts:
        return f"{d.Co} outputs are no {parts} parts of one size: choose Co as a multiple of {parts}"
    for K, G, outputs in levels_of(d):
        if d.C % G or outputs % G:
            return (
                f"{G} groups cannot share {d.C} channels and the {outputs} outputs of the level of {K}×{K} "
                "evenly: choose a divisor of both"
            )
    return None


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs, a weight for every level that there is."""
    weights = {
        f"weight{K}": parameter(outputs, d.C // G, K, K, fan_in=d.C // G * K**2)
        for K, G, outputs in levels_of(d)
    }
    return {"x": activation(d.B, d.C, d.H, d.W), **weights}


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    stride = d.get("stride", 1)
    return d.B, d.Co, -(-d.H // stride), -(-d.W // stride)


def cost(d: Dims) -> Cost:
    """K²·C/G multiply-adds per output of a level."""
    B, _, height, width = output(d)
    weights, inside = 0, 0
    for K, G, outputs in levels_of(d):
        rows, columns = (taps_in_bounds(size, K, d.get("stride", 1)) for size in (d.H, d.W))
        weights += outputs * (d.C // G) * K**2
        inside += B * outputs * (d.C // G) * rows * columns
    return Cost(
        params=weights,
        macs=B * height * width * weights,
        macs_in_bounds=inside,
        elements_read=B * d.C * d.H * d.W + weights,
        elements_written=B * d.Co * height * width,
    )


PYCONV = "PyConvResNet-50, Duta et al. 2020, table 1, and released code"
DOWN = PYCONV + "; the first block of a stage"
HIGH = "PyConvHGResNet-50, Duta et al. 2020, table 1, and released code"
WORKLOADS = [
    Workload("pyconvresnet50/stage2", Dims(B=1, C=128, Co=128, H=28, W=28, levels=3), PYCONV),
    Workload("pyconvresnet50/stage1", Dims(B=1, C=64, Co=64, H=56, W=56, levels=4), PYCONV),
    Workload("pyconvresnet50/stage2_down", Dims(B=1, C=128, Co=128, H=56, W=56, levels=3, stride=2), DOWN),
    Workload("pyconvresnet50/stage3", Dims(B=1, C=256, Co=256, H=14, W=14, levels=2), PYCONV),
    Workload("pyconvresnet50/stage4", Dims(B=1, C=512, Co=512, H=7, W=7, levels=1), PYCONV),
    Workload(
        "pyconvhgresnet50/stage1", Dims(B=1, C=128, Co=128, H=56, W=56, levels=4, groups="32-32-32-32"), HIGH
    ),
    Workload(
        "pyconvhgresnet50/stage2", Dims(B=1, C=256, Co=256, H=28, W=28, levels=3, groups="32-64-64"), HIGH
    ),
]
SWEPT = sweep(WORKLOADS[0], levels=(1, 2, 3, 4))
SIZES = Dims(B=2, C=16, Co=64, levels=4)
FEW = Dims(B=2, C=8, Co=8, levels=3, groups="1-2-2")

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=(
        SIZES.replace(H=3, W=4),
        SIZES.replace(H=10, W=1, stride=2),
        FEW.replace(H=7, W=15),
        FEW.replace(H=6, W=5, stride=3),
        Dims(B=2, C=4, Co=8, H=5, W=11, levels=2),
        Dims(B=3, C=4, Co=3, H=2, W=3, levels=1),
    ),
    polynomial=True,
)


@core.implementation("authors")
def authors(
    x: Tensor,
    weight3: Tensor,
    weight5: Tensor | None = None,
    weight7: Tensor | None = None,
    weight9: Tensor | None = None,
    *,
    stride: int,
) -> Tensor:
    """Call the framework's convolution on every level and join the results, as the authors do."""
    weights = [weight for weight in (weight3, weight5, weight7, weight9) if weight is not None]
    return torch.cat([convolve(x, weight, stride) for weight in weights], 1)


@core.implementation("channels_last")
def channels_last(
    x: Tensor,
    weight3: Tensor,
    weight5: Tensor | None = None,
    weight7: Tensor | None = None,
    weight9: Tensor | None = None,
    *,
    stride: int,
) -> Tensor:
    """Call it on a map with its channels innermost; the copy of the map is part of the call."""
    map_last = x.contiguous(memory_format=torch.channels_last)
    return authors(map_last, weight3, weight5, weight7, weight9, stride=stride)


def merged_groups(G: int, outputs: int) -> int:
    """Return how many groups to merge so that each has four outputs, one if that cannot be."""
    return next((m for m in range(1, G + 1) if G % m == 0 and outputs // G * m >= 4), 1)


@core.implementation(
    "merged",
    preferred=True,
    counted=lambda d: (
        torch.Size(output(d)[2:]).numel()
        * d.B
        * sum(outputs * d.C // G * merged_groups(G, outputs) * K**2 for K, G, outputs in levels_of(d))
    ),
    counted_because="the zeros between merged groups are multiplied as well",
)
def merged(
    x: Tensor,
    weight3: Tensor,
    weight5: Tensor | None = None,
    weight7: Tensor | None = None,
    weight9: Tensor | None = None,
    *,
    stride: int,
) -> Tensor:
    """Merge groups of fewer than four outputs, which the CPU convolves slowly, and go level by level."""
    levels = []
    for weight in (weight3, weight5, weight7, weight9):
        if weight is not None:
            G = x.shape[1] // weight.shape[1]
            m = merged_groups(G, len(weight))
            levels.append(convolve(x, weight if m == 1 else merge(weight, G, m), stride))
    return torch.cat(levels, 1)


@core.implementation(
    "dense",
    counted=lambda d: d.C * (2 * d.levels + 1) ** 2 * torch.Size(output(d)).numel(),
    counted_because="the zeros of the one large kernel are multiplied as well",
)
def dense(
    x: Tensor,
    weight3: Tensor,
    weight5: Tensor | None = None,
    weight7: Tensor | None = None,
    weight9: Tensor | None = None,
    *,
    stride: int,
) -> Tensor:
    """Write all levels as one dense kernel, as large as the largest, and call the convolution once."""
    weights = [weight for weight in (weight3, weight5, weight7, weight9) if weight is not None]
    C, K = x.shape[1], weights[-1].shape[-1]
    levels = []
    for weight in weights:
        G, rim = C // weight.shape[1], (K - weight.shape[-1]) // 2
        levels.append(F.pad(merge(weight, G, G), (rim,) * 4))
    return convolve(x, torch.cat(levels), stride)


def convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Call the framework's convolution with as many groups as the weight [O, C/G, K, K] implies."""
    C_group, K = weight.shape[1:3]
    return F.conv2d(x, weight, stride=stride, padding=K // 2, groups=x.shape[1] // C_group)


def merge(weight: Tensor, G: int, m: int) -> Tensor:
    """Write a weight [O, C/G, K, K] of G groups as one of G/m groups [O, m·C/G, K, K], zero between the m."""
    outputs, C_group, K = weight.shape[:3]
    blocks = weight.reshape(G // m, m, outputs // G, C_group, K, K).permute(0, 2, 3, 4, 5, 1)
    apart = torch.diag_embed(blocks)  # [G/m, O/G, C/G, K, K, m, m]
    return apart.permute(0, 5, 1, 6, 2, 3, 4).reshape(outputs, m * C_group, K, K)
