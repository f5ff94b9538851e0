"""MobileNetV2: inverted residuals of a 1×1, a depthwise 3×3 and a 1×1 convolution.

Sandler et al., CVPR 2018 (arXiv 1801.04381), table 2. Widths are rounded to multiples of eight as in the
authors' code; the last convolution is never narrower than 1280 channels.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Network

from .parts import ConvNorm, add, classifier, conv_norm
from .printed import printed_macs, printed_params

SOURCE = "Sandler et al. 2018, CVPR, arXiv 1801.04381, table 2"
# Expansion, channels, blocks, stride of the first block.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def rounded(channels: float) -> int:
    """Round to the nearest multiple of eight, and up where that would take away more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def inverted(net: Blueprint, x: Tensor, expansion: int, Co: int, stride: int, layer: ConvNorm) -> Tensor:
    """Lay one inverted residual; the shortcut where the map keeps its shape."""
    hidden = expansion * x.shape[1]
    y = layer(net, "expand", x, hidden, 1) if expansion > 1 else x
    y = layer(net, "k3_down" if stride > 1 else "k3", y, hidden, 3, stride, hidden)
    y = layer(net, "project", y, Co, 1, relu=False)
    return add(net, x, y) if y.shape == x.shape else y


def blocks(width: float) -> Iterator[tuple[str, int, int, int]]:
    """List stage, expansion, channels and stride of every block."""
    for place, (expansion, channels, depth, stride) in enumerate(STAGES):
        for index in range(depth):
            yield f"stage{place + 1}", expansion, rounded(width * channels), 1 if index else stride


def mobilenet(
    net: Blueprint, width: float, layer: ConvNorm = conv_norm, classify: Callable[..., Any] = classifier
) -> None:
    """Lay a MobileNetV2 for images of 224×224; ``layer`` lays the convolutions behind the first."""
    x = conv_norm(net, "stem", net.input(3, 224, 224), rounded(32 * width), 3, 2)
    for stage, expansion, Co, stride in blocks(width):
        with net.stage(stage):
            x = inverted(net, x, expansion, Co, stride, layer)
    with net.stage("head"):
        x = layer(net, "", x, rounded(1280 * max(1.0, width)), 1)
    classify(net, x)


WIDTHS = {"mobilenetv2": 1.0, "mobilenetv2_075": 0.75, "mobilenetv2_050": 0.5}
NETWORKS = [Network(name, SOURCE, partial(mobilenet, width=width)) for name, width in WIDTHS.items()]

ODCONV = "OSVAI/ODConv, README.md"
PRINTED = {
    "mobilenetv2": ("3.50 M", "300.8 M"),
    "mobilenetv2_075": ("2.64 M", "209.1 M"),
    "mobilenetv2_050": ("1.97 M", "97.1 M"),
}
FIGURES = [
    figure
    for name, (params, macs) in PRINTED.items()
    for figure in (printed_params(name, params, ODCONV), printed_macs(name, macs, ODCONV))
]
