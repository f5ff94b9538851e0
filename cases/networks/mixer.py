"""MLP-Mixer: patches, layers of token mixing and channel mixing, no position embedding.

Tolstikhin et al., NeurIPS 2021 (arXiv 2105.01601), table 1. Its weights are tied to the number of patches.
"""

from harness import Blueprint, Network

from .parts import classifier, conv, layer_norm
from .printed import elementwise, printed_macs, printed_params

SOURCE = "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601, table 1"


def mixer_b16(net: Blueprint) -> None:
    """Lay a Mixer-B/16 for images of 224×224."""
    x = conv(net, "patches", net.input(3, 224, 224), 768, 16, 16, padding=0, bias=True)
    for _ in range(12):
        x = net.layer("separable_mlp", "layer", x, hidden=384, expansion=4)
    classifier(net, layer_norm(net, x))


NETWORKS = [Network("mixer_b16", SOURCE, mixer_b16)]
README = "microsoft/Swin-Transformer, README.md"
FIGURES = [
    printed_params("mixer_b16", "59 M", README, remark="printed as if 59.88 M were cut off and not rounded"),
    printed_macs(
        "mixer_b16",
        "12.7 G",
        README,
        elementwise("mixer_b16", "layer norms, GELU, biases and sums of the layers", "separable_mlp"),
        elementwise("mixer_b16", "the last layer norm", "layer_norm"),
    ),
]
