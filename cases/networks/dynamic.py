"""ResNet and MobileNetV2 with dynamic convolution: every convolution a mixture of four kernels.

Chen et al., Dynamic Convolution, CVPR 2020 (arXiv 1912.03458), section 4. The authors released no code; the
attention is that of the layer in general use (kaijieshi7/Dynamic-convolution-Pytorch): ⌊C/4⌋ + 1 hidden
units, a bias in the second layer alone. The first convolution and the classifier stay static. In MobileNetV2
the 1×1 convolutions are dynamic, which gives the paper's parameters; with the depthwise ones there are more.
"""

from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Network

from .mobilenetv2 import mobilenet
from .parts import batch_norm, classifier, conv_norm
from .printed import printed_macs, printed_params
from .resnet import DEPTHS, basic_block, bottleneck_block, stages, stem

SOURCE = "Chen et al. 2020, CVPR, arXiv 1912.03458, section 4"
EXPERTS = 4


def attend(net: Blueprint, x: Tensor) -> None:
    """Count the attention over kernels: a mean over the map, two linear layers, a ReLU and a softmax."""
    C = x.shape[1]
    hidden = C // 4 + 1
    net.other(
        "kernel_attention",
        ((hidden, C), (EXPERTS, hidden), (EXPERTS,)),
        macs=hidden * (C + EXPERTS),
        elementwise=x.numel() + hidden + 4 * EXPERTS,
    )


def dynamic(
    net: Blueprint, role: str, x: Tensor, Co: int, K: int, stride: int = 1, G: int = 1, relu: bool = True
) -> Tensor:
    """Lay a dynamic convolution with its attention and its batch norm."""
    attend(net, x)
    letters: dict[str, Any] = {"stride": stride} if stride > 1 else {}
    y = net.layer("dynamic_conv2d", role, x, scope="core", Co=Co, K=K, G=G, E=EXPERTS, **letters)
    return batch_norm(net, y, relu)


def pointwise_dynamic(
    net: Blueprint, role: str, x: Tensor, Co: int, K: int, stride: int = 1, G: int = 1, relu: bool = True
) -> Tensor:
    """Lay a dynamic convolution where it is 1×1, else a static one."""
    lay = dynamic if K == 1 else conv_norm
    return lay(net, role, x, Co, K, stride, G, relu)


def resnet(net: Blueprint, depth: int) -> None:
    """Lay a ResNet whose blocks are of dynamic convolutions, those of the shortcuts included."""
    block = partial(basic_block if depth < 50 else bottleneck_block, layer=dynamic, side=dynamic)
    classifier(net, stages(net, stem(net), block, DEPTHS[depth]))


NETWORKS = [
    Network("dy_mobilenetv2", SOURCE, partial(mobilenet, width=1.0, layer=pointwise_dynamic)),
    Network("dy_resnet18", SOURCE, partial(resnet, depth=18)),
    Network("dy_resnet50", SOURCE, partial(resnet, depth=50)),
]

PAPER = "Chen et al. 2020, CVPR, arXiv 1912.03458, tables 1 and 3"
FIGURES = [
    printed_params("mobilenetv2", "3.5 M", PAPER, verified=False),
    printed_macs("mobilenetv2", "300 M", PAPER, verified=False),
    printed_params("resnet18", "11.1 M", PAPER, verified=False),
    printed_params("dy_mobilenetv2", "11.1 M", PAPER, verified=False),
    printed_macs("dy_mobilenetv2", "312.9 M", PAPER, verified=False),
    printed_params("dy_resnet18", "42.7 M", PAPER, verified=False),
]
