"""Attention in windows, of a partition or sliding, seen as involution, self-attention and convolution."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import (
    outlook_attention,
    self_attention,
    shifted_window_attention,
    sliding_attention2d,
    window_attention,
)
from ..convolution import depthwise_conv2d as depthwise
from ..involution import involution
from ..workloads import MAPS, WINDOWED_MAPS
from .index_sets import BlockedGroups, CentredTaps, RowOrder, within
from .involution import (
    Translated,
    neighbour_logits,
    output_layer,
    pair_logits,
    queries_keys_values,
)
from .local_attention import as_kernels
from .outlook_attention import OverlappingWindows, outlook_kernels, own_rows
from .self_attention import project

Outputs = tuple[Tensor, ...]

SWIN = "Liu et al. 2021, ICCV, arXiv 2103.14030"
HAN = "Han et al. 2022, ICLR, arXiv 2106.04263"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, M=2, H=H, W=W, S=S) for H, W, S in reversed(WINDOWED_MAPS))
REALISTIC = Dims(B=1, C=32, M=2, H=14, W=14, S=7)
TINY = (Dims(B=2, C=4, M=2, H=2, W=4, S=2),)


class Windows:
    """Windows of S positions along an axis, side by side from the first position on."""

    @lemma
    def a_position_lies_in_one_window(self, z3: Any) -> Lemma:
        """Place a of window h is position i = hS+a, and no other: h is i div S and a is i mod S."""
        i, h, a, S = z3.Ints("i h a S")
        return Lemma(
            {"in row order": i == h * S + a, "in the window": within(z3, a, S)},
            z3.And(h == i / S, a == i % S),
        )


class WindowTaps(Windows):
    """A kernel of 2S−1 taps along an axis, whose middle one is tap S−1."""

    @lemma
    def a_pair_in_a_window_is_one_tap(self, z3: Any) -> Lemma:
        """Of the 2S−1 taps of position i exactly one, u = p−i+S−1, reads position p of the same window."""
        i, p, u, other, h, S = z3.Ints("i p u other h S")
        return Lemma(
            {
                "here": within(z3, i, S, first=h * S),
                "there": within(z3, p, S, first=h * S),
                "by offset": u == p - i + S - 1,
            },
            z3.And(within(z3, u, 2 * S - 1), (i + other - (S - 1) == p) == (other == u)),
        )

    @lemma
    def weights_lie_where_the_window_does(self, z3: Any) -> Lemma:
        """The S weights of place a, laid from tap S−1−a on, are the taps that read the window, and fit."""
        i, h, a, u, S = z3.Ints("i h a u S")
        return Lemma(
            {"a place": within(z3, a, S), "its position": i == h * S + a},
            z3.And(
                within(z3, u, S, first=S - 1 - a) == within(z3, i + u - (S - 1), S, first=h * S),
                S - 1 - a >= 0,
                S - 1 - a + S <= 2 * S - 1,
            ),
        )


class WindowAttentionIsInvolution(WindowTaps, RowOrder, BlockedGroups, Claim):
    """Window attention with given maps is an involution with 2S−1 by 2S−1 taps, zero off the window.

    The weights that a position gives to its window lie in its kernel by the offset of the other position;
    of (2S−1)² taps S² are not zero, and which those are depends on the place in the window. A head is a
    group.
    """

    name = "window-attention-is-involution"
    operators = ("window_attention", "involution")
    source = (
        f"follows from {SWIN}, eq. (4), and Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4); the latter's "
        "abstract: “we additionally demystify the recent popular self-attention operator and subsume it into "
        "our involution family”"
    )
    conditions = {
        "whole-window": "the kernel reaches from every place of a window to every other",
        "nothing-off-window": "taps that leave the window weigh nothing",
        "by-place": "a weight lies at the tap that reads its position, seen from the place of the kernel",
        "not-flipped": "taps are laid out by where the other position lies, seen from this one",
        "row-order": "rows of the kernel are rows of the map",
        "giving": "a position's kernel holds the weights that it gives, not those that it gets",
        "own-window": "a position takes the map of its own window",
        "group-per-head": "every head has kernels of its own",
        "blocked-groups": "group m is made of the channels mD to mD+D−1",
        "per-image": "every image has kernels of its own",
    }
    shapes = (*SMALL, REALISTIC)
    complete_shapes = TINY
    algebra = (
        "y[b, c, p] = Σ_q a[b, n, m, p, q] · v[b, c, q] over the window of p equals "
        "Σ_uv k[b, g, u, v, p] · v[b, c, p + (u, v) − (S−1, S−1)] over all taps, for each q of the window is "
        "read by one tap, which has its weight, the other taps weigh nothing, and m = ⌊cM/C⌋ = g"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps; what makes the maps is left open."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, windows(d), d.M, d.S**2, d.S**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend within windows."""
        return window_attention.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Involve the map with kernels that hold the windows."""
        return involution.core(value, window_kernels(d, attention))

    @mutant(drops="whole-window")
    def kernel_too_small(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel has 2S−3 by 2S−3 taps."""
        return involution.core(value, window_kernels(d, attention)[:, :, 1:-1, 1:-1])

    @mutant(drops="whole-window", sparse=True)
    def last_tap_left_out(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """In the first window, its first place does not see its last."""
        kernels = window_kernels(d, attention)
        kernels[:, :, -1, -1, 0, 0] = 0
        return involution.core(value, kernels)

    @mutant(drops="nothing-off-window")
    def weights_off_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Taps that leave the window weigh one."""
        return involution.core(value, window_kernels(d, attention, outside=1))

    @mutant(drops="by-place")
    def laid_from_the_first_tap(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The weights of every place lie as those of the last place do, from the first tap on."""
        maps = attention.view(d.B, d.H // d.S, d.W // d.S, d.M, *(d.S,) * 4)
        return involution.core(value, as_map(d, F.pad(maps, (0, d.S - 1, 0, d.S - 1))))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return involution.core(value, window_kernels(d, attention).flip(2, 3))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Rows and columns of the kernel are exchanged."""
        return involution.core(value, window_kernels(d, attention).transpose(2, 3))

    @mutant(drops="giving")
    def transposed_attention(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """A position's kernel holds the weights that others give to it."""
        return involution.core(value, window_kernels(d, attention.mT))

    @mutant(drops="own-window")
    def maps_of_another_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every window takes the map of the one before."""
        return involution.core(value, window_kernels(d, attention.roll(1, 1)))

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        return involution.core(value, window_kernels(d, attention)[:, :1])

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Channel c takes the kernels of head c mod M."""
        return involution.core(value, window_kernels(d, attention).repeat(1, d.C // d.M, 1, 1, 1, 1))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return involution.core(value, window_kernels(d, attention).roll(1, 0))

    @equivalent("taps farther away than the window reaches weigh nothing")
    def larger_kernel(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel has 2S+1 by 2S+1 taps."""
        return involution.core(value, F.pad(window_kernels(d, attention), (0, 0, 0, 0, 1, 1, 1, 1)))


class WindowAttentionIsSelfAttention(Windows, RowOrder, Claim):
    """Window attention with given maps is self-attention over the whole map, zero between windows.

    In the order of windows its matrix of N×N is block-diagonal, with S²×S² blocks.
    """

    name = "window-attention-is-block-diagonal-self-attention"
    operators = ("window_attention", "self_attention")
    source = f"{SWIN}, section 3.2, which limits self-attention to windows that do not overlap"
    conditions = {
        "nothing-between-windows": "positions of different windows weigh nothing for each other",
        "in-place": "row and column of the matrix count positions of the map, not places of windows",
        "own-window": "a position takes the map of its own window",
        "giving": "a row holds the weights that its position gives",
        "per-head": "every head has a matrix of its own",
        "per-image": "every image has matrices of its own",
    }
    shapes = (*SMALL, REALISTIC)
    complete_shapes = TINY
    algebra = (
        "Σ_q a[b, m, p, q] · v[b, c, q] over all positions has no terms but those of the window of p, whose "
        "positions and places determine each other, in rows and in columns"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of windows."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, windows(d), d.M, d.S**2, d.S**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend within windows."""
        return window_attention.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend to the whole map."""
        return self_attention.core(value, whole_map(d, attention))

    @mutant(drops="nothing-between-windows")
    def something_between_windows(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Positions of different windows weigh one for each other."""
        between = 1 - whole_map(d, torch.ones_like(attention))
        return self_attention.core(value, whole_map(d, attention) + between)

    @mutant(drops="nothing-between-windows", sparse=True)
    def one_pair_between_windows(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The first position sees the last, with weight one."""
        weights = whole_map(d, attention)
        weights[:, :, 0, -1] += 1
        return self_attention.core(value, weights)

    @mutant(drops="in-place")
    def places_for_positions(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The blocks stand on the diagonal in the order of windows, but the map is read row by row."""
        each = torch.eye(windows(d), dtype=attention.dtype)
        blocks = torch.einsum("bnmpq,nk->bmnpkq", attention, each)
        return self_attention.core(value, blocks.reshape(d.B, d.M, d.H * d.W, d.H * d.W))

    @mutant(drops="own-window")
    def maps_of_another_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every window takes the map of the one before."""
        return self.right(d, value, attention.roll(1, 1))

    @mutant(drops="giving")
    def transposed_attention(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """A row holds the weights that its position gets."""
        return self.right(d, value, attention.mT)

    @mutant(drops="per-head")
    def one_matrix_for_all_heads(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All heads take the matrix of the first."""
        return self.right(d, value, attention[:, :, :1].expand_as(attention))

    @mutant(drops="per-image")
    def matrices_of_another_image(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the matrices of the one before."""
        return self.right(d, value, attention.roll(1, 0))

    @equivalent("a window that is the whole map is all of it")
    def one_window_at_a_time(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Cut the map and attend to each window as to a map of its own."""
        cut = value.view(d.B, d.C, d.H // d.S, d.S, d.W // d.S, d.S).permute(0, 2, 4, 1, 3, 5)
        each = self_attention.core(cut.reshape(-1, d.C, d.S, d.S), attention.flatten(0, 1))
        back = each.view(d.B, d.H // d.S, d.W // d.S, d.C, d.S, d.S).permute(0, 3, 1, 4, 2, 5)
        return back.reshape(d.B, d.C, d.H, d.W)


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


class _EndToEnd(Claim):
    """Attention in windows with softmax, position biases and projections; subclasses name the other side."""

    complete_shapes = (Dims(B=1, C=2, M=2, H=2, W=4, S=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the layers, and the table of position biases."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "qkv": (3 * d.C, d.C),
            "qkv_bias": (3 * d.C,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
            "table": ((2 * d.S - 1) ** 2, d.M),
        }


# Heads of four channels, and of one, so that dividing by √D is exact. The larger map first.
END_TO_END = (Dims(B=1, C=8, M=2, H=4, W=6, S=2), Dims(B=2, C=2, M=2, H=3, W=6, S=3))
# What does not depend on the scale of logits is seen with fewer channels.
EXCHANGED = (Dims(B=2, C=2, M=2, H=4, W=6, S=2), Dims(B=1, C=4, M=1, H=3, W=6, S=3))


class WindowAttentionIsInvolutionEndToEnd(WindowTaps, _EndToEnd):
    """Window attention, softmax, biases and projections included, is an involution between projections.

    The kernel of a position is a softmax over 2S−1 by 2S−1 taps of q·k/√D plus a bias by tap, from which the
    taps off its window are left out. Swin's table counts by the offset of the query from the key, taps
    count by that of the key from the query, so the biases of the taps are the table read backwards.
    """

    name = "window-attention-is-involution-end-to-end"
    operators = ("window_attention", "involution")
    source = (
        f"follows from {SWIN}, eq. (4); Li et al. 2021, CVPR, arXiv 2103.06255, abstract: “we additionally "
        "demystify the recent popular self-attention operator and subsume it into our involution family”"
    )
    conditions = {
        "values-first": "W_v acts before the sum over the window, W_o after it",
        "off-window": "taps off the window take no part in the softmax",
        "own-window": "which taps those are depends on the place in the window",
        "by-offset": "the bias of a tap is the entry of the table for the opposite offset",
        "inside-softmax": "the bias is added to the logits",
        "scaled": "the products of queries and keys are divided by √D",
        "group-per-head": "every head has kernels of its own",
    }
    shapes = END_TO_END
    algebra = (
        "the softmax over the taps of p has the finite arguments of its row in its window, each at the tap "
        "that reads its position, and the other taps weigh nothing"
    )

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute window attention."""
        return window_attention.module(**given, heads=d.M, window=d.S)

    def right(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Generate kernels, and involve the projected map."""
        q, k, v, last = split(x, **layers)
        logits = tap_logits(d, q, k) + backwards(d, table)
        return output_layer(involution.core(v, soft_taps(d, logits, off_window(d))), **last)

    @mutant(drops="values-first")
    def values_projected_last(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """W_v and its bias act on the sums; with more than one head W_v mixes what heads have weighted."""
        q, k, _, last = split(x, **layers)
        kernels = soft_taps(d, tap_logits(d, q, k) + backwards(d, table), off_window(d))
        qkv, bias = layers["qkv"][2 * d.C :], layers["qkv_bias"][2 * d.C :]
        return output_layer(project(involution.core(x, kernels), qkv) + bias[:, None, None], **last)

    @mutant(drops="off-window")
    def whole_kernel(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """All taps in the map take part."""
        q, k, v, last = split(x, **layers)
        logits = tap_logits(d, q, k) + backwards(d, table)
        return output_layer(involution.core(v, soft_taps(d, logits, off_map(d))), **last)

    @mutant(drops="off-window", sparse=True)
    def whole_kernel_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """All taps in the map take part at the first place of the second window alone."""
        output = self.right(d, **given)
        output[..., 0, d.S % d.W] = self.whole_kernel(d, **given)[..., 0, d.S % d.W]
        return output

    @mutant(drops="own-window")
    def taps_of_the_first_place(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """At all places the taps take part that read the window at its first place, if they read the map."""
        q, k, v, last = split(x, **layers)
        logits = tap_logits(d, q, k) + backwards(d, table)
        first = off_window(d)[..., :1, :1].expand(-1, d.H, d.W)
        hidden = (first | off_map(d)).index_fill(0, torch.tensor((2 * d.S - 1) ** 2 // 2), False)
        return output_layer(involution.core(v, soft_taps(d, logits, hidden)), **last)

    @mutant(drops="by-offset")
    def table_read_forwards(self, d: Dims, table: Tensor, **rest: Tensor) -> Tensor:
        """The bias of a tap is the entry of the table for its own offset."""
        return self.right(d, table=table.flip(0), **rest)

    @mutant(drops="inside-softmax")
    def bias_on_weights(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """The bias is added to the weights of the window."""
        q, k, v, last = split(x, **layers)
        U = 2 * d.S - 1
        inside = off_window(d).logical_not().to(x.dtype).view(U, U, d.H, d.W)
        biases = backwards(d, table).view(1, d.M, U, U, 1, 1) * inside
        kernels = soft_taps(d, tap_logits(d, q, k), off_window(d)) + biases
        return output_layer(involution.core(v, kernels), **last)

    @mutant(drops="scaled")
    def scale_left_out(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Logits are not divided."""
        q, k, v, last = split(x, **layers)
        logits = tap_logits(d, 2 * q, k) + backwards(d, table)
        return output_layer(involution.core(v, soft_taps(d, logits, off_window(d))), **last)

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        q, k, v, last = split(x, **layers)
        kernels = soft_taps(d, tap_logits(d, q, k) + backwards(d, table), off_window(d))
        return output_layer(involution.core(v, kernels[:, :1]), **last)


class WindowAttentionIsMaskedSelfAttention(Windows, _EndToEnd):
    """Window attention is self-attention over the whole map with −∞ between windows and a bias by offset.

    Softmax, position biases and projections are included. The mask makes the matrix block-diagonal in the
    order of windows; a mask of a large number in place of −∞ would not.
    """

    name = "window-attention-is-masked-self-attention"
    operators = ("window_attention", "self_attention")
    source = f"{SWIN}, section 3.2 and eq. (4)"
    conditions = {
        "masked": "pairs of different windows take no part in the softmax",
        "by-offset": "a bias belongs to the offset of the query from the key, in Swin's order",
        "inside-softmax": "the bias is added to the logits",
        "scaled": "the products of queries and keys are divided by √D",
    }
    shapes = END_TO_END
    algebra = (
        "the softmax over the row of p in the whole map has the finite arguments of its row in its window, "
        "whose positions and places determine each other, and is zero elsewhere"
    )

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute window attention."""
        return window_attention.module(**given, heads=d.M, window=d.S)

    def right(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Attend to the whole map, with a mask."""
        return masked_attention(d, x, table, layers, apart(d))

    @mutant(drops="masked")
    def unmasked(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """Pairs of different windows take part, with the bias of the nearest offset."""
        return masked_attention(d, x, table, layers, torch.zeros_like(apart(d)))

    @mutant(drops="masked", sparse=True)
    def one_pair_unmasked(self, d: Dims, x: Tensor, table: Tensor, **layers: Tensor) -> Tensor:
        """The first position sees the last."""
        mask = apart(d).clone()
        mask[0, -1] = False
        return masked_attention(d, x, table, layers, mask)

    @mutant(drops="by-offset")
    def table_read_backwards(self, d: Dims, table: Tensor, **rest: Tensor) -> Tensor:
        """The bias belongs to the offset of the key from the query."""
        return self.right(d, table=table.flip(0), **rest)

    @mutant(drops="inside-softmax")
    def biases_left_out(self, d: Dims, table: Tensor, **rest: Tensor) -> Tensor:
        """No bias is added to the logits."""
        return self.right(d, table=torch.zeros_like(table), **rest)

    @mutant(drops="scaled")
    def table_scaled(self, d: Dims, table: Tensor, **rest: Tensor) -> Tensor:
        """The biases are divided by √D with the products, or what is the same, products are not."""
        return self.right(d, table=0.5 * table, **rest)


class ShiftedWindowAttentionIsAMovedGrid(_EndToEnd):
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


class SwinMaskKeepsApartAsStated(_EndToEnd):
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


class _Reordered(_EndToEnd):
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


class LocalOperatorsAreOneInvolution(WindowTaps, OverlappingWindows, CentredTaps, Claim):
    """Window attention, sliding-window attention and outlook attention are one operator: involution.

    They differ in which kernels it can have. Window attention has 2S−1 by 2S−1 taps, of which S² lie on the
    window and the others are zero; sliding-window attention has K×K free ones; outlook attention has 2K−1 by
    2K−1, sums over the windows that hold a position.
    """

    name = "local-operators-are-one-involution"
    operators = ("window_attention", "sliding_attention2d", "outlook_attention", "involution")
    source = (
        f"follows from {SWIN}, eq. (4), Ramachandran et al. 2019, arXiv 1906.05909, eq. (2), Yuan et al. "
        "2021, arXiv 2106.13112, eq. (3) to (5), and Li et al. 2021, arXiv 2103.06255, eq. (4)"
    )
    conditions = {
        "partition": "windows of window attention cut the map, and its taps off the window are zero",
        "sliding": "the window of sliding-window attention is centred on the position",
        "overlap": "windows of outlook attention begin at every position, and are added up",
        "blocked-heads": "a head is a group of adjacent channels",
        "values-first": "what is weighed is the same map of values in all three",
    }
    shapes = (
        Dims(B=2, C=4, M=2, H=4, W=6, S=2, K=3),
        Dims(B=2, C=4, M=2, H=9, W=3, S=3, K=3),
        Dims(B=1, C=4, M=2, H=2, W=6, S=2, K=5),
    )
    complete_shapes = (Dims(B=1, C=4, M=2, H=2, W=4, S=2, K=2),)
    algebra = (
        "each output is a sum over positions of the map with weights that head, image and position decide, "
        "and each position is read by one tap of each kernel"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of each operator."""
        return {
            "value": (d.B, d.C, d.H, d.W),
            "in_windows": (d.B, windows(d), d.M, d.S**2, d.S**2),
            "sliding": (d.B, d.M, d.H, d.W, d.K**2),
            "outlook": (d.B, d.M, d.H * d.W, d.K**2, d.K**2),
        }

    def left(self, d: Dims, value: Tensor, in_windows: Tensor, sliding: Tensor, outlook: Tensor) -> Outputs:
        """Attend in three ways."""
        return (
            window_attention.core(value, in_windows),
            sliding_attention2d.core(value, sliding),
            outlook_attention.core(value, outlook, stride=1),
        )

    def right(self, d: Dims, value: Tensor, in_windows: Tensor, sliding: Tensor, outlook: Tensor) -> Outputs:
        """Involve the map with three kernels."""
        return (
            involution.core(value, window_kernels(d, in_windows)),
            involution.core(value, as_kernels(d, sliding)),
            involution.core(value, outlook_kernels(d, outlook)),
        )

    @mutant(drops="partition")
    def weights_off_window(self, d: Dims, in_windows: Tensor, **rest: Tensor) -> Outputs:
        """Taps that leave the window weigh one."""
        _, *others = self.right(d, in_windows=in_windows, **rest)
        first = involution.core(rest["value"], window_kernels(d, in_windows, outside=1))
        return first, others[0], others[1]

    @mutant(drops="sliding")
    def window_off_by_one(self, d: Dims, sliding: Tensor, **rest: Tensor) -> Outputs:
        """The sliding window is centred on the position to the right."""
        first, _, last = self.right(d, sliding=sliding, **rest)
        kernels = F.pad(as_kernels(d, sliding), (0, 0, 0, 0, 2, 0))
        return first, involution.core(rest["value"], kernels), last

    @mutant(drops="overlap")
    def own_window_only(self, d: Dims, outlook: Tensor, **rest: Tensor) -> Outputs:
        """The kernel of outlook attention is its weights for the middle of a window."""
        first, second, _ = self.right(d, outlook=outlook, **rest)
        return first, second, involution.core(rest["value"], own_rows(d, outlook))

    @mutant(drops="blocked-heads", side="left")
    def interleaved_heads(self, d: Dims, value: Tensor, **maps: Tensor) -> Outputs:
        """Head m owns the channels m, m+M and so on."""
        dealt = value.view(d.B, -1, d.M, d.H, d.W).transpose(1, 2).reshape(value.shape)
        outputs = self.left(d, dealt, **maps)
        back = [out.view(d.B, d.M, -1, d.H, d.W).transpose(1, 2).reshape(value.shape) for out in outputs]
        return back[0], back[1], back[2]

    @mutant(drops="values-first")
    def other_values_for_one(self, d: Dims, value: Tensor, **maps: Tensor) -> Outputs:
        """Sliding-window attention weighs the next channel's values."""
        first, _, last = self.right(d, value, **maps)
        return first, self.right(d, value.roll(1, 1), **maps)[1], last

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, in_windows: Tensor, **rest: Tensor) -> Outputs:
        """In the first window, the first place does not see the last."""
        _, *others = self.right(d, in_windows=in_windows, **rest)
        kernels = window_kernels(d, in_windows)
        kernels[:, :, -1, -1, 0, 0] = 0
        return involution.core(rest["value"], kernels), others[0], others[1]


class LocalAttentionIsDepthwise(CentredTaps, BlockedGroups, Claim):
    """Sliding-window attention with the same weights everywhere is depthwise convolution with tied kernels.

    All images and positions then have one kernel, which the channels of a head share. A softmax takes that
    away: its weights depend on the map, and at the border, where fewer neighbours share them, they grow.
    """

    name = "local-attention-is-depthwise"
    operators = ("sliding_attention2d", "depthwise_conv2d")
    source = (
        f"{HAN}, abstract: “depth-wise convolution shares connection weights (kernel weights) across spatial "
        "positions and attention shares the connection weights across channels”"
    )
    conditions = {
        "same-at-all-positions": "all positions give the same weights",
        "same-for-all-images": "all images give the same weights",
        "tied": "the channels of a head have one kernel",
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "sliding": "the window slides with the position; it is no cell of a partition",
        "odd-window": "the window has a middle, for convolution pads both sides of an even kernel alike",
        "zero-padding": "weights of neighbours outside the map are lost, and not shared among the others",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
    }
    shapes = (
        *(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4])),
        Dims(B=1, C=32, M=2, H=14, W=14, K=7),
    )
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3, K=3),)
    corrects = "local-attention-is-depthwise-as-stated"
    algebra = (
        "Σ_n a[m, n] · v[b, c, p_n] over the neighbours in the map equals Σ_uv k[c, u, v] · v[b, c, i+u−r, "
        "j+v−r] with k[c, u, v] = a[⌊cM/C⌋, uK+v]: taps and neighbours are the same terms"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values, the weights, and what a position or an image may add to them."""
        return {
            "value": (d.B, d.C, d.H, d.W),
            "weight": (d.M, d.K**2),
            "own": (d.B, d.H, d.W),
        }

    def given(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Give all images and positions the same weights."""
        everywhere = weight[:, None, None].expand(d.B, d.M, d.H, d.W, d.K**2)
        return {"value": value, "weight": weight, "attention": everywhere}

    def left(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the weights as kernels, those of a head for all of its channels."""
        K = math.isqrt(weight.shape[1])
        return depthwise.core(value, weight.view(d.M, K, K).repeat_interleave(d.C // d.M, 0))

    @mutant(drops="same-at-all-positions", side="given")
    def weights_that_vary(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Every position adds something of its own."""
        given = self.given(d, value, weight, own)
        return {**given, "attention": given["attention"] + own[:1, None, :, :, None]}

    @mutant(drops="same-at-all-positions", side="given", sparse=True)
    def one_position_varies(
        self, d: Dims, value: Tensor, weight: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """The last position alone adds something of its own."""
        given = self.given(d, value, weight, own)
        last = F.pad(own[:1, None, -1:, -1:, None], (0, 0, d.W - 1, 0, d.H - 1, 0))
        return {**given, "attention": given["attention"] + last}

    @mutant(drops="same-for-all-images", side="given")
    def weights_of_an_image(
        self, d: Dims, value: Tensor, weight: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """Every image adds something of its own."""
        given = self.given(d, value, weight, own)
        return {**given, "attention": given["attention"] + own[:, :1, :1, None, None]}

    @mutant(drops="tied")
    def second_channels_doubled(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Every other channel has twice the kernel of its head."""
        factors = torch.arange(d.C, dtype=weight.dtype).remainder(2) + 1
        return factors[:, None, None] * self.right(d, value, weight)

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Channel c has the kernel of head c mod M."""
        return depthwise.core(value, weight.view(d.M, d.K, d.K).repeat(d.C // d.M, 1, 1))

    @mutant(drops="sliding", side="left")
    def windows_of_a_partition(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """A position attends to the cell that holds it, the map being cut into K×K windows."""
        down, right = -d.H % d.K, -d.W % d.K
        wide = F.pad(value, (0, right, 0, down))
        cells = (d.H + down) // d.K * ((d.W + right) // d.K)
        maps = attention[:, :, 0, 0][:, None, :, None].expand(d.B, cells, d.M, d.K**2, d.K**2)
        return window_attention.core(wide, maps)[..., : d.H, : d.W]

    @mutant(drops="odd-window", side="given")
    def even_window(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """The window has a row and a column more, of ones."""
        even = F.pad(weight.view(d.M, d.K, d.K), (0, 1, 0, 1), value=1).flatten(1)
        everywhere = even[:, None, None].expand(d.B, d.M, d.H, d.W, (d.K + 1) ** 2)
        return {"value": value, "weight": even, "attention": everywhere}

    @mutant(drops="zero-padding", side="left")
    def doubled_at_the_border(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """In the first row weights are twice as large, as those of a softmax over half as many neighbours."""
        doubled = torch.cat([2 * attention[:, :, :1], attention[:, :, 1:]], 2)
        return sliding_attention2d.core(value, doubled)

    @mutant(drops="not-flipped")
    def flipped_kernels(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        return self.right(d, value, weight.flip(1))


class LocalAttentionIsDepthwiseAsStated(Claim):
    """Local attention is a depthwise convolution: its weights are the kernel."""

    name = "local-attention-is-depthwise-as-stated"
    expected = "refuted"
    operators = ("sliding_attention2d", "depthwise_conv2d")
    source = (
        f"read into {HAN}, abstract, “local attention resembles depth-wise convolution and its dynamic "
        "variants in sparse connectivity”, which says no more than that"
    )
    shapes = LocalAttentionIsDepthwise.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of all positions."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, d.M, d.H, d.W, d.K**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Convolve with the weights of the first position."""
        first = attention[0, :, 0, 0].view(d.M, d.K, d.K)
        return depthwise.core(value, first.repeat_interleave(d.C // d.M, 0))


class LocalAttentionKeepsConstants(CentredTaps, Claim):
    """Local attention leaves constant values as they are, at the border too.

    The weights that a position gives to the neighbours in the map sum to one, as a softmax over them makes
    them do. So it has no kernel that sums to anything else, though depthwise convolution has.
    """

    name = "local-attention-keeps-constants"
    operators = ("sliding_attention2d",)
    source = (
        "follows from Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2): a softmax over the "
        "neighbours"
    )
    conditions = {
        "sums-to-one": "the weights of a position sum to one",
        "masked": "neighbours outside the map take no part in the sum",
    }
    shapes = tuple(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS))
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3, K=3),)
    algebra = (
        "Σ_n a[n] · c over the neighbours in the map is c times Σ_n a[n], and the taps outside read zeros"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a constant per channel, and the weights but for what makes them sum to one."""
        return {"constant": (d.B, d.C), "free": (d.B, d.M, d.H, d.W, d.K**2)}

    def given(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Take off the position's own weight what the sum over the neighbours in the map is above one."""
        return {"constant": constant, "attention": normalised(d, free, in_map(d, free.dtype))}

    def left(self, d: Dims, constant: Tensor, attention: Tensor) -> Tensor:
        """Attend to constant values."""
        values = constant[..., None, None].expand(d.B, d.C, d.H, d.W)
        return sliding_attention2d.core(values, attention)

    def right(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Keep the constants."""
        return constant[..., None, None].expand(d.B, d.C, d.H, d.W)

    @mutant(drops="sums-to-one", side="given")
    def any_sum(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """The weights sum to anything."""
        return {"constant": constant, "attention": free}

    @mutant(drops="sums-to-one", side="given", sparse=True)
    def another_sum_at_one_position(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """At the last position the weights sum to two."""
        weights = self.given(d, constant, free)["attention"].clone()
        weights[..., -1, -1, d.K**2 // 2] += 1
        return {"constant": constant, "attention": weights}

    @mutant(drops="masked", side="given")
    def padded_keys(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """All K² weights sum to one, those of neighbours outside the map included."""
        return {"constant": constant, "attention": normalised(d, free, torch.ones_like(free[0, 0]))}

    @mutant()
    def negated(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Constants change their sign."""
        return -self.right(d, constant)


def normalised(d: Dims, free: Tensor, counted: Tensor) -> Tensor:
    """Change the position's own weight so that the counted ones [H, W, K²] of [B, M, H, W, K²] sum to one."""
    own = torch.eye(d.K**2, dtype=free.dtype)[d.K**2 // 2]
    return free + own * (1 - (free * counted).sum(-1, keepdim=True))


def in_map(d: Dims, dtype: torch.dtype) -> Tensor:
    """Tell which neighbours of every position lie in the map: ones and zeros [H, W, K²]."""
    inside = F.pad(torch.ones(d.H, d.W, dtype=dtype), (d.K // 2, (d.K - 1) // 2) * 2)
    return inside.unfold(0, d.K, 1).unfold(1, d.K, 1).reshape(d.H, d.W, d.K**2)


def split(
    x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor
) -> tuple[Tensor, Tensor, Tensor, Mapping[str, Tensor]]:
    """Project a map to queries, keys and values, and hand on what the last layer takes."""
    return *queries_keys_values(x, qkv, qkv_bias), last


def tap_logits(d: Dims, q: Tensor, k: Tensor) -> Tensor:
    """Multiply queries and the keys of 2S−1 by 2S−1 taps, by heads: [B, M, (2S−1)², H, W]."""
    return neighbour_logits(d.replace(K=2 * d.S - 1), q, k)


def backwards(d: Dims, table: Tensor) -> Tensor:
    """Read the table [(2S−1)², M] backwards, as biases [M, (2S−1)², 1, 1] of taps."""
    return table.flip(0).T[:, :, None, None]


def soft_taps(d: Dims, logits: Tensor, hidden: Tensor) -> Tensor:
    """Take the softmax over the taps that are not hidden [(2S−1)², H, W]: [B, M, 2S−1, 2S−1, H, W]."""
    weights = logits.masked_fill(hidden, -torch.inf).softmax(2)
    return weights.view(d.B, d.M, 2 * d.S - 1, 2 * d.S - 1, d.H, d.W)


def off_window(d: Dims) -> Tensor:
    """Tell which taps leave the window at every position: [(2S−1)², H, W]."""
    one = d.replace(B=1, M=1)
    return window_kernels(one, torch.ones(1, windows(d), 1, d.S**2, d.S**2))[0, 0].flatten(0, 1).eq(0)


def off_map(d: Dims) -> Tensor:
    """Tell which taps leave the map at every position: [(2S−1)², H, W]."""
    taps = F.unfold(torch.ones(1, 1, d.H, d.W), (2 * d.S - 1,) * 2, padding=d.S - 1)
    return taps.view(-1, d.H, d.W).eq(0)


def apart(d: Dims, shift: int = 0) -> Tensor:
    """Tell which pairs of positions lie in different cells of a grid that begins at ``shift``: [N, N]."""
    down, right = (torch.div(torch.arange(size) - shift, d.S, rounding_mode="floor") for size in (d.H, d.W))
    return apart_in(d, down, right)


def apart_in(d: Dims, down: Tensor, right: Tensor) -> Tensor:
    """Tell which pairs of positions differ in the cell of their row or of their column: [N, N]."""
    rows, columns = down[:, None].ne(down), right[:, None].ne(right)
    pairs = rows[:, None, :, None].logical_or(columns[None, :, None, :])
    return pairs.reshape(d.H * d.W, d.H * d.W)


def masked_attention(d: Dims, x: Tensor, table: Tensor, layers: Mapping[str, Tensor], mask: Tensor) -> Tensor:
    """Attend to the whole map with biases by offset, the nearest in the table, and −∞ where the mask is."""
    q, k, v, last = split(x, **layers)
    down, right = (
        (torch.arange(size)[:, None] - torch.arange(size)).clamp(1 - d.S, d.S - 1) + d.S - 1
        for size in (d.H, d.W)
    )
    entries = down[:, None, :, None] * (2 * d.S - 1) + right[None, :, None, :]
    N = d.H * d.W
    logits = pair_logits(d, q, k) + table.T[:, entries.reshape(N, N)]
    attention = logits.masked_fill(mask, -torch.inf).softmax(-1)
    return output_layer(self_attention.core(v, attention), **last)


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


def windows(d: Dims) -> int:
    """Count the windows of a map."""
    return int(d.H // d.S * (d.W // d.S))


def window_kernels(d: Dims, attention: Tensor, outside: int = 0) -> Tensor:
    """Lay attention maps [B, HW/S², M, S², S²] out as kernels [B, M, 2S−1, 2S−1, H, W], by offset.

    Place (i, j) sees its window from the inside: its row of the map, S×S, begins at the tap (S−1−i, S−1−j),
    and what surrounds it is ``outside``.
    """
    S = d.S
    maps = attention.view(d.B, d.H // S, d.W // S, d.M, S, S, S, S)
    kernels = [
        F.pad(maps[:, :, :, :, i, j], (S - 1 - j, j, S - 1 - i, i), value=outside)
        for i in range(S)
        for j in range(S)
    ]
    taps = torch.stack(kernels, 4)
    return as_map(d, taps.view(*taps.shape[:4], S, S, *taps.shape[5:]))


def as_map(d: Dims, kernels: Tensor) -> Tensor:
    """Lay kernels [B, H/S, W/S, M, S, S, U, V] of windows and their places out as [B, M, U, V, H, W]."""
    placed = kernels.permute(0, 3, 6, 7, 1, 4, 2, 5)
    return placed.reshape(d.B, d.M, *kernels.shape[6:], d.H, d.W)


def whole_map(d: Dims, attention: Tensor) -> Tensor:
    """Lay attention maps [B, HW/S², M, S², S²] out over the whole map [B, M, N, N], zero between windows."""
    down, right = (torch.eye(size // d.S, dtype=attention.dtype) for size in (d.H, d.W))
    maps = attention.view(d.B, d.H // d.S, d.W // d.S, d.M, *(d.S,) * 4)
    full = torch.einsum("bhwmijkl,hp,wq->bmhiwjpkql", maps, down, right)
    return full.reshape(d.B, d.M, d.H * d.W, d.H * d.W)
