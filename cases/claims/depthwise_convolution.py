"""Depthwise convolution as a dense one with zeros, and with kernels that channels share."""

from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import conv2d, depthwise_conv2d, shared_depthwise_conv2d
from .convolution import convolved_maps
from .corners import with_corner
from .index_sets import BlockedGroups


class DepthwiseConvIsConvWithDiagonalKernel(Claim):
    """A depthwise convolution is a dense one whose kernel is, at every tap, diagonal in the channels."""

    name = "depthwise-conv-is-conv-with-diagonal-kernel"
    operators = ("depthwise_conv2d", "conv2d")
    source = "Howard et al. 2017, arXiv 1704.04861, section 3.1: one filter for every input channel"
    conditions = {
        "own-channel": "between different channels the kernel is zero",
        "own-kernel": "every channel has a kernel of its own on the diagonal",
        "row-order": "rows of the kernel are rows of the map",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
    }
    # The one of many channels first, so that an error at one of them is rare.
    shapes = convolved_maps(C=32)[-1:] + convolved_maps()[:-1]
    complete_shapes = (Dims(B=2, C=2, H=2, W=3, K=3, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and a kernel for every channel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve every channel."""
        return depthwise_conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with a diagonal kernel."""
        return conv2d.core(x, diagonal(weight), stride=d.stride)

    @mutant(drops="own-channel")
    def all_channels(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """An output reads all channels by its kernel."""
        return conv2d.core(x, weight[:, None].expand(-1, d.C, -1, -1), stride=d.stride)

    @mutant(drops="own-channel")
    def next_channel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The diagonal is moved: an output reads the next channel."""
        return conv2d.core(x, diagonal(weight).roll(1, 1), stride=d.stride)

    @mutant(drops="own-channel", sparse=True)
    def one_tap_beside_the_diagonal(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last output reads the first channel by its first tap."""
        kernel = diagonal(weight)
        kernel[-1, 0, 0, 0] = 1
        return conv2d.core(x, kernel, stride=d.stride)

    @mutant(drops="own-kernel")
    def one_kernel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All channels take the kernel of the first."""
        return self.right(d, x, weight[:1].expand(d.C, -1, -1))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Rows and columns of the kernels are exchanged."""
        return self.right(d, x, weight.transpose(1, 2))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        return self.right(d, x, weight.flip(1, 2))


def diagonal(weight: Tensor) -> Tensor:
    """Lay kernels [C, …] out on the diagonal of a dense one, [C, C, …]."""
    return torch.diag_embed(weight.movedim(0, -1), dim1=0, dim2=1)


class DepthwiseConvIsConvWithAGroupPerChannel(Claim):
    """A depthwise convolution is a grouped one with as many groups as channels and one output for each."""

    name = "depthwise-conv-is-conv-with-a-group-per-channel"
    operators = ("depthwise_conv2d", "conv2d")
    source = (
        "The documentation of torch.nn.Conv2d: “At groups= in_channels, each input channel is convolved with "
        "its own set of filters”"
    )
    conditions = {
        "group-per-channel": "there are as many groups as channels",
        "one-output": "a group has one output: C of them in all",
    }
    shapes = convolved_maps(C=32)[-1:] + convolved_maps()[:-1]
    complete_shapes = (Dims(B=2, C=2, H=2, W=3, K=3, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and a kernel for every channel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve every channel."""
        return depthwise_conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve in C groups."""
        return conv2d.core(x, weight[:, None], stride=d.stride)

    @mutant(drops="group-per-channel")
    def two_channels_to_a_group(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Two channels form a group, and its two outputs read both."""
        return conv2d.core(x, weight[:, None].expand(-1, 2, -1, -1), stride=d.stride)

    @mutant(drops="one-output")
    def two_outputs_to_a_group(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """A group has two outputs, and the first C of all are taken."""
        doubled = weight[:, None].repeat_interleave(2, 0)
        return conv2d.core(x, doubled, stride=d.stride)[:, : d.C]

    @mutant()
    def kernels_in_reverse(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Channel c takes the kernel of channel C−1−c."""
        return self.right(d, x, weight.flip(0))

    @mutant(sparse=True)
    def one_kernel_turned(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernel of the last channel is mirrored."""
        return self.right(d, x, torch.cat([weight[:-1], weight[-1:].flip(1, 2)]))


class SharedDepthwiseConvIsDepthwiseWithTiedKernels(BlockedGroups, Claim):
    """A depthwise convolution of G kernels is one of C kernels, of which those of a group are equal.

    Channel c takes kernel ⌊cG/C⌋. With one group all channels have the same kernel; with C groups nothing is
    shared.
    """

    name = "shared-depthwise-conv-is-depthwise-with-tied-kernels"
    operators = ("shared_depthwise_conv2d", "depthwise_conv2d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, abstract: “depth-wise convolution shares connection "
        "weights (kernel weights) across spatial positions and attention shares the connection weights "
        "across channels”"
    )
    conditions = {
        "tied": "the channels of a group have the same kernel",
        "per-group": "every group has a kernel of its own",
        "blocked-channels": "a group is made of neighbouring channels",
    }
    shapes = convolved_maps()
    complete_shapes = (Dims(B=2, C=4, H=2, W=1, K=3, G=2, stride=1),)
    algebra = "kernel[⌊cG/C⌋] is the kernel of channel c in both, for every channel lies in one block of C/G"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and a kernel for every group."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.G, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with few kernels."""
        return shared_depthwise_conv2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with a copy of its group's kernel for every channel."""
        return depthwise_conv2d.core(x, weight.repeat_interleave(d.C // d.G, 0), stride=d.stride)

    @mutant(drops="tied")
    def copies_scaled(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The copy of channel c is (c+1) times the kernel of its group."""
        copies = weight.repeat_interleave(d.C // d.G, 0)
        numbers = torch.arange(1, d.C + 1, dtype=x.dtype)
        return depthwise_conv2d.core(x, numbers[:, None, None] * copies, stride=d.stride)

    @mutant(drops="per-group")
    def one_kernel(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All channels take the kernel of the first group."""
        return self.right(d, x, weight[:1].expand(d.G, -1, -1))

    @mutant(drops="blocked-channels")
    def interleaved_channels(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Channel c takes kernel c mod G."""
        return depthwise_conv2d.core(x, weight.repeat(d.C // d.G, 1, 1), stride=d.stride)

    @mutant(sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        whole = self.right(d.replace(stride=1), with_corner(x), weight)
        return whole[..., 1 : -1 : d.stride, 1 : -1 : d.stride]

    @equivalent("a group with one kernel is a map of C/G channels, and channels do not meet")
    def groups_as_images(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Channel e of all groups is an image of G channels."""
        images = x.unflatten(1, (d.G, -1)).transpose(1, 2).flatten(0, 1)
        output = depthwise_conv2d.core(images, weight, stride=d.stride)
        return output.view(d.B, -1, *output.shape[1:]).transpose(1, 2).flatten(1, 2)
