"""Lightweight convolution: depthwise over a sequence, with one normalised kernel for all channels of a head.

Wu et al., Pay Less Attention with Lightweight and Dynamic Convolutions, ICLR 2019 (arXiv 1901.10430),
section 3, whose time, width d, taps k and heads H are T, C, K and M here. The learned weights of a head
become its kernel by a softmax over the taps, so none is negative and they sum to one: depthwise convolutions
with other kernels are not among them.

By default, ``border="zeros"``, the softmax is taken over all taps, also those beyond the ends of the
sequence, where x is zero: on a constant sequence of ones the outputs near the ends are smaller than one. With
``border="renormalised"`` taps beyond the ends take no part in it. The paper and its code have the former
alone; the latter is fairseq's option ``renorm_padding`` of dynamic convolution.

What fairseq (facebookresearch/fairseq, fairseq/modules/lightweight_convolution.py) does:

* ``LightweightConv1dTBC``, ``authors`` here, multiplies by a dense matrix T×(T+K−1) per head and image with
  the kernel along its diagonals, whatever the length, so that time and memory grow with T²; only on demand,
  and in decoding step by step, does it gather the taps. Here it reads [B, C, T].
* ``LightweightConv1d``, an example that no model of fairseq uses, deals the channels to the heads in turn,
  c mod M, not in blocks, ⌊cM/C⌋, as the paper, the layer above and the CUDA kernel do. With the same weights
  it is another function unless there is one head or one for each channel. It also views its input, which
  fails where the sequence is not contiguous.
* The CUDA kernel takes 3, 5, 7, 15, 31, 63, 127 or 255 taps, centred or causal; for all else it prints a
  warning and returns zeros.
* For an even kernel the model hands the layer a pair of paddings, for which the layer stops.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_in_sequence
from . import dynamic_conv1d
from .dynamic_conv1d import (
    DENSE,
    DENSE_OR_ELEMENTWISE,
    ELEMENTWISE,
    SEQUENCES,
    auto_macs,
    band_macs,
    module_options,
    options,
)

operator = Operator(
    "lightweight_conv1d",
    family="dynamic",
    source="Wu et al. 2019, ICLR, arXiv 1901.10430, section 3",
    note="Its weights are static; the family is that of dynamic convolution, which generates them.",
    traits=Traits(space="local", channels="own", sharing=("positions", "groups")),
    probed_at=Dims(B=1, C=4, T=7, K=3, M=2),
)


def reference(x: Tensor, kernel: Tensor, before: int | None = None) -> Tensor:
    """y[b,c,i] = Σ_k kernel[⌊cM/C⌋, k] · x[b, c, i+k−p].

    x [B, C, T], zero outside the sequence; kernel [M, K], normalised; p, ``before``, how many taps come
    before a position, ⌊K/2⌋ unless it is given, K−1 in a causal convolution; y [B, C, T].
    """
    B, C, T = x.shape
    M, K = kernel.shape
    p = K // 2 if before is None else before
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, 1).reshape(B, M, C // M, T, K)
    return torch.einsum("mk,bmdtk->bmdt", kernel, taps).reshape(B, C, T)


def module_reference(
    x: Tensor, weight: Tensor, *, before: int | None = None, border: str = "zeros"
) -> Tensor:
    """y[b,c,i] = Σ_k softmax_k(weight[⌊cM/C⌋, k]) · x[b, c, i+k−p].

    x [B, C, T], zero outside the sequence; weight [M, K]; p, ``before``, as in the core; the softmax is over
    all K taps, with ``border="renormalised"`` over those in the sequence; y [B, C, T].
    """
    B, C, T = x.shape
    M, K = weight.shape
    p = K // 2 if before is None else before
    logits = weight.unsqueeze(1).expand(M, T, K)
    if border == "renormalised":
        inside = F.pad(torch.ones_like(x[0, 0]), (p, K - 1 - p)).unfold(0, K, 1)  # [T, K]
        logits = logits.masked_fill(inside == 0, -torch.inf)
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, 1).reshape(B, M, C // M, T, K)
    return torch.einsum("mtk,bmdtk->bmdt", logits.softmax(2), taps).reshape(B, C, T)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"x": activation(d.B, d.C, d.T), "kernel": parameter(d.M, d.K, fan_in=d.K)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {"x": activation(d.B, d.C, d.T), "weight": parameter(d.M, d.K)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.T


def cost(d: Dims) -> Cost:
    """K·C multiply-adds per position."""
    return Cost(
        params=d.M * d.K,
        macs=d.B * d.C * d.T * d.K,
        macs_in_bounds=d.B * d.C * taps_in_sequence(d),
        elements_read=d.B * d.C * d.T + d.M * d.K,
        elements_written=d.B * d.C * d.T,
    )


def module_cost(d: Dims) -> Cost:
    """Count the core and the softmax: one exp, add and divide per weight, or per tap if renormalised."""
    weights = d.M * (taps_in_sequence(d) if d.get("border") == "renormalised" else d.K)
    return replace(cost(d), elementwise=2 * weights, transcendental=weights)


BIG = "LightConv for WMT, big, Wu et al. 2019, section 5: kernels of 3 to 31 taps, 16 heads; 64 tokens"
BASE = "LightConv for WMT as released (fairseq's lightconv_wmt_en_de), 8 heads; 128 tokens"
IWSLT = "LightConv for IWSLT as released (fairseq's lightconv_iwslt_de_en), 4 heads; 32 tokens"
LITE = "Lite Transformer as released for WMT (mit-han-lab/lite-transformer): 248 channels, 4 heads; 32 tokens"
WORKLOADS = [
    Workload("lightconv_wmt_big/encoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="centred"), BIG),
    Workload("lightconv_wmt_big/encoder_k3", Dims(B=1, C=1024, T=64, M=16, K=3, direction="centred"), BIG),
    Workload("lightconv_wmt_big/decoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="causal"), BIG),
    Workload("lightconv_wmt/encoder_k15", Dims(B=1, C=512, T=128, M=8, K=15, direction="centred"), BASE),
    Workload("lightconv_iwslt/encoder_k7", Dims(B=1, C=512, T=32, M=4, K=7, direction="centred"), IWSLT),
    Workload("lite_transformer/encoder_k7", Dims(B=1, C=248, T=32, M=4, K=7, direction="centred"), LITE),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 7, 15, 31, 63), T=(64, 256, 1024), M=(1, 4, 16, 64, 1024))
RENORMALISED = Workload(
    "lightconv_wmt_big/encoder_k31_renormalised", WORKLOADS[0].dims.replace(border="renormalised"), BIG
)
# More steps than the dense matrix is preferred for.
LONG = Dims(B=2, C=4, T=66, K=3, M=2)

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=dynamic_conv1d.domain,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=(*SEQUENCES, LONG),
    polynomial=True,
)
module = operator.scope(
    "module",
    reference=module_reference,
    inputs=module_inputs,
    output=output,
    cost=module_cost,
    options=lambda d: {name: value for name, value in module_options(d).items() if name != "heads"},
    domain=dynamic_conv1d.domain,
    workloads=[*WORKLOADS, *SWEPT, RENORMALISED],
    proof_dims=(
        *SEQUENCES,
        LONG,
        Dims(B=2, C=4, T=7, K=5, M=2, border="renormalised"),
        Dims(B=2, C=4, T=3, K=4, M=2, border="renormalised"),
        Dims(B=2, C=6, T=6, K=4, M=3, direction="causal", border="renormalised"),
        Dims(B=2, C=4, T=4, K=7, M=2, direction="causal", border="renormalised"),
    ),
)


@core.implementation("authors", counted=band_macs, counted_because=DENSE)
def authors(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Multiply by a dense matrix per head and image with the kernel along its diagonals, as fairseq does."""
    return dynamic_conv1d.band(x, at_every_position(kernel, x), before)


@core.implementation("column")
def column(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Repeat the kernels for the channels of their head, then one depthwise convolution."""
    weight = kernel.repeat_interleave(x.shape[1] // len(kernel), 0)
    return depthwise_conv1d.column(x, weight, stride=1, before=before)


@core.implementation("merged")
def merged(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Put the channels of a head into the batch, then one depthwise convolution with a channel per head."""
    B, C, T = x.shape
    M = len(kernel)
    channels = x.reshape(B, M, C // M, T).transpose(1, 2).reshape(-1, M, T)
    mixed = depthwise_conv1d.column(channels, kernel, stride=1, before=before)
    return mixed.reshape(B, C // M, M, T).transpose(1, 2).reshape(B, C, T)


@core.implementation("unfold")
def unfold(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Gather the K taps of every position, then one product of a matrix and a vector per head."""
    B, C, T = x.shape
    M, K = kernel.shape
    taps = F.pad(x, (before, K - 1 - before)).unfold(2, K, 1).reshape(B, M, -1, K)
    return (taps @ kernel.unsqueeze(2)).reshape(B, C, T)


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Add up shifted copies of the padded sequence, one tap at a time."""
    return dynamic_conv1d.shifted(x, kernel[None, :, :, None], before)


# Measured on an AMD EPYC with AVX-512, 512 and 1024 channels, 3 to 31 taps: up to about so many steps the
# dense matrix, though mostly zeros, is faster than a depthwise convolution.
SHORT_SEQUENCE = 64


def fastest_macs(d: Dims) -> int:
    """Count what the fastest form computes by products."""
    if d.get("border") == "renormalised":
        return auto_macs(d)
    return band_macs(d) if d.T <= SHORT_SEQUENCE else cost(d).macs


@core.implementation("auto", preferred=True, counted=fastest_macs, counted_because=DENSE_OR_ELEMENTWISE)
def auto(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Choose between the dense matrix and the convolution by the length of the sequence."""
    return (authors if x.shape[2] <= SHORT_SEQUENCE else column)(x, kernel, before)


def refused_by_authors(d: Dims) -> str | None:
    """Say why the released module cannot take these dimensions, or return None."""
    if d.get("border") == "renormalised":
        return "it takes the softmax over all taps, also those beyond the ends"
    return None


@module.implementation("authors", counted=band_macs, counted_because=DENSE, supports=refused_by_authors)
def module_authors(x: Tensor, weight: Tensor, *, before: int, border: str) -> Tensor:
    """Normalise the kernels, then multiply by a dense matrix per head and image."""
    return authors(x, weight.softmax(1), before)


@module.implementation("auto", preferred=True, counted=fastest_macs, counted_because=DENSE_OR_ELEMENTWISE)
def module_auto(x: Tensor, weight: Tensor, *, before: int, border: str) -> Tensor:
    """Normalise the kernels and mix as the core does; renormalised, kernels differ by position."""
    if border == "renormalised":
        return dynamic_conv1d.auto(x, renormalised(weight, x, before), before)
    return auto(x, weight.softmax(1), before)


@module.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def module_shifted(x: Tensor, weight: Tensor, *, before: int, border: str) -> Tensor:
    """Normalise the kernels, then add up shifted copies."""
    if border == "renormalised":
        return dynamic_conv1d.shifted(x, renormalised(weight, x, before), before)
    return shifted(x, weight.softmax(1), before)


def at_every_position(kernel: Tensor, x: Tensor) -> Tensor:
    """Expand kernels [M, K] to those of a dynamic convolution of x [B, C, T], [B, M, K, T]."""
    B, _, T = x.shape
    return kernel[None, :, :, None].expand(B, -1, -1, T)


def renormalised(weight: Tensor, x: Tensor, before: int) -> Tensor:
    """Normalise the weights [M, K] over the taps inside of every position of x [B, C, T], [B, M, K, T]."""
    kernels = dynamic_conv1d.normalise(at_every_position(weight, x[:1]), before, "renormalised")
    return kernels.expand(len(x), -1, -1, -1)
