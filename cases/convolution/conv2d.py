"""Convolution: one learned kernel, the same at every position and for every image.

y = W * x, with the weight W in G groups of channels; as in every framework the kernel is not
flipped, so the operator is a cross-correlation. LeCun et al., Gradient-Based Learning Applied to
Document Recognition, Proc. IEEE 86(11), 1998, section II; groups after Krizhevsky et al., NeurIPS
2012. Released code calls the framework's own convolution, ``authors`` here; it differs from the
formula in nothing but the order of its sums. The bias is left out, because a batch norm follows.
"""

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
    parameter,
    sweep,
    taps_in_bounds,
)

from ..workloads import grouped_maps

operator = Operator(
    "conv2d",
    family="convolution",
    source="LeCun et al. 1998, Proc. IEEE 86(11), section II",
    traits=Traits(space="local", channels="all", sharing=("positions",)),
    probed_at=Dims(B=1, C=4, Co=6, H=5, W=7, K=3, G=1),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """y[b,o,i,j] = Σ_cuv weight[o,c,u,v] · x[b, ⌊oG/Co⌋·C/G + c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; weight [Co, C/G, K, K]; s the stride and p the padding,
    ⌊K/2⌋ unless it is given; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    Co, C_group, K = weight.shape[:3]
    G = C // C_group
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    kernels = weight.reshape(G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,gocuv->bgohw", grouped, kernels).reshape(B, Co, *taps.shape[2:4])


def domain(d: Dims) -> str | None:
    """Refuse groups of unequal size; kernels may be even, and larger than the map."""
    if d.C % d.G or d.Co % d.G:
        return f"{d.G} groups cannot share {d.C} channels and {d.Co} outputs evenly: choose a divisor of both"
    return None


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs."""
    fan_in = d.C // d.G * d.K**2
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "weight": parameter(d.Co, d.C // d.G, d.K, d.K, fan_in=fan_in),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and padding, ⌊K/2⌋ unless it does."""
    return {"stride": d.get("stride", 1), "padding": d.get("padding", d.K // 2)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    stride, padding = options(d).values()
    height, width = ((size + 2 * padding - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.Co, height, width


def cost(d: Dims) -> Cost:
    """K²·C/G multiply-adds per output."""
    weights = d.Co * (d.C // d.G) * d.K**2
    outputs = torch.Size(output(d)).numel()
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=weights,
        macs=outputs * (d.C // d.G) * d.K**2,
        macs_in_bounds=d.B * d.Co * (d.C // d.G) * rows * columns,
        elements_read=d.B * d.C * d.H * d.W + weights,
        elements_written=outputs,
    )


RESNET = "ResNet-50, He et al. 2016, table 1; the stride is in the 3×3, as in torchvision"
RESNEXT = "ResNeXt-50 32×4d, Xie et al. 2017, table 1"
SWIN = "Swin-T's patch embedding, Liu et al. 2021, section 3.1"
WORKLOADS = [
    Workload("resnet50/stage1_k3", Dims(B=1, C=64, Co=64, H=56, W=56, K=3, G=1), RESNET),
    Workload("resnet50/stage2_k3_down", Dims(B=1, C=128, Co=128, H=56, W=56, K=3, G=1, stride=2), RESNET),
    Workload("resnet50/stage4_k3", Dims(B=1, C=512, Co=512, H=7, W=7, K=3, G=1), RESNET),
    Workload("resnet50/stem", Dims(B=1, C=3, Co=64, H=224, W=224, K=7, G=1, stride=2), RESNET),
    Workload("resnext50/stage1_k3", Dims(B=1, C=128, Co=128, H=56, W=56, K=3, G=32), RESNEXT),
    Workload("swin_t/patches", Dims(B=1, C=3, Co=96, H=224, W=224, K=4, G=1, stride=4, padding=0), SWIN),
]
SWEPT = sweep(WORKLOADS[0], K=(1, 3, 5, 7), G=(1, 2, 4, 16, 64))

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
        *grouped_maps(Co=6),
        *grouped_maps(Co=6, stride=2),
        Dims(B=2, C=4, Co=6, H=5, W=9, K=2, G=2, stride=2, padding=0),
        Dims(B=2, C=4, Co=6, H=3, W=4, K=4, G=2),
    ),
    polynomial=True,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution."""
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, stride=stride, padding=padding, groups=groups)


@core.implementation("channels_last")
def channels_last(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution on a map with its channels innermost; the copy is part of the call."""
    groups = x.shape[1] // weight.shape[1]
    map_last = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(map_last, weight, stride=stride, padding=padding, groups=groups)


@core.implementation("unfold")
def unfold(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gather the K² taps of every position into columns, then one matrix product per group."""
    B, C, H = x.shape[:3]
    Co, C_group, K = weight.shape[:3]
    G = C // C_group
    columns = F.unfold(x, (K, K), padding=padding, stride=stride).reshape(B, G, C_group * K * K, -1)
    height = (H + 2 * padding - K) // stride + 1
    kernels = weight.reshape(G, Co // G, -1).expand(B, -1, -1, -1)
    return (kernels @ columns).reshape(B, Co, height, -1)
