"""Depthwise convolution with few kernels: the channels of a group share one, as a head shares attention.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022 (arXiv
2106.04263), who study how weights are shared over channels: by all, within a head's group, or by none. G is
the number of different kernels, one for C/G neighbouring channels: G = C is depthwise convolution, G = 1 a
single kernel for all channels. The option ``weights`` of the core chooses between ``static``, the default,
where kernels are learned, and ``dynamic``, where every image has kernels of its own. Module: the dynamic
one with the generator of D-DW, whose last layer has G·K² outputs instead of C·K². The authors' code
(Atten4Vis/DemystifyLocalViT) shares over channels only in attention and in the inhomogeneous convolution,
so nothing here is named after it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
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
    generated,
    parameter,
    sweep,
    taps_in_bounds,
)

from ..workloads import grouped_maps
from . import batch_norm
from .batch_norm import normalise

operator = Operator(
    "shared_depthwise_conv2d",
    family="convolution",
    source="Han et al. 2022, ICLR, arXiv 2106.04263, study of weight sharing over channels",
    note="the traits are those of static weights; dynamic ones are one set per image, and their degree is 2",
    traits=Traits(space="local", channels="own", sharing=("positions", "groups")),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
    """y[b,c,i,j] = Σ_uv weight[b, ⌊cG/C⌋, u, v] · x[b, c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; weight [G, K, K], the same for every image b, or [B, G, K, K]; s the
    stride and p the padding, ⌊K/2⌋ unless it is given; y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    G, K = weight.shape[-3:-1]
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    grouped = taps.reshape(B, G, C // G, *taps.shape[2:])
    kernels = weight.expand(B, G, K, K)
    return torch.einsum("bgchwuv,bguv->bgchw", grouped, kernels).reshape(B, C, *taps.shape[2:4])


def module_reference(
    x: Tensor,
    reduce: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
    *,
    groups: int,
    stride: int = 1,
    padding: int | None = None,
    **norms: Tensor,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b] + bias with kernel[b] = expand·ReLU(BN(reduce·mean(x[b]))) + expand_bias.

    x [B, C, H, W], its mean over all positions; reduce [C/R, C]; BN(z) = (z − mean)/√(variance + 1e-5)·gain +
    shift with hidden_gain, hidden_shift, hidden_mean and hidden_variance [C/R], mean and variance those of z
    over the batch, the variance biased, where they are not given; expand [G·K², C/R]; expand_bias [G·K²];
    bias [C]; ∗ convolves every channel with its group's kernel, zero outside the map, with the stride and the
    padding, ⌊K/2⌋ unless it is given; y [B, C, H', W'].
    """
    B, C = x.shape[:2]
    G, K = groups, math.isqrt(len(expand) // groups)
    hidden = torch.einsum("oc,bc->bo", reduce, x.mean((2, 3)))
    if "hidden_mean" in norms:
        mean, variance = norms["hidden_mean"], norms["hidden_variance"]
    else:
        mean = hidden.mean(0)
        variance = ((hidden - mean) ** 2).mean(0)
    hidden = (hidden - mean) * (variance + 1e-5).rsqrt() * norms["hidden_gain"] + norms["hidden_shift"]
    kernel = torch.einsum("oc,bc->bo", expand, torch.relu(hidden)) + expand_bias
    padded = F.pad(x, (K // 2 if padding is None else padding,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)
    grouped = taps.reshape(B, G, C // G, *taps.shape[2:])
    y = torch.einsum("bgchwuv,bguv->bgchw", grouped, kernel.reshape(B, G, K, K))
    return y.reshape(B, C, *taps.shape[2:4]) + bias[:, None, None]


def domain(d: Dims) -> str | None:
    """Refuse groups of unequal size and unknown weights; kernels may be even, and larger than the map."""
    if d.C % d.G:
        return f"{d.G} kernels cannot be shared evenly by {d.C} channels: choose G as a divisor of C"
    if d.get("weights", "static") not in ("static", "dynamic"):
        return f"weights of the kind {d.weights!r} are unknown: name 'static' or 'dynamic'"
    return None


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, static weights, a reduction to nothing, and what batch norm refuses."""
    if d.get("weights", "dynamic") == "static":
        return "its module generates the weights: name 'dynamic', or measure the core"
    if d.C < d.R:
        return f"a reduction by {d.R} leaves none of {d.C} channels: choose R of at most C"
    return domain(d) or batch_norm.refusal(d, d.B)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    if is_dynamic(d):
        weight = generated(d.B, d.G, d.K, d.K, fan_in=d.K**2)
    else:
        weight = parameter(d.G, d.K, d.K, fan_in=d.K**2)
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": weight}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.C // d.R
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        **batch_norm.inputs("hidden", d, hidden),
        "expand": parameter(d.G * d.K**2, hidden, fan_in=hidden * d.K**2),
        "expand_bias": parameter(d.G * d.K**2, fan_in=d.K**2),
        "bias": parameter(d.C),
    }


def is_dynamic(d: Dims) -> bool:
    """Tell whether every image has kernels of its own; by default they are learned."""
    return bool(d.get("weights", "static") == "dynamic")


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and padding, ⌊K/2⌋ unless it does."""
    return {"stride": d.get("stride", 1), "padding": d.get("padding", d.K // 2)}


def module_options(d: Dims) -> Mapping[str, int]:
    """Return the core's options, and the groups."""
    return {"groups": d.G, **options(d)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride, padding = options(d).values()
    height, width = ((size + 2 * padding - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.C, height, width


def cost(d: Dims) -> Cost:
    """K² multiply-adds per output, whatever shares the kernels."""
    outputs, kernels = torch.Size(output(d)).numel(), d.G * d.K**2
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=0 if is_dynamic(d) else kernels,
        macs=outputs * d.K**2,
        macs_in_bounds=d.B * d.C * rows * columns,
        elements_read=d.B * d.C * d.H * d.W + kernels * (d.B if is_dynamic(d) else 1),
        elements_written=outputs,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and, per image, two matrices; pooling, batch norm, ReLU and biases are elementwise."""
    convolution, hidden, taps = cost(d), d.C // d.R, d.G * d.K**2
    params = d.C * hidden + 2 * hidden + (hidden + 1) * taps + d.C
    macs = d.B * hidden * (d.C + taps)
    normed = batch_norm.elementwise(d, d.B * hidden) + d.B * hidden
    return replace(
        convolution,
        params=params,
        macs=convolution.macs + macs,
        macs_in_bounds=(convolution.macs_in_bounds or 0) + macs,
        elements_read=d.B * d.C * d.H * d.W + params + batch_norm.stored(d, hidden),
        # A sum over the map, the hidden units, the biases of the kernels and of the outputs.
        elementwise=d.B * d.C * d.H * d.W + normed + d.B * taps + convolution.elements_written,
    )


STATIC = "DWNet-T, Han et al. 2022: kernels of 7×7, as many as Swin-T has heads"
DYNAMIC = "D-DW-Net-T, Han et al. 2022: kernels of 7×7, as many as Swin-T has heads, r = 4"
STAGE1 = Dims(B=1, C=96, H=56, W=56, K=7, G=3)
STAGE3 = Dims(B=1, C=384, H=14, W=14, K=7, G=12)
STATIC_WORKLOADS = [
    Workload("dwnet_t/stage1", STAGE1, STATIC),
    Workload("dwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7, G=6), STATIC),
    Workload("dwnet_t/stage3", STAGE3, STATIC),
    Workload("dwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, G=24), STATIC),
]
DYNAMIC_WORKLOADS = [
    Workload("ddwnet_t/stage1", STAGE1.replace(weights="dynamic", R=4), DYNAMIC),
    Workload("ddwnet_t/stage3", STAGE3.replace(weights="dynamic", R=4), DYNAMIC),
    Workload("ddwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, G=24, weights="dynamic", R=4), DYNAMIC),
]
SHARING = (1, 3, 12, 96)
DYNAMIC_SWEPT = sweep(DYNAMIC_WORKLOADS[0], G=SHARING)
EVEN = (
    Dims(B=2, C=4, H=5, W=9, K=2, G=2, stride=2, padding=0),
    Dims(B=2, C=4, H=3, W=4, K=4, G=1),
)
WIDE = grouped_maps(C=12, R=2)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[
        *STATIC_WORKLOADS,
        *DYNAMIC_WORKLOADS,
        *sweep(STATIC_WORKLOADS[0], G=SHARING),
        *DYNAMIC_SWEPT,
    ],
    proof_dims=(
        *grouped_maps(),
        *grouped_maps(stride=2),
        *EVEN,
        *grouped_maps(weights="dynamic"),
        *(dims.replace(weights="dynamic") for dims in EVEN),
    ),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=module_options,
    domain=module_domain,
    workloads=[*DYNAMIC_WORKLOADS, *DYNAMIC_SWEPT],
    proof_dims=(
        *WIDE,
        *(dims.replace(C=12, R=2) for dims in EVEN),
        *(dims.replace(B=4, norm="train") for dims in WIDE),
    ),
)

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"


@core.generator(inputs=lambda d: {"span": parameter(d.G * d.K**2, d.C)} if is_dynamic(d) else {})
def generated_linearly(d: Dims, x: Tensor, **span: Tensor) -> Mapping[str, Tensor]:
    """Return one linear layer of the summed map for dynamic kernels, and nothing for static ones."""
    if not span:
        return {}
    kernels = torch.einsum("oc,bchw->bo", span["span"], x)
    return {"weight": kernels.reshape(d.B, d.G, d.K, d.K)}


@core.implementation("folded")
def folded(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Take the channels of a group for images, so that no kernel is repeated; the maps are copied."""
    B, C, H, W = x.shape
    G, K = weight.shape[-3:-1]
    # Static kernels are the same for all images, dynamic ones are not: these make more groups.
    own = G if weight.dim() == 3 else B * G
    images = x.reshape(B, G, C // G, H, W).movedim(2, 0).reshape(-1, own, H, W)
    y = F.conv2d(images, weight.reshape(own, 1, K, K), stride=stride, padding=padding, groups=own)
    return y.reshape(C // G, B, G, *y.shape[2:]).movedim(0, 2).reshape(B, C, *y.shape[2:])


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, each with its group's weight."""
    B, C = x.shape[:2]
    G, K = weight.shape[-3:-1]
    padded = F.pad(x, (padding,) * 4).unflatten(1, (G, C // G))
    height, width = ((size - K) // stride + 1 for size in padded.shape[3:])
    total = x.new_zeros(B, G, C // G, height, width)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    taps = weight.reshape(-1, G, K * K, 1, 1, 1).unbind(2)
    for (u, v), tap in zip(product(range(K), range(K)), taps, strict=True):
        rows = padded[..., u : u + stride * height : stride, :]
        total.addcmul_(rows[..., v : v + stride * width : stride], tap)
    return total.reshape(B, C, height, width)


@core.implementation("grouped", preferred=True)
def grouped(x: Tensor, weight: Tensor, stride: int, padding: int, bias: Tensor | None = None) -> Tensor:
    """Repeat the kernels for every channel, and with dynamic ones fold the batch into the channels."""
    B, C, H, W = x.shape
    G, K = weight.shape[-3:-1]
    images = 1 if weight.dim() == 3 else B
    maps = x.reshape(B // images, images * C, H, W)
    kernels = weight.reshape(images, G, 1, K, K).expand(-1, -1, C // G, -1, -1).reshape(-1, 1, K, K)
    repeated = None if bias is None else bias.repeat(images)
    y = F.conv2d(maps, kernels, repeated, stride=stride, padding=padding, groups=images * C)
    return y.reshape(B, C, *y.shape[2:])


@module.implementation("grouped", preferred=True)
def module_grouped(
    x: Tensor,
    reduce: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
    *,
    groups: int,
    stride: int,
    padding: int,
    **norms: Tensor,
) -> Tensor:
    """Generate the kernels with linear layers on the pooled map, then call one grouped convolution."""
    K = math.isqrt(len(expand) // groups)
    hidden = F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), reduce)
    hidden = normalise(hidden, norms, "hidden").relu_()
    kernel = F.linear(hidden, expand, expand_bias).reshape(len(x), groups, K, K)
    return grouped(x, kernel, stride, padding, bias)
