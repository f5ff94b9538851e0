"""Dynamic channel fusion (DCD) of a 1×1 convolution: a static matrix, gated, plus a small dynamic one.

W(x) = Λ(x)W₀ + PΦ(x)Qᵀ. Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR 2021
(arXiv 2103.08756), the form for 1×1 kernels: Λ a diagonal matrix, ``gate`` here; Φ a full L×L one, ``phi``;
P and Q map the channels from and to the latent space. Either part may be left out by ``parts``, as in the
paper's ablation. Module: one branch of two bias-free layers with a ReLU between them makes the parts.
With Φ in blocks on a diagonal it is ``dcd_sparse``, beside a static K×K kernel ``dcd_fusion``.
The released layer (liyunsheng13/dcd) is a different function, ``dcd_released``, and no implementation of
this one: it computes P(Φ+I)Qᵀ with a batch norm on either side of Φ+I, its gate runs through a hard sigmoid
with range 0 to 2, and its branch has another gate in place of the ReLU. Like ``feature_path`` it never forms
W(x).
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

from .channel_fusion import (
    Part,
    behind_branch,
    branch_macs,
    linear_layers,
    made_of_sums,
    merging_pays,
    parts_of,
    refusal,
    refusal_of_branch,
    square_phi,
    with_branch,
    with_branch_cost,
)

operator = Operator(
    "dcd_pointwise",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, the form for 1×1 kernels",
    note="The released layer computes P(Φ+I)Qᵀ between two batch norms, which is another function.",
    traits=Traits(space="position", channels="all", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """y[b,o,i,j] = Σ_c W_b[o,c] · x[b,c,i,j] with W_b = diag(gate[b]) · weight + P · phi[b] · Qᵀ.

    x [B, C, H, W]; weight [Co, C]; gate [B, Co], ones where it is absent; phi [B, L, L] with P [Co, L] and
    Q [C, L], their product zero where they are absent; y [B, Co, H, W].
    """
    matrix = weight.expand(len(x), -1, -1)
    if gate is not None:
        matrix = gate.unsqueeze(2) * matrix
    if phi is not None:
        matrix = matrix + torch.einsum("boj,cj->boc", torch.einsum("oi,bij->boj", P, phi), Q)
    return torch.einsum("boc,bchw->bohw", matrix, x)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: those of the dynamic parts that the workload names, both by default."""
    specs = {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.Co, d.C, fan_in=d.C)}
    parts = parts_of(d)
    if "gate" in parts:
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts:
        specs["phi"] = generated(d.B, d.L, d.L, fan_in=d.L)
        specs["P"] = parameter(d.Co, d.L, fan_in=d.L)
        specs["Q"] = parameter(d.C, d.L, fan_in=d.C)
    return specs


def domain(d: Dims) -> str | None:
    """Refuse parts that there are not."""
    return refusal(d)


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, and a branch without a hidden unit."""
    return domain(d) or refusal_of_branch(d)


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.Co, d.H, d.W


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, Φ times it, P times that, at every position."""
    return int(d.H * d.W * (d.C * d.L + d.L**2 + d.L * d.Co))


def on_matrix(d: Dims) -> int:
    """Count the latent path as a matrix PΦQᵀ, per image, Φ multiplied with the smaller of P and Q first."""
    return int(min(d.C, d.Co) * d.L**2 + d.L * d.C * d.Co)


def p_first(d: Dims) -> int:
    """Count the latent path as the reference takes it, per image: a matrix, P multiplied with Φ first."""
    return int(d.Co * d.L**2 + d.L * d.C * d.Co)


def macs(d: Dims, path: Callable[[Dims], int]) -> int:
    """Count the batch: the static matrix at every position and, where Φ takes part, its path per image."""
    return int(d.B * (d.H * d.W * d.C * d.Co + (path(d) if "phi" in parts_of(d) else 0)))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as in the paper's own counts.

    Gate and sum take one elementwise operation each per weight or per output, whichever are fewer.
    """
    specs = inputs(d)
    steps = ("gate" in specs) + ("phi" in specs)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs(d, lambda d: min(on_features(d), on_matrix(d))),
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * d.H * d.W,
        elementwise=steps * d.B * d.Co * min(d.C, d.H * d.W),
    )


def latent_width(channels: int) -> int:
    """Return the paper's default L = ⌊C / 2^⌊log₂√C⌋⌋ for C channels.

    The text beside it asks for L² < C, which this L misses: before the outer floor, C ≤ L² < 4C.
    """
    return channels >> (channels.bit_length() - 1) // 2


MOBILENET = "DCD-MobileNetV2, Li et al. 2021, with their r = 16 and default L for the narrower side"
RESNET = "DCD-ResNet-50, Li et al. 2021, with their r = 16 and default L for the narrower side"
EXPAND = Dims(B=1, C=24, Co=144, H=56, W=56, L=latent_width(24), R=16)
NETWORK = [
    Workload("dcd_mobilenetv2/stage2_expand", EXPAND, MOBILENET),
    Workload("dcd_mobilenetv2/stage2_expand_gate", EXPAND.replace(parts="gate"), MOBILENET + ", Φ left out"),
    Workload(
        "dcd_mobilenetv2/stage5_expand_b8",
        Dims(B=8, C=96, Co=576, H=14, W=14, L=latent_width(96), R=16),
        MOBILENET,
    ),
    Workload(
        "dcd_mobilenetv2/stage6_project_b8",
        Dims(B=8, C=960, Co=160, H=7, W=7, L=latent_width(160), R=16),
        MOBILENET,
    ),
    Workload(
        "dcd_resnet50/stage3_reduce",
        Dims(B=1, C=1024, Co=256, H=14, W=14, L=latent_width(256), R=16),
        RESNET,
    ),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], L=(1, 2, 6, 12, 24))]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=5, L=3, R=2)
PROOF_DIMS = (
    SMALL,
    Dims(B=3, C=12, Co=4, H=1, W=8, L=2, R=3),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
)

PHI_ON_MATRIX = "Φ is multiplied into one matrix per image, where the cheaper order may lie on the map"
PHI_ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one matrix per image"
PHI_BY_SHAPE = "the faster order is not always the one with fewer products"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    polynomial=True,
    counted=lambda d: macs(d, p_first),
    counted_because=PHI_ON_MATRIX + "; P comes first whatever its size",
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


@core.implementation("feature_path", counted=lambda d: macs(d, on_features), counted_because=PHI_ON_FEATURES)
def feature_path(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """Gate the static output and add P(Φ(Qᵀx)), the way that the released layer takes."""
    total = F.conv2d(x, weight[:, :, None, None])
    if gate is not None:
        total = gate[:, :, None, None] * total
    if phi is not None and P is not None and Q is not None:
        latent = F.conv2d(x, Q.t()[:, :, None, None])
        fused = (phi @ latent.flatten(2)).view_as(latent)
        total = total + F.conv2d(fused, P[:, :, None, None])
    return total


@core.implementation("merged", counted=lambda d: macs(d, on_matrix), counted_because=PHI_ON_MATRIX)
def merged(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """Merge one matrix per image, then a batch of matrix products."""
    matrix = weight.expand(len(x), -1, -1)
    if gate is not None:
        matrix = gate.unsqueeze(2) * matrix
    if phi is not None and P is not None and Q is not None:
        every = P.expand(len(x), -1, -1)
        matrix = matrix + ((every @ phi) @ Q.t() if len(P) <= len(Q) else every @ (phi @ Q.t()))
    return (matrix @ x.flatten(2)).reshape(len(x), -1, *x.shape[2:])


def by_shape(d: Dims) -> int:
    """Count the latent path in the order that ``auto`` chooses, per image."""
    return on_matrix(d) if merging_pays(d.C, d.H, d.W) else on_features(d)


@core.implementation(
    "auto", preferred=True, counted=lambda d: macs(d, by_shape), counted_because=PHI_BY_SHAPE
)
def auto(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """Merge one matrix per image where the map has at least as many positions as channels."""
    C, H, W = x.shape[1:]
    fuse = merged if merging_pays(C, H, W) else feature_path
    return fuse(x, weight, gate, phi, P, Q)


def module_reference(
    x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor, P: Part = None, Q: Part = None
) -> Tensor:
    """y[b,o,i,j] = Σ_c W_b[o,c] · x[b,c,i,j] with W_b = diag(λ[b]) · weight + P · Φ[b] · Qᵀ.

    (λ, Φ)[b] = excite·ReLU(squeeze·mean(x[b])). x [B, C, H, W], its mean over all positions;
    weight [Co, C]; squeeze [C/R, C]; excite [Co+L², C/R], the rows of λ before those of Φ; P [Co, L];
    Q [C, L]; y [B, Co, H, W]. Without P and Q there is no Φ; without its rows λ is one.
    """
    size = P.shape[1] ** 2 if P is not None else 0
    dynamic = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
    gate, phi = dynamic.split([len(excite) - size, size], dim=1)
    matrix = weight.expand(len(x), -1, -1)
    if gate.shape[1]:
        matrix = gate.unsqueeze(2) * matrix
    if P is not None:
        square = phi.reshape(len(x), P.shape[1], -1)
        matrix = matrix + torch.einsum("boj,cj->boc", torch.einsum("oi,bij->boj", P, square), Q)
    return torch.einsum("boc,bchw->bohw", matrix, x)


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
    domain=module_domain,
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(2, 4, 8, 24))],
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs(d, p_first) + branch_macs(d, inputs(d)),
    counted_because=PHI_ON_MATRIX + "; P comes first whatever its size",
)


module.implementation(
    "feature_path",
    counted=lambda d: macs(d, on_features) + branch_macs(d, inputs(d)),
    counted_because=PHI_ON_FEATURES,
)(with_branch(feature_path, square_phi))
module.implementation(
    "merged",
    counted=lambda d: macs(d, on_matrix) + branch_macs(d, inputs(d)),
    counted_because=PHI_ON_MATRIX,
)(with_branch(merged, square_phi))
module.implementation(
    "auto",
    preferred=True,
    counted=lambda d: macs(d, by_shape) + branch_macs(d, inputs(d)),
    counted_because=PHI_BY_SHAPE,
)(with_branch(auto, square_phi))
