"""Pyramid Vision Transformer: attention to a map that is reduced by 8, 4, 2 and 1.

Wang et al., ICCV 2021 (arXiv 2102.12122), section 3 and table 1. The last stage, at 7×7, has a class token
beside its 49 positions; it is laid as a row of 50 tokens. Position embeddings are learned, one per stage.
"""

from functools import partial

import torch
from torch import Tensor

from harness import Blueprint, Network

from .parts import add, conv, layer_norm, linear, mlp
from .printed import printed_macs, printed_params

SOURCE = "Wang et al. 2021, ICCV, arXiv 2102.12122, table 1"
DEPTHS = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
WIDTHS, HEADS, RATIOS, REDUCTIONS = (64, 128, 320, 512), (1, 2, 5, 8), (8, 8, 4, 4), (8, 4, 2, 1)


def attend(net: Blueprint, role: str, x: Tensor, heads: int, reduction: int) -> Tensor:
    """Lay attention to the reduced map, or to all positions where nothing is reduced."""
    if reduction == 1:
        return net.layer("self_attention", role, x, M=heads)
    return net.layer("spatial_reduction_attention", role, x, M=heads, R=reduction)


def pvt(net: Blueprint, depths: tuple[int, ...]) -> None:
    """Lay a Pyramid Vision Transformer for images of 224×224."""
    x = net.input(3, 224, 224)
    last = len(depths) - 1
    for place, depth in enumerate(depths):
        C, patch = WIDTHS[place], 2 if place else 4
        with net.stage(f"stage{place + 1}"):
            x = layer_norm(net, conv(net, "patches", x, C, patch, patch, padding=0, bias=True))
            if place == last:
                net.other("class_token", ((C,),))
                x = torch.cat([x.flatten(2), x.new_empty(1, C, 1)], dim=2).unsqueeze(2)
            positions = x.shape[2] * x.shape[3]
            net.other("position_embedding", ((positions, C),), elementwise=positions * C)
            for _ in range(depth):
                y = attend(net, "", layer_norm(net, x), HEADS[place], REDUCTIONS[place])
                x = add(net, y, x)
                x = mlp(net, x, RATIOS[place])
    token = layer_norm(net, x)[..., :1]
    with net.stage("head"):
        linear(net, "classifier", token, 1000)


NETWORKS = [Network(f"pvt_{size}", SOURCE, partial(pvt, depths=depths)) for size, depths in DEPTHS.items()]
README = "whai362/PVT, classification/README.md"
PAPER = "Wang et al. 2021, ICCV, arXiv 2102.12122, table 1"
PRINTED = {
    "tiny": ("13.2 M", "1.9 G"),
    "small": ("24.5 M", "3.8 G"),
    "medium": ("44.2 M", "6.7 G"),
    "large": ("61.4 M", "9.8 G"),
}
FIGURES = [
    figure
    for size, (params, macs) in PRINTED.items()
    for figure in (
        printed_params(f"pvt_{size}", params, README),
        printed_macs(f"pvt_{size}", macs, PAPER, verified=False),
    )
]
