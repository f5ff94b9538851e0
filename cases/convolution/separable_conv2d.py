"""Depthwise separable convolution: a K×K kernel for every channel, then a matrix over the channels.

Howard et al., MobileNets, 2017 (arXiv 1704.04861), section 3.1: depthwise convolution K̂, then pointwise.
Core: the two convolutions, that is a K×K convolution with the kernel pointwise[o,c]·depthwise[c,u,v], of rank
one for every c. Module: each is followed by its own batch norm and a ReLU, as in figure 3; the stride is the
depthwise one's. The authors' code (tensorflow/models, slim/nets/mobilenet_v1.py) caps its ReLUs at six, has
an epsilon of 0.001 and at stride two pads below and on the right alone: nothing here is named after it.
"""

from collections.abc import Mapping
from dataclasses import replace

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
from . import batch_norm
from .batch_norm import normalise
from .depthwise_conv2d import shifted as depthwise_shifted

operator = Operator(
    "separable_conv2d",
    family="convolution",
    source="Howard et al. 2017, arXiv 1704.04861, section 3.1",
    traits=Traits(space="local", channels="all", sharing=("positions",)),
)


def reference(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int = 1, padding: int | None = None
) -> Tensor:
    """y[b,o,i,j] = Σ_c pointwise[o,c] · Σ_uv depthwise[c,u,v] · x[b, c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; depthwise [C, K, K]; pointwise [Co, C]; s the stride and p the
    padding, ⌊K/2⌋ unless it is given; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    K = depthwise.shape[-1]
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    per_channel = torch.einsum("bchwuv,cuv->bchw", taps, depthwise)
    return torch.einsum("oc,bchw->bohw", pointwise, per_channel)


def module_reference(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    *,
    stride: int = 1,
    padding: int | None = None,
    **norms: Tensor,
) -> Tensor:
    """ReLU(BN_p(pointwise·ReLU(BN_d(depthwise ∗ x)))), BN(z) = (z − mean)/√(variance + 1e-5)·gain + shift.

    x [B, C, H, W], zero outside the map; depthwise [C, K, K], a kernel per channel, with the stride and the
    padding, ⌊K/2⌋ unless it is given; pointwise [Co, C]; BN_d with depthwise_gain, depthwise_shift,
    depthwise_mean and depthwise_variance [C], BN_p with pointwise_gain and so on [Co]. Without mean and
    variance those of z over batch and map are taken, the variance biased. The result is [B, Co, H', W'].
    """
    K = depthwise.shape[-1]
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)
    y = torch.einsum("bchwuv,cuv->bchw", taps, depthwise)
    for layer in ("depthwise", "pointwise"):
        if layer == "pointwise":
            y = torch.einsum("oc,bchw->bohw", pointwise, y)
        if f"{layer}_mean" in norms:
            mean, variance = (norms[f"{layer}_{name}"][:, None, None] for name in ("mean", "variance"))
        else:
            mean = y.mean((0, 2, 3), keepdim=True)
            variance = ((y - mean) ** 2).mean((0, 2, 3), keepdim=True)
        gain, shift = (norms[f"{layer}_{name}"][:, None, None] for name in ("gain", "shift"))
        y = torch.relu((y - mean) * (variance + 1e-5).rsqrt() * gain + shift)
    return y


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "depthwise": parameter(d.C, d.K, d.K, fan_in=d.K**2),
        "pointwise": parameter(d.Co, d.C, fan_in=d.C),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    norms = {**batch_norm.inputs("depthwise", d, d.C), **batch_norm.inputs("pointwise", d, d.Co)}
    return {**inputs(d), **norms}


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and padding, ⌊K/2⌋ unless it does."""
    return {"stride": d.get("stride", 1), "padding": d.get("padding", d.K // 2)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride, padding = options(d).values()
    height, width = ((size + 2 * padding - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.Co, height, width


def module_domain(d: Dims) -> str | None:
    """Refuse unknown norms, and statistics of a single value."""
    B, _, height, width = output(d)
    return batch_norm.refusal(d, B * height * width)


def pointwise_macs(d: Dims) -> int:
    """Count the multiply-adds of the matrix over the channels."""
    return int(d.C * torch.Size(output(d)).numel())


def cost(d: Dims) -> Cost:
    """K² + Co multiply-adds per output position and channel."""
    B, _, height, width = output(d)
    weights = d.C * (d.K**2 + d.Co)
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=weights,
        macs=B * height * width * d.C * d.K**2 + pointwise_macs(d),
        macs_in_bounds=B * d.C * rows * columns + pointwise_macs(d),
        elements_read=B * d.C * d.H * d.W + weights,
        elements_written=torch.Size(output(d)).numel(),
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and two batch norms, whose steps are elementwise as the two ReLUs are."""
    convolutions, widths = cost(d), d.C + d.Co
    B, _, height, width = output(d)
    elements = B * height * width * widths
    params = convolutions.params + 2 * widths
    return replace(
        convolutions,
        params=params,
        elements_read=B * d.C * d.H * d.W + params + batch_norm.stored(d, widths),
        elementwise=batch_norm.elementwise(d, elements) + elements,
    )


MOBILENET = "MobileNet, Howard et al. 2017, table 1; its separable layers are counted from one"
WORKLOADS = [
    Workload("mobilenetv1/layer3", Dims(B=1, C=128, Co=128, H=56, W=56, K=3), MOBILENET),
    Workload("mobilenetv1/layer4_down", Dims(B=1, C=128, Co=256, H=56, W=56, K=3, stride=2), MOBILENET),
    Workload("mobilenetv1/layer7", Dims(B=1, C=512, Co=512, H=14, W=14, K=3), MOBILENET),
    Workload("mobilenetv1/layer13", Dims(B=1, C=1024, Co=1024, H=7, W=7, K=3), MOBILENET),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 5, 7, 9, 11))
PROOF_DIMS = (
    *grouped_maps(Co=6),
    *grouped_maps(Co=3, stride=2),
    Dims(B=2, C=4, Co=6, H=5, W=9, K=2, stride=2, padding=0),
    Dims(B=2, C=4, Co=6, H=3, W=4, K=4),
)

POINTWISE_ONLY = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=options,
    domain=module_domain,
    workloads=[
        *WORKLOADS,
        Workload("mobilenetv1/layer3_train", WORKLOADS[0].dims.replace(norm="train"), MOBILENET),
        *SWEPT,
    ],
    proof_dims=(*PROOF_DIMS, *grouped_maps(Co=6, norm="train")),
)


@core.implementation("grouped", preferred=True)
def grouped(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution with a group per channel, then multiply a matrix with each image."""
    per_channel = F.conv2d(x, depthwise.unsqueeze(1), stride=stride, padding=padding, groups=len(depthwise))
    return mix(pointwise, per_channel)


@core.implementation("two_convolutions")
def two_convolutions(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int, padding: int) -> Tensor:
    """Call the framework's convolution twice, with a group per channel and with a 1×1 kernel."""
    per_channel = F.conv2d(x, depthwise.unsqueeze(1), stride=stride, padding=padding, groups=len(depthwise))
    return F.conv2d(per_channel, pointwise[:, :, None, None])


@core.implementation("shifted", counted=pointwise_macs, counted_because=POINTWISE_ONLY)
def shifted(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int, padding: int) -> Tensor:
    """Add up shifted copies of the padded map, then multiply a matrix with each image."""
    return mix(pointwise, depthwise_shifted(x, depthwise, stride, padding))


@core.implementation(
    "merged",
    counted=lambda d: d.C * d.K**2 * torch.Size(output(d)).numel(),
    counted_because="one dense convolution has K²·C multiply-adds per output",
)
def merged(x: Tensor, depthwise: Tensor, pointwise: Tensor, stride: int, padding: int) -> Tensor:
    """Multiply the kernels into those of one dense convolution, Co·K² instead of K² + Co products."""
    kernel = pointwise[:, :, None, None] * depthwise
    return F.conv2d(x, kernel, stride=stride, padding=padding)


@module.implementation("grouped", preferred=True)
def module_grouped(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, *, stride: int, padding: int, **norms: Tensor
) -> Tensor:
    """Call the framework's convolution and batch norm, and multiply a matrix with each image."""
    y = F.conv2d(x, depthwise.unsqueeze(1), stride=stride, padding=padding, groups=len(depthwise))
    y = normalise(y, norms, "depthwise").relu_()
    return normalise(mix(pointwise, y), norms, "pointwise").relu_()


def mix(matrix: Tensor, maps: Tensor) -> Tensor:
    """Multiply a matrix [Co, C] with each image [B, C, H, W], flattened to [C, H·W]."""
    B, _, H, W = maps.shape
    return (matrix.expand(B, -1, -1) @ maps.flatten(2)).reshape(B, -1, H, W)
