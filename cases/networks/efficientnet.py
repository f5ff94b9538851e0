"""EfficientNet-B0 and CondConv-EfficientNet-B0: inverted residuals with squeeze-and-excitation.

Tan and Le, ICML 2019 (arXiv 1905.11946), table 1; Yang et al., CondConv, NeurIPS 2019 (arXiv 1904.04971).
Squeeze-and-excitation has a quarter of the channels that enter the block, and biases. In CondConv the
convolutions of the last three stages' blocks are mixtures of experts, with one routing for the three of a
block, as in the released code (tensorflow/tpu, models/official/efficientnet/condconv).
"""

import math
from functools import partial
from typing import Any

from torch import Tensor

from harness import Blueprint, Network

from .parts import BATCH_NORM, add, batch_norm, classifier, conv_norm
from .printed import FVCORE, TIMM, elementwise, printed_macs, printed_params

SOURCE = "Tan and Le 2019, ICML, arXiv 1905.11946, table 1"
CONDCONV = "Yang et al. 2019, NeurIPS, arXiv 1904.04971"
# Expansion, channels, blocks, kernel, stride of the first block.
STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
EXPERT_STAGES = 3


def mixture(
    net: Blueprint, role: str, x: Tensor, Co: int, K: int, stride: int, G: int, experts: int, relu: bool
) -> Tensor:
    """Lay a mixture of experts without its routing, and its batch norm."""
    letters: dict[str, Any] = {"stride": stride} if stride > 1 else {}
    y = net.layer("cond_conv2d", role, x, scope="core", Co=Co, K=K, G=G, E=experts, **letters)
    return batch_norm(net, y, relu)


def route(net: Blueprint, x: Tensor, experts: int) -> None:
    """Count a routing: a mean over the map, a linear layer with bias, a sigmoid."""
    C = x.shape[1]
    net.other("routing", ((experts, C), (experts,)), macs=experts * C, elementwise=x.numel() + 2 * experts)


def block(net: Blueprint, x: Tensor, expansion: int, Co: int, K: int, stride: int, experts: int) -> Tensor:
    """Lay one inverted residual with squeeze-and-excitation, of mixtures where it has experts."""
    hidden = expansion * x.shape[1]
    spatial = f"k{K}_down" if stride > 1 else f"k{K}"

    def lay(
        role: str, y: Tensor, Co: int, K: int = 1, stride: int = 1, G: int = 1, relu: bool = True
    ) -> Tensor:
        if experts:
            return mixture(net, role, y, Co, K, stride, G, experts, relu)
        return conv_norm(net, role, y, Co, K, stride, G, relu)

    if experts:
        route(net, x, experts)
    y = lay("expand", x, hidden) if expansion > 1 else x
    y = lay(spatial, y, hidden, K, stride, hidden)
    y = net.layer("squeeze_excite", "se", y, R=4 * expansion)
    y = lay("project", y, Co, relu=False)
    return add(net, x, y) if y.shape == x.shape else y


def efficientnet(net: Blueprint, experts: int = 0, depth: float = 1.0) -> None:
    """Lay an EfficientNet-B0 for images of 224×224, its last stages with experts where a number is given."""
    x = conv_norm(net, "stem", net.input(3, 224, 224), 32, 3, 2)
    for place, (expansion, Co, blocks, K, stride) in enumerate(STAGES):
        mixed = experts if place >= len(STAGES) - EXPERT_STAGES else 0
        with net.stage(f"stage{place + 2}"):
            for index in range(math.ceil(depth * blocks)):
                x = block(net, x, expansion, Co, K, 1 if index else stride, mixed)
    with net.stage("head"):
        x = conv_norm(net, "", x, 1280, 1)
    classifier(net, x)


NETWORKS = [
    Network("efficientnet_b0", SOURCE, efficientnet),
    Network("condconv_efficientnet_b0_4e", CONDCONV, partial(efficientnet, experts=4)),
    Network("condconv_efficientnet_b0_8e", CONDCONV, partial(efficientnet, experts=8)),
    Network("condconv_efficientnet_b0_8e_depth", CONDCONV, partial(efficientnet, experts=8, depth=1.1)),
]

README = "tensorflow/tpu, models/official/efficientnet/condconv/README.md"
PRINTED = {
    "efficientnet_b0": ("5.3 M", "391 M"),
    "condconv_efficientnet_b0_4e": ("13.3 M", "402 M"),
    "condconv_efficientnet_b0_8e": ("24.0 M", "413 M"),
    "condconv_efficientnet_b0_8e_depth": ("39.7 M", "614 M"),
}
FIGURES = [
    figure
    for name, (params, macs) in PRINTED.items()
    for figure in (
        printed_params(name, params, README),
        printed_macs(
            name,
            macs,
            README,
            elementwise(name, "means, biases and ReLU of squeeze-and-excitation", "squeeze_excite"),
            elementwise(name, "the last mean over the map", "pooling"),
            elementwise(name, "shortcuts", "shortcut"),
            elementwise(name, "means and sigmoids of the routings", "routing"),
        ),
    )
]
BENCHMARKED = {
    "efficientnet_b0": "0.40 G",
    "condconv_efficientnet_b0_4e": "0.41 G",
    "condconv_efficientnet_b0_8e": "0.42 G",
}
COUNTED_BY_TIMM = [
    printed_macs(
        name,
        macs,
        TIMM,
        elementwise(name, f"batch norms, two operations an element, {FVCORE}", BATCH_NORM),
    )
    for name, macs in BENCHMARKED.items()
]
