"""Self-attention seen as involution, softmax and projections included: which generators it takes."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, mutant

from ..attention import self_attention, sliding_attention2d
from ..involution import involution
from .involution import LI, at_fixed, with_fixed
from .self_attention import (
    as_kernels,
    neighbour_logits,
    output_layer,
    pair_logits,
    project,
    queries_keys_values,
)

RAMACHANDRAN = "Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2)"


class SlidingAttentionIsInvolutionEndToEnd(Claim):
    """Sliding-window self-attention, softmax and projections included, is an involution between projections.

    y = W_o·involution(W_v x) with a group per head, and the kernel of a position is the softmax of q·k/√D
    over its window, from which neighbours outside the map are left out. What generates it sees the window,
    not the position alone.
    """

    name = "sliding-attention-is-involution-end-to-end"
    operators = ("sliding_attention2d", "involution")
    source = (
        f"{LI}, abstract: “we additionally demystify the recent popular self-attention operator and subsume "
        f"it into our involution family”; {RAMACHANDRAN}"
    )
    conditions = {
        "values-first": "W_v acts before the sum over the window",
        "output-last": "W_o acts after it",
        "masked": "neighbours outside the map take no part in the softmax",
        "window-seen": "the kernel is generated from the keys of the whole window",
        "softmax": "the weights of a window are the softmax of its logits",
        "scaled": "logits are divided by √D",
        "own-query": "a kernel is generated with the query of its own position",
        "group-per-head": "every head has kernels of its own",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
    }
    shapes = (Dims(B=1, C=8, M=2, H=3, W=7, K=3), Dims(B=2, C=2, M=2, H=1, W=4, K=5))
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3, K=3), Dims(B=2, C=2, M=2, H=2, W=3, K=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the four projections."""
        square = (d.C, d.C)
        shape = (d.B, d.C, d.H, d.W)
        return {"x": shape, "query": square, "key": square, "value": square, "proj": square}

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute sliding-window attention."""
        return sliding_attention2d.module(**given, heads=d.M, kernel=d.K)

    def right(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """Generate kernels, and involve the projected map."""
        kernels = soft(d, logits_of(d, **rest))
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="values-first")
    def values_projected_last(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """W_v acts on the sums; with more than one head it mixes what heads have weighted differently."""
        return project(involution.core(rest["x"], soft(d, logits_of(d, **rest))), proj @ value)

    @mutant(drops="output-last")
    def output_projected_first(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """W_o acts on the values."""
        return involution.core(project(rest["x"], proj @ value), soft(d, logits_of(d, **rest)))

    @mutant(drops="masked")
    def padded_keys(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """Neighbours outside the map are zero keys, and take part."""
        kernels = soft(d, logits_of(d, **rest), masked=False)
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="masked", sparse=True)
    def padded_keys_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """They take part at the last position alone."""
        output = self.right(d, **given)
        output[..., -1, -1] = self.padded_keys(d, **given)[..., -1, -1]
        return output

    @mutant(drops="window-seen")
    def middle_key_only(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """All logits of a window have the key of its middle, all that a generator sees of one position."""
        logits = logits_of(d, **rest)
        middle = logits[:, :, d.K**2 // 2, None].expand_as(logits)
        return project(involution.core(project(rest["x"], value), soft(d, middle)), proj)

    @mutant(drops="softmax")
    def logits_as_weights(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """The weights are the logits themselves."""
        kernels = logits_of(d, **rest).view(d.B, d.M, d.K, d.K, d.H, d.W)
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="scaled")
    def scale_left_out(self, d: Dims, query: Tensor, **rest: Tensor) -> Tensor:
        """Logits are not divided."""
        return self.right(d, query=2 * query, **rest)

    @mutant(drops="own-query")
    def query_of_a_neighbour(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """A kernel is generated with the query of the left neighbour."""
        x, query, key = rest["x"], rest["query"], rest["key"]
        logits = neighbour_logits(d, project(x, query).roll(1, 3), project(x, key))
        return project(involution.core(project(x, value), soft(d, logits)), proj)

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        kernels = soft(d, logits_of(d, **rest))[:, :1]
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="not-flipped")
    def flipped_kernels(self, d: Dims, value: Tensor, proj: Tensor, **rest: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        kernels = soft(d, logits_of(d, **rest)).flip(2, 3)
        return project(involution.core(project(rest["x"], value), kernels), proj)


class LocalSelfAttentionWithBiasIsInvolution(Claim):
    """Self-attention that a mask limits to K×K windows, with a bias by offset, is an involution.

    The logits of position p and q are q_p·k_q/√D + b[m, offset], and −∞ where q lies outside the window of
    p. As an involution of W_v x the kernel of p is the softmax of these logits over its window, in which the
    bias is one number per head and tap, and neighbours outside the map have −∞. W_o follows.
    """

    name = "local-self-attention-with-bias-is-involution"
    operators = ("self_attention", "involution")
    source = f"{LI}, section on self-attention, which lists relative position terms; {RAMACHANDRAN}"
    conditions = {
        "values-first": "W_v acts before the sum over positions",
        "masked": "neighbours outside the map take no part in the softmax",
        "window": "positions outside the window take no part in the softmax",
        "by-offset": "the bias of a tap is that of the offset of its neighbour",
        "inside-softmax": "the bias is added to the logits, not to the weights",
        "own-head": "every head has biases of its own",
        "scaled": "the products of queries and keys are divided by √D, the bias is not",
    }
    shapes = (Dims(B=1, C=8, M=2, H=3, W=7, K=3), Dims(B=2, C=2, M=2, H=1, W=4, K=5))
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3, K=3), Dims(B=2, C=2, M=2, H=2, W=3, K=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the four projections, and the biases of all taps."""
        square = (d.C, d.C)
        shape = (d.B, d.C, d.H, d.W)
        layers = {"query": square, "key": square, "value": square, "proj": square}
        return {"x": shape, **layers, "bias": (d.M, d.K, d.K)}

    def left(
        self, d: Dims, value: Tensor, proj: Tensor, bias: Tensor, mask: Tensor | None = None, **rest: Tensor
    ) -> Tensor:
        """Attend to the whole map, all but the window being masked."""
        x, query, key = rest["x"], rest["query"], rest["key"]
        logits = pair_logits(d, project(x, query), project(x, key))
        apart, tap = taps_of_pairs(d)
        biased = logits + bias.flatten(1)[:, tap]
        attention = biased.masked_fill(apart if mask is None else mask, -torch.inf).softmax(-1)
        return project(self_attention.core(project(x, value), attention), proj)

    def right(self, d: Dims, value: Tensor, proj: Tensor, bias: Tensor, **rest: Tensor) -> Tensor:
        """Generate kernels, and involve the projected map."""
        kernels = soft(d, logits_of(d, **rest) + by_tap(bias))
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="values-first")
    def values_projected_last(
        self, d: Dims, value: Tensor, proj: Tensor, bias: Tensor, **rest: Tensor
    ) -> Tensor:
        """W_v acts on the sums; with more than one head it mixes what heads have weighted differently."""
        kernels = soft(d, logits_of(d, **rest) + by_tap(bias))
        return project(involution.core(rest["x"], kernels), proj @ value)

    @mutant(drops="masked")
    def padded_keys(self, d: Dims, value: Tensor, proj: Tensor, bias: Tensor, **rest: Tensor) -> Tensor:
        """Neighbours outside the map are zero keys, and take part with their bias."""
        kernels = soft(d, logits_of(d, **rest) + by_tap(bias), masked=False)
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="masked", sparse=True)
    def padded_keys_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """They take part at the last position alone."""
        output = self.right(d, **given)
        output[..., -1, -1] = self.padded_keys(d, **given)[..., -1, -1]
        return output

    @mutant(drops="window", side="left")
    def whole_map(self, d: Dims, **given: Tensor) -> Tensor:
        """Positions outside the window take part with the bias of the nearest tap."""
        return LocalSelfAttentionWithBiasIsInvolution.left(
            self, d, **given, mask=torch.zeros(d.H * d.W, d.H * d.W, dtype=torch.bool)
        )

    @mutant(drops="by-offset")
    def mirrored_bias(self, d: Dims, bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias of a tap is that of the opposite offset."""
        return self.right(d, bias=bias.flip(1, 2), **rest)

    @mutant(drops="by-offset")
    def transposed_bias(self, d: Dims, bias: Tensor, **rest: Tensor) -> Tensor:
        """Rows and columns of the biases are exchanged."""
        return self.right(d, bias=bias.mT, **rest)

    @mutant(drops="inside-softmax")
    def bias_on_weights(self, d: Dims, value: Tensor, proj: Tensor, bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias is added to the weights."""
        kernels = soft(d, logits_of(d, **rest)) + bias[None, :, :, :, None, None]
        return project(involution.core(project(rest["x"], value), kernels), proj)

    @mutant(drops="own-head")
    def bias_of_the_first_head(self, d: Dims, bias: Tensor, **rest: Tensor) -> Tensor:
        """All heads have the biases of the first."""
        return self.right(d, bias=bias[:1].expand_as(bias), **rest)

    @mutant(drops="scaled")
    def bias_scaled(self, d: Dims, bias: Tensor, **rest: Tensor) -> Tensor:
        """The bias is divided as well."""
        return self.right(d, bias=0.5 * bias, **rest)


class SelfAttentionIsASpecialCaseOfInvolution(Claim):
    """Self-attention, softmax and projections included, is an involution whose generator sees the whole map.

    The kernel of a position is the softmax of its logits with all positions, laid out by offset on 2H−1 by
    2W−1 taps. The generator that is published with involution sees the position alone, and cannot make it.
    """

    name = "self-attention-is-a-special-case-of-involution"
    operators = ("self_attention", "involution")
    source = (
        f"{LI}, abstract: “we additionally demystify the recent popular self-attention operator and subsume "
        "it into our involution family”, which is so for the operator"
    )
    conditions = {
        "values-first": "W_v and its bias act before the sum over positions",
        "map-seen": "the kernel is generated from the keys of the whole map",
        "giving": "the softmax is over the positions that a kernel weighs",
        "scaled": "logits are divided by √D",
        "group-per-head": "every head has kernels of its own",
    }
    shapes = (Dims(B=1, C=8, M=2, H=2, W=5), Dims(B=2, C=2, M=2, H=1, W=4))
    complete_shapes = (Dims(B=1, C=8, M=2, H=1, W=3), Dims(B=2, C=2, M=2, H=2, W=3))
    corrects = "self-attention-is-a-special-case-of-involution-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the layers."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "qkv": (3 * d.C, d.C),
            "qkv_bias": (3 * d.C,),
            "proj": (d.C, d.C),
            "proj_bias": (d.C,),
        }

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute self-attention."""
        return self_attention.module(**given, heads=d.M)

    def right(self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor) -> Tensor:
        """Generate kernels, and involve the projected map."""
        q, k, v = queries_keys_values(x, qkv, qkv_bias)
        kernels = as_kernels(d, pair_logits(d, q, k).softmax(-1))
        return output_layer(involution.core(v, kernels), **last)

    @mutant(drops="values-first")
    def values_projected_last(
        self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor
    ) -> Tensor:
        """W_v and its bias act on the sums; with more than one head W_v mixes what heads have weighted."""
        q, k, _ = queries_keys_values(x, qkv, qkv_bias)
        sums = involution.core(x, as_kernels(d, pair_logits(d, q, k).softmax(-1)))
        values = project(sums, qkv[2 * d.C :]) + qkv_bias[2 * d.C :, None, None]
        return output_layer(values, **last)

    @mutant(drops="map-seen")
    def own_key_only(self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor) -> Tensor:
        """All logits of a position have its own key, all that a generator sees of one position."""
        q, k, v = queries_keys_values(x, qkv, qkv_bias)
        logits = pair_logits(d, q, k)
        own = logits.diagonal(dim1=2, dim2=3)[..., None].expand_as(logits)
        return output_layer(involution.core(v, as_kernels(d, own.softmax(-1))), **last)

    @mutant(drops="map-seen", sparse=True)
    def own_key_at_one_position(self, d: Dims, **given: Tensor) -> Tensor:
        """It is so for one channel at the last position alone."""
        output = self.right(d, **given)
        output[:, 0, -1, -1] = self.own_key_only(d, **given)[:, 0, -1, -1]
        return output

    @mutant(drops="giving")
    def softmax_over_queries(
        self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor
    ) -> Tensor:
        """The softmax is over the positions whose kernel weighs one."""
        q, k, v = queries_keys_values(x, qkv, qkv_bias)
        kernels = as_kernels(d, pair_logits(d, q, k).softmax(-2))
        return output_layer(involution.core(v, kernels), **last)

    @mutant(drops="scaled")
    def scale_left_out(self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor) -> Tensor:
        """Logits are not divided."""
        q, k, v = queries_keys_values(x, qkv, qkv_bias)
        kernels = as_kernels(d, pair_logits(d, 2 * q, k).softmax(-1))
        return output_layer(involution.core(v, kernels), **last)

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, x: Tensor, qkv: Tensor, qkv_bias: Tensor, **last: Tensor) -> Tensor:
        """All channels take the kernels of the first head."""
        q, k, v = queries_keys_values(x, qkv, qkv_bias)
        kernels = as_kernels(d, pair_logits(d, q, k).softmax(-1))[:, :1]
        return output_layer(involution.core(v, kernels), **last)


class SelfAttentionIsASpecialCaseOfInvolutionAsStated(Claim):
    """Self-attention is a special case of involution as published, whose kernels see one pixel alone.

    Then, with that pixel fixed, its output there would be affine in others: f(a + b) + f(0) = f(a) + f(b).
    """

    name = "self-attention-is-a-special-case-of-involution-as-stated"
    expected = "refuted"
    operators = ("self_attention",)
    source = f"said where involution is introduced; {LI}, abstract, whose generator is that of eq. (6)"
    shapes = SelfAttentionIsASpecialCaseOfInvolution.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the fixed pixels, two choices of all others, and the layers."""
        shape = (d.B, d.C, d.H, d.W)
        layers = SelfAttentionIsASpecialCaseOfInvolution().variables(d)
        return {**layers, "x": shape, "a": shape, "b": shape}

    def left(self, d: Dims, x: Tensor, a: Tensor, b: Tensor, **layers: Tensor) -> Tensor:
        """f(a + b) + f(0), at the fixed pixels."""
        both, none = with_fixed(x, a + b), with_fixed(x, torch.zeros_like(a))
        return at_fixed(attend(d, both, **layers) + attend(d, none, **layers))

    def right(self, d: Dims, x: Tensor, a: Tensor, b: Tensor, **layers: Tensor) -> Tensor:
        """f(a) + f(b), at the fixed pixels."""
        first, second = with_fixed(x, a), with_fixed(x, b)
        return at_fixed(attend(d, first, **layers) + attend(d, second, **layers))


def attend(d: Dims, x: Tensor, **layers: Tensor) -> Tensor:
    """Compute self-attention, projections included."""
    return self_attention.module(x, **layers, heads=d.M)


def logits_of(d: Dims, x: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Project a map, and multiply queries and the keys of their windows: [B, M, K², H, W]."""
    return neighbour_logits(d, project(x, query), project(x, key))


def soft(d: Dims, logits: Tensor, *, masked: bool = True) -> Tensor:
    """Take the softmax over the window, masked outside the map: kernels [B, M, K, K, H, W]."""
    outside = F.unfold(logits.new_ones(1, 1, d.H, d.W), (d.K, d.K), padding=d.K // 2) == 0
    hidden = logits.masked_fill(outside.view(d.K**2, d.H, d.W), -torch.inf) if masked else logits
    return hidden.softmax(2).view(d.B, d.M, d.K, d.K, d.H, d.W)


def by_tap(bias: Tensor) -> Tensor:
    """Read biases [M, K, K] as those of logits [B, M, K², H, W]."""
    return bias.flatten(1)[:, :, None, None]


def taps_of_pairs(d: Dims) -> tuple[Tensor, Tensor]:
    """Tell which pairs of positions are no neighbours, and number the nearest tap of each, both [N, N]."""
    rows, columns = ((torch.arange(size) - torch.arange(size)[:, None] + d.K // 2) for size in (d.H, d.W))
    down, right = rows[:, None, :, None], columns[None, :, None, :]
    near = down.ge(0) & down.lt(d.K) & right.ge(0) & right.lt(d.K)
    taps = down.clamp(0, d.K - 1) * d.K + right.clamp(0, d.K - 1)
    N = d.H * d.W
    return near.logical_not().reshape(N, N), taps.reshape(N, N)
