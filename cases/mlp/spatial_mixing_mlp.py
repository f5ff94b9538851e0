"""Spatial mixing: in every channel the positions of the whole map are mixed, by one matrix for all channels.

Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021 (arXiv 2105.01601), eq. (1),
first line, called token mixing there and there between a layer norm and a residual sum, both left out here.
Channels do not meet. The weights fit one size of map only. Core: one linear layer, N → N with N = H·W.
Module: N → hidden → N with GELU between, ½z·(1 + erf(z/√2)); the paper's D_S is ``hidden``. The released code
(google-research/vision_transformer) is no implementation of the module: it leaves GELU to JAX, whose default
approximates erf by tanh. It swaps the axes of its tokens [B, N, C] and then calls a linear layer,
which on a map [B, C, H, W] is ``linear`` here.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "spatial_mixing_mlp",
    family="mlp",
    source="Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601, eq. (1)",
    note="without layer norm and residual; released JAX code approximates its GELU by tanh",
    traits=Traits(space="global", channels="own", sharing=("channels",)),
)


def reference(x: Tensor, weight: Tensor) -> Tensor:
    """y[b, c, p] = Σ_q weight[p, q] · x[b, c, q], positions p and q in row order.

    x [B, C, H, W]; weight [N, N]; y [B, C, H, W].
    """
    return torch.einsum("pq,bcq->bcp", weight, x.reshape(*x.shape[:2], -1)).reshape(x.shape)


def module_reference(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """y[b, c] = second·GELU(first·x[b, c] + first_bias) + second_bias, x[b, c] and y[b, c] of N elements.

    GELU(z) = ½z·(1 + erf(z/√2)). x [B, C, H, W], its positions in row order; first [D, N] with D the
    hidden units; first_bias [D]; second [N, D]; second_bias [N]; y [B, C, H, W].
    """
    hidden = torch.einsum("dq,bcq->bcd", first, x.reshape(*x.shape[:2], -1)) + first_bias
    return (torch.einsum("pd,bcd->bcp", second, F.gelu(hidden)) + second_bias).reshape(x.shape)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    N = d.H * d.W
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(N, N, fan_in=N)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    N = d.H * d.W
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "first": parameter(d.hidden, N, fan_in=N),
        "first_bias": parameter(d.hidden),
        "second": parameter(N, d.hidden, fan_in=d.hidden),
        "second_bias": parameter(N),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """N multiply-adds per output."""
    N = d.H * d.W
    return Cost(
        params=N**2,
        macs=d.B * d.C * N**2,
        elements_read=d.B * d.C * N + N**2,
        elements_written=d.B * d.C * N,
    )


def module_cost(d: Dims) -> Cost:
    """2N·D multiply-adds per channel; two biases and the four steps around erf are elementwise."""
    N, rows = d.H * d.W, d.B * d.C
    params = 2 * N * d.hidden + d.hidden + N
    return Cost(
        params=params,
        macs=rows * 2 * N * d.hidden,
        elements_read=rows * N + params,
        elements_written=rows * N,
        elementwise=rows * (5 * d.hidden + N),
        transcendental=rows * d.hidden,
    )


MIXER = "{} at 224, Tolstikhin et al. 2021, table 1"
WORKLOADS = [
    Workload("mixer_b16/layer", Dims(B=1, C=768, H=14, W=14, hidden=384), MIXER.format("Mixer-B/16")),
    Workload("mixer_s32/layer", Dims(B=1, C=512, H=7, W=7, hidden=256), MIXER.format("Mixer-S/32")),
    Workload("mixer_s16/layer", Dims(B=1, C=512, H=14, W=14, hidden=256), MIXER.format("Mixer-S/16")),
    Workload("mixer_l16/layer", Dims(B=1, C=1024, H=14, W=14, hidden=512), MIXER.format("Mixer-L/16")),
    Workload("mixer_h14/layer", Dims(B=1, C=1280, H=16, W=16, hidden=640), MIXER.format("Mixer-H/14")),
]
PROOF_DIMS = (
    Dims(B=2, C=3, H=4, W=3, hidden=7),
    Dims(B=3, C=4, H=1, W=5, hidden=3),
    Dims(B=2, C=5, H=5, W=2, hidden=4),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], H=(7, 14, 28), C=(192, 384, 768))],
    proof_dims=PROOF_DIMS,
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], hidden=(96, 192, 384, 768, 1536))],
    proof_dims=PROOF_DIMS,
)


@core.implementation("linear", preferred=True)
def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Call the framework's linear layer on the rows [B, C, N]."""
    return F.linear(x.flatten(2), weight).view(x.shape)


@core.implementation("tokens")
def tokens(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the matrix with tokens [B, N, C]; the way there and back is part of the call."""
    mixed = weight.expand(len(x), -1, -1) @ x.flatten(2).mT.contiguous()
    return mixed.mT.reshape(x.shape)


@module.implementation("linear", preferred=True)
def module_linear(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """Call the framework's linear layer twice on the rows [B, C, N]."""
    hidden = F.gelu(F.linear(x.flatten(2), first, first_bias))
    return F.linear(hidden, second, second_bias).view(x.shape)


@module.implementation("tokens")
def module_tokens(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """Multiply both matrices with tokens [B, N, C]; the way there and back is part of the call."""
    hidden = first.expand(len(x), -1, -1) @ x.flatten(2).mT.contiguous()
    hidden = F.gelu(hidden.add_(first_bias[:, None]))
    mixed = (second.expand(len(x), -1, -1) @ hidden).add_(second_bias[:, None])
    return mixed.mT.reshape(x.shape)
