"""Dynamic ReLU B: the largest of K linear functions, generated for every channel of an image.

Chen et al., Dynamic ReLU, ECCV 2020 (arXiv 2003.10027), section 3: spatial-shared and channel-wise. The
paper's K is ``pieces`` here, two unless a workload names another. A hyper function of the whole map generates
the pieces: squeeze, C/R hidden units, a sigmoid for residuals between −1 and 1; without them the function is
ReLU, for the first slope starts at 1 and everything else at 0. Slopes move by at most 1, intercepts by 0.5.

The authors released the layer with Dynamic Head (microsoft/DynamicHead, dyhead/dyrelu.py): its core is that
of two pieces, ``authors`` here. Its hyper function has a hard sigmoid, which makes the module another
function, and R = 4 where the paper has 8. A well-known third-party layer (Islanna/DynamicReLU), ``permuted``
here, computes the module's formula, also with R = 4, and orders the rows of the last layer by channels first.
"""

import math
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
    generated,
    parameter,
    sweep,
)

operator = Operator(
    "dynamic_relu_b",
    family="activation",
    source="Chen et al. 2020, ECCV, arXiv 2003.10027, section 3",
    traits=Traits(space="position", channels="own", sharing=("positions",), dynamic="per image", degree=None),
    probed_at=Dims(B=2, C=3, H=4, W=5, pieces=2),
)


def reference(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """y[b,c,i,j] = max_k slope[b,k,c] · x[b,c,i,j] + intercept[b,k,c].

    x [B, C, H, W]; slope and intercept [B, pieces, C]; y [B, C, H, W]. The larger of u and v is
    (u + v + |u − v|)/2 with |d| = max(d, 0) + max(−d, 0), whose gradient is halved where they are equal.
    """
    lines = slope[..., None, None] * x[:, None] + intercept[..., None, None]  # [B, pieces, C, H, W]
    largest, *others = lines.unbind(1)
    for line in others:
        largest = (largest + line + torch.relu(largest - line) + torch.relu(line - largest)) / 2
    return largest


def module_reference(
    x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> Tensor:
    """y[b,c,i,j] = max_k a[b,k,c]·x[b,c,i,j] + e[b,k,c], a = [k = 0] + r[b,0] and e = r[b,1]/2.

    r[b] = 2σ(expand·ReLU(reduce·mean(x[b]) + reduce_bias) + expand_bias) − 1, read as [2, pieces, C].
    x [B, C, H, W], its mean over all positions; reduce [C/R, C] with reduce_bias [C/R]; expand
    [2·pieces·C, C/R] with expand_bias [2·pieces·C]; σ the sigmoid; y [B, C, H, W].
    """
    B, C = x.shape[:2]
    hidden = torch.relu(torch.einsum("oc,bc->bo", reduce, x.mean((2, 3))) + reduce_bias)
    residual = 2 * torch.sigmoid(torch.einsum("po,bo->bp", expand, hidden) + expand_bias) - 1
    slopes, intercepts = (part.unbind(1) for part in residual.reshape(B, 2, -1, C, 1, 1).unbind(1))
    largest = (1 + slopes[0]) * x + intercepts[0] / 2
    for slope, intercept in zip(slopes[1:], intercepts[1:], strict=True):
        line = slope * x + intercept / 2
        largest = (largest + line + torch.relu(largest - line) + torch.relu(line - largest)) / 2
    return largest


def pieces(d: Dims) -> int:
    """Count the linear functions, two unless the workload names another number."""
    return int(d.get("pieces", 2))


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "slope": generated(d.B, pieces(d), d.C),
        "intercept": generated(d.B, pieces(d), d.C),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), **hyper_inputs(d, 2 * pieces(d) * d.C)}


def hyper_inputs(d: Dims, outputs: int) -> Mapping[str, Spec]:
    """Shapes of the hyper function's two layers."""
    hidden = d.C // d.R
    return {
        "reduce": parameter(hidden, d.C, fan_in=d.C),
        "reduce_bias": parameter(hidden),
        "expand": parameter(outputs, hidden, fan_in=hidden),
        "expand_bias": parameter(outputs),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def module_domain(d: Dims) -> str | None:
    """Say why the formula of the module defines nothing, or return None; C/R is rounded down."""
    if d.C < d.R:
        return f"{d.C} channels reduced by {d.R} leave none: choose R no larger than C"
    return None


def cost(d: Dims) -> Cost:
    """One multiply-add per piece and element, and one comparison fewer."""
    elements = math.prod(output(d))
    return Cost(
        params=0,
        macs=pieces(d) * elements,
        elements_read=elements + 2 * d.B * pieces(d) * d.C,
        elements_written=elements,
        elementwise=(pieces(d) - 1) * elements,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and the hyper function, of which the mean, biases, ReLU and scaling are elementwise."""
    return with_hyper_function(cost(d), d, 2 * pieces(d) * d.C)


def with_hyper_function(core_cost: Cost, d: Dims, outputs: int) -> Cost:
    """Add to the cost of a core the hyper function that generates its pieces."""
    hidden = d.C // d.R
    params = hidden * (d.C + 1) + outputs * (hidden + 1)
    return replace(
        core_cost,
        params=params,
        macs=core_cost.macs + hyper_macs(d, outputs),
        elements_read=math.prod(output(d)) + params,
        # The mean; bias and ReLU; bias, twice the sigmoid less one, the range and the start of every piece.
        elementwise=core_cost.elementwise + math.prod(output(d)) + d.B * (2 * hidden + 5 * outputs),
        transcendental=d.B * outputs,
    )


def hyper_macs(d: Dims, outputs: int) -> int:
    """Count the multiply-adds of the hyper function's two layers."""
    return int(d.B * (d.C // d.R) * (d.C + outputs))


MOBILENET = "MobileNetV2 with dynamic ReLU, Chen et al. 2020: R = 8; what a block expands to"
RESNET = "ResNet-50 with dynamic ReLU, Chen et al. 2020: R = 8; what a shortcut was added to"
WORKLOADS = [
    Workload("resnet50/stage1", Dims(B=1, C=256, H=56, W=56, pieces=2, R=8), RESNET),
    Workload("resnet50/stage3", Dims(B=1, C=1024, H=14, W=14, pieces=2, R=8), RESNET),
    Workload("dyrelu_mobilenetv2/stage2", Dims(B=1, C=144, H=56, W=56, pieces=2, R=8), MOBILENET),
    Workload("dyrelu_mobilenetv2/stage4", Dims(B=1, C=384, H=14, W=14, pieces=2, R=8), MOBILENET),
    Workload("dyrelu_mobilenetv2/stage6", Dims(B=1, C=960, H=7, W=7, pieces=2, R=8), MOBILENET),
]
SWEPT = sweep(WORKLOADS[2], pieces=(1, 2, 3, 4))
PROOF_DIMS = (
    Dims(B=2, C=12, H=4, W=5, pieces=2, R=2),
    Dims(B=3, C=13, H=1, W=6, pieces=3, R=2),
    Dims(B=2, C=16, H=7, W=3, pieces=1, R=1),
    Dims(B=4, C=16, H=2, W=8, pieces=4, R=2),
    Dims(B=1, C=16, H=5, W=6, pieces=2, R=2),
)

ELEMENTWISE = "the pieces are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
    counted=lambda d: 0,
    counted_because=ELEMENTWISE,
)


def counted_macs(d: Dims) -> int:
    """Count the multiply-adds of the hyper function."""
    return hyper_macs(d, 2 * pieces(d) * d.C)


module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    domain=module_domain,
    workloads=[*WORKLOADS, *SWEPT, *sweep(WORKLOADS[2], R=(4, 8, 16, 32))],
    proof_dims=PROOF_DIMS,
    counted=counted_macs,
    counted_because=ELEMENTWISE,
)


@core.generator(
    inputs=lambda d: {"slopes": parameter(pieces(d), d.C, d.C), "intercepts": parameter(pieces(d), d.C, d.C)}
)
def generated_linearly(d: Dims, x: Tensor, slopes: Tensor, intercepts: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on the sum over all positions."""
    return {
        "slope": torch.einsum("koc,bchw->bko", slopes, x),
        "intercept": torch.einsum("koc,bchw->bko", intercepts, x),
    }


def of_two_pieces(d: Dims) -> str | None:
    """Say why the released layer cannot take these dimensions, or return None."""
    return None if pieces(d) == 2 else f"it has two pieces, not {pieces(d)}"


@core.implementation("authors", counted=lambda d: 0, counted_because=ELEMENTWISE, supports=of_two_pieces)
def authors(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Take the larger of two products with their intercepts added, as the authors' layer does."""
    first, second = slope[..., None, None].unbind(1)
    first_intercept, second_intercept = intercept[..., None, None].unbind(1)
    return torch.max(x * first + first_intercept, x * second + second_intercept)


@core.implementation("permuted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def permuted(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Bring the positions to the front, put the pieces side by side and take the largest along that axis."""
    lines = x.permute(2, 3, 0, 1).unsqueeze(-1) * slope.mT + intercept.mT
    return lines.amax(-1).permute(2, 3, 0, 1)


@core.implementation("maximum", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def maximum(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Compute one piece after the other, its intercept added in place, and keep the larger."""
    lines = zip(slope[..., None, None].unbind(1), intercept[..., None, None].unbind(1), strict=True)
    # On the CPU faster than addcmul, which is not vectorised over numbers that a channel shares.
    largest, *others = ((x * factor).add_(start) for factor, start in lines)
    for line in others:
        largest = torch.maximum(largest, line)
    return largest


@module.implementation("permuted", counted=counted_macs, counted_because=ELEMENTWISE)
def module_permuted(x: Tensor, **hyper: Tensor) -> Tensor:
    """Generate the pieces with two linear layers, then put them side by side."""
    return permuted(x, *generate(x, x.shape[1], **hyper))


@module.implementation("maximum", preferred=True, counted=counted_macs, counted_because=ELEMENTWISE)
def module_maximum(x: Tensor, **hyper: Tensor) -> Tensor:
    """Generate the pieces with two linear layers, then keep the larger of one after the other."""
    return maximum(x, *generate(x, x.shape[1], **hyper))


def generate(
    x: Tensor, width: int, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Generate slopes and intercepts [B, pieces, width]; the width is C, or 1 where channels share them."""
    hidden = F.relu(F.linear(x.mean((2, 3)), reduce, reduce_bias))
    residual = 2 * torch.sigmoid(F.linear(hidden, expand, expand_bias)) - 1
    slopes, intercepts = residual.reshape(len(x), 2, -1, width).unbind(1)
    return torch.cat((slopes[:, :1] + 1, slopes[:, 1:]), 1), intercepts / 2
