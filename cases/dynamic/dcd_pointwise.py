"""Dynamic channel fusion (DCD) of a 1×1 convolution: a static matrix, gated, plus a small dynamic one.

W(x) = Λ(x)W₀ + PΦ(x)Qᵀ. Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR 2021
(arXiv 2103.08756), the form for 1×1 kernels: Λ a diagonal matrix, ``gate`` here; Φ a full L×L one, ``phi``;
P and Q map the channels from and to the latent space. Either part may be left out by ``parts``, as in the
paper's ablation. Module: one branch of two bias-free layers with a ReLU between them makes the parts.
The released layer (liyunsheng13/dcd) is a different function and no implementation of this one: it
computes P(Φ+I)Qᵀ with a batch norm on either side of Φ+I, its gate runs through a hard sigmoid with range
0 to 2, and its branch has another gate in place of the ReLU. Like ``feature_path`` it never forms W(x).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter

operator = Operator(
    "dcd_pointwise",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, the form for 1×1 kernels",
    note="The released layer computes P(Φ+I)Qᵀ between two batch norms, which is another function.",
    traits=Traits(space="position", channels="all", sharing=("positions",), dynamic="per image", degree=2),
)

BOTH = "gate+phi"
Part = Tensor | None


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
    parts = d.get("parts", BOTH)
    if "gate" in parts:
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts:
        specs["phi"] = generated(d.B, d.L, d.L, fan_in=d.L)
        specs["P"] = parameter(d.Co, d.L, fan_in=d.L)
        specs["Q"] = parameter(d.C, d.L, fan_in=d.C)
    return specs


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.Co, d.H, d.W


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, Φ times it, P times that, at every position."""
    return int(d.H * d.W * (d.C * d.L + d.L**2 + d.L * d.Co))


def on_matrix(d: Dims) -> int:
    """Count the latent path as a matrix PΦQᵀ, per image, Φ multiplied with the smaller of P and Q first."""
    return int(min(d.C, d.Co) * d.L**2 + d.L * d.C * d.Co)


def macs(d: Dims, latent: int) -> int:
    """Count the batch: the static matrix at every position and, where Φ takes part, its path per image."""
    return int(d.B * (d.H * d.W * d.C * d.Co + ("phi" in d.get("parts", BOTH)) * latent))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as in the paper's own counts.

    Gate and sum take one elementwise operation each per weight or per output, whichever are fewer.
    """
    specs = inputs(d)
    steps = ("gate" in specs) + ("phi" in specs)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs(d, min(on_features(d), on_matrix(d))),
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
WORKLOADS = [
    Workload("mobilenet_v2/stage2_expand", EXPAND, MOBILENET),
    Workload("mobilenet_v2/stage2_expand_gate", EXPAND.replace(parts="gate"), MOBILENET + ", Φ left out"),
    Workload(
        "mobilenet_v2/stage5_expand_b8",
        Dims(B=8, C=96, Co=576, H=14, W=14, L=latent_width(96), R=16),
        MOBILENET,
    ),
    Workload(
        "mobilenet_v2/stage6_project_b8",
        Dims(B=8, C=960, Co=160, H=7, W=7, L=latent_width(160), R=16),
        MOBILENET,
    ),
    Workload(
        "resnet50/stage3_reduce",
        Dims(B=1, C=1024, Co=256, H=14, W=14, L=latent_width(256), R=16),
        RESNET,
    ),
]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=5, L=3, R=2)
PROOF_DIMS = (
    SMALL,
    Dims(B=3, C=12, Co=4, H=1, W=8, L=2, R=3),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
)

PHI_ON_MATRIX = "Φ is multiplied into one matrix per image, where the cheaper order may lie on the map"
PHI_ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one matrix per image"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    polynomial=True,
    counted=lambda d: macs(d, d.Co * d.L**2 + d.L * d.C * d.Co),
    counted_because=PHI_ON_MATRIX + "; P comes first whatever its size",
)


@core.implementation(
    "feature_path", counted=lambda d: macs(d, on_features(d)), counted_because=PHI_ON_FEATURES
)
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


@core.implementation(
    "merged", preferred=True, counted=lambda d: macs(d, on_matrix(d)), counted_because=PHI_ON_MATRIX
)
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
    return (matrix @ x.flatten(2)).view(len(x), -1, *x.shape[2:])


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


def behind_branch(d: Dims, specs: Mapping[str, Spec]) -> Mapping[str, Spec]:
    """Replace Λ and Φ, as far as they are among the inputs, by the two layers that make them."""
    made = [spec.elements // d.B for spec in specs.values() if spec.role == "generated"]
    hidden = d.C // d.R
    return {
        **{name: spec for name, spec in specs.items() if spec.role != "generated"},
        "squeeze": parameter(hidden, d.C, fan_in=d.C),
        "excite": parameter(sum(made), hidden, fan_in=hidden),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return behind_branch(d, inputs(d))


def branch_macs(d: Dims) -> int:
    """Count the two layers of the branch, which are as many weights, per image."""
    specs = module_inputs(d)
    return specs["squeeze"].elements + specs["excite"].elements


def module_cost(d: Dims) -> Cost:
    """Return the costs of the core and of its branch: a mean over the map, two layers, a ReLU."""
    fused = cost(d)
    return replace(
        fused,
        params=fused.params + branch_macs(d),
        macs=fused.macs + d.B * branch_macs(d),
        elements_read=sum(spec.elements for spec in module_inputs(d).values()),
        elementwise=fused.elementwise + d.B * (d.C * d.H * d.W + d.C // d.R),
    )


module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs(d, d.Co * d.L**2 + d.L * d.C * d.Co) + d.B * branch_macs(d),
    counted_because=PHI_ON_MATRIX + "; P comes first whatever its size",
)


def branch(x: Tensor, squeeze: Tensor, excite: Tensor, shape: tuple[int, ...]) -> tuple[Part, Part]:
    """Compute λ and Φ of a map [B, C, H, W]; no λ where excite has no rows for it, no Φ without a shape."""
    dynamic = F.linear(F.relu(F.linear(x.mean((2, 3)), squeeze)), excite)
    gates = len(excite) - (math.prod(shape) if shape else 0)
    gate, phi = dynamic.tensor_split([gates], dim=1)
    return gate if gates else None, phi.reshape(-1, *shape) if shape else None


def with_branch(fuse: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn a form of the core into one of the module, which computes Λ and Φ by the branch."""

    def run(
        x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor, P: Part = None, Q: Part = None
    ) -> Tensor:
        shape = () if P is None else (P.shape[1], P.shape[1])
        gate, phi = branch(x, squeeze, excite, shape)
        return fuse(x, weight, gate, phi, P, Q)

    return run


module.implementation(
    "feature_path",
    counted=lambda d: macs(d, on_features(d)) + d.B * branch_macs(d),
    counted_because=PHI_ON_FEATURES,
)(with_branch(feature_path))
module.implementation(
    "merged",
    preferred=True,
    counted=lambda d: macs(d, on_matrix(d)) + d.B * branch_macs(d),
    counted_because=PHI_ON_MATRIX,
)(with_branch(merged))
