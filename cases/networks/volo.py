"""VOLO: outlook attention at 28×28, then self-attention at 14×14, then two layers for the class token.

Yuan et al., VOLO: Vision Outlooker for Visual Recognition, 2021 (arXiv 2106.13112), section 3 and table 2;
the stem, the biases and the dense head as in the authors' code (sail-sg/volo, models/volo.py). Any mixing
operator may take the place of outlook attention.
"""

from functools import partial

import torch
from torch import Tensor

from harness import Blueprint, Network

from .mixers import mix
from .parts import BATCH_NORM, LAYER_NORM, add, conv, conv_norm, layer_norm, linear, mlp
from .printed import FVCORE, TIMM, elementwise, printed_macs, printed_params

SOURCE = "Yuan et al. 2021, arXiv 2106.13112, table 2"
# Layers of outlook and of self-attention; channels and heads of the former, twice as many in the latter.
SIZES = {"d1": (4, 14, 192, 6), "d2": (6, 18, 256, 8)}
RATIO = 3


def stem(net: Blueprint, C: int) -> Tensor:
    """Lay three convolutions of 64 channels at half the image, and patches of 4×4 of their map."""
    with net.stage("stem"):
        x = conv_norm(net, "first", net.input(3, 224, 224), 64, 7, 2)
        for _ in range(2):
            x = conv_norm(net, "k3", x, 64, 3)
        return conv(net, "patches", x, C, 4, 4, padding=0, bias=True)


def attend_class(net: Blueprint, x: Tensor, heads: int) -> Tensor:
    """Lay a layer in which the class token, first of the row, attends to all tokens and passes an MLP."""
    C, tokens = x.shape[1], x.shape[3]
    normed = layer_norm(net, x)
    linear(net, "class_kv", normed, 2 * C, bias=False)
    linear(net, "class_q", normed[..., :1], C, bias=False)
    net.other("class_attention", macs=2 * tokens * C, elementwise=4 * tokens * heads)
    token = add(net, linear(net, "class_out", normed[..., :1], C), x[..., :1])
    return torch.cat([mlp(net, token, RATIO), x[..., 1:]], dim=3)


def volo(net: Blueprint, outlookers: int, attentions: int, C: int, heads: int) -> None:
    """Lay a VOLO for images of 224×224."""
    x = stem(net, C)
    with net.stage("stage1"):
        for _ in range(outlookers):
            y = mix(net, "", layer_norm(net, x), "outlook_attention", 3, K=3, M=heads, stride=2)
            x = mlp(net, add(net, y, x), RATIO)
    with net.stage("stage2"):
        x = conv(net, "patches", x, 2 * C, 2, 2, padding=0, bias=True)
        net.other("position_embedding", ((2 * C, *x.shape[2:]),), elementwise=x.numel())
        for _ in range(attentions):
            y = net.layer("self_attention", "", layer_norm(net, x), M=2 * heads, bias="proj")
            x = mlp(net, add(net, y, x), RATIO)
    with net.stage("head"):
        net.other("class_token", ((2 * C,),))
        row = torch.cat([x.new_empty(1, 2 * C, 1), x.flatten(2)], dim=2).unsqueeze(2)
        for _ in range(2):
            row = attend_class(net, row, 2 * heads)
        row = layer_norm(net, row)
        linear(net, "classifier", row[..., :1], 1000)
        linear(net, "dense_classifier", row[..., 1:], 1000)


NETWORKS = [
    Network(
        f"volo_{name}",
        SOURCE,
        partial(volo, outlookers=size[0], attentions=size[1], C=size[2], heads=size[3]),
        mixes=True,
    )
    for name, size in SIZES.items()
]
README = "sail-sg/volo, README.md"
FIGURES = [
    printed_params("volo_d1", "27 M", README),
    printed_params("volo_d2", "59 M", README),
    printed_macs(
        "volo_d1",
        "6.94 G",
        TIMM,
        elementwise("volo_d1", f"batch norms, two operations an element, {FVCORE}", BATCH_NORM),
        elementwise("volo_d1", f"layer norms, five operations an element, {FVCORE}", LAYER_NORM),
    ),
]
