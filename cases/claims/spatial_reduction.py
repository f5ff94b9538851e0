"""Attention to a reduced map: where nothing is reduced, what is left out, what is linear, and its rank."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import self_attention, spatial_reduction_attention
from .global_attention import END_TO_END, REALISTIC, SMALL
from .index_sets import within
from .self_attention import project

PVT = "Wang et al. 2021, ICCV, arXiv 2102.12122"
# (H, W, R): cells that fill the map, and maps that have rows and columns left over.
REDUCED_MAPS = ((7, 6, 2), (9, 7, 4), (4, 8, 2), (3, 5, 3))


class SpatialReductionOfRatioOne(Claim):
    """Spatial-reduction attention with R = 1 is self-attention of the projected map.

    Its reduction is then a 1×1 convolution, and with the identity there it is self-attention of the map
    itself. The released code leaves the reduction and its norm out for R = 1.
    """

    name = "spatial-reduction-of-ratio-one-is-self-attention"
    operators = ("spatial_reduction_attention", "self_attention")
    source = f"{PVT}, section 3.3: the ratio of its last stage is one; released code (whai362/PVT)"
    conditions = {
        "ratio-one": "a cell is one position",
        "no-norm": "no layer norm follows the reduction",
        "applied": "the reduction is applied to what is attended to",
    }
    shapes = (*SMALL, REALISTIC)
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the reduction, and the attention maps."""
        N = d.H * d.W
        return {"x": (d.B, d.C, d.H, d.W), "reduce": (d.C, d.C), "attention": (d.B, d.M, N, N)}

    def left(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Reduce by a 1×1 convolution, and by the identity."""
        identity = torch.eye(d.C, dtype=x.dtype)
        reduced, same = (
            spatial_reduction_attention.core(x, weight[..., None, None], attention)
            for weight in (reduce, identity)
        )
        return reduced, same

    def right(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the projected map, and to the map."""
        return self_attention.core(project(x, reduce), attention), self_attention.core(x, attention)

    @mutant(drops="ratio-one", side="left")
    def cells_of_four(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of 2×2 are reduced by the sum of their positions, and attended to with as many weights."""
        cells = d.H // 2 * (d.W // 2)
        weight = reduce[..., None, None].expand(-1, -1, 2, 2)
        reduced = spatial_reduction_attention.core(x, weight, attention[..., :cells])
        return reduced, self.left(d, x, reduce, attention)[1]

    @mutant(drops="no-norm", side="left")
    def centred(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """From C times the reduced map the sum of its channels is taken, the linear half of a layer norm."""
        centre = d.C * torch.eye(d.C, dtype=x.dtype) - 1
        return self.left(d, x, centre @ reduce, attention)[0], self.left(d, x, reduce, attention)[1]

    @mutant(drops="applied")
    def not_reduced(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """The map itself is attended to in both."""
        same = self_attention.core(x, attention)
        return same, same

    @mutant(sparse=True)
    def one_weight_left_out(
        self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first position does not see the last."""
        left_out = attention.clone()
        left_out[:, :, 0, -1] = 0
        return self.right(d, x, reduce, left_out)


class SpatialReductionHasLowRank(Claim):
    """The rank of spatial-reduction attention's matrix over positions is at most the number of cells.

    From any channel to any other it is a product A·S of the attention map, which has N rows and ⌊H/R⌋·⌊W/R⌋
    columns, and the reduction, so its rank is at most N/R². That of self-attention may be N: the softmax
    does not lower it.
    """

    name = "spatial-reduction-has-low-rank"
    kind = "inequality"
    operators = ("spatial_reduction_attention",)
    source = (
        f"follows from {PVT}, eq. (2) to (4); Han et al. 2022, arXiv 2106.04263, whose graph of relations "
        "leads from the vision transformer to PVT by spatial low rank"
    )
    conditions = {
        "reduced": "positions attend to cells of R×R, not to each other",
        "no-residual": "the residual sum around the layer is left out",
    }
    shapes = (
        Dims(B=2, C=2, M=2, H=4, W=6, R=2),
        Dims(B=1, C=2, M=1, H=5, W=7, R=3),
        Dims(B=1, C=2, M=1, H=8, W=8, R=4),
    )
    complete_shapes = (Dims(B=1, C=2, M=1, H=2, W=4, R=2),)
    algebra = "rank(A·S) is at most the number of columns of A"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the reduction and the attention maps."""
        return {
            "reduce": (d.C, d.C, d.R, d.R),
            "attention": (d.B, d.M, d.H * d.W, cells(d)),
            "whole": (d.B, 1, d.H * d.W, d.H * d.W),
        }

    def lesser(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute the rank of the matrix over positions of every image and every two channels."""
        return ranks(self.left(d, **given))

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Count the cells."""
        return torch.tensor(cells(d))

    def left(self, d: Dims, reduce: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Read the matrices [B, C, C, N, N] off the operator, by maps that are one at one position."""
        N = d.H * d.W
        places = torch.eye(d.C * N, dtype=reduce.dtype).view(d.C * N, d.C, d.H, d.W)
        images = [
            spatial_reduction_attention.core(places, reduce, maps.expand(d.C * N, -1, -1, -1))
            for maps in attention
        ]
        return torch.stack(images).view(d.B, d.C, N, d.C, N).permute(0, 3, 1, 4, 2)

    def right(self, d: Dims, reduce: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Multiply A, whose columns are the cells, and S; a product has at most the rank of a factor."""
        maps = attention.repeat_interleave(d.C // d.M, 1)
        return torch.einsum("bopq,oiqn->boipn", maps, reduction_matrix(d, reduce))

    @mutant(drops="reduced", side="lesser")
    def self_attention_instead(self, d: Dims, whole: Tensor, **_: Tensor) -> Tensor:
        """The matrix is that of self-attention."""
        N = d.H * d.W
        places = torch.eye(N, dtype=whole.dtype).view(N, 1, d.H, d.W)
        matrices = [self_attention.core(places, maps.expand(N, -1, -1, -1)).view(N, N) for maps in whole]
        return ranks(torch.stack(matrices))

    @mutant(drops="no-residual", side="lesser")
    def with_residual(self, d: Dims, **given: Tensor) -> Tensor:
        """The map itself is added to the output."""
        N, dtype = d.H * d.W, given["reduce"].dtype
        residual = torch.eye(d.C, dtype=dtype)[..., None, None] * torch.eye(N, dtype=dtype)
        return ranks(self.left(d, **given) + residual)

    @mutant(side="greater")
    def one_less(self, d: Dims, **_: Tensor) -> Tensor:
        """The rank is less than the number of cells."""
        return torch.tensor(cells(d) - 1)

    @mutant()
    def transposed_reduction(self, d: Dims, reduce: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Rows and columns of the reduction's channels are exchanged."""
        return self.right(d, reduce.transpose(0, 1), attention)

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, reduce: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """The first position does not see the last cell."""
        left_out = attention.clone()
        left_out[:, :, 0, -1] = 0
        return self.right(d, reduce, left_out)


class SpatialReductionMissesTheRemainder(Claim):
    """Where R does not divide a side of the map, spatial-reduction attention does not see what is left over.

    The strided reduction has ⌊H/R⌋·⌊W/R⌋ cells, which cover the first R⌊H/R⌋ rows and R⌊W/R⌋ columns. What
    lies in the others is neither key nor value to any position, though these positions get an output.
    """

    name = "spatial-reduction-misses-the-remainder"
    operators = ("spatial_reduction_attention",)
    source = (
        "released code (whai362/PVT), where kernel and stride of the reducing convolution are R, without "
        f"padding; {PVT}, eq. (3), has N/R² cells and so speaks of maps that R×R cells fill"
    )
    conditions = {
        "left-over": "what is exchanged lies behind the last whole cell",
        "not-padded": "the map is not padded to whole cells",
    }
    shapes = tuple(Dims(B=2, C=4, M=2, H=H, W=W, R=R) for H, W, R in REDUCED_MAPS if H % R or W % R)
    complete_shapes = (Dims(B=1, C=2, M=2, H=3, W=5, R=2),)
    corrects = "spatial-reduction-misses-the-remainder-as-stated"
    algebra = "no cell reads a position of the remainder, so no term of z = reduce ∗ x has one"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a map, another one, the reduction, and attention maps with a column more per side."""
        more = (d.H // d.R + 1) * (d.W // d.R + 1)
        return {
            "x": (d.B, d.C, d.H, d.W),
            "other": (d.B, d.C, d.H, d.W),
            "reduce": (d.C, d.C, d.R, d.R),
            "attention": (d.B, d.M, d.H * d.W, more),
        }

    def left(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Attend to the cells of the map."""
        return spatial_reduction_attention.core(x, reduce, attention[..., : cells(d)])

    def right(self, d: Dims, x: Tensor, other: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """Attend to the cells of a map that has other rows and columns behind the last whole cell."""
        return self.left(d, with_remainder(d, x, other), reduce, attention)

    @lemma
    def no_cell_reads_the_remainder(self, z3: Any) -> Lemma:
        """Cell n reads the rows nR to nR+R−1; a row of RQ or more, Q = H div R, is in none of the Q cells."""
        i, n, Q, R = z3.Ints("i n Q R")
        return Lemma(
            {"left over": i >= R * Q, "a cell": n < Q},
            z3.Not(within(z3, i, R, first=n * R)),
        )

    @mutant(drops="left-over")
    def one_row_more(self, d: Dims, x: Tensor, other: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """The last row and column of the last whole cells are exchanged too."""
        kept = x[:, :, : d.H // d.R * d.R - 1, : d.W // d.R * d.R - 1]
        mixed = other.clone()
        mixed[:, :, : kept.shape[2], : kept.shape[3]] = kept
        return self.left(d, mixed, reduce, attention)

    @mutant(drops="left-over", sparse=True)
    def one_pixel_of_a_cell(
        self, d: Dims, x: Tensor, other: Tensor, reduce: Tensor, attention: Tensor
    ) -> Tensor:
        """One pixel of a cell is exchanged too, and seen by one position alone."""
        mixed = with_remainder(d, x, other)
        mixed[:, :, 0, 0] = other[:, :, 0, 0]
        outputs = self.left(d, x, reduce, attention)
        outputs[..., 0, 0] = self.left(d, mixed, reduce, attention)[..., 0, 0]
        return outputs

    @mutant(drops="not-padded")
    def padded_to_whole_cells(
        self, d: Dims, x: Tensor, other: Tensor, reduce: Tensor, attention: Tensor
    ) -> Tensor:
        """Zeros below and to the right fill the cells that the border cuts, and these are attended to."""
        wide = F.pad(with_remainder(d, x, other), (0, -d.W % d.R, 0, -d.H % d.R))
        taps = wide.unfold(2, d.R, d.R).unfold(3, d.R, d.R)
        reduced = torch.einsum("ocuv,bcijuv->boij", reduce, taps).flatten(2)
        heads = reduced.reshape(d.B, d.M, d.C // d.M, -1)
        mixed = torch.einsum("bmpq,bmdq->bmdp", attention[..., : heads.shape[3]], heads)
        return mixed.reshape(x.shape)

    @equivalent("what no cell reads may as well be cut off, if the maps keep a row for every position")
    def remainder_of_zeros(
        self, d: Dims, x: Tensor, other: Tensor, reduce: Tensor, attention: Tensor
    ) -> Tensor:
        """The remainder is zero."""
        return self.right(d, x, torch.zeros_like(other), reduce, attention)


class SpatialReductionMissesTheRemainderAsStated(Claim):
    """Every position of the map is attended to in spatial-reduction attention, whatever its size.

    Then exchanging the last rows and columns would change outputs.
    """

    name = "spatial-reduction-misses-the-remainder-as-stated"
    kind = "negative"
    expected = "refuted"
    operators = ("spatial_reduction_attention",)
    source = f"read into {PVT}, section 3.3, where it replaces multi-head attention over the whole map"
    shapes = SpatialReductionMissesTheRemainder.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return two maps, the reduction, and the attention maps."""
        return SpatialReductionMissesTheRemainder().variables(d)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Attend to the cells of the map."""
        return SpatialReductionMissesTheRemainder().left(d, **given)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Attend to the cells of a map whose last rows and columns are others."""
        return SpatialReductionMissesTheRemainder().right(d, **given)


class SpatialReductionOfRatioOneEndToEnd(Claim):
    """With R = 1 spatial-reduction attention is multi-head self-attention, softmax and projections included.

    The released code leaves out the reduction and its layer norm for R = 1. Its layer for keys and values is
    the second and third part of the layer for queries, keys and values.
    """

    name = "spatial-reduction-of-ratio-one-is-multi-head-attention"
    operators = ("spatial_reduction_attention", "self_attention")
    source = f"{PVT}, section 3.3, whose last stage has the ratio one; released code (whai362/PVT)"
    conditions = {
        "no-norm": "no layer norm comes before keys and values",
        "key-before-value": "the layer for keys and values has those for keys first",
        "same-heads": "both have the same heads",
        "query-first": "queries are the first part of the layer",
    }
    shapes = END_TO_END
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the layers."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "query": (d.C, d.C),
            "query_bias": (d.C,),
            "key_value": (2 * d.C, d.C),
            "key_value_bias": (2 * d.C,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
        }

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute spatial-reduction attention without a reduction."""
        return spatial_reduction_attention.module(**given, heads=d.M)

    def right(self, d: Dims, query: Tensor, key_value: Tensor, **rest: Tensor) -> Tensor:
        """Compute self-attention with the layers put together."""
        return attend(d, torch.cat([query, key_value]), **rest)

    @mutant(drops="no-norm", side="left")
    def centred(self, d: Dims, key_value: Tensor, **rest: Tensor) -> Tensor:
        """Keys and values see the map less the mean of its channels, the linear half of a layer norm."""
        mean = torch.ones(d.C, d.C, dtype=key_value.dtype) * (1 / d.C)
        centre = torch.eye(d.C, dtype=key_value.dtype) - mean
        return SpatialReductionOfRatioOneEndToEnd.left(self, d, key_value=key_value @ centre, **rest)

    @mutant(drops="key-before-value")
    def value_before_key(self, d: Dims, key_value: Tensor, key_value_bias: Tensor, **rest: Tensor) -> Tensor:
        """Keys and values change places."""
        swapped, biases = key_value.roll(d.C, 0), key_value_bias.roll(d.C, 0)
        return self.right(d, key_value=swapped, key_value_bias=biases, **rest)

    @mutant(drops="same-heads")
    def head_per_channel(self, d: Dims, **given: Tensor) -> Tensor:
        """Every channel is a head, with the scale of the others."""
        scale: float = (d.C // d.M) ** -0.5
        query, bias = scale * given["query"], scale * given["query_bias"]
        return self.right(d.replace(M=d.C), **{**given, "query": query, "query_bias": bias})

    @mutant(drops="query-first")
    def query_last(self, d: Dims, query: Tensor, key_value: Tensor, **rest: Tensor) -> Tensor:
        """Queries are taken for the last part."""
        return attend(d, torch.cat([key_value, query]), **rest)

    @mutant(sparse=True)
    def bias_twice_at_one_position(self, d: Dims, proj_bias: Tensor, **rest: Tensor) -> Tensor:
        """For one channel at the last position the last bias is added twice."""
        output = self.right(d, proj_bias=proj_bias, **rest)
        output[:, 0, -1, -1] += proj_bias[0]
        return output


class SpatialReductionIsALinearProjection(Claim):
    """Without its layer norm the reduction of keys and values is a linear projection, of rank at most C·N/R².

    Behind the norm it is not linear: LN(L·(x + y)) is not LN(L·x) + LN(L·y), whatever the norm's gain.
    """

    name = "spatial-reduction-is-a-linear-projection"
    operators = ("spatial_reduction_attention",)
    source = (
        f"{PVT}, eq. (3), where W in Norm(Reshape(x, R)·W) “is a linear projection that reduces the "
        "dimension of the input sequence to C_i”"
    )
    conditions = {
        "no-norm": "no layer norm follows the reduction",
        "no-bias": "the reduction has no bias",
        "given-maps": "attention maps are held fixed",
    }
    shapes = tuple(Dims(B=2, C=4, M=2, H=H, W=W, R=R) for H, W, R in REDUCED_MAPS)
    complete_shapes = (Dims(B=2, C=2, M=2, H=2, W=4, R=2),)
    corrects = "spatial-reduction-is-a-linear-projection-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the reduction, and the attention maps."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "reduce": (d.C, d.C, d.R, d.R),
            "attention": (d.B, d.M, d.H * d.W, cells(d)),
        }

    def left(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """Reduce, and attend to what is left."""
        return spatial_reduction_attention.core(x, reduce, attention)

    def right(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """Multiply the whole map by one matrix, and attend to the result."""
        return self.attended(d, self.projected(d, x, reduce), attention)

    def projected(self, d: Dims, x: Tensor, reduce: Tensor) -> Tensor:
        """Multiply the map, as one vector per image, by the matrix [C·cells, C·N]: [B, C, cells]."""
        matrix = reduction_matrix(d, reduce).transpose(1, 2).reshape(d.C * cells(d), -1)
        return (x.flatten(1) @ matrix.T).view(d.B, d.C, -1)

    def attended(self, d: Dims, reduced: Tensor, attention: Tensor) -> Tensor:
        """Attend to the cells."""
        heads = reduced.view(d.B, d.M, d.C // d.M, -1)
        return torch.einsum("bmpq,bmdq->bmdp", attention, heads).reshape(d.B, d.C, d.H, d.W)

    @mutant(drops="no-norm")
    def scaled_by_the_map(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """A cell is scaled by what the map holds there, as a norm scales it, here by the sum of squares."""
        reduced = self.projected(d, x, reduce)
        return self.attended(d, reduced * (reduced * reduced).sum(1, keepdim=True), attention)

    @mutant(drops="no-bias")
    def bias_of_one(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """One is added to all cells."""
        return self.attended(d, self.projected(d, x, reduce) + 1, attention)

    @mutant(drops="given-maps")
    def maps_that_see_the_image(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """A row of a map is scaled by the first channel of its position."""
        return self.right(d, x, reduce, attention * x[:, :1].flatten(2)[..., None])

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, x: Tensor, reduce: Tensor, attention: Tensor) -> Tensor:
        """The first position does not see the last cell."""
        left_out = attention.clone()
        left_out[:, :, 0, -1] = 0
        return self.right(d, x, reduce, left_out)


class SpatialReductionIsALinearProjectionAsStated(Claim):
    """The reduction of keys and values is a linear projection of the map: SR(x + y) = SR(x) + SR(y).

    What the paper calls so is the matrix before the layer norm.
    """

    name = "spatial-reduction-is-a-linear-projection-as-stated"
    expected = "refuted"
    operators = ("spatial_reduction_attention",)
    source = (
        f"read into {PVT}, eq. (3), where “a linear projection that reduces the dimension” is in the norm"
    )
    shapes = (Dims(B=2, C=4, M=1, H=4, W=6, R=2), Dims(B=1, C=4, M=1, H=3, W=5, R=3))
    complete_shapes = (Dims(B=1, C=4, M=1, H=2, W=4, R=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return two maps, the reduction, and what the norm adds to the variance."""
        shape = (d.B, d.C, d.H, d.W)
        return {"x": shape, "y": shape, "reduce": (d.C, d.C, d.R, d.R), "eps": ()}

    def left(self, d: Dims, x: Tensor, y: Tensor, **layer: Tensor) -> Tensor:
        """Reduce and normalise the sum."""
        return normed_cells(d, x + y, **layer)

    def right(self, d: Dims, x: Tensor, y: Tensor, **layer: Tensor) -> Tensor:
        """Add what is reduced and normalised."""
        return normed_cells(d, x, **layer) + normed_cells(d, y, **layer)


def attend(
    d: Dims,
    qkv: Tensor,
    query_bias: Tensor,
    key_value_bias: Tensor,
    x: Tensor,
    **last: Tensor,
) -> Tensor:
    """Compute self-attention with one layer for queries, keys and values, and biases in two parts."""
    return self_attention.module(x, qkv, **last, qkv_bias=torch.cat([query_bias, key_value_bias]), heads=d.M)


def normed_cells(d: Dims, x: Tensor, reduce: Tensor, eps: Tensor) -> Tensor:
    """Reduce a map and normalise the channels of every cell: [B, C, H, W], the cells first, then zeros."""
    attention = torch.eye(d.H * d.W, cells(d), dtype=x.dtype).expand(d.B, 1, -1, -1)
    reduced = spatial_reduction_attention.core(x, reduce, attention)
    centred = reduced - reduced.mean(1, keepdim=True)
    return centred * (centred.square().mean(1, keepdim=True) + eps * eps).rsqrt()


def ranks(matrices: Tensor) -> Tensor:
    """Return the ranks of matrices [..., N, N]."""
    found: Tensor = torch.linalg.matrix_rank(matrices)
    return found


def cells(d: Dims) -> int:
    """Count the cells that lie in the map."""
    return int(d.H // d.R * (d.W // d.R))


def reduction_matrix(d: Dims, reduce: Tensor) -> Tensor:
    """Write the reduction as matrices [C, C, cells, N] over positions, one for every two channels."""
    down, right = (
        torch.eye(size // d.R * d.R, size, dtype=reduce.dtype).view(size // d.R, d.R, size)
        for size in (d.H, d.W)
    )
    return torch.einsum("oiuv,auh,bvw->oiabhw", reduce, down, right).reshape(d.C, d.C, -1, d.H * d.W)


def with_remainder(d: Dims, x: Tensor, other: Tensor) -> Tensor:
    """Take what lies behind the last whole cells from another map."""
    down, right = (torch.arange(size).lt(size // d.R * d.R).to(x.dtype) for size in (d.H, d.W))
    mask = down[:, None] * right
    return mask * x + (1 - mask) * other
