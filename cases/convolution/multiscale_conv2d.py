"""Multi-scale convolution of Res2Net: channels in splits, each convolved after the result before it is added.

Gao et al., Res2Net: A New Multi-scale Backbone Architecture, TPAMI 2021 (arXiv 1904.01169), eq. (1): its
K_i are ``kernels`` here, its scale s is the option ``scales`` and its width w is C/s. The last split reads
through s−1 convolutions, so reach grows from split to split. Core: the convolutions and additions alone,
linear in x. Module: a batch norm and a ReLU after each of the convolutions, as in Res2Net-50. The 1×1
convolutions around it belong to the network's block. The released code (Res2Net/Res2Net-PretrainedModels,
res2net.py) lets the last split pass and not the first, which is the same up to the order of the channels;
in the first block of a stage it leaves out the additions and pools that split, which this page does not.
``authors`` appends split after split as that code does, in the order of the formula.
"""

from collections.abc import Mapping
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
    parameter,
    sweep,
    taps_in_bounds,
)

from ..workloads import MAPS
from . import batch_norm
from .batch_norm import normalise

operator = Operator(
    "multiscale_conv2d",
    family="convolution",
    source="Gao et al. 2021, TPAMI, arXiv 1904.01169, eq. (1)",
    note=(
        "Han et al. 2022 call it low rank in space; the matrices between its positions have full rank. "
        "Positions do not quite share weights either: a path through several convolutions ends at the border."
    ),
    traits=Traits(space="local", channels="irregular"),
)


def reference(x: Tensor, kernels: Tensor) -> Tensor:
    """y_1 = x_1, y_2 = K_2 ∗ x_2 and y_n = K_n ∗ (x_n + y_{n−1}) for n > 2, n counting the splits.

    (K ∗ z)[b,o,i,j] = Σ_cuv K[o,c,u,v] · z[b, c, i+u−⌊K/2⌋, j+v−⌊K/2⌋], z being zero outside the map;
    x [B, C, H, W] in s splits of w = C/s channels, x_n of the channels (n−1)w to nw−1, and y alike;
    kernels [s−1, w, w, K, K], K_2 to K_s, with odd K.
    """
    K = kernels.shape[-1]
    splits = x.unflatten(1, (len(kernels) + 1, -1)).unbind(1)
    results = [splits[0]]
    for kernel, split in zip(kernels, splits[1:], strict=True):
        z = split if len(results) == 1 else split + results[-1]
        taps = F.pad(z, (K // 2,) * 4).unfold(2, K, 1).unfold(3, K, 1)  # [B, w, H, W, K, K]
        results.append(torch.einsum("bchwuv,ocuv->bohw", taps, kernel))
    return torch.cat(results, 1)


def module_reference(x: Tensor, kernels: Tensor, **norms: Tensor) -> Tensor:
    """y_1 = x_1, y_2 = ReLU(BN_2(K_2 ∗ x_2)) and y_n = ReLU(BN_n(K_n ∗ (x_n + y_{n−1}))) for n > 2.

    BN(z) = (z − mean)/√(variance + 1e-5)·gain + shift; x [B, C, H, W] in s splits of w = C/s channels;
    kernels [s−1, w, w, K, K] with odd K, on maps that are zero outside; split_gain, split_shift, split_mean
    and split_variance [s−1, w]. Without mean and variance those of z over batch and map are taken, the
    variance biased. y [B, C, H, W].
    """
    K = kernels.shape[-1]
    splits = x.unflatten(1, (len(kernels) + 1, -1)).unbind(1)
    results = [splits[0]]
    for n, kernel in enumerate(kernels):
        z = splits[n + 1] + results[-1] if n else splits[1]
        taps = F.pad(z, (K // 2,) * 4).unfold(2, K, 1).unfold(3, K, 1)
        z = torch.einsum("bchwuv,ocuv->bohw", taps, kernel)
        if "split_mean" in norms:
            mean, variance = (norms[f"split_{name}"][n, :, None, None] for name in ("mean", "variance"))
        else:
            mean = z.mean((0, 2, 3), keepdim=True)
            # One step for which no rounding is bounded: three batch norms in a row have no useful bound.
            variance = z.var((0, 2, 3), correction=0, keepdim=True)
        gain, shift = (norms[f"split_{name}"][n, :, None, None] for name in ("gain", "shift"))
        results.append(torch.relu((z - mean) * (variance + 1e-5).rsqrt() * gain + shift))
    return torch.cat(results, 1)


def domain(d: Dims) -> str | None:
    """Refuse splits of unequal size, a single one, and even kernels, which would not keep the map's size."""
    if d.scales < 2:
        return "a single split has no convolution: choose at least two scales"
    if d.C % d.scales:
        return f"{d.C} channels are no {d.scales} splits of one size: choose C as a multiple of scales"
    if d.K % 2 == 0:
        return "a kernel without a centre does not keep the size of the map: choose an odd K"
    return None


def module_domain(d: Dims) -> str | None:
    """Refuse what the core refuses, unknown norms, and statistics of a single value."""
    return domain(d) or batch_norm.refusal(d, d.B * d.H * d.W)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    width = d.C // d.scales
    return {
        "x": activation(d.B, d.C, d.H, d.W),
        "kernels": parameter(d.scales - 1, width, width, d.K, d.K, fan_in=width * d.K**2),
    }


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {**inputs(d), **batch_norm.inputs("split", d, d.scales - 1, d.C // d.scales)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.H, d.W


def cost(d: Dims) -> Cost:
    """K²·C/s multiply-adds per position and channel of all splits but the first."""
    width = d.C // d.scales
    weights = (d.scales - 1) * width**2 * d.K**2
    inside = taps_in_bounds(d.H, d.K) * taps_in_bounds(d.W, d.K)
    return Cost(
        params=weights,
        macs=d.B * d.H * d.W * weights,
        macs_in_bounds=d.B * (d.scales - 1) * width**2 * inside,
        elements_read=d.B * d.C * d.H * d.W + weights,
        elements_written=d.B * d.C * d.H * d.W,
        elementwise=d.B * d.H * d.W * (d.scales - 2) * width,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and the batch norms and ReLUs of all splits but the first, which are elementwise."""
    convolutions, normed = cost(d), (d.scales - 1) * (d.C // d.scales)
    elements, params = d.B * d.H * d.W * normed, convolutions.params + 2 * normed
    return replace(
        convolutions,
        params=params,
        elements_read=d.B * d.C * d.H * d.W + params + batch_norm.stored(d, normed),
        elementwise=convolutions.elementwise + batch_norm.elementwise(d, elements) + elements,
    )


RES2NET = "Res2Net-50 26w×4s, Gao et al. 2021, section 4.1 and released code"
WIDER = "Res2Net-50 48w×2s, Gao et al. 2021, table 3"
DEEPER = "Res2Net-50 26w×6s, Gao et al. 2021, table 3"
WORKLOADS = [
    Workload("res2net50_26w_4s/stage1", Dims(B=1, C=104, H=56, W=56, K=3, scales=4), RES2NET),
    Workload("res2net50_26w_4s/stage2", Dims(B=1, C=208, H=28, W=28, K=3, scales=4), RES2NET),
    Workload("res2net50_26w_4s/stage3", Dims(B=1, C=416, H=14, W=14, K=3, scales=4), RES2NET),
    Workload("res2net50_26w_4s/stage4", Dims(B=1, C=832, H=7, W=7, K=3, scales=4), RES2NET),
    Workload("res2net50_48w_2s/stage1", Dims(B=1, C=96, H=56, W=56, K=3, scales=2), WIDER),
    Workload("res2net50_26w_6s/stage1", Dims(B=1, C=156, H=56, W=56, K=3, scales=6), DEEPER),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 5, 7), scales=(2, 4, 8))
SIZES = Dims(B=2, C=12, scales=3)
PROOF_DIMS = (
    *(SIZES.replace(H=H, W=W, K=K) for H, W, K in MAPS),
    SIZES.replace(H=4, W=3, K=1, scales=2),
    Dims(B=1, C=12, H=3, W=6, K=3, scales=4),
    Dims(B=2, C=20, H=2, W=3, K=3, scales=5),
)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT],
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
    workloads=[
        *WORKLOADS,
        Workload("res2net50_26w_4s/stage1_train", WORKLOADS[0].dims.replace(norm="train"), RES2NET),
        *SWEPT,
    ],
    proof_dims=(*PROOF_DIMS, *(dims.replace(norm="train") for dims in PROOF_DIMS)),
)


@core.implementation("authors")
def authors(x: Tensor, kernels: Tensor) -> Tensor:
    """Call the framework's convolution on split after split, and append each result, as the authors do."""
    splits = x.chunk(len(kernels) + 1, 1)
    out, y = splits[0], None
    for kernel, split in zip(kernels.unbind(0), splits[1:], strict=True):
        y = F.conv2d(split if y is None else y + split, kernel, padding=kernel.shape[-1] // 2)
        out = torch.cat((out, y), 1)
    return out


@core.implementation("joined", preferred=True)
def joined(x: Tensor, kernels: Tensor) -> Tensor:
    """Call the framework's convolution on split after split, and join all results at once."""
    results = list(x.chunk(len(kernels) + 1, 1))
    for n, kernel in enumerate(kernels.unbind(0), 1):
        z = results[n] + results[n - 1] if n > 1 else results[n]
        results[n] = F.conv2d(z, kernel, padding=kernel.shape[-1] // 2)
    return torch.cat(results, 1)


@module.implementation("authors")
def module_authors(x: Tensor, kernels: Tensor, **norms: Tensor) -> Tensor:
    """Convolve, normalise and rectify split after split, and append each result, as the authors do."""
    splits = x.chunk(len(kernels) + 1, 1)
    out, y = splits[0], None
    for kernel, norm, split in zip(kernels.unbind(0), per_split(norms), splits[1:], strict=True):
        y = F.conv2d(split if y is None else y + split, kernel, padding=kernel.shape[-1] // 2)
        y = torch.relu_(normalise(y, norm, "split"))
        out = torch.cat((out, y), 1)
    return out


@module.implementation("joined", preferred=True)
def module_joined(x: Tensor, kernels: Tensor, **norms: Tensor) -> Tensor:
    """Convolve, normalise and rectify split after split, and join all results at once."""
    results = list(x.chunk(len(kernels) + 1, 1))
    for n, (kernel, norm) in enumerate(zip(kernels.unbind(0), per_split(norms), strict=True), 1):
        z = results[n] + results[n - 1] if n > 1 else results[n]
        z = F.conv2d(z, kernel, padding=kernel.shape[-1] // 2)
        results[n] = torch.relu_(normalise(z, norm, "split"))
    return torch.cat(results, 1)


def per_split(norms: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Take the batch norms [s−1, w] of all splits apart."""
    rows = zip(*(values.unbind(0) for values in norms.values()), strict=True)
    return [dict(zip(norms, row, strict=True)) for row in rows]
