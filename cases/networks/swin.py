"""Swin Transformer: window attention, every other layer's windows shifted, and a map halved between stages.

Liu et al., ICCV 2021 (arXiv 2103.14030), section 3 and table 7. A layer's windows are not shifted where one
window is the whole map, as in the last stage. Any mixing operator may take the place of attention; its norms
and MLPs stay.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from harness import Blueprint, Network

from .mixers import mix
from .parts import activate, add, classifier, conv, layer_norm, linear
from .printed import printed_macs, printed_params

SOURCE = "Liu et al. 2021, ICCV, arXiv 2103.14030, table 7"
# By name: channels of the first stage, layers of the stages. Heads have 32 channels, windows are 7×7.
SIZES = {"t": (96, (2, 2, 6, 2)), "s": (96, (2, 2, 18, 2)), "b": (128, (2, 2, 18, 2))}
WINDOW, HEAD = 7, 32


def mlp(net: Blueprint, x: Tensor, ratio: int = 4) -> Tensor:
    """Lay two linear layers with biases and an activation between, behind a norm and beside a shortcut."""
    hidden = activate(net, linear(net, "mlp_in", layer_norm(net, x), ratio * x.shape[1]))
    return add(net, linear(net, "mlp_out", hidden, x.shape[1]), x)


def attend(net: Blueprint, x: Tensor, shifted: bool) -> Tensor:
    """Lay window attention, shifted where asked and where there is more than one window."""
    own = "shifted_window_attention" if shifted and max(x.shape[2:]) > WINDOW else "window_attention"
    role = "shifted" if own.startswith("shifted") and net.mixer is None else ""
    return mix(net, role, layer_norm(net, x), own, WINDOW, S=WINDOW, M=x.shape[1] // HEAD)


def patches(net: Blueprint, width: int) -> Tensor:
    """Lay the embedding of 4×4 patches and its norm."""
    return layer_norm(net, conv(net, "patches", net.input(3, 224, 224), width, 4, 4, padding=0, bias=True))


def merge(net: Blueprint, x: Tensor) -> Tensor:
    """Lay patch merging: four neighbours become one position with twice the channels."""
    joined = layer_norm(net, F.pixel_unshuffle(x, 2))
    return linear(net, "merge", joined, joined.shape[1] // 2, bias=False)


def swin(net: Blueprint, width: int, depths: tuple[int, ...], excites: bool = False) -> None:
    """Lay a Swin Transformer for images of 224×224."""
    x = patches(net, width)
    for place, depth in enumerate(depths):
        with net.stage(f"stage{place + 1}"):
            for index in range(depth):
                y = attend(net, x, shifted=index % 2 == 1)
                y = net.layer("squeeze_excite", "se", y, R=4) if excites else y
                x = mlp(net, add(net, y, x))
            if place < len(depths) - 1:
                x = merge(net, x)
    classifier(net, layer_norm(net, x))


NETWORKS = [
    Network(f"swin_{name}", SOURCE, partial(swin, width=width, depths=depths), mixes=True)
    for name, (width, depths) in SIZES.items()
]
WITH_SE = Network(
    "swin_t_se",
    "Han et al. 2022, ICLR, arXiv 2106.04263, section 4.2",
    partial(swin, width=SIZES["t"][0], depths=SIZES["t"][1], excites=True),
    mixes=True,
    note="squeeze-and-excitation behind every attention; its ratio, which is not printed, is 4 here",
)
README = "microsoft/Swin-Transformer, README.md"
FIGURES = [
    figure
    for size, (params, macs) in {
        "t": ("28 M", "4.5 G"),
        "s": ("50 M", "8.7 G"),
        "b": ("88 M", "15.4 G"),
    }.items()
    for figure in (
        printed_params(f"swin_{size}", params, README),
        printed_macs(f"swin_{size}", macs, README),
    )
]
