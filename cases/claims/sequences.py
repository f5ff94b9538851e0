"""Lightweight and dynamic convolution of sequences, seen as the operators that they are special cases of."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

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
from .index_sets import BlockedGroups, within

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


class LightConvWithAHeadPerChannel(_LightConv):
    """LightConv with given kernels and a head for every channel is depthwise convolution."""

    name = "lightconv-with-a-head-per-channel-is-depthwise-conv"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = LIGHT
    conditions: ClassVar[Mapping[str, str]] = {
        "head-per-channel": "there are as many heads as channels",
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


class LightConvKernelsLieInTheSimplex(Claim):
    """The taps of a LightConv are not negative, and those of a head sum to one.

    They are what the layer makes of a sequence that is one at a single position.
    """

    name = "lightconv-kernels-lie-in-the-simplex"
    kind = "inequality"
    operators = ("lightweight_conv1d",)
    source = LIGHT
    conditions: ClassVar[Mapping[str, str]] = {
        "exponential": "every weight enters by its exponential, which is positive",
        "over-taps": "the softmax is taken over the taps of a head, all of them",
    }
    shapes = (Dims(M=4, K=7), Dims(M=3, K=5), Dims(M=2, K=4), Dims(M=1, K=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the weights of every head; the construction takes them for their exponentials."""
        return {"weight": (d.M, d.K)}

    def left(self, d: Dims, weight: Tensor) -> Tensor:
        """Convolve ones with kernels that are not normalised, where all taps lie in the sequence."""
        ones = torch.ones(1, d.M, 2 * d.K - 1, dtype=weight.dtype)
        return lightweight_conv1d.core(ones, weight, before=d.K - 1)[..., d.K - 1 :]

    def right(self, d: Dims, weight: Tensor) -> Tensor:
        """Σ_k e_k, which is what a softmax divides every e_k = exp(weight_k) > 0 by."""
        return weight.sum(1)[None, :, None].expand(1, -1, d.K)

    def lesser(self, d: Dims, weight: Tensor) -> Tensor:
        """Zero below every tap, one below every sum, and every sum below one."""
        return self.bounds(taps_of(d, lightweight_conv1d.module, weight))[0]

    def greater(self, d: Dims, weight: Tensor) -> Tensor:
        """The taps as the layer has them, their sums, and ones."""
        return self.bounds(taps_of(d, lightweight_conv1d.module, weight))[1]

    def bounds(self, taps: Tensor) -> tuple[Tensor, Tensor]:
        """State 0 ≤ taps, 1 ≤ their sum, and their sum ≤ 1, each as a lesser and a greater number."""
        zeros, sums = torch.zeros_like(taps).flatten(), taps.sum(1)
        ones = torch.ones_like(sums)
        return torch.cat([zeros, ones, sums]), torch.cat([taps.flatten(), sums, ones])

    @mutant(drops="exponential", side="greater")
    def divided_by_the_sum(self, d: Dims, weight: Tensor) -> Tensor:
        """The weights are divided by their sum as they stand, so that some of them stay negative."""
        return self.bounds(weight / (weight.sum(1, keepdim=True) + 0.5))[1]

    @mutant(drops="over-taps", side="greater")
    def softmax_over_heads(self, d: Dims, weight: Tensor) -> Tensor:
        """The softmax is taken over the heads."""
        return self.bounds(weight.softmax(0))[1]

    @mutant(drops="over-taps", side="greater", sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor) -> Tensor:
        """The last tap of the first head is left out after the softmax, so its sum is less than one."""
        taps = weight.softmax(1)
        taps[0, -1] = 0
        return self.bounds(taps)[1]

    @mutant(side="left")
    def at_the_ends_too(self, d: Dims, weight: Tensor) -> Tensor:
        """Positions before which taps are missing are looked at as well."""
        ones = torch.ones(1, d.M, d.K, dtype=weight.dtype)
        return lightweight_conv1d.core(ones, weight, before=d.K - 1)


class LightConvDoesNotContainDepthwiseConv(Claim):
    """There are depthwise convolutions that no LightConv is, though it have a head for every channel.

    A LightConv's taps sum to one, so away from the ends it keeps a sequence that does not change in time. A
    depthwise convolution multiplies it by the sum of its taps, which may be any number.
    """

    name = "lightconv-does-not-contain-depthwise-conv"
    kind = "negative"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = f"{LIGHT}: of these it is the normalisation that takes kernels away"
    # Three images of eight channels, so that one channel of one of them is rare.
    shapes = (
        Dims(B=3, C=8, M=8, T=9, K=5),
        Dims(B=3, C=8, M=8, T=7, K=3, direction="causal"),
        Dims(B=4, C=8, M=8, T=4, K=4),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what every channel of an image is at all times, depthwise kernels, and weights of heads."""
        return {"value": (d.B, d.C), "weight": (d.C, d.K), "kernel": (d.M, d.K)}

    def given(self, d: Dims, value: Tensor, weight: Tensor, kernel: Tensor) -> Mapping[str, Tensor]:
        """Lay the values out in time and let the kernels of the heads sum to one."""
        x = value[:, :, None].expand(-1, -1, d.T)
        return {"x": x, "weight": weight, "kernel": summing_to_one(kernel)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with the depthwise kernels, where all taps lie in the sequence."""
        return interior(d, convolve(d, x, weight))

    def right(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with the kernels of the heads, likewise."""
        return interior(d, lightweight_conv1d.core(x, kernel, before=taps_before(d)))

    @mutant(side="left")
    def depthwise_kernels_that_sum_to_one(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """The depthwise kernels sum to one as well, whatever their signs."""
        return self.left(d, x, summing_to_one(weight), kernel)

    @mutant(side="left")
    def the_kernels_of_the_heads(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """The depthwise kernels are those of the heads."""
        return self.left(d, x, kernel, kernel)

    @mutant(side="left")
    def differences_of_the_kernels(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """The sequence is kept and a depthwise convolution added whose taps sum to zero."""
        return interior(d, x) + self.left(d, x, summing_to_one(weight) - kernel, kernel)

    @equivalent("one kernel that LightConv lacks is enough", side="left", sparse=True)
    def one_channel_of_one_image(self, d: Dims, x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
        """All depthwise kernels but the last sum to one, and in all images but one that channel is zero."""
        weights = torch.cat([summing_to_one(weight[:-1]), weight[-1:]])
        shown = torch.ones_like(x)
        shown[1:, -1] = 0
        rest = interior(d, x * (1 - shown))
        return self.left(d, x * shown, weights, kernel) + rest


class ZerosInTheSoftmaxShrinkTheEnds(Claim):
    """A dynamic convolution whose kernels sum to one over all K taps does not keep a constant near the ends.

    Beyond the ends there are zeros, so what the taps that lie there weigh is lost: on a sequence of ones the
    output is the weight of the taps inside.
    """

    name = "zeros-in-the-softmax-shrink-the-ends"
    kind = "negative"
    operators = ("dynamic_conv1d",)
    source = (
        "github.com/facebookresearch/fairseq, fairseq/modules/dynamic_convolution.py, where renorm_padding, "
        "“re-normalize the filters to ignore the padded part”, is False by default"
    )
    # Two heads in each of four images, so that one of them at one position is rare.
    shapes = (
        Dims(B=4, C=4, M=2, T=8, K=3),
        Dims(B=4, C=4, M=2, T=5, K=5, direction="causal"),
        Dims(B=6, C=4, M=2, T=2, K=3),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what every channel of an image is at all times, and the kernels."""
        return {"value": (d.B, d.C), "kernel": (d.B, d.M, d.K, d.T)}

    def given(self, d: Dims, value: Tensor, kernel: Tensor) -> Mapping[str, Tensor]:
        """Lay the values out in time, and let the kernels sum to one over all taps."""
        return {"x": constant(d, value), "kernel": with_own_tap(d, kernel, kernel.sum(2, keepdim=True))}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve."""
        return dynamic_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Keep the sequence."""
        return x

    @mutant(side="left")
    def ends_repeated(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Beyond the ends the first and the last value repeat, in place of zeros."""
        reach = d.K - 1
        longer = F.pad(x, (reach, reach), mode="replicate")
        return self.left(d, longer, F.pad(kernel, (reach, reach)))[..., reach : reach + d.T]

    @mutant(side="left")
    def kernels_renormalised(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Taps beyond the ends weigh nothing, and the position itself what the taps inside lack."""
        return self.left(d, x, renormalised(d, kernel))

    @mutant(side="left")
    def one_tap(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel has one tap, which weighs all that its taps do."""
        return dynamic_conv1d.core(x, kernel.sum(2, keepdim=True), before=0)

    @equivalent("one position of one head near an end is enough", side="left", sparse=True)
    def last_position_of_one_head(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All kernels are renormalised but those of the first head of the first image at one position."""
        place = 0 if d.get("direction") == "causal" else d.T - 1
        kernels = renormalised(d, kernel)
        kernels[0, 0, :, place] = kernel[0, 0, :, place]
        return self.left(d, x, kernels)


class RenormalisedDynamicConvKeepsConstants(Claim):
    """A dynamic convolution whose taps inside the sequence sum to one keeps what does not change in time."""

    name = "renormalised-dynamic-conv-keeps-constants"
    operators = ("dynamic_conv1d",)
    source = ZerosInTheSoftmaxShrinkTheEnds.source
    conditions: ClassVar[Mapping[str, str]] = {
        "constant": "every channel has one value at all times",
        "renormalised": "at every position the taps that lie in the sequence sum to one",
    }
    shapes = SEQUENCES
    complete_shapes = TINY
    algebra = (
        "Σ_k kernel[k, i]·x[i+k−p] = v·Σ_k kernel[k, i] = v where x is v in the sequence and zero elsewhere"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what every channel of an image is at all times, and the kernels."""
        return {"value": (d.B, d.C), "kernel": (d.B, d.M, d.K, d.T)}

    def given(self, d: Dims, value: Tensor, kernel: Tensor) -> Mapping[str, Tensor]:
        """Lay the values out in time, and let the kernels sum to one over the taps inside."""
        return {"x": constant(d, value), "kernel": renormalised(d, kernel)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve."""
        return dynamic_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Keep the sequence."""
        return x

    @mutant(drops="constant", side="given")
    def last_value_differs(self, d: Dims, value: Tensor, kernel: Tensor) -> Mapping[str, Tensor]:
        """The last position has twice the value of the others."""
        steps = torch.ones(d.T, dtype=value.dtype)
        steps[-1] = 2
        return {"x": constant(d, value) * steps, "kernel": renormalised(d, kernel)}

    @mutant(drops="renormalised", side="given")
    def all_taps_sum_to_one(self, d: Dims, value: Tensor, kernel: Tensor) -> Mapping[str, Tensor]:
        """The taps beyond the ends belong to the sum."""
        return {"x": constant(d, value), "kernel": with_own_tap(d, kernel, kernel.sum(2, keepdim=True))}

    @mutant(drops="renormalised", side="left", sparse=True)
    def one_position_doubled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernels of the last position of the last image sum to two."""
        factors = torch.ones(d.B, 1, 1, d.T, dtype=kernel.dtype)
        factors[-1, ..., -1] = 2
        return self.left(d, x, kernel * factors)

    @equivalent("beyond the ends there are zeros, which no weight changes", side="left")
    def weights_beyond_the_ends(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The taps beyond the ends weigh one."""
        return self.left(d, x, kernel + 1 - inside(d))

    @lemma
    def its_own_tap_is_inside(self, z3: Any) -> Lemma:
        """Tap p of a position, with p taps before it and 0 ≤ p < K, exists and reads the position itself."""
        i, j, k, p, K, T = z3.Ints("i j k p K T")
        return Lemma(
            {
                "its own tap": k == p,
                "where it reads": j == i + k - p,
                "taps before": within(z3, p, K),
                "a position": within(z3, i, T),
            },
            z3.And(within(z3, k, K), within(z3, j, T), j == i),
        )


class _DynamicConv(Claim):
    """Dynamic convolution with given kernels, ``left``, is what ``right`` makes of the same kernels."""

    conditions: ClassVar[Mapping[str, str]] = {
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

    def right(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute the right side for kernels and a sequence of any length."""
        raise NotImplementedError

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
    conditions: ClassVar[Mapping[str, str]] = {
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
    conditions: ClassVar[Mapping[str, str]] = {
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


def interior(d: Dims, y: Tensor) -> Tensor:
    """Keep the positions of y [B, C, T] whose K taps all lie in the sequence."""
    return y[..., taps_before(d) : d.T - (d.K - 1 - taps_before(d))]


def summing_to_one(kernel: Tensor) -> Tensor:
    """Replace the last tap of kernels [M, K] so that those of a head sum to one."""
    first = kernel[:, :-1]
    return torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)


def constant(d: Dims, value: Tensor) -> Tensor:
    """Lay values [B, C] out in time, [B, C, T]."""
    return value[:, :, None].expand(-1, -1, d.T)


def inside(d: Dims) -> Tensor:
    """Tell by ones and zeros [K, T] which taps of which positions lie in the sequence."""
    places = torch.arange(d.K)[:, None] + torch.arange(d.T) - taps_before(d)
    within_it: Tensor = (places >= 0) & (places < d.T)
    return within_it.double()


def with_own_tap(d: Dims, kernel: Tensor, sums: Tensor) -> Tensor:
    """Let kernels [B, M, K, T] that sum to ``sums`` sum to one by the tap that reads the position itself."""
    own = taps_before(d)
    return kernel + F.pad(1 - sums, (0, 0, own, d.K - 1 - own))


def renormalised(d: Dims, kernel: Tensor) -> Tensor:
    """Let kernels [B, M, K, T] be zero beyond the ends and sum to one over the taps inside."""
    kept = kernel * inside(d)
    return with_own_tap(d, kept, kept.sum(2, keepdim=True))


def taps_of(d: Dims, layer: Callable[..., Tensor], weight: Tensor) -> Tensor:
    """Read the taps [M, K] that a causal layer makes of its weights [M, K] off a single one among zeros."""
    x = F.pad(torch.ones(1, d.M, 1, dtype=weight.dtype), (d.K - 1, d.K - 1))
    return layer(x, weight, before=d.K - 1)[0, :, d.K - 1 :].flip(1)


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
