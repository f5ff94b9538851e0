"""Pointwise convolution: one learned matrix over the channels, applied at every position.

Lin, Chen and Yan, Network In Network, ICLR 2014 (arXiv 1312.4400), section 3.1: the convolution with
a 1×1 kernel. Released code calls the framework's convolution, ``authors`` here; it computes the formula.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "pointwise_conv2d",
    family="convolution",
    source="Lin et al. 2014, ICLR, arXiv 1312.4400, section 3.1",
    traits=Traits(space="position", channels="all", sharing=("positions",)),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1) -> Tensor:
    """y[b,o,i,j] = Σ_c weight[o,c] · x[b, c, i·s, j·s].

    x [B, C, H, W]; weight [Co, C]; s the stride; y [B, Co, ⌈H/s⌉, ⌈W/s⌉].
    """
    return torch.einsum("oc,bchw->bohw", weight, x[:, :, ::stride, ::stride])


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.Co, d.C, fan_in=d.C)}


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    stride = d.get("stride", 1)
    return d.B, d.Co, -(-d.H // stride), -(-d.W // stride)


def cost(d: Dims) -> Cost:
    """Return the costs: C multiply-adds per output."""
    outputs = torch.Size(output(d)).numel()
    return Cost(
        params=d.Co * d.C,
        macs=outputs * d.C,
        macs_in_bounds=outputs * d.C,
        elements_read=d.B * d.C * d.H * d.W + d.Co * d.C,
        elements_written=outputs,
    )


MOBILENET = "MobileNetV2, Sandler et al. 2018, table 2"
RESNET = "ResNet-50, He et al. 2016, table 1"
WORKLOADS = [
    Workload("mobilenetv2/stage2_expand", Dims(B=1, C=24, Co=144, H=56, W=56), MOBILENET),
    Workload("mobilenetv2/stage5_expand", Dims(B=1, C=96, Co=576, H=14, W=14), MOBILENET),
    Workload("resnet50/stage1_reduce", Dims(B=1, C=256, Co=64, H=56, W=56), RESNET),
    Workload("resnet50/stage4_expand", Dims(B=1, C=512, Co=2048, H=7, W=7), RESNET),
]
SWEPT = sweep(WORKLOADS[0], Co=(24, 72, 144, 288))

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=(
        Dims(B=2, C=3, Co=4, H=7, W=6),
        Dims(B=2, C=4, Co=3, H=1, W=5),
        Dims(B=3, C=3, Co=5, H=6, W=5, stride=2),
        Dims(B=2, C=1, Co=2, H=3, W=2, stride=4),
    ),
    polynomial=True,
)


@core.implementation("authors")
def authors(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Call the framework's convolution with a 1×1 kernel."""
    return F.conv2d(x, weight[:, :, None, None], stride=stride)


@core.implementation("channels_last")
def channels_last(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Call the framework's convolution on a map with its channels innermost; the copy is part of the call."""
    map_last = x.contiguous(memory_format=torch.channels_last)
    return F.conv2d(map_last, weight[:, :, None, None], stride=stride)


@core.implementation("matmul", preferred=True)
def matmul(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Multiply the matrix with each image, flattened to [C, N]."""
    kept = x[:, :, ::stride, ::stride]
    return (weight.expand(len(x), -1, -1) @ kept.flatten(2)).reshape(len(x), -1, *kept.shape[2:])
