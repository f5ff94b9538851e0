"""Dynamic ReLU and what it contains: rectifiers with fixed and with learned slopes, and form A in form B."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..activation import dynamic_relu_a, dynamic_relu_b, dynamic_relu_c, leaky_relu, prelu, relu

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


class Hyper(Claim):
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


class DynamicReluOfAZeroLayerIsRelu(Hyper):
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


class DynamicReluAIsInB(Hyper):
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
