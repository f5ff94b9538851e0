"""Every operator treats the images of a batch one by one.

What an image yields does not depend on the images that it comes with. In floats this is not bitwise so, since
kernels sum in another order for another batch; on integers that stay exact it is. Batch norms that use the
statistics of the batch break it: pages use stored ones.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness import Dims, mutant

from ..activation import dynamic_relu_a, dynamic_relu_b, dynamic_relu_c, leaky_relu, prelu, relu
from ..attention import (
    outlook_attention,
    self_attention,
    shifted_window_attention,
    sliding_attention1d,
    sliding_attention2d,
    spatial_reduction_attention,
    window_attention,
)
from ..convolution import (
    bottleneck,
    conv1d,
    conv2d,
    depthwise_conv1d,
    depthwise_conv2d,
    locally_connected2d,
    multiscale_conv2d,
    pointwise_conv2d,
    pyramid_conv2d,
    separable_conv2d,
    shared_depthwise_conv2d,
)
from ..dynamic import (
    cond_conv2d,
    dcd_conv2d,
    dcd_depthwise,
    dcd_fusion,
    dcd_pointwise,
    dcd_released,
    dcd_sparse,
    dynamic_conv1d,
    dynamic_conv2d,
    dynamic_depthwise_conv2d,
    inhomogeneous_depthwise_conv2d,
    lightweight_conv1d,
)
from ..gates import gather_excite, squeeze_excite
from ..involution import involution
from ..mlp import channel_mlp, mlp, separable_mlp, spatial_mixing_mlp
from .operators import ClaimOfOperator, claim_of, shapes_of, with_one_output_of

_SOURCE = (
    "the formula of the operator, which speaks of one image; in training it does not hold of layers with "
    "batch norms, such as those of github.com/liyunsheng13/dcd, models/imagenet"
)


class BatchIndependent(ClaimOfOperator):
    """The base of the claims that the images of a batch do not meet."""

    source = _SOURCE
    conditions = {
        "order": "images come out in the order in which they went in",
        "own-image": "nothing is taken from a batch but the image itself, such as its mean",
    }

    def left(self, d: Dims, **free: Tensor) -> Tensor:
        """Compute all images together."""
        return self.together(d, free[self.activation(d)], free)

    def right(self, d: Dims, **free: Tensor) -> Tensor:
        """Compute every image alone."""
        return self.alone(d, free[self.activation(d)], free)

    def together(self, d: Dims, x: Tensor, free: Mapping[str, Tensor]) -> Tensor:
        """Compute the images of a batch in one call, and make their weights in one."""
        return self.compute(d, x, self.parameters(d, free), self.generate(d, x, free))

    def alone(self, d: Dims, x: Tensor, free: Mapping[str, Tensor]) -> Tensor:
        """Compute the images of a batch call by call."""
        single = d.replace(B=1)
        return torch.cat([self.together(single, image[None], free) for image in x])

    @mutant(drops="order")
    def images_in_another_order(self, d: Dims, **free: Tensor) -> Tensor:
        """Every image takes the place of the next."""
        return self.right(d, **free).roll(1, 0)

    @mutant(drops="own-image")
    def sum_of_the_batch_taken_off(self, d: Dims, **free: Tensor) -> Tensor:
        """The sum of the batch is taken off every image, as a batch norm takes off its mean."""
        x = free[self.activation(d)]
        return self.alone(d, x - x.sum(0), free)

    @mutant()
    def first_image_for_all(self, d: Dims, **free: Tensor) -> Tensor:
        """All images are the first."""
        x = free[self.activation(d)]
        return self.alone(d, x[:1].expand_as(x), free)

    @mutant(sparse=True)
    def one_output_of_another_image(self, d: Dims, **free: Tensor) -> Tensor:
        """The last output of the last image is that of the image before."""
        result = self.right(d, **free)
        return with_one_output_of(result, result[-2])


class BatchIndependentAndDynamic(BatchIndependent):
    """The base of such claims about operators whose weights come from the image."""

    conditions = {
        **BatchIndependent.conditions,
        "own-weights": "the weights that an image meets are made from that image",
    }

    @mutant(drops="own-weights")
    def weights_of_the_sum_of_the_batch(self, d: Dims, **free: Tensor) -> Tensor:
        """All images meet the weights that are made from their sum."""
        x = free[self.activation(d)]
        weights = self.generate(d, x.sum(0, keepdim=True).expand_as(x), free)
        return self.compute(d, x, self.parameters(d, free), weights)


# So small that maxima of lines can be followed over symbols.
_TINY_PIECES = (Dims(B=2, C=2, H=1, W=2, pieces=2, R=2),)


def _independent(
    page: Any, complete_shapes: tuple[Dims, ...] = (), **particulars: float
) -> type[BatchIndependent]:
    dynamic = page.operator.traits.dynamic != "static"
    made = ", with weights that are made from the image linearly" if dynamic else ""
    return claim_of(
        page,
        BatchIndependentAndDynamic if dynamic else BatchIndependent,
        "takes-images-one-by-one",
        f"of a batch is that of each of its images by itself{made}.",
        shapes=tuple(d.replace(**particulars) for d in shapes_of(page.core)[:2]),
        complete_shapes=complete_shapes,
    )


Bottleneck = _independent(bottleneck)
ChannelMlp = _independent(channel_mlp)
CondConv2d = _independent(cond_conv2d)
Conv1d = _independent(conv1d)
Conv2d = _independent(conv2d)
DcdConv2d = _independent(dcd_conv2d)
DcdDepthwise = _independent(dcd_depthwise)
DcdFusion = _independent(dcd_fusion)
DcdPointwise = _independent(dcd_pointwise)
DcdReleased = _independent(dcd_released)
DcdSparse = _independent(dcd_sparse)
DepthwiseConv1d = _independent(depthwise_conv1d)
DepthwiseConv2d = _independent(depthwise_conv2d)
DynamicConv1d = _independent(dynamic_conv1d)
DynamicConv2d = _independent(dynamic_conv2d)
DynamicDepthwiseConv2d = _independent(dynamic_depthwise_conv2d)
DynamicReluA = _independent(dynamic_relu_a, _TINY_PIECES)
DynamicReluB = _independent(dynamic_relu_b, _TINY_PIECES)
DynamicReluC = _independent(dynamic_relu_c, _TINY_PIECES)
GatherExcite = _independent(gather_excite)
InhomogeneousDepthwiseConv2d = _independent(inhomogeneous_depthwise_conv2d)
Involution = _independent(involution)
LeakyRelu = _independent(leaky_relu, slope=0.25)
LightweightConv1d = _independent(lightweight_conv1d)
LocallyConnected2d = _independent(locally_connected2d)
Mlp = _independent(mlp)
MultiscaleConv2d = _independent(multiscale_conv2d)
OutlookAttention = _independent(outlook_attention)
PointwiseConv2d = _independent(pointwise_conv2d)
Prelu = _independent(prelu)
PyramidConv2d = _independent(pyramid_conv2d)
Relu = _independent(relu)
SelfAttention = _independent(self_attention)
SeparableConv2d = _independent(separable_conv2d)
SeparableMlp = _independent(separable_mlp)
SharedDepthwiseConv2d = _independent(shared_depthwise_conv2d)
ShiftedWindowAttention = _independent(shifted_window_attention)
SlidingAttention1d = _independent(sliding_attention1d)
SlidingAttention2d = _independent(sliding_attention2d)
SpatialMixingMlp = _independent(spatial_mixing_mlp)
SpatialReductionAttention = _independent(spatial_reduction_attention)
SqueezeExcite = _independent(squeeze_excite)
WindowAttention = _independent(window_attention)
