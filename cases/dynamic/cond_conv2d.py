"""CondConv: the kernel of a convolution is a mixture of experts, mixed anew for every image.

y = σ((α₁W₁ + … + αₙWₙ) * x). Yang et al., CondConv: Conditionally Parameterized Convolutions for
Efficient Inference, NeurIPS 2019 (arXiv 1904.04971), section 3: the paper's n experts are E
here, its weights α the ``routing``. They come from a sigmoid, so they need not sum to one.
Released code (TensorFlow TPU models, and timm after it) computes the mixture and the routing as here,
with a bias in the routing that the formula leaves out; in EfficientNet one routing serves the three
convolutions of a block. TensorFlow convolves image by image, timm (``authors`` here) in one call.
TensorFlow pads as little as it can, which moves a kernel with a stride of two; here the padding is ⌊K/2⌋ on
either side, as in timm.
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

operator = Operator(
    "cond_conv2d",
    family="dynamic",
    source="Yang et al. 2019, NeurIPS, arXiv 1904.04971, section 3",
    traits=Traits(space="local", channels="all", sharing=("positions",), dynamic="per image", degree=2),
    probed_at=Dims(B=1, C=4, Co=6, H=5, W=7, K=3, G=1, E=3),
)


def reference(x: Tensor, experts: Tensor, routing: Tensor, stride: int = 1) -> Tensor:
    """y[b] = W_b * x[b] with W_b = Σ_e routing[b,e] · experts[e], a kernel of its own for every image.

    x [B, C, H, W], zero outside the map; experts [E, Co, C/G, K, K]; routing [B, E]; s the stride and
    p = ⌊K/2⌋ the padding; * correlates as a convolution does; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    Co, C_group, K = experts.shape[1:4]
    G = C // C_group
    padded = F.pad(x, (K // 2,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    mixed = torch.einsum("be,eocuv->bocuv", routing, experts)
    kernels = mixed.reshape(B, G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,bgocuv->bgohw", grouped, kernels).reshape(B, Co, *taps.shape[2:4])


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    fan_in = d.C // d.G * d.K**2
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "experts": parameter(d.E, d.Co, d.C // d.G, d.K, d.K, fan_in=fan_in),
        "routing": Spec((d.B, d.E), "generated", "sigmoid of normal(0, 1)", torch.sigmoid),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride = d.get("stride", 1)
    height, width = ((size + 2 * (d.K // 2) - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.Co, height, width


def domain(d: Dims) -> str | None:
    """Refuse groups of unequal size; kernels may be even, and larger than the map."""
    if d.C % d.G or d.Co % d.G:
        return f"{d.G} groups cannot share {d.C} channels and {d.Co} outputs evenly: choose a divisor of both"
    return None


def cost(d: Dims) -> Cost:
    """One convolution per image, and E multiply-adds per weight to mix its kernel."""
    weights = d.Co * (d.C // d.G) * d.K**2
    _, _, height, width = output(d)
    rows, columns = (taps_in_bounds(size, d.K, d.get("stride", 1)) for size in (d.H, d.W))
    return Cost(
        params=d.E * weights,
        macs=d.B * (height * width + d.E) * weights,
        macs_in_bounds=d.B * (rows * columns * d.Co * (d.C // d.G) + d.E * weights),
        elements_read=d.B * (d.C * d.H * d.W + d.E) + d.E * weights,
        elements_written=d.B * d.Co * height * width,
    )


NET = "CondConv-EfficientNet-B0 with 8 experts, Yang et al. 2019"
STUDY = "ResNet-18's first stage with 4 experts; He et al. 2016, table 1"
NETWORK = [
    Workload(
        "condconv_efficientnet_b0_8e/stage7_expand", Dims(B=1, C=192, Co=1152, H=7, W=7, K=1, G=1, E=8), NET
    ),
    Workload(
        "condconv_efficientnet_b0_8e/stage6_expand", Dims(B=1, C=80, Co=480, H=14, W=14, K=1, G=1, E=8), NET
    ),
    Workload(
        "condconv_efficientnet_b0_8e/stage7_k5_down",
        Dims(B=1, C=672, Co=672, H=14, W=14, K=5, G=672, E=8, stride=2),
        NET,
    ),
    Workload(
        "condconv_efficientnet_b0_8e/stage8_project_b8",
        Dims(B=8, C=1152, Co=320, H=7, W=7, K=1, G=1, E=8),
        NET,
    ),
    Workload("resnet18/stage1_k3_b8", Dims(B=8, C=64, Co=64, H=56, W=56, K=3, G=1, E=4), STUDY),
]
WORKLOADS = [
    *NETWORK,
    *sweep(NETWORK[0], E=(2, 4, 8, 16)),
    *sweep(NETWORK[-1], K=(1, 3, 5, 7), G=(1, 4, 16, 64)),
]
PROOF_DIMS = (
    *grouped_maps(Co=6, E=3),
    *grouped_maps(Co=6, E=3, stride=2),
    Dims(B=2, C=4, Co=3, H=7, W=6, K=1, G=1, E=3),
    Dims(B=2, C=4, Co=6, H=5, W=4, K=2, G=2, E=3, stride=2),
    Dims(B=2, C=4, Co=6, H=3, W=5, K=4, G=2, E=3),
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


@core.generator(inputs=lambda d: {"weight": parameter(d.E, d.C)})
def routed_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on the sum over all positions of an image."""
    return {"routing": torch.einsum("ec,bchw->be", weight, x)}


def convolve_folded(x: Tensor, kernels: Tensor, stride: int, bias: Tensor | None = None) -> Tensor:
    """Convolve every image with its own kernel: one grouped convolution, the batch folded into channels.

    x [B, C, H, W]; kernels [B, Co, C/G, K, K]; zero padding of ⌊K/2⌋; bias [B, Co]; y [B, Co, H', W'].
    """
    B, C, H, W = x.shape
    Co, C_group, K = kernels.shape[1:4]
    folded = F.conv2d(
        x.reshape(1, B * C, H, W),
        kernels.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride=stride,
        padding=K // 2,
        groups=B * C // C_group,
    )
    return folded.reshape(B, Co, *folded.shape[2:])


def mix(routing: Tensor, experts: Tensor) -> Tensor:
    """Mix one kernel per image: routing [B, E], experts [E, …], kernels [B, …]."""
    return (routing @ experts.flatten(1)).reshape(-1, *experts.shape[1:])


@core.implementation("authors")
def authors(x: Tensor, experts: Tensor, routing: Tensor, stride: int) -> Tensor:
    """Mix the kernels, then one grouped convolution on the batch folded into the channels, as timm does."""
    return convolve_folded(x, mix(routing, experts), stride)


def experts_counted(d: Dims) -> int:
    """MACs of the form that convolves with every expert: E convolutions, no mixed kernel."""
    _, Co, height, width = output(d)
    return int(d.B * d.E * height * width * Co * (d.C // d.G) * d.K**2)


EVERY_EXPERT = "E convolutions in place of one, whose outputs are mixed elementwise"


@core.implementation("experts", counted=experts_counted, counted_because=EVERY_EXPERT)
def run_experts(x: Tensor, experts: Tensor, routing: Tensor, stride: int) -> Tensor:
    """Convolve with every expert and mix the outputs: the form that the operator avoids."""
    C_group, K = experts.shape[2:4]
    groups = x.shape[1] // C_group
    outputs = (F.conv2d(x, kernel, stride=stride, padding=K // 2, groups=groups) for kernel in experts)
    weights = routing.t()[..., None, None, None]  # [E, B, 1, 1, 1]
    return torch.stack([weight * y for weight, y in zip(weights, outputs, strict=True)]).sum(0)


@core.implementation("mixed", preferred=True)
def mixed(x: Tensor, experts: Tensor, routing: Tensor, stride: int) -> Tensor:
    """Mix the kernels, then the cheapest call: a batch of matrix products where K = 1, else ``authors``."""
    kernels = mix(routing, experts)
    if kernels.shape[2:] != (x.shape[1], 1, 1):
        return convolve_folded(x, kernels, stride)
    kept = x[:, :, ::stride, ::stride]
    return (kernels.flatten(2) @ kept.flatten(2)).reshape(len(x), -1, *kept.shape[2:])


def module_reference(
    x: Tensor, experts: Tensor, routing_weight: Tensor, routing_bias: Tensor, stride: int = 1
) -> Tensor:
    """y[b] = (Σ_e π[b,e] · experts[e]) * x[b] with π[b] = sigmoid(R · mean(x[b]) + r).

    x [B, C, H, W], zero outside the map, its mean over all positions; experts [E, Co, C/G, K, K];
    routing_weight R [E, C]; routing_bias r [E]; s the stride and p = ⌊K/2⌋ the padding;
    y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    Co, C_group, K = experts.shape[1:4]
    G = C // C_group
    routing = torch.sigmoid(torch.einsum("bc,ec->be", x.mean((2, 3)), routing_weight) + routing_bias)
    padded = F.pad(x, (K // 2,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    kernels = torch.einsum("be,eocuv->bocuv", routing, experts).reshape(B, G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,bgocuv->bgohw", grouped, kernels).reshape(B, Co, *taps.shape[2:4])


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    given = inputs(d)
    return {
        "x": given["x"],
        "experts": given["experts"],
        "routing_weight": parameter(d.E, d.C, fan_in=d.C),
        "routing_bias": parameter(d.E),
    }


def module_cost(d: Dims) -> Cost:
    """Return the costs of the core, a mean over the map, one small matrix and a sigmoid per expert."""
    mixture = cost(d)
    weights = d.E * d.C + d.E
    return replace(
        mixture,
        params=mixture.params + weights,
        macs=mixture.macs + d.B * d.E * d.C,
        macs_in_bounds=(mixture.macs_in_bounds or 0) + d.B * d.E * d.C,
        elements_read=mixture.elements_read - d.B * d.E + weights,
        elementwise=d.B * (d.C * d.H * d.W + d.E),
        transcendental=d.B * d.E,
    )


module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=options,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
)


def route(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the routing [B, E] of a map [B, C, H, W]."""
    return torch.sigmoid(F.linear(x.mean((2, 3)), weight, bias))


@module.implementation("authors")
def module_authors(
    x: Tensor, experts: Tensor, routing_weight: Tensor, routing_bias: Tensor, stride: int
) -> Tensor:
    """Pool, route and mix, then one grouped convolution on the folded batch, as timm does."""
    return authors(x, experts, route(x, routing_weight, routing_bias), stride)


@module.implementation("mixed", preferred=True)
def module_mixed(
    x: Tensor, experts: Tensor, routing_weight: Tensor, routing_bias: Tensor, stride: int
) -> Tensor:
    """Pool, route and mix, then the cheapest call for the shape."""
    return mixed(x, experts, route(x, routing_weight, routing_bias), stride)
