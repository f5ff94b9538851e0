"""Twins-SVT: window attention and attention to a reduced map, in turn.

Chu et al., Twins, NeurIPS 2021 (arXiv 2104.13840), section 3.2 and table 7; layers as in the authors' code
(Meituan-AutoML/Twins, gvt.py): no position table in the windows, and behind the first layer of a stage a
depthwise 3×3 convolution with bias that stands for positions. Any mixing operator may take the place of
window attention.
"""

from harness import Blueprint, Books, Network, Term

from .mixers import mix
from .parts import add, classifier, conv, layer_norm, mlp
from .printed import printed_macs, printed_params
from .pvt import attend

SOURCE = "Chu et al. 2021, NeurIPS, arXiv 2104.13840, table 7"
WIDTHS, HEADS, DEPTHS, REDUCTIONS = (64, 128, 256, 512), (2, 4, 8, 16), (2, 2, 10, 4), (8, 4, 2, 1)
WINDOW = 7


def twins(net: Blueprint) -> None:
    """Lay a Twins-SVT-S for images of 224×224."""
    x = net.input(3, 224, 224)
    for place, depth in enumerate(DEPTHS):
        C, patch, heads = WIDTHS[place], 2 if place else 4, HEADS[place]
        with net.stage(f"stage{place + 1}"):
            x = layer_norm(net, conv(net, "patches", x, C, patch, patch, padding=0, bias=True))
            for index in range(depth):
                normed = layer_norm(net, x)
                local = index % 2 == 0
                y = (
                    mix(net, "", normed, "window_attention", WINDOW, S=WINDOW, M=heads, position="none")
                    if local
                    else attend(net, "global", normed, heads, REDUCTIONS[place])
                )
                x = mlp(net, add(net, y, x))
                if index == 0:
                    x = add(net, conv(net, "positions", x, C, 3, G=C, bias=True), x)
    classifier(net, layer_norm(net, x))


NETWORKS = [Network("twins_svt_s", SOURCE, twins, mixes=True)]


def products(books: Books) -> int:
    """Count the products of attention: those of queries with keys, and of their softmax with values."""
    total = 0
    for layer, workload in books.network("twins_svt_s").workloads():
        d = workload.dims
        if layer.operator == "window_attention":
            total += layer.count * 2 * d.C * d.H * d.W * d.S**2
        elif layer.operator in ("self_attention", "spatial_reduction_attention"):
            total += layer.count * 2 * d.C * (d.H * d.W) ** 2 // d.get("R", 1) ** 2
    return -total


README = "Meituan-AutoML/Twins, README.md"
FIGURES = [
    printed_params("twins_svt_s", "24 M", README),
    printed_macs(
        "twins_svt_s",
        "2.8 G",
        README,
        Term("the products of attention, which a counter of layers does not see", products),
    ),
]
