"""Dynamic convolution over a sequence: every position has kernels of its own, one for each head.

Wu et al., Pay Less Attention with Lightweight and Dynamic Convolutions, ICLR 2019 (arXiv 1901.10430),
section 4, whose time, width d, taps k and heads H are T, C, K and M here. A linear layer on a position gives
K logits for each head, and a softmax over the taps makes them that head's kernel there. It is no relative of
the dynamic convolution over maps of Chen et al. 2020, which mixes a few kernels for a whole image.

By default, ``border="zeros"``, the softmax is taken over all taps, also those beyond the ends of the
sequence, where x is zero: the weights that are left sum to less than one there. With
``border="renormalised"`` taps beyond the ends take no part in it.

What fairseq (facebookresearch/fairseq, fairseq/modules/dynamic_convolution.py) does:

* ``DynamicConv1dTBC``, ``authors`` here, has two ways, and takes the first for up to 512 steps: ``band``, a
  dense matrix T×(T+K−1) per head with the kernels along its diagonals, of which T columns are multiplied,
  so that time and memory grow with T²; and ``unfold``, all taps gathered. Here both read [B, C, T].
* It renormalises in the first way only; in the second an assertion stops it, and its CUDA layer ignores the
  option without a word.
* In a causal convolution of fewer steps than taps the second way leaves out the taps before the sequence
  ahead of the softmax, the first way after it: they are different functions (with K = 7 and four steps they
  differ by 0.6), and decoding step by step agrees with the first. So a model trained by one is run by
  another on short sentences. Here both keep those taps.
* Since October 2022 fairseq's LightConv model imports ``DynamicConv_scripatable``, which has the second way
  alone, and registers an uninitialised bias of the convolution also where none is asked for.
* Its CUDA kernel takes 3, 5, 7, 15, 31, 63, 127 or 255 taps, centred or causal; for all else it prints a
  warning and returns zeros.
* For an even kernel the model hands the layer a pair of paddings, for which the layer stops.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, generated, parameter, sweep

from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_before, taps_in_sequence

operator = Operator(
    "dynamic_conv1d",
    family="dynamic",
    source="Wu et al. 2019, ICLR, arXiv 1901.10430, section 4",
    traits=Traits(space="local", channels="own", sharing=("groups",), dynamic="per position", degree=2),
    probed_at=Dims(B=1, C=4, T=7, K=3, M=2),
)


def reference(x: Tensor, kernel: Tensor, before: int | None = None) -> Tensor:
    """y[b,c,i] = Σ_k kernel[b, ⌊cM/C⌋, k, i] · x[b, c, i+k−p].

    x [B, C, T], zero outside the sequence; kernel [B, M, K, T]; p, ``before``, how many taps come before a
    position, ⌊K/2⌋ unless it is given, K−1 in a causal convolution; y [B, C, T].
    """
    B, C, T = x.shape
    M, K = kernel.shape[1:3]
    p = K // 2 if before is None else before
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, 1).reshape(B, M, C // M, T, K)
    return torch.einsum("bmkt,bmdtk->bmdt", kernel, taps).reshape(B, C, T)


def module_reference(
    x: Tensor, weight: Tensor, *, heads: int, before: int | None = None, border: str = "zeros"
) -> Tensor:
    """y[b,c,i] = Σ_k softmax_k(Σ_e weight[mK+k, e] · x[b,e,i]) · x[b, c, i+k−p], m = ⌊cM/C⌋.

    x [B, C, T], zero outside the sequence; weight [M·K, C]; p, ``before``, as in the core; the softmax is
    over all K taps, with ``border="renormalised"`` over those in the sequence; y [B, C, T].
    """
    B, C, T = x.shape
    M, K = heads, weight.shape[0] // heads
    p = K // 2 if before is None else before
    logits = torch.einsum("oc,bct->bot", weight, x).reshape(B, M, K, T)
    if border == "renormalised":
        inside = F.pad(torch.ones_like(x[0, 0]), (p, K - 1 - p)).unfold(0, K, 1)  # [T, K]
        logits = logits.masked_fill(inside.t() == 0, -torch.inf)
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, 1).reshape(B, M, C // M, T, K)
    return torch.einsum("bmkt,bmdtk->bmdt", logits.softmax(2), taps).reshape(B, C, T)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the core's inputs."""
    return {"x": activation(d.B, d.C, d.T), "kernel": generated(d.B, d.M, d.K, d.T, softmax=2)}


def module_inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the module's inputs."""
    return {"x": activation(d.B, d.C, d.T), "weight": parameter(d.M * d.K, d.C, fan_in=d.C)}


def options(d: Dims) -> Mapping[str, int]:
    """Count the taps before a position."""
    return {"before": taps_before(d)}


def module_options(d: Dims) -> Mapping[str, int | str]:
    """Heads, the taps before a position, and the border: ``zeros`` unless the workload says otherwise."""
    return {"heads": d.M, **options(d), "border": d.get("border", "zeros")}


def domain(d: Dims) -> str | None:
    """Refuse heads of unequal width, unknown directions and borders; kernels may be even or longer than x."""
    if d.C % d.M:
        return f"{d.C} channels do not form {d.M} heads of one width: choose M as a divisor of C"
    if d.get("border", "zeros") not in ("zeros", "renormalised"):
        return f"no border is called {d.border!r}: name 'zeros' or 'renormalised'"
    return depthwise_conv1d.domain(d)


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output, of the core and of the module."""
    return d.B, d.C, d.T


def cost(d: Dims) -> Cost:
    """K·C multiply-adds per position; nothing is learned in the core."""
    return Cost(
        params=0,
        macs=d.B * d.C * d.T * d.K,
        macs_in_bounds=d.B * d.C * taps_in_sequence(d),
        elements_read=d.B * d.T * (d.C + d.M * d.K),
        elements_written=d.B * d.C * d.T,
    )


def module_cost(d: Dims) -> Cost:
    """K·C + C·M·K multiply-adds per position; softmax: one exp, add and divide per weight."""
    operation, generator = cost(d), generator_macs(d)
    taps = taps_in_sequence(d) if d.get("border") == "renormalised" else d.T * d.K
    return replace(
        operation,
        params=d.C * d.M * d.K,
        macs=operation.macs + generator,
        macs_in_bounds=(operation.macs_in_bounds or 0) + generator,
        elements_read=d.B * d.C * d.T + d.C * d.M * d.K,
        elementwise=2 * d.B * d.M * taps,
        transcendental=d.B * d.M * taps,
    )


def generator_macs(d: Dims) -> int:
    """Count the multiply-adds of the linear layer that generates the kernels."""
    return int(d.B * d.T * d.C * d.M * d.K)


BIG = "DynamicConv for WMT, big, Wu et al. 2019, section 5: kernels of 3 to 31 taps, 16 heads; 64 tokens"
BASE = "DynamicConv for WMT as released (fairseq's lightconv_wmt_en_de), 8 heads; 128 tokens"
IWSLT = "DynamicConv for IWSLT as released (fairseq's lightconv_iwslt_de_en), 4 heads; 32 tokens"
LITE = "Lite Transformer as released for WMT (mit-han-lab/lite-transformer): 248 channels, 4 heads; 32 tokens"
WORKLOADS = [
    Workload(
        "dynamicconv_wmt_big/encoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="centred"), BIG
    ),
    Workload("dynamicconv_wmt_big/encoder_k3", Dims(B=1, C=1024, T=64, M=16, K=3, direction="centred"), BIG),
    Workload("dynamicconv_wmt_big/decoder_k31", Dims(B=1, C=1024, T=64, M=16, K=31, direction="causal"), BIG),
    Workload("dynamicconv_wmt/encoder_k15", Dims(B=1, C=512, T=128, M=8, K=15, direction="centred"), BASE),
    Workload("dynamicconv_iwslt/encoder_k7", Dims(B=1, C=512, T=32, M=4, K=7, direction="centred"), IWSLT),
    Workload("lite_transformer/encoder_k7", Dims(B=1, C=248, T=32, M=4, K=7, direction="centred"), LITE),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 7, 15, 31, 63), T=(64, 256, 1024), M=(1, 4, 16, 64, 256))
RENORMALISED = Workload(
    "dynamicconv_wmt_big/encoder_k31_renormalised", WORKLOADS[0].dims.replace(border="renormalised"), BIG
)
# Those of the depthwise convolution, but for its strides; then one head, and one for each channel.
SEQUENCES = (
    *(
        d.replace(C=4, M=2)
        for d in depthwise_conv1d.PROOF_DIMS
        if "stride" not in d  # a kernel belongs to a position, and all positions have one
    ),
    Dims(B=2, C=3, T=6, K=3, M=1),
    Dims(B=2, C=3, T=5, K=3, M=3, direction="causal"),
    Dims(B=2, C=6, T=6, K=2, M=3, direction="causal"),
)
# More steps than fairseq multiplies by a matrix of all of them.
LONG = Dims(B=1, C=2, T=515, K=3, M=1)

ELEMENTWISE = "the taps are multiplied and added elementwise, which product counters do not see"
DENSE = "a dense matrix of T×T is multiplied, zeros and all"
DENSE_OR_ELEMENTWISE = f"{DENSE}; in long sequences of few taps {ELEMENTWISE}"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
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
    options=module_options,
    domain=domain,
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


@core.generator(inputs=lambda d: {"weight": parameter(d.M * d.K, d.C)})
def generated_linearly(d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
    """The kernels of one linear layer on every position."""
    return {"kernel": torch.einsum("oc,bct->bot", weight, x).reshape(d.B, d.M, d.K, d.T)}


# fairseq's DynamicConv1dTBC unfolds longer sequences.
LONGEST_BAND = 512
# Measured on two cores of an AMD EPYC with AVX-512, 512 and 1024 channels, 3 to 63 taps and 32 to 256 steps:
# up to about so many steps per tap the dense matrix, though mostly zeros, is faster than shifted copies.
STEPS_PER_TAP = 8


def band_macs(d: Dims) -> int:
    """Count the multiply-adds of a dense matrix T×T per head."""
    return int(d.B * d.C * d.T**2)


def authors_macs(d: Dims) -> int:
    """Count the multiply-adds of the band, or for long sequences of the taps alone."""
    return band_macs(d) if d.T <= LONGEST_BAND else cost(d).macs


def auto_macs(d: Dims) -> int:
    """Count the multiply-adds of the band, which long sequences of few taps do without."""
    return band_macs(d) if d.T <= STEPS_PER_TAP * d.K else 0


@core.implementation("authors", counted=authors_macs, counted_because=DENSE)
def authors(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Choose between band and unfold by the length of the sequence, as fairseq does."""
    return (band if x.shape[2] <= LONGEST_BAND else unfold)(x, kernel, before)


@core.implementation("band", counted=band_macs, counted_because=DENSE)
def band(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Multiply by a dense matrix per head that has the kernels along its diagonals."""
    return mix(x, along_diagonals(kernel, before))


@core.implementation("unfold")
def unfold(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """View all taps of every position, then one product of a matrix and a vector per position and head."""
    B, C, T = x.shape
    M, K = kernel.shape[1:3]
    padded = F.pad(x.permute(2, 0, 1), (0, 0, 0, 0, before, K - 1 - before))
    taps = padded.unfold(0, K, 1).reshape(T * B * M, C // M, K)
    mixed = taps.bmm(kernel.permute(3, 0, 1, 2).reshape(T * B * M, K, 1))
    return mixed.reshape(T, B, C).permute(1, 2, 0)


@core.implementation("shifted", counted=lambda d: 0, counted_because=ELEMENTWISE)
def shifted(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Add up shifted copies of the padded sequence, one tap at a time, without the copy of all taps."""
    B, C, T = x.shape
    M, K = kernel.shape[1:3]
    grouped = F.pad(x, (before, K - 1 - before)).reshape(B, M, C // M, T + K - 1)
    total = x.new_zeros(B, M, C // M, T)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    for k, weight in enumerate(kernel.unsqueeze(3).unbind(2)):
        total.addcmul_(grouped[..., k : k + T], weight)
    return total.reshape(B, C, T)


@core.implementation("auto", preferred=True, counted=auto_macs, counted_because=DENSE_OR_ELEMENTWISE)
def auto(x: Tensor, kernel: Tensor, before: int) -> Tensor:
    """Choose between band and shifted by the length of the sequence and the number of taps."""
    return (band if x.shape[2] <= STEPS_PER_TAP * kernel.shape[2] else shifted)(x, kernel, before)


def refused_by_authors(d: Dims) -> str | None:
    """Say why the released module cannot take these dimensions, or return None."""
    if d.T > LONGEST_BAND and d.get("border") == "renormalised":
        return f"it renormalises in sequences of up to {LONGEST_BAND} steps alone"
    return None


@module.implementation(
    "authors",
    counted=lambda d: generator_macs(d) + authors_macs(d),
    counted_because=DENSE,
    supports=refused_by_authors,
)
def module_authors(x: Tensor, weight: Tensor, *, heads: int, before: int, border: str) -> Tensor:
    """Generate the kernels, renormalised along the rows of the dense matrix, and mix as fairseq does."""
    logits = generate(x, weight, heads)
    if border == "renormalised":
        return mix(x, along_diagonals(logits, before, elsewhere=-torch.inf).softmax(2))
    return authors(x, logits.softmax(2), before)


@module.implementation("band", counted=lambda d: generator_macs(d) + band_macs(d), counted_because=DENSE)
def module_band(x: Tensor, weight: Tensor, *, heads: int, before: int, border: str) -> Tensor:
    """Generate the kernels, then multiply by a dense matrix per head that has them along its diagonals."""
    return band(x, normalise(generate(x, weight, heads), before, border), before)


@module.implementation("unfold")
def module_unfold(x: Tensor, weight: Tensor, *, heads: int, before: int, border: str) -> Tensor:
    """Generate the kernels, then view all taps of every position."""
    return unfold(x, normalise(generate(x, weight, heads), before, border), before)


@module.implementation("shifted", counted=generator_macs, counted_because=ELEMENTWISE)
def module_shifted(x: Tensor, weight: Tensor, *, heads: int, before: int, border: str) -> Tensor:
    """Generate the kernels, then add up shifted copies."""
    return shifted(x, normalise(generate(x, weight, heads), before, border), before)


@module.implementation(
    "auto",
    preferred=True,
    counted=lambda d: generator_macs(d) + auto_macs(d),
    counted_because=DENSE_OR_ELEMENTWISE,
)
def module_auto(x: Tensor, weight: Tensor, *, heads: int, before: int, border: str) -> Tensor:
    """Generate the kernels, then choose between band and shifted as the core does."""
    return auto(x, normalise(generate(x, weight, heads), before, border), before)


def generate(x: Tensor, weight: Tensor, heads: int) -> Tensor:
    """Compute the logits of the kernels [B, M, K, T] by the linear layer."""
    B, _, T = x.shape
    return weight.expand(B, -1, -1).bmm(x).reshape(B, heads, -1, T)


def normalise(logits: Tensor, before: int, border: str) -> Tensor:
    """Make kernels [B, M, K, T] of logits by a softmax over the taps, over those inside if renormalised."""
    if border == "renormalised":
        logits = logits.masked_fill(beyond_the_ends(logits, before), -torch.inf)
    return logits.softmax(2)


def beyond_the_ends(logits: Tensor, before: int) -> Tensor:
    """Tell which taps of which positions lie beyond the ends of the sequence, as booleans [K, T]."""
    K, T = logits.shape[-2:]
    places = torch.arange(K, device=logits.device)[:, None] + torch.arange(T, device=logits.device) - before
    return (places < 0) | (places >= T)


def along_diagonals(kernel: Tensor, before: int, elsewhere: float = 0.0) -> Tensor:
    """Lay kernels [B, M, K, T] along the diagonals of matrices [B·M, T, T], from position to tap."""
    return skewed(kernel, elsewhere).narrow(2, before, kernel.shape[3])


def skewed(kernel: Tensor, elsewhere: float = 0.0) -> Tensor:
    """Lay kernels [B, M, K, T] into matrices [B·M, T, T+K−1], every row one further right than the last."""
    B, M, K, T = kernel.shape
    wide = kernel.new_full((B * M, T, T + K - 1), elsewhere)
    # A step along the kernel is one column, a step in time one row down and one column to the right.
    diagonals = wide.as_strided((B * M, T, K), (T * (T + K - 1), T + K, 1))
    diagonals.copy_(kernel.reshape(B * M, K, T).mT)
    return wide


def mix(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply the positions of x [B, C, T] by the matrix of their head [B·M, T, T]."""
    B, C, T = x.shape
    return x.reshape(len(matrices), -1, T).bmm(matrices.mT).reshape(B, C, T)
