"""ResNet-50 with squeeze-and-excitation, or with gather-excite, behind every bottleneck.

Hu et al., Squeeze-and-Excitation Networks, CVPR 2018 (arXiv 1709.01507), table 1, r = 16; Hu et al.,
Gather-Excite, NeurIPS 2018 (arXiv 1810.12348), section 3: GE-θ and GE-θ⁺ with the global extent, whose
depthwise convolution is as large as the map. The gate scales what is then added to the shortcut.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from harness import Blueprint, Books, Network, Term

from .parts import BATCH_NORM, classifier
from .printed import elementwise, printed_macs, printed_params
from .resnet import DEPTHS, FIRST, bottleneck_block, stages, stem

SE = "Hu et al. 2018, CVPR, arXiv 1709.01507, table 1"
GE = "Hu et al. 2018, NeurIPS, arXiv 1810.12348, section 3"

# Lays a gate behind a map.
Gate = Callable[[Blueprint, Tensor], Tensor]


def squeeze_excite(net: Blueprint, x: Tensor) -> Tensor:
    """Lay squeeze-and-excitation with r = 16."""
    return net.layer("squeeze_excite", "", x, R=16)


def gather_excite(net: Blueprint, x: Tensor, variant: str) -> Tensor:
    """Lay gather-excite of a variant with the global extent."""
    letters = {"R": 16} if variant == "plus" else {}
    return net.layer("gather_excite", "", x, None, variant=variant, **letters)


def gated(net: Blueprint, gate: Gate) -> None:
    """Lay a ResNet-50 with gates for images of 224×224."""
    classifier(net, stages(net, stem(net), partial(bottleneck_block, gate=gate), DEPTHS[50]))


NETWORKS = [
    Network("se_resnet50", SE, partial(gated, gate=squeeze_excite)),
    Network("ge_resnet50", GE, partial(gated, gate=partial(gather_excite, variant="theta")), note="GE-θ"),
    Network(
        "ge_resnet50_plus", GE, partial(gated, gate=partial(gather_excite, variant="plus")), note="GE-θ⁺"
    ),
    Network(
        "ge_resnet50_minus", GE, partial(gated, gate=partial(gather_excite, variant="minus")), note="GE-θ⁻"
    ),
]


def stored_statistics(books: Books, network: str) -> int:
    """Count a mean and a variance for every channel of a batch norm, of those within a gather too."""
    found = books.network(network)
    gathers = (work.dims.C * layer.count for layer, work in found.workloads() if "variant" in work.dims)
    return found.params_of(BATCH_NORM) + 2 * int(sum(gathers))


FIGURES = [
    printed_macs("resnet50", "3.86 G", SE, FIRST, verified=False),
    printed_macs(
        "se_resnet50",
        "3.87 G",
        SE,
        FIRST,
        elementwise("se_resnet50", "the mean over the map and the product with the gate", "squeeze_excite"),
        verified=False,
    ),
    *(
        printed_params(
            name,
            printed,
            GE,
            Term(
                "means and variances of the batch norms, which Caffe stores as it does what is learned",
                partial(stored_statistics, network=name),
            ),
            verified=False,
            remark="that the paper counts them is inferred from the gap, which they close in both networks",
        )
        for name, printed in (("ge_resnet50", "31.2 M"), ("ge_resnet50_plus", "33.7 M"))
    ),
]
