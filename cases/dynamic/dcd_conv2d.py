"""Dynamic channel fusion (DCD) of a K×K convolution: a static kernel, gated, plus a small dynamic one.

W(x) = W₀ ×₂ Λ(x) + Φ(x) ×₁ Q ×₂ P ×₃ R. Li et al., Revisiting Dynamic Convolution via Matrix
Decomposition, ICLR 2021 (arXiv 2103.08756), the form for K×K kernels: Λ is ``gate`` here, Φ ``phi``, and
the K²×Lk matrix R, which spreads Lk latent taps over the kernel, ``taps``. Φ's axes are those of P, Q and
R in this order; the paper's mode numbers put Q's first, a transposition of a matrix that is free. By
default Lk = 1; with R one-hot at the centre Φ is a 1×1 convolution beside a static K×K one.
Either part may be left out by ``parts``. Module: one branch of two bias-free layers with a ReLU between
them makes the parts.
The released layer (liyunsheng13/dcd) has no R and is a different function, no implementation of this
one: it adds P(Φ+I)Qᵀx, with a batch norm on either side of Φ+I, and gates with a range of 0 to 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter

from .cond_conv2d import convolve_folded, options, output
from .dcd_pointwise import BOTH, Part, behind_branch, branch, latent_width

operator = Operator(
    "dcd_conv2d",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, K×K form",
    note="The released layer adds P(Φ+I)Qᵀ between two batch norms, which is another function.",
    traits=Traits(space="local", channels="all", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """y[b] = W_b * x[b], W_b[o,c,n] = gate[b,o]·weight[o,c,n] + Σ_ijl P[o,i]·phi[b,i,j,l]·Q[c,j]·taps[n,l].

    x [B, C, H, W], zero outside the map; weight [Co, C, K, K] with odd K, n its taps in row order; gate
    [B, Co], ones where it is absent; phi [B, L, L, Lk] with P [Co, L], Q [C, L] and taps [K², Lk], their
    product zero where they are absent; y [B, Co, ⌈H/s⌉, ⌈W/s⌉] for the stride s.
    """
    Co, C, K = weight.shape[:3]
    kernels = weight.expand(len(x), -1, -1, -1, -1)
    if gate is not None:
        kernels = gate[:, :, None, None, None] * kernels
    if phi is not None and taps is not None:
        spread = torch.einsum("oi,bijn->bojn", P, phi @ taps.t())
        kernels = kernels + torch.einsum("bojn,cj->bocn", spread, Q).reshape(-1, Co, C, K, K)
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    return torch.einsum("bchwuv,bocuv->bohw", windows, kernels)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: those of the dynamic parts that the workload names, both by default."""
    specs = {
        "x": activation(d.B, d.C, d.H, d.W),
        "weight": parameter(d.Co, d.C, d.K, d.K, fan_in=d.C * d.K**2),
    }
    parts = d.get("parts", BOTH)
    if "gate" in parts:
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts:
        specs["phi"] = generated(d.B, d.L, d.L, d.Lk, fan_in=d.L)
        specs["P"] = parameter(d.Co, d.L, fan_in=d.L)
        specs["Q"] = parameter(d.C, d.L, fan_in=d.C)
        specs["taps"] = parameter(d.K**2, d.Lk, fan_in=d.K**2)
    return specs


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, a K×K convolution of L channels, P times that."""
    _, _, height, width = output(d)
    latent = height * width * (d.K**2 * d.L**2 + d.L * d.Co)
    return int(d.H * d.W * d.C * d.L + latent)


def on_kernel(d: Dims, narrow: int) -> int:
    """Count the latent path as a kernel, per image, Φ multiplied with the factor of ``narrow`` rows first."""
    return int(d.K**2 * (narrow * d.L**2 + d.L * d.C * d.Co))


def macs(d: Dims, latent: int) -> int:
    """Count the batch: the static convolution and, where Φ takes part, the taps spread and ``latent``."""
    _, _, height, width = output(d)
    dynamic = d.K**2 * d.L**2 * d.Lk + latent if "phi" in d.get("parts", BOTH) else 0
    return int(d.B * (height * width * d.K**2 * d.C * d.Co + dynamic))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as in the paper's own counts.

    Gate and sum take one elementwise operation each per weight or per output, whichever are fewer.
    """
    specs = inputs(d)
    steps = ("gate" in specs) + ("phi" in specs)
    _, _, height, width = output(d)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs(d, min(on_features(d), on_kernel(d, min(d.C, d.Co)))),
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * height * width,
        elementwise=steps * d.B * d.Co * min(d.C * d.K**2, height * width),
    )


RESNET = "DCD-ResNet-18, Li et al. 2021, with their r = 16 and default L for the narrower side"
STAGE1 = Dims(B=1, C=64, Co=64, H=56, W=56, K=3, L=latent_width(64), Lk=1, R=16)
WORKLOADS = [
    Workload("resnet18/stage1_k3", STAGE1, RESNET),
    Workload("resnet18/stage1_k3_phi", STAGE1.replace(parts="phi"), RESNET + ", Λ left out"),
    Workload("resnet18/stage1_k3_taps4_b8", STAGE1.replace(B=8, Lk=4), RESNET + ", Lk = ⌊K²/2⌋"),
    Workload("resnet18/stage2_k3_down", STAGE1.replace(Co=128, stride=2), RESNET),
    Workload(
        "resnet18/stage3_k3_b8",
        Dims(B=8, C=256, Co=256, H=14, W=14, K=3, L=latent_width(256), Lk=1, R=16),
        RESNET,
    ),
]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=6, K=3, L=3, Lk=2, R=2)
PROOF_DIMS = (
    SMALL,
    SMALL.replace(H=2, W=5),
    SMALL.replace(C=10, Co=4, H=6, W=7, L=2, stride=2),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
)

ON_KERNEL = "Φ is multiplied into one kernel per image, where the cheaper order may lie on the map"
ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one kernel per image"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    polynomial=True,
    counted=lambda d: macs(d, on_kernel(d, d.Co)),
    counted_because=ON_KERNEL + "; P comes first whatever its size",
)


@core.implementation("feature_path", counted=lambda d: macs(d, on_features(d)), counted_because=ON_FEATURES)
def feature_path(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """Gate the static output and add P(Φ * (Qᵀx)), a K×K convolution of L channels for every image."""
    K = weight.shape[-1]
    total = F.conv2d(x, weight, stride=stride, padding=K // 2)
    if gate is not None:
        total = gate[:, :, None, None] * total
    if phi is not None and P is not None and Q is not None and taps is not None:
        latent = F.conv2d(x, Q.t()[:, :, None, None])
        small = (phi @ taps.t()).view(*phi.shape[:3], K, K)
        total = total + F.conv2d(convolve_folded(latent, small, stride), P[:, :, None, None])
    return total


@core.implementation(
    "merged",
    preferred=True,
    counted=lambda d: macs(d, on_kernel(d, min(d.C, d.Co))),
    counted_because=ON_KERNEL,
)
def merged(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image, then one grouped convolution on the batch folded into the channels."""
    kernels = weight.expand(len(x), -1, -1, -1, -1)
    if gate is not None:
        kernels = gate[:, :, None, None, None] * kernels
    if phi is not None and P is not None and Q is not None and taps is not None:
        spread = (phi @ taps.t()).permute(0, 3, 1, 2)  # [B, K², L, L]
        every = P.expand(*spread.shape[:2], -1, -1)
        residual = (every @ spread) @ Q.t() if len(P) <= len(Q) else every @ (spread @ Q.t())
        kernels = kernels + residual.permute(0, 2, 3, 1).view_as(kernels)
    return convolve_folded(x, kernels, stride)


def module_reference(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    P: Part = None,
    Q: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """y[b] = W_b * x[b], W_b[o,c,n] = λ[b,o]·weight[o,c,n] + Σ_ijl P[o,i]·Φ[b,i,j,l]·Q[c,j]·taps[n,l].

    (λ, Φ)[b] = excite·ReLU(squeeze·mean(x[b])). x [B, C, H, W], zero outside the map, its mean over all
    positions; weight [Co, C, K, K] with odd K; squeeze [C/R, C]; excite [Co+L²·Lk, C/R], the rows of λ
    before those of Φ; P [Co, L]; Q [C, L]; taps [K², Lk]; y [B, Co, ⌈H/s⌉, ⌈W/s⌉] for the stride s.
    Without P, Q and taps there is no Φ; without its rows λ is one.
    """
    Co, C, K = weight.shape[:3]
    size = P.shape[1] ** 2 * taps.shape[1] if P is not None and taps is not None else 0
    dynamic = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
    gate, phi = dynamic.split([len(excite) - size, size], dim=1)
    kernels = weight.expand(len(x), -1, -1, -1, -1)
    if gate.shape[1]:
        kernels = gate[:, :, None, None, None] * kernels
    if P is not None and taps is not None:
        cube = phi.reshape(len(x), P.shape[1], P.shape[1], -1)
        spread = torch.einsum("oi,bijn->bojn", P, cube @ taps.t())
        kernels = kernels + torch.einsum("bojn,cj->bocn", spread, Q).reshape(-1, Co, C, K, K)
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)
    return torch.einsum("bchwuv,bocuv->bohw", windows, kernels)


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
    options=options,
    workloads=WORKLOADS,
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs(d, on_kernel(d, d.Co)) + d.B * branch_macs(d),
    counted_because=ON_KERNEL + "; P comes first whatever its size",
)


def with_branch(fuse: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turn a form of the core into one of the module, which computes Λ and Φ by the branch."""

    def run(
        x: Tensor,
        weight: Tensor,
        squeeze: Tensor,
        excite: Tensor,
        P: Part = None,
        Q: Part = None,
        taps: Part = None,
        stride: int = 1,
    ) -> Tensor:
        shape = () if P is None or taps is None else (P.shape[1], P.shape[1], taps.shape[1])
        gate, phi = branch(x, squeeze, excite, shape)
        return fuse(x, weight, gate, phi, P, Q, taps, stride)

    return run


module.implementation(
    "feature_path",
    counted=lambda d: macs(d, on_features(d)) + d.B * branch_macs(d),
    counted_because=ON_FEATURES,
)(with_branch(feature_path))
module.implementation(
    "merged",
    preferred=True,
    counted=lambda d: macs(d, on_kernel(d, min(d.C, d.Co))) + d.B * branch_macs(d),
    counted_because=ON_KERNEL,
)(with_branch(merged))
