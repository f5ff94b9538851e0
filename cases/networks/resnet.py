"""ResNet: He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385), table 1.

The stride of a down-sampling bottleneck is in its 3×3 convolution, as in torchvision; the paper's own
code (Caffe) has it in the first 1×1.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from harness import Blueprint, Books, Network, Term

from .parts import ConvNorm, add, classifier, conv_norm, max_pool
from .printed import printed_macs, printed_params

SOURCE = "He et al. 2016, CVPR, arXiv 1512.03385, table 1"
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# Lays one block: blueprint, map, channels of the stage, stride.
Block = Callable[[Blueprint, Tensor, int, int], Tensor]


def basic_block(
    net: Blueprint,
    x: Tensor,
    width: int,
    stride: int,
    layer: ConvNorm = conv_norm,
    side: ConvNorm = conv_norm,
) -> Tensor:
    """Lay two 3×3 convolutions by ``layer``, and the shortcut by ``side``."""
    y = layer(net, "k3_down" if stride > 1 else "k3", x, width, 3, stride)
    y = layer(net, "k3", y, width, 3, relu=False)
    return add(net, y, shortcut(net, x, width, stride, side), relu=True)


def bottleneck_block(
    net: Blueprint,
    x: Tensor,
    width: int,
    stride: int,
    layer: ConvNorm = conv_norm,
    side: ConvNorm = conv_norm,
    gate: Callable[[Blueprint, Tensor], Tensor] | None = None,
) -> Tensor:
    """Lay 1×1, 3×3 and 1×1 convolutions by ``layer``, the last four times as wide, and the shortcut.

    side: lays the shortcut's convolution. gate: lays a gate behind the last convolution of the others.
    """
    y = layer(net, "reduce", x, width, 1)
    y = layer(net, "k3_down" if stride > 1 else "k3", y, width, 3, stride)
    y = layer(net, "expand", y, 4 * width, 1, relu=False)
    y = gate(net, y) if gate else y
    return add(net, y, shortcut(net, x, 4 * width, stride, side), relu=True)


def shortcut(net: Blueprint, x: Tensor, width: int, stride: int, layer: ConvNorm = conv_norm) -> Tensor:
    """Lay a 1×1 convolution with batch norm where width or map change, else nothing."""
    if x.shape[1] == width and stride == 1:
        return x
    return layer(net, "shortcut", x, width, 1, stride, relu=False)


def stages(net: Blueprint, x: Tensor, block: Block, depths: tuple[int, ...]) -> Tensor:
    """Lay the four stages of 64, 128, 256 and 512 channels, all but the first at half the map."""
    for place, depth in enumerate(depths):
        with net.stage(f"stage{place + 1}"):
            for index in range(depth):
                x = block(net, x, 64 << place, 2 if place and not index else 1)
    return x


def stem(net: Blueprint) -> Tensor:
    """Lay the 7×7 convolution with stride 2 and the pooling."""
    x = conv_norm(net, "stem", net.input(3, 224, 224), 64, 7, 2)
    return max_pool(net, x, 3, 2, 1)


def resnet(net: Blueprint, block: Block, depths: tuple[int, ...]) -> None:
    """Lay a ResNet for images of 224×224."""
    classifier(net, stages(net, stem(net), block, depths))


NETWORKS = [
    Network(
        f"resnet{depth}",
        SOURCE,
        partial(resnet, block=basic_block if depth < 50 else bottleneck_block, depths=DEPTHS[depth]),
    )
    for depth in (18, 34, 50, 101)
]


def early_stride(books: Books) -> int:
    """Count what a down-sampling bottleneck saves with its stride in the first 1×1 convolution.

    Its reduction then runs on a quarter of the positions; the 3×3 has the same outputs either way.
    """
    whole = (
        books.macs("pointwise_conv2d", "core", B=1, C=C, Co=C // 2, H=side, W=side)
        for C, side in ((256, 56), (512, 28), (1024, 14))
    )
    return -sum(macs * 3 // 4 for macs in whole)


ODCONV = "OSVAI/ODConv, README.md"
FIRST = Term("the stride of three blocks in the first 1×1, where torchvision has it in the 3×3", early_stride)
FIGURES = [
    printed_params("resnet18", "11.69 M", ODCONV),
    printed_macs("resnet18", "1.814 G", ODCONV),
    printed_params("resnet50", "25.56 M", ODCONV),
    printed_macs("resnet50", "3.858 G", ODCONV, FIRST),
    printed_params("resnet101", "44.55 M", ODCONV),
    printed_macs("resnet101", "7.570 G", ODCONV, FIRST),
]
