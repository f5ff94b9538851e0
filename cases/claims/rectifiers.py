"""Dynamic ReLU and what it contains: rectifiers with fixed and with learned slopes, gates, maxout units."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..activation import dynamic_relu_a, dynamic_relu_b, dynamic_relu_c, leaky_relu, prelu, relu
from ..convolution import pointwise_conv2d
from ..gates import squeeze_excite
from .gates import IsChannelGate, said

Outputs = tuple[Tensor, ...]

CHEN = "Chen et al. 2020, ECCV, arXiv 2003.10027, section 3"
SAID = (
    "said where dynamic ReLU is introduced, such as at 0809zheng.github.io/2021/10/27/dyrelu.html: other "
    "activations could be seen as its special cases"
)
# The largest first. Maps of 2^n positions, whose mean is exact.
MAPS: tuple[Dims, ...] = (
    Dims(B=3, C=4, H=2, W=4, R=2),
    Dims(B=2, C=3, H=4, W=1, R=1),
    Dims(B=2, C=4, H=1, W=1, R=2),
)
TINY: tuple[Dims, ...] = (Dims(B=2, C=2, H=1, W=2, R=1),)


class _Hyper(Claim):
    """A claim of modules with a hyper function: two layers on the mean of the map."""

    shapes = MAPS
    complete_shapes = TINY

    def hyper(self, d: Dims, outputs: int) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, and the weights of a hyper function with that many outputs."""
        hidden = d.C // d.R
        return {
            "x": (d.B, d.C, d.H, d.W),
            "reduce": (hidden, d.C),
            "reduce_bias": (hidden,),
            "expand": (outputs, hidden),
            "expand_bias": (outputs,),
        }


class DynamicReluWithoutResidualsIsRelu(Claim):
    """With a first slope of one and everything else zero, dynamic ReLU of each form is ReLU.

    These are its values α and β where the residuals are zero, in form C at positions whose weight is one.
    """

    name = "dynamic-relu-without-residuals-is-relu"
    operators = ("dynamic_relu_a", "dynamic_relu_b", "dynamic_relu_c", "relu")
    source = f"{CHEN}: α¹ = 1 and α² = β¹ = β² = 0; {SAID}"
    conditions: ClassVar[Mapping[str, str]] = {
        "first-slope-one": "one slope is one",
        "second-slope-zero": "the other is zero",
        "no-intercepts": "both intercepts are zero",
        "weight-one": "in form C every position has the weight one",
    }
    shapes = (Dims(B=4, C=7, H=3, W=4), Dims(B=2, C=3, H=1, W=5), Dims(B=1, C=64, H=14, W=14))
    complete_shapes = (Dims(B=2, C=2, H=2, W=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps."""
        return {"x": (d.B, d.C, d.H, d.W)}

    def given(self, d: Dims, x: Tensor) -> Mapping[str, Tensor]:
        """Return the slopes and intercepts that dynamic ReLU starts with, and weights of one."""
        return starting(d, x)

    def left(
        self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Take the larger of the two pieces, in all three forms."""
        return (
            dynamic_relu_a.core(x, slope[..., 0], intercept[..., 0]),
            dynamic_relu_b.core(x, slope, intercept),
            dynamic_relu_c.core(x, slope, intercept, attention),
        )

    def right(self, d: Dims, x: Tensor, **_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rectify."""
        rectified = relu.core(x)
        return rectified, rectified, rectified

    @mutant(drops="first-slope-one", side="given")
    def first_slope_two(self, d: Dims, x: Tensor) -> Mapping[str, Tensor]:
        """The first slope is two."""
        start = starting(d, x)
        return {**start, "slope": 2 * start["slope"]}

    @mutant(drops="second-slope-zero", side="given")
    def second_slope_minus_one(self, d: Dims, x: Tensor) -> Mapping[str, Tensor]:
        """The second slope is minus one, and the result the absolute value."""
        start = starting(d, x)
        return {**start, "slope": start["slope"] - start["slope"].flip(1)}

    @mutant(drops="no-intercepts", side="given")
    def second_intercept_one(self, d: Dims, x: Tensor) -> Mapping[str, Tensor]:
        """The second intercept is one."""
        start = starting(d, x)
        return {**start, "intercept": start["slope"].flip(1)}

    @mutant(drops="weight-one", side="left")
    def weight_of_two(
        self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """In form C every position has the weight two."""
        return self.left(d, x, slope, intercept, 2 * attention)

    @mutant(drops="weight-one", side="left", sparse=True)
    def weight_of_two_at_one_position(
        self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """In form C the last position of the last image has the weight two."""
        weights = attention.clone()
        weights[-1, -1, -1] = 2
        return self.left(d, x, slope, intercept, weights)


class DynamicReluOfAZeroLayerIsRelu(_Hyper):
    """Dynamic ReLU A and B with a last layer of zeros are ReLU, whatever their first layer is.

    The residual 2σ(0)−1 is zero, so the pieces are those that it starts with.
    """

    name = "dynamic-relu-of-a-zero-last-layer-is-relu"
    operators = ("dynamic_relu_a", "dynamic_relu_b", "relu")
    source = f"{CHEN}: a = α + λ_a·Δa and b = β + λ_b·Δb with Δ between −1 and 1; {SAID}"
    conditions: ClassVar[Mapping[str, str]] = {
        "zero-weights": "the last layer does not weigh the hidden units",
        "zero-biases": "and adds nothing",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the first layer."""
        names = "x", "reduce", "reduce_bias"
        return {name: shape for name, shape in self.hyper(d, 0).items() if name in names}

    def left(self, d: Dims, x: Tensor, reduce: Tensor, reduce_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Generate the pieces with a last layer of zeros, and take the larger, in both forms."""
        return self.with_last_layer(d, x, reduce, reduce_bias, 0, torch.zeros(1).double())

    def right(self, d: Dims, x: Tensor, **_: Tensor) -> tuple[Tensor, Tensor]:
        """Rectify."""
        rectified = relu.core(x)
        return rectified, rectified

    def with_last_layer(
        self, d: Dims, x: Tensor, reduce: Tensor, reduce_bias: Tensor, weight: int, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Generate the pieces with a last layer whose weights and biases of the first slope are given."""
        return (
            dynamic_relu_a.module(x, reduce, reduce_bias, *last_layer(d, 1, weight, bias)),
            dynamic_relu_b.module(x, reduce, reduce_bias, *last_layer(d, d.C, weight, bias)),
        )

    @mutant(drops="zero-weights", side="left")
    def hidden_units_weighed(
        self, d: Dims, x: Tensor, reduce: Tensor, reduce_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first slope's residual weighs every hidden unit by one."""
        return self.with_last_layer(d, x, reduce, reduce_bias, 1, torch.zeros(1).double())

    @mutant(drops="zero-biases", side="left")
    def bias_of_the_first_layer(
        self, d: Dims, x: Tensor, reduce: Tensor, reduce_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first slope's residual is that of a bias, the first of the layer before."""
        return self.with_last_layer(d, x, reduce, reduce_bias, 0, reduce_bias[:1])

    @mutant(sparse=True)
    def one_position_kept(self, d: Dims, x: Tensor, **_: Tensor) -> tuple[Tensor, Tensor]:
        """The last position of the last image is not rectified."""
        rectified = relu.core(x)
        rectified[-1, :, -1, -1] = x[-1, :, -1, -1]
        return rectified, rectified


class _Leak(Claim):
    """A maximum of two lines through the origin is a rectifier with a leak; subclasses name which."""

    shapes: ClassVar[tuple[Dims, ...]] = (
        Dims(B=4, C=7, H=3, W=4),
        Dims(B=2, C=3, H=1, W=5),
        Dims(B=1, C=8, H=7, W=7),
    )
    complete_shapes: ClassVar[tuple[Dims, ...]] = (Dims(B=2, C=2, H=2, W=1),)
    algebra = (
        "(1−a)·max(x, ax) = leak((1−a)x) = (1−a)·leak(x), of which 1−a > 0 is left out; for a = 1 both are x"
    )

    @lemma
    def the_larger_piece_is_the_leaky_unit(self, z3: Any) -> Lemma:
        """The larger of x and ax is x from zero on and ax below, for every real a ≤ 1."""
        x, a, larger = z3.Reals("x a larger")
        return Lemma(
            {
                "the larger": z3.And(larger >= x, larger >= a * x, z3.Or(larger == x, larger == a * x)),
                "slope": a <= 1,
            },
            larger == z3.If(x >= 0, x, a * x),
        )

    @lemma
    def a_positive_factor_may_be_taken_out(self, z3: Any) -> Lemma:
        """A rectifier with any leak of cx is c times that of x, for every real c > 0."""
        x, a, c, y = z3.Reals("x a c y")
        return Lemma(
            {"scaled": y == c * x, "positive": c > 0},
            z3.If(y >= 0, y, a * y) == c * z3.If(x >= 0, x, a * x),
        )

    def right(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """Take the larger of x and ax, in every image, 1−a times."""
        return self.with_pieces(d, x, slope, 1, 0)

    def with_pieces(self, d: Dims, x: Tensor, slope: Tensor, first: int, intercept: int) -> Tensor:
        """Take the larger of first·x and slope·x + intercept, 1−a times."""
        raise NotImplementedError

    @mutant(drops="first-slope-one")
    def first_slope_of_two(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The other slope is two."""
        return self.with_pieces(d, x, slope, 2, 0)

    @mutant(drops="no-intercepts")
    def intercept_of_one(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The piece of the leak has the intercept one."""
        return self.with_pieces(d, x, slope, 1, 1)

    @mutant(sparse=True)
    def one_position_kept(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The last position of the last image is not rectified."""
        output = self.right(d, x, slope)
        output[-1, :, -1, -1] = x[-1, :, -1, -1]
        return output


class LeakyReluIsDynamicRelu(_Leak):
    """ReLU with a leak of slope a ≤ 1 is dynamic ReLU A with the slopes 1 and a, and no intercepts.

    What is the same for every a: 1−a times the larger of x and ax is the leaky unit of (1−a)x. A positive
    factor 1−a may be taken out of the latter. For a > 1 the larger piece is ax where x is positive and x
    where it is negative, which is no leaky unit.
    """

    name = "leaky-relu-is-dynamic-relu"
    operators = ("leaky_relu", "dynamic_relu_a")
    source = f"{CHEN}; Maas et al. 2013, section 2; {SAID}"
    conditions: ClassVar[Mapping[str, str]] = {
        "first-slope-one": "the other slope is one",
        "no-intercepts": "the intercepts are zero",
        "scaled-alike": "what goes into one comes out of the other with the factor 1−a",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the slope."""
        return {"x": (d.B, d.C, d.H, d.W), "slope": (1,)}

    def left(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """Rectify (1−a)x with a leak."""
        return leaky_relu.core((1 - slope) * x, slope)

    def with_pieces(self, d: Dims, x: Tensor, slope: Tensor, first: int, intercept: int) -> Tensor:
        """Take the larger of first·x and slope·x + intercept, 1−a times."""
        slopes = torch.cat([torch.full_like(slope, first), slope]).expand(d.B, -1)
        intercepts = torch.tensor([0, intercept], dtype=x.dtype).expand(d.B, -1)
        return (1 - slope) * dynamic_relu_a.core(x, slopes, intercepts)

    @mutant(drops="scaled-alike", side="left")
    def scaled_afterwards(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The leaky unit of x is multiplied by 1−a, whatever its sign is."""
        return (1 - slope) * leaky_relu.core(x, slope)

    @equivalent("the larger of two numbers does not depend on their order")
    def pieces_exchanged(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The leak is the first piece."""
        slopes = torch.cat([slope, torch.ones_like(slope)]).expand(d.B, -1)
        return (1 - slope) * dynamic_relu_a.core(x, slopes, torch.zeros_like(slopes))


class PreluIsDynamicReluB(_Leak):
    """Parametric ReLU with slopes a ≤ 1 is dynamic ReLU B, in every image, with the slopes 1 and a.

    Intercepts are zero. What is the same for every a: 1−a times the larger of x and ax is the parametric unit
    of (1−a)x, channel by channel. A positive factor 1−a may be taken out of the latter.
    """

    name = "prelu-is-dynamic-relu"
    operators = ("prelu", "dynamic_relu_b")
    source = f"{CHEN}; He et al. 2015, ICCV, arXiv 1502.01852, eq. (1)"
    corrects = "prelu-is-dynamic-relu-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "first-slope-one": "the other slope is one",
        "no-intercepts": "the intercepts are zero",
        "per-channel": "every channel has a slope of its own",
        "scaled-alike": "what goes into one comes out of the other with the factor 1−a",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the slopes."""
        return {"x": (d.B, d.C, d.H, d.W), "slope": (d.C,)}

    def left(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """Rectify (1−a)x with a slope per channel."""
        return prelu.core((1 - slope[:, None, None]) * x, slope)

    def with_pieces(self, d: Dims, x: Tensor, slope: Tensor, first: int, intercept: int) -> Tensor:
        """Take the larger of first·x and slope·x + intercept, 1−a times."""
        slopes = torch.stack([torch.full_like(slope, first), slope])
        intercepts = torch.tensor([0, intercept])[:, None].expand(2, d.C)
        return (1 - slope[:, None, None]) * largest_of(d, x, slopes, intercepts)

    @mutant(drops="per-channel")
    def slope_of_the_first_channel(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """All channels have the slope of the first."""
        return self.right(d, x, slope[:1].expand_as(slope))

    @mutant(drops="scaled-alike", side="left")
    def scaled_afterwards(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """The parametric unit of x is multiplied by 1−a, whatever its sign is."""
        return (1 - slope[:, None, None]) * prelu.core(x, slope)


class PreluIsDynamicReluAsStated(Claim):
    """Parametric ReLU is dynamic ReLU B with the slopes 1 and a and no intercepts, whatever a has become."""

    name = "prelu-is-dynamic-relu-as-stated"
    expected = "refuted"
    operators = ("prelu", "dynamic_relu_b")
    source = SAID
    shapes = (Dims(B=2, C=3, H=3, W=4), Dims(B=2, C=3, H=1, W=5))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the slopes."""
        return {"x": (d.B, d.C, d.H, d.W), "slope": (d.C,)}

    def left(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """Rectify with a slope per channel."""
        return prelu.core(x, slope)

    def right(self, d: Dims, x: Tensor, slope: Tensor) -> Tensor:
        """Take the larger of x and slope·x, in every image."""
        return largest_of(d, x, torch.stack([torch.ones_like(slope), slope]), torch.zeros(2, d.C))


class DynamicReluSlopesStayBelowOne(Claim):
    """The second slope of dynamic ReLU, 2σ(z)−1, stays between −1 and 1 and reaches neither.

    |2σ(z)−1| ≤ 1 − e^−|z| < 1. So with its default ranges it does not hold the identity, the absolute value
    or any steeper leak, which a parametric ReLU can learn.
    """

    name = "dynamic-relu-slopes-stay-below-one"
    kind = "inequality"
    operators = ("dynamic_relu_b",)
    source = f"{CHEN}: residuals are normalised by 2σ(z)−1 and λ_a = 1"
    conditions: ClassVar[Mapping[str, str]] = {
        "sigmoid": "the residual is 2σ(z)−1",
        "range-of-one": "it is not scaled, λ_a = 1, and starts from α² = 0",
    }
    shapes = (Dims(C=24), Dims(C=5), Dims(C=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what the hyper function says of every channel; the construction takes it for e = e^−|z|."""
        return {"z": (d.C,)}

    def left(self, d: Dims, z: Tensor) -> Tensor:
        """(1−e)(1+e), which is 1+e times the bound."""
        return (1 - z) * (1 + z)

    def right(self, d: Dims, z: Tensor) -> Tensor:
        """(1−e) + e(1−e): 1+e times |2σ(z)−1|, and what is not negative for 0 < e ≤ 1."""
        return (1 - z) + z * (1 - z)

    def lesser(self, d: Dims, z: Tensor) -> Tensor:
        """The size of the second slope, read off the layer."""
        return second_slope_sizes(d, z)

    def greater(self, d: Dims, z: Tensor) -> Tensor:
        """1 − e^−|z|."""
        return 1 - torch.exp(-z.abs())

    @mutant(drops="range-of-one", side="lesser")
    def starting_from_one(self, d: Dims, z: Tensor) -> Tensor:
        """The first slope, which starts from one, is looked at."""
        return first_slopes(d, z)

    @mutant(drops="sigmoid", side="lesser")
    def the_number_itself(self, d: Dims, z: Tensor) -> Tensor:
        """The residual is z."""
        return z.abs()

    @mutant(drops="range-of-one", side="lesser", sparse=True)
    def one_slope_doubled(self, d: Dims, z: Tensor) -> Tensor:
        """The last slope is scaled by two."""
        sizes = second_slope_sizes(d, z)
        sizes[-1] = 2 * sizes[-1]
        return sizes

    @mutant(side="right")
    def another_factor(self, d: Dims, z: Tensor) -> Tensor:
        """What is left is said to be e."""
        return (1 - z) + z


class DynamicReluOfOnePieceIsChannelGate(IsChannelGate):
    """Dynamic ReLU B with one piece and no intercept is the channel gate of squeeze-and-excitation.

    What makes slopes or gates is left open; the layers that make them have other ranges.
    """

    name = "dynamic-relu-of-one-piece-is-channel-gate"
    operators = ("dynamic_relu_b", "squeeze_excite")
    source = f"{CHEN}; Hu et al. 2018, CVPR, arXiv 1709.01507, eq. (4); {SAID}"
    conditions: ClassVar[Mapping[str, str]] = {
        "one-piece": "there is one piece",
        "no-intercept": "its intercept is zero",
        "per-image": "every image has slopes of its own",
        "per-channel": "every channel has a slope of its own",
    }
    shapes = (Dims(B=4, C=7, H=3, W=4), Dims(B=2, C=3, H=1, W=5), Dims(B=1, C=64, H=14, W=14))
    complete_shapes = (Dims(B=2, C=2, H=2, W=1),)
    algebra = "max_{k=1} {a[c]·x[c] + 0} = a[c]·x[c]"

    def left(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Take the larger of one piece."""
        return dynamic_relu_b.core(x, gate[:, None], torch.zeros_like(gate[:, None]))

    @mutant(drops="one-piece", side="left")
    def two_pieces(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The second piece is zero."""
        slopes = torch.stack([gate, torch.zeros_like(gate)], 1)
        return dynamic_relu_b.core(x, slopes, torch.zeros_like(slopes))

    @mutant(drops="no-intercept", side="left")
    def intercept_of_one(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The intercept is one."""
        return dynamic_relu_b.core(x, gate[:, None], torch.ones_like(gate[:, None]))

    @mutant(drops="no-intercept", side="left", sparse=True)
    def intercept_of_one_channel(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The intercept of the last channel of the last image is one."""
        intercept = torch.zeros_like(gate[:, None])
        intercept[-1, 0, -1] = 1
        return dynamic_relu_b.core(x, gate[:, None], intercept)


class SqueezeExciteIsHalfADynamicRelu(_Hyper):
    """Squeeze-and-excitation is half of dynamic ReLU B with one piece, no intercept and the same layers.

    The slope 1 + (2σ(z)−1) = 2σ(z) lies between 0 and 2, the gate σ(z) between 0 and 1. They would be the
    same with α = λ_a = ½ in place of one.
    """

    name = "squeeze-excite-is-dynamic-relu-of-one-piece"
    operators = ("dynamic_relu_b", "squeeze_excite")
    source = f"{CHEN}: a = α + λ_a·Δa with α = λ_a = 1; Hu et al. 2018, CVPR, arXiv 1709.01507, eq. (3)"
    corrects = "squeeze-excite-is-dynamic-relu-of-one-piece-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "halved": "the slope starts from one half and moves by at most one half",
        "no-intercept": "the intercept is zero",
        "same-layers": "of the slope the layers say what squeeze-and-excitation's say of the gate",
        "same-squeeze": "they read the mean of the map that is scaled",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the layers of squeeze-and-excitation."""
        return self.hyper(d, d.C)

    def left(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Take the larger of one piece, whose slope is ½ + ½Δ."""
        return self.of_one_piece(x, said(x, **layers), 0.5, 0.5)

    def right(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Squeeze, excite, scale."""
        return squeeze_excite.module(x, **layers)

    def of_one_piece(self, x: Tensor, z: Tensor, start: float, scale: float, intercept: float = 0) -> Tensor:
        """Take the larger of one piece with the slope α + λ·(2σ(z)−1)."""
        slope = start + scale * (2 * torch.sigmoid(z[:, None]) - 1)
        return dynamic_relu_b.core(x, slope, torch.full_like(slope, intercept))

    @mutant(drops="halved", side="left")
    def default_range(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The slope starts from one and moves by at most one."""
        return self.of_one_piece(x, said(x, **layers), 1, 1)

    @mutant(drops="halved", side="left")
    def start_of_one(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The slope starts from one and moves by at most one half."""
        return self.of_one_piece(x, said(x, **layers), 1, 0.5)

    @mutant(drops="no-intercept", side="left")
    def intercept_of_one(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The intercept is one."""
        return self.of_one_piece(x, said(x, **layers), 0.5, 0.5, 1)

    @mutant(drops="same-layers")
    def channels_in_another_order(
        self, d: Dims, x: Tensor, expand: Tensor, expand_bias: Tensor, **reduction: Tensor
    ) -> Tensor:
        """The gates are those of the channels before."""
        turned = {"expand": expand.roll(1, 0), "expand_bias": expand_bias.roll(1, 0)}
        return squeeze_excite.module(x, **reduction, **turned)

    @mutant(drops="same-squeeze", side="left")
    def squeezed_from_another_image(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The slopes are made from the map of the image before."""
        return self.of_one_piece(x, said(x.roll(1, 0), **layers), 0.5, 0.5)

    @mutant(sparse=True)
    def one_position_kept(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The last position of the last image is not scaled."""
        output = self.right(d, x, **layers)
        output[-1, :, -1, -1] = x[-1, :, -1, -1]
        return output

    @equivalent("what is scaled by 2σ is twice what is scaled by σ", side="left")
    def half_of_the_default(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The range is the default one, and the output halved."""
        return self.of_one_piece(x, said(x, **layers), 1, 1) / 2


class SqueezeExciteIsDynamicReluAsStated(_Hyper):
    """Squeeze-and-excitation is dynamic ReLU B with one piece and no intercept."""

    name = "squeeze-excite-is-dynamic-relu-of-one-piece-as-stated"
    expected = "refuted"
    operators = ("dynamic_relu_b", "squeeze_excite")
    source = SAID

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the layers of squeeze-and-excitation."""
        return self.hyper(d, d.C)

    def left(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Take the larger of one piece, generated with zeros for its intercept."""
        return one_piece(x, 0, **layers)

    def right(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Squeeze, excite, scale."""
        return squeeze_excite.module(x, **layers)


class SlopesOfOnePieceLieBelowTwo(Claim):
    """A slope of dynamic ReLU with one piece lies between zero and two, twice as far up as a gate.

    2σ(z) = 2/(1 + e^−z) < 2: where z is positive, it is larger than one, which no gate is.
    """

    name = "slopes-of-one-piece-lie-between-zero-and-two"
    kind = "inequality"
    operators = ("dynamic_relu_b", "squeeze_excite")
    source = SqueezeExciteIsHalfADynamicRelu.source
    conditions: ClassVar[Mapping[str, str]] = {"from-one": "the slope starts from one, α = λ_a = 1"}
    shapes = (Dims(C=12), Dims(C=5), Dims(C=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what the layers say of every channel; the construction takes it for e = e^−z."""
        return {"z": (d.C,)}

    def left(self, d: Dims, z: Tensor) -> Tensor:
        """2·(1+e), which is 1+e times the upper bound."""
        return 2 * (1 + z)

    def right(self, d: Dims, z: Tensor) -> Tensor:
        """2 + 2e: 1+e times the slope 2/(1+e), and what is left, which is positive."""
        return 2 + 2 * z

    def lesser(self, d: Dims, z: Tensor) -> Tensor:
        """Zero below gates, gates below slopes, one below slopes of positive numbers; slopes below two."""
        gates = gates_of(d, z)
        return torch.cat([torch.zeros_like(gates), gates, (z > 0).double(), first_slopes(d, z)])

    def greater(self, d: Dims, z: Tensor) -> Tensor:
        """The gates, the slopes, the slopes again, and two."""
        slopes = first_slopes(d, z)
        return torch.cat([gates_of(d, z), slopes, slopes, torch.full_like(z, 2)])

    @mutant(drops="from-one", side="greater")
    def starting_from_zero(self, d: Dims, z: Tensor) -> Tensor:
        """The slopes start from zero."""
        slopes = first_slopes(d, z) - 1
        return torch.cat([gates_of(d, z), slopes, slopes, torch.full_like(z, 2)])

    @mutant(side="greater")
    def as_a_gate(self, d: Dims, z: Tensor) -> Tensor:
        """The slopes are the gates."""
        gates = gates_of(d, z)
        return torch.cat([gates, gates, gates, torch.full_like(z, 2)])

    @mutant(side="greater", sparse=True)
    def one_slope_as_a_gate(self, d: Dims, z: Tensor) -> Tensor:
        """The slope of the largest number is half its gate."""
        slopes, gates = first_slopes(d, z), gates_of(d, z)
        slopes[z.argmax()] = 0.5 * gates[z.argmax()]
        return torch.cat([gates, first_slopes(d, z), slopes, torch.full_like(z, 2)])


class DynamicReluAIsInB(_Hyper):
    """Dynamic ReLU A is dynamic ReLU B whose last layer says the same of all channels."""

    name = "dynamic-relu-a-is-in-b"
    operators = ("dynamic_relu_a", "dynamic_relu_b")
    source = f"{CHEN}: form A is spatial and channel-shared, form B spatial-shared and channel-wise"
    conditions: ClassVar[Mapping[str, str]] = {
        "tied-channels": "the rows of the last layer that belong to a piece are the same for all channels",
        "slopes-first": "the first half of the rows makes slopes, the second intercepts",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the layers of form A with two pieces."""
        return self.hyper(d, 4)

    def left(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """Generate the pieces for the image."""
        return dynamic_relu_a.module(x, **layers)

    def right(self, d: Dims, x: Tensor, expand: Tensor, expand_bias: Tensor, **reduction: Tensor) -> Tensor:
        """Generate them for every channel, by the same rows."""
        rows = {"expand": expand.repeat_interleave(d.C, 0), "expand_bias": expand_bias.repeat_interleave(d.C)}
        return dynamic_relu_b.module(x, **reduction, **rows)

    @mutant(drops="tied-channels")
    def last_channel_on_its_own(
        self, d: Dims, x: Tensor, expand: Tensor, expand_bias: Tensor, **reduction: Tensor
    ) -> Tensor:
        """The bias of the last channel's second intercept is larger by one."""
        biases = expand_bias.repeat_interleave(d.C)
        biases = biases + F.pad(torch.ones(1, dtype=x.dtype), (4 * d.C - 1, 0))
        return dynamic_relu_b.module(
            x, **reduction, expand=expand.repeat_interleave(d.C, 0), expand_bias=biases
        )

    @mutant()
    def channels_first(
        self, d: Dims, x: Tensor, expand: Tensor, expand_bias: Tensor, **reduction: Tensor
    ) -> Tensor:
        """The rows of a channel come one after another, as in github.com/Islanna/DynamicReLU."""
        rows = {"expand": expand.repeat(d.C, 1), "expand_bias": expand_bias.repeat(d.C)}
        return dynamic_relu_b.module(x, **reduction, **rows)

    @mutant(drops="slopes-first")
    def intercepts_first(self, d: Dims, x: Tensor, expand: Tensor, **layers: Tensor) -> Tensor:
        """The weights of slopes and intercepts are exchanged."""
        return self.right(d, x, expand=expand.roll(2, 0), **layers)

    @mutant(sparse=True)
    def one_position_kept(self, d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
        """The last position of the last image is kept as it is."""
        output = self.right(d, x, **layers)
        output[-1, :, -1, -1] = x[-1, :, -1, -1]
        return output


class DynamicReluBIsInC(Claim):
    """Dynamic ReLU B is dynamic ReLU C where every position has the weight one.

    Its weights as published never are: at most a third of the positions can have the weight one.
    """

    name = "dynamic-relu-b-is-in-c"
    operators = ("dynamic_relu_b", "dynamic_relu_c")
    source = f"{CHEN}: form C multiplies slopes and intercepts by a weight of the position"
    conditions: ClassVar[Mapping[str, str]] = {
        "weight-one": "every position has the weight one",
        "both-weighed": "the weight scales slopes and intercepts",
    }
    shapes = (Dims(B=4, C=6, H=2, W=8), Dims(B=2, C=3, H=1, W=5), Dims(B=1, C=16, H=14, W=14))
    complete_shapes = (Dims(B=2, C=2, H=1, W=2),)
    algebra = "max_k {1·a[k]·x + 1·b[k]} = max_k {a[k]·x + b[k]}"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, and slopes and intercepts of two pieces."""
        return {"x": (d.B, d.C, d.H, d.W), "slope": (d.B, 2, d.C), "intercept": (d.B, 2, d.C)}

    def left(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Take the larger piece of every channel."""
        return dynamic_relu_b.core(x, slope, intercept)

    def right(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Take the larger piece of every channel, weighed by one at every position."""
        return dynamic_relu_c.core(x, slope, intercept, torch.ones_like(x[:, 0]))

    @mutant(drops="weight-one")
    def weight_of_a_half(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Every position has the weight one half."""
        return dynamic_relu_c.core(x, slope, intercept, torch.full_like(x[:, 0], 0.5))

    @mutant(drops="weight-one", sparse=True)
    def one_position_without_weight(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """The last position of the last image has the weight zero."""
        attention = torch.ones_like(x[:, 0])
        attention[-1, -1, -1] = 0
        return dynamic_relu_c.core(x, slope, intercept, attention)

    @mutant(drops="both-weighed")
    def slopes_doubled(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """The weight is two, and only the intercepts are halved before."""
        return dynamic_relu_c.core(x, slope, intercept / 2, torch.full_like(x[:, 0], 2))


class WeightsOfDynamicReluC(Claim):
    """The weights of dynamic ReLU C sum to at most a third of the number of positions.

    π = min{HW/3·softmax, 1} is at most HW/3 times a softmax, which sums to one. So at most a third of the
    positions can have the weight one, and form C never is form B.
    """

    name = "weights-of-dynamic-relu-c-sum-to-a-third-of-the-positions"
    kind = "inequality"
    operators = ("dynamic_relu_c",)
    source = f"{CHEN}: π = min{{γ·softmax(z/τ), 1}} with γ = HW/3"
    conditions: ClassVar[Mapping[str, str]] = {
        "softmax": "the softmax is taken over the positions of an image",
        "a-third": "γ is a third of the number of positions",
    }
    shapes = (Dims(B=24, H=3, W=4, tau=1), Dims(B=4, H=2, W=5, tau=1), Dims(B=2, H=4, W=1, tau=10))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return maps of one channel; the construction takes them for the exponentials of their softmax."""
        return {"x": (d.B, 1, d.H, d.W)}

    def left(self, d: Dims, x: Tensor) -> Tensor:
        """Σ e as the layer without a limit would sum it up: maps of one, with e for their weights."""
        ones = torch.ones(d.B, 1, 1, dtype=x.dtype)
        return dynamic_relu_c.core(torch.ones_like(x), ones, torch.zeros_like(ones), x[:, 0]).sum((1, 2, 3))

    def right(self, d: Dims, x: Tensor) -> Tensor:
        """Σ e, by which a softmax divides: without the limit 1 the weights sum to γ, with it to no more."""
        return x.flatten(1).sum(1)

    def lesser(self, d: Dims, x: Tensor) -> Tensor:
        """Three times the sum of the weights of every image."""
        return 3 * weights_of(d, x, d.tau).sum((1, 2))

    def greater(self, d: Dims, x: Tensor) -> Tensor:
        """The number of positions."""
        return torch.full((d.B,), d.H * d.W)

    @mutant(drops="softmax", side="lesser")
    def sigmoids(self, d: Dims, x: Tensor) -> Tensor:
        """The weights are sigmoids."""
        return 3 * torch.sigmoid(x).sum((1, 2, 3))

    @mutant(drops="a-third", side="greater")
    def a_quarter(self, d: Dims, x: Tensor) -> Tensor:
        """γ is said to be a quarter of the number of positions."""
        return torch.full((d.B,), d.H * d.W * 3 / 4)

    @mutant(drops="a-third", side="greater", sparse=True)
    def a_quarter_of_one_image(self, d: Dims, x: Tensor) -> Tensor:
        """γ is said to be a hundredth of the number of positions in the last image."""
        numbers = torch.full((d.B,), d.H * d.W, dtype=x.dtype)
        numbers[-1] *= 0.03
        return numbers


class MaxoutWithDiagonalWeights(Claim):
    """A maxout layer whose matrices are diagonal is dynamic ReLU B with static slopes and intercepts.

    K pieces of maxout are any linear functions of all channels, K pieces of dynamic ReLU are K lines in one
    channel. So of maxout it holds, for fixed images, the layers with diagonal matrices.
    """

    name = "maxout-is-dynamic-relu"
    operators = ("pointwise_conv2d", "dynamic_relu_b")
    source = f"{CHEN}; Goodfellow et al. 2013, ICML, arXiv 1302.4389, section 3"
    corrects = "maxout-is-dynamic-relu-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "diagonal": "a piece reads the channel that it is compared in, and no other",
        "static": "all images have the same pieces",
    }
    shapes = (
        Dims(B=4, C=6, H=2, W=8, pieces=2),
        Dims(B=2, C=3, H=1, W=5, pieces=3),
        Dims(B=1, C=8, H=4, W=4, pieces=2),
    )
    complete_shapes = (Dims(B=2, C=2, H=1, W=2, pieces=2),)
    algebra = "Σ_e W[k, c, e]·x[e] + b[k, c] = a[k, c]·x[c] + b[k, c] where W[k, c, e] = [c=e]·a[k, c]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, and slopes and intercepts of the pieces."""
        return {"x": (d.B, d.C, d.H, d.W), "slope": (d.pieces, d.C), "intercept": (d.pieces, d.C)}

    def left(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Take the largest of several 1×1 convolutions, whose matrices are diagonal."""
        return maxout(x, torch.diag_embed(slope), intercept)

    def right(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Take the largest piece of every channel, in every image."""
        return largest_of(d, x, slope, intercept)

    @mutant(drops="diagonal", side="left")
    def one_entry_off_the_diagonal(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """In the first piece the first channel is added to the last."""
        corner = F.pad(torch.ones(1, 1, 1, dtype=x.dtype), (0, d.C - 1, d.C - 1, 0, 0, d.pieces - 1))
        return maxout(x, torch.diag_embed(slope) + corner, intercept)

    @mutant(drops="static")
    def slopes_doubled_in_one_image(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """In the first image all slopes are doubled."""
        factors = torch.ones(d.B, 1, 1, dtype=x.dtype)
        factors[0] = 2
        return dynamic_relu_b.core(x, slope * factors, intercept.expand(d.B, -1, -1))

    @mutant(side="left")
    def pieces_added(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """The pieces are added up."""
        return pointwise_conv2d.core(x, torch.diag(slope.sum(0))) + intercept.sum(0)[:, None, None]

    @mutant(sparse=True)
    def one_position_kept(self, d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """The last position of the last image is kept as it is."""
        output = self.right(d, x, slope, intercept)
        output[-1, :, -1, -1] = x[-1, :, -1, -1]
        return output


class MaxoutAsStated(Claim):
    """Maxout is dynamic ReLU B with static slopes and intercepts: both take the largest linear function.

    The slopes are what the matrices of maxout have on their diagonals.
    """

    name = "maxout-is-dynamic-relu-as-stated"
    expected = "refuted"
    operators = ("pointwise_conv2d", "dynamic_relu_b")
    source = SAID
    shapes = MaxoutWithDiagonalWeights.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, and the matrices and intercepts of the pieces."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.pieces, d.C, d.C), "intercept": (d.pieces, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, intercept: Tensor) -> Tensor:
        """Take the largest of several 1×1 convolutions."""
        return maxout(x, weight, intercept)

    def right(self, d: Dims, x: Tensor, weight: Tensor, intercept: Tensor) -> Tensor:
        """Take the largest piece of every channel, in every image."""
        return largest_of(d, x, weight.diagonal(dim1=1, dim2=2), intercept)


class DynamicReluCParameters(Claim):
    """Dynamic ReLU C learns C²/R + C/R + 2KC·(C/R+1) + C + 1 numbers, however large the map is.

    Of the 2KHWC slopes and intercepts that act on an image it computes 2KC and a weight for each of HW
    positions; all of them are products of these.
    """

    name = "dynamic-relu-c-parameters"
    kind = "inequality"
    operators = ("dynamic_relu_c",)
    source = f"{CHEN}: form C is computed from 2KC outputs and HW weights"
    corrects = "dynamic-relu-c-parameters-as-stated"
    conditions: ClassVar[Mapping[str, str]] = {
        "learned": "what is learned is counted, not what the layer computes of it",
        "factored": "slopes and intercepts are products of a channel's and a position's",
    }
    shapes = (
        Dims(B=4, C=6, H=2, W=8, R=2, pieces=2),
        Dims(B=2, C=4, H=3, W=5, R=4, pieces=3),
        Dims(B=1, C=16, H=14, W=14, R=8, pieces=2),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, slopes and intercepts of every channel, and the weights of the positions."""
        shape = d.B, d.pieces, d.C
        maps = {"x": (d.B, d.C, d.H, d.W), "attention": (d.B, d.H, d.W)}
        return {**maps, "slope": shape, "intercept": shape}

    def left(self, d: Dims, x: Tensor, attention: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Weigh slopes and intercepts, and take the largest piece."""
        return dynamic_relu_c.core(x, slope, intercept, attention)

    def right(self, d: Dims, x: Tensor, attention: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
        """Take the largest of lines with 2KHWC coefficients, all products of 2KC and HW numbers."""
        slopes, intercepts = (
            torch.einsum("bkc,bhw->bkchw", lines, attention) for lines in (slope, intercept)
        )
        return largest(slopes * x[:, None] + intercepts)

    def lesser(self, d: Dims, **_: Tensor) -> Tensor:
        """What is learned, for this map, for a larger one, and by the formula; and what is computed."""
        larger = d.replace(H=2 * d.H, W=3 * d.W)
        return torch.tensor([learned(d), learned(larger), by_formula(d), computed(d)])

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """The same in turn, so that they are equal; and what acts."""
        return torch.tensor([by_formula(d), learned(d), learned(d), acting(d)])

    @mutant(drops="learned", side="lesser")
    def computed_numbers_counted(self, d: Dims, **_: Tensor) -> Tensor:
        """Slopes and intercepts of all positions are counted as learned."""
        return torch.tensor([learned(d) + acting(d), 0, 0, 0])

    @mutant(drops="factored", side="right")
    def one_weight_for_all_positions(
        self, d: Dims, x: Tensor, attention: Tensor, slope: Tensor, intercept: Tensor
    ) -> Tensor:
        """All positions have the weight of the first."""
        first = attention[:, :1, :1].expand_as(attention)
        return self.right(d, x, first, slope, intercept)

    @mutant(sparse=True)
    def one_position_kept(
        self, d: Dims, x: Tensor, attention: Tensor, slope: Tensor, intercept: Tensor
    ) -> Tensor:
        """The last position of the last image is kept as it is."""
        output = self.right(d, x, attention, slope, intercept)
        output[-1, :, -1, -1] = x[-1, :, -1, -1]
        return output


class DynamicReluCParametersAsStated(Claim):
    """Dynamic ReLU C, made directly, has 2KHWC parameters, and as it is made 2KC + HW."""

    name = "dynamic-relu-c-parameters-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dynamic_relu_c",)
    source = (
        "said where dynamic ReLU is introduced, such as at 0809zheng.github.io/2021/10/27/dyrelu.html: form "
        "C needs 2KCHW parameters, reduced to 2KC+HW"
    )
    shapes = DynamicReluCParameters.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps."""
        return {"x": (d.B, d.C, d.H, d.W)}

    def lesser(self, d: Dims, **_: Tensor) -> Tensor:
        """What is learned, and 2KC + HW."""
        return torch.tensor([learned(d), computed(d)])

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """The same in turn, as if they were equal."""
        return torch.tensor([computed(d), learned(d)])


def starting(d: Dims, x: Tensor) -> Mapping[str, Tensor]:
    """Return slopes 1 and 0 and intercepts 0 for every image and channel, and weights of one."""
    slope = torch.tensor([1, 0], dtype=x.dtype)[:, None].expand(d.B, 2, d.C)
    attention = torch.ones(d.B, d.H, d.W, dtype=x.dtype)
    return {"x": x, "slope": slope, "intercept": torch.zeros_like(slope), "attention": attention}


def last_layer(d: Dims, channels: int, weight: int, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return a last layer of zeros but for the rows of the first slope, which are given."""
    first = torch.tensor([1, 0, 0, 0]).repeat_interleave(channels).double()
    return (weight * first)[:, None].expand(-1, d.C // d.R), bias * first


def largest_of(d: Dims, x: Tensor, slope: Tensor, intercept: Tensor) -> Tensor:
    """Apply dynamic ReLU B with slopes and intercepts [pieces, C] that all images share."""
    pieces = (part.to(x.dtype).expand(d.B, -1, -1) for part in (slope, intercept))
    return dynamic_relu_b.core(x, *pieces)


def largest(lines: Tensor) -> Tensor:
    """Take the largest along the second axis, two at a time."""
    found, *others = lines.unbind(1)
    for line in others:
        found = torch.maximum(found, line)
    return found


def maxout(x: Tensor, weight: Tensor, intercept: Tensor) -> Tensor:
    """Take the largest of 1×1 convolutions [pieces, C, C] with intercepts [pieces, C]."""
    lines = [
        pointwise_conv2d.core(x, matrix) + shift[:, None, None]
        for matrix, shift in zip(weight.unbind(), intercept.unbind(), strict=True)
    ]
    return largest(torch.stack(lines, 1))


def one_piece(x: Tensor, intercept: int = 0, **layers: Tensor) -> Tensor:
    """Apply dynamic ReLU B with one piece: the layers make slopes, and are constant for the intercepts."""
    rows, biases = layers["expand"], layers["expand_bias"]
    return dynamic_relu_b.module(
        x,
        layers["reduce"],
        layers["reduce_bias"],
        torch.cat([rows, torch.zeros_like(rows)]),
        torch.cat([biases, torch.full_like(biases, intercept)]),
    )


def saying(d: Dims, rows: Tensor) -> Mapping[str, Tensor]:
    """Return layers that say the same of every map: one hidden unit, which is one, and a row per output."""
    reduction = {"reduce": torch.zeros(1, d.C).double(), "reduce_bias": torch.ones(1).double()}
    return {**reduction, "expand": rows[:, None], "expand_bias": torch.zeros_like(rows)}


def first_slopes(d: Dims, z: Tensor) -> Tensor:
    """Read the slopes [C] of one piece for given logits off a map of ones."""
    ones = torch.ones(1, d.C, 1, 1, dtype=z.dtype)
    return dynamic_relu_b.module(ones, **saying(d, torch.cat([z, torch.zeros_like(z)]))).flatten()


def second_slope_sizes(d: Dims, z: Tensor) -> Tensor:
    """Read the sizes of the second slopes [C] off maps of one and of minus one.

    The first slope is zero, so that the larger piece of the two maps is the second.
    """
    signs = torch.tensor([1.0, -1.0], dtype=z.dtype)[:, None, None, None].expand(2, d.C, 1, 1)
    none, vanishing = torch.zeros_like(z), torch.full_like(z, -800)
    layers = saying(d, torch.cat([vanishing, z, none, none]))
    return dynamic_relu_b.module(signs, **layers).amax(0).flatten()


def gates_of(d: Dims, z: Tensor) -> Tensor:
    """Read the gates [C] of given logits off a map of ones."""
    return squeeze_excite.module(torch.ones(1, d.C, 1, 1, dtype=z.dtype), **saying(d, z)).flatten()


def weights_of(d: Dims, x: Tensor, tau: float) -> Tensor:
    """Read the weights [B, H, W] that positions of maps of one channel have, from the maps, as their logits.

    One slope is one and everything else zero, so the layer multiplies positive maps by their weights.
    """
    positive = x - x.amin() + 1
    layers = {name: rows.to(x.dtype) for name, rows in saying(Dims(C=1), torch.zeros(4)).items()}
    position = torch.tensor([1.0, 0.0], dtype=x.dtype)
    return (dynamic_relu_c.module(positive, **layers, position=position, tau=tau) / positive)[:, 0]


def learned(d: Dims) -> int:
    """Count what dynamic ReLU C learns: all inputs of its module but the map."""
    return sum(math.prod(spec.shape) for name, spec in dynamic_relu_c.module_inputs(d).items() if name != "x")


def by_formula(d: Dims) -> int:
    """C²/R + C/R + 2KC·(C/R + 1) + C + 1."""
    hidden = d.C // d.R
    return int(d.C * hidden + hidden + 2 * d.pieces * d.C * (hidden + 1) + d.C + 1)


def acting(d: Dims) -> int:
    """Count the slopes and intercepts that act on an image."""
    return int(2 * d.pieces * d.H * d.W * d.C)


def computed(d: Dims) -> int:
    """Count the numbers that they are products of."""
    return int(2 * d.pieces * d.C + d.H * d.W)
