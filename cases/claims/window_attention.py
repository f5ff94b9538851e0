"""Attention in the windows of a partition, seen as involution and as self-attention."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import self_attention, window_attention
from ..involution import involution
from ..workloads import WINDOWED_MAPS
from .index_sets import BlockedGroups, RowOrder, within
from .self_attention import neighbour_logits, output_layer, pair_logits, project, queries_keys_values

Outputs = tuple[Tensor, ...]

SWIN = "Liu et al. 2021, ICCV, arXiv 2103.14030"
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


class EndToEnd(Claim):
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


class WindowAttentionIsInvolutionEndToEnd(WindowTaps, EndToEnd):
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


class WindowAttentionIsMaskedSelfAttention(Windows, EndToEnd):
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
