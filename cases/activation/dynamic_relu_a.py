"""Dynamic ReLU A: the largest of K linear functions, generated for an image and shared by its channels.

Chen et al., Dynamic ReLU, ECCV 2020 (arXiv 2003.10027), section 3: spatial and channel-shared. The paper's K
is ``pieces`` here, two unless a workload names another; the hyper function is that of ``dynamic_relu_b`` with
2K outputs for an image. The authors' released layer has no such form; the third-party one that has
(Islanna/DynamicReLU), ``permuted`` here, computes the formula, with R = 4 where the paper has 8.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, activation, generated, parameter, sweep

from . import dynamic_relu_b
from .dynamic_relu_b import ELEMENTWISE, PROOF_DIMS, SWEPT, WORKLOADS, module_domain, output, pieces

operator = Operator(
    "dynamic_relu_a",
    family="activation",
    source="Chen et al. 2020, ECCV, arXiv 2003.10027, section 3",
    traits=Traits(
        space="position",
        channels="own",
        sharing=("positions", "channels"),
        dynamic="per image",
        degree=None,
    ),
    probed_at=Dims(B=2, C=3, H=4, W=5, pieces=2),
)


def reference(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """y[b,c,i,j] = max_k slope[b,k] · x[b,c,i,j] + intercept[b,k].

    x [B, C, H, W]; slope and intercept [B, pieces]; y [B, C, H, W]. The larger of u and v is
    (u + v + |u − v|)/2 with |d| = max(d, 0) + max(−d, 0).
    """
    largest, *others = (
        slope[:, k, None, None, None] * x + intercept[:, k, None, None, None] for k in range(slope.shape[1])
    )
    for line in others:
        largest = (largest + line + torch.relu(largest - line) + torch.relu(line - largest)) / 2
    return largest


def module_reference(
    x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor
) -> Tensor:
    """y[b,c,i,j] = max_k a[b,k]·x[b,c,i,j] + e[b,k] with a = [k = 0] + r[b,0,k] and e = r[b,1,k]/2.

    r[b] = 2σ(expand·ReLU(reduce·mean(x[b]) + reduce_bias) + expand_bias) − 1, read as [2, pieces].
    x [B, C, H, W], its mean over all positions; reduce [C/R, C] with reduce_bias [C/R]; expand
    [2·pieces, C/R] with expand_bias [2·pieces]; σ the sigmoid; y [B, C, H, W].
    """
    hidden = torch.relu(torch.einsum("oc,bc->bo", reduce, x.mean((2, 3))) + reduce_bias)
    residual = 2 * torch.sigmoid(torch.einsum("po,bo->bp", expand, hidden) + expand_bias) - 1
    count = residual.shape[1] // 2
    slope, intercept = (part[:, :, None, None, None] for part in (residual[:, :count], residual[:, count:]))
    largest = (1 + slope[:, 0]) * x + intercept[:, 0] / 2
    for k in range(1, count):
        line = slope[:, k] * x + intercept[:, k] / 2
        largest = (largest + line + torch.relu(largest - line) + torch.relu(line - largest)) / 2
    return largest


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "slope": generated(d.B, pieces(d)),
        "intercept": generated(d.B, pieces(d)),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        **dynamic_relu_b.hyper_inputs(d, 2 * pieces(d)),
    }


def cost(d: Dims) -> Cost:
    """One multiply-add per piece and element, and one comparison fewer."""
    elements = math.prod(output(d))
    return Cost(
        params=0,
        macs=pieces(d) * elements,
        elements_read=elements + 2 * d.B * pieces(d),
        elements_written=elements,
        elementwise=(pieces(d) - 1) * elements,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and the hyper function, of which the mean, biases, ReLU and scaling are elementwise."""
    return dynamic_relu_b.with_hyper_function(cost(d), d, 2 * pieces(d))


def counted_macs(d: Dims) -> int:
    """Count the multiply-adds of the hyper function."""
    return dynamic_relu_b.hyper_macs(d, 2 * pieces(d))


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
    inputs=lambda d: {"slopes": parameter(pieces(d), d.C), "intercepts": parameter(pieces(d), d.C)}
)
def generated_linearly(d: Dims, x: Tensor, slopes: Tensor, intercepts: Tensor) -> Mapping[str, Tensor]:
    """One linear layer on the sum over all positions."""
    return {
        "slope": torch.einsum("kc,bchw->bk", slopes, x),
        "intercept": torch.einsum("kc,bchw->bk", intercepts, x),
    }


@core.implementation("permuted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def permuted(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Exchange batch and columns, put the pieces side by side and take the largest along that axis."""
    lines = x.transpose(0, -1).unsqueeze(-1) * slope + intercept
    return lines.amax(-1).transpose(0, -1)


@core.implementation("maximum", preferred=True, counted=lambda d: 0, counted_because=ELEMENTWISE)
def maximum(x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Compute one piece after the other, its intercept added in place, and keep the larger."""
    return dynamic_relu_b.maximum(x, slope.unsqueeze(2), intercept.unsqueeze(2))


@module.implementation("permuted", counted=counted_macs, counted_because=ELEMENTWISE)
def module_permuted(x: Tensor, **hyper: Tensor) -> Tensor:
    """Generate the pieces with two linear layers, then put them side by side."""
    slope, intercept = dynamic_relu_b.generate(x, 1, **hyper)
    return permuted(x, slope.squeeze(2), intercept.squeeze(2))


@module.implementation("maximum", preferred=True, counted=counted_macs, counted_because=ELEMENTWISE)
def module_maximum(x: Tensor, **hyper: Tensor) -> Tensor:
    """Generate the pieces with two linear layers, then keep the larger of one after the other."""
    return dynamic_relu_b.maximum(x, *dynamic_relu_b.generate(x, 1, **hyper))
