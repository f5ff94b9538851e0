"""Bottleneck: a 1×1 convolution to fewer channels, a K×K convolution among these, and a 1×1 back to many.

He et al., Deep Residual Learning, CVPR 2016 (arXiv 1512.03385), figure 5 and table 1, with Co/4 channels in
between. Core: the three convolutions alone, that is a K×K convolution whose kernel is, at every tap, a matrix
of rank Co/R at most: low rank in channels. With what stands between them the block is no linear map at all.
Module: the branch of ResNet's block, a batch norm after every convolution and a ReLU after the first two. The
shortcut and the ReLU behind its addition are left out, for they belong to the network. The stride is the K×K
convolution's, as in torchvision; the authors' code (KaimingHe/deep-residual-networks) is a Caffe network with
the stride in the first 1×1, so nothing here is named after it.
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

from ..workloads import MAPS
from . import batch_norm
from .batch_norm import normalise
from .separable_conv2d import mix

operator = Operator(
    "bottleneck",
    family="convolution",
    source="He et al. 2016, CVPR, arXiv 1512.03385, figure 5",
    note="low rank in channels only as core, without batch norm and ReLU between the convolutions",
    traits=Traits(space="local", channels="all", sharing=("positions",), low_rank=("channels",)),
)


def reference(
    x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor, stride: int = 1, padding: int | None = None
) -> Tensor:
    """y[b,o,i,j] = Σ_n expand[o,n] · Σ_muv spatial[n,m,u,v] · Σ_c reduce[m,c] · x[b, c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; reduce [Co/R, C]; spatial [Co/R, Co/R, K, K]; expand [Co, Co/R]; s
    the stride and p the padding, ⌊K/2⌋ unless it is given; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    K = spatial.shape[-1]
    reduced = torch.einsum("mc,bchw->bmhw", reduce, x)
    padded = F.pad(reduced, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, Co/R, H', W', K, K]
    return torch.einsum("on,bnhw->bohw", expand, torch.einsum("bmhwuv,nmuv->bnhw", taps, spatial))


def module_reference(
    x: Tensor,
    reduce: Tensor,
    spatial: Tensor,
    expand: Tensor,
    *,
    stride: int = 1,
    padding: int | None = None,
    **norms: Tensor,
) -> Tensor:
    """BN_e(expand·ReLU(BN_s(spatial ∗ ReLU(BN_r(reduce·x))))), BN(z) = (z−mean)/√(variance+1e-5)·gain+shift.

    x [B, C, H, W]; reduce [Co/R, C]; spatial [Co/R, Co/R, K, K], with the stride and the padding, ⌊K/2⌋
    unless it is given, on a map that is zero outside; expand [Co, Co/R]; BN_r with reduce_gain,
    reduce_shift, reduce_mean and reduce_variance [Co/R], BN_s with spatial_gain and so on [Co/R], BN_e with
    expand_gain and so on [Co]. Without mean and variance those of z over batch and map are taken, the
    variance biased. The result is [B, Co, H', W'].
    """
    K = spatial.shape[-1]
    y = x
    for layer, matrix in (("reduce", reduce), ("spatial", spatial), ("expand", expand)):
        if layer == "spatial":
            padded = F.pad(y, (K // 2 if padding is None else padding,) * 4)
            taps = padded.unfold(2, K, stride).unfold(3, K, stride)
            y = torch.einsum("bmhwuv,nmuv->bnhw", taps, matrix)
        else:
            y = torch.einsum("oc,bchw->bohw", matrix, y)
        if f"{layer}_mean" in norms:
            mean, variance = (norms[f"{layer}_{name}"][:, None, None] for name in ("mean", "variance"))
        else:
            mean = y.mean((0, 2, 3), keepdim=True)
            # One step for which no rounding is bounded: three batch norms in a row have no useful bound.
            variance = y.var((0, 2, 3), correction=0, keepdim=True)
        gain, shift = (norms[f"{layer}_{name}"][:, None, None] for name in ("gain", "shift"))
        y = (y - mean) * (variance + 1e-5).rsqrt() * gain + shift
        y = y if layer == "expand" else torch.relu(y)
    return y


def domain(d: Dims) -> str | None:
    """Refuse a reduction to nothing; Co/R is rounded down."""
    if d.Co < d.R:
        return f"a reduction by {d.R} leaves none of {d.Co} channels: choose R of at most Co"
    return None


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, unknown norms, and statistics of a single value."""
    B, _, height, width = output(d)
    return domain(d) or batch_norm.refusal(d, B * min(d.H * d.W, height * width))


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    hidden = d.Co // d.R
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "spatial": parameter(hidden, hidden, d.K, d.K, fan_in=hidden * d.K**2),
        "expand": parameter(d.Co, hidden, fan_in=hidden),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.Co // d.R
    return {
        **inputs(d),
        **batch_norm.inputs("reduce", d, hidden),
        **batch_norm.inputs("spatial", d, hidden),
        **batch_norm.inputs("expand", d, d.Co),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and padding, ⌊K/2⌋ unless it does."""
    return {"stride": d.get("stride", 1), "padding": d.get("padding", d.K // 2)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride, padding = options(d).values()
    height, width = ((size + 2 * padding - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.Co, height, width


def cost(d: Dims) -> Cost:
    """C·Co/R multiply-adds per position of the map, K²·(Co/R)² + Co²/R per position of the output."""
    hidden = d.Co // d.R
    B, _, height, width = output(d)
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    matrices = B * hidden * (d.C * d.H * d.W + d.Co * height * width)
    weights = hidden * (d.C + hidden * d.K**2 + d.Co)
    return Cost(
        params=weights,
        macs=matrices + B * hidden**2 * d.K**2 * height * width,
        macs_in_bounds=matrices + B * hidden**2 * rows * columns,
        elements_read=B * d.C * d.H * d.W + weights,
        elements_written=B * d.Co * height * width,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and three batch norms, whose steps are elementwise as the two ReLUs are."""
    convolutions, hidden = cost(d), d.Co // d.R
    B, _, height, width = output(d)
    rectified = B * hidden * (d.H * d.W + height * width)
    params = convolutions.params + 2 * (2 * hidden + d.Co)
    return replace(
        convolutions,
        params=params,
        elements_read=B * d.C * d.H * d.W + params + batch_norm.stored(d, 2 * hidden + d.Co),
        elementwise=batch_norm.elementwise(d, rectified + B * d.Co * height * width) + rectified,
    )


RESNET = "ResNet-50, He et al. 2016, table 1"
DOWN = RESNET + "; the stride is in the 3×3, as in torchvision"
WORKLOADS = [
    Workload("resnet50/stage1", Dims(B=1, C=256, Co=256, H=56, W=56, K=3, R=4), RESNET),
    Workload("resnet50/stage2_down", Dims(B=1, C=256, Co=512, H=56, W=56, K=3, R=4, stride=2), DOWN),
    Workload("resnet50/stage3", Dims(B=1, C=1024, Co=1024, H=14, W=14, K=3, R=4), RESNET),
    Workload("resnet50/stage4", Dims(B=1, C=2048, Co=2048, H=7, W=7, K=3, R=4), RESNET),
]
SWEPT = sweep(WORKLOADS[0], R=(2, 4, 8, 16), K=(3, 5, 7))
SIZES = Dims(B=2, C=5, Co=6, R=2)
PROOF_DIMS = (
    *(SIZES.replace(H=H, W=W, K=K) for H, W, K in MAPS),
    *(SIZES.replace(H=H, W=W, K=K, Co=9, R=2, stride=2) for H, W, K in MAPS),
    SIZES.replace(H=5, W=9, K=2, stride=2, padding=0),
    SIZES.replace(H=3, W=4, K=4),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
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
        Workload("resnet50/stage1_train", WORKLOADS[0].dims.replace(norm="train"), RESNET),
        *SWEPT,
    ],
    proof_dims=(*PROOF_DIMS, *(SIZES.replace(H=H, W=W, K=K, norm="train") for H, W, K in MAPS)),
)


@core.implementation("convolutions")
def convolutions(
    x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor, stride: int, padding: int
) -> Tensor:
    """Call the framework's convolution three times."""
    reduced = F.conv2d(x, reduce[:, :, None, None])
    return F.conv2d(F.conv2d(reduced, spatial, stride=stride, padding=padding), expand[:, :, None, None])


@core.implementation("matmul", preferred=True)
def matmul(x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor, stride: int, padding: int) -> Tensor:
    """Multiply matrices with each image around one call of the framework's convolution."""
    return mix(expand, F.conv2d(mix(reduce, x), spatial, stride=stride, padding=padding))


@module.implementation("convolutions")
def module_convolutions(
    x: Tensor,
    reduce: Tensor,
    spatial: Tensor,
    expand: Tensor,
    *,
    stride: int,
    padding: int,
    **norms: Tensor,
) -> Tensor:
    """Call the framework's convolution and batch norm three times."""
    y = normalise(F.conv2d(x, reduce[:, :, None, None]), norms, "reduce").relu_()
    y = normalise(F.conv2d(y, spatial, stride=stride, padding=padding), norms, "spatial").relu_()
    return normalise(F.conv2d(y, expand[:, :, None, None]), norms, "expand")


@module.implementation("matmul", preferred=True)
def module_matmul(
    x: Tensor,
    reduce: Tensor,
    spatial: Tensor,
    expand: Tensor,
    *,
    stride: int,
    padding: int,
    **norms: Tensor,
) -> Tensor:
    """Multiply matrices with each image around one convolution; a batch norm follows each."""
    y = normalise(mix(reduce, x), norms, "reduce").relu_()
    y = normalise(F.conv2d(y, spatial, stride=stride, padding=padding), norms, "spatial").relu_()
    return normalise(mix(expand, y), norms, "expand")
