"""Layouts: the same values at other places of the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def _transposed(tensor: Tensor) -> Tensor:
    """Store the axes in reverse order, the first one innermost."""
    axes = tuple(reversed(range(tensor.ndim)))
    return tensor.permute(axes).contiguous().permute(axes)


def _gapped(tensor: Tensor) -> Tensor:
    """Store an element that is no number behind every element, which nobody may read."""
    return torch.stack((tensor, torch.full_like(tensor, math.nan)), -1)[..., 0]


def _channels_last(tensor: Tensor) -> Tensor:
    """Store the channels of a map innermost; whatever has not four axes stays as it is."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


LAYOUTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "contiguous": Tensor.contiguous,
    "transposed": _transposed,
    "gapped": _gapped,
    "channels_last": _channels_last,
}
