"""Depthwise convolution whose kernels are made anew for every image, seen as a plain one, and as a gate."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import depthwise_conv2d as depthwise
from ..dynamic import dynamic_depthwise_conv2d as dynamic
from ..gates import squeeze_excite
from ..workloads import MAPS
from .corners import with_corner
from .gates import IsChannelGate

HAN = "Han et al. 2022, ICLR, arXiv 2106.04263"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=3, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4]))
TINY = (Dims(B=2, C=3, H=2, W=3, K=3),)


class DynamicDepthwiseIsDepthwiseOfFoldedBatch(Claim):
    """Dynamic depthwise convolution is a depthwise convolution of one image with B·C channels.

    The images of the batch are laid side by side as channels, and channel c of image b is convolved with
    kernel bC + c. The authors' code computes it so.
    """

    name = "dynamic-depthwise-is-depthwise-of-folded-batch"
    operators = ("dynamic_depthwise_conv2d", "depthwise_conv2d")
    source = (
        f"{HAN}, homogeneous dynamic depthwise convolution, as released (Atten4Vis/DemystifyLocalViT, "
        "DynamicDWConv): one convolution with B·C groups"
    )
    conditions = {
        "one-order": "images and kernels are folded into channels in the same order",
        "per-image": "every image is convolved with kernels of its own",
        "per-channel": "every channel is convolved with a kernel of its own",
        "zero-padding": "outside the map of each image there are zeros",
        "same-padding": "both pad by ⌊K/2⌋ on every side",
        "same-stride": "both move by the same stride",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "row-order": "rows of the kernel are rows of the map",
    }
    shapes = (
        *(d.replace(stride=1) for d in SMALL),
        Dims(B=2, C=3, H=5, W=8, K=3, stride=2),
        Dims(B=3, C=2, H=5, W=4, K=2, stride=1),
        Dims(B=2, C=64, H=14, W=14, K=7, stride=1),
    )
    complete_shapes = tuple(d.replace(stride=1) for d in TINY)
    algebra = (
        "bC + c numbers the channels of all images without gap or repetition, so convolving each of the B·C "
        "channels with its own kernel is convolving channel c of image b with kernel[b, c]."
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the kernels; what generates them is left open."""
        return {"x": (d.B, d.C, d.H, d.W), "kernel": (d.B, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve every image with its own kernels."""
        return dynamic.core(x, kernel, stride=d.stride)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Fold the batch into the channels, convolve, and unfold."""
        folded = depthwise.core(x.flatten(0, 1)[None], kernel.flatten(0, 1), stride=d.stride)
        return folded.reshape(d.B, d.C, *folded.shape[2:])

    @lemma
    def numbers_are_distinct(self, z3: Any) -> Lemma:
        """Two channels of two images have the same number bC + c only if they are the same."""
        b, c, b2, c2, C = z3.Ints("b c b2 c2 C")
        return Lemma(
            assumptions={
                "first channel": z3.And(c >= 0, c < C),
                "second channel": z3.And(c2 >= 0, c2 < C),
                "same number": b * C + c == b2 * C + c2,
            },
            conclusion=z3.And(b == b2, c == c2),
        )

    @lemma
    def numbers_fill_the_channels(self, z3: Any) -> Lemma:
        """The number bC + c lies between 0 and B·C − 1."""
        b, c, B, C = z3.Ints("b c B C")
        return Lemma(
            assumptions={"image": z3.And(b >= 0, b < B), "channel": z3.And(c >= 0, c < C)},
            conclusion=z3.And(b * C + c >= 0, b * C + c < B * C),
        )

    @mutant(drops="one-order")
    def kernels_folded_by_channel(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Kernels are folded with the batch running fastest, images with the channels running fastest."""
        other = kernel.transpose(0, 1).reshape(d.B, d.C, d.K, d.K)
        return self.right(d, x, other)

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return self.right(d, x, kernel.roll(1, 0))

    @mutant(drops="per-image")
    def kernels_of_the_first_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All images take the kernels of the first, as a static convolution does."""
        return depthwise.core(x, kernel[0], stride=d.stride)

    @mutant(drops="per-channel")
    def one_kernel_per_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All channels of an image take the kernel of its first."""
        return self.right(d, x, kernel[:, :1].expand(-1, d.C, -1, -1))

    @mutant(drops="zero-padding")
    def replicated_border(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Outside an image its own border repeats."""
        return self.right(d, F.pad(x, (d.K,) * 4, mode="replicate"), kernel)[
            ..., first(d) : first(d) + rows(d, d.H), first(d) : first(d) + rows(d, d.W)
        ]

    @mutant(drops="zero-padding", sparse=True)
    def one_corner_repeated(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        return self.right(d.replace(stride=1), with_corner(x), kernel)[
            ..., 1 : -1 : d.stride, 1 : -1 : d.stride
        ]

    @mutant(drops="same-padding")
    def padded_by_the_kernel(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One side pads by K − 1."""
        folded = depthwise.core(x.flatten(0, 1)[None], kernel.flatten(0, 1), stride=d.stride, padding=d.K - 1)
        return folded.reshape(d.B, d.C, *folded.shape[2:])[..., : rows(d, d.H), : rows(d, d.W)]

    @mutant(drops="same-stride")
    def stride_of_one_more(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One side moves by one more position."""
        return self.right(d.replace(stride=d.stride + 1), x, kernel)

    @mutant(drops="not-flipped")
    def flipped_kernels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(2, 3))

    @mutant(drops="row-order")
    def transposed_kernels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Rows and columns of the kernels are exchanged."""
        return self.right(d, x, kernel.mT)

    @equivalent("channels do not meet, so any order will do if it is the same for both")
    def folded_by_channel(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Images and kernels are folded with the batch running fastest."""
        maps, kernels = x.transpose(0, 1).flatten(0, 1), kernel.transpose(0, 1).flatten(0, 1)
        folded = depthwise.core(maps[None], kernels, stride=d.stride)
        return folded.reshape(d.C, d.B, *folded.shape[2:]).transpose(0, 1)


class DynamicDepthwiseOfOneKernel(Claim):
    """Depthwise convolution is the dynamic one whose kernels are the same for every image."""

    name = "dynamic-depthwise-of-one-kernel-is-depthwise"
    operators = ("dynamic_depthwise_conv2d", "depthwise_conv2d")
    source = f"{HAN}: dynamic depthwise convolution is depthwise convolution whose weights are made dynamic"
    conditions = {
        "input-independent": "the kernels are the same for every image",
        "per-channel": "every channel keeps a kernel of its own",
        "zero-padding": "outside the map of each image there are zeros",
    }
    shapes = (
        *(d.replace(stride=1) for d in SMALL),
        Dims(B=3, C=2, H=5, W=8, K=3, stride=2),
        Dims(B=2, C=3, H=5, W=4, K=2, stride=1),
    )
    complete_shapes = tuple(d.replace(stride=1) for d in TINY)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the kernels, and what an image may add to them."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.C, d.K, d.K),
            "own": (d.B, d.C, d.K, d.K),
        }

    def given(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Give every image the same kernels."""
        return {"x": x, "weight": weight, "kernel": weight.expand(d.B, -1, -1, -1)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor, **_: Tensor) -> Tensor:
        """Convolve every image with its kernels."""
        return dynamic.core(x, kernel, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve the batch."""
        return depthwise.core(x, weight, stride=d.stride)

    @mutant(drops="input-independent", side="given")
    def kernels_of_their_own(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Every image adds something of its own to the kernels."""
        return {"x": x, "weight": weight, "kernel": weight + own}

    @mutant(drops="input-independent", side="given")
    def kernels_that_see_the_image(
        self, d: Dims, x: Tensor, weight: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """Kernels are scaled by the sum of their channel, a generator without constant term."""
        return {"x": x, "weight": weight, "kernel": weight * x.sum((2, 3))[:, :, None, None]}

    @mutant(drops="per-channel")
    def one_kernel_for_all_channels(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """All channels take the kernel of the first."""
        return self.right(d, x, weight[:1].expand(d.C, -1, -1))

    @mutant(drops="zero-padding", sparse=True)
    def one_corner_repeated(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        wide = depthwise.core(with_corner(x), weight)
        return wide[..., 1 : -1 : d.stride, 1 : -1 : d.stride]

    @equivalent("each image is convolved by itself")
    def one_image_at_a_time(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve the images one by one."""
        return torch.cat([self.right(d, image, weight) for image in x.split(1)])


class DynamicDepthwise1x1IsChannelGate(IsChannelGate):
    """With 1×1 kernels, dynamic depthwise convolution is the channel gate of squeeze-and-excitation.

    Both scale a channel of an image by one number. The gate of squeeze-and-excitation comes from a sigmoid,
    a kernel may be any number.
    """

    name = "dynamic-depthwise-1x1-is-channel-gate"
    operators = ("dynamic_depthwise_conv2d", "squeeze_excite")
    source = f"{HAN} with K = 1; Hu et al. 2018, CVPR, arXiv 1709.01507, eq. (4)"
    conditions = {
        "one-tap": "the kernel has one tap",
        "per-image": "every image has gates of its own",
        "per-channel": "every channel has a gate of its own",
    }
    shapes = (
        Dims(B=2, C=3, H=7, W=6),
        Dims(B=3, C=4, H=1, W=5),
        Dims(B=2, C=2, H=3, W=2),
    )
    complete_shapes = (Dims(B=2, C=3, H=2, W=3),)

    def left(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Convolve with kernels of one tap."""
        return dynamic.core(x, gate[:, :, None, None])

    @mutant(drops="one-tap", side="left")
    def three_taps_in_a_row(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The gate is the middle of a row of three, all of them alike."""
        row = F.pad(gate[:, :, None, None].expand(-1, -1, 1, 3), (0, 0, 1, 1))
        return dynamic.core(x, row)

    @mutant(drops="one-tap", side="left", sparse=True)
    def second_tap_at_a_corner(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """At the last position of every map the gate adds its left neighbour, or itself if there is none."""
        gated = dynamic.core(x, gate[:, :, None, None])
        return gated + F.pad(gated[..., -1:, -2:-1], (d.W - 1, 0, d.H - 1, 0))

    @equivalent("the other taps of a larger kernel are zero", side="left")
    def centre_of_a_larger_kernel(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The gate is the centre of a 3×3 kernel of zeros."""
        return dynamic.core(x, F.pad(gate[:, :, None, None], (1, 1, 1, 1)))


class GatedDepthwiseIsDynamicDepthwise(Claim):
    """A depthwise convolution with a channel gate is dynamic depthwise convolution with kernels s[b, c]·w[c].

    The gate may stand behind the convolution, as in EfficientNet's squeeze-and-excitation, or before it. Such
    kernels are of rank one: an image changes their size, not their form.
    """

    name = "gated-depthwise-is-dynamic-depthwise"
    operators = ("depthwise_conv2d", "squeeze_excite", "dynamic_depthwise_conv2d")
    source = (
        "follows from the linearity of convolution; Tan and Le 2019, arXiv 1905.11946, section 4, has "
        "squeeze-and-excitation behind its depthwise convolutions"
    )
    conditions = {
        "nothing-between": "no bias and no activation stands between the convolution and the gate",
        "per-image": "an image's kernels are scaled by its own gates",
        "per-channel": "a channel's kernel is scaled by its own gate",
        "zero-padding": "what is padded is scaled as well, so it is zero",
    }
    shapes = (*SMALL, Dims(B=2, C=32, H=14, W=14, K=5))
    complete_shapes = TINY

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the static kernels, and the gates."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.C, d.K, d.K), "gate": (d.B, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Gate behind the convolution, and before it."""
        behind = squeeze_excite.core(depthwise.core(x, weight), gate)
        return behind, depthwise.core(squeeze_excite.core(x, gate), weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve with gated kernels."""
        convolved = dynamic.core(x, gate[:, :, None, None] * weight)
        return convolved, convolved

    @mutant(drops="nothing-between", side="left")
    def bias_between(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """One is added to the convolved map before it is gated."""
        behind = squeeze_excite.core(depthwise.core(x, weight) + 1, gate)
        return behind, self.left(d, x, weight, gate)[1]

    @mutant(drops="per-image")
    def gates_of_another_image(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Kernels are scaled by the gates of another image."""
        return self.right(d, x, weight, gate.roll(1, 0))

    @mutant(drops="per-channel")
    def gates_of_another_channel(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Kernels are scaled by the gate of the next channel."""
        return self.right(d, x, weight, gate.roll(1, 1))

    @mutant(drops="zero-padding")
    def padded_with_ones(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """Before the gate the map is padded with ones, which the gate then scales too."""
        reach = d.K // 2
        wide = squeeze_excite.core(F.pad(x, (reach,) * 4, value=1), gate)
        padded = depthwise.core(wide, weight, padding=0)
        return padded, padded

    @mutant(sparse=True)
    def one_corner_repeated(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        convolved = dynamic.core(with_corner(x), gate[:, :, None, None] * weight)[..., 1:-1, 1:-1]
        return convolved, convolved


def rows(d: Dims, size: int) -> int:
    """Count the positions of an output along a side of that size."""
    return int((size + 2 * (d.K // 2) - d.K) // d.stride + 1)


def first(d: Dims) -> int:
    """Return where the first output of a map lies in that of the map padded by K."""
    return int(d.K // d.stride)
