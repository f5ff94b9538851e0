"""Dynamic convolution (DY-Conv): a mixture of kernels per image, with attention that sums to one.

Chen et al., Dynamic Convolution: Attention over Convolution Kernels, CVPR 2020 (arXiv 1912.03458),
section 3: the paper's K parallel kernels are E here, its attention π is ``routing``, its
temperature is ``tau``. The attention is a squeeze-and-excitation branch with hidden width C/4 and a
softmax; the temperature falls from 30 to 1 over the first ten epochs. The bias of the
kernels is left out, because a batch norm follows.
The authors released no code. The third-party layer in general use (kaijieshi7) differs: its hidden
width is ⌊C/4⌋+1, its first layer has no bias, its temperature starts at 34 and falls by 3 whenever it is
told to. Its way of computing the mixture, a grouped convolution, is ``authors`` here.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, generated, parameter, sweep

from ..workloads import grouped_maps
from . import cond_conv2d
from .cond_conv2d import cost, domain, options, output

operator = Operator(
    "dynamic_conv2d",
    family="dynamic",
    source="Chen et al. 2020, CVPR, arXiv 1912.03458, section 3",
    note=(
        "The authors released no code; `authors` is the form of the widely used third-party layer, "
        "kaijieshi7/Dynamic-convolution-Pytorch."
    ),
    traits=Traits(space="local", channels="all", sharing=("positions",), dynamic="per image", degree=2),
    probed_at=Dims(B=1, C=4, Co=6, H=5, W=7, K=3, G=1, E=3, R=2),
)


def reference(x: Tensor, experts: Tensor, routing: Tensor, stride: int = 1) -> Tensor:
    """y[b] = W_b * x[b] with W_b = Σ_e routing[b,e] · experts[e]; the routing of an image sums to one.

    x [B, C, H, W], zero outside the map; experts [E, Co, C/G, K, K]; routing [B, E]; s the stride and
    p = ⌊K/2⌋ the padding; * correlates as a convolution does; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    E, Co, C_group, K = experts.shape[:4]
    G = C // C_group
    padded = F.pad(x, (K // 2,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    kernels = (routing @ experts.reshape(E, -1)).reshape(B, G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,bgocuv->bgohw", grouped, kernels).reshape(B, Co, *taps.shape[2:4])


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: CondConv's, with a routing that sums to one."""
    return {**cond_conv2d.inputs(d), "routing": generated(d.B, d.E, softmax=-1)}


RESNET = "DY-ResNet-18, Chen et al. 2020"
MOBILENET = "DY-MobileNetV2, Chen et al. 2020"
NETWORK = [
    Workload("dy_resnet18/stage1_k3", Dims(B=1, C=64, Co=64, H=56, W=56, K=3, G=1, E=4, R=4), RESNET),
    Workload("dy_resnet18/stage4_k3", Dims(B=1, C=512, Co=512, H=7, W=7, K=3, G=1, E=4, R=4), RESNET),
    Workload(
        "dy_resnet18/stage2_k3_down",
        Dims(B=1, C=64, Co=128, H=56, W=56, K=3, G=1, E=4, R=4, stride=2),
        RESNET,
    ),
    Workload(
        "dy_mobilenetv2/stage3_expand_b8", Dims(B=8, C=32, Co=192, H=28, W=28, K=1, G=1, E=4, R=4), MOBILENET
    ),
    Workload(
        "dy_mobilenetv2/stage4_k3_b8", Dims(B=8, C=384, Co=384, H=14, W=14, K=3, G=384, E=4, R=4), MOBILENET
    ),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], E=(2, 4, 8, 16), K=(1, 3, 5, 7), G=(1, 4, 16, 64))]

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=cond_conv2d.PROOF_DIMS,
    polynomial=True,
)
core.generator(inputs=lambda d: {"weight": parameter(d.E, d.C)})(cond_conv2d.routed_linearly)
# For any routing this is CondConv's core, and whatever computes that one serves here.
core.implementation("authors")(cond_conv2d.authors)
core.implementation("experts", counted=cond_conv2d.experts_counted, counted_because=cond_conv2d.EVERY_EXPERT)(
    cond_conv2d.run_experts
)
core.implementation("mixed", preferred=True)(cond_conv2d.mixed)


def temperature(epoch: float) -> float:
    """Return the softmax temperature at an epoch: 30 at the start, 1 from the tenth epoch on, linear between.

    Chen et al. 2020: near-uniform attention lets all kernels learn at first.
    """
    return max(1.0, 30.0 - 29.0 * epoch / 10.0)


def module_reference(
    x: Tensor,
    experts: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor,
    excite_weight: Tensor,
    excite_bias: Tensor,
    stride: int = 1,
    tau: float = 1.0,
) -> Tensor:
    """y[b] = (Σ_e π[b,e] · experts[e]) * x[b], π[b] = softmax((V·ReLU(U·mean(x[b]) + u) + v) / tau).

    x [B, C, H, W], zero outside the map, its mean over all positions; experts [E, Co, C/G, K, K];
    squeeze U [C/R, C] with bias u [C/R]; excite V [E, C/R] with bias v [E]; tau the temperature; s the
    stride and p = ⌊K/2⌋ the padding; y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    E, Co, C_group, K = experts.shape[:4]
    G = C // C_group
    hidden = torch.relu(x.mean((2, 3)) @ squeeze_weight.t() + squeeze_bias)
    routing = torch.softmax((hidden @ excite_weight.t() + excite_bias) / tau, dim=1)
    padded = F.pad(x, (K // 2,) * 4)
    taps = padded.unfold(2, K, stride).unfold(3, K, stride)
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    kernels = (routing @ experts.reshape(E, -1)).reshape(B, G, Co // G, C_group, K, K)
    return torch.einsum("bgchwuv,bgocuv->bgohw", grouped, kernels).reshape(B, Co, *taps.shape[2:4])


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    given, hidden = inputs(d), d.C // d.R
    return {
        "x": given["x"],
        "experts": given["experts"],
        "squeeze_weight": parameter(hidden, d.C, fan_in=d.C),
        "squeeze_bias": parameter(hidden),
        "excite_weight": parameter(d.E, hidden, fan_in=hidden),
        "excite_bias": parameter(d.E),
    }


def module_options(d: Dims) -> Mapping[str, float]:
    """Stride and temperature, each one unless the workload names it."""
    return {"stride": d.get("stride", 1), "tau": d.get("tau", 1.0)}


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, a reduction to nothing, and what is no temperature."""
    if d.C < d.R:
        return f"a reduction by {d.R} leaves none of {d.C} channels: choose R of at most C"
    if d.get("tau", 1.0) <= 0:
        return f"a softmax has no temperature {d.tau}: choose tau above zero"
    return domain(d)


def module_cost(d: Dims) -> Cost:
    """Return the costs of the core, a mean over the map, two small matrices, a ReLU and a softmax."""
    mixture, hidden = cost(d), d.C // d.R
    weights = hidden * (d.C + d.E)
    return replace(
        mixture,
        params=mixture.params + weights + hidden + d.E,
        macs=mixture.macs + d.B * weights,
        macs_in_bounds=(mixture.macs_in_bounds or 0) + d.B * weights,
        elements_read=mixture.elements_read - d.B * d.E + weights + hidden + d.E,
        # A sum over the map, bias and ReLU of the hidden units; bias, temperature, sum and division.
        elementwise=d.B * (d.C * d.H * d.W + 2 * hidden + 4 * d.E),
        transcendental=d.B * d.E,
    )


module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=module_options,
    domain=module_domain,
    # A workload that names no temperature has the last one, one; training starts at 30.
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(2, 4, 8, 16), tau=(3, 10, 30))],
    proof_dims=(
        *grouped_maps(C=8, Co=6, E=3, R=2),
        *grouped_maps(C=8, Co=6, E=3, R=2, stride=2, tau=30.0),
        Dims(B=2, C=8, Co=3, H=7, W=6, K=1, G=1, E=3, R=2),
        Dims(B=2, C=8, Co=6, H=5, W=4, K=2, G=2, E=3, R=2, tau=0.5),
    ),
)


def attend(x: Tensor, U: Tensor, u: Tensor, V: Tensor, v: Tensor, tau: float) -> Tensor:
    """Compute the attention over kernels [B, E] of a map [B, C, H, W]."""
    hidden = F.relu(F.linear(x.mean((2, 3)), U, u))
    return F.softmax(F.linear(hidden, V, v) / tau, dim=1)


@module.implementation("authors")
def module_authors(
    x: Tensor,
    experts: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor,
    excite_weight: Tensor,
    excite_bias: Tensor,
    stride: int,
    tau: float,
) -> Tensor:
    """Pool, attend and mix, then one grouped convolution on the batch folded into the channels."""
    routing = attend(x, squeeze_weight, squeeze_bias, excite_weight, excite_bias, tau)
    return cond_conv2d.authors(x, experts, routing, stride)


@module.implementation("mixed", preferred=True)
def module_mixed(
    x: Tensor,
    experts: Tensor,
    squeeze_weight: Tensor,
    squeeze_bias: Tensor,
    excite_weight: Tensor,
    excite_bias: Tensor,
    stride: int,
    tau: float,
) -> Tensor:
    """Pool, attend and mix, then the cheapest call for the shape."""
    routing = attend(x, squeeze_weight, squeeze_bias, excite_weight, excite_bias, tau)
    return cond_conv2d.mixed(x, experts, routing, stride)
