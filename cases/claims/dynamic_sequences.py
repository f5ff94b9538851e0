"""Dynamic convolution of sequences, seen as attention and as involution."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, lemma, mutant

from ..attention import sliding_attention1d
from ..convolution.depthwise_conv1d import taps_before
from ..dynamic import dynamic_conv1d, lightweight_conv1d
from ..involution import involution
from .index_sets import within
from .sequence_kernels import inside
from .sequences import ENDS, LIGHT, SEQUENCES, TINY

DYNAMIC = (
    "Wu et al. 2019, ICLR, arXiv 1901.10430, abstract: “We predict separate convolution kernels based solely "
    "on the current time-step in order to determine the importance of context elements”"
)


class _DynamicConv(Claim):
    """Dynamic convolution with given kernels, ``left``, is what ``right`` makes of the same kernels."""

    conditions: ClassVar[Mapping[str, str]] = {
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "per-head": "every head has a kernel of its own",
        "per-position": "every position has a kernel of its own",
        "per-image": "every image has kernels of its own",
        **ENDS,
    }
    shapes = SEQUENCES
    complete_shapes = TINY

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the kernels; what makes the kernels is left open."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.B, d.M, d.K, d.T)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve with a kernel per image, head and position."""
        return dynamic_conv1d.core(x, kernel, before=taps_before(d))

    def right(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute the right side for kernels and a sequence of any length."""
        raise NotImplementedError

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return self.right(d, x, kernel.repeat(1, d.C // d.M, 1, 1))

    @mutant(drops="per-head")
    def one_kernel_for_all_heads(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All channels take the kernel of the first head."""
        return self.right(d, x, kernel[:, :1])

    @mutant(drops="per-position")
    def one_kernel_for_all_positions(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """All positions take the kernel of the first one."""
        return self.right(d, x, kernel[..., :1].expand_as(kernel))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return self.right(d, x, kernel.roll(1, 0))

    @mutant(drops="zero-padding")
    def replicated_ends(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Beyond the ends the first and the last value repeat."""
        reach = d.K - 1
        longer = F.pad(x, (reach, reach), mode="replicate")
        return self.right(d, longer, F.pad(kernel, (reach, reach)))[..., reach : reach + d.T]

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, kernel)
        longer = self.right(d, torch.cat([x, x[..., :1]], 2), F.pad(kernel, (0, 1)))
        output[-1, :, -1] = longer[-1, :, d.T - 1]
        return output

    @mutant(drops="anchored")
    def off_by_one(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One tap fewer comes before a position."""
        return self.right(d, F.pad(x, (0, 1)), F.pad(kernel, (1, 0)))[..., 1:]

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return self.right(d, x, kernel.flip(2))


class DynamicConvIsSlidingAttention(_DynamicConv):
    """Dynamic convolution with given kernels is sliding-window attention to the sequence itself.

    Its kernel at a position is the map that the position lays over the K positions around it, its head a
    head, and its values are the sequence as it is. What makes the kernels or the maps is left open.
    """

    name = "dynamic-conv-is-sliding-attention"
    operators = ("dynamic_conv1d", "sliding_attention1d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, figure of relations, where inhomogeneous vector attention "
        "leads from local attention to dynamic convolution of sequences"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "sliding": "the window slides with the position; it is no cell of a partition",
        "bare-values": "the values are the sequence, without a projection",
        **_DynamicConv.conditions,
    }
    algebra = "Σ_k kernel[m, k, i]·x[c, i+k−p] = Σ_n attention[m, n, i]·value[c, i+n−p], term by term"

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention1d.core(x, kernel, before=taps_before(d))

    @mutant(drops="sliding")
    def windows_of_a_partition(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A position attends to the cell that holds it, the sequence being cut every K positions."""
        right = -d.T % d.K
        cells = F.pad(x, (0, right)).reshape(d.B, d.M, d.C // d.M, -1, d.K)
        maps = F.pad(kernel, (0, right)).reshape(d.B, d.M, d.K, -1, d.K)
        mixed = torch.einsum("bmnci,bmdcn->bmdci", maps, cells)
        return mixed.reshape(d.B, d.C, -1)[..., : d.T]

    @mutant(drops="bare-values")
    def values_summed_over_channels(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The values are projected by a matrix of ones."""
        return self.right(d, x.sum(1, keepdim=True).expand_as(x), kernel)

    @lemma
    def a_causal_window_ends_at_its_position(self, z3: Any) -> Lemma:
        """With K−1 taps before a position i, none of the K taps lies after it."""
        i, j, k, K = z3.Ints("i j k K")
        return Lemma(
            assumptions={"where tap k reads": j == i + k - (K - 1), "a tap": k < K},
            conclusion=j <= i,
        )


class DynamicConvIsInvolution(_DynamicConv):
    """Dynamic convolution with given kernels is involution of a map of height one, a head being a group.

    A centred kernel of an odd length is involution's; any other becomes one by zeros at its shorter side.
    """

    name = "dynamic-conv-is-involution"
    operators = ("dynamic_conv1d", "involution")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, figure of relations, whose last node holds dynamic "
        "convolution of sequences and involution"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "centred-by-zeros": "taps that the longer side has and the shorter one lacks are zero",
        **_DynamicConv.conditions,
    }
    # The longest first, among those with a side that lacks taps.
    shapes = (Dims(B=2, C=6, M=3, T=11, K=5, direction="causal"), *SEQUENCES, Dims(B=2, C=4, M=2, T=5, K=4))
    algebra = (
        "Σ_k kernel[m, k, i]·x[c, i+k−p] = Σ_v wide[m, v, i]·x[c, i+v−r] with wide[m, v] = kernel[m, v−r+p]"
    )

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Involve the sequence as a map of one row."""
        return involve(x, centred(d, kernel))

    @mutant(drops="centred-by-zeros")
    def ones_at_the_shorter_side(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The taps that the shorter side lacks weigh one."""
        return involve(x, centred(d, kernel, lacking=1))

    @mutant(drops="zero-padding", sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Before the first position of the first image the last value stands."""
        output = self.right(d, x, kernel)
        longer = self.right(d, torch.cat([x[..., -1:], x], 2), F.pad(kernel, (1, 0)))
        output[0, :, 0] = longer[0, :, 1]
        return output

    @lemma
    def the_wide_kernel_is_centred(self, z3: Any) -> Lemma:
        """With r = max(p, K−1−p), tap k of K stands at place k+r−p of 2r+1 and is as far from the middle."""
        k, K, p, r, v = z3.Ints("k K p r v")
        return Lemma(
            assumptions={
                "a tap": z3.And(k >= 0, k < K),
                "the longer side": z3.And(r >= p, r >= K - 1 - p),
                "its place": v == k + r - p,
            },
            conclusion=z3.And(v >= 0, v < 2 * r + 1, v - r == k - p),
        )


class _GeneratedKernels(Claim):
    """Dynamic convolution with its linear generator, ``left``, for weights that ``given`` makes."""

    # Heads of four channels, 1/√4 being exact.
    shapes: ClassVar[tuple[Dims, ...]] = (
        Dims(B=2, C=8, M=2, T=11, K=3),
        Dims(B=2, C=8, M=2, T=3, K=5, direction="causal"),
        Dims(B=3, C=4, M=4, T=2, K=3),
    )
    complete_shapes: ClassVar[tuple[Dims, ...]] = (Dims(B=2, C=2, M=2, T=2, K=3),)

    def left(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Generate the kernels by a linear layer, normalise them, convolve."""
        return dynamic_conv1d.module(x, weight, heads=d.M, before=taps_before(d))


class DynamicConvIsAttentionToPositions(_GeneratedKernels):
    """Dynamic convolution is sliding-window attention whose keys know the distance and no content.

    Its logits are q_i·r_k with a query q_i = W_q x_i per head and a learned key r_k for the k-th place of the
    window; the weights of its generator are the products r_k·W_q. They are not scaled by 1/√D, the values are
    the sequence itself, and the places beyond its ends keep their keys. Queries of D ≥ K dimensions, or whole
    positions as queries, give every generator; narrower ones those whose logits have rank D at most.
    """

    name = "dynamic-conv-is-attention-with-keys-of-positions"
    operators = ("dynamic_conv1d", "sliding_attention1d")
    source = f"{DYNAMIC}; compared with Vaswani et al. 2017, arXiv 1706.03762, section 3.2"
    conditions: ClassVar[Mapping[str, str]] = {
        "keys-of-positions": "a key depends on the distance alone, not on what stands there",
        "not-scaled": "the logits are not divided by √D",
        "all-places": "places beyond the ends take part in the softmax, and have the value zero",
        "over-places": "the softmax is taken over the places of the window",
        "bare-values": "the values are the sequence, without a projection",
        "per-head": "every head has queries and keys of its own",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence, the projection of its queries, and the keys of every head."""
        return {"x": (d.B, d.C, d.T), "query": (d.C, d.C), "key": (d.M, d.K, d.C // d.M)}

    def given(self, d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Mapping[str, Tensor]:
        """Multiply keys and queries into the weights of the generator."""
        heads = query.reshape(d.M, -1, d.C)
        weight = torch.einsum("mkd,mdc->mkc", key, heads).reshape(d.M * d.K, d.C)
        return {"x": x, "query": query, "key": key, "weight": weight}

    def right(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """Attend with queries to the keys of the places."""
        return attend(d, x, self.logits(d, x, query, key))

    def logits(self, d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Compare queries [B, M, D, T] with keys [M, K, D]."""
        queries = torch.einsum("oc,bct->bot", query, x).reshape(d.B, d.M, -1, d.T)
        return torch.einsum("bmdt,mkd->bmkt", queries, key)

    @mutant(drops="keys-of-positions")
    def keys_of_content_too(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """What stands at the place is added to its key."""
        queries = torch.einsum("oc,bct->bot", query, x).reshape(d.B, d.M, -1, d.T)
        content = torch.einsum("bmdt,bmdtk->bmkt", queries, neighbours(d, x))
        return attend(d, x, self.logits(d, x, query, key) + content)

    @mutant(drops="not-scaled")
    def logits_halved(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """The logits are divided by two, as a head of four channels would have it."""
        return attend(d, x, self.logits(d, x, query, key) / 2)

    @mutant(drops="all-places", side="left")
    def places_beyond_the_ends_masked(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Places beyond the ends take no part in the softmax."""
        before = taps_before(d)
        return dynamic_conv1d.module(x, weight, heads=d.M, before=before, border="renormalised")

    @mutant(drops="over-places")
    def softmax_over_positions(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """The softmax is taken over the positions that attend."""
        weights = self.logits(d, x, query, key).softmax(3)
        return sliding_attention1d.core(x, weights, before=taps_before(d))

    @mutant(drops="bare-values")
    def values_projected(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """The values are projected as the queries are."""
        values = torch.einsum("oc,bct->bot", query, x)
        weights = self.logits(d, x, query, key).softmax(2)
        return sliding_attention1d.core(values, weights, before=taps_before(d))

    @mutant(drops="per-head")
    def keys_of_the_first_head(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """All heads have the keys of the first."""
        return self.right(d, x, query, key[:1].expand_as(key))

    @mutant(sparse=True)
    def last_position_scaled(self, d: Dims, x: Tensor, query: Tensor, key: Tensor, **_: Tensor) -> Tensor:
        """The logits of the last position of the last image are doubled."""
        factors = torch.ones(d.B, 1, 1, d.T, dtype=x.dtype)
        factors[-1, ..., -1] = 2
        return attend(d, x, self.logits(d, x, query, key) * factors)


class RenormalisedDynamicConvIsMaskedAttention(_GeneratedKernels):
    """With places beyond the ends masked, dynamic convolution is attention as Longformer and Swin mask it.

    The keys are those of the distance again, the queries whole positions.
    """

    name = "renormalised-dynamic-conv-is-masked-attention"
    operators = ("dynamic_conv1d", "sliding_attention1d")
    source = (
        "github.com/facebookresearch/fairseq, fairseq/modules/dynamic_convolution.py, of renorm_padding: "
        "“normalize the weight over valid positions like self-attention”"
    )
    conditions: ClassVar[Mapping[str, str]] = {
        "masked": "places beyond the ends take no part in the softmax",
        "over-places": "the softmax is taken over the places of the window",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of the generator."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M * d.K, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Generate the kernels, normalised over the taps inside, and convolve."""
        before = taps_before(d)
        return dynamic_conv1d.module(x, weight, heads=d.M, before=before, border="renormalised")

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Attend to the places inside the sequence."""
        return attend(d, x, generated(d, x, weight).masked_fill(inside(d) == 0, -torch.inf))

    @mutant(drops="masked")
    def no_mask(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Places beyond the ends keep their logits."""
        return attend(d, x, generated(d, x, weight))

    @mutant(drops="masked", sparse=True)
    def no_mask_at_one_position(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """At one end of the last image places beyond it keep their logits."""
        place = 0 if d.get("direction") == "causal" else d.T - 1
        mask = (inside(d) == 0).expand(d.B, 1, -1, -1).clone()
        mask[-1, ..., place] = False
        return attend(d, x, generated(d, x, weight).masked_fill(mask, -torch.inf))

    @mutant(drops="masked")
    def zeros_in_place_of_logits(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Places beyond the ends have the logit zero."""
        return attend(d, x, generated(d, x, weight) * inside(d))

    @mutant(drops="over-places")
    def softmax_over_heads(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The softmax is taken over the heads."""
        weights = generated(d, x, weight).softmax(1) * inside(d)
        return sliding_attention1d.core(x, weights, before=taps_before(d))


class AttentionByDistanceIsLightConv(Claim):
    """Sliding-window attention that has biases of distance and no queries is renormalised LightConv.

    Its values and outputs are not projected. With queries of zero no content is compared, and the softmax of
    the table of a head is its kernel, over the places inside the sequence.
    """

    name = "attention-by-distance-alone-is-renormalised-lightconv"
    operators = ("sliding_attention1d", "lightweight_conv1d")
    source = f"{LIGHT}; Liu et al. 2021, arXiv 2103.14030, eq. (4), for the table"
    conditions: ClassVar[Mapping[str, str]] = {
        "no-queries": "the queries are zero",
        "bare-values": "values and outputs are not projected",
        "renormalised": "taps beyond the ends take no part in LightConv's softmax",
        "per-head": "every head has a table of its own",
    }
    shapes = _GeneratedKernels.shapes
    complete_shapes = _GeneratedKernels.complete_shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence, the projection of the keys, which nothing depends on, and the table."""
        return {"x": (d.B, d.C, d.T), "key": (d.C, d.C), "table": (d.M, d.K)}

    def left(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """Attend by the table alone."""
        return self.attend_with(d, x, torch.zeros_like(key), key, torch.eye(d.C, dtype=x.dtype), table)

    def right(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """Convolve with the softmax of the table over the taps inside."""
        return lightweight_conv1d.module(x, table, before=taps_before(d), border="renormalised")

    def attend_with(
        self, d: Dims, x: Tensor, query: Tensor, key: Tensor, value: Tensor, table: Tensor
    ) -> Tensor:
        """Attend with these projections, and none of the outputs."""
        window = {"heads": d.M, "kernel": d.K, "before": taps_before(d)}
        proj = torch.eye(d.C, dtype=x.dtype)
        return sliding_attention1d.module(x, query, key, value, proj, table, **window)

    @mutant(drops="no-queries", side="left")
    def one_query(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """The first channel is its own query."""
        query = torch.zeros_like(key)
        query = query + F.pad(torch.ones(1, 1, dtype=x.dtype), (0, d.C - 1, 0, d.C - 1))
        return self.attend_with(d, x, query, key, torch.eye(d.C, dtype=x.dtype), table)

    @mutant(drops="bare-values", side="left")
    def values_projected(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """The values are projected as the keys are."""
        return self.attend_with(d, x, torch.zeros_like(key), key, key, table)

    @mutant(drops="renormalised")
    def all_taps(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """Taps beyond the ends take part in LightConv's softmax, as they do by default."""
        return lightweight_conv1d.module(x, table, before=taps_before(d))

    @mutant(drops="renormalised", sparse=True)
    def all_taps_at_one_position(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """At one end of the last image they do."""
        output = self.right(d, x, key, table)
        place = 0 if d.get("direction") == "causal" else d.T - 1
        output[-1, :, place] = self.all_taps(d, x, key, table)[-1, :, place]
        return output

    @mutant(drops="per-head")
    def table_of_the_first_head(self, d: Dims, x: Tensor, key: Tensor, table: Tensor) -> Tensor:
        """All heads have the table of the first."""
        return self.right(d, x, key, table[:1].expand_as(table))


class DynamicConvIsInvolutionWithSoftmax(_GeneratedKernels):
    """Dynamic convolution is involution of a map of one row with another generator.

    It is a single linear layer without a bias, and a softmax over the taps follows it. Involution's own has
    two layers with batch norm and ReLU between, and nothing after them.
    """

    name = "dynamic-conv-is-involution-with-a-softmax"
    operators = ("dynamic_conv1d", "involution")
    source = f"{DYNAMIC}; Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4) and (6)"
    conditions: ClassVar[Mapping[str, str]] = {
        "softmax": "a softmax over the taps follows the generator",
        "one-layer": "the generator is linear",
        "its-own-position": "the generator reads the position that the kernel is for",
        "group-per-head": "a head is a group",
    }

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence and the weights of the generator."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M * d.K, d.C)}

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Generate the kernels, normalise them, involve the sequence as a map of one row."""
        return involve(x, centred(d, generated(d, x, weight).softmax(2)))

    @mutant(drops="softmax")
    def no_softmax(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernels are not normalised, as involution's are not."""
        return involve(x, centred(d, generated(d, x, weight)))

    @mutant(drops="one-layer")
    def relu_after_the_layer(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """A ReLU follows the layer."""
        return involve(x, centred(d, generated(d, x, weight).relu().softmax(2)))

    @mutant(drops="its-own-position")
    def generated_for_the_next(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Every position has the kernels that the one before makes."""
        return involve(x, centred(d, generated(d, x.roll(1, 2), weight).softmax(2)))

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        return involve(x, centred(d, generated(d, x, weight).softmax(2)[:, :1]))

    @mutant(drops="softmax", sparse=True)
    def last_position_not_normalised(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The kernels of the last position of the last image are not normalised."""
        logits = generated(d, x, weight)
        kernels = logits.softmax(2)
        kernels[-1, ..., -1] = logits[-1, ..., -1]
        return involve(x, centred(d, kernels))


class DynamicConvWithoutSoftmaxIsLinearInvolution(Claim):
    """Without its softmax, dynamic convolution is involution with a linear generator and no bias.

    The sequence is a map of one row, of whose K×K taps those of the middle row read the sequence and all
    others the padding, whatever they weigh.
    """

    name = "dynamic-conv-without-softmax-is-involution-with-a-linear-generator"
    operators = ("dynamic_conv1d", "involution")
    source = f"{DYNAMIC}; Li et al. 2021, CVPR, arXiv 2103.06255, eq. (4) and (6)"
    conditions: ClassVar[Mapping[str, str]] = {
        "no-bias": "involution's generator has no bias",
        "one-row": "the map has one row",
        "middle-row": "the taps are those of the middle row",
        "group-per-head": "a head is a group",
        "centred": "the kernel has an odd length and is centred",
    }
    shapes = (
        Dims(B=2, C=6, M=3, T=11, K=5),
        Dims(B=2, C=4, M=2, T=7, K=3),
        Dims(B=2, C=4, M=2, T=2, K=5),
        Dims(B=1, C=16, M=4, T=16, K=7),
    )
    complete_shapes = (Dims(B=2, C=2, M=2, T=2, K=3),)
    algebra = "Σ_uk (span[u, k]·x_i)·x[0+u−r, i+k−r] = Σ_k (span[r, k]·x_i)·x[i+k−r], rows u ≠ r being zero"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequence, the weights of the generator, and what the taps of other rows weigh."""
        return {"x": (d.B, d.C, d.T), "weight": (d.M, d.K, d.C), "other": (d.M, d.K, d.K, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """Generate kernels by a linear layer, and convolve."""
        logits = generated(d, x, weight.reshape(d.M * d.K, d.C))
        return dynamic_conv1d.core(x, logits, before=taps_before(d))

    def right(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """Involve the map of one row by kernels of its own generator."""
        return self.involve_by(d, x.unsqueeze(2), in_row(d, weight, other, d.K // 2)).squeeze(2)

    def involve_by(self, d: Dims, x: Tensor, span: Tensor, bias: int = 0) -> Tensor:
        """Involve a map with the generator of given weights [M, K, K, C] and all biases alike."""
        rows = span.reshape(d.M * d.K**2, d.C)
        biases = torch.full((len(rows),), bias, dtype=x.dtype)
        return involution.module(x, rows, biases, groups=d.M, generator="linear")

    @mutant(drops="no-bias")
    def bias_of_one(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """Every bias of the generator is one."""
        span = in_row(d, weight, other, d.K // 2)
        return self.involve_by(d, x.unsqueeze(2), span, bias=1).squeeze(2)

    @mutant(drops="one-row")
    def a_row_below(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """The sequence stands below itself once more."""
        return self.involve_by(d, torch.stack([x, x], 2), in_row(d, weight, other, d.K // 2))[:, :, 0]

    @mutant(drops="middle-row")
    def first_row(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """The taps are those of the first row."""
        return self.involve_by(d, x.unsqueeze(2), in_row(d, weight, other, 0)).squeeze(2)

    @mutant(drops="group-per-head")
    def weights_of_the_first_head(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """All heads have the weights of the first."""
        return self.right(d, x, weight[:1].expand_as(weight), other)

    @mutant(drops="centred", side="left")
    def causal(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """All but one of the taps come before their position."""
        logits = generated(d, x, weight.reshape(d.M * d.K, d.C))
        return dynamic_conv1d.core(x, logits, before=d.K - 1)

    @mutant(sparse=True)
    def one_end_wrapped_around(self, d: Dims, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        """After the last position of the last image the first value follows."""
        output = self.right(d, x, weight, other)
        longer = self.right(d, torch.cat([x, x[..., :1]], 2), weight, other)
        output[-1, :, -1] = longer[-1, :, d.T - 1]
        return output

    @lemma
    def other_rows_read_padding(self, z3: Any) -> Lemma:
        """Row u of the taps reads the only row of a map exactly where u is the middle one, r."""
        row, u, r = z3.Ints("row u r")
        return Lemma({"where it reads": row == 0 + u - r}, within(z3, row, 1) == (u == r))


def involve(x: Tensor, kernel: Tensor) -> Tensor:
    """Involve x [B, C, T] as a map of one row with kernels [B, G, V, T]."""
    return involution.core(x.unsqueeze(2), kernel[:, :, None, :, None]).squeeze(2)


def centred(d: Dims, kernel: Tensor, lacking: int = 0) -> Tensor:
    """Extend kernels [B, M, K, T] to centred ones of odd length by ``lacking`` at the shorter side."""
    before, after = taps_before(d), d.K - 1 - taps_before(d)
    reach = max(before, after)
    return F.pad(kernel, (0, 0, reach - before, reach - after), value=lacking)


def generated(d: Dims, x: Tensor, weight: Tensor) -> Tensor:
    """Make logits [B, M, K, T] of every position by a linear layer [M·K, C]."""
    return torch.einsum("oc,bct->bot", weight, x).reshape(d.B, d.M, d.K, d.T)


def attend(d: Dims, x: Tensor, logits: Tensor) -> Tensor:
    """Attend to the window of every position by the softmax of logits [B, M, K, T] over its places."""
    return sliding_attention1d.core(x, logits.softmax(2), before=taps_before(d))


def neighbours(d: Dims, x: Tensor) -> Tensor:
    """Gather what stands in the window of every position, head by head, [B, M, D, T, K]."""
    before = taps_before(d)
    windows = F.pad(x, (before, d.K - 1 - before)).unfold(2, d.K, 1)
    return windows.reshape(d.B, d.M, -1, d.T, d.K)


def in_row(d: Dims, weight: Tensor, other: Tensor, row: int) -> Tensor:
    """Put weights [M, K, C] into a row of those of K×K taps [M, K, K, C]."""
    kept = torch.ones(d.K, 1, 1, dtype=weight.dtype)
    kept[row] = 0
    return other * kept + weight.unsqueeze(1) * (1 - kept)
