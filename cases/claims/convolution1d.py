"""Convolution over sequences beside that of maps, and its causal and its depthwise form."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv1d, conv2d, depthwise_conv1d
from .convolution import LARGEST_FIRST
from .depthwise_convolution import diagonal
from .index_sets import CentredTaps, within


class Conv1dIsConvOfRows(CentredTaps, Claim):
    """A convolution over sequences is one of maps whose rows are the sequences, with a kernel of one row.

    The K×K kernel has the K taps in its middle row and zeros above and below.
    """

    name = "conv1d-is-conv-with-one-row"
    operators = ("conv1d", "conv2d")
    source = "Waibel et al. 1989, IEEE Trans. ASSP 37(3), section II, beside LeCun et al. 1998, section II"
    conditions = {
        "one-row": "above and below its middle row the kernel is zero",
        "middle-row": "the taps are those of the middle row",
        "along-rows": "the sequence runs along the rows of the map",
        "not-flipped": "both kernels are applied as they stand",
        "centred": "as many taps lie before a position as behind it: K is odd, and no tap is causal",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=1, C=32, Co=32, H=5, T=64, K=7, G=2),
        *(Dims(B=2, C=4, Co=6, H=H, T=T, K=K, G=2) for H, T, K in LARGEST_FIRST),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=2, T=3, K=3, G=1),)
    algebra = (
        "Σ_uv w[o, c, u, v] · x[b, c, i+u−r, t+v−r] has the terms of u = r alone, so it is the sum over the "
        "taps of row i, x[b, c, i, t+v−r]"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a map of H sequences, and the taps."""
        return {"x": (d.B, d.C, d.H, d.T), "weight": (d.Co, d.C // d.G, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve the rows of all maps as sequences."""
        rows = conv1d.core(x.transpose(1, 2).flatten(0, 1), weight)
        return rows.view(d.B, d.H, d.Co, d.T).transpose(1, 2)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve the maps."""
        return conv2d.core(x, in_one_row(d, weight))

    @mutant(drops="one-row")
    def taps_in_every_row(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All rows of the kernel are the taps."""
        return conv2d.core(x, weight[:, :, None].expand(-1, -1, d.K, -1))

    @mutant(drops="one-row", sparse=True)
    def one_tap_in_another_row(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """For the last output the first tap of the first row is one."""
        kernel = in_one_row(d, weight)
        kernel[-1, 0, 0, 0] = 1
        return conv2d.core(x, kernel)

    @mutant(drops="middle-row")
    def taps_in_the_first_row(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps stand in the first row of the kernel."""
        return conv2d.core(x, F.pad(weight[:, :, None], (0, 0, 0, d.K - 1)))

    @mutant(drops="along-rows")
    def taps_in_one_column(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps stand in the middle column of the kernel."""
        return conv2d.core(x, in_one_row(d, weight).transpose(2, 3))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps are mirrored."""
        return self.right(d, x, weight.flip(2))

    @mutant(drops="centred", side="left")
    def causal_sequences(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """No tap lies after its position."""
        rows = conv1d.core(x.transpose(1, 2).flatten(0, 1), weight, before=d.K - 1)
        return rows.view(d.B, d.H, d.Co, d.T).transpose(1, 2)


def in_one_row(d: Dims, weight: Tensor) -> Tensor:
    """Lay taps [Co, C/G, K] out as the middle row of a kernel [Co, C/G, K, K] that is zero elsewhere."""
    return F.pad(weight[:, :, None], (0, 0, d.K // 2, d.K // 2))


class ConvOfOneRowIsConv1d(CentredTaps, Claim):
    """On maps of a single row a convolution is one of sequences, by the middle row of its kernel.

    Whatever the other rows hold, they read nothing but padding.
    """

    name = "conv-of-one-row-is-conv1d"
    operators = ("conv2d", "conv1d")
    source = (
        "LeCun et al. 1998, Proc. IEEE 86(11), section II, as a formula; zero padding as in every framework"
    )
    conditions = {
        "single-row": "the map has one row",
        "zero-padding": "outside the map there are zeros",
        "middle-row": "the taps of the sequence are the middle row of the kernel",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=16, Co=24, T=33, K=5, G=2),
        Dims(B=2, C=4, Co=6, T=7, K=3, G=2),
        Dims(B=3, C=4, Co=2, T=3, K=5, G=2),
        Dims(B=2, C=2, Co=3, T=1, K=3, G=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, T=3, K=3, G=2),)
    algebra = (
        "row 0+u−r of a map of one row is in the map where u = r alone, so Σ_uv is Σ_v of the middle row"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequences and the kernel."""
        return {"x": (d.B, d.C, d.T), "weight": (d.Co, d.C // d.G, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve maps of one row."""
        return conv2d.core(x[:, :, None], weight)[:, :, 0]

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve the sequences by the middle row."""
        return conv1d.core(x, weight[:, :, d.K // 2])

    @mutant(drops="single-row", side="left")
    def two_equal_rows(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The map has the sequence twice."""
        return conv2d.core(torch.stack([x, x], 2), weight)[:, :, 0]

    @mutant(drops="zero-padding", side="left")
    def replicated_border(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Above and below the map its row repeats."""
        return conv2d.core(x[:, :, None].expand(-1, -1, d.K, -1), weight)[:, :, d.K // 2]

    @mutant(drops="middle-row")
    def first_row(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The sequence is convolved by the first row of the kernel."""
        return conv1d.core(x, weight[:, :, 0])

    @mutant(drops="middle-row", sparse=True)
    def one_tap_of_the_first_row(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps of the last output begin with one of the first row."""
        taps = weight[:, :, d.K // 2].clone()
        taps[-1, 0, 0] = weight[-1, 0, 0, 0]
        return conv1d.core(x, taps)

    @equivalent("rows of the kernel that read nothing but zeros may hold anything")
    def other_rows_doubled(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All rows of the kernel but the middle one are doubled on a map of one row."""
        factors = torch.full((d.K, 1), 2.0, dtype=x.dtype)
        factors[d.K // 2] = 1
        return conv2d.core(x[:, :, None], factors * weight)[:, :, 0]


class CausalConv1dIsHalfOfACentredOne(Claim):
    """A causal convolution of K taps is a centred one of 2K−1 taps, of which the last K−1 are zero."""

    name = "causal-conv1d-is-half-of-a-centred-one"
    operators = ("conv1d",)
    source = (
        "van den Oord et al. 2016, WaveNet, arXiv 1609.03499, section 2.1: a convolution masked or shifted"
    )
    conditions = {
        "nothing-after": "the taps behind the middle one are zero",
        "last-in-the-middle": "the last of the K taps is the middle one, which reads the position itself",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=8, Co=24, T=20, K=5, G=2, stride=1),
        Dims(B=2, C=4, Co=6, T=9, K=2, G=2, stride=2),
        Dims(B=3, C=4, Co=6, T=2, K=4, G=2, stride=1),
        Dims(B=2, C=2, Co=4, T=7, K=1, G=1, stride=3),
    )
    complete_shapes = (Dims(B=2, C=2, Co=2, T=4, K=3, G=2, stride=1),)
    algebra = (
        "Σ_k w[k] · x[i+k−(K−1)] is Σ_u over 2K−1 taps of x[i+u−(K−1)], where those with u ≥ K weigh zero"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequences and the taps."""
        return {"x": (d.B, d.C, d.T), "weight": (d.Co, d.C // d.G, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with no tap after its position."""
        return conv1d.core(x, weight, stride=d.stride, before=d.K - 1)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with 2K−1 taps around it."""
        return conv1d.core(x, F.pad(weight, (0, d.K - 1)), stride=d.stride)

    @lemma
    def no_tap_reads_what_follows(self, z3: Any) -> Lemma:
        """Of 2K−1 taps around a position the first K read it and what lies before, the rest what follows."""
        i, u, read, K = z3.Ints("i u read K")
        return Lemma(
            {"a tap": within(z3, u, 2 * K - 1), "centred": read == i + u - (2 * K - 1) / 2},
            (read <= i) == within(z3, u, K),
        )

    @mutant(drops="nothing-after")
    def mirrored_behind(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps are repeated behind the middle one, mirrored."""
        return self.around(d, x, F.pad(weight, (0, d.K - 1)) + F.pad(weight[..., :-1].flip(2), (d.K, 0)))

    @mutant(drops="nothing-after", sparse=True)
    def one_tap_after(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """For the last output the tap after the middle one reads the first channel."""
        taps = F.pad(weight, (0, d.K - 1))
        taps[-1, 0, d.K] = 1
        return self.around(d, x, taps)

    @mutant(drops="last-in-the-middle")
    def first_in_the_middle(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The first of the K taps is the middle one, and the first K−1 of all are zero."""
        return self.around(d, x, F.pad(weight, (d.K - 1, 0)))

    @mutant()
    def taps_in_reverse(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps are mirrored where they stand."""
        return self.right(d, x, weight.flip(2))

    def around(self, d: Dims, x: Tensor, taps: Tensor) -> Tensor:
        """Convolve with all of the 2K−1 taps."""
        return conv1d.core(x, taps, stride=d.stride)


class DepthwiseConv1dIsConv1dWithDiagonalKernel(Claim):
    """A depthwise convolution over sequences is a dense one whose kernel is diagonal in the channels.

    It holds in either direction, centred or causal.
    """

    name = "depthwise-conv1d-is-conv1d-with-diagonal-kernel"
    operators = ("depthwise_conv1d", "conv1d")
    source = "Wu et al. 2019, ICLR, arXiv 1901.10430, section 2, beside a convolution that mixes channels"
    conditions = {
        "own-channel": "between different channels the kernel is zero",
        "own-kernel": "every channel has a kernel of its own on the diagonal",
        "same-direction": "both are centred, or both causal",
        "not-flipped": "both kernels are applied as they stand",
    }
    # The one of many channels first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=24, T=20, K=5, before=2, stride=1),
        Dims(B=2, C=4, T=8, K=3, before=2, stride=1),
        Dims(B=2, C=3, T=4, K=7, before=3, stride=1),
        Dims(B=3, C=4, T=7, K=4, before=2, stride=2),
    )
    complete_shapes = (Dims(B=2, C=2, T=4, K=3, before=2, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequences and a kernel for every channel."""
        return {"x": (d.B, d.C, d.T), "weight": (d.C, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve every channel."""
        return depthwise_conv1d.core(x, weight, stride=d.stride, before=d.before)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with a diagonal kernel."""
        return conv1d.core(x, diagonal(weight), stride=d.stride, before=d.before)

    @mutant(drops="own-channel")
    def all_channels(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """An output reads all channels by its kernel."""
        everywhere = weight[:, None].expand(-1, d.C, -1)
        return conv1d.core(x, everywhere, stride=d.stride, before=d.before)

    @mutant(drops="own-channel", sparse=True)
    def one_tap_beside_the_diagonal(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last output reads the first channel by its first tap."""
        kernel = diagonal(weight)
        kernel[-1, 0, 0] = 1
        return conv1d.core(x, kernel, stride=d.stride, before=d.before)

    @mutant(drops="own-kernel")
    def one_kernel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All channels take the kernel of the first."""
        return self.right(d, x, weight[:1].expand(d.C, -1))

    @mutant(drops="same-direction")
    def other_direction(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """No tap of the dense kernel lies before its position."""
        return conv1d.core(x, diagonal(weight), stride=d.stride, before=0)

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps are mirrored."""
        return self.right(d, x, weight.flip(1))
