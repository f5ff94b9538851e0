"""What is said of lightweight and dynamic convolution, and under which condition it is so."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness import Claim, Dims, Lemma, lemma, mutant

from ..convolution import depthwise_conv1d
from ..convolution.depthwise_conv1d import taps_before
from ..dynamic import dynamic_conv1d, dynamic_conv2d, lightweight_conv1d
from .dynamic_sequences import DYNAMIC
from .index_sets import within
from .sequences import ENDS, SEQUENCES

FAIRSEQ = "github.com/facebookresearch/fairseq, fairseq/modules"


class LightConvHeadMapsAgree(Claim):
    """With one head or a head for each channel, channels dealt to heads in turn are those dealt in blocks.

    The paper and fairseq's ``LightweightConv1dTBC`` give channel c the kernel ⌊cM/C⌋ of M, and fairseq's
    ``LightweightConv1d``, which views channels as images, the kernel c mod M. With any other number of heads
    channel 1 already takes another kernel.
    """

    name = "lightconv-head-maps-agree"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = f"{FAIRSEQ}/lightweight_convolution.py, whose two layers are read as formulas"
    corrects = "lightconv-head-maps-agree-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "one-or-all": "there is one head, or one for each channel",
        "zero-padding": ENDS["zero-padding"],
        "not-flipped": ENDS["not-flipped"],
    }
    shapes = tuple(d.replace(M=M) for d in SEQUENCES for M in (1, d.C))
    complete_shapes = (Dims(B=2, C=4, M=1, T=2, K=3), Dims(B=2, C=4, M=4, T=2, K=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence, and as many kernels as there are channels."""
        return {"x": (d.B, d.C, d.T), "kernels": (d.C, d.K)}

    def given(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """Take as many kernels as there are heads."""
        return {"x": x, "kernel": kernels[: d.M]}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Deal the channels in blocks."""
        return lightweight_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Deal the channels in turn."""
        return dealt(d, x, kernel)

    @mutant(drops="one-or-all", side="given")
    def two_heads(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """There are two heads."""
        return {"x": x, "kernel": kernels[:2]}

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = dealt(d, x, kernel)
        output[-1, :, -1] = dealt(d, torch.cat([x, x[..., :1]], 2), kernel)[-1, :, d.T - 1]
        return output

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return dealt(d, x, kernel.flip(1))

    @lemma
    def otherwise_channel_one_has_two_heads(self, z3: Any) -> Lemma:
        """With two heads or more of two channels or more, block and turn give channel 1 different heads."""
        block, turn, q, M, D = z3.Ints("block turn q M D")
        return Lemma(
            {
                "heads": M >= 2,
                "channels in a head": D >= 2,
                "in blocks": within(z3, 1, D, first=block * D),
                "in turn": z3.And(q * M + turn == 1, within(z3, turn, M)),
            },
            block != turn,
        )

    algebra = (
        "the kernels are equal for all channels iff ⌊c/D⌋ = c mod M for 0 ≤ c < MD, so iff M = 1 or D = 1"
    )


class LightConvHeadMapsAgreeAsStated(Claim):
    """LightweightConv1d computes what LightweightConv1dTBC does, in another layout."""

    name = "lightconv-head-maps-agree-as-stated"
    expected = "refuted"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = (
        f"{FAIRSEQ}/lightweight_convolution.py, of the former: “This is just an example that explains "
        "LightConv clearer than the TBC version.”"
    )
    shapes = SEQUENCES
    complete_shapes = (Dims(B=2, C=4, M=2, T=2, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and a kernel per head."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.M, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Deal the channels in blocks, as the latter does."""
        return lightweight_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """View them as images, as the former does."""
        return dealt(d, x, kernel)


class DealtLightConvIsLightConvOfShuffledChannels(Claim):
    """LightConv that deals channels to heads in turn is LightConv between two permutations of the channels.

    The first puts channel eM+m, the e-th of head m, in place mD+e of its block, and the second is its
    inverse. So between linear layers either does what the other does, but not with the other's weights.
    """

    name = "dealt-lightconv-is-lightconv-of-shuffled-channels"
    operators = ("depthwise_conv1d", "lightweight_conv1d")
    source = f"{FAIRSEQ}/lightweight_convolution.py, LightweightConv1d read as a formula"
    conditions: ClassVar[Mapping[str, str]] = {
        "shuffled": "the channels of a head are brought together before",
        "shuffled-back": "and taken back to their places after",
        "zero-padding": ENDS["zero-padding"],
    }
    shapes = SEQUENCES
    complete_shapes = (Dims(B=2, C=4, M=2, T=2, K=3),)
    algebra = "kernel[m]∗x[eM+m] = kernel[⌊(mD+e)/D⌋]∗shuffled[mD+e] for shuffled[mD+e] = x[eM+m]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and a kernel per head."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.M, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Deal the channels in turn."""
        return dealt(d, x, kernel)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Shuffle the channels, convolve and shuffle them back."""
        y = lightweight_conv1d.core(swapped(x, d.C // d.M, d.M), kernel, before=taps_before(d))
        return swapped(y, d.M, d.C // d.M)

    @mutant(drops="shuffled")
    def not_shuffled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The channels are only shuffled after."""
        return swapped(self.left_in_blocks(d, x, kernel), d.M, d.C // d.M)

    @mutant(drops="shuffled-back")
    def not_shuffled_back(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The channels are only shuffled before."""
        return self.left_in_blocks(d, swapped(x, d.C // d.M, d.M), kernel)

    @mutant(drops="shuffled-back")
    def shuffled_twice(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The channels are shuffled after as they were before; with two heads of two that is the way back."""
        return swapped(self.left_in_blocks(d, swapped(x, d.C // d.M, d.M), kernel), d.C // d.M, d.M)

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, kernel)
        output[-1, :, -1] = self.right(d, torch.cat([x, x[..., :1]], 2), kernel)[-1, :, d.T - 1]
        return output

    def left_in_blocks(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Deal the channels in blocks."""
        return lightweight_conv1d.core(x, kernel, before=taps_before(d))

    @lemma
    def the_shuffle_is_a_permutation(self, z3: Any) -> Lemma:
        """Place mD+e and channel eM+m with 0 ≤ e < D and 0 ≤ m < M determine each other."""
        m, e, n, f, M, D = z3.Ints("m e n f M D")
        return Lemma(
            {
                "in a block": z3.And(within(z3, e, D), within(z3, f, D)),
                "heads": z3.And(within(z3, m, M), within(z3, n, M)),
            },
            (m * D + e == n * D + f) == (e * M + m == f * M + n),
        )


class DynamicConvPathsAgreeWithoutSoftmax(Claim):
    """Causal dynamic convolution of T < K steps with given kernels needs no more than their last T taps.

    The K−T taps before them lie ahead of the sequence wherever the position is, so leaving them out changes
    nothing, as long as nothing else depends on them.
    """

    name = "dynamic-conv-needs-no-taps-ahead-of-the-sequence"
    operators = ("dynamic_conv1d",)
    source = (
        f"{FAIRSEQ}/dynamic_convolution.py, whose band is made so: “we cut the kernel size and reduce the "
        "padding when the kernel is larger than the length”"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "causal": "all but one of the K taps come before their position",
        "last-taps": "the taps that stay are the last",
        "anchored": "as many taps fewer come before a position",
    }
    shapes = (
        Dims(B=4, C=6, M=3, T=6, K=7),
        Dims(B=2, C=4, M=2, T=4, K=7),
        Dims(B=2, C=4, M=2, T=1, K=3),
        Dims(B=2, C=4, M=2, T=3, K=3),
        Dims(B=1, C=64, M=4, T=16, K=31),
    )
    complete_shapes = (Dims(B=2, C=4, M=2, T=2, K=3),)
    algebra = (
        "Σ_{k<K} kernel[k, i]·x[i+k−(K−1)] = Σ_{k<T} kernel[K−T+k, i]·x[i+k−(T−1)], the other terms being 0"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the kernels."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.B, d.M, d.K, d.T)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with all taps."""
        return dynamic_conv1d.core(x, kernel, before=d.K - 1)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with the last taps."""
        return dynamic_conv1d.core(x, kernel[:, :, d.K - d.T :], before=d.T - 1)

    @mutant(drops="causal", side="left")
    def centred(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Half of the taps come before their position."""
        return dynamic_conv1d.core(x, kernel, before=d.K // 2)

    @mutant(drops="last-taps")
    def first_taps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The taps that stay are the first."""
        return dynamic_conv1d.core(x, kernel[:, :, : d.T], before=d.T - 1)

    @mutant(drops="last-taps", sparse=True)
    def one_tap_fewer_stays(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One tap more is left out of the last image, by which its last position reads the first."""
        short = kernel[:, :, d.K - d.T :].clone()
        short[-1, :, 0] = 0
        return dynamic_conv1d.core(x, short, before=d.T - 1)

    @mutant(drops="anchored")
    def as_many_taps_before(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """As many taps come before a position as did, beyond those that stay."""
        return dynamic_conv1d.core(
            F.pad(x, (d.K - d.T, 0)), F.pad(kernel[:, :, d.K - d.T :], (0, d.K - d.T)), before=d.T - 1
        )[..., : d.T]

    @lemma
    def the_first_taps_read_nothing(self, z3: Any) -> Lemma:
        """Tap k < K−T of a causal kernel lies ahead of the sequence at each of the T positions."""
        i, j, k, K, T = z3.Ints("i j k K T")
        return Lemma(
            {"where it reads": j == i + k - (K - 1), "left out": k < K - T, "a position": i < T}, j < 0
        )


class DynamicConvPathsAgree(Claim):
    """fairseq's two paths of causal dynamic convolution are one function of sequences of at least K steps.

    For T < K the path that gathers the taps leaves out the first K−T logits of every position, and normalises
    what stays; the one that multiplies by a band normalises first. So a model that was trained by one and is
    run by the other is another model on short sequences. Without a softmax they agree on these as well.
    """

    name = "dynamic-conv-paths-agree"
    operators = ("dynamic_conv1d",)
    source = f"{FAIRSEQ}/dynamic_convolution.py, whose two paths are read as formulas"
    corrects = "dynamic-conv-paths-agree-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "long-enough": "the sequence has as many steps as the kernel has taps, or more",
        "over-taps": "the softmax is taken over the taps of a head",
        "anchored": "both are causal",
    }
    shapes = (
        Dims(B=4, C=6, M=3, T=6, K=3),
        Dims(B=2, C=4, M=2, T=3, K=3),
        Dims(B=2, C=4, M=2, T=5, K=4),
        Dims(B=1, C=16, M=4, T=16, K=7),
    )
    complete_shapes = (Dims(B=2, C=2, M=1, T=3, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of the generator."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M * d.K, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Normalise all K taps, as the path of the band does."""
        return dynamic_conv1d.module(x, weight, heads=d.M, before=d.K - 1)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Normalise the last T taps if there are fewer steps, as the path that gathers them does."""
        return gathered(x, self.logits(d, x, weight), 2)

    def logits(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Make the logits [B, M, K, T] of every position, of however many there are."""
        return torch.einsum("oc,bct->bot", weight, x).reshape(d.B, d.M, d.K, -1)

    @mutant(drops="long-enough", side="given")
    def one_step_fewer_than_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The sequence has K−1 steps."""
        return {"x": x[..., : d.K - 1], "weight": weight}

    @mutant(drops="over-taps")
    def softmax_over_heads(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The softmax is taken over the heads."""
        return gathered(x, self.logits(d, x, weight), 1)

    @mutant(drops="anchored", side="left")
    def centred(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Half of the taps come before their position."""
        return dynamic_conv1d.module(x, weight, heads=d.M, before=d.K // 2)

    @mutant(sparse=True)
    def last_position_narrowed(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """At the last position of the last image the first logit is left out."""
        output, logits = self.right(d, x, weight), self.logits(d, x, weight)
        narrowed = dynamic_conv1d.core(x, F.pad(logits[:, :, 1:].softmax(2), (0, 0, 1, 0)), before=d.K - 1)
        output[-1, :, -1] = narrowed[-1, :, -1]
        return output

    @lemma
    def nothing_is_left_out(self, z3: Any) -> Lemma:
        """Of K logits the last min(K, T) stay, which is all of them from K steps on."""
        kept, K, T = z3.Ints("kept K T")
        return Lemma({"kept": kept == z3.If(T < K, T, K), "long enough": T >= K}, kept == K)

    algebra = (
        "softmax(a[K−min(K,T):]) = softmax(a) for T ≥ K; for T < K the left denominator has K−T terms more"
    )


class DynamicConvPathsAgreeAsStated(Claim):
    """Whether fairseq's dynamic convolution unfolds its input or uses the matrix trick does not matter."""

    name = "dynamic-conv-paths-agree-as-stated"
    expected = "refuted"
    operators = ("dynamic_conv1d",)
    source = (
        f"{FAIRSEQ}/dynamic_convolution.py, of unfold: “unfold the input or not. If not, we use the matrix "
        "trick instead”"
    )
    shapes = (Dims(B=4, C=6, M=3, T=4, K=7), Dims(B=2, C=4, M=2, T=2, K=3))
    complete_shapes = (Dims(B=2, C=2, M=1, T=2, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of the generator."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M * d.K, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Take the path of the band."""
        return DynamicConvPathsAgree().left(d, x, weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Take the path that gathers the taps."""
        return DynamicConvPathsAgree().right(d, x, weight)


class _TwoDynamicConvolutions(Claim):
    """The dynamic convolutions of Wu et al. and of Chen et al. with one linear generator."""

    operators = ("dynamic_conv1d", "dynamic_conv2d")

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of the generator."""
        return {"x": (d.B, d.C, d.T), "weight": (d.K, d.C)}

    def mixture(self, d: Dims, x: Tensor, routing: Tensor) -> Tensor:
        """Mix K kernels, of which each is one tap of every channel, by a routing [B, K] per sequence.

        The sequence is a map of one row, which the middle row of the kernels reads.
        """
        taps = torch.eye(d.K, dtype=x.dtype)[:, None, None, None]
        experts = F.pad(taps, (0, 0, d.K // 2, d.K // 2)).expand(-1, d.C, -1, -1, -1)
        return dynamic_conv2d.core(x.unsqueeze(2), experts, routing).squeeze(2)


class DynamicConvOfThePooledSequence(_TwoDynamicConvolutions):
    """Wu's dynamic convolution is Chen's where all positions have the same kernel.

    Chen's mixes a few static kernels by one attention for a whole image. Wu's with a kernel that does not
    depend on the position, such as one that is generated from the mean of the sequence, is the mixture of K
    kernels of one tap, weighed by it. With the generator of Wu, which reads each position, that is so for
    sequences of one step and for those that do not change.
    """

    name = "wus-dynamic-convolution-is-chens"
    source = f"{DYNAMIC}; Chen et al. 2020, CVPR, arXiv 1912.03458, eq. (1)"
    corrects = "wus-dynamic-convolution-is-chens-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "pooled": "one kernel is generated for all positions, from the mean of the sequence",
        "one-head": "one softmax gives the weights of all kernels",
        "tap-by-tap": "kernel k is tap k of every channel",
        "per-sequence": "every sequence has a kernel of its own",
    }
    # 2^n steps, whose mean is exact.
    shapes = (
        Dims(B=3, C=4, M=1, T=8, K=5),
        Dims(B=2, C=3, M=1, T=4, K=3),
        Dims(B=2, C=2, M=1, T=2, K=5),
        Dims(B=1, C=16, M=1, T=16, K=7),
    )
    complete_shapes = (Dims(B=2, C=2, M=1, T=2, K=3),)

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve all positions with the kernel that the mean of the sequence has."""
        kernel = pooled(x, weight).softmax(1)
        return dynamic_conv1d.core(x, at_all_positions(d, kernel), before=d.K // 2)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Mix the taps by the attention that the mean of the sequence has."""
        return self.mixture(d, x, pooled(x, weight).softmax(1))

    @mutant(drops="pooled", side="left")
    def a_kernel_for_every_position(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every position has the kernel that it generates."""
        return dynamic_conv1d.module(x, weight, heads=1, before=d.K // 2)

    @mutant(drops="one-head", side="left")
    def a_second_head(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last channels have a head whose weights are those of the first in reverse order."""
        own, other = x.split([d.C - d.C // 2, d.C // 2], 1)
        kernel = at_all_positions(d, pooled(x, weight).softmax(1))
        first = dynamic_conv1d.core(own, kernel, before=d.K // 2)
        return torch.cat([first, dynamic_conv1d.core(other, kernel.flip(2), before=d.K // 2)], 1)

    @mutant(drops="tap-by-tap")
    def kernels_in_another_order(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Kernel k is tap K−1−k."""
        return self.mixture(d, x, pooled(x, weight).softmax(1).flip(1))

    @mutant(drops="per-sequence")
    def attention_of_another_sequence(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every sequence has the attention of the one before."""
        return self.mixture(d, x, pooled(x, weight).softmax(1).roll(1, 0))

    @mutant(sparse=True)
    def one_position_on_its_own(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last position of the last image has the kernel that it generates."""
        output = self.right(d, x, weight)
        alone = dynamic_conv1d.module(x, weight, heads=1, before=d.K // 2)
        output[-1, :, -1] = alone[-1, :, -1]
        return output


class DynamicConvIsDynamicConvAsStated(_TwoDynamicConvolutions):
    """The dynamic convolution of sequences mixes kernels by attention, as that of images does.

    Both have a linear generator, one on every position and one on their mean, and a softmax after it.
    """

    name = "wus-dynamic-convolution-is-chens-as-stated"
    expected = "refuted"
    source = "said where both are introduced under their one name, as attention over kernels"
    shapes = DynamicConvOfThePooledSequence.shapes
    complete_shapes = DynamicConvOfThePooledSequence.complete_shapes

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Generate a kernel for every position."""
        return dynamic_conv1d.module(x, weight, heads=1, before=d.K // 2)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Mix the taps by the attention that the mean of the sequence has."""
        return self.mixture(d, x, pooled(x, weight).softmax(1))


class DynamicConvIsLinearInLength(Claim):
    """A dynamic convolution whose taps are gathered takes twice the products for twice the steps.

    It takes n·K of them for each channel, and the band of fairseq's default path n², which is no less as soon
    as there are K steps. Both compute the same: the cost is the path's, not the operator's.
    """

    name = "dynamic-conv-is-linear-in-length"
    kind = "inequality"
    operators = ("dynamic_conv1d",)
    source = "Wu et al. 2019, ICLR, arXiv 1901.10430, section 4"
    corrects = "dynamic-conv-is-linear-in-length-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "gathered": "the K taps of a position are gathered, and nothing else is multiplied",
    }
    shapes = (
        Dims(B=4, C=6, M=3, T=6, K=5),
        Dims(B=2, C=4, M=2, T=3, K=3, direction="causal"),
        Dims(B=1, C=64, M=4, T=32, K=7),
    )
    algebra = "the taps take K·(2n) = 2·(K·n) products, the band (2n)² > 2·n²"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the kernels."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.B, d.M, d.K, d.T)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Lay the kernels into bands, as fairseq does by default."""
        return dynamic_conv1d.band(x, kernel, taps_before(d))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Gather the taps; it is the same function, of which each path takes its own number of products."""
        return dynamic_conv1d.unfold(x, kernel, taps_before(d))

    def lesser(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Count the products of the gathered taps for twice the steps and, once more, for the steps."""
        twice = products(d, dynamic_conv1d.unfold, *repeated(x, kernel))
        return torch.tensor([twice, products(d, dynamic_conv1d.unfold, x, kernel)])

    def greater(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Count twice those for the steps, and those of the band."""
        once = products(d, dynamic_conv1d.unfold, x, kernel)
        return torch.tensor([2 * once, products(d, dynamic_conv1d.band, x, kernel)])

    @mutant(drops="gathered", side="lesser")
    def by_the_band(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The band is multiplied for twice the steps."""
        twice = products(d, dynamic_conv1d.band, *repeated(x, kernel))
        return torch.tensor([twice, products(d, dynamic_conv1d.unfold, x, kernel)])

    @mutant(side="greater")
    def band_of_half_the_steps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The band is said to take no fewer products for half the steps than the taps for all of them."""
        once, half = products(d, dynamic_conv1d.unfold, x, kernel), d.T // 2
        return torch.tensor([2 * once, products(d, dynamic_conv1d.band, x[..., :half], kernel[..., :half])])

    @mutant(sparse=True)
    def last_position_of_one_image_differs(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The two paths compute different things at the last position of the last image."""
        output = self.right(d, x, kernel)
        output[-1, :, -1] = output[-1, :, -1] + x[-1, :, -1]
        return output

    @lemma
    def a_band_grows_faster(self, z3: Any) -> Lemma:
        """A square matrix of twice the rows has more than twice the entries."""
        n, entries, doubled = z3.Ints("n entries doubled")
        return Lemma(
            {
                "steps": n >= 1,
                "a square": entries == n * n,
                "of twice the rows": doubled == (2 * n) * (2 * n),
            },
            doubled > 2 * entries,
        )

    @lemma
    def the_band_is_no_cheaper(self, z3: Any) -> Lemma:
        """From K steps on, n² products are no fewer than n·K."""
        n, K = z3.Ints("n K")
        return Lemma({"steps": n >= 0, "at least the taps": n >= K}, n * n >= n * K)


class DynamicConvIsLinearInLengthAsStated(Claim):
    """The number of products of dynamic convolution grows linearly: twice the steps take twice as many.

    fairseq's default path, up to 512 steps, multiplies by a band matrix of n columns in each of n rows.
    """

    name = "dynamic-conv-is-linear-in-length-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dynamic_conv1d",)
    source = (
        "Wu et al. 2019, ICLR, arXiv 1901.10430, abstract: “The number of operations required by this "
        "approach scales linearly in the input length, whereas self-attention is quadratic.”"
    )
    shapes = DynamicConvIsLinearInLength.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the kernels."""
        return DynamicConvIsLinearInLength().variables(d)

    def lesser(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Count the products of the released path for twice the steps."""
        return torch.tensor(products(d, dynamic_conv1d.authors, *repeated(x, kernel)))

    def greater(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Count twice those for the steps."""
        return torch.tensor(2 * products(d, dynamic_conv1d.authors, x, kernel))


def dealt(d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
    """Convolve x [B, C, T] with kernels [M, K], of which channel c takes the one c mod M.

    So does a depthwise convolution of M channels to which every M channels in a row are an image.
    """
    images = x.reshape(-1, len(kernel), x.shape[2])
    return depthwise_conv1d.core(images, kernel, before=taps_before(d)).reshape(x.shape)


def swapped(x: Tensor, outer: int, inner: int) -> Tensor:
    """Read the channels of x [B, C, T] as outer·inner, and lay them out as inner·outer."""
    return x.reshape(len(x), outer, inner, -1).transpose(1, 2).reshape(x.shape)


def repeated(x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Let a sequence and its kernels run twice."""
    return torch.cat([x, x], 2), torch.cat([kernel, kernel], 3)


def products(d: Dims, path: Callable[[Tensor, Tensor, int], Tensor], x: Tensor, kernel: Tensor) -> int:
    """Count the multiplications of matrix products that a path of dynamic convolution takes."""
    with FlopCounterMode(display=False) as counter:
        path(x, kernel, taps_before(d))
    return int(counter.get_total_flops()) // 2


def gathered(x: Tensor, logits: Tensor, axis: int) -> Tensor:
    """Convolve x [B, C, T] causally by a softmax of the last min(K, T) of logits [B, M, K, T]."""
    kept = min(logits.shape[2], x.shape[2])
    return dynamic_conv1d.core(x, logits[:, :, logits.shape[2] - kept :].softmax(axis), before=kept - 1)


def pooled(x: Tensor, weight: Tensor) -> Tensor:
    """Generate logits [B, K] from the mean of every sequence."""
    return torch.einsum("kc,bc->bk", weight, x.mean(2))


def at_all_positions(d: Dims, kernel: Tensor) -> Tensor:
    """Give every position of a sequence its kernel [B, K], as [B, 1, K, T]."""
    return kernel[:, None, :, None].expand(-1, -1, -1, d.T)
