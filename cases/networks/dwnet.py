"""DWNet, D-DWNet and I-D-DWNet: Swin with depthwise convolution in place of window attention.

Han et al., On the Connection between Local Attention and Dynamic Depth-wise Convolution, ICLR 2022 (arXiv
2106.04263), section 4.1; layers as in the authors' code (Atten4Vis/DemystifyLocalViT, models/dwnet.py): 1×1
convolution, 7×7 depthwise with bias, 1×1 convolution, each with batch norm, the first two with ReLU. The norm
in front of an MLP is a batch norm too, in place of Swin's layer norm; patches and the last layer keep theirs.
"""

from functools import partial

from torch import Tensor

from harness import Blueprint, Books, Network, Term

from .parts import BATCH_NORM, LAYER_NORM, add, batch_norm, classifier, conv, conv_norm, expand, layer_norm
from .printed import elementwise, printed_macs, printed_params
from .swin import SIZES, merge, patches

SOURCE = "Han et al. 2022, ICLR, arXiv 2106.04263, section 4.1"


def static(net: Blueprint, x: Tensor) -> Tensor:
    """Lay a depthwise convolution with bias."""
    return conv(net, "", x, x.shape[1], 7, G=x.shape[1], bias=True)


def dynamic(net: Blueprint, x: Tensor) -> Tensor:
    """Lay a depthwise convolution with one set of kernels per image, r = 4."""
    return net.layer("dynamic_depthwise_conv2d", "", x, K=7, R=4)


def inhomogeneous(net: Blueprint, x: Tensor) -> Tensor:
    """Lay one kernel per position, in 32 groups at every stage as the released configuration has it."""
    return net.layer("inhomogeneous_depthwise_conv2d", "", x, K=7, G=32, R=4)


def excited(net: Blueprint, x: Tensor) -> Tensor:
    """Lay a depthwise convolution with bias and squeeze-and-excitation behind it, r = 4 as in D-DWNet."""
    return net.layer("squeeze_excite", "se", static(net, x), R=4)


MIXING = {"dwnet": static, "ddwnet": dynamic, "iddwnet": inhomogeneous}


def block(net: Blueprint, x: Tensor, kind: str, excites: bool) -> Tensor:
    """Lay the block that stands for attention, and the MLP behind a batch norm, each beside a shortcut."""
    y = conv_norm(net, "project_in", x, x.shape[1], 1)
    y = batch_norm(net, excited(net, y) if excites else MIXING[kind](net, y))
    y = add(net, batch_norm(net, conv(net, "project_out", y, x.shape[1], 1), relu=False), x)
    return add(net, expand(net, batch_norm(net, y, relu=False), 4), y)


def dwnet(net: Blueprint, kind: str, width: int, depths: tuple[int, ...], excites: bool = False) -> None:
    """Lay a DWNet of a kind for images of 224×224."""
    x = patches(net, width)
    for place, depth in enumerate(depths):
        with net.stage(f"stage{place + 1}"):
            for _ in range(depth):
                x = block(net, x, kind, excites)
            if place < len(depths) - 1:
                x = merge(net, x)
    classifier(net, layer_norm(net, x))


NETWORKS = [
    Network(f"{kind}_{size}", SOURCE, partial(dwnet, kind=kind, width=SIZES[size][0], depths=SIZES[size][1]))
    for kind in MIXING
    for size in ("t", "b")
]
WITH_SE = Network(
    "dwnet_t_se",
    SOURCE,
    partial(dwnet, kind="dwnet", width=SIZES["t"][0], depths=SIZES["t"][1], excites=True),
    note="squeeze-and-excitation behind every depthwise convolution; its ratio is not printed, 4 here",
)


def rectified(books: Books, network: str) -> int:
    """Count the ReLUs, which follow two of a block's four batch norms, at one operation an element."""
    return books.network(network).elementwise_of(BATCH_NORM) // 4


def normalised(books: Books, network: str) -> int:
    """Count the layer norms at one operation an element, where the layers here have five."""
    return books.network(network).elementwise_of(LAYER_NORM) // 5


README = "Atten4Vis/DemystifyLocalViT, README.md"
PRINTED = {
    "dwnet_t": ("24 M", "3.8 G"),
    "ddwnet_t": ("51 M", "3.8 G"),
    "dwnet_b": ("74 M", "12.9 G"),
    "ddwnet_b": ("162 M", "13.0 G"),
}
ROUNDED_UP = "the terms are those of the authors' flops(); all four figures are its results rounded up"
FIGURES = [
    figure
    for name, (params, macs) in PRINTED.items()
    for figure in (
        printed_params(name, params, README),
        printed_macs(
            name,
            macs,
            README,
            elementwise(name, "batch norms, two operations an element", BATCH_NORM),
            Term("ReLU, one operation an element", partial(rectified, network=name)),
            Term("layer norms, one operation an element", partial(normalised, network=name)),
            remark=ROUNDED_UP,
        ),
    )
]
PAPER = "Han et al. 2022, ICLR, arXiv 2106.04263, table 2"
REPORTED = [
    printed_params("iddwnet_t", "26 M", PAPER, verified=False),
    printed_macs("iddwnet_t", "4.4 G", PAPER, verified=False),
]
