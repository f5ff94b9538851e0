"""Lightweight convolution of sequences, seen as depthwise convolution and as mixing of tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_before
from ..dynamic import dynamic_conv1d, lightweight_conv1d
from ..mlp import spatial_mixing_mlp
from .index_sets import BlockedGroups

# The longest first, so that an error at one position is seen where it is rare. Both directions, sequences
# shorter than the kernel among them, and heads of two channels or more.
SEQUENCES: tuple[Dims, ...] = (
    Dims(B=2, C=6, M=3, T=11, K=5),
    Dims(B=2, C=4, M=2, T=7, K=3, direction="causal"),
    Dims(B=2, C=4, M=2, T=2, K=5),
    Dims(B=3, C=4, M=2, T=4, K=5, direction="causal"),
    Dims(B=1, C=64, M=4, T=32, K=7),
)
TINY: tuple[Dims, ...] = (Dims(B=2, C=4, M=2, T=2, K=3),)
ENDS = {
    "zero-padding": "beyond the ends of the sequence there are zeros",
    "anchored": "as many taps come before a position on both sides, ⌊K/2⌋ or, if causal, K−1",
    "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
}
LIGHT = (
    "Wu et al. 2019, ICLR, arXiv 1901.10430, section 1: lightweight convolutions “are depth-wise separable”, "
    "“softmax-normalized and share weights over the channel dimension”"
)


class _LightConv(Claim):
    """LightConv with given kernels, ``left``, is what ``right`` makes of the same kernels."""

    shapes = SEQUENCES
    complete_shapes = TINY

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and a kernel per head; what normalises the kernels is left open."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.M, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with a kernel per head."""
        return lightweight_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute the right side for kernels and a sequence of any length."""
        raise NotImplementedError

    @mutant(drops="zero-padding")
    def replicated_ends(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Beyond the ends the first and the last value repeat."""
        reach = d.K - 1
        return self.right(d, F.pad(x, (reach, reach), mode="replicate"), kernel)[..., reach : reach + d.T]

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, kernel)
        output[-1, :, -1] = self.right(d, torch.cat([x, x[..., :1]], 2), kernel)[-1, :, d.T - 1]
        return output

    @mutant(drops="anchored")
    def off_by_one(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One tap fewer comes before a position."""
        return self.right(d, F.pad(x, (0, 1)), kernel)[..., 1:]

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(1))


class LightConvIsTiedDepthwiseConv(BlockedGroups, _LightConv):
    """LightConv with given kernels is a depthwise convolution in which the channels of a head share a kernel.

    Of M heads with D = C/M channels each, channel c takes the kernel ⌊c/D⌋.
    """

    name = "lightconv-is-tied-depthwise-conv"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: ClassVar[Mapping[str, str]] = {
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "tied": "the channels of a head have one kernel",
        **ENDS,
    }
    algebra = "Σ_k kernel[⌊c/D⌋, k]·x[c, i+k−p] = Σ_k weight[c, k]·x[c, i+k−p] for weight[c] = kernel[⌊c/D⌋]"

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve every channel with a copy of its head's kernel."""
        return convolve(d, x, kernel.repeat_interleave(d.C // d.M, 0))

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return convolve(d, x, kernel.repeat(d.C // d.M, 1))

    @mutant(drops="tied")
    def last_channel_on_its_own(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last channel of every head has twice the kernel of the others."""
        factors = torch.ones(d.C // d.M, 1, dtype=kernel.dtype)
        factors[-1] = 2
        return convolve(d, x, (kernel[:, None] * factors).reshape(d.C, d.K))

    @equivalent("a dynamic convolution whose kernels do not depend on the position is a static one")
    def the_same_kernels_at_every_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Dynamic convolution, with the kernels of the heads at every position."""
        return dynamic_conv1d.core(x, at_every_position(d, kernel), before=taps_before(d))


class LightConvIsDepthwiseConvWithSoftmaxKernels(Claim):
    """LightConv of weights is the depthwise convolution whose kernels are their softmax over the taps.

    It is taken over all K taps, also those that lie beyond the ends of the sequence, and the channels of a
    head share its kernel.
    """

    name = "lightconv-is-depthwise-conv-with-softmax-kernels"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: ClassVar[Mapping[str, str]] = {
        "softmax-over-taps": "a head's weights are normalised by a softmax over its taps",
        "all-taps": "taps beyond the ends take part in the softmax",
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "zero-padding": ENDS["zero-padding"],
        "not-flipped": ENDS["not-flipped"],
    }
    shapes = SEQUENCES
    complete_shapes = TINY

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of every head."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Normalise the weights and convolve."""
        return lightweight_conv1d.module(x, weight, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve every channel with the softmax of its head's weights."""
        return convolve(d, x, weight.softmax(1).repeat_interleave(d.C // d.M, 0))

    @mutant(drops="softmax-over-taps")
    def softmax_over_heads(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The softmax is taken over the heads."""
        return convolve(d, x, weight.softmax(0).repeat_interleave(d.C // d.M, 0))

    @mutant(drops="softmax-over-taps")
    def no_softmax(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The weights are the kernels."""
        return convolve(d, x, weight.repeat_interleave(d.C // d.M, 0))

    @mutant(drops="all-taps", side="left")
    def renormalised_ends(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Taps beyond the ends take no part in the softmax."""
        return lightweight_conv1d.module(x, weight, before=taps_before(d), border="renormalised")

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return convolve(d, x, weight.softmax(1).repeat(d.C // d.M, 1))

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, weight)
        output[-1, :, -1] = self.right(d, torch.cat([x, x[..., :1]], 2), weight)[-1, :, d.T - 1]
        return output

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The weights are mirrored."""
        return self.right(d, x, weight.flip(1))

    @equivalent("a softmax of copies is a copy of the softmax")
    def softmax_of_every_channel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every channel has a copy of its head's weights, and a softmax of its own."""
        return convolve(d, x, weight.repeat_interleave(d.C // d.M, 0).softmax(1))


class LightConvWithAHeadPerChannel(_LightConv):
    """LightConv with given kernels and a head for every channel is depthwise convolution."""

    name = "lightconv-with-a-head-per-channel-is-depthwise-conv"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: ClassVar[Mapping[str, str]] = {
        "head-per-channel": "there are as many heads as channels",
        "no-softmax": "the kernels are given, and not normalised",
        **ENDS,
    }
    shapes = tuple(d.replace(M=d.C) for d in SEQUENCES)
    complete_shapes = tuple(d.replace(M=d.C) for d in TINY)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve every channel with its kernel."""
        return convolve(d, x, kernel)

    @mutant(drops="head-per-channel", side="left")
    def a_head_for_two_channels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Two channels each share the kernel of the first of them."""
        return self.left(d, x, kernel[::2])

    @mutant(drops="no-softmax", side="left")
    def softmax_of_the_kernels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A softmax is taken of the kernels, as the layer does of its weights."""
        return lightweight_conv1d.module(x, kernel, before=taps_before(d))

    @mutant(drops="head-per-channel", side="left")
    def one_head(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All channels share the kernel of the first one."""
        return self.left(d, x, kernel[:1])


class LightConvIsBandMatrix(_LightConv):
    """LightConv with given kernels mixes the positions of a head's channels by one T×T matrix.

    The matrix of head m is a band of Toeplitz form: row i holds kernel[m, j−i+p] in column j where that tap
    exists, p being the number of taps before a position, and zero elsewhere. So every head is one layer of
    spatial mixing over its channels.
    """

    name = "lightconv-is-band-matrix-per-head"
    operators = ("lightweight_conv1d", "spatial_mixing_mlp")
    source = (
        "github.com/facebookresearch/fairseq, fairseq/modules/lightweight_convolution.py: “turn the "
        "convolution filters into band matrices and do matrix multiplication”"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "matrix-per-head": "every head has a matrix of its own",
        "constant-diagonals": "along a diagonal all entries are the same tap",
        **ENDS,
    }
    algebra = (
        "Σ_j band[i, j]·x[j] = Σ_k kernel[k]·x[i+k−p], the two sums having the same terms other than zeros"
    )

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Mix the positions of every head by its band."""
        return mix_heads(d, x, bands(d, kernel, x.shape[2]))

    @mutant(drops="matrix-per-head")
    def one_matrix(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All heads take the matrix of the first."""
        return self.right(d, x, kernel[:1].expand_as(kernel))

    @mutant(drops="constant-diagonals")
    def last_row_doubled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The entries of the last row are twice the taps."""
        factors = torch.ones(d.T, 1, dtype=kernel.dtype)
        factors[-1] = 2
        return mix_heads(d, x, bands(d, kernel, d.T) * factors)

    @mutant(drops="not-flipped")
    def transposed_matrix(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Row and column are exchanged."""
        return mix_heads(d, x, bands(d, kernel, d.T).mT)

    @lemma
    def an_entry_is_one_tap(self, z3: Any) -> Lemma:
        """Two taps k and l of position i that reach the same position j are the same tap."""
        i, j, k, n, p = z3.Ints("i j k n p")
        return Lemma(assumptions={"by tap k": j == i + k - p, "by tap n": j == i + n - p}, conclusion=k == n)

    @lemma
    def a_row_is_one_step_longer(self, z3: Any) -> Lemma:
        """Written every T+K places into a matrix of T+K−1 columns, tap k of row i lands in column i+k."""
        i, k, T, K, row, column = z3.Ints("i k T K row column")
        return Lemma(
            assumptions={
                "where it is written": row * (T + K - 1) + column == i * (T + K) + k,
                "a column": z3.And(column >= 0, column < T + K - 1),
                "a position": z3.And(i >= 0, i < T),
                "a tap": z3.And(k >= 0, k < K),
            },
            conclusion=z3.And(row == i, column == i + k),
        )


class TokenMixingByABandIsLightConv(_LightConv):
    """One token-mixing layer whose matrix is a Toeplitz band is LightConv with one head and given kernel.

    A token-mixing MLP has a hidden layer and GELU besides, and a matrix without structure.
    """

    name = "token-mixing-by-a-band-is-lightconv-with-one-head"
    operators = ("spatial_mixing_mlp", "lightweight_conv1d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, figure of relations, where local and weight-shared "
        "connections lead from separable MLPs to depthwise convolution"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "one-head": "all channels have one kernel",
        "constant-diagonals": "along a diagonal all entries of the matrix are the same tap",
        "band": "entries that are no tap are zero",
        **ENDS,
    }
    shapes = tuple(d.replace(M=1) for d in SEQUENCES)
    complete_shapes = tuple(d.replace(M=1) for d in TINY)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Mix the positions of all channels by the band."""
        return mix_heads(d, x, bands(d, kernel, x.shape[2]))

    @mutant(drops="one-head", side="left")
    def two_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The second half of the channels has twice the kernel of the first."""
        return self.left(d, x, torch.cat([kernel, 2 * kernel]))

    @mutant(drops="constant-diagonals")
    def last_row_doubled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The entries of the last row are twice the taps."""
        factors = torch.ones(d.T, 1, dtype=kernel.dtype)
        factors[-1] = 2
        return mix_heads(d, x, bands(d, kernel, d.T) * factors)

    @mutant(drops="band")
    def one_entry_outside_the_band(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The first position weighs the last one as well, by one."""
        outside = F.pad(torch.ones(1, 1, dtype=kernel.dtype), (d.T - 1, 0, 0, d.T - 1))
        return mix_heads(d, x, bands(d, kernel, d.T) + outside)


def convolve(d: Dims, x: Tensor, weight: Tensor) -> Tensor:
    """Convolve x [B, C, T] with a kernel [C, K] per channel in the direction of d."""
    return depthwise_conv1d.core(x, weight, before=taps_before(d))


def at_every_position(d: Dims, kernel: Tensor) -> Tensor:
    """Give every image and position the kernels [M, K], as [B, M, K, T]."""
    return kernel[None, :, :, None].expand(d.B, d.M, d.K, d.T)


def bands(d: Dims, kernel: Tensor, positions: int) -> Tensor:
    """Lay kernels [M, K] along the diagonals of square matrices [M, T, T] for that many positions T."""
    steps = torch.arange(positions)
    taps = steps - steps[:, None] + taps_before(d)
    # Whatever is no tap reads the zero that stands after the last one.
    taps[(taps < 0) | (taps >= d.K)] = d.K
    return F.pad(kernel, (0, 1))[:, taps]


def mix_heads(d: Dims, x: Tensor, matrices: Tensor) -> Tensor:
    """Mix the positions of x [B, C, T] by the matrix of their head [M, T, T], head by head."""
    heads = x.unsqueeze(2).chunk(len(matrices), 1)
    mixed = [
        spatial_mixing_mlp.core(head, matrix) for head, matrix in zip(heads, matrices.unbind(), strict=True)
    ]
    return torch.cat(mixed, 1).squeeze(2)
