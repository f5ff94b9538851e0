"""What attention in windows commutes with: exchanges of positions and of windows, and shifts of the map."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Dims, equivalent, mutant

from ..attention import sliding_attention2d, window_attention
from .involution import Translated
from .window_attention import SWIN, EndToEnd, windows

# What does not depend on the scale of logits is seen with fewer channels.
EXCHANGED = (Dims(B=2, C=2, M=2, H=4, W=6, S=2), Dims(B=1, C=4, M=1, H=3, W=6, S=3))


class _Reordered(EndToEnd):
    """Window attention of a map whose positions are exchanged; subclasses name which, and what follows.

    ``order`` has one row of position numbers per way to exchange them: position n of the new map is position
    order[way, n] of the old one. The ways lie one after another along the batch.
    """

    operators = ("window_attention",)

    def orders(self, d: Dims) -> Tensor:
        """Return the ways to exchange positions, [ways, N]."""
        raise NotImplementedError

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Fix the ways to exchange positions."""
        return {**variables, "order": self.orders(d)}

    def left(self, d: Dims, x: Tensor, order: Tensor, **layers: Tensor) -> Tensor:
        """Exchange positions, then attend."""
        return attend_in_windows(d, reordered(x, order), layers)

    def right(self, d: Dims, x: Tensor, order: Tensor, **layers: Tensor) -> Tensor:
        """Attend, then exchange positions."""
        return reordered(attend_in_windows(d, x, layers), order)


class _Equivariant(_Reordered):
    """What attention in windows commutes with."""

    @mutant(drops="moved-back")
    def outputs_stay(self, d: Dims, x: Tensor, order: Tensor, **layers: Tensor) -> Tensor:
        """Outputs stay where they are."""
        return attend_in_windows(d, x, layers).repeat(len(order), 1, 1, 1)

    @mutant(drops="moved-back", sparse=True)
    def one_output_stays(self, d: Dims, x: Tensor, order: Tensor, **layers: Tensor) -> Tensor:
        """The output at the last position stays there, in one of the ways."""
        attended = attend_in_windows(d, x, layers)
        moved = reordered(attended, order)
        moved[len(x) : 2 * len(x), :, -1, -1] = attended[..., -1, -1]
        return moved


class WindowAttentionIsPermutationEquivariant(_Equivariant):
    """Window attention without position biases does not know where in its window a position lies.

    If positions of a window are exchanged, outputs are exchanged in the same way, each window by itself. Any
    exchange is made of two, checked here in one window: of its first two places, and of all of them in turn.
    """

    name = "window-attention-without-bias-is-permutation-equivariant"
    source = (
        "follows from the sum over a window, which has no order; Chu et al. 2021, arXiv 2104.13840, has "
        "windows without position biases"
    )
    conditions = {
        "no-position-bias": "all biases are zero",
        "within-windows": "positions are exchanged with others of their window",
        "moved-back": "outputs are exchanged in the same way",
    }
    shapes = EXCHANGED

    def orders(self, d: Dims) -> Tensor:
        """Exchange two places of the last window, and turn all of them."""
        return torch.tensor([in_last_window(d, swap(d.S**2)), in_last_window(d, turn(d.S**2))])

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Leave the biases out."""
        table = torch.zeros_like(variables["table"])
        return {**variables, "table": table, "order": self.orders(d)}

    @mutant(drops="no-position-bias", side="given")
    def with_biases(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """There are biases."""
        return {**variables, "order": self.orders(d)}

    @mutant(drops="within-windows", side="given")
    def across_windows(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """All positions of the map are turned."""
        given = WindowAttentionIsPermutationEquivariant.given(self, d, **variables)
        return {**given, "order": torch.tensor([turn(d.H * d.W)])}


class WindowAttentionIsNotPermutationEquivariant(_Reordered):
    """With position biases window attention knows where in its window a position lies.

    If two places of a window are exchanged, outputs are not exchanged in the same way.
    """

    name = "window-attention-with-bias-is-not-permutation-equivariant"
    kind = "negative"
    source = f"follows from {SWIN}, eq. (4), which adds a relative position bias to the logits"
    conditions = {
        "position-bias": "biases differ from offset to offset",
        "within-windows": "places of one window are exchanged, and not whole windows",
    }
    shapes = EXCHANGED

    def orders(self, d: Dims) -> Tensor:
        """Exchange two places of the last window."""
        return torch.tensor([in_last_window(d, swap(d.S**2))])

    @mutant(drops="position-bias", side="given")
    def without_biases(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """All biases are zero."""
        table = torch.zeros_like(variables["table"])
        return {**variables, "table": table, "order": self.orders(d)}

    @mutant(drops="position-bias", side="given")
    def same_bias_for_all_offsets(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """All offsets have the bias of the first."""
        table = variables["table"][:1].expand_as(variables["table"])
        return {**variables, "table": table, "order": self.orders(d)}

    @mutant(drops="within-windows", side="given")
    def windows_exchanged(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The first two windows are exchanged as they are."""
        return {**variables, "order": torch.tensor([of_windows(d, swap(windows(d)))])}

    @equivalent("a difference at one position is enough", sparse=True)
    def compared_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """Outputs are compared at the last position alone."""
        kept = self.left(d, **given).clone()
        kept[..., -1, -1] = self.right(d, **given)[..., -1, -1]
        return kept


class WindowAttentionIsEquivariantToWindows(_Equivariant):
    """Window attention does not know where a window lies, whatever its position biases.

    If windows are exchanged as they are, outputs are exchanged in the same way. So it commutes with a cyclic
    shift by a multiple of S rows and columns, which does that. Any exchange of windows is made of two: of the
    first two, and of all of them in turn.
    """

    name = "window-attention-is-equivariant-to-exchanged-windows"
    source = f"follows from {SWIN}, section 3.2: windows do not overlap, and all are computed alike"
    conditions = {
        "whole-windows": "windows are moved as they are",
        "cyclic": "what leaves the map on one side comes back on the other",
        "moved-back": "outputs are moved in the same way",
    }
    shapes = EXCHANGED

    def orders(self, d: Dims) -> Tensor:
        """Exchange two windows, turn all of them, and shift the map by a window down and to the right."""
        exchanged = [of_windows(d, order(windows(d))) for order in (swap, turn)]
        return torch.tensor([*exchanged, shift(d, d.S, d.S)])

    @mutant(drops="whole-windows", side="given")
    def shifted_by_one_row(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The map is shifted by one row."""
        return {**variables, "order": torch.tensor([shift(d, 1, 0)])}

    @mutant(drops="cyclic", side="left")
    def filled_with_zeros(self, d: Dims, x: Tensor, order: Tensor, **layers: Tensor) -> Tensor:
        """Zeros come in where the map is shifted."""
        shifted = F.pad(x, (d.S, 0, d.S, 0))[..., : d.H, : d.W]
        return attend_in_windows(d, torch.cat([reordered(x, order[:-1]), shifted]), layers)


class WindowAttentionIsNotShiftEquivariant(_Reordered):
    """Window attention does not commute with a cyclic shift of the map by one column.

    Windows stay where they are, so positions come into other windows. It takes a shift by a multiple of S, or
    a map that is one window wide and has no position biases.
    """

    name = "window-attention-is-not-shift-equivariant"
    kind = "negative"
    source = f"follows from {SWIN}, section 3.2: windows evenly partition the map and do not overlap"
    conditions = {
        "less-than-a-window": "the shift is no multiple of S",
        "several-windows": "the map is several windows wide, or has position biases",
        "columns-differ": "the columns of the map are not all the same",
    }
    shapes = EXCHANGED

    def orders(self, d: Dims) -> Tensor:
        """Shift the map by one column."""
        return torch.tensor([shift(d, 0, 1)])

    @mutant(drops="less-than-a-window", side="given")
    def shifted_by_a_window(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The map is shifted by S columns."""
        return {**variables, "order": torch.tensor([shift(d, 0, d.S)])}

    @mutant(drops="several-windows", side="given")
    def one_window_wide(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The map is the first S columns, and has no position biases."""
        table = torch.zeros_like(variables["table"])
        order = torch.tensor([shift(d.replace(W=d.S), 0, 1)])
        return {**variables, "x": variables["x"][..., : d.S], "table": table, "order": order}

    @mutant(drops="columns-differ", side="given")
    def same_columns(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """All columns are the first, and there are no position biases."""
        x = variables["x"][..., :1].expand(-1, -1, -1, d.W)
        table = torch.zeros_like(variables["table"])
        return {**variables, "x": x, "table": table, "order": self.orders(d)}

    @equivalent("a difference at one position is enough", sparse=True)
    def compared_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """Outputs are compared at the last position alone."""
        kept = self.left(d, **given).clone()
        kept[..., -1, -1] = self.right(d, **given)[..., -1, -1]
        return kept


class SlidingAttentionIsTranslationEquivariant(Translated):
    """Sliding-window attention is translation-equivariant; attention in the windows of a partition is not.

    Two maps that are cut from one picture, the second beginning some rows further down and columns further
    right, give the same outputs wherever the windows of both lie inside, softmax and projections included.
    """

    name = "sliding-attention-is-translation-equivariant"
    operators = ("sliding_attention2d",)
    source = (
        "follows from Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2), whose positions are "
        "relative"
    )
    shapes = (
        Dims(B=1, C=8, M=2, H=6, W=9, K=3, down=1, right=2),
        Dims(B=2, C=2, M=2, H=5, W=4, K=3, down=2, right=0),
    )
    complete_shapes = (Dims(B=1, C=2, M=2, H=4, W=5, K=3, down=1, right=0),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture and the four projections."""
        square = (d.C, d.C)
        layers = {"query": square, "key": square, "value": square, "proj": square}
        return {"picture": (d.B, d.C, d.H + d.down, d.W + d.right), **layers}

    def applied(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Compute sliding-window attention, projections included."""
        return sliding_attention2d.module(x, **layers, heads=d.M, kernel=d.K)


def attend_in_windows(d: Dims, x: Tensor, layers: Mapping[str, Tensor]) -> Tensor:
    """Compute window attention, projections included."""
    return window_attention.module(x, **layers, heads=d.M, window=d.S)


def reordered(x: Tensor, order: Tensor) -> Tensor:
    """Put position order[way, n] of [B, C, H, W] at position n: [ways·B, C, H, W]."""
    B, C, H, _ = x.shape
    return x.flatten(2)[..., order].permute(2, 0, 1, 3).reshape(len(order) * B, C, H, -1)


def swap(count: int) -> list[int]:
    """Exchange the first two of some things; of one nothing is exchanged."""
    return [1, 0, *range(2, count)][:count] if count > 1 else [0]


def turn(count: int) -> list[int]:
    """Put every thing in the place of the one before."""
    return [*range(1, count), 0]


def numbered(d: Dims) -> list[list[int]]:
    """Number the positions of a map in row order, by windows and their places."""
    corners = [(i, j) for i in range(0, d.H, d.S) for j in range(0, d.W, d.S)]
    return [[(i + a) * d.W + j + b for a in range(d.S) for b in range(d.S)] for i, j in corners]


def laid_out(d: Dims, by_windows: list[list[int]]) -> list[int]:
    """Lay numbers by windows and their places out row by row over the map."""
    places = [place for window in numbered(d) for place in window]
    numbers = [number for window in by_windows for number in window]
    return [number for _, number in sorted(zip(places, numbers, strict=True))]


def in_last_window(d: Dims, order: list[int]) -> list[int]:
    """Exchange the places of the last window."""
    *others, last = numbered(d)
    return laid_out(d, [*others, [last[place] for place in order]])


def of_windows(d: Dims, order: list[int]) -> list[int]:
    """Exchange windows as they are."""
    numbers = numbered(d)
    return laid_out(d, [numbers[window] for window in order])


def shift(d: Dims, down: int, right: int) -> list[int]:
    """Shift the map cyclically down and to the right."""
    return [(i - down) % d.H * d.W + (j - right) % d.W for i in range(d.H) for j in range(d.W)]
