"""Dynamic channel fusion (DCD) with a sparse residual: blocks on a diagonal, beside a full static matrix.

W(x) = Λ(x)W₀ + ⊕_g P_gΦ_g(x)Q_gᵀ. Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR
2021 (arXiv 2103.08756), the sparse form for 1×1 kernels: ⊕ puts its matrices on a diagonal, so channels fuse
dynamically within a block alone; the paper's B blocks are ``blocks`` here, eight of them by default as in its
experiments, and L is the latent width of one block. A single block is ``dcd_pointwise``. Either part may be
left out by ``parts``. Module: one branch of two bias-free layers with a ReLU between them makes the parts.
The released code (liyunsheng13/dcd) has a single block in every layer; so nothing here is named after the
authors.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

from .channel_fusion import (
    Bases,
    Part,
    behind_branch,
    branch_macs,
    linear_layers,
    made_of_sums,
    merging_pays,
    parts_of,
    refusal,
    refusal_of_branch,
    with_branch,
    with_branch_cost,
)
from .dcd_pointwise import latent_width, output

operator = Operator(
    "dcd_sparse",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, the sparse form for 1×1 kernels",
    note="The released code has no blocks.",
    traits=Traits(space="position", channels="all", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """y[b,o] = gate[b,o] · Σ_c weight[o,c] · x[b,c] + Σ_d (P_g·phi[b,g]·Q_gᵀ)[o mod Co/G, d] · x[b, gC/G+d].

    At every position, g = ⌊oG/Co⌋ the block of output o among G blocks. x [B, C, H, W]; weight [Co, C]; gate
    [B, Co], ones where it is absent; phi [B, G, L, L] with P [G, Co/G, L] and Q [G, C/G, L], their product
    zero where they are absent; y [B, Co, H, W].
    """
    B, C, H, W = x.shape
    matrix = weight.expand(B, -1, -1)
    if gate is not None:
        matrix = gate.unsqueeze(2) * matrix
    y = torch.einsum("boc,bchw->bohw", matrix, x)
    if phi is not None:
        G = phi.shape[1]
        residual = torch.einsum("bgoj,gcj->bgoc", torch.einsum("goi,bgij->bgoj", P, phi), Q)
        fused = torch.einsum("bgoc,bgchw->bgohw", residual, x.reshape(B, G, C // G, H, W))
        y = y + fused.reshape(B, -1, H, W)
    return y


def blocks(d: Dims) -> int:
    """Return the number of blocks, eight unless the workload names it."""
    return int(d.get("blocks", 8))


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: those of the dynamic parts that the workload names, both by default."""
    specs = {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.Co, d.C, fan_in=d.C)}
    if "gate" in parts_of(d):
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts_of(d):
        G = blocks(d)
        specs["phi"] = generated(d.B, G, d.L, d.L, fan_in=d.L)
        specs["P"] = parameter(G, d.Co // G, d.L, fan_in=d.L)
        specs["Q"] = parameter(G, d.C // G, d.L, fan_in=d.C // G)
    return specs


def domain(d: Dims) -> str | None:
    """Refuse parts that there are not, and blocks of unequal size."""
    G = blocks(d)
    if "phi" in parts_of(d) and (d.C % G or d.Co % G):
        return f"{G} blocks cannot share {d.C} channels and {d.Co} outputs evenly: choose a divisor of both"
    return refusal(d)


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, and a branch without a hidden unit."""
    return domain(d) or refusal_of_branch(d)


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, Φ times it, P times that, all in blocks."""
    return int(d.H * d.W * (d.C * d.L + blocks(d) * d.L**2 + d.L * d.Co))


def on_matrix(d: Dims) -> int:
    """Count the latent path as matrices PΦQᵀ, per image, Φ multiplied with the smaller of P and Q first."""
    return int(min(d.C, d.Co) * d.L**2 + d.L * d.C * d.Co // blocks(d))


def by_shape(d: Dims) -> int:
    """Count the latent path in the order that ``auto`` chooses, per image."""
    return on_matrix(d) if merging_pays(d.C, d.H, d.W) else on_features(d)


def in_blocks(d: Dims) -> int:
    """Count the latent path as the reference takes it, per image: matrices, P first, and their products."""
    matrices = d.Co * d.L**2 + d.L * d.C * d.Co // blocks(d)
    return int(matrices + d.H * d.W * d.C * d.Co // blocks(d))


def macs(d: Dims, path: Callable[[Dims], int]) -> int:
    """Count the batch: the static matrix at every position and, where Φ takes part, its path per image."""
    return int(d.B * (d.H * d.W * d.C * d.Co + (path(d) if "phi" in parts_of(d) else 0)))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders.

    Gate and sum take one elementwise operation each per weight or per output, whichever are fewer.
    """
    specs = inputs(d)
    gated = min(d.C, d.H * d.W) if "gate" in specs else 0
    added = min(d.C // blocks(d), d.H * d.W) if "phi" in specs else 0
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs(d, lambda d: min(on_features(d), on_matrix(d))),
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * d.H * d.W,
        elementwise=d.B * d.Co * (gated + added),
    )


MOBILENET = (
    "DCD-MobileNetV2, Li et al. 2021, with eight blocks, r = 16 and the default L of a block's narrower side"
)
RESNET = (
    "DCD-ResNet-50, Li et al. 2021, with eight blocks, r = 16 and the default L of a block's narrower side"
)
NETWORK = [
    Workload(
        "dcd_mobilenetv2/stage5_expand",
        Dims(B=1, C=96, Co=576, H=14, W=14, blocks=8, L=latent_width(12), R=16),
        MOBILENET,
    ),
    Workload(
        "dcd_mobilenetv2/stage2_expand",
        Dims(B=1, C=24, Co=144, H=56, W=56, blocks=8, L=latent_width(3), R=16),
        MOBILENET,
    ),
    Workload(
        "dcd_mobilenetv2/stage6_project_b8",
        Dims(B=8, C=960, Co=160, H=7, W=7, blocks=8, L=latent_width(20), R=16),
        MOBILENET,
    ),
    Workload(
        "dcd_resnet50/stage3_reduce",
        Dims(B=1, C=1024, Co=256, H=14, W=14, blocks=8, L=latent_width(32), R=16),
        RESNET,
    ),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], blocks=(1, 2, 4, 8, 16), L=(1, 2, 3, 6, 12))]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=5, blocks=2, L=3, R=2)
PROOF_DIMS = (
    SMALL,
    Dims(B=3, C=12, Co=9, H=1, W=8, blocks=3, L=2, R=3),
    SMALL.replace(C=16, Co=24, L=1).without("blocks"),
    SMALL.replace(C=9, Co=5, blocks=1),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
)

ON_MATRIX = "Φ is multiplied into one matrix per image, where the cheaper order may lie on the map"
ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one matrix per image"
BY_SHAPE = "the faster order is not always the one with fewer products"
IN_BLOCKS = "the residual is multiplied with the map by itself, and P comes first whatever its size"
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
    counted=lambda d: macs(d, in_blocks),
    counted_because=IN_BLOCKS,
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


@core.implementation("feature_path", counted=lambda d: macs(d, on_features), counted_because=ON_FEATURES)
def feature_path(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """Gate the static output and add P(Φ(Qᵀx)), P and Q being grouped 1×1 convolutions."""
    total = F.conv2d(x, weight[:, :, None, None])
    if gate is not None:
        total = gate[:, :, None, None] * total
    if phi is not None and P is not None and Q is not None:
        B, G, L = phi.shape[:3]
        latent = F.conv2d(x, Q.mT.reshape(G * L, -1, 1, 1), groups=G)
        fused = (phi @ latent.reshape(B, G, L, -1)).reshape(latent.shape)
        total = total + F.conv2d(fused, P.reshape(-1, L, 1, 1), groups=G)
    return total


@core.implementation("merged", counted=lambda d: macs(d, on_matrix), counted_because=ON_MATRIX)
def merged(
    x: Tensor, weight: Tensor, gate: Part = None, phi: Part = None, P: Part = None, Q: Part = None
) -> Tensor:
    """Add the blocks to the diagonal of one matrix per image, then a batch of matrix products."""
    B = len(x)
    matrix = weight.repeat(B, 1, 1) if gate is None else gate.unsqueeze(2) * weight
    if phi is not None and P is not None and Q is not None:
        G, wide, narrow = P.shape[0], P.shape[1], Q.shape[1]
        fused = (P @ phi) @ Q.mT if wide <= narrow else P @ (phi @ Q.mT)  # [B, G, Co/G, C/G]
        in_blocks = matrix.view(B, G, wide, G, narrow)
        in_blocks.diagonal(dim1=1, dim2=3).add_(fused.permute(0, 2, 3, 1))
    return (matrix @ x.flatten(2)).reshape(B, -1, *x.shape[2:])


@core.implementation("auto", preferred=True, counted=lambda d: macs(d, by_shape), counted_because=BY_SHAPE)
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
    """y[b,o] = λ[b,o] · Σ_c weight[o,c] · x[b,c] + Σ_d (P_g·Φ[b,g]·Q_gᵀ)[o mod Co/G, d] · x[b, gC/G+d].

    At every position, g = ⌊oG/Co⌋, with (λ, Φ)[b] = excite·ReLU(squeeze·mean(x[b])). x [B, C, H, W], its mean
    over all positions; weight [Co, C]; squeeze [C/R, C]; excite [Co+G·L², C/R], the rows of λ before those of
    Φ; P [G, Co/G, L]; Q [G, C/G, L]; y [B, Co, H, W]. Without P and Q there is no Φ, and without its rows λ
    is one.
    """
    B, C, H, W = x.shape
    size = P.shape[0] * P.shape[2] ** 2 if P is not None else 0
    dynamic = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
    gate, phi = dynamic.split([len(excite) - size, size], dim=1)
    matrix = weight.expand(B, -1, -1)
    if gate.shape[1]:
        matrix = gate.unsqueeze(2) * matrix
    y = torch.einsum("boc,bchw->bohw", matrix, x)
    if P is not None:
        G, _, L = P.shape
        square = phi.reshape(B, G, L, L)
        residual = torch.einsum("bgoj,gcj->bgoc", torch.einsum("goi,bgij->bgoj", P, square), Q)
        fused = torch.einsum("bgoc,bgchw->bgohw", residual, x.reshape(B, G, C // G, H, W))
        y = y + fused.reshape(B, -1, H, W)
    return y


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
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(4, 8, 32))],
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs(d, in_blocks) + branch_macs(d, inputs(d)),
    counted_because=IN_BLOCKS,
)


def shape_of_phi(bases: Bases) -> tuple[int, ...]:
    """Return the shape of an image's Φ, [G, L, L]."""
    G, _, L = bases["P"].shape
    return G, L, L


module.implementation(
    "feature_path",
    counted=lambda d: macs(d, on_features) + branch_macs(d, inputs(d)),
    counted_because=ON_FEATURES,
)(with_branch(feature_path, shape_of_phi))
module.implementation(
    "merged",
    counted=lambda d: macs(d, on_matrix) + branch_macs(d, inputs(d)),
    counted_because=ON_MATRIX,
)(with_branch(merged, shape_of_phi))
module.implementation(
    "auto",
    preferred=True,
    counted=lambda d: macs(d, by_shape) + branch_macs(d, inputs(d)),
    counted_because=BY_SHAPE,
)(with_branch(auto, shape_of_phi))
