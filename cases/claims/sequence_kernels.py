"""What it means for the kernels of a sequence that they sum to one, and over which taps."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution.depthwise_conv1d import taps_before
from ..dynamic import dynamic_conv1d, lightweight_conv1d
from .index_sets import within
from .sequences import LIGHT, SEQUENCES, TINY, convolve


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
    """There are depthwise convolutions that no LightConv is, even with a head for every channel.

    A LightConv's taps sum to one, so away from the ends it keeps a sequence that does not change in time. A
    depthwise convolution multiplies it by the sum of its taps, which may be any number.
    """

    name = "lightconv-does-not-contain-depthwise-conv"
    kind = "negative"
    operators = ("lightweight_conv1d", "depthwise_conv1d")
    source = f"{LIGHT}: of these it is the normalisation that takes kernels away"
    conditions: ClassVar[Mapping[str, str]] = {
        "any-sum": "the taps of the depthwise kernels sum to anything, those of the heads to one",
    }
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

    @mutant(drops="any-sum", side="left")
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
    conditions: ClassVar[Mapping[str, str]] = {
        "zeros-outside": "beyond the ends of the sequence there are zeros",
        "all-taps": "the taps that lie beyond the ends are among those that sum to one",
    }
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

    @mutant(drops="zeros-outside", side="left")
    def ends_repeated(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Beyond the ends the first and the last value repeat, in place of zeros."""
        reach = d.K - 1
        longer = F.pad(x, (reach, reach), mode="replicate")
        return self.left(d, longer, F.pad(kernel, (reach, reach)))[..., reach : reach + d.T]

    @mutant(drops="all-taps", side="left")
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
