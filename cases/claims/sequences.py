"""Lightweight and dynamic convolution of sequences, seen as the operators that they are special cases of."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import sliding_attention1d
from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_before
from ..dynamic import dynamic_conv1d, lightweight_conv1d
from ..involution import involution
from ..mlp import spatial_mixing_mlp

# The longest first, so that an error at one position is seen where it is rare. Both directions, sequences
# shorter than the kernel among them, and heads of two channels or more.
SEQUENCES = (
    Dims(B=2, C=6, M=3, T=11, K=5),
    Dims(B=2, C=4, M=2, T=7, K=3, direction="causal"),
    Dims(B=2, C=4, M=2, T=2, K=5),
    Dims(B=3, C=4, M=2, T=4, K=5, direction="causal"),
    Dims(B=1, C=64, M=4, T=32, K=7),
)
TINY = (Dims(B=2, C=4, M=2, T=2, K=3),)
ENDS = {
    "zero-padding": "beyond the ends of the sequence there are zeros",
    "anchored": "as many taps come before a position on both sides, ⌊K/2⌋ or, if causal, K−1",
    "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
}
LIGHT = (
    "Wu et al. 2019, ICLR, arXiv 1901.10430, section 1: lightweight convolutions “are depth-wise separable”, "
    "“softmax-normalized and share weights over the channel dimension”"
)
DYNAMIC = (
    "Wu et al. 2019, ICLR, arXiv 1901.10430, abstract: “We predict separate convolution kernels based solely "
    "on the current time-step in order to determine the importance of context elements”"
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


class LightConvIsTiedDepthwiseConv(_LightConv):
    """LightConv with given kernels is a depthwise convolution in which the channels of a head share a kernel.

    Of M heads with D = C/M channels each, channel c takes the kernel ⌊c/D⌋.
    """

    name = "lightconv-is-tied-depthwise-conv"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: Mapping[str, str] = {
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

    @lemma
    def a_channel_has_one_head(self, z3: Any) -> Lemma:
        """Channel mD + e with 0 ≤ e < D lies in the block of head m and in no other."""
        m, n, e, D = z3.Ints("m n e D")
        return Lemma(
            assumptions={
                "offset in the head": z3.And(e >= 0, e < D),
                "in the block of head n": z3.And(n * D <= m * D + e, m * D + e < n * D + D),
            },
            conclusion=n == m,
        )


class LightConvWithAHeadPerChannel(_LightConv):
    """LightConv with given kernels and a head for every channel is depthwise convolution."""

    name = "lightconv-with-a-head-per-channel-is-depthwise-conv"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: Mapping[str, str] = {"head-per-channel": "there are as many heads as channels", **ENDS}
    shapes = tuple(d.replace(M=d.C) for d in SEQUENCES)
    complete_shapes = tuple(d.replace(M=d.C) for d in TINY)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve every channel with its kernel."""
        return convolve(d, x, kernel)

    @mutant(drops="head-per-channel", side="left")
    def a_head_for_two_channels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Two channels each share the kernel of the first of them."""
        return self.left(d, x, kernel[::2])

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
    conditions: Mapping[str, str] = {
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
    conditions: Mapping[str, str] = {
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


class _DynamicConv(Claim):
    """Dynamic convolution with given kernels, ``left``, is what ``right`` makes of the same kernels."""

    conditions: Mapping[str, str] = {
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "per-head": "every head has a kernel of its own",
        "per-position": "every position has a kernel of its own",
        "per-image": "every image has kernels of its own",
        **ENDS,
    }
    shapes = SEQUENCES
    complete_shapes = TINY

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the kernels; what makes the kernels is left open."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.B, d.M, d.K, d.T)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with a kernel per image, head and position."""
        return dynamic_conv1d.core(x, kernel, before=taps_before(d))

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return self.right(d, x, kernel.repeat(1, d.C // d.M, 1, 1))

    @mutant(drops="per-head")
    def one_kernel_for_all_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All channels take the kernel of the first head."""
        return self.right(d, x, kernel[:, :1])

    @mutant(drops="per-position")
    def one_kernel_for_all_positions(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All positions take the kernel of the first one."""
        return self.right(d, x, kernel[..., :1].expand_as(kernel))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return self.right(d, x, kernel.roll(1, 0))

    @mutant(drops="zero-padding")
    def replicated_ends(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Beyond the ends the first and the last value repeat."""
        reach = d.K - 1
        longer = F.pad(x, (reach, reach), mode="replicate")
        return self.right(d, longer, F.pad(kernel, (reach, reach)))[..., reach : reach + d.T]

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, kernel)
        longer = self.right(d, torch.cat([x, x[..., :1]], 2), F.pad(kernel, (0, 1)))
        output[-1, :, -1] = longer[-1, :, d.T - 1]
        return output

    @mutant(drops="anchored")
    def off_by_one(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One tap fewer comes before a position."""
        return self.right(d, F.pad(x, (0, 1)), F.pad(kernel, (1, 0)))[..., 1:]

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(2))


class DynamicConvIsSlidingAttention(_DynamicConv):
    """Dynamic convolution with given kernels is sliding-window attention to the sequence itself.

    Its kernel at a position is the map that the position lays over the K positions around it, its head a
    head, and its values are the sequence as it is. What makes the kernels or the maps is left open.
    """

    name = "dynamic-conv-is-sliding-attention"
    operators = ("dynamic_conv1d", "sliding_attention1d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, figure of relations, where inhomogeneous vector attention "
        "leads from local attention to dynamic convolution of sequences"
    )
    conditions: Mapping[str, str] = {
        "sliding": "the window slides with the position; it is no cell of a partition",
        "bare-values": "the values are the sequence, without a projection",
        **_DynamicConv.conditions,
    }
    algebra = "Σ_k kernel[m, k, i]·x[c, i+k−p] = Σ_n attention[m, n, i]·value[c, i+n−p], term by term"

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention1d.core(x, kernel, before=taps_before(d))

    @mutant(drops="sliding")
    def windows_of_a_partition(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A position attends to the cell that holds it, the sequence being cut every K positions."""
        right = -d.T % d.K
        cells = F.pad(x, (0, right)).reshape(d.B, d.M, d.C // d.M, -1, d.K)
        maps = F.pad(kernel, (0, right)).reshape(d.B, d.M, d.K, -1, d.K)
        mixed = torch.einsum("bmnci,bmdcn->bmdci", maps, cells)
        return mixed.reshape(d.B, d.C, -1)[..., : d.T]

    @mutant(drops="bare-values")
    def values_summed_over_channels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The values are projected by a matrix of ones."""
        return self.right(d, x.sum(1, keepdim=True).expand_as(x), kernel)

    @lemma
    def a_causal_window_ends_at_its_position(self, z3: Any) -> Lemma:
        """With K−1 taps before a position i, none of the K taps lies after it."""
        i, j, k, K = z3.Ints("i j k K")
        return Lemma(
            assumptions={"where tap k reads": j == i + k - (K - 1), "a tap": k < K},
            conclusion=j <= i,
        )


class DynamicConvIsInvolution(_DynamicConv):
    """Dynamic convolution with given kernels is involution of a map of height one, a head being a group.

    A centred kernel of an odd length is involution's; any other becomes one by zeros at its shorter side.
    """

    name = "dynamic-conv-is-involution"
    operators = ("dynamic_conv1d", "involution")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, figure of relations, whose last node holds dynamic "
        "convolution of sequences and involution"
    )
    conditions: Mapping[str, str] = {
        "centred-by-zeros": "taps that the longer side has and the shorter one lacks are zero",
        **_DynamicConv.conditions,
    }
    # The longest first, among those with a side that lacks taps.
    shapes = (Dims(B=2, C=6, M=3, T=11, K=5, direction="causal"), *SEQUENCES, Dims(B=2, C=4, M=2, T=5, K=4))
    algebra = (
        "Σ_k kernel[m, k, i]·x[c, i+k−p] = Σ_v wide[m, v, i]·x[c, i+v−r] with wide[m, v] = kernel[m, v−r+p]"
    )

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Involve the sequence as a map of one row."""
        return involve(x, centred(d, kernel))

    @mutant(drops="centred-by-zeros")
    def ones_at_the_shorter_side(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The taps that the shorter side lacks weigh one."""
        return involve(x, centred(d, kernel, lacking=1))

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Before the first position of the first image the last value stands."""
        output = self.right(d, x, kernel)
        longer = self.right(d, torch.cat([x[..., -1:], x], 2), F.pad(kernel, (1, 0)))
        output[0, :, 0] = longer[0, :, 1]
        return output

    @lemma
    def the_wide_kernel_is_centred(self, z3: Any) -> Lemma:
        """With r = max(p, K−1−p), tap k of K stands at place k+r−p of 2r+1 and is as far from the middle."""
        k, K, p, r, v = z3.Ints("k K p r v")
        return Lemma(
            assumptions={
                "a tap": z3.And(k >= 0, k < K),
                "the longer side": z3.And(r >= p, r >= K - 1 - p),
                "its place": v == k + r - p,
            },
            conclusion=z3.And(v >= 0, v < 2 * r + 1, v - r == k - p),
        )


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


def involve(x: Tensor, kernel: Tensor) -> Tensor:
    """Involve x [B, C, T] as a map of one row with kernels [B, G, V, T]."""
    return involution.core(x.unsqueeze(2), kernel[:, :, None, :, None]).squeeze(2)


def centred(d: Dims, kernel: Tensor, lacking: int = 0) -> Tensor:
    """Extend kernels [B, M, K, T] to centred ones of odd length by ``lacking`` at the shorter side."""
    before, after = taps_before(d), d.K - 1 - taps_before(d)
    reach = max(before, after)
    return F.pad(kernel, (0, 0, reach - before, reach - after), value=lacking)
