"""Attention over the whole map: with fixed maps, over several heads, with biases, and in another order."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..attention import self_attention, sliding_attention2d
from ..mlp import separable_mlp, spatial_mixing_mlp
from ..workloads import MAPS
from .index_sets import BlockedGroups
from .self_attention import output_layer, pair_logits, project, queries_keys_values
from .window_order import reordered, swap, turn

VASWANI = "Vaswani et al. 2017, NeurIPS, arXiv 1706.03762"
MIXER = "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601"
# The largest map first, so that an error at one position is seen where it is rare.
SMALL = tuple(Dims(B=2, C=4, M=2, H=H, W=W) for H, W, _ in reversed(MAPS[:4]))
REALISTIC = Dims(B=1, C=32, M=2, H=7, W=7)
# Heads of four channels, and of one, so that dividing by √D is exact.
END_TO_END = (Dims(B=1, C=8, M=2, H=2, W=5), Dims(B=2, C=2, M=2, H=1, W=4))


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


class AttentionLogitsAreBilinearForms(Claim):
    """The logits of a head are a bilinear form of two positions, x_pᵀ·A·x_q/√D, where A has rank D at most.

    A = W_qᵀW_k is made of the D rows of W_q and of W_k that the head owns. So a weight of attention may hold
    something of every channel, but it sees of a position no more than these 2D numbers, and nothing of what
    both projections make zero.
    """

    name = "attention-logits-are-bilinear-forms"
    operators = ("self_attention",)
    source = (
        f"follows from {VASWANI}, eq. (1) and section 3.2.2; said of local attention where Han et al. 2022, "
        "arXiv 2106.04263, is introduced: every weight may hold the information of all channels"
    )
    conditions = {
        "own-rows": "a head has the rows of W_q and W_k that it owns",
        "no-bias": "queries and keys have no biases",
        "query-first": "the rows of the form belong to the position that gives weights",
        "scaled": "the form is divided by √D",
    }
    shapes = END_TO_END
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3), Dims(B=2, C=2, M=2, H=1, W=3))
    algebra = "(W_q x_p)·(W_k x_q) = x_pᵀ (W_qᵀW_k) x_q, and a product through D rows has rank D at most"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, and the projections of queries, keys, values and outputs."""
        square = (d.C, d.C)
        layers = {"query": square, "key": square, "value": square, "proj": square}
        return {"x": (d.B, d.C, d.H, d.W), **layers}

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute self-attention without biases."""
        return self.attended(d, given["x"].new_zeros(3 * d.C), **given)

    def attended(
        self, d: Dims, bias: Tensor, *, x: Tensor, query: Tensor, key: Tensor, value: Tensor, proj: Tensor
    ) -> Tensor:
        """Compute self-attention with a bias of queries, keys and values."""
        qkv = torch.cat([query, key, value])
        none = bias.new_zeros(d.C)
        return self_attention.module(x, qkv, proj=proj, proj_bias=none, qkv_bias=bias, heads=d.M)

    def right(self, d: Dims, query: Tensor, key: Tensor, **rest: Tensor) -> Tensor:
        """Compare positions by the forms [M, C, C] of the heads, and attend."""
        return self.by_forms(d, self.forms(d, query, key), **rest)

    def forms(self, d: Dims, query: Tensor, key: Tensor) -> Tensor:
        """Multiply the rows of W_q and W_k, head by head, and divide by √D."""
        scale: float = (d.C // d.M) ** -0.5
        return query.view(d.M, -1, d.C).mT @ key.view(d.M, -1, d.C) * scale

    def by_forms(self, d: Dims, forms: Tensor, *, x: Tensor, value: Tensor, proj: Tensor) -> Tensor:
        """Attend by the softmax of bilinear forms."""
        positions = x.flatten(2)
        logits = torch.einsum("bcp,mce,beq->bmpq", positions, forms, positions)
        return project(self_attention.core(project(x, value), logits.softmax(-1)), proj)

    @mutant(drops="own-rows")
    def forms_of_another_head(self, d: Dims, query: Tensor, key: Tensor, **rest: Tensor) -> Tensor:
        """A head has the form of the one before."""
        return self.by_forms(d, self.forms(d, query, key).roll(1, 0), **rest)

    @mutant(drops="no-bias", side="left")
    def biases_of_one(self, d: Dims, **given: Tensor) -> Tensor:
        """Every bias of queries and keys is one."""
        ones = given["x"].new_ones(2 * d.C)
        return self.attended(d, torch.cat([ones, ones.new_zeros(d.C)]), **given)

    @mutant(drops="query-first")
    def transposed_forms(self, d: Dims, query: Tensor, key: Tensor, **rest: Tensor) -> Tensor:
        """The rows of a form belong to the position that gets the weight."""
        return self.by_forms(d, self.forms(d, query, key).mT, **rest)

    @mutant(drops="scaled")
    def forms_doubled(self, d: Dims, query: Tensor, key: Tensor, **rest: Tensor) -> Tensor:
        """The forms are twice as large."""
        return self.by_forms(d, 2 * self.forms(d, query, key), **rest)

    @mutant(sparse=True)
    def one_output_doubled(self, d: Dims, **given: Tensor) -> Tensor:
        """One output of the first image is doubled."""
        output = self.right(d, **given)
        output[0, 0, -1, -1] = 2 * output[0, 0, -1, -1]
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
    shapes = END_TO_END
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
    shapes = END_TO_END
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


def orders(d: Dims) -> Tensor:
    """Exchange the first two positions, and turn all of them: what every permutation is made of, [2, N]."""
    return torch.tensor([swap(d.H * d.W), turn(d.H * d.W)])
