"""Channel MLP: at every position the channels are expanded, passed through GELU and brought back.

Dosovitskiy et al., An Image Is Worth 16×16 Words, ICLR 2021 (arXiv 2010.11929), section 3.1, where every
block ends in it; Tolstikhin et al., MLP-Mixer, NeurIPS 2021 (arXiv 2105.01601), eq. (1), call it channel
mixing. Positions do not meet. Core: its first linear layer, C → expansion·C. Module: C → expansion·C → C with
GELU between, ½z·(1 + erf(z/√2)). Swin's released code (microsoft/Swin-Transformer, Mlp) computes it, on
tokens [B, N, C] and with dropouts that do nothing at inference: ``authors`` here. The released code of the
vision transformer and of Mixer (google-research/vision_transformer) leaves GELU to JAX, whose default
approximates erf by tanh: another function.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "channel_mlp",
    family="mlp",
    source="Dosovitskiy et al. 2021, ICLR, arXiv 2010.11929, section 3.1",
    note="Released JAX code approximates its GELU by tanh, which is another function.",
    traits=Traits(space="position", channels="all", sharing=("positions",)),
)


def reference(x: Tensor, weight: Tensor) -> Tensor:
    """y[b,o,i,j] = Σ_c weight[o,c] · x[b,c,i,j]. x [B, C, H, W]; weight [eC, C]; y [B, eC, H, W].

    e is the expansion.
    """
    return torch.einsum("oc,bchw->bohw", weight, x)


def module_reference(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """y[b,:,i,j] = second·GELU(first·x[b,:,i,j] + first_bias) + second_bias.

    GELU(z) = ½z·(1 + erf(z/√2)). x [B, C, H, W]; first [eC, C] with e the expansion; first_bias [eC];
    second [C, eC]; second_bias [C]; y [B, C, H, W].
    """
    hidden = torch.einsum("oc,bchw->bohw", first, x) + first_bias[:, None, None]
    return torch.einsum("oc,bchw->bohw", second, F.gelu(hidden)) + second_bias[:, None, None]


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.expansion * d.C, d.C, fan_in=d.C)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    hidden = d.expansion * d.C
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "first": parameter(hidden, d.C, fan_in=d.C),
        "first_bias": parameter(hidden),
        "second": parameter(d.C, hidden, fan_in=hidden),
        "second_bias": parameter(d.C),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the core's output."""
    return d.B, d.expansion * d.C, d.H, d.W


def module_output(d: Dims) -> tuple[int, ...]:
    """Shape of the module's output."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """e·C² multiply-adds per position."""
    positions, outputs = d.B * d.H * d.W, d.expansion * d.C
    return Cost(
        params=outputs * d.C,
        macs=positions * outputs * d.C,
        elements_read=positions * d.C + outputs * d.C,
        elements_written=positions * outputs,
    )


def module_cost(d: Dims) -> Cost:
    """2e·C² multiply-adds per position; two biases and the four steps about an erf are elementwise."""
    positions, hidden = d.B * d.H * d.W, d.expansion * d.C
    params = 2 * hidden * d.C + hidden + d.C
    return Cost(
        params=params,
        macs=positions * 2 * hidden * d.C,
        elements_read=positions * d.C + params,
        elements_written=positions * d.C,
        elementwise=positions * (5 * hidden + d.C),
        transcendental=positions * hidden,
    )


SWIN = "Swin-T, Liu et al. 2021, table 7: expansion 4"
MIXER = "Mixer-B/16 at 224, Tolstikhin et al. 2021, table 1: 768 channels to 3072"
VIT = "ViT-B/32 at 384, Dosovitskiy et al. 2021, table 1: 768 channels to 3072; without the class token"
WORKLOADS = [
    Workload("swin_t/stage1", Dims(B=1, C=96, H=56, W=56, expansion=4), SWIN),
    Workload("swin_t/stage2", Dims(B=1, C=192, H=28, W=28, expansion=4), SWIN),
    Workload("swin_t/stage3", Dims(B=1, C=384, H=14, W=14, expansion=4), SWIN),
    Workload("swin_t/stage4", Dims(B=1, C=768, H=7, W=7, expansion=4), SWIN),
    Workload("mixer_b16/layer", Dims(B=1, C=768, H=14, W=14, expansion=4), MIXER),
    Workload("vit_b32/384", Dims(B=1, C=768, H=12, W=12, expansion=4), VIT),
]
SWEPT = sweep(WORKLOADS[0], expansion=(1, 2, 3, 4, 6))
PROOF_DIMS = (Dims(B=2, C=3, H=4, W=3, expansion=4), Dims(B=3, C=4, H=1, W=5, expansion=2))

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=module_output,
    cost=module_cost,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=PROOF_DIMS,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, weight: Tensor) -> Tensor:
    """Call the framework's linear layer on tokens [B, N, C]; the way there and back is part of the call."""
    return F.linear(x.flatten(2).mT, weight).mT.reshape(len(x), -1, *x.shape[2:])


@core.implementation("matmul")
def matmul(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the matrix with each image, flattened to [C, N]."""
    return (weight.expand(len(x), -1, -1) @ x.flatten(2)).view(len(x), -1, *x.shape[2:])


@core.implementation("convolution")
def convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Call the framework's convolution with a 1×1 kernel."""
    return F.conv2d(x, weight[:, :, None, None])


@module.implementation("authors", preferred=True)
def module_authors(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """Two linear layers on tokens [B, N, C]; the way there and back is part of the call."""
    hidden = F.gelu(F.linear(x.flatten(2).mT, first, first_bias))
    return F.linear(hidden, second, second_bias).mT.reshape(x.shape)


@module.implementation("unfused")
def unfused(x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor) -> Tensor:
    """As ``authors``, with GELU written out by erf in four passes over the hidden units."""
    hidden = F.linear(x.flatten(2).mT, first, first_bias)
    hidden = hidden * 0.5 * (1.0 + torch.erf(hidden * 0.5**0.5))
    return F.linear(hidden, second, second_bias).mT.reshape(x.shape)


@module.implementation("matmul")
def module_matmul(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """Two products of a matrix with each image, flattened to [C, N]."""
    hidden = first.expand(len(x), -1, -1) @ x.flatten(2)
    hidden = F.gelu(hidden.add_(first_bias[:, None]))
    return (second.expand(len(x), -1, -1) @ hidden).add_(second_bias[:, None]).view(x.shape)


@module.implementation("convolution")
def module_convolution(
    x: Tensor, first: Tensor, first_bias: Tensor, second: Tensor, second_bias: Tensor
) -> Tensor:
    """Two convolutions with 1×1 kernels."""
    hidden = F.gelu(F.conv2d(x, first[:, :, None, None], first_bias))
    return F.conv2d(hidden, second[:, :, None, None], second_bias)
