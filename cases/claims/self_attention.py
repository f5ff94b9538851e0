"""Self-attention seen as involution.

The operators are compared, not what generates their kernels: involution's published generator sees one
position only, while a weight of self-attention compares two.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..attention import self_attention
from ..involution import involution
from ..workloads import MAPS
from .index_sets import BlockedGroups, RowOrder, WholeMapTaps


class SelfAttentionIsInvolution(WholeMapTaps, RowOrder, BlockedGroups, Claim):
    """Self-attention over an H×W map with given attention maps is an involution of the projected values.

    Its kernel has 2H−1 by 2W−1 taps: the attention of a position, laid out by the offset of the other
    position, and zero where that offset leaves the map. A head is a group. Which program makes the
    attention maps is left open.
    """

    name = "self-attention-is-involution"
    operators = ("self_attention", "involution")
    source = (
        "Li et al. 2021, CVPR, arXiv 2103.06255, abstract: “we additionally demystify the recent popular "
        "self-attention operator and subsume it into our involution family”"
    )
    conditions = {
        "values-first": "W_v acts before the sum over positions",
        "whole-map": "the kernel reaches from every position to every other",
        "centred": "the middle tap weighs the position itself",
        "not-flipped": "taps are laid out by where the other position lies, seen from this one",
        "row-order": "rows of the kernel are rows of the map",
        "giving": "a position's kernel holds the weights that it gives, not those that it gets",
        "group-per-head": "every head has a kernel of its own",
        "blocked-groups": "group m is made of the channels mD to mD+D−1",
        "per-image": "every image has kernels of its own",
        "nothing-outside": "outside the map the weights or the values are zero",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        *(Dims(B=2, C=4, M=2, H=H, W=W) for H, W, _ in reversed(MAPS)),
        Dims(B=1, C=64, M=2, H=7, W=7),
    )
    algebra = (
        "y[b, c, (i, j)] = Σ_pq a[b, m, iW+j, pW+q] · v[b, c, p, q] over all positions equals "
        "Σ_uv k[b, g, u, v, i, j] · v[b, c, i+u−H+1, j+v−W+1] over all taps, with v = W_v x and "
        "k[b, g, p−i+H−1, q−j+W−1, i, j] = a[b, g, iW+j, pW+q], zero elsewhere: every position is read by "
        "one tap, the taps that leave the map weigh and read zero, and m = ⌊cM/C⌋ = g"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the projection of its values, and the attention maps."""
        N = d.H * d.W
        return {"x": (d.B, d.C, d.H, d.W), "W_v": (d.C, d.C), "attention": (d.B, d.M, N, N)}

    def left(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Project the tokens and attend to all of them."""
        tokens = torch.einsum("oc,bcn->bon", W_v, x.flatten(2))
        return self_attention.core(tokens.view(d.B, d.C, d.H, d.W), attention)

    def right(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Project the map by a 1×1 convolution and involve it."""
        return involution.core(project(x, W_v), as_kernels(d, attention))

    @mutant(drops="values-first")
    def values_projected_last(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """W_v acts on the sums; with more than one head it mixes what heads have weighted differently."""
        return project(involution.core(x, as_kernels(d, attention)), W_v)

    @mutant(drops="whole-map")
    def kernel_too_small(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """The kernel has 2H−3 by 2W−3 taps."""
        return involution.core(project(x, W_v), as_kernels(d, attention)[:, :, 1:-1, 1:-1])

    @mutant(drops="whole-map", sparse=True)
    def first_tap_left_out(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """The first tap is missing, by which only the last position attends to the first."""
        kernels = as_kernels(d, attention)
        kernels[:, :, 0, 0] = 0
        return involution.core(project(x, W_v), kernels)

    @mutant(drops="centred")
    def taps_off_by_one(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Every tap weighs the right neighbour of the position that it stands for."""
        return involution.core(project(x, W_v), as_kernels(d, attention).roll(1, 3))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return involution.core(project(x, W_v), as_kernels(d, attention).flip(2, 3))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Rows and columns of the kernel are exchanged."""
        return involution.core(project(x, W_v), as_kernels(d, attention).transpose(2, 3))

    @mutant(drops="giving")
    def transposed_attention(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """A position's kernel holds the weights that others give to it."""
        return involution.core(project(x, W_v), as_kernels(d, attention.mT))

    @mutant(drops="group-per-head")
    def one_group(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """All channels take the kernel of the first head."""
        return involution.core(project(x, W_v), as_kernels(d, attention)[:, :1])

    @mutant(drops="blocked-groups")
    def strided_groups(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        kernels = as_kernels(d, attention).repeat(1, d.C // d.M, 1, 1, 1, 1)
        return involution.core(project(x, W_v), kernels)

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return involution.core(project(x, W_v), as_kernels(d, attention).roll(1, 0))

    @mutant(drops="nothing-outside")
    def weights_and_values_outside(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Taps outside the map weigh one, and its border repeats there."""
        return involve_extended(d, project(x, W_v), as_kernels(d, attention, outside=1))

    @equivalent("what lies outside the map has the weight zero")
    def values_outside(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Outside the map its border repeats."""
        return involve_extended(d, project(x, W_v), as_kernels(d, attention))

    @equivalent("what lies outside the map has the value zero")
    def weights_outside(self, d: Dims, x: Tensor, W_v: Tensor, attention: Tensor) -> Tensor:
        """Taps outside the map weigh one."""
        return involution.core(project(x, W_v), as_kernels(d, attention, outside=1))


def project(x: Tensor, weight: Tensor) -> Tensor:
    """Apply a 1×1 convolution [C, C] to x [B, C, H, W]."""
    return F.conv2d(x, weight[:, :, None, None])


def as_kernels(d: Dims, attention: Tensor, outside: int = 0) -> Tensor:
    """Lay attention maps [B, M, N, N] out as kernels [B, M, 2H−1, 2W−1, H, W], by offset.

    Position (i, j) sees the map from the inside: its row of the attention map, H×W, begins at the tap
    (H−1−i, W−1−j), and what surrounds it is ``outside``.
    """
    rows = attention.view(d.B, d.M, d.H, d.W, d.H, d.W)
    kernels = [
        F.pad(rows[:, :, i, j], (d.W - 1 - j, j, d.H - 1 - i, i), value=outside)
        for i in range(d.H)
        for j in range(d.W)
    ]
    return torch.stack(kernels, -1).view(d.B, d.M, 2 * d.H - 1, 2 * d.W - 1, d.H, d.W)


def involve_extended(d: Dims, value: Tensor, kernels: Tensor) -> Tensor:
    """Involve a map whose border repeats outside, with the kernels of its own positions."""
    down, right = d.H - 1, d.W - 1
    reach = (right, right, down, down)
    wide = involution.core(F.pad(value, reach, mode="replicate"), F.pad(kernels, reach))
    return wide[..., down : down + d.H, right : right + d.W]


def queries_keys_values(x: Tensor, qkv: Tensor, qkv_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project a map [B, C, H, W] to queries, keys and values by one layer [3C, C]."""
    q, k, v = (project(x, qkv) + qkv_bias[:, None, None]).chunk(3, 1)
    return q, k, v


def output_layer(x: Tensor, proj: Tensor, proj_bias: Tensor) -> Tensor:
    """Apply the last layer."""
    return project(x, proj) + proj_bias[:, None, None]


def pair_logits(d: Dims, q: Tensor, k: Tensor) -> Tensor:
    """Multiply queries and keys [B, C, H, W] of all pairs of positions, by heads: [B, M, N, N]."""
    q, k = (part.reshape(d.B, d.M, d.C // d.M, -1) for part in (q, k))
    scale: float = (d.C // d.M) ** -0.5
    products: Tensor = q.mT @ k
    return products * scale


def neighbour_logits(d: Dims, q: Tensor, k: Tensor) -> Tensor:
    """Multiply queries and the keys of their windows, zero outside the map, by heads: [B, M, K², H, W]."""
    taps = F.unfold(k, (d.K, d.K), padding=d.K // 2).view(d.B, d.M, -1, d.K**2, d.H, d.W)
    queries = q.view(d.B, d.M, -1, 1, d.H, d.W)
    scale: float = (d.C // d.M) ** -0.5
    return (queries * taps).sum(2) * scale
