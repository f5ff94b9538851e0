"""Convolution and its untied and separated relatives as fully connected layers with structured weights."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, locally_connected2d
from ..mlp import channel_mlp, mlp, separable_mlp, spatial_mixing_mlp
from ..workloads import MAPS
from .convolution import LARGEST_FIRST
from .index_sets import BlockedGroups, CentredTaps, RowOrder

HAN = "Han et al. 2022, ICLR, arXiv 2106.04263"
LOCAL = (
    *(Dims(B=2, C=2, Co=3, H=H, W=W, K=K, stride=1) for H, W, K in LARGEST_FIRST),
    Dims(B=3, C=2, Co=3, H=5, W=8, K=3, stride=2),
    Dims(B=1, C=4, Co=4, H=14, W=14, K=3, stride=1),
)
TINY = (Dims(B=1, C=1, Co=2, H=2, W=3, K=3, stride=1),)


class TiedTaps:
    """Weights between outputs and inputs that depend on where the input lies from the output alone."""

    @lemma
    def a_moved_output_reads_moved_inputs_by_the_same_taps(self, z3: Any) -> Lemma:
        """Of output i with a stride of S, tap u reads input h = iS+u−P; of output i+n it reads input h+nS."""
        i, n, u, h, P, S = z3.Ints("i n u h P S")
        return Lemma({"by offset": h == i * S + u - P}, h + n * S == (i + n) * S + u - P)


class MlpSparseInSpaceIsConvolution(TiedTaps, CentredTaps, RowOrder, Claim):
    """A fully connected layer over a map is a convolution if its weights are local and tied.

    Local: output (i, j) reads the K×K inputs around (iS, jS) alone. Tied: the weight from input (h, w) to it
    depends on the offset (h − iS, w − jS) alone. Then mlp(x, M) = conv(x, W) with
    M[(o, i, j), (c, h, w)] = W[o, c, h−iS+P, w−jS+P], P = ⌊K/2⌋. Weights that are sparse in space and not
    tied are those of a locally connected layer.
    """

    name = "mlp-sparse-in-space-is-convolution"
    operators = ("mlp", "conv2d")
    source = (
        f"{HAN}, figure of the relations between operators, where locality leads from MLP to convolution; "
        "Ding et al. 2022, RepMLPNet, arXiv 2112.11081, abstract: “merging the trained parameters of a "
        "parallel conv kernel into the FC kernel”"
    )
    conditions = {
        "local": "an output reads its window alone",
        "tied": "all outputs of a channel have the same weights, moved with them",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "zero-padding": "what a window reads outside the map is zero",
        "channels-first": "inputs and outputs of the matrix are counted channel by channel",
        "row-order": "the positions of a channel are counted row by row",
    }
    shapes = LOCAL
    complete_shapes = TINY
    algebra = (
        "Σ_chw M[(o, i, j), (c, h, w)] · x[b, c, h, w] has the terms of the windows alone, and by "
        "h = iS+u−P, w = jS+v−P it is Σ_cuv W[o, c, u, v] · x[b, c, iS+u−P, jS+v−P] over the taps that read "
        "the map; the others read zeros"
    )
    corrects = "mlp-sparse-in-space-is-convolution-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "kernel": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Multiply the whole map with the matrix of local and tied weights."""
        return connect(d, x, local_matrix(d, tied(d, kernel)))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve."""
        return conv2d.core(x, kernel, stride=d.stride)

    @mutant(drops="local", side="left")
    def ones_elsewhere(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """An output reads what lies beyond its window with the weight one."""
        return connect(d, x, local_matrix(d, tied(d, kernel), outside=1))

    @mutant(drops="local", side="left", sparse=True)
    def one_connection_more(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last output reads the first input."""
        matrix = local_matrix(d, tied(d, kernel))
        matrix[-1, 0] = 1
        return connect(d, x, matrix)

    @mutant(drops="tied", side="left")
    def weights_scaled_by_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The weights of output (i, j) are (i + 2j + 1) times the kernel."""
        return connect(d, x, local_matrix(d, numbered(tied(d, kernel))))

    @mutant(drops="not-flipped")
    def flipped_kernel(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(2, 3))

    @mutant(drops="zero-padding")
    def map_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Outside the map its other side follows."""
        wrapped = F.pad(x, (d.K // 2,) * 4, mode="circular")
        return conv2d.core(wrapped, kernel, stride=d.stride, padding=0)

    @mutant(drops="channels-first", side="left")
    def positions_first(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The inputs of the matrix are counted position by position."""
        matrix = local_matrix(d, tied(d, kernel))
        turned = matrix.view(len(matrix), d.C, -1).transpose(1, 2).reshape(matrix.shape)
        return connect(d, x, turned)

    @mutant(drops="row-order", side="left")
    def columns_first(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The inputs of a channel are counted column by column."""
        matrix = local_matrix(d, tied(d, kernel))
        turned = matrix.view(len(matrix), d.C, d.H, d.W).transpose(2, 3).reshape(matrix.shape)
        return connect(d, x, turned)


class MlpSparseInSpaceIsConvolutionAsStated(Claim):
    """A fully connected layer whose weights are local, and otherwise free, is a convolution.

    Its kernel could only be what the output in the middle of the map has, whose window lies inside.
    """

    name = "mlp-sparse-in-space-is-convolution-as-stated"
    expected = "refuted"
    operators = ("mlp", "conv2d")
    source = (
        "said where the figure of relations between operators is read as sparsity in space alone "
        f"(github.com/Atten4Vis/DemystifyLocalViT; {HAN})"
    )
    shapes = tuple(d for d in LOCAL if d.stride == 1 and min(d.H, d.W) >= d.K)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, and a kernel for every output position."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.H, d.W, d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply the whole map with the matrix of local weights."""
        return connect(d, x, local_matrix(d, weight))

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with the kernel of the output in the middle."""
        return conv2d.core(x, weight[d.H // 2, d.W // 2])


class LocallyConnectedLayerIsMlpWithLocalWeights(CentredTaps, RowOrder, Claim):
    """A locally connected layer is a fully connected one whose outputs read a window each.

    M[(o, i, j), (c, h, w)] = W[i, j, o, c, h−iS+P, w−jS+P] within the window, and zero beyond it.
    """

    name = "locally-connected-layer-is-mlp-with-local-weights"
    operators = ("locally_connected2d", "mlp")
    source = "LeCun 1989, CRG-TR-89-4, whose Net-3 is of such layers; Taigman et al. 2014, CVPR, section 2.2"
    conditions = {
        "local": "an output reads its window alone",
        "own-weights": "every output has weights of its own",
        "by-offset": "tap (u, v) of output (i, j) is the weight of input (iS+u−P, jS+v−P)",
        "row-order": "the positions of a channel are counted row by row",
    }
    shapes = LOCAL
    complete_shapes = (Dims(B=1, C=1, Co=1, H=1, W=2, K=3, stride=1),)
    algebra = (
        "Σ_chw M[(o, i, j), (c, h, w)] · x[b, c, h, w] has the terms of the windows alone, so it is "
        "Σ_cuv W[i, j, o, c, u, v] · x[b, c, iS+u−P, jS+v−P] over the taps that read the map"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, and a kernel for every output position."""
        height, width = (len(taps(d, size)[0]) for size in (d.H, d.W))
        return {"x": (d.B, d.C, d.H, d.W), "weight": (height, width, d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Connect locally."""
        return locally_connected2d.core(x, weight, stride=d.stride)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply the whole map with the matrix of local weights."""
        return connect(d, x, local_matrix(d, weight))

    @mutant(drops="local")
    def ones_elsewhere(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """An output reads what lies beyond its window with the weight one."""
        return connect(d, x, local_matrix(d, weight, outside=1))

    @mutant(drops="local", sparse=True)
    def one_connection_more(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The last output reads the first input."""
        matrix = local_matrix(d, weight)
        matrix[-1, 0] = 1
        return connect(d, x, matrix)

    @mutant(drops="own-weights")
    def weights_of_the_first(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All outputs have the weights of the first, as in a convolution."""
        return self.right(d, x, weight[:1, :1].expand(weight.shape))

    @mutant(drops="by-offset")
    def flipped_taps(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The taps are mirrored."""
        return self.right(d, x, weight.flip(4, 5))

    @mutant(drops="by-offset")
    def weights_by_input(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """An output has the weights of the one before."""
        turned = weight.flatten(0, 1).roll(1, 0).view(weight.shape)
        return self.right(d, x, turned)

    @mutant(drops="row-order")
    def columns_first(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The inputs of a channel are counted column by column."""
        matrix = local_matrix(d, weight)
        turned = matrix.view(len(matrix), d.C, d.H, d.W).transpose(2, 3).reshape(matrix.shape)
        return connect(d, x, turned)


class LocallyConnectedLayerWithTiedWeightsIsConv(BlockedGroups, Claim):
    """A locally connected layer whose positions all have the same weights is a convolution.

    What is left out is the sharing alone: both read the same windows in the same groups.
    """

    name = "locally-connected-layer-with-tied-weights-is-conv"
    operators = ("locally_connected2d", "conv2d")
    source = "Taigman et al. 2014, CVPR, section 2.2, says what such a layer does not share"
    conditions = {
        "tied": "all positions have the same weights",
        "blocked-groups": "both make group g of neighbouring channels",
        "zero-padding": "outside the map there are zeros",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        *(Dims(B=2, C=4, Co=6, H=H, W=W, K=K, G=2, stride=1) for H, W, K in LARGEST_FIRST),
        Dims(B=3, C=4, Co=6, H=5, W=8, K=3, G=2, stride=2),
        Dims(B=1, C=16, Co=16, H=14, W=14, K=3, G=4, stride=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=2, W=3, K=3, G=2, stride=1),)
    algebra = "W[i, j, o, c, u, v] = K[o, c, u, v] makes the two sums the same, group by group"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "kernel": (d.Co, d.C // d.G, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Connect locally, with the same weights everywhere."""
        return locally_connected2d.core(x, tied(d, kernel), stride=d.stride)

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve."""
        return conv2d.core(x, kernel, stride=d.stride)

    @mutant(drops="tied", side="left")
    def weights_scaled_by_position(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The weights of output (i, j) are (i + 2j + 1) times the kernel."""
        return locally_connected2d.core(x, numbered(tied(d, kernel)), stride=d.stride)

    @mutant(drops="tied", side="left", sparse=True)
    def other_weights_at_the_last(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last position has the kernel mirrored."""
        weight = tied(d, kernel).clone()
        weight[-1, -1] = kernel.flip(2, 3)
        return locally_connected2d.core(x, weight, stride=d.stride)

    @mutant(drops="blocked-groups")
    def interleaved_groups(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Group g reads every G-th channel from g on."""
        turned = x.view(d.B, -1, d.G, d.H, d.W).transpose(1, 2).flatten(1, 2)
        return self.right(d, turned, kernel)

    @mutant(drops="zero-padding")
    def replicated_border(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Outside the map its border repeats."""
        repeated = F.pad(x, (d.K // 2,) * 4, mode="replicate")
        return conv2d.core(repeated, kernel, stride=d.stride, padding=0)


class SeparableMlpIsMlpWithKroneckerWeights(RowOrder, Claim):
    """Mixing positions and then channels is one fully connected layer whose weights are a Kronecker product.

    separable(x, S, P) = mlp(x, P ⊗ S). Mixing positions alone is I ⊗ S, and mixing channels alone P ⊗ I.
    """

    name = "separable-mlp-is-mlp-with-kronecker-weights"
    operators = ("separable_mlp", "spatial_mixing_mlp", "channel_mlp", "mlp")
    source = f"{HAN}, figure of the relations between operators, where dimensions are separated"
    conditions = {
        "channels-outside": "the matrix over channels is the outer factor, as maps lie channel after channel",
        "one-matrix-each": "all channels have one matrix over positions, and all positions one over channels",
        "no-activation": "nothing stands between the two matrices",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, H=5, W=6),
        *(Dims(B=2, C=3, H=H, W=W) for H, W, _ in MAPS[:3]),
        Dims(B=2, C=4, H=7, W=7),
    )
    complete_shapes = (Dims(B=1, C=2, H=1, W=3),)
    algebra = "Σ_cq P[o, c] · S[p, q] · x[b, c, q] is Σ_n M[m, n] · x[b, n] with m = oN + p and n = cN + q"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and both matrices."""
        N = d.H * d.W
        return {"x": (d.B, d.C, d.H, d.W), "spatial": (N, N), "channel": (d.C, d.C)}

    def left(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> tuple[Tensor, ...]:
        """Mix both, positions alone, and channels alone."""
        return (
            separable_mlp.core(x, spatial, channel),
            spatial_mixing_mlp.core(x, spatial),
            channel_mlp.core(x, channel),
        )

    def right(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> tuple[Tensor, ...]:
        """Multiply the whole map with one matrix."""
        same = [torch.eye(len(matrix), dtype=x.dtype) for matrix in (spatial, channel)]
        pairs = (channel, spatial), (same[1], spatial), (channel, same[0])
        return tuple(mlp.core(x, kronecker(*pair), height=d.H, width=d.W) for pair in pairs)

    @mutant(drops="channels-outside")
    def positions_outside(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> tuple[Tensor, ...]:
        """The matrix over positions is the outer factor."""
        _, *rest = self.right(d, x, spatial, channel)
        return mlp.core(x, kronecker(spatial, channel), height=d.H, width=d.W), *rest

    @mutant(drops="one-matrix-each")
    def spatial_matrix_scaled(
        self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor
    ) -> tuple[Tensor, ...]:
        """Channel c has (c+1) times the matrix over positions."""
        _, *rest = self.right(d, x, spatial, channel)
        matrix = kronecker(channel * torch.arange(1, d.C + 1, dtype=x.dtype), spatial)
        return mlp.core(x, matrix, height=d.H, width=d.W), *rest

    @mutant(drops="one-matrix-each", sparse=True)
    def one_weight_more(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> tuple[Tensor, ...]:
        """One output reads one input once more than its factors say."""
        _, *rest = self.right(d, x, spatial, channel)
        matrix = kronecker(channel, spatial)
        matrix[-1, 0] += 1
        return mlp.core(x, matrix, height=d.H, width=d.W), *rest

    @mutant(drops="no-activation", side="left")
    def squared_between(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> tuple[Tensor, ...]:
        """What the first matrix makes is squared before the second."""
        _, mixed, alone = self.left(d, x, spatial, channel)
        return channel_mlp.core(mixed * mixed, channel), mixed, alone

    @equivalent("(P ⊗ I)(I ⊗ S) = (I ⊗ S)(P ⊗ I) = P ⊗ S")
    def channels_mixed_first(
        self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor
    ) -> tuple[Tensor, ...]:
        """Channels are mixed before positions."""
        _, *rest = self.right(d, x, spatial, channel)
        return spatial_mixing_mlp.core(channel_mlp.core(x, channel), spatial), *rest


def taps(d: Dims, size: int) -> tuple[Tensor, Tensor]:
    """Return by which tap an output reads an input along an axis, [H', H], and whether there is such one."""
    outputs = (size + 2 * (d.K // 2) - d.K) // d.stride + 1
    tap = torch.arange(size) - d.stride * torch.arange(outputs)[:, None] + d.K // 2
    return tap.clamp(0, d.K - 1), (tap >= 0) & (tap < d.K)


def tied(d: Dims, kernel: Tensor) -> Tensor:
    """Return the same kernel for every output position, [H', W', Co, C, K, K]."""
    return kernel.expand(len(taps(d, d.H)[0]), len(taps(d, d.W)[0]), -1, -1, -1, -1)


def numbered(weight: Tensor) -> Tensor:
    """Scale the weights of output (i, j) by i + 2j + 1, so that no two neighbours have the same."""
    rows, columns = (torch.arange(size, dtype=weight.dtype) for size in weight.shape[:2])
    return weight * (rows[:, None] + 2 * columns + 1)[..., None, None, None, None]


def local_matrix(d: Dims, weight: Tensor, outside: int = 0) -> Tensor:
    """Lay weights [H', W', Co, C, K, K] out as a matrix [Co·H'·W', C·H·W], ``outside`` beyond the windows."""
    (rows, in_rows), (columns, in_columns) = taps(d, d.H), taps(d, d.W)
    i, j = torch.arange(len(rows))[:, None, None, None], torch.arange(len(columns))[:, None, None]
    found = weight[i, j, :, :, rows[:, None, :, None], columns[:, None]]  # [H', W', H, W, Co, C]
    inside = (in_rows[:, None, :, None] & in_columns[:, None])[..., None, None].to(weight.dtype)
    matrix = found * inside + outside * (1 - inside)
    return matrix.permute(4, 0, 1, 5, 2, 3).reshape(weight.shape[2] * rows.shape[0] * columns.shape[0], -1)


def connect(d: Dims, x: Tensor, matrix: Tensor) -> Tensor:
    """Connect all inputs with all outputs of a map with the given stride."""
    return mlp.core(x, matrix, height=len(taps(d, d.H)[0]), width=len(taps(d, d.W)[0]))


def kronecker(outer: Tensor, inner: Tensor) -> Tensor:
    """Return the Kronecker product of two square matrices."""
    size = len(outer) * len(inner)
    return (outer[:, None, :, None] * inner[:, None]).reshape(size, size)
