"""Transformer, LightConv and DynamicConv for WMT English to German, in their big configuration.

Vaswani et al., NeurIPS 2017 (arXiv 1706.03762), table 3; Wu et al., ICLR 2019 (arXiv 1901.10430), section 4;
layers as in fairseq's models of these names: a joint vocabulary of 32768 whose embedding is also the last
layer, 1024 channels, hidden layers of 4096, 16 heads, sinusoidal positions. A block of LightConv or
DynamicConv is a linear layer to twice the channels, a gated linear unit, the convolution, a linear layer; the
ablation of the latter paper leaves the unit out, and starts from depthwise convolution.
"""

from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Network, Term

from .parts import activate, add, layer_norm, linear
from .printed import printed_params

TRANSFORMER = "Vaswani et al. 2017, NeurIPS, arXiv 1706.03762, table 3"
WU = "Wu et al. 2019, ICLR, arXiv 1901.10430, section 4"
WIDTH, HIDDEN, HEADS, VOCABULARY = 1024, 4096, 16, 32768
# Taps of the layers, of encoder and decoder.
ENCODER, DECODER = (3, 7, 15, 31, 31, 31, 31), (3, 7, 15, 31, 31, 31)
TOKENS = 64


def feed_forward(net: Blueprint, x: Tensor) -> Tensor:
    """Lay the two linear layers, the shortcut and the norm."""
    hidden = activate(net, linear(net, "ffn_in", x, HIDDEN))
    return layer_norm(net, add(net, linear(net, "ffn_out", hidden, WIDTH), x))


def attend(net: Blueprint, x: Tensor) -> Tensor:
    """Lay self-attention, the shortcut and the norm."""
    return layer_norm(net, add(net, net.layer("self_attention", "", x, M=HEADS), x))


def attend_to_source(net: Blueprint, x: Tensor) -> Tensor:
    """Lay attention to the encoder's output, of as many tokens; the products of two linear layers a side."""
    for role in ("cross_q", "cross_k", "cross_v"):
        y = linear(net, role, x, WIDTH)
    tokens = x.shape[3]
    net.other("cross_attention", macs=2 * tokens**2 * WIDTH, elementwise=4 * tokens**2 * HEADS)
    return layer_norm(net, add(net, linear(net, "cross_out", y, WIDTH), x))


def convolve(net: Blueprint, x: Tensor, operator: str, K: int, direction: str, glu: bool) -> Tensor:
    """Lay a block of LightConv, DynamicConv or depthwise convolution, the shortcut and the norm."""
    y = linear(net, "conv_in", x, 2 * WIDTH if glu else WIDTH)
    if glu:
        net.other("gated_linear_unit", elementwise=2 * x.numel())
    row = y[:, :WIDTH].squeeze(2)
    letters: dict[str, Any] = {} if operator == "depthwise_conv1d" else {"M": HEADS}
    y = net.layer(operator, f"k{K}", row, K=K, direction=direction, **letters).unsqueeze(2)
    return layer_norm(net, add(net, linear(net, "conv_out", y, WIDTH), x))


def embed(net: Blueprint) -> Tensor:
    """Look up the tokens, whose positions are sinusoids."""
    return net.input(WIDTH, 1, TOKENS)


def predict(net: Blueprint, x: Tensor) -> None:
    """Lay the last layer, whose weights are the embedding's."""
    with net.stage("head"):
        linear(net, "vocabulary", x, VOCABULARY, bias=False)


def transformer(net: Blueprint) -> None:
    """Lay the big Transformer for sentences of 64 tokens."""
    x = embed(net)
    with net.stage("encoder"):
        for _ in range(6):
            x = feed_forward(net, attend(net, x))
    with net.stage("decoder"):
        for _ in range(6):
            x = feed_forward(net, attend_to_source(net, attend(net, x)))
    predict(net, x)


def convolutional(net: Blueprint, operator: str, glu: bool = True, taps: int | None = None) -> None:
    """Lay a big network of convolutions for sentences of 64 tokens, of ``taps`` in every layer if given."""
    x = embed(net)
    with net.stage("encoder"):
        for K in [taps or K for K in ENCODER]:
            x = feed_forward(net, convolve(net, x, operator, K, "centred", glu))
    with net.stage("decoder"):
        for K in [taps or K for K in DECODER]:
            x = convolve(net, x, operator, K, "causal", glu)
            x = feed_forward(net, attend_to_source(net, x))
    predict(net, x)


WITHOUT = "without the gated linear units, as in the paper's ablation"
NETWORKS = [
    Network("transformer_wmt_big", TRANSFORMER, transformer),
    Network("lightconv_wmt_big", WU, partial(convolutional, operator="lightweight_conv1d")),
    Network("dynamicconv_wmt_big", WU, partial(convolutional, operator="dynamic_conv1d")),
    Network(
        "lightconv_wmt_big_no_glu",
        WU,
        partial(convolutional, operator="lightweight_conv1d", glu=False),
        note=WITHOUT,
    ),
    Network(
        "dynamicconv_wmt_big_no_glu",
        WU,
        partial(convolutional, operator="dynamic_conv1d", glu=False),
        note=WITHOUT,
    ),
    Network(
        "depthwise_wmt_big", WU, partial(convolutional, operator="depthwise_conv1d", glu=False), note=WITHOUT
    ),
    Network(
        "depthwise_wmt_big_k3",
        WU,
        partial(convolutional, operator="depthwise_conv1d", glu=False, taps=3),
        note=f"{WITHOUT}, with three taps in every layer",
    ),
]

PAPER = "Wu et al. 2019, ICLR, arXiv 1901.10430, tables 1 and 3"
FIGURES = [
    printed_params("transformer_wmt_big", "210 M", PAPER, verified=False),
    printed_params("depthwise_wmt_big_k3", "195 M", PAPER, verified=False),
    printed_params("depthwise_wmt_big", "195 M", PAPER, verified=False),
    printed_params("lightconv_wmt_big_no_glu", "195 M", PAPER, verified=False),
    printed_params("dynamicconv_wmt_big_no_glu", "200 M", PAPER, verified=False),
    printed_params("dynamicconv_wmt_big", "213 M", PAPER, verified=False),
    printed_params(
        "lightconv_wmt_big",
        "202 M",
        PAPER,
        Term("gated linear units in the encoder alone", lambda _: -len(DECODER) * (WIDTH**2 + WIDTH)),
        verified=False,
    ),
]
