"""PyConvResNet and PyConvHGResNet: ResNet-50 with pyramidal convolution in place of the 3×3.

Duta et al., 2020 (arXiv 2006.11538), section 4 and table 1; layers as in the authors' code (iduta/pyconv):
no pooling behind the first convolution, every stage begins with a stride of two, and a shortcut over a
stride pools before its 1×1 convolution. HG has twice the width, half the expansion, and more groups.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Network

from .parts import ACTIVATION, BATCH_NORM, add, batch_norm, classifier, conv, conv_norm, max_pool
from .printed import elementwise, printed_macs, printed_params

SOURCE = "Duta et al. 2020, arXiv 2006.11538, table 1"
DEPTHS = (3, 4, 6, 3)


@dataclass(frozen=True)
class Kind:
    """What tells the two apart: the first stage's width, the expansion, and the groups of the levels."""

    width: int
    expansion: int
    groups: tuple[str, ...] = ("", "", "", "")


KINDS = {
    "pyconvresnet50": Kind(64, 4),
    "pyconvhgresnet50": Kind(128, 2, ("32-32-32-32", "32-64-64", "32-64", "32")),
}


def block(net: Blueprint, x: Tensor, kind: Kind, place: int, stride: int) -> Tensor:
    """Lay a bottleneck whose middle is a pyramid of 4, 3, 2 and 1 levels in the four stages."""
    width = kind.width << place
    letters: dict[str, Any] = {"levels": 4 - place}
    letters |= {"groups": kind.groups[place]} if kind.groups[place] else {}
    letters |= {"stride": stride} if stride > 1 else {}
    y = conv_norm(net, "reduce", x, width, 1)
    role = "down" if stride > 1 else ""
    y = batch_norm(net, net.layer("pyramid_conv2d", role, y, Co=width, **letters))
    y = batch_norm(net, conv(net, "expand", y, kind.expansion * width, 1), relu=False)
    return add(net, y, shortcut(net, x, kind.expansion * width, stride), relu=True)


def shortcut(net: Blueprint, x: Tensor, width: int, stride: int) -> Tensor:
    """Pool over a stride, then a 1×1 convolution where the width changes."""
    if stride > 1:
        x = max_pool(net, x, 3, stride, 1)
    return x if x.shape[1] == width else conv_norm(net, "shortcut", x, width, 1, relu=False)


def pyconvresnet(net: Blueprint, kind: Kind) -> None:
    """Lay a network of 50 layers for images of 224×224."""
    x = conv_norm(net, "stem", net.input(3, 224, 224), 64, 7, 2)
    for place, depth in enumerate(DEPTHS):
        with net.stage(f"stage{place + 1}"):
            for index in range(depth):
                x = block(net, x, kind, place, 1 if index else 2)
    classifier(net, x)


NETWORKS = [Network(name, SOURCE, partial(pyconvresnet, kind=kind)) for name, kind in KINDS.items()]
PRINTED = {"pyconvresnet50": ("24.85 M", "3.88 G"), "pyconvhgresnet50": ("25.23 M", "4.61 G")}
FIGURES = [
    figure
    for name, (params, macs) in PRINTED.items()
    for figure in (
        printed_params(name, params, SOURCE, verified=False),
        printed_macs(
            name,
            macs,
            SOURCE,
            # Counted above with two operations an element: twice.
            elementwise(name, "batch norm, four operations an element", BATCH_NORM, BATCH_NORM),
            elementwise(name, "ReLU, one operation an element", ACTIVATION),
            verified=False,
        ),
    )
]
