"""Depthwise convolution: one learned K×K kernel per channel, and no sum over channels.

Sifre, Rigid-Motion Scattering for Image Classification, PhD thesis 2014, section 6.2; Howard et al.,
MobileNets, 2017 (arXiv 1704.04861), section 3.1, whose K̂ is ``weight`` here. Released code calls the
framework's convolution with as many groups as channels, ``authors`` here; it computes the formula.
"""

from collections.abc import Mapping
from itertools import product

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
    "depthwise_conv2d",
    family="convolution",
    source="Howard et al. 2017, arXiv 1704.04861, section 3.1",
    traits=Traits(space="local", channels="own", sharing=("positions",)),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """y[b,c,i,j] = Σ_uv weight[c,u,v] · x[b, c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; weight [C, K, K]; s the stride and p the padding, ⌊K/2⌋
    unless it is given; y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    K = weight.shape[-1]
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    return torch.einsum("bchwuv,cuv->bchw", taps, weight)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "weight": parameter(d.C, d.K, d.K, fan_in=d.K**2),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and padding, ⌊K/2⌋ unless it does."""
    return {"stride": d.get("stride", 1), "padding": d.get("padding", d.K // 2)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    stride, padding = options(d).values()
    height, width = ((size + 2 * padding - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.C, height, width


def cost(d: Dims) -> Cost:
    """K² multiply-adds per output."""
    outputs = torch.Size(output(d)).numel()
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=d.C * d.K**2,
        macs=outputs * d.K**2,
        macs_in_bounds=d.B * d.C * rows * columns,
        elements_read=d.B * d.C * d.H * d.W + d.C * d.K**2,
        elements_written=outputs,
    )


DWNET = (
    "DWNet-T, Han et al. 2022, arXiv 2106.04263, section 4.1: kernels of 7×7; stages 1 and 4 are ConvNeXt-T's"
)
MOBILENET = "MobileNetV2, Sandler et al. 2018, table 2"
EFFICIENTNET = "EfficientNet-B0, Tan and Le 2019, table 1"
WORKLOADS = [
    Workload("dwnet_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7), DWNET),
    Workload("dwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7), DWNET),
    Workload("dwnet_t/stage3", Dims(B=1, C=384, H=14, W=14, K=7), DWNET),
    Workload("dwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7), DWNET),
    Workload("mobilenetv2/stage2_k3_down", Dims(B=1, C=96, H=112, W=112, K=3, stride=2), MOBILENET),
    Workload("efficientnet_b0/stage4_k5_down", Dims(B=1, C=144, H=56, W=56, K=5, stride=2), EFFICIENTNET),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 5, 7, 9, 11))

NO_PRODUCTS = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=(
        *grouped_maps(),
        *grouped_maps(stride=2),
        Dims(B=2, C=4, H=5, W=9, K=2, stride=2, padding=0),
        Dims(B=2, C=4, H=3, W=4, K=4),
    ),
    polynomial=True,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution with one group per channel."""
    return F.conv2d(x, weight.unsqueeze(1), stride=stride, padding=padding, groups=len(weight))


@core.implementation("channels_last")
def channels_last(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution on a map with its channels innermost; the copy is part of the call.

    Worth it for large kernels on large maps, where the vectors run along the channels.
    """
    map_last = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(map_last, weight.unsqueeze(1), stride=stride, padding=padding, groups=len(weight))


@core.implementation("unfold")
def unfold(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gather the K² taps of every position, then one product of a row and a matrix per channel."""
    B, C, H = x.shape[:3]
    K = weight.shape[-1]
    columns = F.unfold(x, (K, K), padding=padding, stride=stride).reshape(B, C, K * K, -1)
    height = (H + 2 * padding - K) // stride + 1
    rows = weight.reshape(C, 1, K * K).expand(B, -1, -1, -1)
    return (rows @ columns).reshape(B, C, height, -1)


@core.implementation("shifted", counted=lambda d: 0, counted_because=NO_PRODUCTS)
def shifted(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, without the K² copy."""
    B, C = x.shape[:2]
    K = weight.shape[-1]
    padded = F.pad(x, (padding,) * 4)
    height, width = ((size - K) // stride + 1 for size in padded.shape[2:])
    total = x.new_zeros(B, C, height, width)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    taps = weight.reshape(C, K * K, 1, 1).unbind(1)
    for (u, v), tap in zip(product(range(K), range(K)), taps, strict=True):
        rows = padded[:, :, u : u + stride * height : stride]
        total.addcmul_(rows[..., v : v + stride * width : stride], tap)
    return total
