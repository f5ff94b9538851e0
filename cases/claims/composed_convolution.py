"""Convolutions made of smaller ones, each seen as a single dense convolution."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import bottleneck, conv2d, multiscale_conv2d, pyramid_conv2d, separable_conv2d
from .convolution import block_diagonal, convolved_maps
from .depthwise_convolution import diagonal
from .index_sets import BlockedGroups, within


class PyConvIsOneDenseConv(BlockedGroups, Claim):
    """A pyramidal convolution is one dense convolution with the largest kernel and structured zeros.

    The kernel of a level lies in the middle of the largest one, block-diagonal in its groups, and the outputs
    of the levels follow one another. So it is that convolution with weights left out.
    """

    name = "pyconv-is-one-dense-conv"
    operators = ("pyramid_conv2d", "conv2d")
    source = "Duta et al. 2020, arXiv 2006.11538, section 3 and figure 2, read as a formula"
    conditions = {
        "centred": "every kernel lies in the middle of the largest",
        "empty-rims": "around a smaller kernel the largest one is zero",
        "block-diagonal": "between groups of a level the kernel is zero",
        "levels-in-order": "the outputs of the levels follow one another, the smallest kernel first",
        "same-stride": "all levels keep the same positions",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=8, Co=32, H=6, W=7, levels=3, groups="1-2-4", stride=1),
        Dims(B=2, C=16, Co=64, H=3, W=4, levels=4, stride=1),
        Dims(B=2, C=8, Co=8, H=10, W=1, levels=3, groups="1-2-2", stride=2),
        Dims(B=2, C=4, Co=8, H=5, W=11, levels=2, groups="1-2", stride=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, levels=2, groups="1-1", stride=1),)
    algebra = (
        "Σ_cuv w[o, c, u, v] · x[b, gC/G + c, iS+u−k, jS+v−k] over a level's K = 2k+1 taps is the sum over "
        "L = 2m+1 taps, tap u+m−k reading iS + (u+m−k) − m, with zeros for what the level does not have"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernels of all levels."""
        return {name: spec.shape for name, spec in pyramid_conv2d.core.inputs(d).items()}

    def left(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Convolve in levels."""
        return pyramid_conv2d.core(x, **weights, stride=d.stride)

    def right(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Convolve once."""
        return conv2d.core(x, self.dense(d, weights), stride=d.stride)

    def dense(self, d: Dims, weights: Mapping[str, Tensor]) -> Tensor:
        """Lay the kernels of the levels out in one."""
        side = 2 * d.levels + 1
        levels = [block_diagonal(weight, d.C // weight.shape[1]) for weight in weights.values()]
        return torch.cat([F.pad(level, ((side - level.shape[3]) // 2,) * 4) for level in levels])

    @lemma
    def a_tap_stays_where_it_reads(self, z3: Any) -> Lemma:
        """Tap u of 2k+1 is tap u+m−k of 2m+1: it exists, and both read the same row."""
        i, u, t, k, m = z3.Ints("i u t k m")
        return Lemma(
            {
                "a tap": within(z3, u, 2 * k + 1),
                "not larger": k <= m,
                "centred": t == u + m - k,
            },
            z3.And(within(z3, t, 2 * m + 1), i + t - m == i + u - k),
        )

    @mutant(drops="centred")
    def in_the_first_corner(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Every kernel begins at the first tap of the largest."""
        side = 2 * d.levels + 1
        levels = [block_diagonal(weight, d.C // weight.shape[1]) for weight in weights.values()]
        cornered = [F.pad(level, (0, side - level.shape[3]) * 2) for level in levels]
        return conv2d.core(x, torch.cat(cornered), stride=d.stride)

    @mutant(drops="empty-rims", sparse=True)
    def one_tap_on_the_rim(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """The first output reads the first channel by the first tap of the largest kernel."""
        kernel = self.dense(d, weights)
        kernel[0, 0, 0, 0] = 1
        return conv2d.core(x, kernel, stride=d.stride)

    @mutant(drops="empty-rims")
    def ones_on_the_rims(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Around the smallest kernel there are ones."""
        first, side = len(weights["weight3"]), 2 * d.levels + 1
        rim = 1 - F.pad(torch.ones(3, 3, dtype=x.dtype), ((side - 3) // 2,) * 4)
        ones = F.pad(rim.expand(first, 1, -1, -1), (0, 0, 0, 0, 0, 0, 0, d.Co - first))
        return conv2d.core(x, self.dense(d, weights) + ones, stride=d.stride)

    @mutant(drops="block-diagonal")
    def blocks_everywhere(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Every group of outputs reads every group of channels by the same kernel."""
        side = 2 * d.levels + 1
        levels = [weight.repeat(1, d.C // weight.shape[1], 1, 1) for weight in weights.values()]
        centred = [F.pad(level, ((side - level.shape[3]) // 2,) * 4) for level in levels]
        return conv2d.core(x, torch.cat(centred), stride=d.stride)

    @mutant(drops="levels-in-order")
    def largest_first(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """The outputs of the largest kernel come first."""
        return self.right(d, x, **dict(reversed(weights.items())))

    @mutant(drops="same-stride", side="left")
    def first_level_at_odd_positions(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """The first level keeps the positions one further to the right and down."""
        whole = self.left(d, x, **weights)
        moved = self.left(d, F.pad(x, (0, 1, 0, 1))[..., 1:, 1:], **weights)
        first = len(weights["weight3"])
        return torch.cat([moved[:, :first], whole[:, first:]], 1)


class SeparableConvIsOneConv(Claim):
    """A depthwise separable convolution is a dense one with the kernel W[o, c, u, v] = P[o, c] · D[c, u, v].

    P is its pointwise matrix and D its depthwise kernels; nothing may stand between the two.
    """

    name = "separable-conv-is-one-conv"
    operators = ("separable_conv2d", "conv2d")
    source = "Howard et al. 2017, arXiv 1704.04861, section 3.1: a convolution factorised into the two"
    conditions = {
        "depthwise-first": "the depthwise kernel belongs to the input channel",
        "no-activation": "nothing stands between the two convolutions",
        "first-kept": "a stride keeps the first position, and every S-th from it on",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = convolved_maps(Co=64)[-1:] + convolved_maps(Co=4)[:-1]
    complete_shapes = (Dims(B=1, C=2, Co=2, H=2, W=3, K=3, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the depthwise kernels and the pointwise matrix."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "depthwise": (d.C, d.K, d.K),
            "pointwise": (d.Co, d.C),
        }

    def left(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """Convolve depthwise, then pointwise."""
        return separable_conv2d.core(x, depthwise, pointwise, stride=d.stride)

    def right(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """Convolve once."""
        return conv2d.core(x, pointwise[..., None, None] * depthwise, stride=d.stride)

    @mutant(drops="depthwise-first")
    def kernels_of_the_outputs(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """The depthwise kernel belongs to the output: it acts after the matrix, cyclically where Co ≠ C."""
        kernels = depthwise.repeat(-(-d.Co // d.C), 1, 1)[: d.Co, None]
        return conv2d.core(x, pointwise[..., None, None] * kernels, stride=d.stride)

    @mutant(drops="no-activation", side="left")
    def squared_between(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """What the depthwise convolution makes is squared."""
        each = conv2d.core(x, diagonal(depthwise), stride=d.stride)
        return torch.einsum("oc,bchw->bohw", pointwise, each * each)

    @mutant(drops="first-kept")
    def last_kept(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """A stride keeps the last position, and every S-th before it, which may be others."""
        return self.right(d, x.flip(2, 3), depthwise.flip(1, 2), pointwise).flip(2, 3)

    @mutant(sparse=True)
    def one_kernel_turned(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """The kernels of the last output are mirrored."""
        kernel = pointwise[..., None, None] * depthwise
        return conv2d.core(x, torch.cat([kernel[:-1], kernel[-1:].flip(2, 3)]), stride=d.stride)

    @equivalent("a matrix may as well be applied before the sum over taps as after it")
    def diagonal_then_matrix(self, d: Dims, x: Tensor, depthwise: Tensor, pointwise: Tensor) -> Tensor:
        """The kernel is the matrix times the diagonal kernel."""
        kernel = torch.einsum("oc,cduv->oduv", pointwise, diagonal(depthwise))
        return conv2d.core(x, kernel, stride=d.stride)


class ConvIsSumOfSeparableConvs(Claim):
    """Every convolution is the sum of K² depthwise separable ones.

    Number (u, v) has depthwise kernels that are one at that tap and zero elsewhere, and the pointwise matrix
    W[:, :, u, v].
    """

    name = "conv-is-sum-of-separable-convs"
    operators = ("conv2d", "separable_conv2d")
    source = (
        "Guo et al. 2018, Network Decoupling, arXiv 1808.05517, abstract: “We show depthwise separable "
        "convolutions are principal components of regular convolutions”"
    )
    conditions = {
        "all-taps": "there is one for every tap",
        "own-tap": "the matrix of a tap goes with the depthwise kernel of that tap",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=8, Co=24, H=7, W=6, K=3, stride=1),
        Dims(B=2, C=3, Co=4, H=5, W=8, K=3, stride=2),
        Dims(B=2, C=2, Co=3, H=2, W=5, K=3, stride=1),
        Dims(B=1, C=3, Co=2, H=3, W=4, K=2, stride=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=2, H=2, W=3, K=3, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve."""
        return conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Add the separable convolutions of all taps."""
        return self.terms(d, x, weight).sum(0)

    def terms(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Return the separable convolutions [K², B, Co, H', W']."""
        ones = torch.eye(d.K**2, dtype=x.dtype).view(-1, 1, d.K, d.K).expand(-1, d.C, -1, -1)
        matrices = weight.flatten(2).unbind(2)
        pairs = zip(ones, matrices, strict=True)
        return torch.stack([separable_conv2d.core(x, *pair, stride=d.stride) for pair in pairs])

    @mutant(drops="all-taps")
    def last_tap_left_out(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The separable convolution of the last tap is left out."""
        return self.terms(d, x, weight)[:-1].sum(0)

    @mutant(drops="own-tap")
    def transposed_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The matrix of tap (v, u) goes with the depthwise kernel of (u, v)."""
        return self.right(d, x, weight.transpose(2, 3))

    @mutant(drops="all-taps", sparse=True)
    def last_tap_left_out_of_one_output(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last tap is left out of the last output."""
        kept = weight.clone()
        kept[-1, :, -1, -1] = 0
        return self.right(d, x, kept)

    @mutant()
    def one_separable_conv(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """One separable convolution has the kernels of the first output and sums over the taps."""
        return separable_conv2d.core(x, weight[0], weight.sum((2, 3)), stride=d.stride)


class BottleneckWithoutActivationsIsOneConv(Claim):
    """A bottleneck without batch norms and activations is one convolution.

    Its kernel is W[:, :, u, v] = E · S[:, :, u, v] · R at every tap, of the expanding matrix E, the inner
    kernel S and the reducing matrix R.
    """

    name = "bottleneck-without-activations-is-one-conv"
    operators = ("bottleneck", "conv2d")
    source = "He et al. 2016, CVPR, arXiv 1512.03385, figure 5, with nothing between the convolutions"
    conditions = {
        "no-activation": "nothing stands between the convolutions",
        "expand-last": "E makes the outputs and R reads the channels",
        "inner-stride": "the stride is that of the inner convolution",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=1, C=12, Co=32, H=14, W=13, K=3, R=8, stride=1),
        Dims(B=2, C=5, Co=6, H=7, W=6, K=3, R=2, stride=2),
        Dims(B=2, C=6, Co=6, H=3, W=4, K=5, R=3, stride=1),
        Dims(B=2, C=3, Co=4, H=1, W=4, K=3, R=2, stride=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, K=3, R=2, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, both matrices and the inner kernel."""
        return {name: spec.shape for name, spec in bottleneck.core.inputs(d).items()}

    def left(self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor) -> Tensor:
        """Reduce, convolve and expand."""
        return bottleneck.core(x, reduce, spatial, expand, stride=d.stride)

    def right(self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor) -> Tensor:
        """Convolve once."""
        return conv2d.core(x, composed(reduce, spatial, expand), stride=d.stride)

    @mutant(drops="no-activation", side="left")
    def squared_between(self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor) -> Tensor:
        """What the reduction makes is squared."""
        reduced = torch.einsum("mc,bchw->bmhw", reduce, x)
        inner = conv2d.core(reduced * reduced, spatial, stride=d.stride)
        return torch.einsum("on,bnhw->bohw", expand, inner)

    @mutant(drops="expand-last")
    def inner_kernel_transposed(
        self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor
    ) -> Tensor:
        """The inner kernel reads what it makes."""
        return self.right(d, x, reduce, spatial.transpose(0, 1), expand)

    @mutant(drops="inner-stride", side="left")
    def stride_of_the_first(
        self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor
    ) -> Tensor:
        """The stride is that of the reduction, as in the Caffe release, where it is not one."""
        return bottleneck.core(x[..., :: d.stride, :: d.stride], reduce, spatial, expand)

    @mutant(sparse=True)
    def one_tap_more(self, d: Dims, x: Tensor, reduce: Tensor, spatial: Tensor, expand: Tensor) -> Tensor:
        """The last output reads the first channel once more by the first tap."""
        kernel = composed(reduce, spatial, expand)
        kernel[-1, 0, 0, 0] += 1
        return conv2d.core(x, kernel, stride=d.stride)


class MultiscaleConvIsOneConvInside(Claim):
    """A multi-scale convolution is one dense convolution at a distance from the border, and not at it.

    Split n reads splits 2 to n, split m by the kernel K_n ∗ … ∗ K_m of (n−m+1)(K−1)+1 taps a side, and split
    1 passes. So the kernel of all is block-triangular and has (s−1)(K−1)+1 taps a side for s splits. It holds
    at (s−2)⌊K/2⌋ positions from the border and further in: nearer, what the outer kernels read of the inner
    ones' results lies outside the map, and is zero in the multi-scale convolution alone.
    """

    name = "multiscale-conv-is-one-conv-inside"
    operators = ("multiscale_conv2d", "conv2d")
    source = "Gao et al. 2021, TPAMI, arXiv 1904.01169, eq. (1), read as a formula"
    conditions = {
        "interior": "outputs lie (s−2)⌊K/2⌋ positions or more from the border",
        "added-before": "the result before is added to a split before that is convolved",
        "outer-after-inner": "the kernel of a later split acts on what an earlier one made",
        "first-passes": "the first split passes as it is, and reaches no other",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=24, H=8, W=9, K=3, scales=4),
        Dims(B=2, C=6, H=7, W=6, K=3, scales=3),
        Dims(B=2, C=6, H=5, W=11, K=5, scales=3),
        Dims(B=2, C=4, H=2, W=5, K=3, scales=2),
    )
    complete_shapes = (Dims(B=1, C=2, H=2, W=3, K=3, scales=2),)
    algebra = (
        "y_n[i] = Σ_u K_n[u] · (x_n[i+u−r] + y_{n−1}[i+u−r]) unrolls to sums over paths of n−m+1 taps, of "
        "which the first n−m read results of splits in the map; the last may read padding, and does in both"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernels."""
        return {name: spec.shape for name, spec in multiscale_conv2d.core.inputs(d).items()}

    def given(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """Keep the outputs at a distance from the border."""
        return {"x": x, "kernels": kernels, "kept": self.kept(d, x, (d.scales - 2) * (d.K // 2))}

    def kept(self, d: Dims, x: Tensor, margin: int) -> Tensor:
        """Return ones at so many positions from the border and further in, zeros around."""
        inner = torch.ones(d.H - 2 * margin, d.W - 2 * margin, dtype=x.dtype)
        return F.pad(inner, (margin,) * 4)

    def left(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """Convolve split after split."""
        return kept * multiscale_conv2d.core(x, kernels)

    def right(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """Convolve once."""
        return kept * conv2d.core(x, self.dense(d, kernels))

    def dense(self, d: Dims, kernels: Tensor) -> Tensor:
        """Lay the kernels between all splits out in one."""
        width, side = d.C // d.scales, (d.scales - 1) * (d.K - 1) + 1
        none = kernels.new_zeros(width, width, side, side)
        passing = F.pad(torch.eye(width, dtype=kernels.dtype)[..., None, None], (side // 2,) * 4)
        rows = [[passing] + [none] * (d.scales - 1)]
        reads: list[Tensor] = []  # what the split before reads of the splits from the second on
        for kernel in kernels:
            reads = [chained(kernel, inner) for inner in reads] + [kernel]
            centred = [F.pad(chain, ((side - chain.shape[3]) // 2,) * 4) for chain in reads]
            rows.append([none, *centred, *[none] * (d.scales - 1 - len(centred))])
        return torch.cat([torch.cat(row, 1) for row in rows])

    @lemma
    def paths_stay_in_the_map(self, z3: Any) -> Lemma:
        """From M positions inside the map on, a path that strays by up to M positions never leaves it.

        M is (s−2)r, for a path from the last split passes up to s−2 taps before its last, r positions each.
        """
        i, stray, H, M = z3.Ints("i stray H M")
        return Lemma(
            {"inside": within(z3, i, H - 2 * M, first=M), "strays": within(z3, stray, 2 * M + 1, first=-M)},
            within(z3, i + stray, H),
        )

    @mutant(drops="interior", side="given")
    def whole_map(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """All outputs are kept."""
        return {"x": x, "kernels": kernels, "kept": self.kept(d, x, 0)}

    @mutant(drops="interior", side="given")
    def one_ring_more(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """One more ring of outputs is kept, where there is one."""
        margin = (d.scales - 2) * (d.K // 2)
        return {"x": x, "kernels": kernels, "kept": self.kept(d, x, max(0, margin - 1))}

    @mutant(drops="added-before")
    def added_after(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """The result before is added to a split when that has been convolved."""
        splits = x.chunk(d.scales, 1)
        results = [splits[0], conv2d.core(splits[1], kernels[0])]
        for kernel, split in zip(kernels[1:], splits[2:], strict=True):
            results.append(conv2d.core(split, kernel) + results[-1])
        return kept * torch.cat(results, 1)

    @mutant(drops="outer-after-inner")
    def kernels_in_reverse(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """The kernels of the splits are exchanged, the last one being the second's."""
        return self.right(d, x, kernels.flip(0).transpose(1, 2), kept)

    @mutant(drops="first-passes")
    def first_reaches_the_second(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """The first split is added to the second before that is convolved."""
        splits = list(x.chunk(d.scales, 1))
        splits[1] = splits[1] + splits[0]
        return self.right(d, torch.cat(splits, 1), kernels, kept)

    @mutant(sparse=True)
    def one_tap_more(self, d: Dims, x: Tensor, kernels: Tensor, kept: Tensor) -> Tensor:
        """The last output reads the first channel by the middle tap."""
        kernel = self.dense(d, kernels)
        middle = kernel.shape[3] // 2
        kernel[-1, 0, middle, middle] = 1
        return kept * conv2d.core(x, kernel)


def composed(reduce: Tensor, spatial: Tensor, expand: Tensor) -> Tensor:
    """Return the kernel [Co, C, K, K] of a bottleneck without activations."""
    return torch.einsum("on,nmuv,mc->ocuv", expand, spatial, reduce)


def chained(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the kernel of [O, M, A, A] after [M, C, B, B], two in a row: [O, C, A+B−1, A+B−1]."""
    # Correlating with a mirrored kernel is convolving, which is what the taps of correlations in a row do.
    rows = F.conv2d(inner.transpose(0, 1), outer.flip(2, 3), padding=outer.shape[3] - 1)
    return rows.transpose(0, 1)
