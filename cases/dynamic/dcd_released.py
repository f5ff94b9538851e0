"""The layer that the authors of dynamic channel fusion (DCD) released, which is not the one that they wrote.

y = Λ(x)·conv(x, W₀) + P·(N₁(Φ(x)z) + z) with z = N₀(Qᵀx), N₀ and N₁ being batch norms. Released code of Li et
al., ICLR 2021 (arXiv 2103.08756), liyunsheng13/dcd, ``conv_dy`` in models/imagenet/resnet_dcd.py; the paper's
form is ``dcd_fusion``. The skip around Φ makes P(Φ+I)Qᵀ of PΦQᵀ; Λ runs through a hard sigmoid with range 0
to 2, which is one at 0; the branch has v ⊙ hard sigmoid(Tv), v = S·mean(x), in place of a ReLU, and no bias.
There L is ⌊√C⌋ and v has max(C, L²)/16 units, R = 16 here. Two other layers of that code, ``conv_basic_dy``
and ``DYModule``, are this one with the means of 2×2 cells squeezed, ``pool=2``, and with an L of their own.

Core: Λ and Φ are inputs, and the batch norms are what stored statistics leave of them, a scale and a shift.
Then an image has one kernel, diag(Λ)W₀ with P(diag(s₁)Φ+I)diag(s₀)Qᵀ added at the centre, and one bias
(``merged``). With the statistics of the batch, ``norm="train"``, it has none: its outputs depend on the other
images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

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
    buffer,
    generated,
    parameter,
    sweep,
    taps_in_bounds,
)

from ..involution.involution import normalise
from .channel_fusion import linear_layers, made_of_sums, merging_pays
from .cond_conv2d import convolve_folded, options, output

operator = Operator(
    "dcd_released",
    family="dynamic",
    source="github.com/liyunsheng13/dcd, models/imagenet/resnet_dcd.py, of Li et al. 2021, arXiv 2103.08756",
    note="The paper's formula has neither the batch norms nor the skip around Φ.",
    traits=Traits(space="local", channels="all", sharing=("positions",), dynamic="per image", degree=2),
)


def reference(
    x: Tensor,
    weight: Tensor,
    gate: Tensor,
    phi: Tensor,
    P: Tensor,
    Q: Tensor,
    scale: Tensor,
    shift: Tensor,
    stride: int = 1,
) -> Tensor:
    """y[b,o] = gate[b,o] · Σ_cuv weight[o,c,u,v] · x[b, c, i·s+u−p, j·s+v−p] + Σ_l P[o,l] · f[b,l].

    At the position i, j, with f[b,l] = scale[1,l] · Σ_m phi[b,l,m] · z[b,m] + shift[1,l] + z[b,l] and
    z[b,l] = scale[0,l] · Σ_c Q[c,l] · x[b, c, i·s, j·s] + shift[0,l]. x [B, C, H, W], zero outside the map;
    weight [Co, C, K, K] with odd K; gate [B, Co]; phi [B, L, L]; P [Co, L]; Q [C, L]; scale and shift [2, L];
    s the stride and p = (K−1)/2 the padding; y [B, Co, ⌈H/s⌉, ⌈W/s⌉].
    """
    K = weight.shape[-1]
    scales, shifts = scale[:, :, None, None], shift[:, :, None, None]
    z = scales[0] * torch.einsum("cl,bchw->blhw", Q, x[:, :, ::stride, ::stride]) + shifts[0]
    fused = scales[1] * torch.einsum("blm,bmhw->blhw", phi, z) + shifts[1] + z
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)  # [B, C, H', W', K, K]
    static = torch.einsum("bchwuv,ocuv->bohw", windows, weight)
    return gate[:, :, None, None] * static + torch.einsum("ol,blhw->bohw", P, fused)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs; the released gate lies between 0 and 2."""
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "weight": parameter(d.Co, d.C, d.K, d.K, fan_in=d.C * d.K**2),
        "gate": Spec((d.B, d.Co), "generated", "2·sigmoid(normal(0, 1))", lambda noise: 2 * noise.sigmoid()),
        "phi": generated(d.B, d.L, d.L, fan_in=d.L),
        "P": parameter(d.Co, d.L, fan_in=d.L),
        "Q": parameter(d.C, d.L, fan_in=d.C),
        "scale": parameter(2, d.L, mean=1.0),
        "shift": parameter(2, d.L),
    }


def domain(d: Dims) -> str | None:
    """Refuse a kernel without a centre."""
    if d.K % 2 == 0:
        return f"a kernel of {d.K}×{d.K} has no centre for the 1×1 part to lie in: choose an odd K"
    return None


def positions(d: Dims) -> int:
    """Count the positions of an output."""
    _, _, height, width = output(d)
    return int(height * width)


def on_features(d: Dims) -> int:
    """Count the latent path on the map, per image: Qᵀx, Φ times it, P times that, at every output."""
    return int(positions(d) * (d.C * d.L + d.L**2 + d.L * d.Co))


def on_kernel(d: Dims) -> int:
    """Count the latent path as a matrix and a bias, per image, Φ times the smaller of P and Q first."""
    bias = d.L**2 + d.L * d.Co
    return int(min(d.C, d.Co) * d.L**2 + d.L * d.C * d.Co + bias)


def by_shape(d: Dims) -> int:
    """Count the latent path in the order that ``auto`` chooses, per image."""
    merges = merging_pays(d.C * d.K**2, d.H, d.W, d.get("stride", 1))
    return on_kernel(d) if merges and not trains(d) else on_features(d)


def cheapest(d: Dims) -> int:
    """Count the latent path in the cheaper of its two orders, of which training has one."""
    return on_features(d) if trains(d) else min(on_features(d), on_kernel(d))


def macs(d: Dims, path: Callable[[Dims], int]) -> int:
    """Count the batch: the static convolution, and the latent path of every image."""
    return int(d.B * (positions(d) * d.K**2 * d.C * d.Co + path(d)))


def cost(d: Dims) -> Cost:
    """Return the costs with Φ in the cheaper of its two orders, as the paper counts its networks.

    On the map that is a gate and a sum per output, and two batch norms and the skip, five operations per
    latent value; on the kernel these are operations on Φ and on weights, and a bias per output.
    """
    specs = inputs(d)
    on_map = positions(d) * (2 * d.Co + 5 * d.L)
    on_weights = d.Co * d.C * (d.K**2 + 1) + 2 * d.L**2 + 2 * d.L + positions(d) * d.Co
    rows, columns = (taps_in_bounds(size, d.K, d.get("stride", 1)) for size in (d.H, d.W))
    on_padding = d.B * d.C * d.Co * (positions(d) * d.K**2 - rows * columns)
    return Cost(
        params=sum(spec.elements for spec in specs.values() if spec.role == "parameter"),
        macs=macs(d, cheapest),
        macs_in_bounds=macs(d, cheapest) - on_padding,
        elements_read=sum(spec.elements for spec in specs.values()),
        elements_written=d.B * d.Co * positions(d),
        elementwise=d.B * (on_map if cheapest(d) == on_features(d) else on_weights),
    )


RESNET18 = "ResNet-18 of liyunsheng13/dcd, conv_basic_dy: means of 2×2 cells, L = ⌊√(4C)⌋, R = 16"
RESNET50 = "ResNet-50 of liyunsheng13/dcd, conv_dy: L = ⌊√C⌋, R = 16"
MOBILENET = "MobileNetV2 of liyunsheng13/dcd, DYModule with --fc-squeeze 16, as its README trains it"
NETWORK = [
    Workload(
        "dcd_resnet50/stage1_k3", Dims(B=1, C=64, Co=64, H=56, W=56, K=3, L=math.isqrt(64), R=16), RESNET50
    ),
    Workload(
        "dcd_resnet50/stage2_k3_down",
        Dims(B=1, C=128, Co=128, H=56, W=56, K=3, L=math.isqrt(128), R=16, stride=2),
        RESNET50,
    ),
    Workload(
        "dcd_resnet50/stage3_reduce",
        Dims(B=1, C=1024, Co=256, H=14, W=14, K=1, L=math.isqrt(1024), R=16),
        RESNET50,
    ),
    Workload(
        "dcd_resnet18/stage3_k3_b8",
        Dims(B=8, C=256, Co=256, H=14, W=14, K=3, L=math.isqrt(4 * 256), R=16, pool=2),
        RESNET18,
    ),
    Workload(
        "dcd_resnet18/stage4_k3",
        Dims(B=1, C=512, Co=512, H=7, W=7, K=3, L=math.isqrt(4 * 512), R=16, pool=2),
        RESNET18,
    ),
    Workload(
        "dcd_mobilenetv2/stage5_expand",
        Dims(B=1, C=96, Co=576, H=14, W=14, K=1, L=24, R=16, pool=2),
        MOBILENET,
    ),
]
WORKLOADS = [*NETWORK, *sweep(NETWORK[0], L=(4, 8, 16, 32), K=(1, 3, 5, 7))]
SMALL = Dims(B=2, C=8, Co=6, H=7, W=6, K=3, L=3)

ON_FEATURES = "Φ is applied to the map, where the cheaper order may be one kernel per image"
ON_KERNEL = "Φ is multiplied into one kernel per image, where the cheaper order may lie on the map"
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
    proof_dims=(
        SMALL,
        SMALL.replace(H=2, W=5, K=5),
        SMALL.replace(C=10, Co=4, H=6, W=7, L=2, stride=2),
        SMALL.replace(H=4, W=5, K=1, stride=3),
    ),
    polynomial=True,
    counted=lambda d: macs(d, on_features),
    counted_because=ON_FEATURES,
)


@core.generator(inputs=lambda d: linear_layers(d, inputs(d)))
def made_linearly(d: Dims, x: Tensor, **layers: Tensor) -> Mapping[str, Tensor]:
    """One linear layer for each part, on the sum over all positions of an image."""
    return made_of_sums(inputs(d), x, layers)


@core.implementation("authors", counted=lambda d: macs(d, on_features), counted_because=ON_FEATURES)
def authors(
    x: Tensor,
    weight: Tensor,
    gate: Tensor,
    phi: Tensor,
    P: Tensor,
    Q: Tensor,
    scale: Tensor,
    shift: Tensor,
    stride: int = 1,
) -> Tensor:
    """Gate the static output and add the latent path on the map, as the released layer does."""

    def first(latent: Tensor) -> Tensor:
        return scale[0, :, None, None] * latent + shift[0, :, None, None]

    def second(latent: Tensor) -> Tensor:
        return scale[1, :, None] * latent + shift[1, :, None]

    return fuse_maps(x, weight, gate, phi, P, Q, first, second, stride)


def fuse_maps(
    x: Tensor,
    weight: Tensor,
    gate: Tensor,
    phi: Tensor,
    P: Tensor,
    Q: Tensor,
    first: Callable[[Tensor], Tensor],
    second: Callable[[Tensor], Tensor],
    stride: int,
) -> Tensor:
    """Compute the layer on the map; the norms map [B, L, H', W'] and [B, L, H'·W'] to their like."""
    static = gate[:, :, None, None] * F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
    z = first(F.conv2d(x, Q.t()[:, :, None, None], stride=stride))
    tokens = z.flatten(2)
    fused = second(phi @ tokens) + tokens
    return F.conv2d(fused.reshape(z.shape), P[:, :, None, None]) + static


@core.implementation("merged", counted=lambda d: macs(d, on_kernel), counted_because=ON_KERNEL)
def merged(
    x: Tensor,
    weight: Tensor,
    gate: Tensor,
    phi: Tensor,
    P: Tensor,
    Q: Tensor,
    scale: Tensor,
    shift: Tensor,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel and one bias per image, then one grouped convolution on the folded batch."""
    K = weight.shape[-1]
    skipped = scale[1, :, None] * phi + torch.eye(len(Q.t()), dtype=x.dtype, device=x.device)
    latent_bias = skipped @ shift[0] + shift[1]
    matrix = skipped * scale[0]
    residual = (P @ matrix) @ Q.t() if len(P) <= len(Q) else P @ (matrix @ Q.t())
    kernels = gate[:, :, None, None, None] * weight
    kernels[..., K // 2, K // 2] += residual
    return convolve_each(x, kernels, latent_bias @ P.t(), stride)


def convolve_each(x: Tensor, kernels: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolve with kernels [B, Co, C, K, K] and biases [B, Co], by matrix products where K = 1."""
    if kernels.shape[-1] > 1:
        return convolve_folded(x, kernels, stride, bias)
    kept = x[:, :, ::stride, ::stride]
    product = kernels.flatten(2) @ kept.flatten(2)
    return product.add_(bias.unsqueeze(2)).reshape(len(x), -1, *kept.shape[2:])


@core.implementation("auto", preferred=True, counted=lambda d: macs(d, by_shape), counted_because=BY_SHAPE)
def auto(
    x: Tensor,
    weight: Tensor,
    gate: Tensor,
    phi: Tensor,
    P: Tensor,
    Q: Tensor,
    scale: Tensor,
    shift: Tensor,
    stride: int = 1,
) -> Tensor:
    """Merge one kernel per image where an output channel has at least as many positions as weights."""
    H, W = x.shape[2:]
    fuse = merged if merging_pays(weight[0].numel(), H, W, stride) else authors
    return fuse(x, weight, gate, phi, P, Q, scale, shift, stride)


def module_reference(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    attend: Tensor,
    to_gate: Tensor,
    to_phi: Tensor,
    P: Tensor,
    Q: Tensor,
    gain: Tensor,
    shift: Tensor,
    mean: Tensor | None = None,
    variance: Tensor | None = None,
    stride: int = 1,
    pool: int = 1,
) -> Tensor:
    """y[b] = λ[b] ⊙ (weight * x[b]) + P·(BN₁(Φ[b]·z[b]) + z[b]) with z[b] = BN₀(Qᵀ·x[b]) at every s-th place.

    λ = h(to_gate·a) and Φ = to_phi·a with a = v ⊙ h(attend·v), v = squeeze·m, h(w) = min(max(w+3, 0), 6)/3,
    m [B, C·n²] the means over n×n cells, n = pool, of the rows ⌊iH/n⌋ to ⌈(i+1)H/n⌉−1 and columns likewise.
    x [B, C, H, W], zero outside the map; weight [Co, C, K, K] with odd K, * correlating at the stride s;
    squeeze [S, C·n²]; attend [S, S]; to_gate [Co, S]; to_phi [L², S], the rows of Φ one after the other;
    P [Co, L]; Q [C, L]; BN₀ and BN₁ with gain, shift and the stored mean and variance [2, L], without which
    they take those of the batch; y [B, Co, ⌈H/s⌉, ⌈W/s⌉].
    """
    B, _, H, W = x.shape
    K, L = weight.shape[-1], P.shape[1]

    def normalised(latent: Tensor, number: int) -> Tensor:
        if mean is None or variance is None:
            middle = latent.mean((0, 2, 3), keepdim=True)
            spread = (latent - middle).square().mean((0, 2, 3), keepdim=True)
        else:
            middle, spread = mean[number, :, None, None], variance[number, :, None, None]
        scaled = (latent - middle) * (spread + 1e-5).rsqrt() * gain[number, :, None, None]
        return scaled + shift[number, :, None, None]

    rows = [slice(i * H // pool, -(-(i + 1) * H // pool)) for i in range(pool)]
    columns = [slice(j * W // pool, -(-(j + 1) * W // pool)) for j in range(pool)]
    means = torch.stack([x[:, :, row, column].mean((2, 3)) for row in rows for column in columns], 2)
    v = means.reshape(B, -1) @ squeeze.t()
    attention = v @ attend.t()
    a = v * (torch.relu(attention + 3) - torch.relu(attention - 3)) / 3
    logits = a @ to_gate.t()
    gate = (torch.relu(logits + 3) - torch.relu(logits - 3)) / 3
    z = normalised(torch.einsum("cl,bchw->blhw", Q, x[:, :, ::stride, ::stride]), 0)
    phi = (a @ to_phi.t()).reshape(B, L, L)
    fused = normalised(torch.einsum("blm,bmhw->blhw", phi, z), 1) + z
    windows = F.pad(x, (K // 2,) * 4).unfold(2, K, stride).unfold(3, K, stride)
    static = torch.einsum("bchwuv,ocuv->bohw", windows, weight)
    return gate[:, :, None, None] * static + torch.einsum("ol,blhw->bohw", P, fused)


def cells(d: Dims) -> int:
    """Count the cells along a side of the map, whose means are squeezed: one unless the workload says."""
    return int(d.get("pool", 1))


def squeezed(d: Dims) -> int:
    """Count the units of the squeeze."""
    return int(max(d.C * cells(d) ** 2, d.L**2) // d.R)


def trains(d: Dims) -> bool:
    """Tell whether the batch norms take the statistics of the batch."""
    return bool(d.get("norm") == "train")


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs; training has no stored statistics.

    The squeeze makes up for the mean over the map, and what follows it reaches both ends of a hard sigmoid.
    """
    given, units, means = inputs(d), squeezed(d), d.C * cells(d) ** 2
    learned = {
        "x": given["x"],
        "weight": given["weight"],
        "squeeze": scaled(units, means, scale=(d.H * d.W / means) ** 0.5 / cells(d)),
        "attend": scaled(units, units, scale=6 * units**-0.5),
        "to_gate": scaled(d.Co, units, scale=6 * units**-0.5),
        "to_phi": parameter(d.L**2, units, fan_in=units * d.L),
        "P": given["P"],
        "Q": given["Q"],
        "gain": given["scale"],
        "shift": given["shift"],
    }
    if trains(d):
        return learned
    return learned | {"mean": buffer(2, d.L), "variance": buffer(2, d.L, positive=True)}


def scaled(*shape: int, scale: float) -> Spec:
    """Describe a learned tensor of another variance than a layer's that keeps unit variance."""
    return Spec(shape, "parameter", f"normal(0, {scale:.3g}²)", lambda noise: noise * scale)


def module_options(d: Dims) -> Mapping[str, int]:
    """Stride, and the cells along a side of the map whose means are squeezed, each one by default."""
    return {**options(d), "pool": cells(d)}


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, a squeeze without units, and unknown batch norms."""
    if squeezed(d) < 1:
        return f"a reduction by {d.R} leaves no unit of the squeeze: choose R of at most C·pool² or L²"
    if d.get("norm", "eval") not in ("eval", "train"):
        return f"no batch norm is called {d.norm!r}: name 'eval' or 'train'"
    return domain(d)


def branch_macs(d: Dims) -> int:
    """Count the layers of the branch, which are as many weights, for the batch."""
    specs = module_inputs(d)
    return int(d.B) * sum(specs[name].elements for name in ("squeeze", "attend", "to_gate", "to_phi"))


def module_cost(d: Dims) -> Cost:
    """Return the costs of the core and of its branch, and in training of the statistics of the batch.

    The branch takes means over cells, which may overlap, and four operations per hard sigmoid.
    """
    fused, units = cost(d), squeezed(d)
    covered = math.prod(
        sum(-(-(i + 1) * size // cells(d)) - i * size // cells(d) for i in range(cells(d)))
        for size in (d.H, d.W)
    )
    statistics = 8 * d.L * positions(d) if trains(d) else 0
    return replace(
        fused,
        params=fused.params + branch_macs(d) // d.B,
        macs=fused.macs + branch_macs(d),
        macs_in_bounds=(fused.macs_in_bounds or 0) + branch_macs(d),
        elements_read=sum(spec.elements for spec in module_inputs(d).values()),
        elementwise=fused.elementwise + d.B * (d.C * covered + 5 * units + 4 * d.Co + statistics),
    )


ROOMY = SMALL.replace(C=16, L=4, R=2)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=module_options,
    domain=module_domain,
    workloads=[
        *WORKLOADS,
        Workload("dcd_resnet50/stage1_k3_train", NETWORK[0].dims.replace(norm="train"), RESNET50),
        *sweep(NETWORK[0], R=(2, 4, 8, 16), pool=(2, 3)),
    ],
    proof_dims=(
        ROOMY,
        ROOMY.replace(H=2, W=5, K=5),
        ROOMY.replace(H=6, W=7, L=5, Co=4, stride=2, pool=2),
        ROOMY.replace(H=4, W=5, K=1, stride=3),
        ROOMY.replace(H=5, W=4, norm="train"),
        ROOMY.replace(H=1, W=6, stride=2, pool=2, norm="train"),
    ),
    counted=lambda d: macs(d, on_features) + branch_macs(d),
    counted_because=ON_FEATURES,
)


@module.implementation(
    "authors", counted=lambda d: macs(d, on_features) + branch_macs(d), counted_because=ON_FEATURES
)
def module_authors(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    attend: Tensor,
    to_gate: Tensor,
    to_phi: Tensor,
    P: Tensor,
    Q: Tensor,
    stride: int = 1,
    pool: int = 1,
    **norms: Tensor,
) -> Tensor:
    """Squeeze, gate the static output and add the latent path on the map, as the released layer does."""
    gate, phi = branch(x, squeeze, attend, to_gate, to_phi, pool)

    def norm(number: int) -> Callable[[Tensor], Tensor]:
        own = {name: values[number] for name, values in norms.items()}
        return lambda latent: normalise(latent, own)

    return fuse_maps(x, weight, gate, phi, P, Q, norm(0), norm(1), stride)


def has_own_kernels(d: Dims) -> str | None:
    """Say why an image has no kernel of its own, or return None."""
    return "with the statistics of the batch an image has no kernel of its own" if trains(d) else None


@module.implementation(
    "merged",
    counted=lambda d: macs(d, on_kernel) + branch_macs(d),
    counted_because=ON_KERNEL,
    supports=has_own_kernels,
)
def module_merged(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    attend: Tensor,
    to_gate: Tensor,
    to_phi: Tensor,
    P: Tensor,
    Q: Tensor,
    stride: int = 1,
    pool: int = 1,
    **norms: Tensor,
) -> Tensor:
    """Squeeze, fold the batch norms, and merge one kernel and one bias per image."""
    gate, phi = branch(x, squeeze, attend, to_gate, to_phi, pool)
    scale = (norms["variance"] + 1e-5).rsqrt() * norms["gain"]
    shift = norms["shift"] - norms["mean"] * scale
    return merged(x, weight, gate, phi, P, Q, scale, shift, stride)


@module.implementation(
    "auto",
    preferred=True,
    counted=lambda d: macs(d, by_shape) + branch_macs(d),
    counted_because=BY_SHAPE,
)
def module_auto(
    x: Tensor,
    weight: Tensor,
    squeeze: Tensor,
    attend: Tensor,
    to_gate: Tensor,
    to_phi: Tensor,
    P: Tensor,
    Q: Tensor,
    stride: int = 1,
    pool: int = 1,
    **norms: Tensor,
) -> Tensor:
    """Merge one kernel per image where it has one and where an output has as many positions as weights."""
    H, W = x.shape[2:]
    merges = "mean" in norms and merging_pays(weight[0].numel(), H, W, stride)
    run = module_merged if merges else module_authors
    return run(x, weight, squeeze, attend, to_gate, to_phi, P, Q, stride, pool, **norms)


def branch(
    x: Tensor, squeeze: Tensor, attend: Tensor, to_gate: Tensor, to_phi: Tensor, pool: int
) -> tuple[Tensor, Tensor]:
    """Compute λ [B, Co] and Φ [B, L, L] of a map [B, C, H, W]."""
    v = F.linear(F.adaptive_avg_pool2d(x, pool).flatten(1), squeeze)
    a = v * F.relu6(F.linear(v, attend) + 3) / 3
    gate = F.relu6(F.linear(a, to_gate) + 3) / 3
    L = math.isqrt(len(to_phi))
    return gate, F.linear(a, to_phi).reshape(len(x), L, L)
