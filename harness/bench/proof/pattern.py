"""What a Jacobian shows: which inputs an output reads, which weights are equal, and their ranks.

A Jacobian is [Co, N, C, N]: output channel, output position, input channel, input position, N positions
in row order of a grid. ``tolerance`` is what two equal entries may differ by, zero where they are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# What connections are that have no name of their own; of channels a page can declare it.
IRREGULAR = "irregular"
# A singular value below this share of the largest is rounding: random matrices of these sizes reach 1e-5,
# those that lack rank 1e-15.
_NO_RANK = 1e-9


@dataclass(frozen=True)
class Rank:
    """The largest rank among some matrices, and the rank that would be full."""

    found: int
    full: int

    @property
    def is_low(self) -> bool:
        """Whether none of them has full rank."""
        return self.found < self.full


def offsets_of(grid: Sequence[int]) -> Tensor:
    """Give every offset between two positions a number: [N, N]."""
    axes = torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij")
    numbers = torch.zeros(1, 1, dtype=torch.long)
    for size, axis in zip(grid, axes, strict=True):
        coordinate = axis.flatten()
        numbers = numbers * (2 * size - 1) + coordinate - coordinate[:, None] + size - 1
    return numbers


def name_space(connected: Tensor, offsets: Tensor) -> str:
    """Name how positions are connected, by a matrix [N, N] of output by input position."""
    if torch.equal(connected, torch.eye(len(connected), dtype=torch.bool)):
        return "position"
    if bool(connected.all()):
        return "global"
    if _is_partition(connected):
        return "window"
    if _is_shared(connected.double().flatten(), offsets, 0.0):
        return "local" if bool(connected.any()) else IRREGULAR
    return IRREGULAR


def _is_partition(connected: Tensor) -> bool:
    """Whether being connected is reflexive, symmetric and transitive."""
    if not bool(connected.diagonal().all()) or not torch.equal(connected, connected.mT):
        return False
    steps = connected.double()
    return torch.equal(steps @ steps > 0, connected)


def name_channels(connected: Tensor) -> str:
    """Name how channels are connected, by a matrix [Co, C] of output by input channel."""
    outputs, inputs = connected.shape
    if outputs == inputs and torch.equal(connected, torch.eye(inputs, dtype=torch.bool)):
        return "own"
    if bool(connected.all()):
        return "all"
    for groups in range(2, inputs + 1):
        if outputs % groups == 0 and inputs % groups == 0:
            block = torch.ones(outputs // groups, inputs // groups, dtype=torch.bool)
            if torch.equal(connected, torch.block_diag(*[block] * groups).bool()):
                return "groups"
    return IRREGULAR


def shares_positions(jacobian: Tensor, offsets: Tensor, tolerance: float) -> bool:
    """Whether the weights at equal offsets are equal over all positions."""
    pairs = jacobian.permute(1, 3, 0, 2).flatten(0, 1)  # [N², Co, C]
    return _is_shared(pairs, offsets, tolerance)


def _is_shared(pairs: Tensor, offsets: Tensor, tolerance: float) -> bool:
    """Whether whatever belongs to pairs of positions [N², …] depends on their offset alone."""
    _, number = offsets.flatten().unique(return_inverse=True)
    first = torch.zeros(int(number.max()) + 1, dtype=torch.long)
    first[number.flip(0)] = torch.arange(len(number) - 1, -1, -1)
    return _largest(pairs - pairs[first[number]]) <= tolerance


def widest_sharing(jacobian: Tensor, tolerance: float) -> int:
    """Return of how many adjacent channels the maps are equal, in blocks that tile the channels.

    It looks at each channel's connections to itself, so it speaks of operators that have no others.
    """
    channels = min(jacobian.shape[0], jacobian.shape[2])
    maps = torch.stack([jacobian[c, :, c] for c in range(channels)])
    for width in range(channels, 1, -1):
        if channels % width == 0:
            blocks = maps.unflatten(0, (-1, width))
            if _largest(blocks - blocks[:, :1]) <= tolerance:
                return width
    return 1


def rank_over_space(jacobian: Tensor, connected: Tensor) -> Rank:
    """Rank the matrices of positions by positions of all connected pairs [Co, C] of channels."""
    return _rank(jacobian.permute(0, 2, 1, 3)[connected])


def rank_over_channels(jacobian: Tensor, connected: Tensor) -> Rank:
    """Rank the matrices of channels by channels of all connected pairs [N, N] of positions."""
    return _rank(jacobian.permute(1, 3, 0, 2)[connected])


def _rank(matrices: Tensor) -> Rank:
    ranks = torch.linalg.matrix_rank(matrices, rtol=_NO_RANK)
    return Rank(int(ranks.max()) if ranks.numel() else 0, min(matrices.shape[-2:]))


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0
