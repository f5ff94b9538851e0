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
from .local_attention import as_kernels
from .outlook_attention import OverlappingWindows, outlook_kernels, own_rows

Outputs = tuple[Tensor, ...]

SWIN = "Liu et al. 2021, ICCV, arXiv 2103.14030"
HAN = "Han et al. 2022, ICLR, arXiv 2106.04263"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, M=2, H=H, W=W, S=S) for H, W, S in reversed(WINDOWED_MAPS))
REALISTIC = Dims(B=1, C=32, M=2, H=14, W=14, S=7)
TINY = Dims(B=2, C=2, M=1, H=1, W=2, S=1)


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
    complete_shapes = (Dims(B=2, C=2, M=1, H=2, W=2, S=2),)
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
    complete_shapes = (Dims(B=2, C=2, M=1, H=2, W=2, S=2), TINY)
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
    complete_shapes = (Dims(B=2, C=2, M=1, H=2, W=2, S=2, shift=1),)
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
    complete_shapes = (Dims(B=1, C=2, M=1, H=1, W=2, S=1, K=2),)
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
    complete_shapes = (Dims(B=2, C=2, M=1, H=2, W=1, K=3),)
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
    complete_shapes = (Dims(B=1, C=1, M=1, H=2, W=1, K=3),)
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
