"""Involution: a kernel for every position, shared by the channels of a group.

Li et al., Involution: Inverting the Inherence of Convolution for Visual Recognition, CVPR 2021
(arXiv 2103.06255), eq. (4) for the operator and eq. (6) for the kernels' generator, W₁σ(W₀x) with σ a
batch norm and a ReLU; the paper's K×K×G kernel at a position is ``kernel`` here. A workload may choose
``generator="linear"``, a single layer in place of two, and ``norm="train"``, the statistics of the batch.

The released code (d-li14/involution) fixes r = 4, 16 channels per group and a bias in the last layer, as
here; its CPU module gathers all taps with unfold (``authors`` here), its CUDA kernel needs a CuPy of version
12 or older. With a stride s it generates kernels from averages over cells of s×s, as here, but leaves out a
cell that the border cuts, for which it then lacks kernels and stops; here such a cell is averaged over what
is there of it. An even kernel, for which the code loses a row and stops, reaches one further up and left.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

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
)

from ..workloads import grouped_maps

operator = Operator(
    "involution",
    family="involution",
    source="Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4) and (6)",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
)


def reference(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """y[b,c,i,j] = Σ_uv kernel[b, ⌊cG/C⌋, u, v, i, j] · x[b, c, i·s+u−⌊U/2⌋, j·s+v−⌊V/2⌋].

    x [B, C, H, W], zero outside the map; s the stride; kernel [B, G, U, V, ⌈H/s⌉, ⌈W/s⌉];
    y [B, C, ⌈H/s⌉, ⌈W/s⌉].
    """
    B, C = x.shape[:2]
    G, U, V, height, width = kernel.shape[1:]
    padded = F.pad(x, (V // 2, (V - 1) // 2, U // 2, (U - 1) // 2))
    taps = padded.unfold(2, U, stride).unfold(3, V, stride)  # [B, C, ⌈H/s⌉, ⌈W/s⌉, U, V]
    grouped = taps.reshape(B, G, C // G, height, width, U, V)
    weights = kernel.permute(0, 1, 4, 5, 2, 3).unsqueeze(2)  # [B, G, 1, ⌈H/s⌉, ⌈W/s⌉, U, V]
    return (grouped * weights).sum((-1, -2)).reshape(B, C, height, width)


def module_reference(
    x: Tensor,
    span: Tensor,
    span_bias: Tensor,
    *,
    groups: int,
    generator: str = "bottleneck",
    stride: int = 1,
    **reduction: Tensor,
) -> Tensor:
    """y[b] = kernel[b] ∗ x[b], kernel = span·h + span_bias with h = ReLU(BN(reduce·z)), or h = z if linear.

    x [B, C, H, W]; z [B, C, ⌈H/s⌉, ⌈W/s⌉] its averages over cells of s×s, s the stride, a cell at the border
    over what lies in the map; span [G·K², C/R], [G·K², C] if linear, and span_bias [G·K²]; the reduction,
    absent if linear: reduce [C/R, C], BN with gain, shift and the stored mean and variance [C/R], without
    which it takes those of the batch. The layers act on every position alone; ∗ applies its kernel around
    (i·s, j·s), zero outside the map; y [B, C, ⌈H/s⌉, ⌈W/s⌉].
    """
    B, C, H, W = x.shape
    G, K, s = groups, math.isqrt(span.shape[0] // groups), stride
    height, width = -(-H // s), -(-W // s)
    hidden = x
    if s > 1:
        cells = F.pad(x, (0, -W % s, 0, -H % s)).reshape(B, C, height, s, width, s)
        inside = F.pad(torch.ones_like(x[:1, :1]), (0, -W % s, 0, -H % s)).reshape(height, s, width, s)
        hidden = cells.sum((3, 5)) / inside.sum((1, 3))
    if generator == "bottleneck":
        hidden = torch.einsum("oc,bchw->bohw", reduction["reduce"], hidden)
        if "mean" in reduction:
            mean, variance = (reduction[name][:, None, None] for name in ("mean", "variance"))
        else:
            mean = hidden.mean((0, 2, 3), keepdim=True)
            variance = (hidden - mean).square().mean((0, 2, 3), keepdim=True)
        gain, shift = (reduction[name][:, None, None] for name in ("gain", "shift"))
        hidden = torch.relu((hidden - mean) * (variance + 1e-5).rsqrt() * gain + shift)
    kernel = torch.einsum("oc,bchw->bohw", span, hidden) + span_bias[:, None, None]
    taps = F.pad(x, (K // 2, (K - 1) // 2) * 2).unfold(2, K, s).unfold(3, K, s)
    grouped = taps.reshape(B, G, C // G, height, width, K, K)
    weights = kernel.reshape(B, G, 1, K, K, height, width).permute(0, 1, 2, 5, 6, 3, 4)
    return (grouped * weights).sum((-1, -2)).reshape(B, C, height, width)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernel": generated(d.B, d.G, d.K, d.K, *output(d)[2:], fan_in=d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; a linear generator has no reduction, training no stored statistics."""
    hidden, taps = hidden_channels(d), d.G * d.K**2
    layers = {
        "x": activation(d.B, d.C, d.H, d.W),
        "span": parameter(taps, hidden, fan_in=hidden * d.K**2),
        "span_bias": parameter(taps, fan_in=d.K**2),
    }
    if is_linear(d):
        return layers
    layers |= {
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "gain": parameter(hidden, mean=1.0),
        "shift": parameter(hidden),
    }
    if d.get("norm") == "train":
        return layers
    return layers | {"mean": buffer(hidden), "variance": buffer(hidden, positive=True)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    stride = d.get("stride", 1)
    return d.B, d.C, -(-d.H // stride), -(-d.W // stride)


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it."""
    return {"stride": d.get("stride", 1)}


def module_options(d: Dims) -> Mapping[str, int | str]:
    """Groups, stride, and the generator: ``bottleneck`` unless the workload names ``linear``."""
    return {"groups": d.G, "generator": d.get("generator", "bottleneck"), **options(d)}


def domain(d: Dims) -> str | None:
    """Say why the formula of the core defines nothing, or return None."""
    if d.C % d.G:
        return f"{d.C} channels do not form {d.G} groups of one size: choose G as a divisor of C"
    return None


def module_domain(d: Dims) -> str | None:
    """Say why the formula of the module defines nothing, or return None."""
    generator, norm = d.get("generator", "bottleneck"), d.get("norm", "eval")
    if generator not in ("bottleneck", "linear"):
        return f"no generator is called {generator!r}: name 'bottleneck' or 'linear'"
    if norm not in ("eval", "train"):
        return f"no batch norm is called {norm!r}: name 'eval' or 'train'"
    if hidden_channels(d) < 1:
        return f"{d.C} channels reduced by {d.R} leave none: choose R no larger than C"
    return domain(d)


def cost(d: Dims) -> Cost:
    """K²·C multiply-adds per position of the output; nothing is learned in the core."""
    outputs = math.prod(output(d))
    height, width = output(d)[2:]
    rows, columns = (sum(taps_inside(size, d.K, d.get("stride", 1))) for size in (d.H, d.W))
    return Cost(
        params=0,
        macs=outputs * d.K**2,
        macs_in_bounds=d.B * d.C * rows * columns,
        elements_read=d.B * (d.C * d.H * d.W + d.G * d.K**2 * height * width),
        elements_written=outputs,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and the layers; pooling, batch norm, ReLU and biases are elementwise."""
    operation, hidden, taps = cost(d), hidden_channels(d), d.G * d.K**2
    normed = 0 if is_linear(d) else hidden
    params = d.C * normed + 2 * normed + (hidden + 1) * taps
    trains = d.get("norm") == "train"
    # Scale, shift and ReLU of the hidden units, and four operations for the statistics of the batch.
    per_unit = 7 if trains else 3
    pooled = d.B * d.C * d.H * d.W if d.get("stride", 1) > 1 else 0
    return replace(
        operation,
        params=params,
        macs=operation.macs + generator_macs(d),
        macs_in_bounds=(operation.macs_in_bounds or 0) + generator_macs(d),
        elements_read=d.B * d.C * d.H * d.W + params + (0 if trains else 2 * normed),
        elementwise=pooled + kernels(d) * (per_unit * normed + taps),
    )


def generator_macs(d: Dims) -> int:
    """Count the multiply-adds of the layers that generate the kernels."""
    hidden = hidden_channels(d)
    reduction = 0 if is_linear(d) else d.C * hidden
    return int(kernels(d) * (reduction + hidden * d.G * d.K**2))


def kernels(d: Dims) -> int:
    """Count the positions that get a kernel of their own."""
    return math.prod(output(d)) // int(d.C)


def is_linear(d: Dims) -> bool:
    """Tell whether the workload asks for a single layer as generator; by default it has two."""
    return bool(d.get("generator") == "linear")


def hidden_channels(d: Dims) -> int:
    """Count the channels that the last layer of the generator reads."""
    return int(d.C if is_linear(d) else d.C // d.R)


def taps_inside(size: int, kernel: int, stride: int = 1) -> list[int]:
    """Count the taps inside a map of that size for every window around 0, stride, 2·stride and so on."""
    starts = (centre - kernel // 2 for centre in range(0, size, stride))
    return [min(size, start + kernel) - max(0, start) for start in starts]


REDNET = "RedNet-50, Li et al. 2021, table 1: K = 7, r = 4, 16 channels per group"
STEM = "the stem of RedNet in the released code: K = 3, r = 4, 16 channels per group"
DOWN = "RedNet-50's first block of a stage in the released code, with stride 2"
LINEAR = "RedNet-50's second stage with one linear layer as generator, as in Wu et al. 2019, arXiv 1901.10430"
NETWORK = [
    Workload("rednet50/stage1", Dims(B=1, C=64, H=56, W=56, K=7, G=4, R=4), REDNET),
    Workload("rednet50/stage2", Dims(B=1, C=128, H=28, W=28, K=7, G=8, R=4), REDNET),
    Workload("rednet50/stage3", Dims(B=1, C=256, H=14, W=14, K=7, G=16, R=4), REDNET),
    Workload("rednet50/stage4", Dims(B=1, C=512, H=7, W=7, K=7, G=32, R=4), REDNET),
    Workload("rednet50/stem", Dims(B=1, C=32, H=112, W=112, K=3, G=2, R=4), STEM),
    Workload("rednet50/stage2_down", Dims(B=1, C=128, H=56, W=56, K=7, G=8, R=4, stride=2), DOWN),
]
# The second stage, because kernels of every channel's own at the first are as large as 64 maps of 7×7.
WORKLOADS = [*NETWORK, *sweep(NETWORK[1], K=(3, 5, 7, 9, 11), G=(1, 8, 32, 128), H=(7, 14, 28, 56))]

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=(
        *grouped_maps(),
        *grouped_maps(stride=2),
        Dims(B=2, C=6, H=5, W=8, K=2, G=3),
        Dims(B=2, C=4, H=3, W=7, K=4, G=2, stride=3),
    ),
    polynomial=True,
    counted=lambda d: 0,
    counted_because=ELEMENTWISE,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=module_options,
    domain=module_domain,
    workloads=[
        *WORKLOADS,
        *sweep(NETWORK[1], R=(1, 2, 4, 8)),
        Workload("rednet50/stage2_linear", NETWORK[1].dims.replace(generator="linear"), LINEAR),
    ],
    proof_dims=(
        *grouped_maps(C=8, R=2),
        *grouped_maps(C=8, R=2, stride=2),
        *grouped_maps(generator="linear"),
        Dims(B=2, C=8, H=5, W=4, K=3, G=2, R=2, norm="train"),
        Dims(B=2, C=8, H=4, W=7, K=3, G=4, R=2, stride=2, norm="train"),
        Dims(B=2, C=8, H=3, W=5, K=2, G=2, R=2),
        Dims(B=2, C=4, H=5, W=7, K=4, G=2, R=1, stride=3, generator="linear"),
    ),
    counted=generator_macs,
    counted_because=ELEMENTWISE,
)


@core.generator(inputs=lambda d: {"weight": parameter(d.G * d.K**2, d.C)})
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on every position, or with a stride on the sum of every cell."""
    height, width = output(d)[2:]
    s = d.get("stride", 1)
    cells = F.pad(x, (0, -d.W % s, 0, -d.H % s)).reshape(d.B, d.C, height, s, width, s)
    kernel = torch.einsum("oc,bchw->bohw", weight, cells.sum((3, 5)))
    return {"kernel": kernel.reshape(d.B, d.G, d.K, d.K, height, width)}


def released(d: Dims) -> str | None:
    """Say why the released operator cannot take these dimensions, or return None."""
    return None if d.K % 2 else f"it pads by (K − 1)/2, which loses a row and a column with K={d.K}"


def released_module(d: Dims) -> str | None:
    """Say why the released module cannot take these dimensions, or return None."""
    stride = d.get("stride", 1)
    if d.H % stride or d.W % stride:
        return f"its pooling leaves out the cells of {stride}×{stride} that the border cuts"
    if d.get("norm") == "train" and not is_linear(d) and kernels(d) == 1:
        return "its batch norm takes no statistics of a single position"
    return released(d)


@core.implementation("authors", counted=lambda d: 0, counted_because=ELEMENTWISE, supports=released)
def authors(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Gather all taps into one tensor, multiply and add, as the authors' CPU module does."""
    B, C = x.shape[:2]
    G, U, V, height, width = kernel.shape[1:]
    taps = F.unfold(x, (U, V), padding=(U // 2, V // 2), stride=stride)
    grouped = taps.view(B, G, C // G, U * V, height, width)
    return (kernel.reshape(B, G, 1, U * V, height, width) * grouped).sum(dim=3).view(B, C, height, width)


@core.implementation("shifted", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Add up shifted views of the padded map, one tap at a time, without a copy per tap."""
    total: Tensor = WeightedTaps.apply(x, kernel, stride)  # type: ignore[no-untyped-call]
    return total


@module.implementation(
    "authors", counted=generator_macs, counted_because=ELEMENTWISE, supports=released_module
)
def module_authors(
    x: Tensor,
    span: Tensor,
    span_bias: Tensor,
    *,
    groups: int,
    generator: str = "bottleneck",
    stride: int = 1,
    **reduction: Tensor,
) -> Tensor:
    """Generate the kernels with 1×1 convolutions, then gather all taps, as the authors' CPU module does."""
    return authors(x, generate(x, span, span_bias, groups, stride, reduction), stride)


@module.implementation("shifted", preferred=True, counted=generator_macs, counted_because=ELEMENTWISE)
def module_shifted(
    x: Tensor,
    span: Tensor,
    span_bias: Tensor,
    *,
    groups: int,
    generator: str = "bottleneck",
    stride: int = 1,
    **reduction: Tensor,
) -> Tensor:
    """Generate the kernels with 1×1 convolutions, then add up shifted copies."""
    return shifted(x, generate(x, span, span_bias, groups, stride, reduction), stride)


class WeightedTaps(torch.autograd.Function):
    """The sum of weighted taps; autograd's own gradient would fill a whole map for every tap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, stride: int) -> Tensor:
        """Weigh x [B, C, H, W] by kernel [B, G, U, V, ⌈H/s⌉, ⌈W/s⌉]."""
        ctx.save_for_backward(x, kernel)
        ctx.stride = stride
        return weigh(x, kernel, stride)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Spread the gradient over the taps, and multiply it with them."""
        x, kernel = ctx.saved_tensors
        into_x, into_kernel, _ = ctx.needs_input_grad
        return (
            spread(grad, kernel, x.shape, ctx.stride) if into_x else None,
            multiply(grad, x, kernel.shape, ctx.stride) if into_kernel else None,
            None,
        )


def weigh(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    """Add up the taps of x [B, C, H, W] times a kernel [B, G, U, V, ⌈H/s⌉, ⌈W/s⌉]."""
    B, C = x.shape[:2]
    G, U, V, height, width = kernel.shape[1:]
    total = x.new_zeros(B, G, C // G, height, width)
    weights = kernel.reshape(B, G, 1, U * V, height, width).unbind(3)
    for tap, weight in zip(taps_of(phases(x, G, U, V, stride), kernel.shape), weights, strict=True):
        total.addcmul_(tap, weight)
    return total.view(B, C, height, width)


def multiply(y: Tensor, x: Tensor, shape: torch.Size, stride: int = 1) -> Tensor:
    """Multiply y [B, C, ⌈H/s⌉, ⌈W/s⌉] with every tap of x [B, C, H, W], and add up a group's channels.

    shape: that of the result, [B, G, U, V, ⌈H/s⌉, ⌈W/s⌉].
    """
    B, G, U, V, height, width = shape
    grouped = y.reshape(B, G, -1, height, width)
    taps = taps_of(phases(x, G, U, V, stride), shape)
    return torch.stack([(grouped * tap).sum(2) for tap in taps], 2).view(shape)


def spread(y: Tensor, kernel: Tensor, shape: torch.Size, stride: int = 1) -> Tensor:
    """Add y [B, C, ⌈H/s⌉, ⌈W/s⌉] times a kernel to the taps of a map of the given shape [B, C, H, W]."""
    H, W = shape[2:]
    B, G, U, V, height, width = kernel.shape
    grouped = y.reshape(B, G, -1, height, width)
    total = phases(y.new_zeros(()).expand(shape), G, U, V, stride)
    weights = kernel.reshape(B, G, 1, U * V, height, width).unbind(3)
    for tap, weight in zip(taps_of(total, kernel.shape), weights, strict=True):
        tap.addcmul_(grouped, weight)
    padded = total.permute(2, 3, 4, 5, 0, 6, 1).flatten(5).flatten(3, 4).flatten(1, 2)
    return padded[:, :, U // 2 : U // 2 + H, V // 2 : V // 2 + W]


def phases(x: Tensor, G: int, U: int, V: int, stride: int) -> Tensor:
    """Pad x [B, C, H, W] by the reach of a kernel and take every s-th row and column, [s, s, B, G, C/G, …].

    What a tap reads then lies side by side whatever the stride is.
    """
    B, C, H, W = x.shape
    down, right = -(H + U - 1) % stride, -(W + V - 1) % stride
    padded = F.pad(x, (V // 2, (V - 1) // 2 + right, U // 2, (U - 1) // 2 + down))
    rows, columns = (size // stride for size in padded.shape[2:])
    cells = padded.reshape(B, G, C // G, rows, stride, columns, stride)
    return cells.permute(4, 6, 0, 1, 2, 3, 5).contiguous()


def taps_of(phases: Tensor, shape: torch.Size) -> Iterator[Tensor]:
    """View the taps of a kernel of the given shape [B, G, U, V, ⌈H/s⌉, ⌈W/s⌉] in row order."""
    stride = len(phases)
    U, V, height, width = shape[2:]
    for u, v in product(range(U), range(V)):
        rows, columns = slice(u // stride, u // stride + height), slice(v // stride, v // stride + width)
        yield phases[u % stride, v % stride, ..., rows, columns]


def generate(
    x: Tensor, span: Tensor, span_bias: Tensor, groups: int, stride: int, reduction: Mapping[str, Tensor]
) -> Tensor:
    """Generate the kernels [B, G, K, K, ⌈H/s⌉, ⌈W/s⌉] of every position; a linear generator has no reduction.

    Without stored statistics the batch norm takes those of the batch.
    """
    K = math.isqrt(span.shape[0] // groups)
    hidden = F.avg_pool2d(x, stride, ceil_mode=True) if stride > 1 else x
    if reduction:
        hidden = F.conv2d(hidden, reduction["reduce"][:, :, None, None])
        hidden = torch.relu(normalise(hidden, reduction))
    kernel = F.conv2d(hidden, span[:, :, None, None], span_bias)
    return kernel.reshape(len(x), groups, K, K, *kernel.shape[2:])


def normalise(x: Tensor, norm: Mapping[str, Tensor]) -> Tensor:
    """Apply a batch norm, by the statistics of the batch where none are stored."""
    # On maps of 1×1, torch's gradient on the CPU takes the numbers of a strided vector for neighbours.
    gain, shift = norm["gain"].contiguous(), norm["shift"].contiguous()
    mean, variance = (norm[name].contiguous() if name in norm else None for name in ("mean", "variance"))
    # Not the function of torch.nn.functional, which refuses the statistics of a single value per channel.
    return torch.batch_norm(
        x, gain, shift, mean, variance, mean is None, 0.1, 1e-5, torch.backends.cudnn.enabled
    )
