"""Local attention seen as a convolution."""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..attention import sliding_attention2d, window_attention
from ..dynamic import inhomogeneous_depthwise_conv2d as depthwise
from ..involution import involution
from ..workloads import MAPS
from .index_sets import BlockedGroups, CentredTaps, RowOrder


class LocalAttentionIsDynamicDepthwiseConv(CentredTaps, RowOrder, BlockedGroups, Claim):
    """Sliding-window attention with given maps is an inhomogeneous dynamic depthwise convolution.

    The weights that a position gives to its window are its kernel, one per image, position and head;
    the channels of a head share it. Which program makes the maps is left open.
    """

    name = "local-attention-is-dynamic-depthwise-conv"
    operators = ("sliding_attention2d", "inhomogeneous_depthwise_conv2d")
    source = (
        "Han et al. 2022, ICLR, arXiv 2106.04263, abstract: “local attention resembles depth-wise "
        "convolution and its dynamic variants in sparse connectivity”"
    )
    conditions = {
        "sliding": "the window slides with the position; it is no cell of a partition",
        "centred": "the window is centred on the position",
        "zero-padding": "neighbours outside the map add nothing",
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "per-head": "every head has a kernel of its own",
        "per-position": "every position has a kernel of its own",
        "per-image": "every image has kernels of its own",
        "row-order": "taps and neighbours are counted row by row",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        *(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS)),
        Dims(B=1, C=96, M=3, H=14, W=14, K=7),
    )
    algebra = (
        "y[b, c, i, j] = Σ_n a[b, m, i, j, n] · v[b, c, p, q] over the neighbours (p, q) in the map equals "
        "Σ_uv k[b, g, u, v, i, j] · v[b, c, i+u−r, j+v−r] over the taps that read the map, with "
        "k[b, g, u, v, i, j] = a[b, g, i, j, uK+v]: taps and neighbours are the same terms, what is read "
        "outside is zero, and m = ⌊cM/C⌋ = g"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps; what makes the maps is left open."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, d.M, d.H, d.W, d.K**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Convolve with the maps as kernels."""
        return depthwise.core(value, as_kernels(d, attention))

    @mutant(drops="sliding", side="left")
    def windows_of_a_partition(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """A position attends to the cell that holds it, the map being cut into K×K windows."""
        down, right = -d.H % d.K, -d.W % d.K
        whole = F.pad(attention, (0, 0, 0, right, 0, down))
        cells = whole.reshape(d.B, d.M, (d.H + down) // d.K, d.K, (d.W + right) // d.K, d.K, d.K**2)
        maps = cells.permute(0, 2, 4, 1, 3, 5, 6).reshape(d.B, -1, d.M, d.K**2, d.K**2)
        return window_attention.core(F.pad(value, (0, right, 0, down)), maps)[..., : d.H, : d.W]

    @mutant(drops="centred")
    def window_off_by_one(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The window is centred on the neighbour to the right."""
        kernels = as_kernels(d, attention)
        return depthwise.core(F.pad(value, (0, 1)), F.pad(kernels, (1, 0)))[..., 1:]

    @mutant(drops="zero-padding")
    def replicated_border(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Outside the map its border repeats."""
        return convolve_extended(d, value, attention, "replicate")

    @mutant(drops="zero-padding")
    def map_wrapped_around(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Outside the map its other side follows."""
        return convolve_extended(d, value, attention, "circular")

    @mutant(drops="zero-padding", sparse=True)
    def one_corner_wrapped_around(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The last position alone sees the other side of the map where its window leaves it."""
        output = depthwise.core(value, as_kernels(d, attention))
        output[..., -1, -1] = convolve_extended(d, value, attention, "circular")[..., -1, -1]
        return output

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return depthwise.core(value, as_kernels(d, attention).repeat(1, d.C // d.M, 1, 1, 1, 1))

    @mutant(drops="per-head")
    def one_kernel_for_all_heads(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All channels take the kernel of the first head."""
        return depthwise.core(value, as_kernels(d, attention)[:, :1])

    @mutant(drops="per-position")
    def one_kernel_for_all_positions(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All positions take the kernel of the first one."""
        first = as_kernels(d, attention)[..., :1, :1]
        return depthwise.core(value, first.expand(*first.shape[:4], d.H, d.W))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return depthwise.core(value, as_kernels(d, attention).roll(1, 0))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Taps are counted column by column."""
        return depthwise.core(value, as_kernels(d, attention).transpose(2, 3))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return depthwise.core(value, as_kernels(d, attention).flip(2, 3))

    @equivalent("a group's channels share its kernel, so each of them may as well hold a copy")
    def one_group_per_channel(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every channel is a group with a copy of its head's kernel."""
        return depthwise.core(value, as_kernels(d, attention).repeat_interleave(d.C // d.M, 1))

    @equivalent("inhomogeneous dynamic depthwise convolution and involution are one operator by two names")
    def involution_instead(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Involution with the same kernels."""
        return involution.core(value, as_kernels(d, attention))


def as_kernels(d: Dims, attention: Tensor) -> Tensor:
    """Read attention maps [B, M, H, W, K²] as kernels [B, M, K, K, H, W], a head being a group."""
    return attention.permute(0, 1, 4, 2, 3).reshape(d.B, d.M, d.K, d.K, d.H, d.W)


def convolve_extended(d: Dims, value: Tensor, attention: Tensor, mode: str) -> Tensor:
    """Convolve a map that goes on outside as ``mode`` says, with the kernels of its own positions."""
    reach = d.K // 2
    extended = F.pad(value, (reach,) * 4, mode=mode)
    wide = depthwise.core(extended, F.pad(as_kernels(d, attention), (reach,) * 4))
    return wide[..., reach : reach + d.H, reach : reach + d.W]
