"""Channel gates: where their scale may be moved, and which of them is another one."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, depthwise_conv2d, pointwise_conv2d
from ..dynamic import cond_conv2d, dynamic_depthwise_conv2d, inhomogeneous_depthwise_conv2d
from ..gates import gather_excite, squeeze_excite
from ..workloads import MAPS
from .corners import with_corner
from .index_sets import within

SE = "Hu et al. 2018, CVPR, arXiv 1709.01507"
GE = "Hu et al. 2018, NeurIPS, arXiv 1810.12348"
LINEAR = "follows from the linearity of convolution"


class GateBeforeConvolutionIsMixtureOfColumns(Claim):
    """A channel gate before a convolution is a mixture of kernels: one for each input channel.

    Kernel c is the static one with every input channel left out but c, and its weight is the gate s[c]. So
    the scale moves into the columns of the next linear map, W·diag(s).
    """

    name = "gate-before-convolution-is-mixture-of-columns"
    operators = ("squeeze_excite", "conv2d", "cond_conv2d")
    source = f"{LINEAR}; {SE}, eq. (4), Yang et al. 2019, arXiv 1904.04971, section 3"
    conditions: ClassVar[Mapping[str, str]] = {
        "columns-gated": "the gates weigh input channels",
        "per-image": "an image's kernel has the image's own gates",
        "nothing-between": "no bias and no activation stands between the gate and the convolution",
        "zero-padding": "what is padded is scaled as well, so it is zero",
    }
    # As many channels as outputs, so that the gates could weigh either. The largest map first, so that an
    # error at one position is seen where it is rare.
    shapes = (
        *(Dims(B=2, C=3, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4])),
        Dims(B=2, C=4, H=5, W=3, K=1),
        Dims(B=1, C=8, H=14, W=14, K=3),
    )
    complete_shapes = (Dims(B=2, C=2, H=2, W=1, K=3),)
    algebra = "Σ_c W[o, c]·(s[c]·x[c]) = Σ_c s[c]·(W[o, c]·x[c]), tap by tap"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the gates, and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "gate": (d.B, d.C), "weight": (d.C, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """Gate the map, then convolve it."""
        return conv2d.core(squeeze_excite.core(x, gate), weight)

    def right(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """Mix the columns of the kernel by the gates."""
        return cond_conv2d.core(x, columns(weight), gate)

    @mutant(drops="columns-gated")
    def rows_mixed(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """The gates weigh the rows of the kernel, as those of a gate behind it would."""
        return cond_conv2d.core(x, rows(weight), gate)

    @mutant(drops="per-image")
    def gates_of_another_image(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """Every image takes the gates of the one before."""
        return self.right(d, x, gate.roll(1, 0), weight)

    @mutant(drops="nothing-between", side="left")
    def bias_between(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """One is added to what is gated."""
        return conv2d.core(squeeze_excite.core(x, gate) + 1, weight)

    @mutant(drops="nothing-between", side="left")
    def squared_between(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """What is gated is squared."""
        return conv2d.core(squeeze_excite.core(x, gate).square(), weight)

    @mutant(drops="zero-padding", sparse=True)
    def one_corner_repeated(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor) -> Tensor:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        return self.right(d, with_corner(x), gate, weight)[..., 1:-1, 1:-1]


class GateAfterABiasIsMixtureOfRows(Claim):
    """A channel gate behind a 1×1 convolution with a bias is a mixture of its rows, with the bias gated too.

    s⊙(Wx + b) = (diag(s)·W)x + s⊙b. The scale moves into the rows of the linear map before it, and into its
    bias; a static bias in its place is another function.
    """

    name = "gate-after-a-bias-is-mixture-of-rows"
    operators = ("squeeze_excite", "pointwise_conv2d", "cond_conv2d")
    source = f"{LINEAR}; {SE}, eq. (4), Yang et al. 2019, arXiv 1904.04971, section 3"
    conditions: ClassVar[Mapping[str, str]] = {
        "bias-gated": "the bias is scaled by the gates as well",
        "rows-gated": "the gates weigh output channels",
        "per-image": "an image's kernel has the image's own gates",
    }
    shapes = (
        Dims(B=2, C=4, H=7, W=6),
        Dims(B=3, C=3, H=1, W=5),
        Dims(B=2, C=3, H=3, W=2),
        Dims(B=1, C=32, H=14, W=14),
    )
    complete_shapes = (Dims(B=2, C=2, H=1, W=2),)
    algebra = "s[o]·(Σ_c W[o, c]·x[c] + b[o]) = Σ_c s[o]·W[o, c]·x[c] + s[o]·b[o]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the gates, the matrix, and the bias."""
        return {"x": (d.B, d.C, d.H, d.W), "gate": (d.B, d.C), "weight": (d.C, d.C), "bias": (d.C,)}

    def left(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolve, add the bias, gate."""
        return squeeze_excite.core(pointwise_conv2d.core(x, weight) + bias[:, None, None], gate)

    def right(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Mix the rows of the matrix by the gates, and add the gated bias."""
        mixed = cond_conv2d.core(x, rows(weight[:, :, None, None]), gate)
        return mixed + (gate * bias)[:, :, None, None]

    @mutant(drops="bias-gated")
    def bias_as_it_is(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The bias is added as it is."""
        return self.right(d, x, gate, weight, torch.zeros_like(bias)) + bias[:, None, None]

    @mutant(drops="bias-gated", sparse=True)
    def bias_of_one_position_as_it_is(
        self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        """At the last position the bias is added as it is."""
        output = self.right(d, x, gate, weight, bias)
        output[..., -1, -1] = output[..., -1, -1] + bias - gate * bias
        return output

    @mutant(drops="rows-gated")
    def columns_mixed(self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The gates weigh the columns of the matrix, as those of a gate before it would."""
        mixed = cond_conv2d.core(x, columns(weight[:, :, None, None]), gate)
        return mixed + (gate * bias)[:, :, None, None]

    @mutant(drops="per-image")
    def gates_of_another_image(
        self, d: Dims, x: Tensor, gate: Tensor, weight: Tensor, bias: Tensor
    ) -> Tensor:
        """Every image takes the gates of the one before."""
        return self.right(d, x, gate.roll(1, 0), weight, bias)


class IsChannelGate(Claim):
    """With one number per image and channel, ``left`` is the scale of squeeze-and-excitation."""

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the gates."""
        return {"x": (d.B, d.C, d.H, d.W), "gate": (d.B, d.C)}

    def right(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Scale the channels."""
        return squeeze_excite.core(x, gate)

    @mutant(drops="per-image")
    def gates_of_another_image(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Every image takes the gates of the one before."""
        return self.right(d, x, gate.roll(1, 0))

    @mutant(drops="per-channel")
    def one_gate_per_image(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """All channels take the gate of the first."""
        return self.right(d, x, gate[:, :1].expand_as(gate))


class GateOfOneCellIsChannelGate(IsChannelGate):
    """Gather-excite with one cell for the whole map scales it as squeeze-and-excitation does.

    What gathers the gate is left open.
    """

    name = "gather-excite-of-one-cell-is-squeeze-excite"
    operators = ("gather_excite", "squeeze_excite")
    source = f"{GE}, section 3, its global extent; {SE}, eq. (4)"
    conditions: ClassVar[Mapping[str, str]] = {
        "one-cell": "the whole map is one cell",
        "per-image": "every image has gates of its own",
        "per-channel": "every channel has a gate of its own",
    }
    shapes = (
        Dims(B=2, C=3, H=7, W=6),
        Dims(B=3, C=4, H=1, W=5),
        Dims(B=2, C=2, H=3, W=2),
        Dims(B=1, C=64, H=14, W=14),
    )
    complete_shapes = (Dims(B=2, C=2, H=1, W=2),)
    algebra = "gate[⌊i·1/H⌋, ⌊j·1/W⌋] = gate[0, 0]"

    def left(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Scale the only cell."""
        return gather_excite.core(x, gate[:, :, None, None])

    @mutant(drops="one-cell", side="left")
    def two_cells(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The right half of the map has the gate of the next channel."""
        return gather_excite.core(x, torch.stack([gate, gate.roll(1, 1)], 2)[:, :, None])

    @mutant(drops="one-cell", side="left", sparse=True)
    def a_cell_of_one_position(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """The last position is a cell of its own, of twice the gate."""
        cells = gate[:, :, None, None].expand(-1, -1, d.H, d.W).clone()
        cells[..., -1, -1] = 2 * gate
        return gather_excite.core(x, cells)

    @equivalent("cells that all have the same gate are one cell", side="left")
    def every_position_a_cell(self, d: Dims, x: Tensor, gate: Tensor) -> Tensor:
        """Every position is a cell, and all of them have the gate of the channel."""
        return gather_excite.core(x, gate[:, :, None, None].expand(-1, -1, d.H, d.W))

    @lemma
    def a_position_has_a_cell(self, z3: Any) -> Lemma:
        """Of h cells along an axis of H positions, position i has the one ⌊ih/H⌋, which is 0 if h = 1."""
        i, H, h, cell = z3.Ints("i H h cell")
        return Lemma(
            {
                "a position": within(z3, i, H),
                "nearest": within(z3, i * h, H, first=cell * H),
                "cells": h >= 1,
            },
            z3.And(within(z3, cell, h), z3.Implies(h == 1, cell == 0)),
        )


class GatedCellsAfterDepthwiseAreInhomogeneous(Claim):
    """Gather-excite behind a depthwise convolution is an inhomogeneous dynamic depthwise convolution.

    The kernel of channel c at position (i, j) is gate[c, ⌊ih/H⌋, ⌊jw/W⌋]·w[c]: within a cell all positions
    have the same one. Unlike the gate of a whole map it does not move before the convolution, because a
    kernel at the border of a cell reads the next one.
    """

    name = "gated-cells-after-depthwise-are-inhomogeneous-depthwise"
    operators = ("depthwise_conv2d", "gather_excite", "inhomogeneous_depthwise_conv2d")
    source = f"{LINEAR}; {GE}, section 3"
    conditions: ClassVar[Mapping[str, str]] = {
        "behind": "the gate stands behind the convolution",
        "per-cell": "every cell has a gate of its own",
        "per-image": "every image has gates of its own",
        "per-channel": "a channel's kernel is scaled by its own gate",
        "zero-padding": "what is padded is zero",
    }
    # h×w cells, some of them larger than others.
    shapes = (
        Dims(B=2, C=3, H=7, W=6, K=3, h=3, w=2),
        Dims(B=2, C=4, H=2, W=5, K=3, h=2, w=3),
        Dims(B=2, C=2, H=1, W=4, K=3, h=1, w=2),
        Dims(B=1, C=16, H=14, W=14, K=5, h=4, w=4),
    )
    complete_shapes = (Dims(B=2, C=2, H=2, W=1, K=3, h=2, w=1),)
    algebra = "gate[i, j]·Σ_uv w[u, v]·x[i+u−p, j+v−p] = Σ_uv (gate[i, j]·w[u, v])·x[i+u−p, j+v−p]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the kernels, and the gates of the cells."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.C, d.K, d.K), "gate": (d.B, d.C, d.h, d.w)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Convolve, then gate every cell."""
        return gather_excite.core(depthwise_conv2d.core(x, weight), gate)

    def right(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Convolve with the gated kernel of every position."""
        gates = gate[:, :, nearest(d.H, d.h)][..., nearest(d.W, d.w)]  # [B, C, H, W]
        kernels = weight[None, :, :, :, None, None] * gates[:, :, None, None]
        return inhomogeneous_depthwise_conv2d.core(x, kernels)

    @mutant(drops="behind", side="left")
    def gated_before(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Every cell is gated, then the map is convolved."""
        return depthwise_conv2d.core(gather_excite.core(x, gate), weight)

    @mutant(drops="per-cell")
    def gate_of_the_first_cell(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """All cells have the gate of the first."""
        return self.right(d, x, weight, gate[:, :, :1, :1].expand_as(gate))

    @mutant(drops="per-image")
    def gates_of_another_image(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Every image takes the gates of the one before."""
        return self.right(d, x, weight, gate.roll(1, 0))

    @mutant(drops="per-channel")
    def gates_of_another_channel(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Kernels are scaled by the gates of the next channel."""
        return self.right(d, x, weight, gate.roll(1, 1))

    @mutant(drops="zero-padding", sparse=True)
    def one_corner_repeated(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """At one corner of every map the padding repeats the pixel instead of being zero."""
        convolved = depthwise_conv2d.core(with_corner(x), weight)[..., 1:-1, 1:-1]
        return gather_excite.core(convolved, gate)


class _Squeezing(Claim):
    """A claim of gates that the mean of a map decides, by two layers."""

    # Maps of 2^n positions, whose mean is exact. The largest first.
    shapes: ClassVar[tuple[Dims, ...]] = (
        Dims(B=3, C=4, H=2, W=4, R=2, K=3),
        Dims(B=2, C=3, H=4, W=1, R=1, K=3),
        Dims(B=2, C=4, H=1, W=1, R=2, K=3),
    )
    complete_shapes: ClassVar[tuple[Dims, ...]] = (Dims(B=2, C=2, H=1, W=2, R=1, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps and the layers of squeeze-and-excitation."""
        hidden = d.C // d.R
        layers = {"reduce": (hidden, d.C), "reduce_bias": (hidden,), "expand": (d.C, hidden)}
        return {"x": (d.B, d.C, d.H, d.W), **layers, "expand_bias": (d.C,)}


class SqueezeExciteAfterDepthwise(_Squeezing):
    """Squeeze-and-excitation behind a depthwise convolution is a dynamic depthwise convolution.

    Its kernels are σ(layers(mean(w ∗ x)))[c]·w[c]: what generates them reads the output of the static
    convolution, not its input, as the generator of dynamic depthwise convolution does.
    """

    name = "squeeze-excite-after-depthwise-is-dynamic-depthwise"
    operators = ("depthwise_conv2d", "squeeze_excite", "dynamic_depthwise_conv2d")
    source = f"{LINEAR}; {SE}, section 3; Tan and Le 2019, arXiv 1905.11946, section 4, for the order"
    conditions: ClassVar[Mapping[str, str]] = {
        "squeezes-the-output": "the gates are made from the mean of what is convolved",
        "sigmoid": "a sigmoid follows the layers",
        "nothing-between": "no bias stands between the convolution and the gate",
        "per-image": "an image's kernels are scaled by its own gates",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the maps, the static kernels, and the layers of squeeze-and-excitation."""
        return {**super().variables(d), "weight": (d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Convolve; squeeze, excite, scale."""
        return squeeze_excite.module(depthwise_conv2d.core(x, weight), **layers)

    def right(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Convolve with kernels that the output of the static convolution scales."""
        return self.scaled(x, weight, torch.sigmoid(said(depthwise_conv2d.core(x, weight), **layers)))

    def scaled(self, x: Tensor, weight: Tensor, gate: Tensor) -> Tensor:
        """Convolve with the kernels [C, K, K], scaled by a gate [B, C]."""
        return dynamic_depthwise_conv2d.core(x, gate[:, :, None, None] * weight)

    @mutant(drops="squeezes-the-output")
    def squeezed_from_the_input(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The gates are made from the mean of the map before it is convolved."""
        return self.scaled(x, weight, torch.sigmoid(said(x, **layers)))

    @mutant(drops="sigmoid")
    def no_sigmoid(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The layers say the gates themselves."""
        return self.scaled(x, weight, said(depthwise_conv2d.core(x, weight), **layers))

    @mutant(drops="nothing-between", side="left")
    def bias_between(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """One is added to the convolved map."""
        return squeeze_excite.module(depthwise_conv2d.core(x, weight) + 1, **layers)

    @mutant(drops="per-image")
    def gates_of_another_image(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Every image takes the gates of the one before."""
        gate = torch.sigmoid(said(depthwise_conv2d.core(x, weight), **layers))
        return self.scaled(x, weight, gate.roll(1, 0))

    @mutant(sparse=True)
    def one_position_not_gated(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The last position of the last image is convolved and not gated."""
        output = self.right(d, x, weight, **layers)
        output[-1, :, -1, -1] = depthwise_conv2d.core(x, weight)[-1, :, -1, -1]
        return output


class SqueezeExciteIsGatherExciteWithLayers(_Squeezing):
    """Squeeze-and-excitation is gather-excite over the whole map with two layers ahead of its sigmoid.

    Without parameters, as GE-θ⁻, gather-excite gathers the same mean as squeeze-and-excitation, and scales by
    its sigmoid.
    """

    name = "squeeze-excite-is-gather-excite-with-layers"
    operators = ("squeeze_excite", "gather_excite")
    source = f"{GE}, section 3; {SE}, eq. (2) to (4)"
    conditions: ClassVar[Mapping[str, str]] = {
        "layers-added": "the two layers of squeeze-and-excitation stand between mean and sigmoid",
        "whole-map": "the mean is that of the whole map",
        "same-reduction": "the layers are those of squeeze-and-excitation, with as many hidden units",
    }

    def left(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """Squeeze and scale, with the layers; and gather and scale, without."""
        return squeeze_excite.module(x, **layers), gather_excite.module(x)

    def right(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the only cell by what the layers say; and scale by the sigmoid of the mean."""
        cell = torch.sigmoid(said(x, **layers))[:, :, None, None]
        return gather_excite.core(x, cell), squeeze_excite.core(x, torch.sigmoid(x.mean((2, 3))))

    @mutant(drops="layers-added", side="left")
    def layers_left_out(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """Gather-excite without parameters takes the place of squeeze-and-excitation."""
        gathered = gather_excite.module(x)
        return gathered, gathered

    @mutant(drops="whole-map", side="left")
    def two_cells(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """The left and the right half of the map are gathered on their own."""
        halves = x.reshape(d.B, d.C, d.H, 2, -1).mean((2, 4))
        scaled = gather_excite.core(x, torch.sigmoid(halves)[:, :, None])
        return squeeze_excite.module(x, **layers), scaled

    @mutant(drops="same-reduction")
    def one_hidden_unit_fewer(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden unit is left out."""
        fewer = {name: part[:-1] for name, part in layers.items() if name.startswith("reduce")}
        return self.right(d, x, **{**layers, **fewer, "expand": layers["expand"][:, :-1]})

    @mutant(sparse=True)
    def one_position_not_gated(self, d: Dims, x: Tensor, **layers: Tensor) -> tuple[Tensor, Tensor]:
        """The last position of the last image is not gated."""
        scaled, gathered = self.right(d, x, **layers)
        scaled[-1, :, -1, -1] = x[-1, :, -1, -1]
        return scaled, gathered


def columns(weight: Tensor) -> Tensor:
    """Split a kernel [Co, C, K, K] into the C kernels [C, Co, C, K, K] that each read one channel."""
    return torch.diag_embed(weight.permute(0, 2, 3, 1), dim1=0, dim2=-1).permute(0, 1, 4, 2, 3)


def rows(weight: Tensor) -> Tensor:
    """Split a kernel [Co, C, K, K] into the Co kernels [Co, Co, C, K, K] that each write one channel."""
    return torch.diag_embed(weight.permute(1, 2, 3, 0), dim1=0, dim2=1)


def nearest(size: int, cells: int) -> Tensor:
    """Return the cell of every position along an axis."""
    return torch.arange(size) * cells // size


def said(x: Tensor, reduce: Tensor, reduce_bias: Tensor, expand: Tensor, expand_bias: Tensor) -> Tensor:
    """Return what the layers of squeeze-and-excitation say of maps [B, C, H, W], ahead of its sigmoid."""
    hidden = torch.relu(torch.einsum("oc,bc->bo", reduce, x.mean((2, 3))) + reduce_bias)
    return torch.einsum("co,bo->bc", expand, hidden) + expand_bias
