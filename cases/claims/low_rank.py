"""Which composed convolutions have a kernel of low rank, in channels or in space, and which are said to."""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, mutant

from ..convolution import (
    bottleneck,
    conv2d,
    multiscale_conv2d,
    pointwise_conv2d,
    pyramid_conv2d,
    separable_conv2d,
)
from .mlp import HAN, local_matrix, tied

RELATIONS = f"{HAN}, figure of the relations between operators"


class BottleneckIsLowRankInChannels(Claim):
    """A bottleneck without activations is a convolution whose kernel has rank Co/R at most in the channels.

    Read off the operator's responses, the kernel as a matrix [Co, C·K²] of outputs, and as one [C, Co·K²] of
    inputs, has at most as high a rank as the inner convolution has channels. Without a shortcut: the residual
    block adds the identity, which has full rank.
    """

    name = "bottleneck-is-low-rank-in-channels"
    kind = "inequality"
    operators = ("bottleneck",)
    source = (
        f"{RELATIONS}, where low rank in channels leads from convolution to the bottleneck; He et al. 2016"
    )
    conditions = {
        "no-activation": "nothing stands between the convolutions",
        "no-shortcut": "what the block reads is not added to what it makes",
        "inner-width": "the inner convolution has Co/R channels",
    }
    # The kernel of most entries first, so that an error at one of them is rare.
    shapes = (
        Dims(C=8, Co=8, H=3, W=3, K=3, R=4),
        Dims(C=6, Co=6, H=5, W=5, K=5, R=2),
        Dims(C=5, Co=5, H=1, W=1, K=1, R=2),
    )
    complete_shapes = (Dims(C=3, Co=3, H=3, W=3, K=3, R=3),)
    corrects = "bottleneck-is-low-rank-in-channels-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return both matrices and the inner kernel."""
        inner = d.Co // d.R
        return {"reduce": (inner, d.C), "spatial": (inner, inner, d.K, d.K), "expand": (d.Co, inner)}

    def left(self, d: Dims, **weights: Tensor) -> tuple[Tensor, Tensor]:
        """Read the kernel off the operator, as both matrices."""
        kernel = read_off(d, lambda x: bottleneck.core(x, **weights))
        return kernel.flatten(1), kernel.transpose(0, 1).flatten(1)

    def right(self, d: Dims, reduce: Tensor, spatial: Tensor, expand: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply through Co/R rows: of such a product the rank is Co/R at most."""
        after = torch.einsum("nmuv,mc->ncuv", spatial, reduce).flatten(1)
        before = torch.einsum("on,nmuv->mouv", expand, spatial).flatten(1)
        return expand @ after, reduce.mT @ before

    def lesser(self, d: Dims, **weights: Tensor) -> Tensor:
        """Return the ranks of both matrices."""
        return ranks(*self.left(d, **weights))

    def greater(self, d: Dims, **weights: Tensor) -> Tensor:
        """Return how many channels the inner convolution has."""
        return torch.tensor(d.Co // d.R)

    @mutant(drops="no-activation", side="left")
    def squared_between(
        self, d: Dims, reduce: Tensor, spatial: Tensor, expand: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the reduction makes is squared."""

        def respond(x: Tensor) -> Tensor:
            reduced = pointwise_conv2d.core(x, reduce)
            return pointwise_conv2d.core(conv2d.core(reduced * reduced, spatial), expand)

        kernel = read_off(d, respond)
        return kernel.flatten(1), kernel.transpose(0, 1).flatten(1)

    @mutant(drops="no-shortcut", side="lesser")
    def shortcut_added(self, d: Dims, **weights: Tensor) -> Tensor:
        """What the block reads is added to what it makes."""
        kernel = read_off(d, lambda x: x + bottleneck.core(x, **weights))
        return ranks(kernel.flatten(1), kernel.transpose(0, 1).flatten(1))

    @mutant(drops="inner-width", side="greater")
    def one_channel_less(self, d: Dims, **weights: Tensor) -> Tensor:
        """The bound is one less."""
        return torch.tensor(d.Co // d.R - 1)

    @mutant(sparse=True)
    def one_entry_more(self, d: Dims, **weights: Tensor) -> tuple[Tensor, Tensor]:
        """The last entry of the first product is one more."""
        first, second = self.right(d, **weights)
        first[-1, -1] += 1
        return first, second


class BottleneckIsLowRankInChannelsAsStated(Claim):
    """A bottleneck is a convolution of low rank in channels.

    Then it would be additive up to its constant: f(x + y) + f(0) = f(x) + f(y). It is taken as it is used,
    with batch norms that have stored statistics and with a ReLU behind the first two of them.
    """

    name = "bottleneck-is-low-rank-in-channels-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("bottleneck",)
    source = f"said where the bottleneck of ResNet is put beside low-rank convolution; {RELATIONS}"
    shapes = (Dims(B=2, C=4, Co=6, H=5, W=4, K=3, R=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return two maps, both matrices and the inner kernel."""
        weights = BottleneckIsLowRankInChannels().variables(d)
        return {"x": (d.B, d.C, d.H, d.W), "y": (d.B, d.C, d.H, d.W), **weights}

    def lesser(self, d: Dims, x: Tensor, y: Tensor, **weights: Tensor) -> Tensor:
        """Return by how much the block misses additivity."""
        weights = {**weights, **plain_norms(d, x)}
        both, none, first, second = (
            bottleneck.module(map_, **weights) for map_ in (x + y, torch.zeros_like(x), x, y)
        )
        return (both + none - first - second).abs()

    def greater(self, d: Dims, x: Tensor, **_: Tensor) -> Tensor:
        """Return zero, but for rounding."""
        return torch.full((), 1e-9, dtype=x.dtype)


class BottleneckWithActivationsHasLowRankSlopes(Claim):
    """With its activations a bottleneck is no convolution, but its slopes have rank Co/R at most in channels.

    The derivatives of its outputs at a position in its inputs at another, a matrix [Co, C], are a product
    through the Co/R channels within, whatever stands between the convolutions, if it acts on every element by
    itself.
    """

    name = "bottleneck-with-activations-has-low-rank-slopes"
    kind = "inequality"
    operators = ("bottleneck", "pointwise_conv2d", "conv2d")
    source = f"He et al. 2016, CVPR, arXiv 1512.03385, figure 5, by the chain rule; beside {RELATIONS}"
    conditions = {
        "elementwise": "what stands between the convolutions acts on every element by itself",
        "no-shortcut": "what the block reads is not added to what it makes",
        "inner-width": "the inner convolution has Co/R channels",
    }
    # The largest output first, so that an error at one element is rare.
    shapes = (
        Dims(B=2, C=5, Co=5, H=4, W=3, K=3, R=2, stride=1),
        Dims(B=1, C=6, Co=6, H=2, W=3, K=3, R=3, stride=1),
        Dims(B=2, C=4, Co=4, H=1, W=2, K=3, R=2, stride=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=2, H=1, W=2, K=3, R=2, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the weights, and the slopes of what stands between the convolutions."""
        inner = d.Co // d.R
        slopes = dict.fromkeys(("first_slopes", "second_slopes"), (d.B, inner, d.H, d.W))
        return {"x": (d.B, d.C, d.H, d.W), **BottleneckIsLowRankInChannels().variables(d), **slopes}

    def left(
        self,
        d: Dims,
        x: Tensor,
        reduce: Tensor,
        spatial: Tensor,
        expand: Tensor,
        first_slopes: Tensor,
        second_slopes: Tensor,
    ) -> Tensor:
        """Apply the derivative to a map, convolution after convolution: each slope scales its element."""
        inner = conv2d.core(first_slopes * pointwise_conv2d.core(x, reduce), spatial)
        return pointwise_conv2d.core(second_slopes * inner, expand)

    def right(
        self,
        d: Dims,
        x: Tensor,
        reduce: Tensor,
        spatial: Tensor,
        expand: Tensor,
        first_slopes: Tensor,
        second_slopes: Tensor,
    ) -> Tensor:
        """Multiply with the matrices [Co, C] between positions, each a product through Co/R rows."""
        within = self.between(d, reduce, spatial, first_slopes, second_slopes)
        slopes = torch.einsum("on,bnpcq->bopcq", expand, within)
        return torch.einsum("bopcq,bcq->bop", slopes, x.flatten(2)).view(d.B, -1, d.H, d.W)

    def between(
        self, d: Dims, reduce: Tensor, spatial: Tensor, first_slopes: Tensor, second_slopes: Tensor
    ) -> Tensor:
        """Return the derivatives of the inner channels in the inputs, [B, Co/R, N, C, N]."""
        inner, N = len(reduce), d.H * d.W
        matrix = local_matrix(d, tied(d, spatial)).view(inner, N, inner, N)
        reduced = torch.einsum("bmq,mc->bmcq", first_slopes.flatten(2), reduce)
        return torch.einsum("bnp,npmq,bmcq->bnpcq", second_slopes.flatten(2), matrix, reduced)

    def lesser(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """Return the largest rank of the block's slopes between two positions, as autograd finds them."""
        return self.largest_rank(d, x, bottleneck.module, weights)

    def largest_rank(
        self, d: Dims, x: Tensor, respond: Callable[..., Tensor], weights: Mapping[str, Tensor]
    ) -> Tensor:
        """Return the largest rank of the slopes [Co, C] between two positions of the first image."""
        own = {name: weights[name] for name in ("reduce", "spatial", "expand")}
        N = d.H * d.W
        with torch.enable_grad():
            # A copy of the image for every output, so that one pass back yields the slopes of all.
            images = x[:1].repeat(d.Co * N, 1, 1, 1).requires_grad_()
            outputs = respond(images, **own, **plain_norms(d, x)).flatten(1)
            (slopes,) = torch.autograd.grad(outputs.diagonal().sum(), images)
        between = slopes.view(d.Co, N, d.C, N).permute(1, 3, 0, 2)
        largest: Tensor = torch.linalg.matrix_rank(between).max()
        return largest

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return how many channels the inner convolution has."""
        return torch.tensor(d.Co // d.R)

    @mutant(drops="elementwise", side="left")
    def slopes_between_positions(self, d: Dims, first_slopes: Tensor, **rest: Tensor) -> Tensor:
        """An inner element is scaled by the slope of the position before."""
        moved = first_slopes.flatten(2).roll(1, 2).view(first_slopes.shape)
        return self.left(d, first_slopes=moved, **rest)

    @mutant(drops="no-shortcut", side="lesser")
    def shortcut_added(self, d: Dims, x: Tensor, **weights: Tensor) -> Tensor:
        """What the block reads is added to what it makes."""
        return self.largest_rank(d, x, lambda image, **own: image + bottleneck.module(image, **own), weights)

    @mutant(drops="inner-width", side="greater")
    def one_channel_less(self, d: Dims, **_: Tensor) -> Tensor:
        """The bound is one less."""
        return torch.tensor(d.Co // d.R - 1)

    @mutant(sparse=True)
    def one_element_more(self, d: Dims, **given: Tensor) -> Tensor:
        """The last element has a shortcut."""
        output = self.right(d, **given)
        output[-1, -1, -1, -1] += given["x"][-1, -1, -1, -1]
        return output


class SeparableConvKernelIsRankOne(Claim):
    """The kernel of a depthwise separable convolution is of rank one for every input channel.

    Read off the operator's responses, its slice [Co, K²] of an input channel is an outer product: all outputs
    read the channel by the same kernel, scaled. As a matrix [Co·C, K²] of all pairs of channels it has at
    most the rank of its C depthwise kernels, and so min(C, K²) at most.
    """

    name = "separable-conv-kernel-is-rank-one"
    kind = "inequality"
    operators = ("separable_conv2d",)
    source = "Howard et al. 2017, arXiv 1704.04861, section 3.1; Guo et al. 2018, arXiv 1808.05517"
    conditions = {
        "per-input": "a slice belongs to one input channel",
        "no-activation": "nothing stands between the two convolutions",
    }
    # The kernel of most entries first, so that an error at one of them is rare.
    shapes = (
        Dims(C=3, Co=8, K=3),
        Dims(C=4, Co=5, K=5),
        Dims(C=6, Co=4, K=2),
    )
    complete_shapes = (Dims(C=2, Co=2, K=3),)
    corrects = "separable-conv-kernel-is-rank-one-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the depthwise kernels and the pointwise matrix."""
        return {"depthwise": (d.C, d.K, d.K), "pointwise": (d.Co, d.C)}

    def left(self, d: Dims, depthwise: Tensor, pointwise: Tensor) -> tuple[Tensor, Tensor]:
        """Read the kernel off the operator, as slices [C, Co, K²] and as one matrix."""
        kernel = read_off(d, lambda x: separable_conv2d.core(x, depthwise, pointwise))
        return kernel.transpose(0, 1).flatten(2), kernel.flatten(2).flatten(0, 1)

    def right(self, d: Dims, depthwise: Tensor, pointwise: Tensor) -> tuple[Tensor, Tensor]:
        """Multiply through one row for every slice, and through C rows for all pairs: ranks are no higher."""
        kernels = depthwise.flatten(1)
        slices = pointwise.mT[:, :, None] @ kernels[:, None]
        return slices, torch.diag_embed(pointwise).flatten(0, 1) @ kernels

    def lesser(self, d: Dims, **weights: Tensor) -> Tensor:
        """Return the largest rank of a slice, then that of the matrix."""
        slices, pairs = self.left(d, **weights)
        return torch.stack([torch.linalg.matrix_rank(slices).max(), torch.linalg.matrix_rank(pairs)])

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return one, then the lower of C and K²."""
        return torch.tensor([1, min(d.C, d.K**2)])

    @mutant(drops="per-input", side="lesser")
    def slices_of_outputs(self, d: Dims, **weights: Tensor) -> Tensor:
        """The slices are those of an output channel, [C, K²]."""
        slices, pairs = self.left(d, **weights)
        largest = torch.linalg.matrix_rank(slices.transpose(0, 1)).max()
        return torch.stack([largest, torch.linalg.matrix_rank(pairs)])

    @mutant(drops="no-activation", side="left")
    def squared_between(self, d: Dims, depthwise: Tensor, pointwise: Tensor) -> tuple[Tensor, Tensor]:
        """What the depthwise convolution makes is squared."""

        def respond(x: Tensor) -> Tensor:
            each = separable_conv2d.core(x, depthwise, torch.eye(d.C, dtype=x.dtype))
            return pointwise_conv2d.core(each * each, pointwise)

        kernel = read_off(d, respond)
        return kernel.transpose(0, 1).flatten(2), kernel.flatten(2).flatten(0, 1)

    @mutant(side="greater")
    def rank_one_in_all(self, d: Dims, **_: Tensor) -> Tensor:
        """The matrix of all pairs has rank one, too."""
        return torch.ones(2)

    @mutant(sparse=True)
    def one_entry_more(self, d: Dims, depthwise: Tensor, pointwise: Tensor) -> tuple[Tensor, Tensor]:
        """The last entry of the last slice is one more."""
        slices, pairs = self.right(d, depthwise, pointwise)
        slices[-1, -1, -1] += 1
        return slices, pairs


class SeparableConvKernelIsRankOneAsStated(Claim):
    """The kernel of a depthwise separable convolution, as a matrix [Co·C, K²], has rank one."""

    name = "separable-conv-kernel-is-rank-one-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("separable_conv2d",)
    source = (
        "said where depthwise separable convolution is called a rank-one factorisation of space and channels"
    )
    shapes = SeparableConvKernelIsRankOne.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the depthwise kernels and the pointwise matrix."""
        return SeparableConvKernelIsRankOne().variables(d)

    def lesser(self, d: Dims, **weights: Tensor) -> Tensor:
        """Return the rank of the matrix of all pairs."""
        return ranks(SeparableConvKernelIsRankOne().left(d, **weights)[1])

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return one."""
        return torch.tensor(1)


class MultiscaleConvIsLowRankInSpace(Claim):
    """A branch of a multi-scale network that works at a lower resolution is low rank in space.

    It convolves with a stride of S and enlarges the result by repeating it. As a matrix [N, Co·C·N] between
    the positions of its outputs and all else it has rank ⌈H/S⌉·⌈W/S⌉ at most, of N = H·W. Multi-scale
    convolution of Res2Net and pyramidal convolution work at full resolution throughout, and are not; nor is
    the sum of the branch and one of full resolution.
    """

    name = "multiscale-conv-is-low-rank-in-space"
    kind = "inequality"
    operators = ("conv2d",)
    source = (
        f"{RELATIONS}; Wang et al. 2020, HRNet, TPAMI, arXiv 1908.07919, for branches at lower resolutions"
    )
    conditions = {
        "lower-resolution": "the convolution leaves out positions",
        "branch-alone": "nothing of full resolution is added",
        "as-many-as-kept": "the rank is that of the positions which are kept",
    }
    # The largest map first, so that an error at one position is rare.
    shapes = (
        Dims(B=2, C=2, Co=2, H=7, W=6, K=3, stride=2),
        Dims(B=2, C=2, Co=2, H=5, W=8, K=3, stride=4),
        Dims(B=2, C=1, Co=1, H=1, W=5, K=3, stride=2),
    )
    complete_shapes = (Dims(B=1, C=1, Co=2, H=2, W=3, K=3, stride=2),)
    corrects = "multiscale-conv-is-low-rank-in-space-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.Co, d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve with the stride, and repeat every result over its cell."""
        kept = conv2d.core(x, weight, stride=d.stride)
        enlarged = kept.repeat_interleave(d.stride, 2).repeat_interleave(d.stride, 3)
        return enlarged[..., : d.H, : d.W]

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply with a matrix of N' columns and one of N' rows: the rank of the product is N' at most."""
        narrow = local_matrix(d, tied(d, weight)) @ x.flatten(1).mT  # [Co·N', B]
        cells = self.cells(d, x)
        wide = cells @ narrow.view(d.Co, cells.shape[1], d.B)  # [Co, N, B]
        return wide.permute(2, 0, 1).reshape(d.B, d.Co, d.H, d.W)

    def cells(self, d: Dims, x: Tensor) -> Tensor:
        """Return which position repeats which of those that are kept, [N, N']."""
        rows, columns = (torch.arange(size) // d.stride for size in (d.H, d.W))
        height, width = (-(-size // d.stride) for size in (d.H, d.W))
        numbers = (rows[:, None] * width + columns).flatten()
        cells: Tensor = numbers[:, None] == torch.arange(height * width)
        return cells.to(x.dtype)

    def lesser(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Return the rank of the matrix between output positions and all else."""
        return self.rank(d, lambda impulses: self.left(d, impulses, weight), x)

    def rank(self, d: Dims, respond: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return the rank over output positions of the responses to all impulses."""
        responses = respond(impulses(d, x))  # [C·N, Co, H, W]
        return ranks(responses.flatten(2).permute(2, 0, 1).flatten(1))

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return how many positions are kept."""
        return torch.tensor(-(-d.H // d.stride) * -(-d.W // d.stride))

    @mutant(drops="lower-resolution", side="lesser")
    def full_resolution(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """All positions are kept."""
        return self.rank(d, lambda impulses: conv2d.core(impulses, weight), x)

    @mutant(drops="branch-alone", side="lesser")
    def full_resolution_added(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """The map itself is added to the branch, as the branch of full resolution is in HRNet."""
        return self.rank(d, lambda impulses: impulses + self.left(d, impulses, weight), x)

    @mutant(drops="as-many-as-kept", side="greater")
    def one_less(self, d: Dims, **given: Tensor) -> Tensor:
        """The bound is one less."""
        return self.greater(d, **given) - 1

    @mutant(sparse=True)
    def nothing_at_the_last(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """At the last position there is nothing."""
        output = self.right(d, x, weight).clone()
        output[..., -1, -1] = 0
        return output


class MultiscaleConvIsLowRankInSpaceAsStated(Claim):
    """Multi-scale convolution of Res2Net and pyramidal convolution are low rank in space.

    Their matrices between positions, here those from the first channel to the first, would have a rank below
    the number of positions.
    """

    name = "multiscale-conv-is-low-rank-in-space-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("multiscale_conv2d", "pyramid_conv2d")
    source = (
        f"{RELATIONS}, where low rank in space leads from convolution to pyramid and multi-scale "
        "convolution, with HRNet and Res2Net as examples"
    )
    shapes = (Dims(C=4, Co=4, H=4, W=3, K=3, scales=2, levels=2, groups="1-2"),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the kernels of both."""
        levels = pyramid_conv2d.core.inputs(d.replace(B=1))
        width = d.C // d.scales
        kernels = {"kernels": (d.scales - 1, width, width, d.K, d.K)}
        return {**kernels, **{name: spec.shape for name, spec in levels.items() if name != "x"}}

    def lesser(self, d: Dims, kernels: Tensor, **levels: Tensor) -> Tensor:
        """Return the ranks of both matrices."""
        first = impulses(d, kernels)[: d.H * d.W]
        responses = multiscale_conv2d.core(first, kernels), pyramid_conv2d.core(first, **levels)
        return ranks(*(response[:, 0].flatten(1) for response in responses))

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return one less than there are positions."""
        return torch.tensor(d.H * d.W - 1)


def read_off(d: Dims, respond: Callable[[Tensor], Tensor]) -> Tensor:
    """Read the kernel [Co, C, K, K] of a convolution off its responses to one impulse per channel."""
    before, after = d.K - 1 - d.K // 2, d.K // 2
    ones = torch.eye(d.C, dtype=torch.float64)[..., None, None]
    responses = respond(F.pad(ones, (before, after, before, after)))[..., : d.K, : d.K]
    return responses.transpose(0, 1).flip(2, 3)


def impulses(d: Dims, like: Tensor) -> Tensor:
    """Return maps [C·N, C, H, W] with a single one each, channel after channel and row by row."""
    return torch.eye(d.C * d.H * d.W, dtype=like.dtype).view(-1, d.C, d.H, d.W)


def ranks(*matrices: Tensor) -> Tensor:
    """Return the ranks of matrices."""
    return torch.stack([torch.linalg.matrix_rank(matrix) for matrix in matrices])


def plain_norms(d: Dims, x: Tensor) -> Mapping[str, Tensor]:
    """Return what three batch norms store that change their inputs by nothing but their epsilon."""
    sizes = {"reduce": d.Co // d.R, "spatial": d.Co // d.R, "expand": d.Co}
    values = {"gain": 1.0, "shift": 0.0, "mean": 0.0, "variance": 1.0}
    return {
        f"{layer}_{name}": torch.full((size,), value, dtype=x.dtype)
        for layer, size in sizes.items()
        for name, value in values.items()
    }
