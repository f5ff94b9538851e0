"""Dynamic channel fusion (DCD) of a depthwise convolution: static kernels, gated, plus small dynamic ones.

W(x) = Λ(x)W₀ + PΦ(x)Rᵀ. Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR 2021
(arXiv 2103.08756), the form for K×K depthwise kernels, which are the C rows of a C×K² matrix: Λ, ``gate``,
scales them; R, K²×Lk, ``taps``, makes Lk latent kernels of the taps, which Φ, ``phi``, fuses and P, C×Lk,
hands to the channels. A channel still reads itself alone. By default Lk = ⌊K²/2⌋. Either part may be left out
by ``parts``. Module: one branch of two bias-free layers with a ReLU between them makes the parts.
The released code (liyunsheng13/dcd) has no such layer, its depthwise convolutions are static; so nothing here
is named after the authors.
"""

from collections.abc import Mapping

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

from . import dynamic_depthwise_conv2d as depthwise
from .channel_fusion import (
    BOTH,
    PHI,
    Part,
    behind_branch,
    branch_macs,
    linear_layers,
    made_of_sums,
    parts_of,
    refusal,
    refusal_of_branch,
    square_phi,
    with_branch,
    with_branch_cost,
)

operator = Operator(
    "dcd_depthwise",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, the form for depthwise kernels",
    note="The released code has no such layer; its depthwise convolutions are static.",
    traits=Traits(space="local", channels="own", sharing=("positions",), dynamic="per image", degree=2),
    probed_at=Dims(B=1, C=4, H=7, W=6, K=3),
)


def reference(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """y[b,c,i,j] = Σ_uv W_b[c,uK+v] · x[b, c, i·s+u−p, j·s+v−p], W_b = diag(gate[b])·weight + P·phi[b]·tapsᵀ.

    x [B, C, H, W], zero outside the map; weight [C, K, K], a row of K² each; gate [B, C], ones where it is
    absent; phi [B, Lk, Lk] with P [C, Lk] and taps [K², Lk], their product zero where they are absent; s the
    stride and p = ⌊K/2⌋ the padding; y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
    """
    C, K = weight.shape[:2]
    matrix = weight.reshape(C, K * K).expand(len(x), -1, -1)
    if gate is not None:
        matrix = gate.unsqueeze(2) * matrix
    if phi is not None:
        matrix = matrix + torch.einsum("bcl,nl->bcn", torch.einsum("ci,bil->bcl", P, phi), taps)
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    return torch.einsum("bcijn,bcn->bcij", windows.flatten(4), matrix)


def latent_taps(d: Dims) -> int:
    """Return Lk, ⌊K²/2⌋ unless the workload names it."""
    return int(d.get("Lk", d.K**2 // 2))


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: those of the dynamic parts that the workload names, both by default."""
    specs = {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.C, d.K, d.K, fan_in=d.K**2)}
    if "gate" in parts_of(d):
        specs["gate"] = generated(d.B, d.C)
    if "phi" in parts_of(d):
        Lk = latent_taps(d)
        specs["phi"] = generated(d.B, Lk, Lk, fan_in=Lk)
        specs["P"] = parameter(d.C, Lk, fan_in=Lk)
        specs["taps"] = parameter(d.K**2, Lk, fan_in=d.K**2)
    return specs


options, output = depthwise.options, depthwise.output


def domain(d: Dims) -> str | None:
    """Refuse parts that there are not, and Φ without a latent tap; kernels may be even, or exceed the map."""
    if parts_of(d) in (BOTH, PHI) and latent_taps(d) < 1:
        return f"⌊K²/2⌋ leaves no latent tap of K={d.K}: name Lk, or choose a larger kernel"
    return refusal(d)


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, and a branch without a hidden unit."""
    return domain(d) or refusal_of_branch(d)


def on_kernels(d: Dims, narrow: int) -> int:
    """Count PΦRᵀ, per image, Φ multiplied with the factor of ``narrow`` rows first."""
    Lk = latent_taps(d)
    return int(Lk**2 * narrow + Lk * d.C * d.K**2)


def macs(d: Dims, narrow: int) -> int:
    """Count the batch: the convolution and, where Φ takes part, its product with P and R."""
    _, _, height, width = output(d)
    latent = on_kernels(d, narrow) if "phi" in parts_of(d) else 0
    return int(d.B * (height * width * d.C * d.K**2 + latent))


def macs_p_first(d: Dims) -> int:
    """Count the batch as the reference computes it, P multiplied with Φ first."""
    return macs(d, d.C)


def macs_cheapest(d: Dims) -> int:
    """Count the batch with the smaller of P and R multiplied with Φ first."""
    return macs(d, min(d.C, d.K**2))


def macs_on_features(d: Dims) -> int:
    """Count the form that convolves every channel with all latent kernels and mixes the maps."""
    _, _, height, width = output(d)
    Lk = latent_taps(d)
    mixed = d.C * Lk**2 + height * width * d.C * Lk * (d.K**2 + 1) if "phi" in parts_of(d) else 0
    return int(d.B * (height * width * d.C * d.K**2 + mixed))


def cost(d: Dims) -> Cost:
    """Return the costs with one kernel per image and channel; gate and sum are elementwise on the weights."""
    specs = inputs(d)
    steps = ("gate" in specs) + ("phi" in specs)
    _, _, height, width = output(d)
    rows, columns = (taps_in_bounds(size, d.K, **options(d)) for size in (d.H, d.W))
    on_padding = d.B * d.C * (height * width * d.K**2 - rows * columns)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs_cheapest(d),
        macs_in_bounds=macs_cheapest(d) - on_padding,
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.C * height * width,
        elementwise=steps * d.B * d.C * d.K**2,
    )


MOBILENET = "DCD-MobileNetV2, its depthwise convolutions dynamic as Li et al. 2021 write them, r = 16"
EFFICIENTNET = "EfficientNet-B0, Tan and Le 2019, table 1, with the depthwise form of Li et al. 2021, r = 16"
NETWORK = [
    Workload("dcd_mobilenetv2/stage3_k3", Dims(B=1, C=192, H=28, W=28, K=3, R=16), MOBILENET),
    Workload(
        "dcd_mobilenetv2/stage3_k3_gate", Dims(B=1, C=192, H=28, W=28, K=3, R=16, parts="gate"), MOBILENET
    ),
    Workload("dcd_mobilenetv2/stage2_k3_down", Dims(B=1, C=96, H=112, W=112, K=3, R=16, stride=2), MOBILENET),
    Workload("dcd_mobilenetv2/stage5_k3_b8", Dims(B=8, C=576, H=14, W=14, K=3, R=16), MOBILENET),
    Workload("efficientnet_b0/stage7_k5", Dims(B=1, C=1152, H=7, W=7, K=5, R=16), EFFICIENTNET),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], K=(3, 5, 7, 9), Lk=(1, 2, 6, 9))]
SMALL = Dims(B=2, C=6, H=7, W=6, K=3, R=2)
PROOF_DIMS = (
    SMALL.replace(C=12),
    SMALL.replace(H=2, W=5, Lk=3),
    SMALL.replace(C=10, H=6, W=7, Lk=2, stride=2),
    SMALL.replace(parts="gate"),
    SMALL.replace(C=8, parts="phi", Lk=5),
    SMALL.replace(H=5, W=8, K=2, stride=2),
    SMALL.replace(H=3, W=4, K=4, Lk=1),
)

P_FIRST = "P is multiplied with Φ first, where R may be the smaller factor"
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
    counted=macs_p_first,
    counted_because=P_FIRST,
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


EVERY_KERNEL = "every channel is convolved with all Lk latent kernels, and their maps are mixed"


@core.implementation("feature_path", counted=macs_on_features, counted_because=EVERY_KERNEL)
def feature_path(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """Gate the static output and add the outputs of the latent kernels: the form that the operator avoids."""
    B, C, H, W = x.shape
    K = weight.shape[-1]
    total = F.conv2d(x, weight.unsqueeze(1), stride=stride, padding=K // 2, groups=C)
    if gate is not None:
        total = gate[:, :, None, None] * total
    if phi is not None and P is not None and taps is not None:
        small = taps.t().reshape(-1, 1, K, K)
        maps = F.conv2d(x.reshape(B * C, 1, H, W), small, stride=stride, padding=K // 2)
        mixed = (P @ phi).reshape(B * C, 1, -1) @ maps.flatten(2)
        total = total + mixed.reshape(total.shape)
    return total


@core.implementation("merged", preferred=True)
def merged(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image and channel, then one grouped convolution with the batch in the channels."""
    matrix = weight.flatten(1).expand(len(x), -1, -1)
    if gate is not None:
        matrix = gate.unsqueeze(2) * matrix
    if phi is not None and P is not None and taps is not None:
        every = P.expand(len(x), -1, -1)
        fused = (every @ phi) @ taps.t() if len(P) <= len(taps) else every @ (phi @ taps.t())
        matrix = matrix + fused
    return depthwise.authors(x, matrix.reshape(*matrix.shape[:2], *weight.shape[1:]), stride)


def module_reference(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    P: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """y[b,c,i,j] = Σ_uv W_b[c, uK+v] · x[b, c, i·s+u−p, j·s+v−p], W_b = diag(λ[b])·weight + P·Φ[b]·tapsᵀ.

    (λ, Φ)[b] = excite·ReLU(squeeze·mean(x[b])). x [B, C, H, W], zero outside the map, its mean over all
    positions; weight [C, K, K], a row of K² each; squeeze [C/R, C]; excite [C+Lk², C/R], the rows of λ before
    those of Φ; P [C, Lk]; taps [K², Lk]; s the stride and p = ⌊K/2⌋ the padding;
    y [B, C, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1]. Without P and taps there is no Φ; without its rows λ is one.
    """
    C, K = weight.shape[:2]
    size = P.shape[1] ** 2 if P is not None else 0
    dynamic = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
    gate, phi = dynamic.split([len(excite) - size, size], dim=1)
    matrix = weight.reshape(C, K * K).expand(len(x), -1, -1)
    if gate.shape[1]:
        matrix = gate.unsqueeze(2) * matrix
    if P is not None:
        square = phi.reshape(len(x), P.shape[1], -1)
        matrix = matrix + torch.einsum("bcl,nl->bcn", torch.einsum("ci,bil->bcl", P, square), taps)
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)
    return torch.einsum("bcijn,bcn->bcij", windows.flatten(4), matrix)


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return behind_branch(d, inputs(d))


def module_cost(d: Dims) -> Cost:
    """Return the costs of the core and of its branch."""
    return with_branch_cost(d, cost(d), inputs(d))


module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=options,
    domain=module_domain,
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(4, 8, 32))],
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs_p_first(d) + branch_macs(d, inputs(d)),
    counted_because=P_FIRST,
)


module.implementation(
    "feature_path",
    counted=lambda d: macs_on_features(d) + branch_macs(d, inputs(d)),
    counted_because=EVERY_KERNEL,
)(with_branch(feature_path, square_phi))
module.implementation("merged", preferred=True)(with_branch(merged, square_phi))
