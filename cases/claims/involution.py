"""Involution seen as depthwise convolution, and what its published generator can and cannot do."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import depthwise_conv2d as depthwise
from ..convolution import shared_depthwise_conv2d as shared_depthwise
from ..dynamic import dynamic_depthwise_conv2d as dynamic_depthwise
from ..dynamic import inhomogeneous_depthwise_conv2d as inhomogeneous_depthwise
from ..involution import involution
from ..workloads import MAPS
from .corners import with_corner
from .index_sets import BlockedGroups, CentredTaps

LI = "Li et al. 2021, CVPR, arXiv 2103.06255"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4]))


class InvolutionIsInhomogeneousDepthwise(Claim):
    """Involution and inhomogeneous dynamic depthwise convolution are one operator by two names.

    Both weigh the window of a position by a kernel of that position, which the channels of a group share.
    They differ in the bias of the first layer that generates the kernels, and that is no part of the core.
    """

    name = "involution-is-inhomogeneous-depthwise"
    operators = ("involution", "inhomogeneous_depthwise_conv2d")
    source = (
        f"{LI}, eq. (4); Han et al. 2022, ICLR, arXiv 2106.04263, whose released code "
        "(Atten4Vis/DemystifyLocalViT, IDynamicDWConv) is involution's kernel under another name"
    )
    conditions = {
        "per-position": "every position has a kernel of its own",
        "per-image": "every image has kernels of its own",
        "blocked-groups": "group g owns the channels gC/G to (g+1)C/G−1",
        "zero-padding": "outside the map there are zeros",
        "same-reach": "an even kernel reaches one further up and left in both",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "row-order": "rows of the kernel are rows of the map",
        "stride-one": "every position is an output",
    }
    shapes = (
        *(d.replace(G=2) for d in SMALL),
        Dims(B=2, C=6, H=5, W=8, K=2, G=3),
        Dims(B=1, C=64, H=14, W=14, K=7, G=4),
    )
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3, G=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernels of all positions."""
        return {"x": (d.B, d.C, d.H, d.W), "kernel": (d.B, d.G, d.K, d.K, d.H, d.W)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Involve the map."""
        return involution.core(x, kernel)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve it with the kernels of its positions."""
        return inhomogeneous_depthwise.core(x, kernel)

    @mutant(drops="per-position")
    def kernels_of_another_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A position takes the kernel of its left neighbour."""
        return self.right(d, x, kernel.roll(1, 5))

    @mutant(drops="per-position", sparse=True)
    def one_kernel_of_another_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last position takes the kernel of the first."""
        kernel = kernel.clone()
        kernel[..., -1, -1] = kernel[..., 0, 0]
        return self.right(d, x, kernel)

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return self.right(d, x, kernel.roll(1, 0))

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c takes the kernel of group c mod G."""
        return self.right(d, x, kernel.repeat(1, d.C // d.G, 1, 1, 1, 1))

    @mutant(drops="zero-padding")
    def replicated_border(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Outside the map its border repeats."""
        reach = (d.K - 1,) * 4
        wide = self.right(d, F.pad(x, reach, mode="replicate"), F.pad(kernel, reach))
        return wide[..., d.K - 1 : 1 - d.K, d.K - 1 : 1 - d.K]

    @mutant(drops="same-reach")
    def even_kernel_reaches_down(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A kernel has a row of zeros on top and a column to the left; an even one then reaches down."""
        return self.right(d, x, F.pad(kernel, (0, 0, 0, 0, 1, d.K % 2, 1, d.K % 2)))

    @mutant(drops="not-flipped")
    def flipped_kernels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(2, 3))

    @mutant(drops="row-order")
    def transposed_kernels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Rows and columns of the kernels are exchanged."""
        return self.right(d, x, kernel.transpose(2, 3))

    @mutant(drops="stride-one", side="left")
    def every_other_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Involution moves by two positions."""
        return involution.core(x, kernel[..., ::2, ::2], stride=2)

    @equivalent("a group's channels share its kernel, so each of them may as well hold a copy")
    def one_group_per_channel(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Every channel is a group with a copy of its group's kernel."""
        return self.right(d, x, kernel.repeat_interleave(d.C // d.G, 1))


class _OfOneKernel(Claim):
    """An involution whose kernel is the same at every position; subclasses name the convolution it is."""

    # Whether every image has a kernel of its own.
    per_image = False

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the kernels, and what a position or an image may add to them."""
        front = (d.B, d.G) if self.per_image else (d.G,)
        height, width = -(-d.H // d.stride), -(-d.W // d.stride)
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (*front, d.K, d.K),
            "own": (d.B, d.G, 1, 1, height, width),
        }

    def given(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Give every position the same kernel."""
        spread = weight[..., None, None].expand(d.B, d.G, d.K, d.K, *own.shape[-2:])
        return {"x": x, "weight": weight, "kernel": spread}

    def left(self, d: Dims, x: Tensor, kernel: Tensor, **_: Tensor) -> Tensor:
        """Involve the map."""
        return involution.core(x, kernel, stride=d.stride)

    def right(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Convolve."""
        raise NotImplementedError

    @mutant(drops="per-map", side="given")
    def kernels_that_vary(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """A position adds something of its own to its kernel."""
        given = _OfOneKernel.given(self, d, x, weight, own)
        return {**given, "kernel": given["kernel"] + own}

    @mutant(drops="per-map", side="given", sparse=True)
    def one_kernel_that_varies(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """The last position alone adds something of its own to its kernel."""
        given = _OfOneKernel.given(self, d, x, weight, own)
        last = F.pad(own[..., -1:, -1:], (own.shape[5] - 1, 0, own.shape[4] - 1, 0))
        return {**given, "kernel": given["kernel"] + last}

    @mutant(drops="odd-kernel", side="given")
    def even_kernel(self, d: Dims, x: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """A row and a column of ones make the kernel even; convolution then pads both sides alike."""
        even = F.pad(weight, (0, 1, 0, 1), value=1)
        spread = even[..., None, None].expand(d.B, d.G, d.K + 1, d.K + 1, *own.shape[-2:])
        return {"x": x, "weight": even, "kernel": spread}

    @mutant(drops="zero-padding")
    def one_corner_repeated(self, d: Dims, x: Tensor, **rest: Tensor) -> Tensor:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        wide = self.right(d.replace(stride=1), x=with_corner(x), **rest)
        return wide[..., 1 : -1 : d.stride, 1 : -1 : d.stride]

    @mutant(drops="not-flipped")
    def flipped_kernel(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, weight=weight.flip(-2, -1), **rest)


PER_MAP = {
    "per-map": "all positions have the same kernel",
    "odd-kernel": "the kernel is odd, for convolution pads both sides of an even one alike",
    "zero-padding": "outside the map there are zeros",
    "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
}
STRIDED = (Dims(B=2, C=4, H=5, W=8, K=3, stride=2), Dims(B=1, C=32, H=14, W=14, K=7, stride=1))


class InvolutionOfOneKernelIsDepthwise(CentredTaps, _OfOneKernel):
    """An involution with one kernel for all positions, and one group per channel, is depthwise convolution.

    Depthwise convolution is the involution whose generator ignores its input.
    """

    name = "involution-of-one-kernel-is-depthwise"
    operators = ("involution", "depthwise_conv2d")
    source = (
        f"follows from eq. (4) of {LI}, which introduces involution as convolution with its symmetries of "
        "space and channels exchanged"
    )
    conditions = {**PER_MAP, "group-per-channel": "every channel is a group"}
    shapes = tuple(d.replace(G=d.C, stride=d.get("stride", 1)) for d in (*SMALL, *STRIDED))
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3, G=4, stride=1),)
    algebra = (
        "Σ_uv k[c, u, v] · x[b, c, i+u−r, j+v−r] is the sum of both: the taps of position (i, j) are its "
        "neighbours, those outside read zeros, and k does not depend on (i, j)"
    )

    def right(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve every channel with its kernel."""
        return depthwise.core(x, weight, stride=d.stride)

    @mutant(drops="group-per-channel", side="left")
    def pairs_of_channels(self, d: Dims, x: Tensor, kernel: Tensor, **_: Tensor) -> Tensor:
        """Two channels are a group, which takes the kernel of its first."""
        return involution.core(x, kernel[:, ::2], stride=d.stride)


class InvolutionOfOneKernelIsTiedDepthwise(BlockedGroups, _OfOneKernel):
    """An involution with one kernel for all positions is depthwise convolution with tied kernels.

    The channels of a group have the same kernel, so of the depthwise convolutions it is one with G different
    kernels.
    """

    name = "involution-of-one-kernel-is-tied-depthwise"
    operators = ("involution", "depthwise_conv2d", "shared_depthwise_conv2d")
    source = (
        f"follows from eq. (4) of {LI}; Han et al. 2022, ICLR, arXiv 2106.04263, study depthwise convolution "
        "whose weights are shared over channels"
    )
    conditions = {
        **PER_MAP,
        "tied": "the channels of a group have one kernel",
        "blocked-groups": "group g owns the channels gC/G to (g+1)C/G−1",
    }
    shapes = tuple(d.replace(G=2, stride=d.get("stride", 1)) for d in (*SMALL, *STRIDED))
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3, G=2, stride=1),)
    algebra = (
        "channel c of group g = ⌊cG/C⌋ is convolved with k[g], and so it is by a depthwise convolution whose "
        "kernel of channel c is k[⌊cG/C⌋]"
    )

    def right(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve every channel with the kernel of its group."""
        return depthwise.core(x, weight.repeat_interleave(d.C // d.G, 0), stride=d.stride)

    @mutant(drops="tied")
    def second_channels_doubled(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Every other channel has twice the kernel of its group."""
        tied = weight.repeat_interleave(d.C // d.G, 0)
        factors = 1 + torch.arange(d.C, dtype=weight.dtype) % 2
        return depthwise.core(x, factors[:, None, None] * tied, stride=d.stride)

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Channel c has the kernel of group c mod G."""
        return depthwise.core(x, weight.repeat(d.C // d.G, 1, 1), stride=d.stride)

    @equivalent("that is how depthwise convolution with shared weights is defined")
    def shared_weights(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the weights of groups."""
        return shared_depthwise.core(x, weight, stride=d.stride)


class InvolutionOfOneKernelPerImageIsDynamicDepthwise(_OfOneKernel):
    """An involution with one kernel for all positions of an image is dynamic depthwise convolution.

    So homogeneous dynamic depthwise convolution is the involution whose generator sees the pooled map in
    place of a position. With fewer groups than channels its kernels are tied.
    """

    name = "involution-of-one-kernel-per-image-is-dynamic-depthwise"
    operators = ("involution", "dynamic_depthwise_conv2d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, which has a homogeneous and an inhomogeneous dynamic "
        f"depthwise convolution, the latter being involution; {LI}, eq. (4)"
    )
    conditions = {
        **PER_MAP,
        "per-image": "every image has kernels of its own",
        "blocked-groups": "group g owns the channels gC/G to (g+1)C/G−1",
    }
    shapes = tuple(d.replace(G=2, stride=d.get("stride", 1)) for d in (*SMALL, STRIDED[0]))
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3, G=2, stride=1),)
    per_image = True

    def right(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve every image with the kernels of its groups."""
        return dynamic_depthwise.core(x, weight.repeat_interleave(d.C // d.G, 1), stride=d.stride)

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return self.right(d, weight=weight.roll(1, 0), **rest)

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Channel c has the kernel of group c mod G."""
        return dynamic_depthwise.core(x, weight.repeat(1, d.C // d.G, 1, 1), stride=d.stride)


class Translated(Claim):
    """Two maps that are cut from one picture, the second beginning further down and to the right.

    Subclasses give ``applied``, what an operator makes of a map. Outputs are laid over each other where they
    stem from the same pixel, and ``compared`` is one where both windows lie inside both maps, zero elsewhere.
    """

    conditions = {
        "interior": "the windows lie inside both maps, where no padding is read or masked",
        "no-place": "neither map nor weights hold the place of a pixel in the map",
        "matched": "outputs are compared where they stem from the same pixel",
    }

    def applied(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Apply the operator."""
        raise NotImplementedError

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Compare outputs whose windows lie inside both maps."""
        r, dtype = d.K // 2, variables["picture"].dtype
        inner = torch.ones(d.H - d.down - 2 * r, d.W - d.right - 2 * r, dtype=dtype)
        return {**variables, "compared": F.pad(inner, (r,) * 4)}

    def left(self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor) -> Tensor:
        """Apply the operator to the first map."""
        return compared * self.applied(d, picture[..., : d.H, : d.W], **layers)[..., d.down :, d.right :]

    def right(self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor) -> Tensor:
        """Apply the operator to the second map."""
        return compared * cut_off(d, self.applied(d, picture[..., d.down :, d.right :], **layers))

    @mutant(drops="interior", side="given")
    def border_compared(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """All outputs are compared that both maps have."""
        every = torch.ones(d.H - d.down, d.W - d.right, dtype=variables["picture"].dtype)
        return {**variables, "compared": every}

    @mutant(drops="interior", sparse=True)
    def border_compared_at_one_position(self, d: Dims, picture: Tensor, **rest: Tensor) -> Tensor:
        """The first output that is compared, in one image, is that of a map that ends inside its window."""
        kept = self.right(d, picture, **rest)
        r = d.K // 2
        ended = F.pad(picture[..., : d.down + 2 * r, :], (0, 0, 0, d.H - 2 * r))
        kept[:1, :, r, r] = self.right(d, ended, **rest)[:1, :, r, r]
        return kept

    @mutant(drops="no-place")
    def place_in_the_map(self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor) -> Tensor:
        """To every pixel the numbers of its row and column in the map are added, a position encoding."""
        down, right = (torch.arange(size, dtype=picture.dtype) for size in (d.H, d.W))
        encoded = picture[..., d.down :, d.right :] + down[:, None] + right
        return compared * cut_off(d, self.applied(d, encoded, **layers))

    @mutant(drops="matched")
    def compared_at_the_same_place(
        self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor
    ) -> Tensor:
        """Outputs are compared at the same place of both maps, which shows other pixels."""
        return compared * cut_off(d, self.applied(d, picture[..., : d.H, : d.W], **layers))


class InvolutionPositionEncoding(Translated):
    """Involution is translation-equivariant: what it makes of a patch does not depend on where it lies.

    Two maps that are cut from one picture, the second beginning some rows further down and columns further
    right, give the same outputs wherever the windows of both lie inside. Kernels differ from position to
    position because pixels do; what is ordered in a kernel is the offset of a tap, not a place on the map.
    Any generator will do that is the same at all positions; here it is one linear layer with a bias.
    """

    name = "involution-position-encoding"
    operators = ("involution",)
    source = (
        "github.com/d-li14/involution, issue 20, asked how a kernel encodes positions: “Each element of the "
        "generated involution kernel is ordered.”"
    )
    conditions = {
        **Translated.conditions,
        "same-generator": "kernels are generated alike at all positions",
        "stride-one": "every position is an output",
    }
    shapes = (
        Dims(B=2, C=4, H=9, W=8, K=3, G=2, down=1, right=2),
        Dims(B=2, C=4, H=5, W=4, K=3, G=2, down=2, right=0),
        Dims(B=1, C=3, H=7, W=6, K=5, G=1, down=0, right=1),
    )
    complete_shapes = (Dims(B=2, C=4, H=4, W=5, K=3, G=2, down=1, right=0),)
    corrects = "involution-position-encoding-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture, and the layer that generates kernels."""
        taps = d.G * d.K**2
        return {
            "picture": (d.B, d.C, d.H + d.down, d.W + d.right),
            "span": (taps, d.C),
            "span_bias": (taps,),
        }

    def applied(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Involve the map."""
        return involve(d, x, **layers)

    @mutant(drops="same-generator")
    def kernels_that_know_their_place(
        self, d: Dims, picture: Tensor, compared: Tensor, span: Tensor, span_bias: Tensor
    ) -> Tensor:
        """The numbers of its row and column are added to every tap of a kernel."""
        x = picture[..., d.down :, d.right :]
        kernel = torch.einsum("oc,bchw->bohw", span, x) + span_bias[:, None, None]
        encoded = kernel + torch.arange(d.H, dtype=x.dtype)[:, None] + torch.arange(d.W, dtype=x.dtype)
        outputs = involution.core(x, encoded.reshape(d.B, d.G, d.K, d.K, d.H, d.W))
        return compared * cut_off(d, outputs)

    @mutant(drops="stride-one")
    def every_other_position(self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor) -> Tensor:
        """Outputs are those at even rows and columns of each map, each repeated over its cell."""
        outputs = involve(d, picture[..., d.down :, d.right :], **layers)[..., ::2, ::2]
        repeated = outputs.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return compared * cut_off(d, repeated[..., : d.H, : d.W])

    @equivalent("what lies outside the map moves nothing inside")
    def map_with_a_wider_border(self, d: Dims, picture: Tensor, compared: Tensor, **layers: Tensor) -> Tensor:
        """The second map is extended by repeating its border, and what that adds is cut off again."""
        wide = F.pad(picture[..., d.down :, d.right :], (1, 1, 1, 1), mode="replicate")
        outputs = involve(d.replace(H=d.H + 2, W=d.W + 2), wide, **layers)
        return compared * cut_off(d, outputs[..., 1:-1, 1:-1])


class InvolutionPositionEncodingAsStated(Claim):
    """Involution needs no position encoding, for its kernels are specific to positions.

    Then what it makes of a patch would depend on where the patch lies.
    """

    name = "involution-position-encoding-as-stated"
    kind = "negative"
    expected = "refuted"
    operators = ("involution",)
    source = (
        "github.com/d-li14/involution, issue 20, which takes it from the paper that positions are implicitly "
        "encoded when kernels are generated (“在生成involution kernel时隐式地编码了pixel的位置信息”)"
    )
    shapes = InvolutionPositionEncoding.shapes
    complete_shapes = InvolutionPositionEncoding.complete_shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture, and the layer that generates kernels."""
        return InvolutionPositionEncoding().variables(d)

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Compare outputs whose windows lie inside both maps."""
        return InvolutionPositionEncoding().given(d, **variables)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Involve a patch where the first map has it."""
        return InvolutionPositionEncoding().left(d, **given)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Involve the same patch where the second map has it."""
        return InvolutionPositionEncoding().right(d, **given)


class PublishedInvolutionIsAffineInTheNeighbours(Claim):
    """With the pixel at a position fixed, involution as published is affine in all others there.

    Its kernel sees that pixel alone, so f(a + b) + f(0) = f(a) + f(b) at the position, where a and b are what
    the other pixels are. No generator of this kind makes an operator that does not have this property, and
    self-attention does not. The generator is one linear layer here; another one changes the kernel at the
    position, which is the same in all four terms.
    """

    name = "published-involution-is-affine-in-the-neighbours"
    operators = ("involution",)
    source = f"{LI}, eq. (6): the kernel of a position is generated from the pixel there"
    conditions = {
        "fixed": "the pixel at the position is the same in all four terms",
        "centre-alone": "the generator sees the pixel at the position and no other",
        "affine": "the term f(0) stays, for the pixel itself is weighed too",
    }
    shapes = (
        Dims(B=2, C=4, H=7, W=6, K=3, G=2),
        Dims(B=2, C=4, H=2, W=5, K=3, G=2),
        Dims(B=1, C=3, H=5, W=11, K=5, G=1),
    )
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3, G=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the fixed pixels, two choices of all others, and the layer that generates kernels."""
        taps, shape = d.G * d.K**2, (d.B, d.C, d.H, d.W)
        return {"fixed": shape, "a": shape, "b": shape, "span": (taps, d.C), "span_bias": (taps,)}

    def left(self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor) -> Tensor:
        """f(a + b) + f(0), at the fixed pixels."""
        both = involve(d, with_fixed(fixed, a + b), **layer)
        return at_fixed(both + involve(d, with_fixed(fixed, torch.zeros_like(a)), **layer))

    def right(self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor) -> Tensor:
        """f(a) + f(b), at the fixed pixels."""
        return at_fixed(involve(d, with_fixed(fixed, a), **layer) + involve(d, with_fixed(fixed, b), **layer))

    @mutant(drops="fixed")
    def one_pixel_moves(self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor) -> Tensor:
        """The fixed pixels are doubled in f(b)."""
        first, second = with_fixed(fixed, a), with_fixed(2 * fixed, b)
        return at_fixed(involve(d, first, **layer) + involve(d, second, **layer))

    @mutant(drops="centre-alone")
    def generator_sees_a_neighbour(
        self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor
    ) -> Tensor:
        """The kernel of a position is generated from its left neighbour."""
        terms = [involve_by_neighbour(d, with_fixed(fixed, other), **layer) for other in (a, b)]
        return at_fixed(terms[0] + terms[1])

    @mutant(drops="centre-alone", sparse=True)
    def one_kernel_sees_a_neighbour(
        self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor
    ) -> Tensor:
        """At one position alone the kernel is generated from another pixel, in one of the terms."""
        seen = involve_by_neighbour(d, with_fixed(fixed, a), **layer)
        here = self.right(d, fixed, a, b, **layer).clone()
        here[..., 0, 2] = (seen + involve(d, with_fixed(fixed, b), **layer))[..., 0, 2]
        return here

    @mutant(drops="affine", side="left")
    def without_the_pixel_itself(
        self, d: Dims, fixed: Tensor, a: Tensor, b: Tensor, **layer: Tensor
    ) -> Tensor:
        """f(0) is left out."""
        return at_fixed(involve(d, with_fixed(fixed, a + b), **layer))


def with_fixed(fixed: Tensor, others: Tensor) -> Tensor:
    """Take every other pixel of every other row from one map, and the rest from another."""
    mask = at_fixed(torch.ones_like(fixed))
    return mask * fixed + (1 - mask) * others


def at_fixed(x: Tensor) -> Tensor:
    """Keep every other pixel of every other row, and nothing elsewhere."""
    rows, columns = (1 - torch.arange(size, dtype=x.dtype) % 2 for size in x.shape[2:])
    return x * rows[:, None] * columns


def involve_by_neighbour(d: Dims, x: Tensor, span: Tensor, span_bias: Tensor) -> Tensor:
    """Involve a map with kernels that are generated from the left neighbour of every position."""
    kernel = torch.einsum("oc,bchw->bohw", span, x.roll(1, 3)) + span_bias[:, None, None]
    return involution.core(x, kernel.reshape(d.B, d.G, d.K, d.K, d.H, d.W))


def involve(d: Dims, x: Tensor, span: Tensor, span_bias: Tensor) -> Tensor:
    """Involve a map with kernels that one linear layer generates at every position."""
    return involution.module(x, span, span_bias, groups=d.G, generator="linear")


def cut_off(d: Dims, outputs: Tensor) -> Tensor:
    """Cut off of the second map what the first does not have."""
    return outputs[..., : d.H - d.down, : d.W - d.right]
