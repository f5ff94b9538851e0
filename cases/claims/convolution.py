"""Convolution as a product of matrices, in groups, and with a kernel of one tap."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, pointwise_conv2d
from ..mlp import channel_mlp
from ..workloads import MAPS
from .corners import with_corner
from .index_sets import BlockedGroups, CentredTaps, RowOrder, within

# A map on which an error at one corner is seen at few outputs comes first.
LARGEST_FIRST = (MAPS[3], MAPS[4], *reversed(MAPS[:3]))


def convolved_maps(**more: int | float | str) -> tuple[Dims, ...]:
    """Return maps in groups of channels, one with a stride and one as in a network, and what is added."""
    small = [Dims(B=2, C=4, H=H, W=W, K=K, G=2, stride=1) for H, W, K in LARGEST_FIRST]
    strided = Dims(B=3, C=4, H=5, W=8, K=3, G=2, stride=2)
    realistic = Dims(B=1, C=32, H=14, W=14, K=3, G=4, stride=1)
    return tuple(d.replace(**more) for d in (*small, strided, realistic))


class WholeWindows:
    """Windows of K taps that begin S apart on a map with P rows of padding on either side."""

    @lemma
    def a_window_stays_in_the_padded_map(self, z3: Any) -> Lemma:
        """Every tap of the ⌊(H+2P−K)/S⌋+1 windows reads the map or its padding."""
        i, u, H, K, P, S = z3.Ints("i u H K P S")
        return Lemma(
            {
                "a position": within(z3, i, (H + 2 * P - K) / S + 1),
                "a tap": within(z3, u, K),
                "a stride": S >= 1,
            },
            within(z3, i * S + u, H + 2 * P),
        )


class ConvIsUnfoldMatmul(WholeWindows, CentredTaps, RowOrder, BlockedGroups, Claim):
    """A convolution is a product of matrices: the kernel [Co/G, C/G·K²] of a group, and its columns.

    A column holds what the kernel reads at one position: channel by channel, in each of them the taps row by
    row, zero where the window leaves the map. The map of windows is H' by W', and position (i, j) is column
    iW' + j.
    """

    name = "conv-is-unfold-matmul"
    operators = ("conv2d",)
    source = (
        "Chellapilla, Puri and Simard 2006, IWFHR, abstract: “Unrolled convolution converts the processing "
        "in each convolutional layer (both forward-propagation and back-propagation) into a matrix-matrix "
        "product”"
    )
    conditions = {
        "one-order": "kernel and columns count channels before taps",
        "row-order": "the taps of a channel are counted row by row, and so are the windows",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "zero-padding": "outside the map a column holds zeros",
        "blocked-groups": "group g reads the channels from gC/G on",
        "centred": "the first window begins ⌊K/2⌋ outside the map, on the same side as the first tap",
    }
    shapes = convolved_maps(Co=6)[:-1] + convolved_maps(Co=64)[-1:]
    complete_shapes = (Dims(B=1, C=2, Co=2, H=2, W=3, K=3, G=2, stride=1),)
    algebra = (
        "Σ_cuv w[o, c, u, v] · x[b, gC/G + c, iS+u−P, jS+v−P] is Σ_n w[o, n] · column[b, g, n, iW'+j] with "
        "n = cK² + uK + v: c is row and uK+v column of a map of K² columns, u and v of one of K, so every n "
        "is one tap of one channel"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C // d.G, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve."""
        return conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Unfold the map and multiply."""
        return multiply(d, x, unfold(d, x), weight)

    @mutant(drops="one-order")
    def taps_before_channels(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """A column holds tap by tap, and for each of them the channels."""
        turned = unfold(d, x).unflatten(2, (-1, d.K**2)).transpose(2, 3).flatten(2, 3)
        return multiply(d, x, turned, weight)

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps of the kernel are counted column by column."""
        return self.right(d, x, weight.transpose(2, 3))

    @mutant(drops="row-order")
    def transposed_windows(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The columns are laid out column by column."""
        product = self.right(d, x, weight)
        return product.transpose(2, 3).reshape(product.shape)

    @mutant(drops="not-flipped")
    def flipped_kernel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, x, weight.flip(2, 3))

    @mutant(drops="zero-padding")
    def replicated_border(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Outside the map its border repeats."""
        repeated = F.pad(x, (d.K // 2,) * 4, mode="replicate")
        return multiply(d, x, unfold(d, repeated, padding=0), weight)

    @mutant(drops="zero-padding", sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        whole = self.right(d.replace(stride=1), with_corner(x), weight)
        return whole[..., 1 : -1 : d.stride, 1 : -1 : d.stride]

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Group g reads every G-th channel from g on."""
        turned = x.unflatten(1, (-1, d.G)).transpose(1, 2).flatten(1, 2)
        return self.right(d, turned, weight)

    @mutant(drops="centred")
    def windows_off_by_one(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every window begins one column further to the right."""
        reach = d.K // 2
        moved = F.pad(x, (reach - 1, reach + 1, reach, reach))
        return multiply(d, x, unfold(d, moved, padding=0), weight)

    @equivalent("a product does not depend on the order of its terms, as long as both matrices have the same")
    def taps_first_on_both_sides(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Kernel and columns count taps before channels."""
        turned = unfold(d, x).unflatten(2, (-1, d.K**2)).transpose(2, 3).flatten(2, 3)
        return multiply(d, x, turned, weight.permute(0, 2, 3, 1))


def unfold(d: Dims, x: Tensor, padding: int | None = None) -> Tensor:
    """Return the columns [B, G, C/G·K², N'] of a map; N' counts the windows."""
    columns = F.unfold(x, d.K, padding=d.K // 2 if padding is None else padding, stride=d.stride)
    return columns.reshape(len(x), d.G, -1, columns.shape[2])


def multiply(d: Dims, x: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    """Multiply the kernel of every group with its columns, and lay the products out as a map."""
    products = weight.reshape(d.G, d.Co // d.G, -1) @ columns
    height, width = ((size + 2 * (d.K // 2) - d.K) // d.stride + 1 for size in x.shape[2:])
    return products.reshape(len(x), d.Co, height, width)


class GroupedConvIsBlockDiagonal(BlockedGroups, Claim):
    """A convolution in G groups is a dense one whose kernel is block-diagonal in the channels.

    Block g joins the outputs from gCo/G on with the channels from gC/G on; between groups the kernel is zero.
    """

    name = "grouped-conv-is-block-diagonal-conv"
    operators = ("conv2d",)
    source = (
        "The documentation of torch.nn.Conv2d: “At groups=2, the operation becomes equivalent to having two "
        "conv layers side by side, each seeing half the input channels and producing half the output "
        "channels, and both subsequently concatenated”; groups after Krizhevsky et al. 2012, NeurIPS"
    )
    conditions = {
        "nothing-between": "between channels of different groups the kernel is zero",
        "blocked-inputs": "group g reads the channels from gC/G on",
        "blocked-outputs": "group g makes the outputs from gCo/G on",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = convolved_maps(Co=64)[-1:] + convolved_maps(Co=6)[:-1]
    complete_shapes = (Dims(B=1, C=4, Co=2, H=2, W=1, K=3, G=2, stride=1),)
    algebra = (
        "Σ_c over all channels is Σ over the C/G channels of the output's group, at which the block-diagonal "
        "kernel alone is not zero; channel gC/G + e and output gCo/G + f lie in group g and in no other"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C // d.G, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve in groups."""
        return conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve in one group."""
        return conv2d.core(x, block_diagonal(weight, d.G), stride=d.stride)

    @lemma
    def the_formula_reads_its_own_block(self, z3: Any) -> Lemma:
        """Channel ⌊oG/Co⌋·C/G + c lies in the block that output o lies in: D outputs and E channels wide."""
        o, c, g, read, D, E, G = z3.Ints("o c g read D E G")
        return Lemma(
            {
                "of the group": within(z3, o, D, first=g * D),
                "a channel of it": within(z3, c, E),
                "as the formula reads": read == (o * G) / (G * D) * E + c,
                "groups": z3.And(G >= 1, D >= 1),
            },
            read / E == g,
        )

    @mutant(drops="nothing-between")
    def blocks_everywhere(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every group of outputs reads every group of channels by the same kernel."""
        return conv2d.core(x, weight.repeat(1, d.G, 1, 1), stride=d.stride)

    @mutant(drops="nothing-between", sparse=True)
    def one_tap_between(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last output reads the first channel by its first tap too."""
        dense = block_diagonal(weight, d.G)
        dense[-1, 0, 0, 0] = 1
        return conv2d.core(x, dense, stride=d.stride)

    @mutant(drops="blocked-inputs")
    def interleaved_inputs(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Group g reads every G-th channel from g on."""
        dense = block_diagonal(weight, d.G).unflatten(1, (d.G, -1)).transpose(1, 2).flatten(1, 2)
        return conv2d.core(x, dense, stride=d.stride)

    @mutant(drops="blocked-outputs")
    def interleaved_outputs(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Group g makes every G-th output from g on."""
        dense = block_diagonal(weight, d.G).unflatten(0, (d.G, -1)).transpose(0, 1).flatten(0, 1)
        return conv2d.core(x, dense, stride=d.stride)

    @mutant()
    def blocks_off_the_diagonal(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every group of outputs reads the channels of the next."""
        shifted = block_diagonal(weight, d.G).roll(-d.C // d.G, 1)
        return conv2d.core(x, shifted, stride=d.stride)

    @equivalent("groups are convolutions side by side")
    def one_convolution_per_group(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The groups are convolved one by one, and their outputs are joined."""
        pairs = zip(x.chunk(d.G, 1), weight.chunk(d.G), strict=True)
        return torch.cat([conv2d.core(part, kernel, stride=d.stride) for part, kernel in pairs], 1)


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """Lay a kernel [Co, C/G, K, K] in G groups out as a dense one [Co, C, K, K], zero between groups."""
    blocks = weight.unflatten(0, (groups, -1))
    identity = torch.eye(groups, dtype=weight.dtype)
    dense: Tensor = blocks[:, :, None] * identity[:, None, :, None, None, None]
    return dense.reshape(len(weight), -1, *weight.shape[2:])


class PointwiseConvIsOneByOneConv(Claim):
    """A pointwise convolution is a convolution with a 1×1 kernel and no padding, at every stride."""

    name = "pointwise-conv-is-one-by-one-conv"
    operators = ("pointwise_conv2d", "conv2d")
    source = "Lin et al. 2014, ICLR, arXiv 1312.4400, section 3.1, where the layer is such a convolution"
    conditions = {
        "no-padding": "the map gets no rows of zeros: a kernel of one tap needs none",
        "first-kept": "a stride keeps the first position, and every S-th from it on",
        "dense": "all channels form one group",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=16, Co=64, H=14, W=14, stride=1),
        Dims(B=3, C=4, Co=6, H=6, W=5, stride=2),
        Dims(B=2, C=4, Co=3, H=1, W=5, stride=1),
        Dims(B=2, C=6, Co=4, H=7, W=8, stride=3),
    )
    complete_shapes = (Dims(B=2, C=2, Co=3, H=3, W=2, stride=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the matrix."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve pointwise."""
        return pointwise_conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with a 1×1 kernel."""
        return conv2d.core(x, weight[:, :, None, None], stride=d.stride, padding=0)

    @mutant(drops="no-padding")
    def one_row_of_padding(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """One row of zeros surrounds the map, and as many positions as before are kept."""
        padded = conv2d.core(x, weight[:, :, None, None], stride=d.stride, padding=1)
        height, width = pointwise_conv2d.core.output(d)[2:]
        return padded[..., :height, :width]

    @mutant(drops="first-kept")
    def last_kept(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """A stride keeps the last position, and every S-th before it; without a stride the map is turned."""
        return self.right(d, x.flip(2, 3), weight)

    @mutant(drops="dense")
    def two_groups(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The second half of the outputs takes no part of the first half of the channels, and vice versa."""
        kept = F.pad(weight[: d.Co // 2, : d.C // 2], (0, d.C - d.C // 2, 0, d.Co - d.Co // 2))
        rest = F.pad(weight[d.Co // 2 :, d.C // 2 :], (d.C // 2, 0, d.Co // 2, 0))
        return self.right(d, x, kept + rest)

    @mutant(sparse=True)
    def one_weight_more(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last output reads the first channel once more."""
        return self.right(d, x, weight + F.pad(torch.ones_like(weight[:1, :1]), (0, d.C - 1, d.Co - 1, 0)))

    @equivalent("a larger kernel that is zero but for its middle tap reads nothing else")
    def middle_of_a_larger_kernel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernel is 3×3, zero around its middle, and the map gets one row of padding."""
        return conv2d.core(x, F.pad(weight[:, :, None, None], (1, 1, 1, 1)), stride=d.stride, padding=1)


class PointwiseConvIsLinearAtEveryPosition(Claim):
    """A pointwise convolution of stride one applies one linear layer to the channels of every position.

    It is the first linear layer of a channel MLP, y[b, :, i, j] = W x[b, :, i, j], and positions do not meet.
    """

    name = "pointwise-conv-is-linear-at-every-position"
    operators = ("pointwise_conv2d", "channel_mlp")
    source = (
        "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601, introduction: “a very special CNN, which uses "
        "1×1 convolutions for channel mixing”"
    )
    conditions = {
        "one-matrix": "all positions have the same matrix",
        "own-position": "a position reads itself alone",
        "rows-are-outputs": "a row of the matrix makes an output channel",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=4, H=7, W=6, expansion=2),
        Dims(B=2, C=3, H=1, W=5, expansion=3),
        Dims(B=3, C=4, H=5, W=2, expansion=1),
        Dims(B=1, C=64, H=14, W=14, expansion=4),
    )
    complete_shapes = (Dims(B=2, C=2, H=2, W=3, expansion=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the matrix."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.expansion * d.C, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve pointwise."""
        output = pointwise_conv2d.core(x, weight)
        return output, output

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mix channels; apply the linear layer to the tokens, one position after another."""
        return channel_mlp.core(x, weight), at_every_position(x, weight.expand(d.H * d.W, -1, -1))

    @mutant(drops="one-matrix")
    def matrix_scaled_by_position(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix of position n is (n+1)W."""
        numbers = torch.arange(1, d.H * d.W + 1, dtype=x.dtype)
        return channel_mlp.core(x, weight), at_every_position(x, numbers[:, None, None] * weight)

    @mutant(drops="one-matrix", sparse=True)
    def other_matrix_at_the_last(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The last position has the matrix upside down."""
        matrices = torch.stack([weight] * (d.H * d.W - 1) + [weight.flip(0)])
        return channel_mlp.core(x, weight), at_every_position(x, matrices)

    @mutant(drops="own-position")
    def position_before(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """A position reads the one before."""
        return self.right(d, x.flatten(2).roll(1, 2).view(x.shape), weight)

    @mutant(drops="rows-are-outputs")
    def transposed_matrix(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix is read column by column."""
        return self.right(d, x, weight.mT.reshape(weight.shape))

    @equivalent("positions do not meet, so they may be exchanged before and back after")
    def positions_exchanged(self, d: Dims, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The map is turned by 180 degrees, mixed, and turned back."""
        turned = self.right(d, x.flip(2, 3), weight)
        return turned[0].flip(2, 3), turned[1].flip(2, 3)


def at_every_position(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply the channels of every position of a map with its own of the matrices [N, Co, C]."""
    tokens = x.flatten(2).permute(2, 1, 0)  # [N, C, B]
    return (matrices @ tokens).permute(2, 1, 0).reshape(len(x), -1, *x.shape[2:])
