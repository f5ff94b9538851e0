"""Attention over the whole map: with fixed maps, over several heads, and to a reduced map."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..attention import self_attention, sliding_attention2d, spatial_reduction_attention
from ..mlp import separable_mlp, spatial_mixing_mlp
from ..workloads import MAPS
from .index_sets import BlockedGroups, within
from .involution import output_layer, pair_logits, queries_keys_values
from .self_attention import project
from .window_attention import reordered, swap, turn

VASWANI = "Vaswani et al. 2017, NeurIPS, arXiv 1706.03762"
PVT = "Wang et al. 2021, ICCV, arXiv 2102.12122"
MIXER = "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, M=2, H=H, W=W) for H, W, _ in reversed(MAPS[:4]))
REALISTIC = Dims(B=1, C=32, M=2, H=7, W=7)
# (H, W, R): cells that fill the map, and maps that have rows and columns left over.
REDUCED_MAPS = ((7, 6, 2), (9, 7, 4), (4, 8, 2), (3, 5, 3))


class SelfAttentionWithFixedMapsIsTokenMixing(BlockedGroups, Claim):
    """Self-attention whose maps do not depend on the input is token mixing, with a matrix for every head.

    MLP-Mixer's mixing of positions, one linear layer of it, is that with a single head: one matrix for all
    channels.
    """

    name = "self-attention-with-fixed-maps-is-token-mixing"
    operators = ("self_attention", "spatial_mixing_mlp")
    source = (
        f"{MIXER}, eq. (1); Han et al. 2022, ICLR, arXiv 2106.04263, whose graph of relations leads from the "
        "separable MLP to the vision transformer by a dynamic matrix over positions"
    )
    conditions = {
        "input-independent": "the maps are the same for every image",
        "per-head": "every head has a matrix of its own",
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "giving": "a row of the matrix holds the weights that its position gives",
    }
    shapes = (*SMALL, REALISTIC)
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3),)
    algebra = "Σ_q a[m, p, q] · v[b, mD+e, q] is the mixing of the D channels of head m by the matrix a[m]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values, the maps of all heads, and what an image may add to them."""
        N = d.H * d.W
        return {"value": (d.B, d.C, d.H, d.W), "matrices": (d.M, N, N), "own": (d.B, 1, N, 1)}

    def given(self, d: Dims, value: Tensor, matrices: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Give every image the same maps."""
        return {"value": value, "matrices": matrices, "attention": matrices.expand(d.B, -1, -1, -1)}

    def left(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Attend to the whole map."""
        return self_attention.core(value, attention)

    def right(self, d: Dims, value: Tensor, matrices: Tensor, **_: Tensor) -> Tensor:
        """Mix the positions of every head's channels."""
        heads = zip(value.chunk(d.M, 1), matrices, strict=True)
        return torch.cat([spatial_mixing_mlp.core(channels, matrix) for channels, matrix in heads], 1)

    @mutant(drops="input-independent", side="given")
    def maps_of_an_image(self, d: Dims, value: Tensor, matrices: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Every image adds something of its own to the maps."""
        return {"value": value, "matrices": matrices, "attention": matrices + own}

    @mutant(drops="input-independent", side="given")
    def maps_that_see_the_image(
        self, d: Dims, value: Tensor, matrices: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """A row is scaled by the first channel of its position."""
        seen = value[:, :1].flatten(2)[..., None]
        return {"value": value, "matrices": matrices, "attention": matrices * seen}

    @mutant(drops="per-head")
    def one_matrix(self, d: Dims, value: Tensor, matrices: Tensor, **_: Tensor) -> Tensor:
        """All channels are mixed by the matrix of the first head, as in MLP-Mixer."""
        return spatial_mixing_mlp.core(value, matrices[0])

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, value: Tensor, matrices: Tensor, **_: Tensor) -> Tensor:
        """Channel c is mixed by the matrix of head c mod M."""
        mixed = [spatial_mixing_mlp.core(value[:, m :: d.M], matrices[m]) for m in range(d.M)]
        return torch.stack(mixed, 2).reshape(value.shape)

    @mutant(drops="giving")
    def transposed_matrices(self, d: Dims, value: Tensor, matrices: Tensor, **_: Tensor) -> Tensor:
        """Rows hold the weights that positions get."""
        return self.right(d, value, matrices.mT)

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, value: Tensor, matrices: Tensor, **_: Tensor) -> Tensor:
        """The first position does not see the last."""
        left_out = matrices.clone()
        left_out[:, 0, -1] = 0
        return self.right(d, value, left_out)


class OneHeadWithAFixedMapIsSeparableMlp(Claim):
    """Self-attention of one head with a fixed map is the separable MLP, whose channel matrix is W_o·W_v.

    W_o(A·W_v x) mixes positions by A and channels by W_o·W_v, each by one linear layer.
    """

    name = "one-head-with-a-fixed-map-is-separable-mlp"
    operators = ("self_attention", "separable_mlp")
    source = f"{MIXER}, eq. (1), without its layer norms, hidden layers and residual sums; {VASWANI}, eq. (1)"
    conditions = {
        "one-head": "all channels share one map",
        "input-independent": "the map is the same for every image",
        "output-last": "the channel matrix is W_o·W_v, in this order",
    }
    shapes = tuple(d.replace(M=1) for d in (*SMALL, REALISTIC))
    complete_shapes = (Dims(B=2, C=3, M=1, H=2, W=2),)
    algebra = "Σ_c W_o[o, c] Σ_q A[p, q] Σ_i W_v[c, i] x[i, q] = Σ_i (W_o·W_v)[o, i] Σ_q A[p, q] x[i, q]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, both projections, the matrix over positions, and another one."""
        N, square = d.H * d.W, (d.C, d.C)
        shape = (d.B, d.C, d.H, d.W)
        return {"x": shape, "W_v": square, "W_o": square, "matrix": (N, N), "other": (N, N)}

    def left(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, matrix: Tensor, **_: Tensor) -> Tensor:
        """Project values, attend, and project the output."""
        attention = matrix.expand(d.B, 1, -1, -1)
        return project(self_attention.core(project(x, W_v), attention), W_o)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, matrix: Tensor, **_: Tensor) -> Tensor:
        """Mix positions, then channels."""
        return separable_mlp.core(x, matrix, W_o @ W_v)

    @mutant(drops="one-head", side="left")
    def two_heads(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, matrix: Tensor, other: Tensor
    ) -> Tensor:
        """The second half of the channels has another map."""
        value = F.pad(project(x, W_v), (0, 0, 0, 0, 0, d.C % 2))
        attention = torch.stack([matrix, other]).expand(d.B, 2, -1, -1)
        return project(self_attention.core(value, attention)[:, : d.C], W_o)

    @mutant(drops="input-independent", side="left")
    def map_of_an_image(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, matrix: Tensor, **_: Tensor
    ) -> Tensor:
        """The map is scaled by the sum of the image's first channel."""
        attention = matrix * x[:, :1].sum((2, 3))[..., None, None]
        return project(self_attention.core(project(x, W_v), attention), W_o)

    @mutant(drops="output-last")
    def values_last(self, d: Dims, W_v: Tensor, W_o: Tensor, **rest: Tensor) -> Tensor:
        """The channel matrix is W_v·W_o."""
        return self.right(d, W_v=W_o, W_o=W_v, **rest)

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, matrix: Tensor, **rest: Tensor) -> Tensor:
        """The first position does not see the last."""
        left_out = matrix.clone()
        left_out[0, -1] = 0
        return self.right(d, matrix=left_out, **rest)

    @equivalent("matrices over positions and matrices over channels commute")
    def channels_first(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, matrix: Tensor, **_: Tensor
    ) -> Tensor:
        """Mix channels, then positions."""
        return spatial_mixing_mlp.core(project(x, W_o @ W_v), matrix)


class SelfAttentionIsASumOverHeads(BlockedGroups, Claim):
    """Self-attention of M heads is a sum of M attentions of one head, with matrices W_o^m·W_v^m of C×C.

    W_o[a_1; …; a_M] = Σ_m A_m · (W_o^m · W_v^m) x, where W_v^m are the D rows of W_v and W_o^m the D columns
    of W_o that head m owns. So values and output merge head by head, into matrices of rank at most D.
    """

    name = "self-attention-is-a-sum-over-heads"
    operators = ("self_attention",)
    source = f"follows from {VASWANI}, section 3.2.2: heads are concatenated and once again projected"
    conditions = {
        "own-columns": "a head is projected by the columns of W_o that it owns",
        "own-rows": "a head has the rows of W_v that it owns",
        "own-map": "every head has a map of its own",
        "added": "the outputs of all heads are added up",
    }
    shapes = (*SMALL, Dims(B=1, C=16, M=4, H=7, W=7))
    complete_shapes = (Dims(B=1, C=4, M=2, H=2, W=3),)
    algebra = "Σ_c W_o[o, c] · h[c] over all channels is Σ_m of the sum over the D channels of head m"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, both projections, and the attention maps."""
        N = d.H * d.W
        return {
            "x": (d.B, d.C, d.H, d.W),
            "W_v": (d.C, d.C),
            "W_o": (d.C, d.C),
            "attention": (d.B, d.M, N, N),
        }

    def left(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """Project values, attend, and project the output."""
        return project(self_attention.core(project(x, W_v), attention), W_o)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """Attend with one head M times, and add up."""
        heads = zip(W_o.chunk(d.M, 1), W_v.chunk(d.M, 0), attention.split(1, 1), strict=True)
        terms = [self_attention.core(project(x, out @ value), one) for out, value, one in heads]
        return torch.stack(terms).sum(0)

    @mutant(drops="own-columns")
    def columns_of_another_head(self, d: Dims, W_o: Tensor, **rest: Tensor) -> Tensor:
        """A head is projected by the columns of the one before."""
        return self.right(d, W_o=W_o.roll(d.C // d.M, 1), **rest)

    @mutant(drops="own-rows")
    def rows_of_another_head(self, d: Dims, W_v: Tensor, **rest: Tensor) -> Tensor:
        """A head has the rows of the one before."""
        return self.right(d, W_v=W_v.roll(d.C // d.M, 0), **rest)

    @mutant(drops="own-map")
    def one_map(self, d: Dims, attention: Tensor, **rest: Tensor) -> Tensor:
        """All heads have the map of the first."""
        return self.right(d, attention=attention[:, :1].expand_as(attention), **rest)

    @mutant(drops="added")
    def first_head_only(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """The other heads are left out."""
        D = d.C // d.M
        return self_attention.core(project(x, W_o[:, :D] @ W_v[:D]), attention[:, :1])

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, attention: Tensor, **rest: Tensor) -> Tensor:
        """The first position does not see the last."""
        left_out = attention.clone()
        left_out[:, :, 0, -1] = 0
        return self.right(d, attention=left_out, **rest)

    @equivalent("a sum does not depend on its order")
    def heads_reversed(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """Heads come in the other order, with their rows, columns and maps."""
        rows = W_v.view(d.M, -1, d.C).flip(0).reshape(d.C, d.C)
        columns = W_o.view(d.C, d.M, -1).flip(1).reshape(d.C, d.C)
        return self.left(d, x, rows, columns, attention.flip(1))


class OutputProjectionMergesIntoValues(Claim):
    """With one head W_o and W_v are one matrix: W_o(A·W_v x) = A·(W_o·W_v) x.

    Either may then stand before the sum over positions or after it. With more heads they are M matrices.
    """

    name = "output-projection-merges-into-values"
    operators = ("self_attention",)
    source = f"follows from {VASWANI}, eq. (1) and section 3.2.2"
    conditions = {
        "one-head": "all channels share one map",
        "no-bias": "no bias stands between the projections",
        "output-last": "the matrix is W_o·W_v, in this order",
    }
    shapes = tuple(d.replace(M=1) for d in (*SMALL, REALISTIC))
    complete_shapes = (Dims(B=1, C=4, M=1, H=2, W=3),)
    corrects = "output-projection-merges-into-values-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, both projections, the attention map, and that of another head."""
        maps = (d.B, 1, d.H * d.W, d.H * d.W)
        return {
            "x": (d.B, d.C, d.H, d.W),
            "W_v": (d.C, d.C),
            "W_o": (d.C, d.C),
            "attention": maps,
            "other": maps,
        }

    def left(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Project values, attend, and project the output."""
        return project(self_attention.core(project(x, W_v), attention), W_o)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Project once, and attend."""
        return self_attention.core(project(x, W_o @ W_v), attention)

    @mutant(drops="one-head", side="left")
    def two_heads(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, other: Tensor
    ) -> Tensor:
        """The second half of the channels has another map."""
        return self.left(d, x, W_v, W_o, torch.cat([attention, other], 1))

    @mutant(drops="no-bias", side="left")
    def bias_between(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, **_: Tensor
    ) -> Tensor:
        """One is added to all values."""
        return project(self_attention.core(project(x, W_v) + 1, attention), W_o)

    @mutant(drops="output-last")
    def values_last(self, d: Dims, W_v: Tensor, W_o: Tensor, **rest: Tensor) -> Tensor:
        """The matrix is W_v·W_o."""
        return self.right(d, W_v=W_o, W_o=W_v, **rest)

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, attention: Tensor, **rest: Tensor) -> Tensor:
        """The first position does not see the last."""
        left_out = attention.clone()
        left_out[:, :, 0, -1] = 0
        return self.right(d, attention=left_out, **rest)

    @equivalent("a sum over positions and one over channels may be taken in either order")
    def projected_last(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, **_: Tensor
    ) -> Tensor:
        """Attend, and project once."""
        return project(self_attention.core(x, attention), W_o @ W_v)

    @equivalent("heads with the same map are one head", side="left")
    def two_heads_with_one_map(
        self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor, **_: Tensor
    ) -> Tensor:
        """The second half of the channels has the same map."""
        return self.left(d, x, W_v, W_o, torch.cat([attention, attention], 1))


class OutputProjectionMergesIntoValuesAsStated(Claim):
    """W_o and W_v are one matrix, whatever the number of heads, for nothing nonlinear stands between them."""

    name = "output-projection-merges-into-values-as-stated"
    expected = "refuted"
    operators = ("self_attention",)
    source = f"read into {VASWANI}, section 3.2.2, where projections follow each other"
    shapes = SMALL

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, both projections, and the attention maps."""
        return SelfAttentionIsASumOverHeads().variables(d)

    def left(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """Project values, attend, and project the output."""
        return project(self_attention.core(project(x, W_v), attention), W_o)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, W_o: Tensor, attention: Tensor) -> Tensor:
        """Project once, and attend."""
        return self_attention.core(project(x, W_o @ W_v), attention)


class OneHeadProjectsValuesLast(Claim):
    """With one head, sliding-window attention may weigh the map first and apply W_v to the sums.

    W_v acts on channels and the window on positions. With more heads W_v would mix what heads have weighted
    differently. A bias of the values stays out of it: at the border, or wherever weights do not sum to one,
    it would be weighed as well.
    """

    name = "one-head-local-attention-projects-values-last"
    operators = ("sliding_attention2d",)
    source = (
        "follows from Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2), whose values are W_v x"
    )
    conditions = {
        "one-head": "all channels share the weights of a position",
        "no-bias": "values have no bias",
    }
    shapes = (
        *(Dims(B=2, C=4, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4])),
        Dims(B=1, C=16, H=14, W=14, K=7),
    )
    complete_shapes = (Dims(B=2, C=4, H=2, W=3, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the projection, the weights, and those of another head."""
        weights = (d.B, 1, d.H, d.W, d.K**2)
        return {
            "x": (d.B, d.C, d.H, d.W),
            "W_v": (d.C, d.C),
            "attention": weights,
            "other": weights,
        }

    def left(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Project values, and attend to the window."""
        return sliding_attention2d.core(project(x, W_v), attention)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Attend to the window, and project the sums."""
        return project(sliding_attention2d.core(x, attention), W_v)

    @mutant(drops="one-head", side="given")
    def two_heads(
        self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, other: Tensor
    ) -> Mapping[str, Tensor]:
        """The second half of the channels has weights of its own, on both sides."""
        return {"x": x, "W_v": W_v, "attention": torch.cat([attention, other], 1)}

    @mutant(drops="no-bias")
    def bias_last(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """A bias of one for the values is added to the sums."""
        return self.right(d, x, W_v, attention) + 1

    @mutant()
    def transposed_projection(
        self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, **_: Tensor
    ) -> Tensor:
        """The sums are projected by the transposed matrix."""
        return self.right(d, x, W_v.T, attention)

    @mutant(sparse=True)
    def not_projected_at_one_position(
        self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor, **_: Tensor
    ) -> Tensor:
        """At the last position the sums are not projected."""
        sums = sliding_attention2d.core(x, attention)
        projected = project(sums, W_v)
        projected[..., -1, -1] = sums[..., -1, -1]
        return projected


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
    shapes = (Dims(B=1, C=8, M=2, H=2, W=5), Dims(B=2, C=2, M=2, H=1, W=4))
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


class SelfAttentionIsPermutationEquivariant(Claim):
    """Self-attention does not know where a position lies: it commutes with every permutation of positions.

    Softmax and projections are included. Any permutation is made of two, which are checked here: the first
    two positions change places, and all positions are turned. So without position terms it sees a set.
    """

    name = "self-attention-is-permutation-equivariant"
    operators = ("self_attention",)
    source = f"follows from {VASWANI}, eq. (1); its section 3.5 adds positional encodings for this reason"
    conditions = {
        "no-position-term": "nothing is added that depends on the place of a position",
        "moved-back": "outputs are permuted in the same way",
        "whole-pixels": "all channels of a position move together",
    }
    shapes = SpatialReductionOfRatioOneEndToEnd.shapes
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3), Dims(B=1, C=2, M=2, H=2, W=2))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the layers, and what a place may add."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "qkv": (3 * d.C, d.C),
            "qkv_bias": (3 * d.C,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
            "encoding": (d.C, d.H, d.W),
        }

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Let places add nothing."""
        return {**variables, "encoding": torch.zeros_like(variables["encoding"])}

    def left(self, d: Dims, x: Tensor, encoding: Tensor, **layers: Tensor) -> Tensor:
        """Permute positions in both ways, one after another along the batch, then attend."""
        return self_attention.module(reordered(x, orders(d)) + encoding, **layers, heads=d.M)

    def right(self, d: Dims, x: Tensor, encoding: Tensor, **layers: Tensor) -> Tensor:
        """Attend, then permute positions."""
        return reordered(self_attention.module(x + encoding, **layers, heads=d.M), orders(d))

    @mutant(drops="no-position-term", side="given")
    def with_an_encoding(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """Every place adds something of its own to the map."""
        return variables

    @mutant(drops="moved-back")
    def outputs_stay(self, d: Dims, x: Tensor, encoding: Tensor, **layers: Tensor) -> Tensor:
        """Outputs are not permuted."""
        return self_attention.module(x + encoding, **layers, heads=d.M).repeat(2, 1, 1, 1)

    @mutant(drops="moved-back", sparse=True)
    def one_output_stays(self, d: Dims, x: Tensor, encoding: Tensor, **layers: Tensor) -> Tensor:
        """One channel of the output at the last position stays there, in one of the ways."""
        attended = self_attention.module(x + encoding, **layers, heads=d.M)
        moved = reordered(attended, orders(d))
        moved[d.B :, 0, -1, -1] = attended[:, 0, -1, -1]
        return moved

    @mutant(drops="whole-pixels", side="left")
    def first_channel_stays(self, d: Dims, x: Tensor, encoding: Tensor, **layers: Tensor) -> Tensor:
        """The first channel of the map is not permuted."""
        permuted = torch.cat([x[:, :1].repeat(2, 1, 1, 1), reordered(x, orders(d))[:, 1:]], 1)
        return self_attention.module(permuted + encoding, **layers, heads=d.M)


class _Biases(Claim):
    """What the biases of queries, keys and values come to; subclasses say which."""

    operators = ("self_attention",)
    shapes = SpatialReductionOfRatioOneEndToEnd.shapes
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3), Dims(B=2, C=2, M=2, H=1, W=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the layers, the bias of queries, keys and values in three parts."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "qkv": (3 * d.C, d.C),
            "query_bias": (d.C,),
            "key_bias": (d.C,),
            "value_bias": (d.C,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
        }

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute self-attention."""
        biases = torch.cat([given.pop(f"{part}_bias") for part in ("query", "key", "value")])
        return self_attention.module(**given, qkv_bias=biases, heads=d.M)

    def right(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute it with other biases."""
        raise NotImplementedError

    @mutant(sparse=True)
    def bias_twice_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """For one channel at the last position the last bias is added twice."""
        output = self.right(d, **given)
        output[:, 0, -1, -1] += given["proj_bias"][0]
        return output


class KeyBiasHasNoEffect(_Biases):
    """The bias of keys has no effect: softmax over keys takes off what all logits of a query have in common.

    q·(k + b) = q·k + q·b, and q·b is the same for all keys. The biases of queries and of values do have one.
    """

    name = "key-bias-has-no-effect"
    source = (
        "follows from the softmax of Vaswani et al. 2017, arXiv 1706.03762, eq. (1); released code of BEiT "
        "(microsoft/unilm) and Swin V2 (microsoft/Swin-Transformer) has biases for queries and values alone"
    )
    conditions = {
        "keys": "the bias that is left out is that of the keys",
        "all-keys": "all keys of a query have the bias, padded ones included",
    }
    algebra = "exp(l + c)/Σ exp(l + c) = exp(l)/Σ exp(l)"

    def right(self, d: Dims, key_bias: Tensor, **rest: Tensor) -> Tensor:
        """Compute self-attention without it."""
        return self.left(d, key_bias=torch.zeros_like(key_bias), **rest)

    @mutant(drops="keys")
    def without_the_bias_of_queries(self, d: Dims, query_bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias of queries is left out."""
        return self.left(d, query_bias=torch.zeros_like(query_bias), **rest)

    @mutant(drops="keys")
    def without_the_bias_of_values(self, d: Dims, value_bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias of values is left out."""
        return self.left(d, value_bias=torch.zeros_like(value_bias), **rest)

    @mutant(drops="all-keys")
    def not_for_the_last_key(self, d: Dims, x: Tensor, qkv: Tensor, **rest: Tensor) -> Tensor:
        """The last key alone goes without it."""
        biases = torch.cat([rest["query_bias"], rest["key_bias"], rest["value_bias"]])
        q, k, v = queries_keys_values(x, qkv, biases)
        k[..., -1, -1] -= rest["key_bias"]
        mixed = self_attention.core(v, pair_logits(d, q, k).softmax(-1))
        return output_layer(mixed, rest["proj"], rest["proj_bias"])


class ValueBiasMovesBehindAttention(_Biases):
    """The bias of values may be added behind the attention: it comes to W_o·b_v in the last bias.

    The weights of a query sum to one, so that they leave a constant as it is. Where they do not, as in
    outlook attention or with a softmax that counts padded keys, the bias is weighed.
    """

    name = "value-bias-moves-behind-attention"
    source = f"follows from {VASWANI}, eq. (1): the weights of a query are a softmax"
    conditions = {
        "sums-to-one": "the weights of a query sum to one",
        "projected": "the bias that is added behind passes through W_o",
    }
    algebra = "Σ_q a[p, q] · (v[q] + b) = Σ_q a[p, q] · v[q] + b for Σ_q a[p, q] = 1"

    def right(self, d: Dims, value_bias: Tensor, proj_bias: Tensor, **rest: Tensor) -> Tensor:
        """Compute self-attention without it, and add it behind."""
        moved = proj_bias + rest["proj"] @ value_bias
        return self.left(d, value_bias=torch.zeros_like(value_bias), proj_bias=moved, **rest)

    @mutant(drops="sums-to-one", side="left")
    def softmax_over_queries(self, d: Dims, x: Tensor, qkv: Tensor, **rest: Tensor) -> Tensor:
        """The weights that a key gets sum to one, not those that a query gives."""
        biases = torch.cat([rest["query_bias"], rest["key_bias"], rest["value_bias"]])
        q, k, v = queries_keys_values(x, qkv, biases)
        mixed = self_attention.core(v, pair_logits(d, q, k).softmax(-2))
        return output_layer(mixed, rest["proj"], rest["proj_bias"])

    @mutant(drops="projected")
    def not_projected(self, d: Dims, value_bias: Tensor, proj_bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias is added to the last one as it is."""
        moved = proj_bias + value_bias
        return self.left(d, value_bias=torch.zeros_like(value_bias), proj_bias=moved, **rest)

    @mutant()
    def left_out(self, d: Dims, value_bias: Tensor, **rest: Tensor) -> Tensor:
        """It is left out."""
        return self.left(d, value_bias=torch.zeros_like(value_bias), **rest)


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


def orders(d: Dims) -> Tensor:
    """Exchange the first two positions, and turn all of them: what every permutation is made of, [2, N]."""
    return torch.tensor([swap(d.H * d.W), turn(d.H * d.W)])


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
