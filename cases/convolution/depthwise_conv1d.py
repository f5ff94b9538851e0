"""Depthwise convolution over a sequence: one learned kernel of K taps per channel.

Wu et al., Pay Less Attention with Lightweight and Dynamic Convolutions, ICLR 2019 (arXiv 1901.10430),
section 2, whose time comes first and whose width d and taps k are C and K here; the formula there is
``direction="centred"``, and an even kernel reaches one further back, as in it. With ``direction="causal"``
no tap lies after its position, as in their decoder. A stride s keeps every s-th position from the first on.

Released code (Conformer's, fairseq's) calls the framework's convolution over sequences, ``authors`` here; it
computes the formula where its padding, the same on both sides, does, else after an explicit padding.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

operator = Operator(
    "depthwise_conv1d",
    family="convolution",
    source="Wu et al. 2019, ICLR, arXiv 1901.10430, section 2",
    traits=Traits(space="local", channels="own", sharing=("positions",)),
    probed_at=Dims(B=1, C=3, T=7, K=3),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, before: int | None = None) -> Tensor:
    """y[b,c,i] = Σ_k weight[c,k] · x[b, c, i·s+k−p].

    x [B, C, T], zero outside the sequence; weight [C, K]; s the stride; p, ``before``, how many taps come
    before a position, ⌊K/2⌋ unless it is given, K−1 in a causal convolution; y [B, C, ⌈T/s⌉].
    """
    K = weight.shape[1]
    p = K // 2 if before is None else before
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, stride)  # [B, C, ⌈T/s⌉, K]
    return (taps * weight.unsqueeze(1)).sum(-1)


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs."""
    return {"x": activation(d.B, d.C, d.T), "weight": parameter(d.C, d.K, fan_in=d.K)}


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and the taps before a position."""
    return {"stride": d.get("stride", 1), "before": taps_before(d)}


def taps_before(d: Dims) -> int:
    """Count the taps before a position: ⌊K/2⌋, or all but one where the direction is ``causal``."""
    return int(d.K - 1 if d.get("direction") == "causal" else d.K // 2)


def domain(d: Dims) -> str | None:
    """Refuse unknown directions; kernels may be even, and longer than the sequence."""
    if d.get("direction", "centred") not in ("centred", "causal"):
        return f"no direction is called {d.direction!r}: name 'centred' or 'causal'"
    return None


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.C, -(-d.T // d.get("stride", 1))


def cost(d: Dims) -> Cost:
    """K multiply-adds per output."""
    B, C, steps = output(d)
    return Cost(
        params=C * d.K,
        macs=B * C * steps * d.K,
        macs_in_bounds=B * C * taps_in_sequence(d),
        elements_read=B * C * d.T + C * d.K,
        elements_written=B * C * steps,
    )


def taps_in_sequence(d: Dims) -> int:
    """Count, over the outputs of one channel, the taps that lie in the sequence."""
    starts = (position - taps_before(d) for position in range(0, d.T, d.get("stride", 1)))
    return sum(min(d.T, start + d.K) - max(0, start) for start in starts)


WU = "the depthwise baseline of Wu et al. 2019, section 6, with kernels of 3 to 31 taps; 64 tokens"
CONFORMER = "Conformer, Gulati et al. 2020, arXiv 2005.08100, table 1: kernels of 32 taps; 10 s, 40 ms a step"
QUARTZNET = (
    "QuartzNet 15×5, Kriman et al. 2020, arXiv 1910.10261, table 1: the first block; 10 s, 20 ms a step"
)
WORKLOADS = [
    Workload("depthwise_wmt_big/encoder_k31", Dims(B=1, C=1024, T=64, K=31, direction="centred"), WU),
    Workload("depthwise_wmt_big/encoder_k3", Dims(B=1, C=1024, T=64, K=3, direction="centred"), WU),
    Workload("depthwise_wmt_big/decoder_k31", Dims(B=1, C=1024, T=64, K=31, direction="causal"), WU),
    Workload("conformer_s/conv", Dims(B=1, C=144, T=250, K=32, direction="centred"), CONFORMER),
    Workload("conformer_l/conv", Dims(B=1, C=512, T=250, K=32, direction="centred"), CONFORMER),
    Workload("quartznet_15x5/block1", Dims(B=1, C=256, T=500, K=33, direction="centred"), QUARTZNET),
]
SWEPT = sweep(WORKLOADS[0], K=(3, 7, 15, 31, 63), T=(64, 256, 1024), stride=(2, 4))
# Odd and even kernels, both directions, strides, and sequences as long as the kernel and shorter.
PROOF_DIMS = (
    Dims(B=2, C=4, T=11, K=5),
    Dims(B=2, C=4, T=8, K=3, direction="causal"),
    Dims(B=2, C=3, T=4, K=7),
    Dims(B=2, C=3, T=2, K=5, direction="causal"),
    Dims(B=2, C=3, T=4, K=4),
    Dims(B=2, C=4, T=7, K=3, stride=2),
    Dims(B=2, C=4, T=9, K=2, stride=3, direction="causal"),
    Dims(B=2, C=3, T=1, K=3),
    Dims(B=3, C=2, T=5, K=1, stride=2),
)
# Where oneDNN's gradient of the weight is wrong if it is left to pad by itself.
LONG_KERNEL = Dims(B=1, C=3, T=46, K=33)

NO_PRODUCTS = "the taps are multiplied and added elementwise, which product counters do not see"
core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=(*PROOF_DIMS, LONG_KERNEL),
    polynomial=True,
    counted=lambda d: 0,
    counted_because=NO_PRODUCTS,
)


@core.implementation("authors")
def authors(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Call the framework's convolution over sequences with one group per channel."""
    padded, padding = pad(x, weight.shape[1], before)
    return F.conv1d(padded, weight.unsqueeze(1), stride=stride, padding=padding, groups=len(weight))


@core.implementation("column", preferred=True)
def column(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Call the framework's convolution of maps, the sequence being a column one wide.

    On the CPU it is several times as fast for long kernels, which oneDNN's depthwise convolution takes along
    a column only; along a row, which torch makes of a sequence, it falls back on matrix products.
    """
    K = weight.shape[1]
    # Left to oneDNN, as of torch 2.13, a padding of 15 or more gives wrong gradients of the weight at some
    # lengths, and writes beyond its memory.
    maps = F.pad(x, (before, K - 1 - before)).unsqueeze(3)
    kernels = weight.reshape(len(weight), 1, K, 1)
    return F.conv2d(maps, kernels, stride=(stride, 1), groups=len(weight)).squeeze(3)


@core.implementation("unfold")
def unfold(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Gather the K taps of every position, then one product of a matrix and a vector per channel."""
    K = weight.shape[1]
    taps = F.pad(x, (before, K - 1 - before)).unfold(2, K, stride)
    return (taps @ weight.unsqueeze(2)).squeeze(3)


@core.implementation("shifted", counted=lambda d: 0, counted_because=NO_PRODUCTS)
def shifted(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Add up shifted copies of the padded sequence, one tap at a time, without the copy of all taps."""
    B, C, T = x.shape
    K, steps = weight.shape[1], -(-T // stride)
    padded = F.pad(x, (before, K - 1 - before))
    total = x.new_zeros(B, C, steps)
    # Unbound at once, the taps get their gradients in one tensor; indexed, each would fill one of its own.
    for k, tap in enumerate(weight.unsqueeze(2).unbind(1)):
        total.addcmul_(padded[..., k : k + stride * steps : stride], tap)
    return total


def pad(x: Tensor, K: int, before: int) -> tuple[Tensor, int]:
    """Return x and its padding for a convolution, x itself padded where the two sides differ."""
    after = K - 1 - before
    return (x, before) if before == after else (F.pad(x, (before, after)), 0)
