"""Attention in shifted windows: rolled, as a grid that begins later, and with a mask that is no mask."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import shifted_window_attention, window_attention
from .index_sets import within
from .window_attention import SWIN, EndToEnd, Windows, apart, apart_in, masked_attention, windows


class ShiftedWindowAttentionIsRolled(Windows, Claim):
    """Shifted window attention is window attention of the rolled map, rolled back.

    The map is rolled up and to the left by the shift, cut into windows, and rolled down and to the right by
    as much afterwards. The maps are given here, those of pairs that a mask keeps apart included.
    """

    name = "shifted-window-attention-is-rolled-window-attention"
    operators = ("shifted_window_attention", "window_attention")
    source = f"{SWIN}, section 3.2, fig. 4: cyclic shift, masked attention, reverse cyclic shift"
    conditions = {
        "up-and-left": "the map is rolled up and to the left",
        "both-axes": "rows and columns are rolled by the same shift",
        "rolled-back": "the output is rolled back by as much",
        "rolled-order": "maps are counted by the windows of the rolled map",
    }
    shapes = (
        Dims(B=2, C=4, M=2, H=9, W=6, S=3, shift=1),
        Dims(B=2, C=4, M=2, H=4, W=6, S=2, shift=1),
        Dims(B=2, C=3, M=1, H=6, W=9, S=3, shift=5),
        Dims(B=2, C=4, M=2, H=3, W=6, S=3, shift=2),
        Dims(B=1, C=32, M=2, H=14, W=14, S=7, shift=3),
    )
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=4, S=2, shift=1),)
    algebra = (
        "position i of the map is position r of the rolled one, and place r mod S of window r div S there; "
        "rolling back undoes the one, and the sums over windows are the same"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of the rolled windows."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, windows(d), d.M, d.S**2, d.S**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend within shifted windows."""
        return shifted_window_attention.core(value, attention, shift=d.shift)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Roll, attend within windows, and roll back."""
        return roll(window_attention.core(roll(value, -d.shift), attention), d.shift)

    @lemma
    def rolling_back_undoes_rolling(self, z3: Any) -> Lemma:
        """Position i goes to r = (i−s) mod H, which lies in the map, and (r+s) mod H is i."""
        i, r, s, H = z3.Ints("i r s H")
        return Lemma(
            {
                "a position": within(z3, i, H),
                "a shift": within(z3, s, H),
                "rolled": r == z3.If(i >= s, i - s, i - s + H),
            },
            z3.And(within(z3, r, H), i == z3.If(r + s < H, r + s, r + s - H)),
        )

    @mutant(drops="up-and-left")
    def rolled_down(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The map is rolled down and to the right, and back."""
        return roll(window_attention.core(roll(value, d.shift), attention), -d.shift)

    @mutant(drops="both-axes")
    def rows_only(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Columns stay where they are."""
        return window_attention.core(value.roll(-d.shift, 2), attention).roll(d.shift, 2)

    @mutant(drops="rolled-back")
    def never_rolled_back(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The output stays rolled."""
        return window_attention.core(roll(value, -d.shift), attention)

    @mutant(drops="rolled-back", sparse=True)
    def one_position_never_rolled_back(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The output at the last position alone is that of the rolled map."""
        mixed = window_attention.core(roll(value, -d.shift), attention)
        back = roll(mixed, d.shift)
        back[..., -1, -1] = mixed[..., -1, -1]
        return back

    @mutant(drops="rolled-order")
    def maps_of_the_next_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every window takes the maps of the one before."""
        return self.right(d, value, attention.roll(1, 1))

    @equivalent("a roll by a whole side moves nothing")
    def rolled_around(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The map is rolled down as far as it takes to come round, and back so."""
        around = value.roll((d.H - d.shift, d.W - d.shift), (2, 3))
        back = (d.shift - d.H, d.shift - d.W)
        return window_attention.core(around, attention).roll(back, (2, 3))


class ShiftedWindowAttentionIsAMovedGrid(EndToEnd):
    """Shifted window attention is attention within the cells of a grid that begins later by the shift.

    Softmax, position biases and projections are included. Position i lies in the cell ⌊(i−s)/S⌋ of its axis;
    cells at the border are cut off by it. No roll is left, and no window that joins two sides of the map: the
    mask takes apart what the roll has joined, and nothing else.
    """

    name = "shifted-window-attention-is-a-moved-grid"
    operators = ("shifted_window_attention", "self_attention")
    source = (
        f"{SWIN}, section 3.2 and fig. 4, where the cyclic shift is an efficient way to compute windows of "
        "different sizes at the border"
    )
    conditions = {
        "moved": "the grid begins as many rows and columns later as the shift says",
        "masked": "positions that the roll brings into one window do not see each other",
        "cut-off": "cells at the border are smaller, and not joined across it",
        "by-offset": "a bias belongs to the offset of the query from the key, in Swin's order",
    }
    shapes = (
        Dims(B=1, C=8, M=2, H=4, W=6, S=2, shift=1),
        Dims(B=2, C=2, M=2, H=3, W=6, S=3, shift=2),
    )
    complete_shapes = (Dims(B=1, C=2, M=2, H=2, W=4, S=2, shift=1),)
    algebra = (
        "the mask leaves a row of the softmax those positions of the rolled window that lie on the same side "
        "of the border, which are those of its cell, at the same offsets as on the map"
    )

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute shifted window attention."""
        return shifted_window_attention.module(**given, heads=d.M, window=d.S, shift=d.shift)

    def right(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Attend to the whole map, with a mask between the cells of the moved grid."""
        return masked_attention(d, x, table, layers, apart(d, d.shift))

    @lemma
    def cells_of_the_moved_grid(self, z3: Any) -> Lemma:
        """Two positions are in one rolled window, on one side of the border, where they are in one cell.

        The cell of i is ⌊(i−s)/S⌋, and its rolled window the same, or Q more for i < s, with Q = H/S windows.
        """
        i, p, s, Q, S, first, second = z3.Ints("i p s Q S first second")
        rolled, other = z3.If(i >= s, first, first + Q), z3.If(p >= s, second, second + Q)
        return Lemma(
            {
                "a cell": within(z3, i - s, S, first=first * S),
                "its cell": within(z3, p - s, S, first=second * S),
            },
            z3.And(rolled == other, (i < s) == (p < s)) == (first == second),
        )

    @mutant(drops="moved")
    def grid_moved_by_one_less(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """The grid begins one row and column earlier than it should."""
        return masked_attention(d, x, table, layers, apart(d, d.shift - 1))

    @mutant(drops="masked")
    def joined_across_the_border(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Cells that the border cuts off see each other, at the offsets that they have on the map."""
        cell = [(torch.arange(size) - d.shift).remainder(size) // d.S for size in (d.H, d.W)]
        return masked_attention(d, x, table, layers, apart_in(d, *cell))

    @mutant(drops="cut-off", sparse=True)
    def last_sees_first(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """The last position sees the first, across the border."""
        mask = apart(d, d.shift).clone()
        mask[-1, 0] = False
        return masked_attention(d, x, table, layers, mask)

    @mutant(drops="by-offset")
    def table_read_backwards(self, d: Dims, table: Tensor, **rest: Tensor) -> Tensor:
        """The bias belongs to the offset of the key from the query."""
        return self.right(d, table=table.flip(0), **rest)


class SwinMaskKeepsApart(Claim):
    """In the limit of a large number taken off masked logits, shifted windows keep masked pairs apart.

    With e = exp(logit) and t = exp(−c) for masked pairs the weights are t·e over a sum in which t·e stands
    too. At t = 0, where c is infinite, they are those of the pairs that are kept; for c = 100, as released, a
    masked logit that is larger than the others by d keeps a weight of about exp(d−100).
    """

    name = "swin-mask-keeps-apart"
    kind = "limit"
    operators = ("shifted_window_attention",)
    source = (
        f"{SWIN}, section 3.2, masks with −∞ in effect; released code (microsoft/Swin-Transformer) adds −100"
    )
    conditions = {
        "at-the-limit": "t is zero",
        "normalised-alike": "masked pairs are left out of the sum that weights are divided by",
    }
    shapes = (
        Dims(B=2, C=4, M=2, H=4, W=6, S=2, shift=1),
        Dims(B=1, C=4, M=2, H=6, W=9, S=3, shift=1),
        Dims(B=1, C=4, M=1, H=3, W=6, S=3, shift=2),
    )
    complete_shapes = (Dims(B=1, C=2, M=2, H=2, W=4, S=2, shift=1),)
    corrects = "swin-mask-keeps-apart-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return values, exponentials of logits, and t."""
        return {
            "value": (d.B, d.C, d.H, d.W),
            "e": (d.B, windows(d), d.M, d.S**2, d.S**2),
            "t": (),
        }

    def given(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Mapping[str, Tensor]:
        """Go to the limit."""
        return {"value": value, "e": e, "t": 0 * t}

    def left(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Tensor:
        """Weigh masked pairs by t, and multiply with the sums of the other side, all divisions cleared."""
        kept = joined(d, e.dtype)
        leaking, masked = e * (kept + (1 - kept) * t), e * kept
        return weigh(d, value, leaking) * sums(d, masked)

    def right(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Tensor:
        """Leave masked pairs out, and multiply with the sums of the other side."""
        kept = joined(d, e.dtype)
        leaking, masked = e * (kept + (1 - kept) * t), e * kept
        return weigh(d, value, masked) * sums(d, leaking)

    @mutant(drops="at-the-limit", side="given")
    def finite_mask(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Mapping[str, Tensor]:
        """The mask is some number."""
        return {"value": value, "e": e, "t": t}

    @mutant(drops="at-the-limit", side="given", sparse=True)
    def finite_mask_for_one_pair(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Mapping[str, Tensor]:
        """It is so for the last position of the last window of the first image alone."""
        one = torch.zeros_like(e[..., :1])
        one[0, -1, :, -1] = 1
        return {"value": value, "e": e, "t": t * one}

    @mutant(drops="normalised-alike")
    def divided_by_the_whole_sum(self, d: Dims, value: Tensor, e: Tensor, t: Tensor) -> Tensor:
        """Masked pairs stay in the sum that weights are divided by."""
        return weigh(d, value, e * joined(d, e.dtype)) * sums(d, e)


class SwinMaskKeepsApartAsStated(EndToEnd):
    """Adding −100 to the logits of masked pairs takes them out of the attention, as −∞ does."""

    name = "swin-mask-keeps-apart-as-stated"
    expected = "refuted"
    operators = ("shifted_window_attention",)
    source = (
        "github.com/microsoft/Swin-Transformer, issue 52, an author: “The mask of all connections between "
        "these 4-sub-windows are set -100.0, which will make these connections no contribution to the "
        "attention computation.”"
    )
    shapes = ShiftedWindowAttentionIsAMovedGrid.shapes
    complete_shapes = ShiftedWindowAttentionIsAMovedGrid.complete_shapes

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute shifted window attention, masked with −∞."""
        return shifted_window_attention.module(**given, heads=d.M, window=d.S, shift=d.shift)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute it as released, masked with −100."""
        return shifted_window_attention.module_authors(**given, heads=d.M, window=d.S, shift=d.shift)


def joined(d: Dims, dtype: torch.dtype) -> Tensor:
    """Tell which pairs of the rolled windows the mask keeps: ones and zeros [HW/S², 1, S², S²]."""
    region = [torch.arange(size).ge(size - d.shift).long() for size in (d.H, d.W)]
    numbers = 2 * region[0][:, None] + region[1]
    cells = numbers.view(d.H // d.S, d.S, d.W // d.S, d.S).transpose(1, 2).reshape(-1, 1, d.S**2, 1)
    return cells.eq(cells.mT).to(dtype)


def weigh(d: Dims, value: Tensor, weights: Tensor) -> Tensor:
    """Weigh values within shifted windows."""
    return shifted_window_attention.core(value, weights, shift=d.shift)


def sums(d: Dims, weights: Tensor) -> Tensor:
    """Sum the weights of every position and head, for each channel of the head: [B, C, H, W]."""
    ones = torch.ones(d.B, d.C, d.H, d.W, dtype=weights.dtype)
    return weigh(d, ones, weights)


def roll(x: Tensor, steps: int) -> Tensor:
    """Roll [B, C, H, W] down and to the right."""
    return x.roll((steps, steps), (2, 3))
