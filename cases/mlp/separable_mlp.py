"""Separable MLP: the positions of every channel are mixed, then the channels at every position.

Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, NeurIPS 2021 (arXiv 2105.01601), eq. (1).
Han et al., ICLR 2022 (arXiv 2106.04263), obtain it from the fully connected layer by separating dimensions:
as one matrix over channels and positions it is a Kronecker product. Core: the two linear maps alone.
Module: a whole layer of Mixer, in which each map is an MLP with a hidden layer and GELU, ½z·(1 + erf(z/√2)),
behind a layer norm over the channels and below a residual sum. The paper's D_S is ``hidden`` and its D_C is
expansion·C. The released code (google-research/vision_transformer) is no implementation of the module: it
leaves GELU to JAX, whose default approximates erf by tanh. Its layer norms add 10⁻⁶ to the variance, as here.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "separable_mlp",
    family="mlp",
    source="Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601, eq. (1)",
    note="Released JAX code approximates its GELU by tanh, which is another function.",
    traits=Traits(space="global", channels="all"),
)

# What the released code's layer norms add to the variance.
EPS = 1e-6


def reference(x: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    """y[b, o, p] = Σ_c channel[o, c] · Σ_q spatial[p, q] · x[b, c, q], positions p and q in row order.

    x [B, C, H, W]; spatial [N, N]; channel [C, C]; y [B, C, H, W].
    """
    mixed = torch.einsum("pq,bcq->bcp", spatial, x.reshape(*x.shape[:2], -1))
    return torch.einsum("oc,bcp->bop", channel, mixed).reshape(x.shape)


def module_reference(
    x: Tensor,
    spatial_gain: Tensor,
    spatial_shift: Tensor,
    spatial_first: Tensor,
    spatial_first_bias: Tensor,
    spatial_second: Tensor,
    spatial_second_bias: Tensor,
    channel_gain: Tensor,
    channel_shift: Tensor,
    channel_first: Tensor,
    channel_first_bias: Tensor,
    channel_second: Tensor,
    channel_second_bias: Tensor,
) -> Tensor:
    """y[b,:,p] = u[b,:,p] + C₂·GELU(C₁·LN'(u)[b,:,p] + c₁) + c₂; u has spatial in place of channel mixing.

    u[b,c] = x[b,c] + S₂·GELU(S₁·LN(x)[b,c] + s₁) + s₂, x[b,c] and u[b,c] being rows of N elements;
    LN(x)[b,:,p] = (x[b,:,p] − m)/√(v + 10⁻⁶) · gain + shift with mean m and variance v of the C elements;
    GELU(z) = ½z·(1 + erf(z/√2)). x [B, C, H, W], its positions p in row order; gains and shifts [C];
    spatial first S₁ [D, N] with s₁ [D], D the hidden units, and second S₂ [N, D] with s₂ [N];
    channel first C₁ [eC, C] with c₁ [eC], e the expansion, and second C₂ [C, eC] with c₂ [C]; y [B, C, H, W].
    """
    u = x.reshape(*x.shape[:2], -1)
    centred = u - u.mean(1, keepdim=True)
    normed = centred * ((centred * centred).mean(1, keepdim=True) + 1e-6).rsqrt()
    normed = normed * spatial_gain[:, None] + spatial_shift[:, None]
    hidden = F.gelu(torch.einsum("dq,bcq->bcd", spatial_first, normed) + spatial_first_bias)
    u = u + torch.einsum("pd,bcd->bcp", spatial_second, hidden) + spatial_second_bias
    centred = u - u.mean(1, keepdim=True)
    normed = centred * ((centred * centred).mean(1, keepdim=True) + 1e-6).rsqrt()
    normed = normed * channel_gain[:, None] + channel_shift[:, None]
    hidden = F.gelu(torch.einsum("dc,bcp->bdp", channel_first, normed) + channel_first_bias[:, None])
    y = u + torch.einsum("cd,bdp->bcp", channel_second, hidden) + channel_second_bias[:, None]
    return y.reshape(x.shape)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    N = d.H * d.W
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "spatial": parameter(N, N, fan_in=N),
        "channel": parameter(d.C, d.C, fan_in=d.C),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    N, hidden = d.H * d.W, d.expansion * d.C
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "spatial_gain": parameter(d.C, mean=1.0),
        "spatial_shift": parameter(d.C),
        "spatial_first": parameter(d.hidden, N, fan_in=N),
        "spatial_first_bias": parameter(d.hidden),
        "spatial_second": parameter(N, d.hidden, fan_in=d.hidden),
        "spatial_second_bias": parameter(N),
        "channel_gain": parameter(d.C, mean=1.0),
        "channel_shift": parameter(d.C),
        "channel_first": parameter(hidden, d.C, fan_in=d.C),
        "channel_first_bias": parameter(hidden),
        "channel_second": parameter(d.C, hidden, fan_in=hidden),
        "channel_second_bias": parameter(d.C),
    }


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def module_domain(d: Dims) -> str | None:
    """Refuse a single channel, which a layer norm over the channels makes zero."""
    return "a layer norm over one channel leaves nothing of it: choose C of at least 2" if d.C < 2 else None


def cost(d: Dims) -> Cost:
    """N + C multiply-adds per output, in either order."""
    N = d.H * d.W
    return Cost(
        params=N**2 + d.C**2,
        macs=d.B * N * d.C * (N + d.C),
        elements_read=d.B * N * d.C + N**2 + d.C**2,
        elements_written=d.B * N * d.C,
    )


def module_cost(d: Dims) -> Cost:
    """2N·C·(D + e·C) multiply-adds per image.

    Elementwise are the biases, the four steps around erf, the residual sums, and of a layer norm two sums,
    a difference, a square, a scaling, gain and shift; transcendental are erf and a root per position.
    """
    N, hidden = d.H * d.W, d.expansion * d.C
    params = 2 * N * d.hidden + d.hidden + N + 2 * d.C * hidden + hidden + d.C + 4 * d.C
    elements, units = d.B * N * d.C, d.B * (d.C * d.hidden + N * hidden)
    return Cost(
        params=params,
        macs=2 * elements * (d.hidden + hidden),
        elements_read=elements + params,
        elements_written=elements,
        elementwise=2 * (1 + 1 + 7) * elements + 5 * units,
        transcendental=units + 2 * d.B * N,
    )


MIXER = "{} at 224, Tolstikhin et al. 2021, table 1"
S32 = Dims(B=1, C=512, H=7, W=7, hidden=256, expansion=4)
S16 = Dims(B=1, C=512, H=14, W=14, hidden=256, expansion=4)
B16 = Dims(B=1, C=768, H=14, W=14, hidden=384, expansion=4)
L16 = Dims(B=1, C=1024, H=14, W=14, hidden=512, expansion=4)
H14 = Dims(B=1, C=1280, H=16, W=16, hidden=640, expansion=4)
WORKLOADS = [
    Workload("mixer_s32/layer", S32, MIXER.format("Mixer-S/32")),
    Workload("mixer_b16/layer", B16, MIXER.format("Mixer-B/16")),
    Workload("mixer_s16/layer", S16, MIXER.format("Mixer-S/16")),
    Workload("mixer_l16/layer", L16, MIXER.format("Mixer-L/16")),
    Workload("mixer_h14/layer", H14, MIXER.format("Mixer-H/14")),
]
PROOF_DIMS = (
    Dims(B=2, C=3, H=4, W=3, hidden=7, expansion=4),
    Dims(B=3, C=4, H=1, W=5, hidden=3, expansion=2),
    Dims(B=2, C=5, H=5, W=2, hidden=4, expansion=3),
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
    domain=module_domain,
    workloads=[*WORKLOADS, *sweep(WORKLOADS[0], hidden=(192, 384, 768), expansion=(1, 2, 4))],
    proof_dims=PROOF_DIMS,
)


@core.implementation("linear")
def linear(x: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    """Mix the rows [B, C, N] by a linear layer, then the columns by a product from the left."""
    mixed = F.linear(x.flatten(2), spatial)
    return (channel.expand(len(x), -1, -1) @ mixed).view(x.shape)


@core.implementation("tokens", preferred=True)
def tokens(x: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    """Mix the rows [B, C, N] by a linear layer, then turn to tokens [B, N, C] for the channels."""
    mixed = F.linear(x.flatten(2), spatial)
    return F.linear(mixed.mT, channel).mT.reshape(x.shape)


@core.implementation("channels_first")
def channels_first(x: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    """Mix the channels first: both maps are linear, and those of different axes commute."""
    mixed = channel.expand(len(x), -1, -1) @ x.flatten(2)
    return F.linear(mixed, spatial).view(x.shape)


@module.implementation("linear")
def module_linear(
    x: Tensor,
    spatial_gain: Tensor,
    spatial_shift: Tensor,
    spatial_first: Tensor,
    spatial_first_bias: Tensor,
    spatial_second: Tensor,
    spatial_second_bias: Tensor,
    channel_gain: Tensor,
    channel_shift: Tensor,
    channel_first: Tensor,
    channel_first_bias: Tensor,
    channel_second: Tensor,
    channel_second_bias: Tensor,
) -> Tensor:
    """Keep tokens [B, N, C], and swap their axes about the linear layers that mix positions."""
    tokens = x.flatten(2).mT
    normed = F.layer_norm(tokens, tokens.shape[-1:], spatial_gain, spatial_shift, eps=EPS)
    hidden = F.gelu(F.linear(normed.mT, spatial_first, spatial_first_bias))
    tokens = tokens + F.linear(hidden, spatial_second, spatial_second_bias).mT
    normed = F.layer_norm(tokens, tokens.shape[-1:], channel_gain, channel_shift, eps=EPS)
    hidden = F.gelu(F.linear(normed, channel_first, channel_first_bias))
    return (tokens + F.linear(hidden, channel_second, channel_second_bias)).mT.reshape(x.shape)


@module.implementation("tokens", preferred=True)
def module_tokens(
    x: Tensor,
    spatial_gain: Tensor,
    spatial_shift: Tensor,
    spatial_first: Tensor,
    spatial_first_bias: Tensor,
    spatial_second: Tensor,
    spatial_second_bias: Tensor,
    channel_gain: Tensor,
    channel_shift: Tensor,
    channel_first: Tensor,
    channel_first_bias: Tensor,
    channel_second: Tensor,
    channel_second_bias: Tensor,
) -> Tensor:
    """Keep tokens [B, N, C], and mix positions by products from the left, so that nothing is swapped."""
    tokens = x.flatten(2).mT.contiguous()
    normed = F.layer_norm(tokens, tokens.shape[-1:], spatial_gain, spatial_shift, eps=EPS)
    hidden = F.gelu((spatial_first.expand(len(x), -1, -1) @ normed).add_(spatial_first_bias[:, None]))
    tokens = tokens + (spatial_second.expand(len(x), -1, -1) @ hidden).add_(spatial_second_bias[:, None])
    normed = F.layer_norm(tokens, tokens.shape[-1:], channel_gain, channel_shift, eps=EPS)
    hidden = F.gelu(F.linear(normed, channel_first, channel_first_bias))
    return (tokens + F.linear(hidden, channel_second, channel_second_bias)).mT.reshape(x.shape)
