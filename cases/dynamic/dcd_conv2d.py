"""Dynamic channel fusion (DCD) of a K×K convolution: a static kernel, gated, plus a small dynamic one.

W(x) = W₀ ×₂ Λ(x) + Φ(x) ×₁ Q ×₂ P ×₃ R. Li et al., Revisiting Dynamic Convolution via Matrix
Decomposition, ICLR 2021 (arXiv 2103.08756), the form for K×K kernels: Λ is ``gate`` here, Φ ``phi``, and
the K²×Lk matrix R, which spreads Lk latent taps over the kernel, ``taps``. Φ's axes are those of P, Q and
R in this order; the paper's mode numbers put Q's first, a transposition of a matrix that is free. By
default Lk = 1; with R one-hot at the centre Φ is a 1×1 convolution beside a static K×K one.
Either part may be left out by ``parts``. Module: one branch of two bias-free layers with a ReLU between
them makes the parts.
The released layer (liyunsheng13/dcd) has no R and is a different function, ``dcd_released``, and no
implementation of this one: it adds P(Φ+I)Qᵀx, with a batch norm on either side of Φ+I, and gates with a
range of 0 to 2. With R one-hot at the centre this page is ``dcd_fusion``, which does not compute the zeros.
"""

from collections.abc import Callable, Mapping

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
    square_phi,
    with_branch,
    with_branch_cost,
)
from .cond_conv2d import convolve_folded, options, output
from .dcd_pointwise import latent_width

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

    x [B, C, H, W], zero outside the map; weight [Co, C, K, K], n its taps in row order; gate [B, Co], ones
    where it is absent; phi [B, L, L, Lk] with P [Co, L], Q [C, L] and taps [K², Lk], their product zero
    where they are absent; s the stride and p = ⌊K/2⌋ the padding; * correlates as a convolution does;
    y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1].
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
    parts = parts_of(d)
    if "gate" in parts:
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts:
        specs["phi"] = generated(d.B, d.L, d.L, d.Lk, fan_in=d.L)
        specs["P"] = parameter(d.Co, d.L, fan_in=d.L)
        specs["Q"] = parameter(d.C, d.L, fan_in=d.C)
        specs["taps"] = parameter(d.K**2, d.Lk, fan_in=d.K**2)
    return specs


def domain(d: Dims) -> str | None:
    """Refuse parts that there are not; kernels may be even, and larger than the map."""
    return refusal(d)


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, and a branch without a hidden unit."""
    return domain(d) or refusal_of_branch(d)


def all_taps(d: Dims) -> int:
    """Count the taps of all outputs of a channel, those on padding included."""
    _, _, height, width = output(d)
    return int(height * width * d.K**2)


def taps_inside(d: Dims) -> int:
    """Count the taps of all outputs of a channel that lie inside the map."""
    rows, columns = (taps_in_bounds(size, d.K, d.get("stride", 1)) for size in (d.H, d.W))
    return rows * columns


def on_features(d: Dims, met: int) -> int:
    """Count the latent path on the map, per image: Qᵀx, a K×K convolution of L channels, P times that.

    met: how many taps a channel's outputs have.
    """
    _, _, height, width = output(d)
    return int(d.H * d.W * d.C * d.L + met * d.L**2 + height * width * d.L * d.Co)


def on_kernel(d: Dims, narrow: int) -> int:
    """Count the latent path as a kernel, per image, Φ multiplied with the factor of ``narrow`` rows first."""
    return int(d.K**2 * (narrow * d.L**2 + d.L * d.C * d.Co))


def macs(d: Dims, met: int, path: Callable[[], int]) -> int:
    """Count the batch: the static convolution and, where Φ takes part, the taps spread and its path."""
    latent = d.K**2 * d.L**2 * d.Lk + path() if "phi" in parts_of(d) else 0
    return int(d.B * (met * d.C * d.Co + latent))


def macs_on_features(d: Dims) -> int:
    """Count the batch with Φ applied to the map."""
    return macs(d, all_taps(d), lambda: on_features(d, all_taps(d)))


def macs_on_kernel(d: Dims) -> int:
    """Count the batch with Φ multiplied into the kernel, with the smaller of P and Q first."""
    return macs(d, all_taps(d), lambda: on_kernel(d, min(d.C, d.Co)))


def macs_p_first(d: Dims) -> int:
    """Count the batch as the reference computes it, with Φ multiplied into the kernel, with P first."""
    return macs(d, all_taps(d), lambda: on_kernel(d, d.Co))


def macs_by_shape(d: Dims) -> int:
    """Count the batch with Φ in the order that ``auto`` chooses."""
    merges = merging_pays(d.C * d.K**2, d.H, d.W, d.get("stride", 1))
    return macs_on_kernel(d) if merges else macs_on_features(d)


def cheapest(d: Dims, met: int) -> int:
    """Count the batch with Φ in the cheaper of its two orders; met: the taps of a channel's outputs."""
    return macs(d, met, lambda: min(on_features(d, met), on_kernel(d, min(d.C, d.Co))))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as in the paper's own counts.

    Gate and sum take one elementwise operation each per weight or per output, whichever are fewer.
    """
    specs = inputs(d)
    steps = ("gate" in specs) + ("phi" in specs)
    _, _, height, width = output(d)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=cheapest(d, all_taps(d)),
        macs_in_bounds=cheapest(d, taps_inside(d)),
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * height * width,
        elementwise=steps * d.B * d.Co * min(d.C * d.K**2, height * width),
    )


RESNET = "DCD-ResNet-18, Li et al. 2021, with their r = 16 and default L for the narrower side"
STAGE1 = Dims(B=1, C=64, Co=64, H=56, W=56, K=3, L=latent_width(64), Lk=1, R=16)
NETWORK = [
    Workload("dcd_resnet18/stage1_k3", STAGE1, RESNET),
    Workload("dcd_resnet18/stage1_k3_phi", STAGE1.replace(parts="phi"), RESNET + ", Λ left out"),
    Workload("dcd_resnet18/stage1_k3_taps4_b8", STAGE1.replace(B=8, Lk=4), RESNET + ", Lk = ⌊K²/2⌋"),
    Workload("dcd_resnet18/stage2_k3_down", STAGE1.replace(Co=128, stride=2), RESNET),
    Workload(
        "dcd_resnet18/stage3_k3_b8",
        Dims(B=8, C=256, Co=256, H=14, W=14, K=3, L=latent_width(256), Lk=1, R=16),
        RESNET,
    ),
    Workload(
        "dcd_resnet18/stage4_k3",
        Dims(B=1, C=512, Co=512, H=7, W=7, K=3, L=latent_width(512), Lk=1, R=16),
        RESNET,
    ),
]
WORKLOADS = [
    *NETWORK,
    *sweep(NETWORK[0], L=(2, 4, 8, 16, 32), K=(1, 3, 5, 7)),
    *sweep(NETWORK[0], Lk=(1, 2, 4, 9)),
]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=6, K=3, L=3, Lk=2, R=2)
PROOF_DIMS = (
    SMALL,
    SMALL.replace(H=2, W=5),
    SMALL.replace(C=10, Co=4, H=6, W=7, L=2, stride=2),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
    SMALL.replace(H=5, W=8, K=2, stride=2),
    SMALL.replace(H=3, W=4, K=4, Lk=1),
)

ON_KERNEL = "Φ is multiplied into one kernel per image, where the cheaper order may lie on the map"
ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one kernel per image"
BY_SHAPE = "the faster order is not always the one with fewer products"
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
    counted_because=ON_KERNEL + "; P comes first whatever its size",
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


@core.implementation("feature_path", counted=macs_on_features, counted_because=ON_FEATURES)
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
        small = (phi @ taps.t()).reshape(*phi.shape[:3], K, K)
        total = total + F.conv2d(convolve_folded(latent, small, stride), P[:, :, None, None])
    return total


@core.implementation(
    "merged",
    counted=macs_on_kernel,
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


@core.implementation("auto", preferred=True, counted=macs_by_shape, counted_because=BY_SHAPE)
def auto(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    taps: Part = None,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image where an output channel has at least as many positions as weights."""
    H, W = x.shape[2:]
    fuse = merged if merging_pays(weight[0].numel(), H, W, stride) else feature_path
    return fuse(x, weight, gate, phi, P, Q, taps, stride)


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
    positions; weight [Co, C, K, K]; squeeze [C/R, C]; excite [Co+L²·Lk, C/R], the rows of λ before those of
    Φ; P [Co, L]; Q [C, L]; taps [K², Lk]; s the stride and p = ⌊K/2⌋ the padding;
    y [B, Co, ⌊(H+2p−K)/s⌋+1, ⌊(W+2p−K)/s⌋+1]. Without P, Q and taps there is no Φ; without its rows λ is one.
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
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(2, 4, 8, 32))],
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs_p_first(d) + branch_macs(d, inputs(d)),
    counted_because=ON_KERNEL + "; P comes first whatever its size",
)


def shape_of_phi(bases: Bases) -> tuple[int, ...]:
    """Return the shape of an image's Φ, [L, L, Lk]."""
    return (*square_phi(bases), bases["taps"].shape[1])


module.implementation(
    "feature_path",
    counted=lambda d: macs_on_features(d) + branch_macs(d, inputs(d)),
    counted_because=ON_FEATURES,
)(with_branch(feature_path, shape_of_phi))
module.implementation(
    "merged",
    counted=lambda d: macs_on_kernel(d) + branch_macs(d, inputs(d)),
    counted_because=ON_KERNEL,
)(with_branch(merged, shape_of_phi))
module.implementation(
    "auto",
    preferred=True,
    counted=lambda d: macs_by_shape(d) + branch_macs(d, inputs(d)),
    counted_because=BY_SHAPE,
)(with_branch(auto, shape_of_phi))
