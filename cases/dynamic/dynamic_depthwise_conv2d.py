"""Dynamic depthwise convolution: one kernel per channel, generated anew for every image.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022
(arXiv 2106.04263): the homogeneous variant, D-DW. The kernels come from the pooled map, so all positions
share them; nothing normalises them. The released code (Atten4Vis/DemystifyLocalViT, DynamicDWConv at
4aa8326) computes this module, K = 7 and r = 4, with its batch folded into the channels of one grouped
convolution (``authors`` here). From ce3ada0 on its network overwrites the layer with a static convolution.
With ``norm="train"`` the batch norm takes the statistics of the batch, one value per image and channel; of a
single image, for which the released layer stops, it leaves the shift. The authors count the additions of the
pooling, N·C, among the multiply-adds; here they are elementwise.
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
    buffer,
    generated,
    parameter,
    sweep,
    taps_in_bounds,
)

from ..involution.involution import normalise
from ..workloads import grouped_maps

operator = Operator(
    "dynamic_depthwise_conv2d",
    family="dynamic",
    source="Han et al. 2022, ICLR, arXiv 2106.04263",
    traits=Traits(space="local", channels="own", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b,c,u,v] · x[b, c, i·s+u−p, j·s+v−p].

    x [B, C, H, W], zero outside the map; kernel [B, C, K, K]; s the stride and p = ⌊K/2⌋ the padding;
    y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    K = kernel.shape[-1]
    taps = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    return torch.einsum("bcijuv,bcuv->bcij", taps, kernel)


def module_reference(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    stride: int = 1,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b] + bias with kernel[b] = expand·ReLU(BN(reduce·mean(x[b]))) + expand_bias.

    x [B, C, H, W], its mean over all positions; reduce [C/R, C]; BN with gain, shift and the stored mean
    and variance [C/R], without which it takes those of the batch; expand [C·K², C/R]; expand_bias [C·K²];
    bias [C]; ∗ correlates every channel with its own kernel, zero outside the map; s the stride and
    p = ⌊K/2⌋ the padding; y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    B, C = x.shape[:2]
    hidden = torch.einsum("oc,bc->bo", reduce, x.mean((2, 3)))
    if mean is None or variance is None:
        mean = hidden.mean(0)
        variance = (hidden - mean).square().mean(0)
    hidden = torch.relu((hidden - mean) * (variance + 1e-5).rsqrt() * gain + shift)
    kernel = torch.einsum("oc,bc->bo", expand, hidden) + expand_bias
    K = math.isqrt(kernel.shape[1] // C)
    taps = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)
    return torch.einsum("bcijuv,bcuv->bcij", taps, kernel.reshape(B, C, K, K)) + bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.C, d.K, d.K, fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; training has no stored statistics."""
    hidden = d.C // d.R
    learned = {
        "x": activation(d.B, d.C, d.H, d.W),
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
        "expand": parameter(d.C * d.K**2, hidden, fan_in=hidden * d.K**2),
        "expand_bias": parameter(d.C * d.K**2, fan_in=d.K**2),
        "bias": parameter(d.C),
    }
    if d.get("norm") == "train":
        return learned
    return learned | {"mean": buffer(hidden), "variance": buffer(hidden, positive=True)}


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride = d.get("stride", 1)
    height, width = ((size + 2 * (d.K // 2) - d.K) // stride + 1 for size in (d.H, d.W))
    return d.B, d.C, height, width


def module_domain(d: Dims) -> str | None:
    """Refuse a reduction to nothing and unknown batch norms; kernels may be even, and exceed the map."""
    if d.C < d.R:
        return f"a reduction by {d.R} leaves none of {d.C} channels: choose R of at most C"
    if d.get("norm", "eval") not in ("eval", "train"):
        return f"no batch norm is called {d.norm!r}: name 'eval' or 'train'"
    return None


def cost(d: Dims) -> Cost:
    """K² multiply-adds per output."""
    outputs = math.prod(output(d))
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    return Cost(
        params=0,
        macs=outputs * d.K**2,
        macs_in_bounds=d.B * d.C * rows * columns,
        elements_read=d.B * d.C * (d.H * d.W + d.K**2),
        elements_written=outputs,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and, per image, two matrices; pooling, batch norm, ReLU and biases are elementwise."""
    convolution, hidden, taps = cost(d), d.C // d.R, d.C * d.K**2
    params = d.C * hidden + 2 * hidden + (hidden + 1) * taps + d.C
    generator = d.B * hidden * (d.C + taps)
    trains = d.get("norm") == "train"
    # Scale, shift and ReLU of the hidden units, and four operations for the statistics of the batch.
    per_unit = 7 if trains else 3
    return replace(
        convolution,
        params=params,
        macs=convolution.macs + generator,
        macs_in_bounds=(convolution.macs_in_bounds or 0) + generator,
        elements_read=d.B * d.C * d.H * d.W + params + (0 if trains else 2 * hidden),
        # Besides, a sum over the map, and the biases of kernels and outputs.
        elementwise=d.B * (d.C * d.H * d.W + per_unit * hidden + taps) + convolution.elements_written,
    )


DDW = "D-DW-Net-T, Han et al. 2022 and released configuration: kernels of 7×7, r = 4"
NETWORK = [
    Workload("ddwnet_t/stage1", Dims(B=1, C=96, H=56, W=56, K=7, R=4), DDW),
    Workload("ddwnet_t/stage2", Dims(B=1, C=192, H=28, W=28, K=7, R=4), DDW),
    Workload("ddwnet_t/stage3", Dims(B=1, C=384, H=14, W=14, K=7, R=4), DDW),
    Workload("ddwnet_t/stage4", Dims(B=1, C=768, H=7, W=7, K=7, R=4), DDW),
]

WORKLOADS = [*NETWORK, *sweep(NETWORK[0], K=(3, 5, 7, 9, 11), H=(7, 14, 28, 112))]
EVEN = Dims(B=2, C=4, H=5, W=8, K=2), Dims(B=2, C=6, H=3, W=7, K=4, stride=3)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=WORKLOADS,
    proof_dims=(*grouped_maps(), *grouped_maps(stride=2), *EVEN),
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
        Workload("ddwnet_t/stage4_train_b8", NETWORK[3].dims.replace(B=8, norm="train"), DDW),
        *sweep(NETWORK[0], R=(1, 2, 4, 8, 16)),
    ],
    proof_dims=(
        *grouped_maps(C=12, R=2),
        *grouped_maps(C=12, R=2, stride=2),
        # Two images give a batch norm two values, whose distance it makes one whatever it was.
        *(Dims(B=4, C=8, H=H, W=W, K=3, R=2, norm="train") for H, W in ((3, 5), (6, 1))),
        *(even.replace(C=8, R=2) for even in EVEN),
    ),
)


@core.generator(inputs=lambda d: {"weight": parameter(d.C * d.K**2, d.C)})
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on the sum over all positions of an image."""
    return {"kernel": torch.einsum("oc,bchw->bo", weight, x).reshape(d.B, d.C, d.K, d.K)}


ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"


@core.implementation("authors", preferred=True)
def authors(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Fold the batch into the channels and call one convolution with B·C groups, as the authors do."""
    return convolve_folded(x, kernel, None, stride)


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Add up shifted copies of the padded map, one tap at a time, without the K² copy."""
    B, C = x.shape[:2]
    K = kernel.shape[-1]
    padded = F.pad(x, (K // 2,) * 4)
    height, width = ((size - K) // stride + 1 for size in padded.shape[2:])
    total = x.new_zeros(B, C, height, width)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    taps = kernel.reshape(B, C, K * K, 1, 1).unbind(2)
    for (u, v), tap in zip(product(range(K), range(K)), taps, strict=True):
        rows = padded[:, :, u : u + stride * height : stride]
        total.addcmul_(rows[..., v : v + stride * width : stride], tap)
    return total


@module.implementation("authors", preferred=True)
def module_authors(
    x: Tensor,
    reduce: Tensor,
    gain: Tensor,
    shift: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    bias: Tensor,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    stride: int = 1,
) -> Tensor:
    """Generate the kernels with 1×1 layers on the pooled map, then one grouped convolution for the batch."""
    B, C = x.shape[:2]
    statistics = {} if mean is None or variance is None else {"mean": mean, "variance": variance}
    hidden = F.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), reduce)
    hidden = torch.relu(normalise(hidden, {"gain": gain, "shift": shift, **statistics}))
    K = math.isqrt(expand.shape[0] // C)
    kernel = F.linear(hidden, expand, expand_bias).reshape(B, C, K, K)
    return convolve_folded(x, kernel, bias.repeat(B), stride)


def convolve_folded(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve every channel of [B, C, H, W] with its kernel of [B, C, K, K] in one call, and add [B·C]."""
    B, C, H, W = x.shape
    K = kernel.shape[-1]
    kernels = kernel.reshape(B * C, 1, K, K)
    folded = F.conv2d(x.reshape(1, B * C, H, W), kernels, bias, stride=stride, padding=K // 2, groups=B * C)
    return folded.reshape(B, C, *folded.shape[2:])
