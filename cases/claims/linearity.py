"""Static operators are linear in their map, and dynamic ones are not.

Static operators keep their weights, so f(a·x + y) = a·f(x) + f(y). The weights of a dynamic operator come
from the map, and for that reason alone it is not additive: with its weights held fixed it is.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from harness import Dims, equivalent, mutant

from ..activation import dynamic_relu_a, dynamic_relu_b, dynamic_relu_c
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
from .operators import ClaimOfOperator, claim_of, with_one_output_of

_SOURCE = (
    "Han et al. 2022, ICLR, arXiv 2106.04263, sorts operators by whether their weights are static or "
    "computed from the map"
)


class Linear(ClaimOfOperator):
    """The base of the claims that a static operator is linear."""

    source = _SOURCE
    conditions = {
        "same-weights": "both maps meet the same weights",
        "no-constant": "nothing is added that does not depend on the map",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return both maps, the factor, and all weights, which are given."""
        given = {name: spec.shape for name, spec in self.scope.inputs(d).items()}
        return {**given, "other": given[self.activation(d)], "factor": ()}

    def left(self, d: Dims, other: Tensor, factor: Tensor, **free: Tensor) -> Tensor:
        """Compute the operator of the combined map."""
        x = free[self.activation(d)]
        return self.compute(d, factor * x + other, self.parameters(d, free))

    def right(self, d: Dims, other: Tensor, factor: Tensor, **free: Tensor) -> Tensor:
        """Combine the operator's results of both maps."""
        weights = self.parameters(d, free)
        first = self.compute(d, free[self.activation(d)], weights)
        return factor * first + self.compute(d, other, weights)

    @mutant(drops="same-weights")
    def weights_of_the_other_sign(self, d: Dims, other: Tensor, factor: Tensor, **free: Tensor) -> Tensor:
        """The second map meets weights of which the last have the other sign."""
        weights = dict(self.parameters(d, free))
        first = self.compute(d, free[self.activation(d)], weights)
        name = list(weights)[-1]
        return factor * first + self.compute(d, other, {**weights, name: -weights[name]})

    @mutant(drops="no-constant")
    def constant_added(self, d: Dims, factor: Tensor, **free: Tensor) -> Tensor:
        """One is added to every result, which counts once on one side and a + 1 times on the other."""
        return self.right(d, factor=factor, **free) + factor

    @mutant()
    def factor_squared(self, d: Dims, factor: Tensor, **free: Tensor) -> Tensor:
        """The factor counts twice."""
        return self.right(d, factor=factor**2, **free)

    @mutant(sparse=True)
    def one_output_without_the_other_map(
        self, d: Dims, other: Tensor, factor: Tensor, **free: Tensor
    ) -> Tensor:
        """At the last output the second map is left out."""
        first = self.compute(d, free[self.activation(d)], self.parameters(d, free))
        return with_one_output_of(self.right(d, other=other, factor=factor, **free), factor * first)


class NotAdditive(ClaimOfOperator):
    """The base of the claims that a dynamic operator is not additive."""

    kind = "negative"
    source = _SOURCE
    conditions = {"weights-from-the-map": "the weights that a map meets are made from that map"}

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return both maps, and the parameters of the operator and of its generator."""
        free = super().variables(d)
        return {**free, "other": free[self.activation(d)]}

    def given(self, d: Dims, *_: Any, **free: Tensor) -> Mapping[str, Any]:
        """Make the weights of each map, and of their sum, from that map."""
        x, other = free[self.activation(d)], free["other"]
        return self._given(d, free, sums=x + other, own=x, others=other)

    def _given(self, d: Dims, free: Mapping[str, Tensor], **maps: Tensor) -> Mapping[str, Any]:
        made = {name: self.settle(self.generate(d, source, free)) for name, source in maps.items()}
        x = free[self.activation(d)]
        return {"x": x, "other": free["other"], "fixed": self.parameters(d, free), **made}

    def settle(self, made: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights as they were made."""
        return made

    def left(self, d: Dims, x: Tensor, other: Tensor, fixed: Any, sums: Any, **_: Any) -> Tensor:
        """Compute the operator of the sum of both maps."""
        return self.compute(d, x + other, fixed, sums)

    def right(self, d: Dims, x: Tensor, other: Tensor, fixed: Any, own: Any, others: Any, **_: Any) -> Tensor:
        """Add the operator's results of both maps."""
        return self.compute(d, x, fixed, own) + self.compute(d, other, fixed, others)

    @mutant(drops="weights-from-the-map", side="given")
    def weights_held_fixed(self, d: Dims, *_: Any, **free: Tensor) -> Mapping[str, Any]:
        """All maps meet the weights that were made from the first: then the results add up."""
        x = free[self.activation(d)]
        return self._given(d, free, sums=x, own=x, others=x)

    @mutant(side="given")
    def weights_of_a_third_map(self, d: Dims, *_: Any, **free: Tensor) -> Mapping[str, Any]:
        """All maps meet the weights that were made from the difference of both."""
        third = free[self.activation(d)] - free["other"]
        return self._given(d, free, sums=third, own=third, others=third)

    @mutant()
    def maps_added_first(self, d: Dims, **given: Any) -> Tensor:
        """The maps are added before anything is computed."""
        return self.left(d, **given)

    @equivalent("one output is enough to tell two functions apart", sparse=True)
    def maps_added_first_but_for_one_output(self, d: Dims, **given: Any) -> Tensor:
        """The maps are added first, and the results only at the last output."""
        return with_one_output_of(self.left(d, **given), self.right(d, **given))


class NotAdditiveRectifier(NotAdditive):
    """The base of the claims about rectifiers, which have a kink whether or not their pieces are dynamic.

    So they are told apart by one piece without intercept, the slope of the first.
    """

    def settle(self, made: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Let every piece be the first, without its intercept."""
        slope = made["slope"]
        return {**made, "slope": slope[:, :1].expand_as(slope), "intercept": 0 * made["intercept"]}


def _linear(page: Any) -> type[Linear]:
    statement = "is additive and homogeneous: f(a·x + y) = a·f(x) + f(y), the weights being given."
    return claim_of(page, Linear, "is-linear", statement)


def _not_additive(page: Any, **fields: Any) -> type[NotAdditive]:
    statement = (
        "is not additive: f(x + y) ≠ f(x) + f(y), because its weights come from the map, "
        "even where they depend on it linearly."
    )
    return claim_of(page, NotAdditive, "is-not-additive", statement, **fields)


def _not_additive_rectifier(page: Any) -> type[NotAdditiveRectifier]:
    statement = (
        "is not additive, even with one piece that has no intercept: f(x + y) ≠ f(x) + f(y), "
        "for its slope comes from the map."
    )
    return claim_of(page, NotAdditiveRectifier, "is-not-additive", statement)


Bottleneck = _linear(bottleneck)
ChannelMlp = _linear(channel_mlp)
Conv1d = _linear(conv1d)
Conv2d = _linear(conv2d)
DepthwiseConv1d = _linear(depthwise_conv1d)
DepthwiseConv2d = _linear(depthwise_conv2d)
LightweightConv1d = _linear(lightweight_conv1d)
LocallyConnected2d = _linear(locally_connected2d)
Mlp = _linear(mlp)
MultiscaleConv2d = _linear(multiscale_conv2d)
PointwiseConv2d = _linear(pointwise_conv2d)
PyramidConv2d = _linear(pyramid_conv2d)
SeparableConv2d = _linear(separable_conv2d)
SeparableMlp = _linear(separable_mlp)
SharedDepthwiseConv2d = _linear(shared_depthwise_conv2d)
SpatialMixingMlp = _linear(spatial_mixing_mlp)

CondConv2d = _not_additive(cond_conv2d)
DcdConv2d = _not_additive(dcd_conv2d)
DcdDepthwise = _not_additive(dcd_depthwise)
DcdFusion = _not_additive(dcd_fusion)
DcdPointwise = _not_additive(dcd_pointwise)
DcdReleased = _not_additive(dcd_released, constants=("shift",))
DcdSparse = _not_additive(dcd_sparse)
DynamicConv1d = _not_additive(dynamic_conv1d)
DynamicConv2d = _not_additive(dynamic_conv2d)
DynamicDepthwiseConv2d = _not_additive(dynamic_depthwise_conv2d)
DynamicReluA = _not_additive_rectifier(dynamic_relu_a)
DynamicReluB = _not_additive_rectifier(dynamic_relu_b)
DynamicReluC = _not_additive_rectifier(dynamic_relu_c)
GatherExcite = _not_additive(gather_excite)
InhomogeneousDepthwiseConv2d = _not_additive(inhomogeneous_depthwise_conv2d)
Involution = _not_additive(involution)
OutlookAttention = _not_additive(outlook_attention)
SelfAttention = _not_additive(self_attention)
ShiftedWindowAttention = _not_additive(shifted_window_attention)
SlidingAttention1d = _not_additive(sliding_attention1d)
SlidingAttention2d = _not_additive(sliding_attention2d)
SpatialReductionAttention = _not_additive(spatial_reduction_attention)
SqueezeExcite = _not_additive(squeeze_excite)
WindowAttention = _not_additive(window_attention)
