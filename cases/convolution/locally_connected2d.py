"""Locally connected layer: a convolution whose weights are not shared, each output position having its own.

LeCun, Generalization and Network Design Strategies, 1989 (University of Toronto, CRG-TR-89-4), whose Net-3 is
of such layers; Taigman et al., DeepFace, CVPR 2014, section 2.2. It stands between the fully connected layer,
whose connections are not local, and convolution, whose weights are shared besides: locality alone makes no
convolution. It learns H'·W' times the weights of a convolution with the same kernels, for the same
multiply-adds; with as many groups as channels it is a depthwise convolution without sharing. The bias, untied
too, is left out. DeepFace's authors released no code, and cuda-convnet's ``local`` layer is CUDA of 2012 that
torch cannot call, so nothing here is named after them.
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
    "locally_connected2d",
    family="convolution",
    source="Taigman et al. 2014, CVPR, section 2.2",
    traits=Traits(space="local", channels="all"),
    probed_at=Dims(B=1, C=4, Co=6, H=5, W=7, K=3, G=1),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """y[b,o,i,j] = Σ_cuv weight[i,j,o,c,u,v] · x[b, ⌊oG/Co⌋·C/G + c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; weight [H', W', Co, C/G, K, K]; s the stride and p the padding,
    ⌊K/2⌋ unless it is given; y [B, Co, H', W'] with H' = ⌊(H+2p−K)/s⌋+1 and W' = ⌊(W+2p−K)/s⌋+1.
    """
    B, C = x.shape[:2]
    height, width, Co, C_group, K = weight.shape[:5]
    G = C // C_group
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    grouped = taps.reshape(B, G, C_group, height, width, K, K)
    kernels = weight.reshape(height, width, G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,hwgocuv->bgohw", grouped, kernels).reshape(B, Co, height, width)


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
        "weight": parameter(*output(d)[2:], d.Co, d.C // d.G, d.K, d.K, fan_in=fan_in),
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
    """K²·C/G multiply-adds per output, each with a weight of its own that the images alone share."""
    weights = torch.Size(output(d)[1:]).numel() * (d.C // d.G) * d.K**2
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=weights,
        macs=d.B * weights,
        macs_in_bounds=d.B * d.Co * (d.C // d.G) * rows * columns,
        elements_read=d.B * d.C * d.H * d.W + weights,
        elements_written=torch.Size(output(d)).numel(),
    )


DEEPFACE = "DeepFace, Taigman et al. 2014, figure 2: maps are not padded"
CUDA_CONVNET = "cuda-convnet, layers-conv-local-13pct.cfg, on CIFAR-10 cropped to 24×24"
UNTIED = "DWNet-T, Han et al. 2022, arXiv 2106.04263, section 4.1, with depthwise weights that are not shared"
WORKLOADS = [
    Workload("deepface/l6", Dims(B=1, C=16, Co=16, H=25, W=25, K=5, G=1, padding=0), DEEPFACE),
    Workload("deepface/l5", Dims(B=1, C=16, Co=16, H=55, W=55, K=7, G=1, stride=2, padding=0), DEEPFACE),
    Workload("cuda_convnet/local3", Dims(B=1, C=64, Co=64, H=6, W=6, K=3, G=1), CUDA_CONVNET),
    Workload("cuda_convnet/local4_b16", Dims(B=16, C=64, Co=32, H=6, W=6, K=3, G=1), CUDA_CONVNET),
    Workload("dwnet_t/stage3", Dims(B=1, C=384, Co=384, H=14, W=14, K=7, G=384), UNTIED),
    Workload("dwnet_t/stage4", Dims(B=1, C=768, Co=768, H=7, W=7, K=7, G=768), UNTIED),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 5, 7), G=(1, 2, 4, 16))

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


@core.implementation(
    "unfold",
    counted=lambda d: 0,
    counted_because="the taps are multiplied and added elementwise, which product counters do not see",
)
def unfold(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gather the taps of every position, multiply by its weights and add; good for a channel per group."""
    B, C = x.shape[:2]
    height, width, Co, C_group, K = weight.shape[:5]
    G, terms = C // C_group, C_group * K * K
    taps = F.pad(x, (padding,) * 4).unfold(2, K, stride).unfold(3, K, stride).permute(0, 2, 3, 1, 4, 5)
    products = taps.reshape(B, height, width, G, 1, terms) * weight.reshape(height, width, G, Co // G, terms)
    return products.sum(-1).reshape(B, height, width, Co).permute(0, 3, 1, 2)


@core.implementation("matmul", preferred=True)
def matmul(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Multiply, at every position and in every group, the taps of all images with the weights' matrix."""
    B, C = x.shape[:2]
    height, width, Co, C_group, K = weight.shape[:5]
    G = C // C_group
    # With positions outermost a copy of the taps of one position is one of rows that lie close together.
    padded = F.pad(x, (padding,) * 4).permute(2, 3, 1, 0).contiguous()  # [H+2p, W+2p, C, B]
    taps = padded.unfold(0, K, stride).unfold(1, K, stride)
    rows = taps.reshape(height, width, G, C_group, B, K * K).transpose(3, 4)
    matrices = weight.reshape(-1, Co // G, C_group * K * K)
    mixed = rows.reshape(-1, B, C_group * K * K) @ matrices.mT  # [H'·W'·G, B, Co/G]
    return mixed.reshape(height, width, G, B, Co // G).permute(3, 2, 4, 0, 1).reshape(B, Co, height, width)
