"""ResNet and MobileNetV2 with dynamic channel fusion, as its authors released them.

Li et al., Revisiting Dynamic Convolution via Matrix Decomposition, ICLR 2021 (arXiv 2103.08756); latent
widths, squeezes and pooling as in liyunsheng13/dcd, models/imagenet. A basic block's mean is taken over 2×2
cells, a bottleneck's over the whole map; in MobileNetV2 the 1×1 convolutions of blocks with expansion are
dynamic, those that widen with 2×2 cells; the classifier is dynamic too, with 32 latent channels.
"""

from functools import partial
from math import isqrt

from torch import Tensor

from harness import Blueprint, Books, Network, Term

from .mobilenetv2 import mobilenet
from .parts import BIAS, batch_norm, conv_norm, global_pool
from .printed import printed_macs, printed_params
from .resnet import DEPTHS, basic_block, bottleneck_block, stages, stem

SOURCE = "Li et al. 2021, ICLR, arXiv 2103.08756, as released in liyunsheng13/dcd"
REDUCTION, CLASSIFIER_WIDTH, CLASSES = 16, 32, 1000


def fused(
    net: Blueprint,
    role: str,
    x: Tensor,
    Co: int,
    K: int,
    stride: int = 1,
    G: int = 1,
    relu: bool = True,
    *,
    pool: int,
) -> Tensor:
    """Lay a fused convolution of a ResNet and its batch norm; L is the root of the number of means."""
    letters = {"stride": stride} if stride > 1 else {}
    letters |= {"pool": pool} if pool > 1 else {}
    width = isqrt(x.shape[1] * pool**2)
    y = net.layer("dcd_released", role, x, None, Co=Co, K=K, L=width, R=REDUCTION, **letters)
    return batch_norm(net, y, relu)


def classify(net: Blueprint, x: Tensor) -> None:
    """Lay the mean over all positions and the fused classifier, whose squeeze has 32 units."""
    with net.stage("head"):
        pooled = global_pool(net, x)
        ratio = max(pooled.shape[1], CLASSIFIER_WIDTH**2) // CLASSIFIER_WIDTH
        letters = {"Co": CLASSES, "K": 1, "L": CLASSIFIER_WIDTH, "R": ratio}
        net.layer("dcd_released", "classifier", pooled, None, **letters)
        net.other(BIAS, ((CLASSES,),), elementwise=CLASSES)


def resnet(net: Blueprint, depth: int) -> None:
    """Lay a ResNet with fused convolutions; those of the shortcuts are static."""
    block = (
        partial(basic_block, layer=partial(fused, pool=2))
        if depth < 50
        else partial(bottleneck_block, layer=partial(fused, pool=1))
    )
    classify(net, stages(net, stem(net), block, DEPTHS[depth]))


def latent_width(C: int, Co: int) -> int:
    """Return MobileNetV2's latent width: an eighth of the narrower side when widening, else a half.

    It is halved until its square is at most twice the numbers that are pooled, and at least four.
    """
    pooled, reduction = (4 * C, 8) if Co > C else (C, 2)
    while (width := min(pooled, Co) // reduction) ** 2 > 2 * pooled:
        reduction *= 2
    return max(4, width)


def fused_pointwise(
    net: Blueprint, role: str, x: Tensor, Co: int, K: int, stride: int = 1, G: int = 1, relu: bool = True
) -> Tensor:
    """Lay a fused convolution where a block with expansion has a 1×1, else a static one."""
    C = x.shape[1]
    is_first_block = role == "project" and Co * 2 == C
    if K > 1 or role == "" or is_first_block:
        return conv_norm(net, role, x, Co, K, stride, G, relu)
    letters = {"Co": Co, "K": 1, "L": latent_width(C, Co), "R": REDUCTION} | ({"pool": 2} if Co > C else {})
    return batch_norm(net, net.layer("dcd_released", role, x, None, **letters), relu)


def mobilenetv2(net: Blueprint) -> None:
    """Lay a MobileNetV2 with fused 1×1 convolutions."""
    mobilenet(net, 1.0, fused_pointwise, classify)


NETWORKS = [
    *(Network(f"dcd_resnet{depth}", SOURCE, partial(resnet, depth=depth)) for depth in (18, 34, 50, 101)),
    Network("dcd_mobilenetv2", SOURCE, mobilenetv2),
]


def static_classifier(books: Books, network: str) -> int:
    """Count what a static classifier has less than the fused one."""
    layer = next(
        found for found in books.network(network).layers if found.workload.endswith("/head_classifier")
    )
    assert layer.dims is not None
    return int(layer.dims.C * CLASSES - layer.params)


PAPER = "Li et al. 2021, ICLR, arXiv 2103.08756, table 4"
ODCONV = "Li et al. 2022, ICLR, table 1 (its row for DCD)"
STATIC = "a static classifier in place of the released code's dynamic one"
FIGURES = [
    printed_params(
        "dcd_mobilenetv2",
        "5.5 M",
        PAPER,
        Term(STATIC, partial(static_classifier, network="dcd_mobilenetv2")),
        verified=False,
    ),
    printed_macs(
        "dcd_mobilenetv2", "326 M", PAPER, verified=False, remark="the cheaper order in every layer"
    ),
    printed_params("dcd_mobilenetv2", "5.72 M", ODCONV, verified=False),
    printed_macs("dcd_mobilenetv2", "318.4 M", ODCONV, verified=False),
    printed_params(
        "dcd_resnet18",
        "14.0 M",
        PAPER,
        Term(STATIC, partial(static_classifier, network="dcd_resnet18")),
        verified=False,
    ),
    printed_macs("dcd_resnet18", "1.83 G", PAPER, verified=False, remark="the cheaper order in every layer"),
    printed_params("dcd_resnet18", "14.70 M", ODCONV, verified=False),
    printed_macs("dcd_resnet18", "1.841 G", ODCONV, verified=False),
]
