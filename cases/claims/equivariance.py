"""What convolution commutes with: translations, but neither rotations nor changes of scale."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, depthwise_conv2d, locally_connected2d
from ..mlp import spatial_mixing_mlp
from .index_sets import within
from .mlp import numbered

WORRALL = "Worrall et al. 2017, Harmonic Networks, arXiv 1612.04642, abstract"
TRANSLATED = (
    Dims(B=2, C=3, Co=4, H=9, W=8, K=3, down=1, right=2, stride=1),
    Dims(B=2, C=2, Co=3, H=9, W=11, K=3, down=1, right=2, stride=2),
    Dims(B=1, C=2, Co=3, H=7, W=6, K=5, down=0, right=1, stride=1),
    Dims(B=1, C=16, Co=16, H=14, W=14, K=3, down=3, right=1, stride=1),
)


class ConvIsTranslationEquivariant(Claim):
    """Convolution is translation-equivariant: where the scene moves, its output moves with it.

    Two maps are cut from one picture, the second beginning some strides further down and to the right. Their
    outputs, moved back, are the same wherever the windows lie inside both maps. They are not the same at the
    same place, which would be invariance, and at the border they differ by the padding.
    """

    name = "conv-is-translation-equivariant"
    operators = ("conv2d", "depthwise_conv2d")
    source = (
        f"{WORRALL}: “convolutional neural networks (CNNs) are already translation equivariant: input image "
        "translations produce proportionate feature map translations”"
    )
    conditions = {
        "interior": "the windows lie inside both maps, where no padding is read",
        "whole-strides": "the scene moves by a multiple of the stride",
        "same-kernel": "all positions have the same kernel",
        "moved-back": "outputs are compared where they show the same part of the scene",
    }
    shapes = TRANSLATED
    complete_shapes = (Dims(B=1, C=1, Co=1, H=3, W=4, K=3, down=0, right=1, stride=1),)
    algebra = (
        "Σ_cuv w[o, c, u, v] · x[b, c, (i+n)S+u−P, (j+m)S+v−P] over the first map is "
        "Σ_cuv w[o, c, u, v] · z[b, c, iS+u−P, jS+v−P] over the second, z[b, c, h, w] = x[b, c, h+nS, w+mS]"
    )
    corrects = "conv-is-translation-equivariant-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture and the kernels, one of a convolution and one of a depthwise one."""
        return {**picture(d), "weight": (d.Co, d.C, d.K, d.K), "kernels": (d.C, d.K, d.K)}

    def left(self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """Convolve the first map, and keep what lies inside both."""
        return tuple(kept_of_first(d, whole) for whole in convolve(d, first(d, scene), weight, kernels))

    def right(self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """Convolve the second map, and keep what lies inside both."""
        return tuple(kept_of_second(d, whole) for whole in convolve(d, second(d, scene), weight, kernels))

    @lemma
    def windows_inside_read_the_same_scene(self, z3: Any) -> Lemma:
        """Where windows lie inside both maps, output i of the second and i+n of the first read the same rows.

        The second map begins nS rows further down: its row iS+u−P is row (i+n)S+u−P of the first.
        """
        i, n, u, row, other, H, P, S = z3.Ints("i n u row other H P S")
        return Lemma(
            {
                "row of the first": row == (i + n) * S + u - P,
                "row of the second": other == i * S + u - P,
                "inside the first": within(z3, row, H),
                "inside the second": within(z3, other, H),
            },
            z3.And(row == other + n * S, within(z3, row, H + n * S), within(z3, other + n * S, H)),
        )

    @mutant(drops="interior")
    def border_kept(self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """The second map begins later than it seems to: windows read padding in place of its first rows."""
        empty = F.pad(second(d, scene)[..., d.K // 2 + 1 :, :], (0, 0, d.K // 2 + 1, 0))
        return tuple(kept_of_second(d, whole) for whole in convolve(d, empty, weight, kernels))

    @mutant(drops="interior", side="left", sparse=True)
    def last_pixel_outside(
        self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor
    ) -> tuple[Tensor, ...]:
        """The last pixel of the first map lies outside of it, and is read as zero."""
        x = first(d, scene).clone()
        x[..., -1, -1] = 0
        return tuple(kept_of_first(d, whole) for whole in convolve(d, x, weight, kernels))

    @mutant(drops="whole-strides")
    def half_a_stride(self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """The scene moves by one column less than a multiple of the stride, where that is not one."""
        short = F.pad(scene, (d.stride - 1, 0))[..., : scene.shape[3]]
        return self.right(d, short, weight, kernels)

    @mutant(drops="same-kernel")
    def kernel_scaled_by_position(
        self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor
    ) -> tuple[Tensor, ...]:
        """Position (i, j) has (i + 2j + 1) times the kernel, on both maps alike."""
        (height, width), x = conv2d.core.output(d.replace(G=1))[2:], second(d, scene)
        own = numbered(weight.expand(height, width, -1, -1, -1, -1))
        whole = locally_connected2d.core(x, own, stride=d.stride)
        return kept_of_second(d, whole), self.right(d, scene, weight, kernels)[1]

    @mutant(drops="moved-back")
    def same_place(self, d: Dims, scene: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, ...]:
        """Outputs are compared at the same place of both maps."""
        return tuple(kept_of_first(d, whole) for whole in convolve(d, second(d, scene), weight, kernels))


class ConvIsTranslationEquivariantAsStated(Claim):
    """Convolution is invariant to translation, rotation and scale.

    Its output would be the same for a map that shows the scene further down and to the right, for one that is
    turned by 90 degrees, and for one that is twice as large, of which the first quarter is compared.
    """

    name = "conv-is-translation-equivariant-as-stated"
    expected = "refuted"
    operators = ("conv2d",)
    source = (
        "said where convolutional networks are introduced; what such texts mean holds, if at all, of a "
        "network that pools and was trained on moved, turned and scaled images"
    )
    shapes = (Dims(B=2, C=3, Co=4, H=6, W=6, K=3, down=1, right=2, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture and the kernel."""
        return {**picture(d), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, scene: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Convolve the map, three times the same."""
        return (conv2d.core(first(d, scene), weight),) * 3

    def right(self, d: Dims, scene: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        """Convolve the map moved, turned and scaled."""
        x = first(d, scene)
        maps = second(d, scene), turned(x), enlarged(x)[..., : d.H, : d.W]
        return tuple(conv2d.core(moved, weight) for moved in maps)


class CircularConvIsTranslationEquivariantEverywhere(Claim):
    """Convolution of a map that goes on with its other side commutes with every cyclic translation.

    No interior has to be left: conv(roll(x)) = roll(conv(x)) at all positions.
    """

    name = "circular-conv-is-translation-equivariant-everywhere"
    operators = ("conv2d",)
    source = "the convolution theorem's setting; zero padding, as every network here has it, is not it"
    conditions = {
        "circular": "outside the map its other side follows",
        "stride-one": "every position is an output",
        "cyclic": "what leaves the map on one side comes back on the other",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, Co=4, H=9, W=8, K=3, down=1, right=2),
        Dims(B=2, C=2, Co=3, H=3, W=7, K=3, down=2, right=5),
        Dims(B=1, C=2, Co=3, H=5, W=6, K=5, down=0, right=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=1, H=3, W=4, K=3, down=1, right=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Move, then convolve."""
        return around(d, rolled(d, x), weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve, then move."""
        return rolled(d, around(d, x, weight))

    @mutant(drops="circular")
    def zero_padding(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Outside the map there are zeros."""
        return rolled(d, conv2d.core(x, weight))

    @mutant(drops="circular", sparse=True)
    def last_position_reads_zeros(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last position alone reads zeros outside the map."""
        output = around(d, x, weight)
        output[..., -1, -1] = conv2d.core(x, weight)[..., -1, -1]
        return rolled(d, output)

    @mutant(drops="stride-one")
    def every_other_output(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Outputs at even rows and columns are repeated over their cells."""
        kept = around(d, x, weight)[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
        return rolled(d, kept[..., : d.H, : d.W])

    @mutant(drops="cyclic")
    def filled_with_zeros(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """What comes in is zero."""
        output = F.pad(around(d, x, weight), (d.right, 0, d.down, 0))
        return output[..., : d.H, : d.W]


class ConvTurnsWithItsKernel(Claim):
    """The output of a convolution turns by 90 degrees if both its map and its kernel turn.

    conv(turn(x), turn(W)) = turn(conv(x, W)), on the whole map. With the map alone turned it is another
    function, unless the kernel is what it turns into.
    """

    name = "conv-turns-with-its-kernel"
    operators = ("conv2d",)
    source = (
        "Cohen and Welling 2016, Group Equivariant Convolutional Networks, arXiv 1602.07576, on the "
        "equivariance of convolutional networks"
    )
    conditions = {
        "kernel-turned": "the kernel turns as the map does",
        "whole-windows": "the stride divides H+2P−K and W+2P−K: the last window ends where the padding does",
    }
    # The one of many outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=1, C=16, Co=32, H=14, W=12, K=3, stride=1),
        Dims(B=2, C=3, Co=4, H=5, W=7, K=3, stride=2),
        Dims(B=2, C=2, Co=3, H=1, W=4, K=5, stride=1),
        Dims(B=2, C=2, Co=3, H=3, W=6, K=4, stride=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=2, H=2, W=4, K=3, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Turn both, then convolve."""
        return conv2d.core(turned(x), turned(weight), stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve, then turn."""
        return turned(conv2d.core(x, weight, stride=d.stride))

    @mutant(drops="kernel-turned", side="left")
    def map_alone(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The map turns, and the kernel does not."""
        return conv2d.core(turned(x), weight, stride=d.stride)

    @mutant(drops="kernel-turned", side="left", sparse=True)
    def one_kernel_as_it_was(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernel of the last output does not turn."""
        kernel = torch.cat([turned(weight[:-1]), weight[-1:]])
        return conv2d.core(turned(x), kernel, stride=d.stride)

    @mutant(drops="whole-windows", side="given")
    def one_column_less(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The map has one column less, which leaves a column over where the stride is two."""
        return {"x": x[..., :-1], "weight": weight}

    @mutant()
    def turned_the_other_way(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The output turns the other way."""
        return turned(turned(turned(conv2d.core(x, weight, stride=d.stride))))


class ConvIsNotRotationEquivariant(Claim):
    """Convolution is not equivariant to rotations by 90 degrees: conv(turn(x), W) ≠ turn(conv(x, W)).

    It is equivariant for kernels that are what they turn into, and for no others, since the output turns if
    the kernel does.
    """

    name = "conv-is-not-rotation-equivariant"
    kind = "negative"
    operators = ("conv2d",)
    source = f"{WORRALL}: “This is not the case for rotations”"
    conditions = {"not-symmetric": "the kernel is not what it turns into"}
    # So many outputs that one of them is few.
    shapes = (
        Dims(B=2, C=2, Co=24, H=7, W=6, K=3),
        Dims(B=2, C=3, Co=24, H=1, W=4, K=3),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=5),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Turn the map, then convolve."""
        return conv2d.core(turned(x), weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve, then turn."""
        return turned(conv2d.core(x, weight))

    @mutant(drops="not-symmetric", side="given")
    def sum_of_all_turns(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is the sum of its four turns."""
        return {"x": x, "weight": symmetric(weight)}

    @mutant(drops="not-symmetric", side="given")
    def middle_tap_alone(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is zero but for its middle tap."""
        return {"x": x, "weight": middle(weight)}

    @mutant()
    def kernel_turned_back(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernel is turned the other way before the map is convolved and turned."""
        return turned(conv2d.core(x, turned(turned(turned(weight)))))

    @equivalent("one tap of one output is enough", side="given", sparse=True)
    def one_tap_off_symmetry(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is the sum of its four turns, but for one tap beside the middle of the last output."""
        kernel = symmetric(weight)
        kernel[-1, 0, d.K // 2, d.K // 2 + 1] += 1
        return {"x": x, "weight": kernel}


class ConvIsNotScaleEquivariant(Claim):
    """Convolution is not equivariant to a change of scale: conv(enlarge(x), W) ≠ enlarge(conv(x, W)).

    Enlarging repeats every pixel twice along both axes. It commutes with convolution if the middle tap is
    the only one; else the taps have to be spread as the pixels are.
    """

    name = "conv-is-not-scale-equivariant"
    kind = "negative"
    operators = ("conv2d",)
    source = "said the other way round where convolutional networks are introduced"
    conditions = {"more-than-one-tap": "the kernel has taps beside its middle one"}
    # So many outputs that one of them is few.
    shapes = (
        Dims(B=2, C=2, Co=24, H=7, W=6, K=3),
        Dims(B=2, C=3, Co=24, H=1, W=4, K=3),
        Dims(B=1, C=16, Co=32, H=7, W=7, K=5),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Enlarge the map, then convolve."""
        return conv2d.core(enlarged(x), weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve, then enlarge."""
        return enlarged(conv2d.core(x, weight))

    @mutant(drops="more-than-one-tap", side="given")
    def middle_tap_alone(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is zero but for its middle tap."""
        return {"x": x, "weight": middle(weight)}

    @mutant(side="left")
    def taps_spread(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps lie two apart, with zeros between them, where the map is enlarged."""
        spread = weight.new_zeros(d.Co, d.C, 2 * d.K - 1, 2 * d.K - 1)
        spread[..., ::2, ::2] = weight
        return conv2d.core(enlarged(x), spread)

    @mutant(side="given")
    def nothing_convolved(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is zero."""
        return {"x": x, "weight": torch.zeros_like(weight)}

    @equivalent("one tap of one output is enough", side="given", sparse=True)
    def one_tap_beside_the_middle(self, d: Dims, x: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The kernel is zero but for its middle tap and, for the last output, the one to the right of it."""
        kernel = middle(weight)
        kernel[-1, 0, d.K // 2, d.K // 2 + 1] = 1
        return {"x": x, "weight": kernel}


class LocallyConnectedLayerIsNotTranslationEquivariant(Claim):
    """A locally connected layer is not translation-equivariant, not even in its interior.

    What convolution owes to its tied weights is lost with them.
    """

    name = "locally-connected-layer-is-not-translation-equivariant"
    kind = "negative"
    operators = ("locally_connected2d",)
    source = "Taigman et al. 2014, CVPR, section 2.2, which uses it where faces are aligned"
    conditions = {"untied": "positions have different weights"}
    shapes = (
        Dims(B=2, C=2, Co=3, H=9, W=11, K=3, down=1, right=2, stride=1),
        Dims(B=1, C=2, Co=3, H=14, W=14, K=5, down=0, right=1, stride=1),
        Dims(B=2, C=1, Co=2, H=13, W=8, K=3, down=3, right=0, stride=1),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the picture, and a kernel for every output position."""
        return {**picture(d), "weight": (d.H, d.W, d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, scene: Tensor, weight: Tensor) -> Tensor:
        """Connect the first map, and keep what lies inside both."""
        return kept_of_first(d, locally_connected2d.core(first(d, scene), weight))

    def right(self, d: Dims, scene: Tensor, weight: Tensor) -> Tensor:
        """Connect the second map, and keep what lies inside both."""
        return kept_of_second(d, locally_connected2d.core(second(d, scene), weight))

    @mutant(drops="untied", side="given")
    def tied_weights(self, d: Dims, scene: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """All positions have the weights of the first."""
        return {"scene": scene, "weight": weight[:1, :1].expand(weight.shape)}

    @mutant(drops="untied", side="given")
    def weights_repeat_with_the_shift(self, d: Dims, scene: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """The weights repeat after as many rows and columns as the scene moves by."""
        down, right = (max(1, shift) for shift in (d.down, d.right))
        tiled = weight[:down, :right].repeat(-(-d.H // down), -(-d.W // right), 1, 1, 1, 1)
        return {"scene": scene, "weight": tiled[: d.H, : d.W]}

    @mutant(side="right")
    def weights_move_too(self, d: Dims, scene: Tensor, weight: Tensor) -> Tensor:
        """The weights move with the scene."""
        moved = weight.roll((-d.down, -d.right), (0, 1))
        return kept_of_second(d, locally_connected2d.core(second(d, scene), moved))

    @equivalent("the weights of one position are enough", side="given", sparse=True)
    def one_position_differs(self, d: Dims, scene: Tensor, weight: Tensor) -> Mapping[str, Tensor]:
        """All positions have the weights of the first, but for one in the interior."""
        same = weight[:1, :1].repeat(d.H, d.W, 1, 1, 1, 1)
        same[d.H // 2, d.W // 2] += 1
        return {"scene": scene, "weight": same}


class TokenMixingIsNotTranslationEquivariant(Claim):
    """Token mixing by a free matrix does not commute with cyclic translations of the map.

    It commutes with all of them exactly where the matrix is block-circulant: its rows are the first, moved.
    """

    name = "token-mixing-is-not-translation-equivariant"
    kind = "negative"
    operators = ("spatial_mixing_mlp",)
    source = (
        "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601, section 2, which uses no position embeddings as "
        "token mixing is sensitive to the order of the tokens"
    )
    conditions = {"free": "the matrix is not block-circulant"}
    # So many positions that two of them are few.
    shapes = (
        Dims(B=2, C=2, H=7, W=8, down=1, right=2),
        Dims(B=2, C=2, H=1, W=48, down=0, right=5),
        Dims(B=1, C=4, H=14, W=14, down=3, right=0),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the matrix."""
        return {"x": (d.B, d.C, d.H, d.W), "spatial": (d.H * d.W, d.H * d.W)}

    def left(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Move, then mix."""
        return spatial_mixing_mlp.core(rolled(d, x), spatial)

    def right(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Mix, then move."""
        return rolled(d, spatial_mixing_mlp.core(x, spatial))

    @mutant(drops="free", side="given")
    def circulant_matrix(self, d: Dims, x: Tensor, spatial: Tensor) -> Mapping[str, Tensor]:
        """All rows are the first one, moved."""
        return {"x": x, "spatial": circulant(d, spatial)}

    @mutant(drops="free", side="given")
    def sum_of_the_map(self, d: Dims, x: Tensor, spatial: Tensor) -> Mapping[str, Tensor]:
        """Every position reads all positions with the same weight."""
        return {"x": x, "spatial": spatial[:1, :1].expand(spatial.shape)}

    @mutant()
    def matrix_moved_too(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Rows and columns of the matrix are moved back before it mixes."""
        back = d.replace(down=-d.down, right=-d.right)
        rows = rolled(back, spatial.view(1, -1, d.H, d.W)).view(spatial.shape)
        both = rolled(back, rows.mT.reshape(1, -1, d.H, d.W)).view(spatial.shape).mT
        return rolled(d, spatial_mixing_mlp.core(x, both))

    @equivalent("one entry of the matrix is enough", side="given", sparse=True)
    def one_entry_differs(self, d: Dims, x: Tensor, spatial: Tensor) -> Mapping[str, Tensor]:
        """All rows are the first one, moved, but for one entry."""
        matrix = circulant(d, spatial)
        matrix[-1, -1] += 1
        return {"x": x, "spatial": matrix}


def picture(d: Dims) -> Mapping[str, tuple[int, ...]]:
    """Name the scene that both maps are cut from, and its shape."""
    return {"scene": (d.B, d.C, d.H + d.down * d.stride, d.W + d.right * d.stride)}


def first(d: Dims, scene: Tensor) -> Tensor:
    """Cut the first map out of the scene."""
    return scene[..., : d.H, : d.W]


def second(d: Dims, scene: Tensor) -> Tensor:
    """Cut out the second map, which begins some strides further down and to the right."""
    return scene[..., d.down * d.stride :, d.right * d.stride :]


def inside(d: Dims, size: int) -> tuple[int, int]:
    """Return the first output along an axis whose window lies in the map, and the one after the last."""
    reach = d.K // 2
    return -(-reach // d.stride), (size + reach - d.K) // d.stride + 1


def kept_of_first(d: Dims, output: Tensor) -> Tensor:
    """Keep the outputs of the first map whose windows lie inside both."""
    (top, bottom), (left, right) = inside(d, d.H), inside(d, d.W)
    return output[..., top + d.down : bottom, left + d.right : right]


def kept_of_second(d: Dims, output: Tensor) -> Tensor:
    """Keep the outputs of the second map whose windows lie inside both."""
    (top, bottom), (left, right) = inside(d, d.H), inside(d, d.W)
    return output[..., top : bottom - d.down, left : right - d.right]


def convolve(d: Dims, x: Tensor, weight: Tensor, kernels: Tensor) -> tuple[Tensor, Tensor]:
    """Convolve a map, densely and depthwise."""
    return conv2d.core(x, weight, stride=d.stride), depthwise_conv2d.core(x, kernels, stride=d.stride)


def around(d: Dims, x: Tensor, weight: Tensor) -> Tensor:
    """Convolve a map that goes on with its other side."""
    return conv2d.core(F.pad(x, (d.K // 2,) * 4, mode="circular"), weight, padding=0)


def rolled(d: Dims, x: Tensor) -> Tensor:
    """Move a map cyclically."""
    return x.roll((d.down, d.right), (2, 3))


def turned(x: Tensor) -> Tensor:
    """Turn a map, or a kernel, by 90 degrees."""
    return x.transpose(2, 3).flip(2)


def enlarged(x: Tensor) -> Tensor:
    """Repeat every pixel twice along both axes."""
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def symmetric(weight: Tensor) -> Tensor:
    """Add the four turns of a kernel."""
    half = weight + weight.flip(2, 3)
    return half + turned(half)


def middle(weight: Tensor) -> Tensor:
    """Leave the middle tap of a kernel alone."""
    reach = weight.shape[2] // 2
    return F.pad(weight[..., reach : reach + 1, reach : reach + 1], (reach,) * 4)


def circulant(d: Dims, spatial: Tensor) -> Tensor:
    """Repeat the first row of a matrix over positions in all rows, moved with the position."""
    rows, columns = (torch.arange(size) for size in (d.H, d.W))
    down, right = (rows - rows[:, None]) % d.H, (columns - columns[:, None]) % d.W
    moved = spatial[0].view(d.H, d.W)[down[:, None, :, None], right[:, None]]  # [H, W, H, W]
    return moved.reshape(d.H * d.W, d.H * d.W)
