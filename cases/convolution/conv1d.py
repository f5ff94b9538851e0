"""Convolution over a sequence: one learned kernel of K taps, the same at every position.

Waibel et al., Phoneme Recognition Using Time-Delay Neural Networks, IEEE Trans. ASSP 37(3), 1989, section
II; with groups of channels as in two dimensions, and as in every framework the kernel is not flipped. With
``direction="centred"`` an even kernel reaches one further back; with ``direction="causal"`` no tap lies after
its position, as in van den Oord et al., WaveNet, 2016 (arXiv 1609.03499), section 2.1. A stride s keeps every
s-th position from the first on.

Released code calls the framework's convolution over sequences, ``authors`` here; it computes the formula
where its padding, the same on both sides, does, else after an explicit padding. The bias is left out.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Cost, Dims, Operator, Spec, Traits, Workload, activation, parameter, sweep

from . import depthwise_conv1d
from .depthwise_conv1d import pad, taps_before, taps_in_sequence

operator = Operator(
    "conv1d",
    family="convolution",
    source="Waibel et al. 1989, IEEE Trans. ASSP 37(3), section II",
    traits=Traits(space="local", channels="all", sharing=("positions",)),
    probed_at=Dims(B=1, C=4, Co=6, T=7, K=3, G=1),
)


def reference(x: Tensor, weight: Tensor, stride: int = 1, before: int | None = None) -> Tensor:
    """y[b,o,i] = Σ_ck weight[o,c,k] · x[b, ⌊oG/Co⌋·C/G + c, i·s+k−p].

    x [B, C, T], zero outside the sequence; weight [Co, C/G, K]; s the stride; p, ``before``, how many taps
    come before a position, ⌊K/2⌋ unless it is given, K−1 in a causal convolution; y [B, Co, ⌈T/s⌉].
    """
    B, C = x.shape[:2]
    Co, C_group, K = weight.shape
    G = C // C_group
    p = K // 2 if before is None else before
    taps = F.pad(x, (p, K - 1 - p)).unfold(2, K, stride)  # [B, C, ⌈T/s⌉, K]
    grouped = taps.reshape(B, G, C_group, *taps.shape[2:])
    kernels = weight.reshape(G, Co // G, C_group, K)
    return torch.einsum("bgctk,gock->bgot", grouped, kernels).reshape(B, Co, taps.shape[2])


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the inputs."""
    fan_in = d.C // d.G * d.K
    return {
        "x": activation(d.B, d.C, d.T),
        "weight": parameter(d.Co, d.C // d.G, d.K, fan_in=fan_in),
    }


def options(d: Dims) -> Mapping[str, int]:
    """Stride, one unless the workload names it, and the taps before a position."""
    return {"stride": d.get("stride", 1), "before": taps_before(d)}


def domain(d: Dims) -> str | None:
    """Refuse groups of unequal size and unknown directions; kernels may be even, and longer than x."""
    if d.C % d.G or d.Co % d.G:
        return f"{d.G} groups cannot share {d.C} channels and {d.Co} outputs evenly: choose a divisor of both"
    return depthwise_conv1d.domain(d)


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the output."""
    return d.B, d.Co, -(-d.T // d.get("stride", 1))


def cost(d: Dims) -> Cost:
    """K·C/G multiply-adds per output."""
    weights = d.Co * (d.C // d.G) * d.K
    B, Co, steps = output(d)
    return Cost(
        params=weights,
        macs=B * steps * weights,
        macs_in_bounds=B * Co * (d.C // d.G) * taps_in_sequence(d),
        elements_read=B * d.C * d.T + weights,
        elements_written=B * Co * steps,
    )


FCONV = "fconv_wmt_en_de as released (fairseq), after Gehring et al. 2017, arXiv 1705.03122; 64 tokens"
WHISPER = (
    "Whisper tiny, Radford et al. 2022, arXiv 2212.04356, section 2.2: 80 mel channels, 30 s, 10 ms a step"
)
WAV2VEC = (
    "wav2vec 2.0, Baevski et al. 2020, arXiv 2006.11477, section 4.2: the encoder's second layer, 1 s of "
    "sound at 16 kHz; its border is padded here and cut there"
)
WORKLOADS = [
    Workload("fconv_wmt/encoder1", Dims(B=1, C=512, Co=1024, T=64, K=3, G=1, direction="centred"), FCONV),
    Workload("fconv_wmt/encoder11", Dims(B=1, C=1024, Co=2048, T=64, K=3, G=1, direction="centred"), FCONV),
    Workload("fconv_wmt/decoder1", Dims(B=1, C=512, Co=1024, T=64, K=3, G=1, direction="causal"), FCONV),
    Workload("whisper_tiny/stem1", Dims(B=1, C=80, Co=384, T=3000, K=3, G=1, direction="centred"), WHISPER),
    Workload(
        "whisper_tiny/stem2_down",
        Dims(B=1, C=384, Co=384, T=3000, K=3, G=1, direction="centred", stride=2),
        WHISPER,
    ),
    Workload(
        "wav2vec2/encoder2_down",
        Dims(B=1, C=512, Co=512, T=3199, K=3, G=1, direction="centred", stride=2),
        WAV2VEC,
    ),
]
SWEPT = sweep(WORKLOADS[0], K=(1, 3, 7, 15, 31), G=(1, 4, 16, 64, 512), T=(64, 256, 1024))

core = operator.scope(
    "core",
    reference=reference,
    inputs=inputs,
    output=output,
    cost=cost,
    options=options,
    domain=domain,
    workloads=[*WORKLOADS, *SWEPT],
    proof_dims=[d.replace(C=4, Co=6, G=2) for d in depthwise_conv1d.PROOF_DIMS],
    polynomial=True,
)


@core.implementation("authors", preferred=True)
def authors(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Call the framework's convolution over sequences."""
    padded, padding = pad(x, weight.shape[2], before)
    groups = x.shape[1] // weight.shape[1]
    return F.conv1d(padded, weight, stride=stride, padding=padding, groups=groups)


@core.implementation("unfold")
def unfold(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Gather the K taps of every position into columns, then one matrix product per group."""
    B, C = x.shape[:2]
    Co, C_group, K = weight.shape
    G = C // C_group
    taps = F.pad(x, (before, K - 1 - before)).unfold(2, K, stride)
    columns = taps.transpose(2, 3).reshape(B, G, C_group * K, -1)
    kernels = weight.reshape(G, Co // G, -1).expand(B, -1, -1, -1)
    return (kernels @ columns).reshape(B, Co, -1)


@core.implementation("shifted")
def shifted(x: Tensor, weight: Tensor, stride: int, before: int) -> Tensor:
    """Add up one product of matrices per tap, on shifted views of the padded sequence."""
    B, C, T = x.shape
    Co, C_group, K = weight.shape
    G, steps = C // C_group, -(-T // stride)
    padded = F.pad(x, (before, K - 1 - before)).reshape(B, G, C_group, T + K - 1)
    kernels = weight.reshape(G, Co // G, C_group, K).unbind(3)
    total = x.new_zeros(B, G, Co // G, steps)
    for k, kernel in enumerate(kernels):
        total += kernel.expand(B, -1, -1, -1) @ padded[..., k : k + stride * steps : stride]
    return total.reshape(B, Co, steps)
