"""Local attention seen as a convolution, and as one operator with its kin."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..attention import outlook_attention, sliding_attention2d, window_attention
from ..convolution import depthwise_conv2d as depthwise
from ..dynamic import inhomogeneous_depthwise_conv2d as inhomogeneous
from ..involution import involution
from ..workloads import MAPS
from .index_sets import BlockedGroups, CentredTaps, RowOrder
from .outlook_attention import OverlappingWindows, outlook_kernels, own_rows
from .window_attention import SWIN, Outputs, WindowTaps, window_kernels, windows


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
        return inhomogeneous.core(value, as_kernels(d, attention))

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
        return inhomogeneous.core(F.pad(value, (0, 1)), F.pad(kernels, (1, 0)))[..., 1:]

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
        output = inhomogeneous.core(value, as_kernels(d, attention))
        output[..., -1, -1] = convolve_extended(d, value, attention, "circular")[..., -1, -1]
        return output

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Channel c takes the kernel of head c mod M."""
        return inhomogeneous.core(value, as_kernels(d, attention).repeat(1, d.C // d.M, 1, 1, 1, 1))

    @mutant(drops="per-head")
    def one_kernel_for_all_heads(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All channels take the kernel of the first head."""
        return inhomogeneous.core(value, as_kernels(d, attention)[:, :1])

    @mutant(drops="per-position")
    def one_kernel_for_all_positions(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """All positions take the kernel of the first one."""
        first = as_kernels(d, attention)[..., :1, :1]
        return inhomogeneous.core(value, first.expand(*first.shape[:4], d.H, d.W))

    @mutant(drops="per-image")
    def kernels_of_another_image(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every image takes the kernels of the one before."""
        return inhomogeneous.core(value, as_kernels(d, attention).roll(1, 0))

    @mutant(drops="row-order")
    def transposed_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Taps are counted column by column."""
        return inhomogeneous.core(value, as_kernels(d, attention).transpose(2, 3))

    @mutant(drops="not-flipped")
    def flipped_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """The kernel is mirrored, as in the convolution of signals."""
        return inhomogeneous.core(value, as_kernels(d, attention).flip(2, 3))

    @equivalent("a group's channels share its kernel, so each of them may as well hold a copy")
    def one_group_per_channel(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Every channel is a group with a copy of its head's kernel."""
        return inhomogeneous.core(value, as_kernels(d, attention).repeat_interleave(d.C // d.M, 1))

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
    wide = inhomogeneous.core(extended, F.pad(as_kernels(d, attention), (reach,) * 4))
    return wide[..., reach : reach + d.H, reach : reach + d.W]


HAN = "Han et al. 2022, ICLR, arXiv 2106.04263"


class LocalOperatorsAreOneInvolution(WindowTaps, OverlappingWindows, CentredTaps, Claim):
    """Window attention, sliding-window attention and outlook attention are one operator: involution.

    They differ in which kernels it can have. Window attention has 2S−1 by 2S−1 taps, of which S² lie on the
    window and the others are zero; sliding-window attention has K×K free ones; outlook attention has 2K−1 by
    2K−1, sums over the windows that hold a position.
    """

    name = "local-operators-are-one-involution"
    operators = ("window_attention", "sliding_attention2d", "outlook_attention", "involution")
    source = (
        f"follows from {SWIN}, eq. (4), Ramachandran et al. 2019, arXiv 1906.05909, eq. (2), Yuan et al. "
        "2021, arXiv 2106.13112, eq. (3) to (5), and Li et al. 2021, arXiv 2103.06255, eq. (4)"
    )
    conditions = {
        "partition": "windows of window attention cut the map, and its taps off the window are zero",
        "sliding": "the window of sliding-window attention is centred on the position",
        "overlap": "windows of outlook attention begin at every position, and are added up",
        "blocked-heads": "a head is a group of adjacent channels",
        "values-first": "what is weighed is the same map of values in all three",
    }
    shapes = (
        Dims(B=2, C=4, M=2, H=4, W=6, S=2, K=3),
        Dims(B=2, C=4, M=2, H=9, W=3, S=3, K=3),
        Dims(B=1, C=4, M=2, H=2, W=6, S=2, K=5),
    )
    complete_shapes = (Dims(B=1, C=4, M=2, H=2, W=4, S=2, K=2),)
    algebra = (
        "each output is a sum over positions of the map with weights that head, image and position decide, "
        "and each position is read by one tap of each kernel"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of each operator."""
        return {
            "value": (d.B, d.C, d.H, d.W),
            "in_windows": (d.B, windows(d), d.M, d.S**2, d.S**2),
            "sliding": (d.B, d.M, d.H, d.W, d.K**2),
            "outlook": (d.B, d.M, d.H * d.W, d.K**2, d.K**2),
        }

    def left(self, d: Dims, value: Tensor, in_windows: Tensor, sliding: Tensor, outlook: Tensor) -> Outputs:
        """Attend in three ways."""
        return (
            window_attention.core(value, in_windows),
            sliding_attention2d.core(value, sliding),
            outlook_attention.core(value, outlook, stride=1),
        )

    def right(self, d: Dims, value: Tensor, in_windows: Tensor, sliding: Tensor, outlook: Tensor) -> Outputs:
        """Involve the map with three kernels."""
        return (
            involution.core(value, window_kernels(d, in_windows)),
            involution.core(value, as_kernels(d, sliding)),
            involution.core(value, outlook_kernels(d, outlook)),
        )

    @mutant(drops="partition")
    def weights_off_window(self, d: Dims, in_windows: Tensor, **rest: Tensor) -> Outputs:
        """Taps that leave the window weigh one."""
        _, *others = self.right(d, in_windows=in_windows, **rest)
        first = involution.core(rest["value"], window_kernels(d, in_windows, outside=1))
        return first, others[0], others[1]

    @mutant(drops="sliding")
    def window_off_by_one(self, d: Dims, sliding: Tensor, **rest: Tensor) -> Outputs:
        """The sliding window is centred on the position to the right."""
        first, _, last = self.right(d, sliding=sliding, **rest)
        kernels = F.pad(as_kernels(d, sliding), (0, 0, 0, 0, 2, 0))
        return first, involution.core(rest["value"], kernels), last

    @mutant(drops="overlap")
    def own_window_only(self, d: Dims, outlook: Tensor, **rest: Tensor) -> Outputs:
        """The kernel of outlook attention is its weights for the middle of a window."""
        first, second, _ = self.right(d, outlook=outlook, **rest)
        return first, second, involution.core(rest["value"], own_rows(d, outlook))

    @mutant(drops="blocked-heads", side="left")
    def interleaved_heads(self, d: Dims, value: Tensor, **maps: Tensor) -> Outputs:
        """Head m owns the channels m, m+M and so on."""
        dealt = value.view(d.B, -1, d.M, d.H, d.W).transpose(1, 2).reshape(value.shape)
        outputs = self.left(d, dealt, **maps)
        back = [out.view(d.B, d.M, -1, d.H, d.W).transpose(1, 2).reshape(value.shape) for out in outputs]
        return back[0], back[1], back[2]

    @mutant(drops="values-first")
    def other_values_for_one(self, d: Dims, value: Tensor, **maps: Tensor) -> Outputs:
        """Sliding-window attention weighs the next channel's values."""
        first, _, last = self.right(d, value, **maps)
        return first, self.right(d, value.roll(1, 1), **maps)[1], last

    @mutant(sparse=True)
    def one_weight_left_out(self, d: Dims, in_windows: Tensor, **rest: Tensor) -> Outputs:
        """In the first window, the first place does not see the last."""
        _, *others = self.right(d, in_windows=in_windows, **rest)
        kernels = window_kernels(d, in_windows)
        kernels[:, :, -1, -1, 0, 0] = 0
        return involution.core(rest["value"], kernels), others[0], others[1]


class LocalAttentionIsDepthwise(CentredTaps, BlockedGroups, Claim):
    """Sliding-window attention with the same weights everywhere is depthwise convolution with tied kernels.

    All images and positions then have one kernel, which the channels of a head share. A softmax takes that
    away: its weights depend on the map, and at the border, where fewer neighbours share them, they grow.
    """

    name = "local-attention-is-depthwise"
    operators = ("sliding_attention2d", "depthwise_conv2d")
    source = (
        f"{HAN}, abstract: “depth-wise convolution shares connection weights (kernel weights) across spatial "
        "positions and attention shares the connection weights across channels”"
    )
    conditions = {
        "same-at-all-positions": "all positions give the same weights",
        "same-for-all-images": "all images give the same weights",
        "tied": "the channels of a head have one kernel",
        "blocked-heads": "head m owns the channels mD to mD+D−1",
        "sliding": "the window slides with the position; it is no cell of a partition",
        "odd-window": "the window has a middle, for convolution pads both sides of an even kernel alike",
        "zero-padding": "weights of neighbours outside the map are lost, and not shared among the others",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
    }
    shapes = (
        *(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS[:4])),
        Dims(B=1, C=32, M=2, H=14, W=14, K=7),
    )
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3, K=3),)
    corrects = "local-attention-is-depthwise-as-stated"
    algebra = (
        "Σ_n a[m, n] · v[b, c, p_n] over the neighbours in the map equals Σ_uv k[c, u, v] · v[b, c, i+u−r, "
        "j+v−r] with k[c, u, v] = a[⌊cM/C⌋, uK+v]: taps and neighbours are the same terms"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values, the weights, and what a position or an image may add to them."""
        return {
            "value": (d.B, d.C, d.H, d.W),
            "weight": (d.M, d.K**2),
            "own": (d.B, d.H, d.W),
        }

    def given(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Give all images and positions the same weights."""
        everywhere = weight[:, None, None].expand(d.B, d.M, d.H, d.W, d.K**2)
        return {"value": value, "weight": weight, "attention": everywhere}

    def left(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the weights as kernels, those of a head for all of its channels."""
        K = math.isqrt(weight.shape[1])
        return depthwise.core(value, weight.view(d.M, K, K).repeat_interleave(d.C // d.M, 0))

    @mutant(drops="same-at-all-positions", side="given")
    def weights_that_vary(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """Every position adds something of its own."""
        given = self.given(d, value, weight, own)
        return {**given, "attention": given["attention"] + own[:1, None, :, :, None]}

    @mutant(drops="same-at-all-positions", side="given", sparse=True)
    def one_position_varies(
        self, d: Dims, value: Tensor, weight: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """The last position alone adds something of its own."""
        given = self.given(d, value, weight, own)
        last = F.pad(own[:1, None, -1:, -1:, None], (0, 0, d.W - 1, 0, d.H - 1, 0))
        return {**given, "attention": given["attention"] + last}

    @mutant(drops="same-for-all-images", side="given")
    def weights_of_an_image(
        self, d: Dims, value: Tensor, weight: Tensor, own: Tensor
    ) -> Mapping[str, Tensor]:
        """Every image adds something of its own."""
        given = self.given(d, value, weight, own)
        return {**given, "attention": given["attention"] + own[:, :1, :1, None, None]}

    @mutant(drops="tied")
    def second_channels_doubled(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Every other channel has twice the kernel of its head."""
        factors = torch.arange(d.C, dtype=weight.dtype).remainder(2) + 1
        return factors[:, None, None] * self.right(d, value, weight)

    @mutant(drops="blocked-heads")
    def interleaved_heads(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Channel c has the kernel of head c mod M."""
        return depthwise.core(value, weight.view(d.M, d.K, d.K).repeat(d.C // d.M, 1, 1))

    @mutant(drops="sliding", side="left")
    def windows_of_a_partition(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """A position attends to the cell that holds it, the map being cut into K×K windows."""
        down, right = -d.H % d.K, -d.W % d.K
        wide = F.pad(value, (0, right, 0, down))
        cells = (d.H + down) // d.K * ((d.W + right) // d.K)
        maps = attention[:, :, 0, 0][:, None, :, None].expand(d.B, cells, d.M, d.K**2, d.K**2)
        return window_attention.core(wide, maps)[..., : d.H, : d.W]

    @mutant(drops="odd-window", side="given")
    def even_window(self, d: Dims, value: Tensor, weight: Tensor, own: Tensor) -> Mapping[str, Tensor]:
        """The window has a row and a column more, of ones."""
        even = F.pad(weight.view(d.M, d.K, d.K), (0, 1, 0, 1), value=1).flatten(1)
        everywhere = even[:, None, None].expand(d.B, d.M, d.H, d.W, (d.K + 1) ** 2)
        return {"value": value, "weight": even, "attention": everywhere}

    @mutant(drops="zero-padding", side="left")
    def doubled_at_the_border(self, d: Dims, value: Tensor, attention: Tensor, **_: Tensor) -> Tensor:
        """In the first row weights are twice as large, as those of a softmax over half as many neighbours."""
        doubled = torch.cat([2 * attention[:, :, :1], attention[:, :, 1:]], 2)
        return sliding_attention2d.core(value, doubled)

    @mutant(drops="not-flipped")
    def flipped_kernels(self, d: Dims, value: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """The kernels are mirrored, as in the convolution of signals."""
        return self.right(d, value, weight.flip(1))


class LocalAttentionIsDepthwiseAsStated(Claim):
    """Local attention is a depthwise convolution: its weights are the kernel."""

    name = "local-attention-is-depthwise-as-stated"
    expected = "refuted"
    operators = ("sliding_attention2d", "depthwise_conv2d")
    source = (
        f"read into {HAN}, abstract, “local attention resembles depth-wise convolution and its dynamic "
        "variants in sparse connectivity”, which says no more than that"
    )
    shapes = LocalAttentionIsDepthwise.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the values and the attention maps of all positions."""
        return {"value": (d.B, d.C, d.H, d.W), "attention": (d.B, d.M, d.H, d.W, d.K**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Attend to the window around every position."""
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Convolve with the weights of the first position."""
        first = attention[0, :, 0, 0].view(d.M, d.K, d.K)
        return depthwise.core(value, first.repeat_interleave(d.C // d.M, 0))


class LocalAttentionKeepsConstants(CentredTaps, Claim):
    """Local attention leaves constant values as they are, at the border too.

    The weights that a position gives to the neighbours in the map sum to one, as a softmax over them makes
    them do. So it has no kernel that sums to anything else, though depthwise convolution has.
    """

    name = "local-attention-keeps-constants"
    operators = ("sliding_attention2d",)
    source = (
        "follows from Ramachandran et al. 2019, NeurIPS, arXiv 1906.05909, eq. (2): a softmax over the "
        "neighbours"
    )
    conditions = {
        "sums-to-one": "the weights of a position sum to one",
        "masked": "neighbours outside the map take no part in the sum",
    }
    shapes = tuple(Dims(B=2, C=4, M=2, H=H, W=W, K=K) for H, W, K in reversed(MAPS))
    complete_shapes = (Dims(B=2, C=4, M=2, H=2, W=3, K=3),)
    algebra = (
        "Σ_n a[n] · c over the neighbours in the map is c times Σ_n a[n], and the taps outside read zeros"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a constant per channel, and the weights but for what makes them sum to one."""
        return {"constant": (d.B, d.C), "free": (d.B, d.M, d.H, d.W, d.K**2)}

    def given(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """Take off the position's own weight what the sum over the neighbours in the map is above one."""
        return {"constant": constant, "attention": normalised(d, free, in_map(d, free.dtype))}

    def left(self, d: Dims, constant: Tensor, attention: Tensor) -> Tensor:
        """Attend to constant values."""
        values = constant[..., None, None].expand(d.B, d.C, d.H, d.W)
        return sliding_attention2d.core(values, attention)

    def right(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Keep the constants."""
        return constant[..., None, None].expand(d.B, d.C, d.H, d.W)

    @mutant(drops="sums-to-one", side="given")
    def any_sum(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """The weights sum to anything."""
        return {"constant": constant, "attention": free}

    @mutant(drops="sums-to-one", side="given", sparse=True)
    def another_sum_at_one_position(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """At the last position the weights sum to two."""
        weights = self.given(d, constant, free)["attention"].clone()
        weights[..., -1, -1, d.K**2 // 2] += 1
        return {"constant": constant, "attention": weights}

    @mutant(drops="masked", side="given")
    def padded_keys(self, d: Dims, constant: Tensor, free: Tensor) -> Mapping[str, Tensor]:
        """All K² weights sum to one, those of neighbours outside the map included."""
        return {"constant": constant, "attention": normalised(d, free, torch.ones_like(free[0, 0]))}

    @mutant()
    def negated(self, d: Dims, constant: Tensor, **_: Tensor) -> Tensor:
        """Constants change their sign."""
        return -self.right(d, constant)


def normalised(d: Dims, free: Tensor, counted: Tensor) -> Tensor:
    """Change the position's own weight so that the counted ones [H, W, K²] of [B, M, H, W, K²] sum to one."""
    own = torch.eye(d.K**2, dtype=free.dtype)[d.K**2 // 2]
    return free + own * (1 - (free * counted).sum(-1, keepdim=True))


def in_map(d: Dims, dtype: torch.dtype) -> Tensor:
    """Tell which neighbours of every position lie in the map: ones and zeros [H, W, K²]."""
    inside = F.pad(torch.ones(d.H, d.W, dtype=dtype), (d.K // 2, (d.K - 1) // 2) * 2)
    return inside.unfold(0, d.K, 1).unfold(1, d.K, 1).reshape(d.H, d.W, d.K**2)
