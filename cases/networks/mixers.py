"""Mixing layers that another operator may take the place of."""

from typing import Any

from torch import Tensor

from harness import Blueprint, Operator, SameopError

# What an operator has in place of attention's letters, where its own first workload does not say it.
PARTICULARS: dict[str, dict[str, int]] = {
    "conv2d": {"G": 1},
    "cond_conv2d": {"G": 1, "E": 4},
    "dynamic_conv2d": {"G": 1, "E": 4, "R": 4},
    # The I-D-DW network has 32 groups in every stage.
    "inhomogeneous_depthwise_conv2d": {"G": 32, "R": 4},
    "dynamic_depthwise_conv2d": {"R": 4},
    "outlook_attention": {"K": 3},
    "spatial_reduction_attention": {"R": 1},
}


def mix(net: Blueprint, role: str, x: Tensor, own: str, window: int, **letters: Any) -> Tensor:
    """Lay the network's own mixing operator, or the one that was asked for in its place.

    A replacement sees the same map, has kernels as wide as the window (one less where that is even),
    as many heads, and channels and map come out as they went in; what only it has is taken from its
    page. Raises
    :class:`SameopError` for an operator of sequences, and for one that changes the map.
    """
    if net.mixer is None:
        return net.layer(own, role, x, **letters)
    replacement = replaced(net.operators[net.mixer], x, window, letters.get("M", 1))
    if "T" in replacement:
        raise SameopError(
            f"{net.name} was asked for, but {net.mixer} works on sequences [B, C, T] and the mixing layers "
            "on maps [B, C, H, W]: name an operator of maps, such as depthwise_conv2d."
        )
    y = net.layer(net.mixer, role, x, **replacement)
    if y.shape != x.shape:
        raise SameopError(
            f"{net.name} was asked for, but {net.mixer} makes {list(y.shape)} of a map of {list(x.shape)}, "
            "which a mixing layer has to keep: name another operator."
        )
    return y


def replaced(operator: Operator, x: Tensor, window: int, heads: int) -> dict[str, Any]:
    """Return the letters of an operator that takes the place of a mixing layer on ``x``."""
    scope = operator.scopes.get("module") or operator.scopes["core"]
    example = scope.workloads[0].dims
    C = x.shape[1]
    # An even kernel between equal margins would make the map larger by one.
    kernel = window if window % 2 else window - 1
    known = {"K": kernel, "S": window, "M": heads, "Co": C, "stride": 1, "padding": kernel // 2}
    # RedNet's involution has 16 channels per group.
    known |= {"G": max(1, C // 16)} | PARTICULARS.get(operator.name, {})
    letters = {
        name: known.get(name, value) for name, value in example.items() if name not in ("B", "C", "H", "W")
    }
    return {name: value for name, value in letters.items() if (name, value) != ("stride", 1)}
