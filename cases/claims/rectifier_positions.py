"""Dynamic ReLU C, which weighs positions: what its weights sum to, and what it learns."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from harness import Claim, Dims, mutant

from ..activation import dynamic_relu_b, dynamic_relu_c
from .rectifiers import CHEN, largest, saying


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
