"""Swin Transformer: window attention, every other layer's windows shifted, and a map halved between stages.

Liu et al., ICCV 2021 (arXiv 2103.14030), section 3 and table 7. A layer's windows are not shifted where one
window is the whole map, as in the last stage. Any mixing operator may take the place of attention; its norms
and MLPs stay. Swin-MLP, which the authors released beside it, multiplies the positions of a window by a
matrix in place of attention.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from harness import Blueprint, Network

from .mixers import mix
from .parts import add, classifier, conv, layer_norm, linear, mlp
from .printed import printed_macs, printed_params

SOURCE = "Liu et al. 2021, ICCV, arXiv 2103.14030, table 7"
# By name: channels of the first stage, layers of the stages. Heads have 32 channels, windows are 7×7.
SIZES = {"t": (96, (2, 2, 6, 2)), "s": (96, (2, 2, 18, 2)), "b": (128, (2, 2, 18, 2))}
WINDOW, HEAD = 7, 32


# Lays a mixing layer: blueprint, map, side of the windows, channels of a head, whether windows are shifted.
Mixing = Callable[[Blueprint, Tensor, int, int, bool], Tensor]


def attend(net: Blueprint, x: Tensor, window: int, head: int, shifted: bool) -> Tensor:
    """Lay attention in windows."""
    own = "shifted_window_attention" if shifted else "window_attention"
    role = "shifted" if shifted and net.mixer is None else ""
    return mix(net, role, x, own, window, S=window, M=x.shape[1] // head)


def multiply(net: Blueprint, x: Tensor, window: int, head: int, shifted: bool) -> Tensor:
    """Count one linear layer over the positions of a window, with bias, shared by the channels of a head.

    Where windows are shifted the map is padded by a window, so a row has one window more.
    """
    _, C, H, W = x.shape
    windows = (H // window + shifted) * (W // window + shifted)
    heads, tokens = C // head, window**2
    net.other(
        "window_mlp",
        ((heads, tokens, tokens), (heads, tokens)),
        macs=windows * C * tokens**2,
        elementwise=windows * C * tokens,
    )
    return x


def patches(net: Blueprint, width: int, side: int = 224) -> Tensor:
    """Lay the embedding of 4×4 patches and its norm."""
    return layer_norm(net, conv(net, "patches", net.input(3, side, side), width, 4, 4, padding=0, bias=True))


def merge(net: Blueprint, x: Tensor) -> Tensor:
    """Lay patch merging: four neighbours become one position with twice the channels."""
    joined = layer_norm(net, F.pixel_unshuffle(x, 2))
    return linear(net, "merge", joined, joined.shape[1] // 2, bias=False)


def swin(
    net: Blueprint,
    width: int,
    depths: tuple[int, ...],
    *,
    side: int = 224,
    window: int = WINDOW,
    head: int = HEAD,
    mixing: Mixing = attend,
    excites: bool = False,
) -> None:
    """Lay a Swin Transformer for images of ``side``, its heads of ``head`` channels."""
    x = patches(net, width, side)
    for place, depth in enumerate(depths):
        with net.stage(f"stage{place + 1}"):
            for index in range(depth):
                shifted = index % 2 == 1 and x.shape[2] > window
                y = mixing(net, layer_norm(net, x), window, head, shifted)
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
AT_256 = partial(swin, width=SIZES["t"][0], depths=SIZES["t"][1], side=256, window=8)
NARROW = [
    Network(
        "swin_t_c24",
        SOURCE,
        partial(AT_256, head=24),
        mixes=True,
        note="256×256, windows of 8×8, heads of 24",
    ),
    *(
        Network(
            f"swin_mlp_t_c{head}",
            "microsoft/Swin-Transformer, models/swin_mlp.py",
            partial(AT_256, head=head, mixing=multiply),
            note="256×256, windows of 8×8; a linear layer over a window in place of attention",
        )
        for head in (24, 12, 6)
    ),
]
README = "microsoft/Swin-Transformer, README.md"
PRINTED = {
    "swin_t": ("28 M", "4.5 G"),
    "swin_s": ("50 M", "8.7 G"),
    "swin_b": ("88 M", "15.4 G"),
    "swin_t_c24": ("28 M", "5.9 G"),
    "swin_mlp_t_c24": ("20 M", "4.0 G"),
    "swin_mlp_t_c12": ("21 M", "4.0 G"),
    "swin_mlp_t_c6": ("23 M", "4.0 G"),
}
FIGURES = [
    figure
    for name, (params, macs) in PRINTED.items()
    for figure in (printed_params(name, params, README), printed_macs(name, macs, README))
]
