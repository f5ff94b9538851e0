"""Dynamic ReLU with one piece beside channel gates, and with fixed pieces beside maxout."""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..activation import dynamic_relu_b
from ..convolution import pointwise_conv2d
from ..gates import squeeze_excite
from .gates import IsChannelGate, said
from .rectifiers import CHEN, SAID, Hyper, first_slopes, largest, largest_of, saying


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


class SqueezeExciteIsHalfADynamicRelu(Hyper):
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


class SqueezeExciteIsDynamicReluAsStated(Hyper):
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


def gates_of(d: Dims, z: Tensor) -> Tensor:
    """Read the gates [C] of given logits off a map of ones."""
    return squeeze_excite.module(torch.ones(1, d.C, 1, 1, dtype=z.dtype), **saying(d, z)).flatten()
