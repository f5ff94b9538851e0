"""Outlook attention seen as involution, and what its weights sum to."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import outlook_attention
from ..involution import involution
from ..workloads import MAPS
from .index_sets import BlockedGroups, RowOrder, within
from .self_attention import project

VOLO = "Yuan et al. 2021, arXiv 2106.13112"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4]))


class OverlappingWindows:
    """A window of K positions around every position of an axis, beginning r = K div 2 before it."""

    @lemma
    def two_places_of_a_window_are_one_tap(self, z3: Any) -> Lemma:
        """Places a and k of a window are positions p and q, and q is read from p by tap k−a+K−1 of 2K−1.

        The tap does not depend on the window, so the weights of all windows that hold both add up there.
        """
        n, a, k, p, q, u, r, K = z3.Ints("n a k p q u r K")
        return Lemma(
            {
                "a place": within(z3, a, K),
                "another place": within(z3, k, K),
                "their positions": z3.And(p == n - r + a, q == n - r + k),
                "by offset": u == k - a + K - 1,
            },
            z3.And(within(z3, u, 2 * K - 1), p + u - (K - 1) == q),
        )

    @lemma
    def windows_that_hold_a_position(self, z3: Any) -> Lemma:
        """If K = 2r+1, position p lies in the windows from max(0, p−r) to min(H−1, p+r) of 0 to H−1."""
        n, p, r, H = z3.Ints("n p r H")
        first, last = z3.If(p - r > 0, p - r, 0), z3.If(p + r < H - 1, p + r, H - 1)
        holds = z3.And(within(z3, n, H), within(z3, p, 2 * r + 1, first=n - r))
        return Lemma(
            {"a position": within(z3, p, H), "reach": r >= 0},
            z3.And((z3.And(first <= n, n <= last)) == holds, first <= last),
        )


class OutlookAttentionIsInvolution(OverlappingWindows, RowOrder, BlockedGroups, Claim):
    """Outlook attention with given maps, a window at every position, is an involution of 2K−1 by 2K−1 taps.

    A window gives each of its K² outputs K² weights, and an output is the sum over the windows that hold it.
    So the kernel of a position is the sum over those windows of their row for this position, laid out by
    offset: for K = 3 it is 5×5. A head is a group.
    """

    name = "outlook-attention-is-involution"
    operators = ("outlook_attention", "involution")
    source = f"follows from {VOLO}, eq. (3) to (5), and Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4)"
    conditions = {
        "stride-one": "a window begins at every position",
        "all-windows": "the weights of all windows that hold a position are added up",
        "windows-of-the-map": "there is no window around a position outside the map",
        "wide-kernel": "the kernel reaches K−1 to every side",
        "by-place": "a weight lies at the tap that reads its position, seen from the output",
        "not-flipped": "taps are laid out by where the other position lies, seen from this one",
        "row-order": "rows of the kernel are rows of the map",
        "outputs-first": "rows of a map are outputs of its window, columns are inputs",
        "group-per-head": "every head has kernels of its own",
        "blocked-groups": "group m is made of the channels mD to mD+D−1",
        "per-image": "every image has kernels of its own",
    }
    shapes = (
        *SMALL,
        Dims(B=1, C=6, M=3, H=5, W=4, K=2),
        Dims(B=1, C=24, M=2, H=14, W=14, K=3),
    )
    complete_shapes = (Dims(B=1, C=4, M=2, H=2, W=3, K=2), Dims(B=2, C=1, M=1, H=1, W=3, K=3))
    corrects = "outlook-attention-is-involution-as-stated"
    algebra = (
        "y[b, c, p] = Σ_n Σ_q a[b, m, n, p−o_n, q−o_n] · v[b, c, q] over the windows with p and q equals "
        "Σ_u k[b, g, u, p] · v[b, c, p+u−(K−1)] with k[b, g, u, p] = Σ_n a[b, g, n, p−o_n, p−o_n+u−(K−1)]: "
        "the sum over windows is taken before that over positions, and m = ⌊cM/C⌋ = g"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the maps of all windows; what makes the maps is left open."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, d.M, d.H * d.W, d.K**2, d.K**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Mix every window, and add windows up where they overlap."""
        return outlook_attention.core(value, attention, stride=1)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Involve the map with kernels that sum over windows."""
        return involution.core(value, outlook_kernels(d, attention))

    @mutant(drops="stride-one", side="left")
    def every_other_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Windows begin at every other position, as in the released network."""
        maps = attention.view(d.B, d.M, d.H, d.W, d.K**2, d.K**2)[:, :, ::2, ::2]
        return outlook_attention.core(value, maps.flatten(2, 3), stride=2)

    @mutant(drops="all-windows")
    def own_window_only(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel of a position is its row of the window around it."""
        return involution.core(value, own_rows(d, attention))

    @mutant(drops="all-windows", sparse=True)
    def one_window_left_out(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The last position misses its own window."""
        rows = attention.clone()
        rows[:, :, -1, d.K**2 // 2] = 0
        return self.right(d, value, rows)

    @mutant(drops="windows-of-the-map")
    def windows_around_the_other_side(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """At the border the windows of the other side take the place of those that are missing."""
        return involution.core(value, outlook_kernels(d, attention, around=True))

    @mutant(drops="wide-kernel")
    def kernel_of_the_window(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel is cut to the K×K taps around its middle."""
        cut, end = d.K // 2, d.K // 2 + d.K
        return involution.core(value, outlook_kernels(d, attention)[:, :, cut:end, cut:end])

    @mutant(drops="by-place")
    def laid_from_the_first_tap(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The weights of every place lie as those of the last place do, from the first tap on."""
        return involution.core(value, outlook_kernels(d, attention, by_place=False))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return involution.core(value, outlook_kernels(d, attention).flip(2, 3))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Rows and columns of the kernel are exchanged."""
        return involution.core(value, outlook_kernels(d, attention).transpose(2, 3))

    @mutant(drops="outputs-first")
    def transposed_maps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Rows of a map are taken for inputs of its window."""
        return self.right(d, value, attention.mT)

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        return involution.core(value, outlook_kernels(d, attention)[:, :1])

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Channel c takes the kernels of head c mod M."""
        return involution.core(value, outlook_kernels(d, attention).repeat(1, d.C // d.M, 1, 1, 1, 1))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return involution.core(value, outlook_kernels(d, attention).roll(1, 0))


class OutlookAttentionIsInvolutionAsStated(Claim):
    """Outlook attention differs from involution by a projection of the values and a softmax alone.

    Then its kernels would be the K×K weights that a window has for its middle.
    """

    name = "outlook-attention-is-involution-as-stated"
    expected = "refuted"
    operators = ("outlook_attention", "involution")
    source = (
        "github.com/sail-sg/volo, issue 1, an author: “the difference is that we use an extra linear "
        "projection on the input itself and use softmax to generate the attention map”"
    )
    shapes = OutlookAttentionIsInvolution.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the maps of all windows."""
        return OutlookAttentionIsInvolution().variables(d)

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Mix every window, and add windows up where they overlap."""
        return outlook_attention.core(value, attention, stride=1)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Involve the map with the weights that every window has for its middle."""
        return involution.core(value, own_rows(d, attention))


class OutlookAttentionIsInvolutionEndToEnd(Claim):
    """Outlook attention, softmax and projections included, is an involution of 2K−1 by 2K−1 taps.

    With a window at every position, y = W_o·involution(W_v x), and the kernel of a position is the sum over
    the windows that hold it of its row of softmax(attend·x + bias) there. What generates it sees the middles
    of those windows: the K×K positions around it, and not the position alone.
    """

    name = "outlook-attention-is-involution-end-to-end"
    operators = ("outlook_attention", "involution")
    source = f"follows from {VOLO}, eq. (3) to (5), and Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4)"
    conditions = {
        "values-first": "W_v acts before the sum over a window",
        "all-windows": "the weights of all windows that hold a position are added up",
        "softmax-over-inputs": "the weights of every output of a window sum to one",
        "padding-in-softmax": "taps outside the map take part in the softmax",
        "scaled": "logits are divided by √D, biases included",
        "own-middle": "the map of a window is made from the position that it lies around",
        "group-per-head": "every head has kernels of its own",
    }
    shapes = (Dims(B=1, C=8, M=2, H=3, W=7, K=3), Dims(B=2, C=2, M=2, H=1, W=4, K=2))
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3, K=2), Dims(B=2, C=2, M=2, H=2, W=3, K=2))
    algebra = OutlookAttentionIsInvolution.algebra

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the layers."""
        weights = d.M * d.K**4
        return {
            "x": (d.B, d.C, d.H, d.W),
            "value": (d.C, d.C),
            "attend": (weights, d.C),
            "attend_bias": (weights,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
        }

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute outlook attention."""
        return outlook_attention.module(**given, heads=d.M, stride=1)

    def right(self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor) -> Tensor:
        """Generate kernels, and involve the projected map."""
        maps = maps_of(d, logits_of(d, x, attend, rest["attend_bias"]))
        return self.output(involution.core(project(x, value), outlook_kernels(d, maps)), **rest)

    def output(self, x: Tensor, proj: Tensor, proj_bias: Tensor, **_: Tensor) -> Tensor:
        """Apply the last layer."""
        return project(x, proj) + proj_bias[:, None, None]

    @mutant(drops="values-first")
    def values_projected_last(
        self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor
    ) -> Tensor:
        """W_v acts on the sums; with more than one head it mixes what heads have weighted differently."""
        maps = maps_of(d, logits_of(d, x, attend, rest["attend_bias"]))
        return self.output(project(involution.core(x, outlook_kernels(d, maps)), value), **rest)

    @mutant(drops="all-windows")
    def own_window_only(self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor) -> Tensor:
        """The kernel of a position is its row of the window around it."""
        maps = maps_of(d, logits_of(d, x, attend, rest["attend_bias"]))
        return self.output(involution.core(project(x, value), own_rows(d, maps)), **rest)

    @mutant(drops="all-windows", sparse=True)
    def own_window_only_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """It is so at the last position alone."""
        output = self.right(d, **given)
        output[..., -1, -1] = self.own_window_only(d, **given)[..., -1, -1]
        return output

    @mutant(drops="softmax-over-inputs")
    def softmax_over_outputs(
        self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor
    ) -> Tensor:
        """The weights of every input of a window sum to one."""
        maps = maps_of(d, logits_of(d, x, attend, rest["attend_bias"]).mT).mT
        return self.output(involution.core(project(x, value), outlook_kernels(d, maps)), **rest)

    @mutant(drops="padding-in-softmax")
    def padding_masked(self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor) -> Tensor:
        """Taps outside the map are left out of the softmax."""
        logits = logits_of(d, x, attend, rest["attend_bias"])
        ones = F.pad(x.new_ones(1, 1, d.H, d.W), (d.K // 2, (d.K - 1) // 2) * 2)
        outside = F.unfold(ones, (d.K, d.K)).eq(0).mT[0, :, None]
        maps = maps_of(d, logits.masked_fill(outside, -torch.inf))
        return self.output(involution.core(project(x, value), outlook_kernels(d, maps)), **rest)

    @mutant(drops="scaled")
    def scale_left_out(self, d: Dims, attend: Tensor, attend_bias: Tensor, **rest: Tensor) -> Tensor:
        """Logits are not divided."""
        return self.right(d, attend=2 * attend, attend_bias=2 * attend_bias, **rest)

    @mutant(drops="own-middle")
    def map_of_a_neighbour(self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor) -> Tensor:
        """The map of a window is made from the left neighbour of its middle."""
        maps = maps_of(d, logits_of(d, x.roll(1, 3), attend, rest["attend_bias"]))
        return self.output(involution.core(project(x, value), outlook_kernels(d, maps)), **rest)

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, x: Tensor, value: Tensor, attend: Tensor, **rest: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        maps = maps_of(d, logits_of(d, x, attend, rest["attend_bias"]))
        kernels = outlook_kernels(d, maps)[:, :1]
        return self.output(involution.core(project(x, value), kernels), **rest)


def logits_of(d: Dims, x: Tensor, attend: Tensor, bias: Tensor) -> Tensor:
    """Make the logits of all windows from the positions that they lie around: [B, M, N, K², K²]."""
    scale: float = (d.C // d.M) ** -0.5
    logits = (project(x, attend) + bias[:, None, None]) * scale
    return logits.view(d.B, d.M, d.K**2, d.K**2, -1).permute(0, 1, 4, 2, 3)


def maps_of(d: Dims, logits: Tensor) -> Tensor:
    """Take the softmax over the inputs of a window."""
    return logits.softmax(-1)


class _WeightSums(Claim):
    """What the weights of an output sum to; subclasses name the stride and print the numbers.

    Weights are read off by constant maps: around the map, where windows have weights for the padding too,
    there lies the same constant, and no further window.
    """

    operators = ("outlook_attention",)
    conditions = {
        "rows-sum-to-one": "every row of every map sums to one, as the rows of a softmax do",
        "windows-of-the-map": "there is no window around a position outside the map",
        "padding-counted": "the weights of taps outside the map are counted",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a constant per channel, and the maps of all windows but for what makes their rows one."""
        return {"constant": (d.B, d.C), "free": (d.B, d.M, *grid(d), d.K**2, d.K**2)}

    def given(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Derive the last weight of every row from the others."""
        others = free[..., :-1]
        rows = torch.cat([others, 1 - others.sum(-1, keepdim=True)], -1)
        return {"constant": constant, "attention": rows}

    def left(self, d: Dims, constant: Tensor, attention: Tensor) -> Tensor:
        """Attend to a map of constants that goes on outside."""
        more = -(-(d.K // 2) // d.stride)  # windows around the map, wide enough to hold its padding
        reach = more * d.stride
        wide = constant[..., None, None].expand(d.B, d.C, d.H + 2 * reach, d.W + 2 * reach)
        maps = F.pad(attention, (0, 0, 0, 0, more, more, more, more)).flatten(2, 3)
        outputs = outlook_attention.core(wide, maps, stride=d.stride)
        return outputs[..., reach : reach + d.H, reach : reach + d.W]

    def right(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Multiply the constants with the number of windows that hold a position."""
        counts = held_by(d, d.H)[:, None] * held_by(d, d.W)
        return constant[..., None, None] * counts.to(constant.dtype)

    @mutant(drops="rows-sum-to-one", side="given")
    def free_rows(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Rows sum to anything, as without a softmax."""
        return {"constant": constant, "attention": free}

    @mutant(drops="rows-sum-to-one", side="given", sparse=True)
    def one_row_too_large(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """One row of the first window, in one head of one image, sums to two."""
        given = _WeightSums.given(self, d, constant, free)
        rows = given["attention"].clone()
        rows[0, 0, 0, 0, d.K**2 // 2, 0] += 1
        return {**given, "attention": rows}

    @mutant(drops="rows-sum-to-one", side="given")
    def columns_sum_to_one(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Columns sum to one in place of rows: the softmax is over outputs."""
        given = _WeightSums.given(self, d, constant, free)
        return {**given, "attention": given["attention"].mT}

    @mutant(drops="windows-of-the-map")
    def as_many_everywhere(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """The border is held by as many windows as the middle."""
        inner = held_by(d.replace(H=d.H + 4 * d.K * d.stride), d.H + 4 * d.K * d.stride)
        begin = 2 * d.K * d.stride
        counts = inner[begin : begin + d.H, None] * inner[begin : begin + d.W]
        return constant[..., None, None] * counts.to(constant.dtype)

    @mutant(drops="padding-counted", side="left")
    def padding_left_out(self, d: Dims, constant: Tensor, attention: Tensor) -> Tensor:
        """Outside the map there are zeros, as in the operator, which takes weights away at the border."""
        inside = constant[..., None, None].expand(d.B, d.C, d.H, d.W)
        return outlook_attention.core(inside, attention.flatten(2, 3), stride=d.stride)


class OutlookAttentionWeightSums(OverlappingWindows, _WeightSums):
    """The weights of an output of outlook attention sum to the number of windows that hold it, not to one.

    With a window at every position and odd K = 2r+1 that is the product of min(i+r, H−1) − max(i−r, 0) + 1
    and the same of columns: for K = 3 and at least two rows and columns 9 inside, 6 at edges, 4 in corners.
    So the output is larger inside than at the border, for the same map.
    """

    name = "outlook-attention-weight-sums"
    source = f"follows from {VOLO}, eq. (3) to (5): softmax of each window's rows, then the sum over windows"
    shapes = tuple(d.replace(stride=1) for d in (*SMALL, Dims(B=1, C=2, M=1, H=6, W=8, K=5)))
    complete_shapes = (Dims(B=2, C=1, M=1, H=1, W=3, K=3, stride=1),)
    corrects = "outlook-attention-weight-sums-as-stated"
    algebra = (
        "Σ_n Σ_q a[n, p−o_n, q−o_n] has the inner sum one for each window n that holds p, and these are "
        "counted by the second lemma, in rows and in columns"
    )


class OutlookAttentionWeightSumsAsStated(Claim):
    """The weights of an output of outlook attention sum to one, for its softmax makes them do so."""

    name = "outlook-attention-weight-sums-as-stated"
    expected = "refuted"
    operators = ("outlook_attention",)
    source = f"said of the softmax over a window's weights, {VOLO}, eq. (3) to (5)"
    shapes = OutlookAttentionWeightSums.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a constant per channel, and the maps but for what makes their rows one."""
        return OutlookAttentionWeightSums().variables(d)

    def given(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Derive the last weight of every row from the others."""
        return OutlookAttentionWeightSums().given(d, constant, free)

    def left(self, d: Dims, constant: Tensor, attention: Tensor) -> Tensor:
        """Attend to a map of constants that goes on outside."""
        return OutlookAttentionWeightSums().left(d, constant, attention)

    def right(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Keep the constants."""
        return constant[..., None, None].expand(d.B, d.C, d.H, d.W)


class OutlookAttentionWeightSumsAtStrideTwo(_WeightSums):
    """With windows of 3×3 at every second position the weights of an output sum to 1, 2 or 4, a checkerboard.

    A row of even number lies in the windows of that row alone, one of odd number in those of the rows above
    and below; if the number of rows is even, the last one has none below, and lies in one. So do columns, and
    sums are products: 4 where both are odd, 1 where both are even.
    """

    name = "outlook-attention-weight-sums-at-stride-two"
    source = (
        "follows from the released configuration of VOLO (sail-sg/volo), windows of 3×3 at every second "
        f"position; {VOLO}, eq. (3) to (5)"
    )
    conditions = {
        **_WeightSums.conditions,
        "every-second": "there is a window around every second position of every second row",
    }
    shapes = tuple(
        Dims(B=2, C=4, M=2, H=H, W=W, K=3, stride=2) for H, W in ((7, 6), (6, 5), (2, 5), (1, 4), (14, 14))
    )
    complete_shapes = (Dims(B=1, C=1, M=1, H=2, W=3, K=3, stride=2),)
    algebra = "Σ_n Σ_q a[n, p−o_n, q−o_n] has the inner sum one for each window n that holds p"

    @lemma
    def windows_of_an_even_row(self, z3: Any) -> Lemma:
        """Of the windows around even rows, 2n−1 to 2n+1, an even row i lies in that with 2n = i alone."""
        i, n = z3.Ints("i n")
        return Lemma(
            {"even": i % 2 == 0},
            within(z3, i, 3, first=2 * n - 1) == (2 * n == i),
        )

    @lemma
    def windows_of_an_odd_row(self, z3: Any) -> Lemma:
        """An odd row i lies in the windows with 2n = i−1 and 2n = i+1, the latter if that is a row."""
        i, n, H = z3.Ints("i n H")
        return Lemma(
            {"odd": i % 2 == 1, "a row": within(z3, i, H)},
            z3.And(within(z3, i, 3, first=2 * n - 1), within(z3, 2 * n, H))
            == z3.Or(2 * n == i - 1, z3.And(2 * n == i + 1, i + 1 < H)),
        )

    @mutant(drops="every-second")
    def as_with_a_window_everywhere(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """The weights are counted as if there were a window at every position."""
        every = d.replace(stride=1)
        counts = held_by(every, d.H)[:, None] * held_by(every, d.W)
        return constant[..., None, None] * counts.to(constant.dtype)

    @mutant(drops="windows-of-the-map")
    def last_row_as_any_other(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Odd rows and columns count two, the last ones as well."""
        down, right = (torch.arange(size).remainder(2) + 1 for size in (d.H, d.W))
        return constant[..., None, None] * (down[:, None] * right).to(constant.dtype)

    @equivalent("a row of odd number that is not the last lies in two windows, any other in one")
    def checkerboard(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Odd rows and columns count two, but for the last."""
        down, right = (torch.arange(size).remainder(2) + 1 for size in (d.H, d.W))
        down[-1] = right[-1] = 1
        return constant[..., None, None] * (down[:, None] * right).to(constant.dtype)


def outlook_kernels(d: Dims, attention: Tensor, *, by_place: bool = True, around: bool = False) -> Tensor:
    """Add the maps [B, M, N, K², K²] of all windows up as kernels [B, M, 2K−1, 2K−1, H, W], by offset.

    by_place: lay the weights of place (a, b) from the tap (K−1−a, K−1−b) on, not from the first. around: let
    the windows of the other side of the map take the place of those that are missing.
    """
    K = d.K
    maps = attention.view(d.B, d.M, d.H, d.W, K, K, K, K)
    total = attention.new_zeros(d.B, d.M, d.H, d.W, 2 * K - 1, 2 * K - 1)
    for a in range(K):
        for b in range(K):
            down, right = (a, b) if by_place else (K - 1, K - 1)
            taps = F.pad(maps[:, :, :, :, a, b], (K - 1 - right, right, K - 1 - down, down))
            total = total + moved(taps, a - K // 2, b - K // 2, around=around)
    return total.permute(0, 1, 4, 5, 2, 3)


def moved(maps: Tensor, down: int, right: int, *, around: bool = False) -> Tensor:
    """Move [B, M, H, W, U, V] down and to the right, where nothing, or the other side, comes in."""
    if around:
        return maps.roll((down, right), (2, 3))
    H, W = maps.shape[2:4]
    reach = max(abs(down), abs(right))
    wide = F.pad(maps, (0, 0, 0, 0, reach, reach, reach, reach))
    return wide[:, :, reach - down : reach - down + H, reach - right : reach - right + W]


def own_rows(d: Dims, attention: Tensor) -> Tensor:
    """Read the weights that every window has for its middle as kernels [B, M, K, K, H, W]."""
    rows = attention[..., d.K // 2 * (d.K + 1), :].view(d.B, d.M, d.H, d.W, d.K, d.K)
    return rows.permute(0, 1, 4, 5, 2, 3)


def grid(d: Dims) -> tuple[int, int]:
    """Count the windows along both sides of a map."""
    return -(-d.H // d.stride), -(-d.W // d.stride)


def held_by(d: Dims, size: int) -> Tensor:
    """Count the windows that hold each position of a side: [size]."""
    positions, centres = torch.arange(size)[:, None], torch.arange(0, size, d.stride)
    places = positions - centres + d.K // 2
    return torch.logical_and(places >= 0, places < d.K).sum(1)
