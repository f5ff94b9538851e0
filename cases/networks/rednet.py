"""RedNet: ResNet with involution in place of its 3×3 convolutions.

Li et al., Involution, CVPR 2021 (arXiv 2103.06255), section 4.1; depths and stem as in the authors' code
(d-li14/involution, cls/mmcls/models/backbones/rednet.py): K = 7, 16 channels per group, r = 4, and a stem of
a 3×3 convolution, an involution with K = 3 and another 3×3 convolution.
"""

from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Books, Network, Term

from .parts import (
    ACTIVATION,
    BATCH_NORM,
    add,
    batch_norm,
    classifier,
    conv,
    conv_norm,
    max_pool,
)
from .printed import elementwise, printed_macs, printed_params
from .resnet import shortcut, stages

SOURCE = "Li et al. 2021, CVPR, arXiv 2103.06255, section 4.1"
DEPTHS = {26: (1, 2, 4, 1), 38: (2, 3, 5, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def involute(net: Blueprint, role: str, x: Tensor, K: int, stride: int = 1) -> Tensor:
    """Lay an involution with 16 channels per group and r = 4, its batch norm and its ReLU."""
    letters: dict[str, Any] = {"stride": stride} if stride > 1 else {}
    return batch_norm(net, net.layer("involution", role, x, K=K, G=x.shape[1] // 16, R=4, **letters))


def block(net: Blueprint, x: Tensor, width: int, stride: int) -> Tensor:
    """Lay a bottleneck whose middle is an involution."""
    y = conv_norm(net, "reduce", x, width, 1)
    y = involute(net, "down" if stride > 1 else "", y, 7, stride)
    y = batch_norm(net, conv(net, "expand", y, 4 * width, 1), relu=False)
    return add(net, y, shortcut(net, x, 4 * width, stride), relu=True)


def rednet(net: Blueprint, depths: tuple[int, ...]) -> None:
    """Lay a RedNet for images of 224×224."""
    with net.stage("stem"):
        x = conv_norm(net, "first", net.input(3, 224, 224), 32, 3, 2)
        x = involute(net, "", x, 3)
        x = max_pool(net, conv_norm(net, "last", x, 64, 3), 3, 2, 1)
    classifier(net, stages(net, x, block, depths))


NETWORKS = [Network(f"rednet{depth}", SOURCE, partial(rednet, depths=DEPTHS[depth])) for depth in DEPTHS]


def wider_stem(books: Books, quantity: str) -> int:
    """Count what the stem's involution has more of with K = 7 in place of 3."""
    count = {"params": books.params, "macs": books.macs}[quantity]
    wide, narrow = (count("involution", "module", B=1, C=32, H=112, W=112, K=K, G=2, R=4) for K in (7, 3))
    return wide - narrow


README = "d-li14/involution, README.md"
WIDE = "the stem's involution with K = 7, where the released code has K = 3"
FIGURES = [
    figure
    for depth, (params, macs) in {
        26: ("9.23 M", "1.73 G"),
        38: ("12.39 M", "2.22 G"),
        50: ("15.54 M", "2.71 G"),
        101: ("25.65 M", "4.74 G"),
        152: ("33.99 M", "6.79 G"),
    }.items()
    for figure in (
        printed_params(f"rednet{depth}", params, README, Term(WIDE, partial(wider_stem, quantity="params"))),
        printed_macs(
            f"rednet{depth}",
            macs,
            README,
            Term(WIDE, partial(wider_stem, quantity="macs")),
            elementwise(f"rednet{depth}", "batch norm, two operations an element", BATCH_NORM),
            elementwise(f"rednet{depth}", "ReLU, one operation an element", ACTIVATION),
            elementwise(f"rednet{depth}", "norm, ReLU, pooling and biases of the generators", "involution"),
        ),
    )
]
