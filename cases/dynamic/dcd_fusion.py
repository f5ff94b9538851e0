"""Dynamic channel fusion (DCD) beside a K×K convolution: a static K×K kernel, gated, plus a dynamic 1×1 one.

Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR 2021 (arXiv 2103.08756), the form
that the paper takes for K×K kernels by default: of the general one, ``dcd_conv2d``, a single latent tap, and
R one-hot, so that PΦ(x)Qᵀ lies in the centre of the kernel and the rest of it is ΛW₀. With a 1×1 kernel it
is ``dcd_pointwise``. Either part may be left out by ``parts``. Module: one branch of two bias-free layers
with a ReLU between them makes the parts.
The released layer (liyunsheng13/dcd) has this structure too, but with P(Φ+I)Qᵀ between two batch norms and
another branch: ``dcd_released``, another function, so nothing here is named after the authors.
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
    "dcd_fusion",
    family="dynamic",
    source="Li et al. 2021, ICLR, arXiv 2103.08756, the K×K form with a single latent tap",
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
    stride: int = 1,
) -> Tensor:
    """y[b,o] = gate[b,o] · Σ_cuv weight[o,c,u,v] · x[b, c, i·s+u−p, j·s+v−p] + Σ_c M_b[o,c] · x[b,c,i·s,j·s].

    At the position i, j, with M_b = P·phi[b]·Qᵀ. x [B, C, H, W], zero outside the map; weight [Co, C, K, K]
    with odd K; gate [B, Co], ones where it is absent; phi [B, L, L] with P [Co, L] and Q [C, L], their
    product zero where they are absent; s the stride and p = (K−1)/2 the padding; y [B, Co, ⌈H/s⌉, ⌈W/s⌉].
    """
    K = weight.shape[-1]
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    y = torch.einsum("bchwuv,ocuv->bohw", windows, weight)
    if gate is not None:
        y = gate[:, :, None, None] * y
    if phi is not None:
        matrix = torch.einsum("boj,cj->boc", torch.einsum("oi,bij->boj", P, phi), Q)
        y = y + torch.einsum("boc,bchw->bohw", matrix, x[:, :, ::stride, ::stride])
    return y


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs: those of the dynamic parts that the workload names, both by default."""
    specs = {
        "x": activation(d.B, d.C, d.H, d.W),
        "weight": parameter(d.Co, d.C, d.K, d.K, fan_in=d.C * d.K**2),
    }
    if "gate" in parts_of(d):
        specs["gate"] = generated(d.B, d.Co)
    if "phi" in parts_of(d):
        specs["phi"] = generated(d.B, d.L, d.L, fan_in=d.L)
        specs["P"] = parameter(d.Co, d.L, fan_in=d.L)
        specs["Q"] = parameter(d.C, d.L, fan_in=d.C)
    return specs


def domain(d: Dims) -> str | None:
    """Refuse parts that there are not, and a kernel without a centre."""
    if d.K % 2 == 0:
        return f"a kernel of {d.K}×{d.K} has no centre for the 1×1 part to lie in: choose an odd K"
    return refusal(d)


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, and a branch without a hidden unit."""
    return domain(d) or refusal_of_branch(d)


def positions(d: Dims) -> int:
    """Count the positions of an output."""
    _, _, height, width = output(d)
    return int(height * width)


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, Φ times it, P times that, at every output."""
    return int(positions(d) * (d.C * d.L + d.L**2 + d.L * d.Co))


def on_kernel(d: Dims) -> int:
    """Count the latent path as a matrix PΦQᵀ, per image, Φ multiplied with the smaller of P and Q first."""
    return int(min(d.C, d.Co) * d.L**2 + d.L * d.C * d.Co)


def beside_kernel(d: Dims) -> int:
    """Count the latent path as a matrix that is multiplied with the map by itself, per image."""
    return on_kernel(d) + int(positions(d) * d.C * d.Co)


def by_itself(d: Dims) -> int:
    """Count the latent path as the reference takes it: by itself, P multiplied with Φ first."""
    return int(d.Co * d.L**2 + d.L * d.C * d.Co + positions(d) * d.C * d.Co)


def by_shape(d: Dims) -> int:
    """Count the latent path in the order that ``auto`` chooses, per image."""
    merges = merging_pays(d.C * d.K**2, d.H, d.W, d.get("stride", 1))
    return on_kernel(d) if merges else on_features(d)


def macs(d: Dims, path: Callable[[Dims], int]) -> int:
    """Count the batch: the static convolution and, where Φ takes part, its path per image."""
    latent = path(d) if "phi" in parts_of(d) else 0
    return int(d.B * (positions(d) * d.K**2 * d.C * d.Co + latent))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as in the paper's own counts.

    The gate takes one elementwise operation per weight or per output, whichever are fewer, and so does the
    sum, whose weights are those of the centre alone.
    """
    specs = inputs(d)
    gated = min(d.C * d.K**2, positions(d)) if "gate" in specs else 0
    added = min(d.C, positions(d)) if "phi" in specs else 0
    rows, columns = (taps_in_bounds(size, d.K, d.get("stride", 1)) for size in (d.H, d.W))
    nominal = macs(d, lambda d: min(on_features(d), on_kernel(d)))
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=nominal,
        macs_in_bounds=nominal - d.B * d.C * d.Co * (positions(d) * d.K**2 - rows * columns),
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * positions(d),
        elementwise=d.B * d.Co * (gated + added),
    )


RESNET18 = "DCD-ResNet-18, Li et al. 2021, with their r = 16 and default L for the narrower side"
RESNET50 = "DCD-ResNet-50, Li et al. 2021, with their r = 16 and default L for the narrower side"
STAGE1 = Dims(B=1, C=64, Co=64, H=56, W=56, K=3, L=latent_width(64), R=16)
NETWORK = [
    Workload("dcd_resnet18/stage1_k3", STAGE1, RESNET18),
    Workload("dcd_resnet18/stage1_k3_phi", STAGE1.replace(parts="phi"), RESNET18 + ", Λ left out"),
    Workload("dcd_resnet18/stage2_k3_down", STAGE1.replace(Co=128, stride=2), RESNET18),
    Workload(
        "dcd_resnet18/stage3_k3_b8",
        Dims(B=8, C=256, Co=256, H=14, W=14, K=3, L=latent_width(256), R=16),
        RESNET18,
    ),
    Workload(
        "dcd_resnet50/stage4_k3",
        Dims(B=1, C=512, Co=512, H=7, W=7, K=3, L=latent_width(512), R=16),
        RESNET50,
    ),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], K=(1, 3, 5, 7), L=(2, 4, 8, 16, 32))]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=6, K=3, L=3, R=2)
PROOF_DIMS = (
    SMALL.replace(C=10),
    SMALL.replace(H=2, W=5, K=5),
    SMALL.replace(C=10, Co=4, H=6, W=7, L=2, stride=2),
    SMALL.replace(H=4, W=5, K=1, stride=3),
    SMALL.replace(parts="gate"),
    SMALL.replace(parts="phi"),
)

ON_KERNEL = "Φ is multiplied into one kernel per image, where the cheaper order may lie on the map"
ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one kernel per image"
BY_ITSELF = "the 1×1 part is multiplied with the map by itself, not added to the centre of the kernel"
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
    counted=lambda d: macs(d, by_itself),
    counted_because=BY_ITSELF,
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


@core.implementation("feature_path", counted=lambda d: macs(d, on_features), counted_because=ON_FEATURES)
def feature_path(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    stride: int = 1,
) -> Tensor:
    """Gate the static output and add P(Φ(Qᵀx)), the way that the released layer takes."""
    total = static_part(x, weight, gate, stride)
    if phi is not None and P is not None and Q is not None:
        latent = F.conv2d(x, Q.t()[:, :, None, None], stride=stride)
        fused = (phi @ latent.flatten(2)).reshape(latent.shape)
        total = total + F.conv2d(fused, P[:, :, None, None])
    return total


@core.implementation("separate", counted=lambda d: macs(d, beside_kernel), counted_because=BY_ITSELF)
def separate(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    stride: int = 1,
) -> Tensor:
    """Gate the static output and add a matrix product with PΦQᵀ, which every image has of its own."""
    total = static_part(x, weight, gate, stride)
    if phi is not None and P is not None and Q is not None:
        kept = x[:, :, ::stride, ::stride]
        total = total + (residual(phi, P, Q) @ kept.flatten(2)).reshape(total.shape)
    return total


@core.implementation("merged", counted=lambda d: macs(d, on_kernel), counted_because=ON_KERNEL)
def merged(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image, then one grouped convolution on the batch folded into the channels."""
    K = weight.shape[-1]
    kernels = weight.repeat(len(x), 1, 1, 1, 1) if gate is None else gate[:, :, None, None, None] * weight
    if phi is not None and P is not None and Q is not None:
        kernels[..., K // 2, K // 2] += residual(phi, P, Q)
    return convolve_folded(x, kernels, stride)


@core.implementation("auto", preferred=True, counted=lambda d: macs(d, by_shape), counted_because=BY_SHAPE)
def auto(
    x: Tensor,
    weight: Tensor,
    gate: Part = None,
    phi: Part = None,
    P: Part = None,
    Q: Part = None,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image where an output channel has at least as many positions as weights."""
    H, W = x.shape[2:]
    fuse = merged if merging_pays(weight[0].numel(), H, W, stride) else feature_path
    return fuse(x, weight, gate, phi, P, Q, stride)


def static_part(x: Tensor, weight: Tensor, gate: Part, stride: int) -> Tensor:
    """Convolve with the static kernel and gate the output, if there is a gate."""
    total = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    return total if gate is None else gate[:, :, None, None] * total


def residual(phi: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """Multiply PΦQᵀ, [B, Co, C], with the smaller of P and Q first."""
    return (P @ phi) @ Q.t() if len(P) <= len(Q) else P @ (phi @ Q.t())


def module_reference(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    excite: Tensor,
    P: Part = None,
    Q: Part = None,
    stride: int = 1,
) -> Tensor:
    """y[b,o] = λ[b,o] · Σ_cuv weight[o,c,u,v] · x[b, c, i·s+u−p, j·s+v−p] + Σ_c M_b[o,c] · x[b, c, i·s, j·s].

    At the position i, j, with M_b = P·Φ[b]·Qᵀ and (λ, Φ)[b] = excite·ReLU(squeeze·mean(x[b])).
    x [B, C, H, W], zero outside the map, its mean over all positions; weight [Co, C, K, K] with odd K;
    squeeze [C/R, C]; excite [Co+L², C/R], the rows of λ before those of Φ; P [Co, L]; Q [C, L]; s the stride
    and p = (K−1)/2 the padding; y [B, Co, ⌈H/s⌉, ⌈W/s⌉]. Without P and Q there is no Φ; without its rows λ
    is one.
    """
    K = weight.shape[-1]
    size = P.shape[1] ** 2 if P is not None else 0
    dynamic = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
    gate, phi = dynamic.split([len(excite) - size, size], dim=1)
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)
    y = torch.einsum("bchwuv,ocuv->bohw", windows, weight)
    if gate.shape[1]:
        y = gate[:, :, None, None] * y
    if P is not None:
        square = phi.reshape(len(x), P.shape[1], -1)
        matrix = torch.einsum("boj,cj->boc", torch.einsum("oi,bij->boj", P, square), Q)
        y = y + torch.einsum("boc,bchw->bohw", matrix, x[:, :, ::stride, ::stride])
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
    options=options,
    domain=module_domain,
    workloads=[*WORKLOADS, *sweep(NETWORK[0], R=(4, 8, 32))],
    proof_dims=PROOF_DIMS,
    counted=lambda d: macs(d, by_itself) + branch_macs(d, inputs(d)),
    counted_because=BY_ITSELF,
)


def with_branch_counted(path: Callable[[Dims], int]) -> Callable[[Dims], int]:
    """Count the branch besides the core that takes a path."""
    return lambda d: macs(d, path) + branch_macs(d, inputs(d))


module.implementation("feature_path", counted=with_branch_counted(on_features), counted_because=ON_FEATURES)(
    with_branch(feature_path, square_phi)
)
module.implementation("separate", counted=with_branch_counted(beside_kernel), counted_because=BY_ITSELF)(
    with_branch(separate, square_phi)
)
module.implementation("merged", counted=with_branch_counted(on_kernel), counted_because=ON_KERNEL)(
    with_branch(merged, square_phi)
)
module.implementation(
    "auto", preferred=True, counted=with_branch_counted(by_shape), counted_because=BY_SHAPE
)(with_branch(auto, square_phi))
