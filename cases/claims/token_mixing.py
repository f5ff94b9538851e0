"""Token mixing beside depthwise convolution: which matrices over positions make one, and which none."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import (
    conv2d,
    depthwise_conv1d,
    depthwise_conv2d,
    pointwise_conv2d,
    separable_conv2d,
    shared_depthwise_conv2d,
)
from ..mlp import separable_mlp, spatial_mixing_mlp
from .convolution import LARGEST_FIRST
from .corners import with_corner
from .index_sets import CentredTaps, RowOrder
from .mlp import HAN, TiedTaps, taps

MIXER = "Tolstikhin et al. 2021, NeurIPS, arXiv 2105.01601"
# The largest map first, so that an error at one position is seen where it is rare.
MIXED = (
    *(Dims(B=2, C=3, H=H, W=W, K=K, stride=1) for H, W, K in LARGEST_FIRST),
    Dims(B=1, C=16, H=14, W=14, K=3, stride=1),
)
TINY = (Dims(B=1, C=2, H=2, W=3, K=3, stride=1),)


class LocalTokenMixingIsSharedDepthwiseConv(TiedTaps, CentredTaps, RowOrder, Claim):
    """Token mixing by a banded block-Toeplitz matrix is a depthwise convolution with one kernel for all.

    M[(i, j), (h, w)] = k[h−i+P, w−j+P] where that is one of the K×K taps, P = ⌊K/2⌋, and zero elsewhere. The
    mixing is one linear layer: with a hidden layer and GELU it is not linear.
    """

    name = "local-token-mixing-is-shared-depthwise-conv"
    operators = ("spatial_mixing_mlp", "shared_depthwise_conv2d")
    source = (
        f"{MIXER}, eq. (1), without its hidden layer, beside Wu et al. 2019, arXiv 1901.10430, for one head"
    )
    conditions = {
        "local": "a position reads its window alone",
        "tied": "the weights of a position are those of every other, moved with it",
        "wrapped-nowhere": "the matrix is banded in blocks of rows: a window does not go on in the next row",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "zero-padding": "what a window reads outside the map is zero",
        "all-channels": "the convolution has the same kernel for all channels",
    }
    shapes = MIXED
    complete_shapes = TINY
    algebra = (
        "Σ_hw M[iW+j, hW+w] · x[b, c, h, w] has the terms of the window alone, and by h = i+u−P, w = j+v−P "
        "it is Σ_uv k[u, v] · x[b, c, i+u−P, j+v−P] over the taps that read the map; the others read zeros"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the kernel."""
        return {"x": (d.B, d.C, d.H, d.W), "kernel": (d.K, d.K)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Mix positions by the banded matrix."""
        return spatial_mixing_mlp.core(x, banded(d, kernel))

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve all channels with the same kernel."""
        return shared_depthwise_conv2d.core(x, kernel[None])

    @mutant(drops="local", side="left")
    def ones_elsewhere(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """A position reads what lies beyond its window with the weight one."""
        return spatial_mixing_mlp.core(x, banded(d, kernel) + 1 - banded(d, torch.ones_like(kernel)))

    @mutant(drops="local", side="left", sparse=True)
    def one_connection_more(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last position reads the first."""
        matrix = banded(d, kernel)
        matrix[-1, 0] = 1
        return spatial_mixing_mlp.core(x, matrix)

    @mutant(drops="tied", side="left")
    def rows_scaled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The weights of position n are n+1 times the kernel."""
        numbers = torch.arange(1, d.H * d.W + 1, dtype=x.dtype)
        return spatial_mixing_mlp.core(x, numbers[:, None] * banded(d, kernel))

    @mutant(drops="wrapped-nowhere", side="left")
    def toeplitz_in_one_number(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The matrix is banded as a whole: a weight depends on the difference of two numbers alone."""
        middle = d.K // 2
        rows = [toeplitz(d.H * d.W, row, middle - (u - middle) * d.W) for u, row in enumerate(kernel)]
        return spatial_mixing_mlp.core(x, torch.stack(rows).sum(0))

    @mutant(drops="not-flipped", side="left")
    def transposed_matrix(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The matrix is transposed, which mirrors the kernel."""
        return spatial_mixing_mlp.core(x, banded(d, kernel).mT)

    @mutant(drops="zero-padding")
    def map_wrapped_around(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Outside the map its other side follows, as for a circulant matrix."""
        wrapped = F.pad(x, (d.K // 2,) * 4, mode="circular")
        return shared_depthwise_conv2d.core(wrapped, kernel[None], padding=0)

    @mutant(drops="all-channels")
    def kernels_scaled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c has (c+1) times the kernel."""
        numbers = torch.arange(1, d.C + 1, dtype=x.dtype)
        return depthwise_conv2d.core(x, numbers[:, None, None] * kernel)


class LocalTokenMixingIsSharedDepthwiseConv1d(TiedTaps, Claim):
    """Token mixing of sequences by one banded Toeplitz matrix is a depthwise convolution with one kernel.

    M[i, t] = k[t−i+p] where that is one of the K taps, p of which come before a position, and zero elsewhere:
    p = ⌊K/2⌋ of a centred convolution, p = K−1 of a causal one, whose matrix is lower triangular.
    """

    name = "local-token-mixing-is-shared-depthwise-conv1d"
    operators = ("spatial_mixing_mlp", "depthwise_conv1d")
    source = (
        "Wu et al. 2019, ICLR, arXiv 1901.10430, section 3, for one head and without the softmax; in "
        "github.com/facebookresearch/fairseq LightweightConv1dTBC computes it as such a product"
    )
    conditions = {
        "banded": "a position reads its window alone",
        "toeplitz": "the weights of a position are those of every other, moved with it",
        "not-flipped": "the kernel is applied as it stands, a correlation in the language of signals",
        "same-direction": "as many taps come before a position in both",
        "all-channels": "the convolution has the same kernel for all channels",
    }
    # The longest sequence first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, T=24, K=5, before=2),
        Dims(B=2, C=4, T=21, K=3, before=2),
        Dims(B=2, C=3, T=4, K=7, before=3),
        Dims(B=3, C=2, T=2, K=4, before=3),
    )
    complete_shapes = (Dims(B=2, C=2, T=4, K=3, before=2),)
    algebra = (
        "Σ_t M[i, t] · x[b, c, t] has the terms of the window alone, and by t = i+u−p it is "
        "Σ_u k[u] · x[b, c, i+u−p] over the taps that read the sequence; the others read zeros"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the sequences and the taps."""
        return {"x": (d.B, d.C, d.T), "kernel": (d.K,)}

    def left(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Mix positions by the banded matrix."""
        return spatial_mixing_mlp.core(x[:, :, None], toeplitz(d.T, kernel, d.before))[:, :, 0]

    def right(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Convolve all channels with the same taps."""
        return depthwise_conv1d.core(x, kernel.expand(d.C, -1), before=d.before)

    @mutant(drops="banded", side="left", sparse=True)
    def one_connection_more(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The last position reads the first once more."""
        matrix = toeplitz(d.T, kernel, d.before)
        matrix[-1, 0] += 1
        return spatial_mixing_mlp.core(x[:, :, None], matrix)[:, :, 0]

    @mutant(drops="toeplitz", side="left")
    def rows_scaled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The weights of position i are i+1 times the taps."""
        numbers = torch.arange(1, d.T + 1, dtype=x.dtype)
        return spatial_mixing_mlp.core(x[:, :, None], numbers[:, None] * toeplitz(d.T, kernel, d.before))[
            :, :, 0
        ]

    @mutant(drops="not-flipped", side="left")
    def transposed_matrix(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """The matrix is transposed, which mirrors the taps about the position."""
        return spatial_mixing_mlp.core(x[:, :, None], toeplitz(d.T, kernel, d.before).mT)[:, :, 0]

    @mutant(drops="same-direction")
    def one_tap_less_before(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """One tap less comes before a position."""
        return depthwise_conv1d.core(x, kernel.expand(d.C, -1), before=d.before - 1)

    @mutant(drops="all-channels")
    def kernels_scaled(self, d: Dims, x: Tensor, kernel: Tensor) -> Tensor:
        """Channel c has (c+1) times the taps."""
        numbers = torch.arange(1, d.C + 1, dtype=x.dtype)
        return depthwise_conv1d.core(x, numbers[:, None] * kernel, before=d.before)


class TokenMixingIgnoresChannels(Claim):
    """Token mixing commutes with every linear map of the channels, whatever its matrix.

    So it does with every exchange of channels, and that is left to any chain of such mixings and of functions
    applied to every element, as the hidden layer and the GELU of Mixer are. Seen from the other side,
    pointwise convolution commutes with every linear map of the positions: it is equivariant to all of their
    exchanges.
    """

    name = "token-mixing-commutes-with-channel-mixing"
    operators = ("spatial_mixing_mlp", "pointwise_conv2d")
    source = f"{MIXER}, section 2, says that the token-mixing MLP acts on columns and is shared across them"
    conditions = {
        "shared": "all channels are mixed by the same matrix",
        "no-bias": "no constant is added to the channels",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, Co=4, H=5, W=6),
        Dims(B=2, C=4, Co=3, H=1, W=5),
        Dims(B=3, C=2, Co=5, H=4, W=3),
        Dims(B=1, C=8, Co=8, H=7, W=7),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the matrix over positions and one over channels."""
        N = d.H * d.W
        return {"x": (d.B, d.C, d.H, d.W), "spatial": (N, N), "channel": (d.Co, d.C)}

    def given(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor) -> Mapping[str, Tensor]:
        """Add no constant to the channels."""
        return {"x": x, "spatial": spatial, "channel": channel, "bias": torch.zeros_like(x[:1, :1, :1, :1])}

    def left(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor, bias: Tensor) -> Tensor:
        """Mix channels, then positions."""
        return spatial_mixing_mlp.core(pointwise_conv2d.core(x, channel) + bias, spatial)

    def right(self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor, bias: Tensor) -> Tensor:
        """Mix positions, then channels."""
        return pointwise_conv2d.core(spatial_mixing_mlp.core(x, spatial), channel) + bias

    @mutant(drops="shared")
    def channels_scaled(self, d: Dims, x: Tensor, **rest: Tensor) -> Tensor:
        """Channel c is mixed by (c+1) times the matrix where positions are mixed first."""
        numbers = torch.arange(1, d.C + 1, dtype=x.dtype)
        return self.right(d, numbers[:, None, None] * x, **rest)

    @mutant(drops="shared", sparse=True)
    def one_weight_of_one_channel(
        self, d: Dims, x: Tensor, spatial: Tensor, channel: Tensor, bias: Tensor
    ) -> Tensor:
        """In the first channel the last position reads the first once more."""
        mixed = spatial_mixing_mlp.core(x, spatial)
        mixed[:, 0, -1, -1] += x[:, 0, 0, 0]
        return pointwise_conv2d.core(mixed, channel) + bias

    @mutant(drops="no-bias", side="given")
    def bias_of_one(self, d: Dims, x: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """One is added to all channels when they have been mixed, on both sides."""
        return {"x": x, **rest, "bias": torch.ones_like(x[:1, :1, :1, :1])}

    @mutant()
    def transposed_spatial(self, d: Dims, spatial: Tensor, **rest: Tensor) -> Tensor:
        """The matrix over positions is transposed on one side."""
        return self.right(d, spatial=spatial.mT, **rest)


class DepthwiseConvIsNoTokenMixing(Claim):
    """A depthwise convolution with a kernel for every channel is no token mixing, whatever the matrix.

    Token mixing commutes with exchanging channels. A depthwise convolution does so only where the kernels of
    the exchanged channels are the same: here the channels are reversed before and after.
    """

    name = "depthwise-conv-is-no-token-mixing"
    kind = "negative"
    operators = ("depthwise_conv2d", "spatial_mixing_mlp")
    source = f"{MIXER}, section 2, beside Howard et al. 2017, arXiv 1704.04861, section 3.1"
    conditions = {
        "own-kernels": "two exchanged channels have different kernels",
        "exchanged": "at least two channels are exchanged",
    }
    # So many channels that two of them are few.
    shapes = (
        Dims(B=2, C=48, H=3, W=4, K=5),
        Dims(B=2, C=42, H=7, W=6, K=3),
        Dims(B=2, C=45, H=1, W=4, K=3),
        Dims(B=1, C=64, H=14, W=14, K=3),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and a kernel for every channel."""
        return {"x": (d.B, d.C, d.H, d.W), "kernels": (d.C, d.K, d.K)}

    def left(self, d: Dims, x: Tensor, kernels: Tensor) -> Tensor:
        """Reverse the channels, then convolve."""
        return depthwise_conv2d.core(x.flip(1), kernels)

    def right(self, d: Dims, x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve, then reverse the channels."""
        return depthwise_conv2d.core(x, kernels).flip(1)

    @mutant(drops="own-kernels", side="given")
    def one_kernel(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """All channels have the same kernel."""
        return {"x": x, "kernels": kernels[:1].expand(d.C, -1, -1)}

    @mutant(drops="own-kernels", side="given")
    def kernels_in_pairs(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """Channels c and C−1−c have the same kernel."""
        return {"x": x, "kernels": kernels + kernels.flip(0)}

    @mutant(drops="exchanged")
    def nothing_exchanged(self, d: Dims, x: Tensor, kernels: Tensor) -> Tensor:
        """The channels are reversed twice, on both sides of the convolution."""
        return depthwise_conv2d.core(x.flip(1), kernels)

    @mutant()
    def kernels_exchanged_too(self, d: Dims, x: Tensor, kernels: Tensor) -> Tensor:
        """The kernels are reversed with the channels."""
        return depthwise_conv2d.core(x, kernels.flip(0)).flip(1)

    @equivalent("one tap of one channel is enough", side="given", sparse=True)
    def one_tap_differs(self, d: Dims, x: Tensor, kernels: Tensor) -> Mapping[str, Tensor]:
        """All channels have the same kernel, but for the middle tap of the first."""
        same = kernels[:1].repeat(d.C, 1, 1)
        same[0, d.K // 2, d.K // 2] += 1
        return {"x": x, "kernels": same}


class TokenMixingIsConvOfFullReceptiveField(RowOrder, Claim):
    """Token mixing is a convolution of every channel by N kernels as large as the map, without padding.

    Kernel p is row p of the matrix, and output p of the one position that there is becomes position p. Each
    channel is an image of one channel, so all have the same kernels.
    """

    name = "token-mixing-is-conv-of-full-receptive-field"
    operators = ("spatial_mixing_mlp", "conv2d")
    source = (
        f"{MIXER}, introduction: “a very special CNN, which uses 1×1 convolutions for channel mixing, and "
        "single-channel depth-wise convolutions of a full receptive field and parameter sharing for token "
        "mixing”"
    )
    conditions = {
        "kernel-per-output": "there is a kernel for every output position, N in all",
        "parameter-sharing": "all channels have the same kernels",
        "no-padding": "the kernel covers the map once: nothing is padded, and there is one position",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, H=5, W=6),
        *(Dims(B=2, C=3, H=H, W=W) for H, W, _ in LARGEST_FIRST[2:]),
        Dims(B=1, C=8, H=7, W=7),
    )
    complete_shapes = (Dims(B=1, C=2, H=1, W=3),)
    algebra = "Σ_q S[p, q] · x[b, c, q] is Σ_ij K[p, i, j] · x[bC+c, i, j] with K[p, i, j] = S[p, iW+j]"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map and the matrix."""
        N = d.H * d.W
        return {"x": (d.B, d.C, d.H, d.W), "spatial": (N, N)}

    def left(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Mix positions."""
        return spatial_mixing_mlp.core(x, spatial)

    def right(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Convolve every channel as an image, and read the outputs as positions."""
        return self.over(d, x, spatial.view(-1, 1, d.H, d.W))

    def over(self, d: Dims, x: Tensor, kernels: Tensor) -> Tensor:
        """Convolve the channels of x as images with kernels [N, 1, H, W]."""
        # Kernels of this convolution are square, so both are filled up with zeros.
        side = max(d.H, d.W)
        fill = (0, side - d.W, 0, side - d.H)
        images = F.pad(x, fill).view(-1, 1, side, side)
        return conv2d.core(images, F.pad(kernels, fill), padding=0).reshape(x.shape)

    @mutant(drops="kernel-per-output")
    def one_kernel_moved(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """There is one kernel, as large as the map, that moves over it with zeros outside."""
        reach = 2 * max(d.H, d.W) - 1
        kernel = F.pad(spatial[0].view(1, 1, d.H, d.W), (0, reach - d.W, 0, reach - d.H))
        return conv2d.core(x.view(-1, 1, d.H, d.W), kernel).view(x.shape)

    @mutant(drops="parameter-sharing")
    def kernels_scaled(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """The kernels of channel c are (c+1) times the rows."""
        numbers = torch.arange(1, d.C + 1, dtype=x.dtype)
        return self.right(d, numbers[:, None, None] * x, spatial)

    @mutant(drops="no-padding")
    def moved_by_one(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """One row and one column of zeros lie before the map, and the first position is taken."""
        moved = F.pad(x, (1, 0, 1, 0))[..., : d.H, : d.W]
        return self.right(d, moved, spatial)

    @mutant()
    def columns_as_kernels(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """Kernel p is column p of the matrix."""
        return self.right(d, x, spatial.mT)

    @mutant(sparse=True)
    def one_weight_more(self, d: Dims, x: Tensor, spatial: Tensor) -> Tensor:
        """The last kernel reads the first position once more."""
        kernels = spatial.clone().view(-1, 1, d.H, d.W)
        kernels[-1, 0, 0, 0] += 1
        return self.over(d, x, kernels)


class SeparableMlpSparseInSpaceIsSeparableConv(TiedTaps, CentredTaps, RowOrder, Claim):
    """A separable MLP made local in space is a depthwise separable convolution if its channels are untied.

    Local, and tied over positions: a banded block-Toeplitz matrix. Untied over channels: one such matrix for
    every channel, which no separable MLP has. With one matrix for all channels it is the convolution whose
    channels share their kernel.
    """

    name = "separable-mlp-sparse-in-space-is-separable-conv"
    operators = ("separable_mlp", "separable_conv2d", "pointwise_conv2d")
    source = (
        f"{HAN}, figure of the relations between operators, where locality leads from the separable MLP to "
        "depthwise separable convolution"
    )
    conditions = {
        "local": "a position reads its window alone",
        "tied-positions": "the weights of a position are those of every other, moved with it",
        "untied-channels": "every channel has a matrix of its own where it has a kernel of its own",
        "shared-kernel": "with one matrix for all channels they have one kernel",
        "no-activation": "nothing stands between the two parts",
    }
    shapes = (*MIXED[:2], MIXED[4], Dims(B=1, C=6, H=7, W=7, K=3, stride=1))
    complete_shapes = (Dims(B=1, C=2, H=1, W=3, K=3, stride=1),)
    algebra = (
        "Σ_c P[o, c] · Σ_q M_c[p, q] · x[b, c, q] has the terms of the windows alone, and by h = i+u−P, "
        "w = j+v−P it is Σ_c P[o, c] · Σ_uv k_c[u, v] · x[b, c, i+u−P, j+v−P]"
    )
    corrects = "separable-mlp-sparse-in-space-is-separable-conv-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, a kernel for every channel, and the matrix over channels."""
        return {"x": (d.B, d.C, d.H, d.W), "kernels": (d.C, d.K, d.K), "channel": (d.C, d.C)}

    def left(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Mix by one banded matrix for all channels; by one for each."""
        return separable_mlp.core(x, banded(d, kernels[0]), channel), mix_each(d, x, kernels, channel)

    def right(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve with one kernel for all channels; with one for each."""
        shared = kernels[:1].expand(d.C, -1, -1)
        return separable_conv2d.core(x, shared, channel), separable_conv2d.core(x, kernels, channel)

    @mutant(drops="local", side="left")
    def ones_elsewhere(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """A position reads what lies beyond its window with the weight one."""
        matrix = banded(d, kernels[0]) + 1 - banded(d, torch.ones_like(kernels[0]))
        return separable_mlp.core(x, matrix, channel), mix_each(d, x, kernels, channel)

    @mutant(drops="tied-positions", side="left")
    def rows_scaled(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of position n are n+1 times the kernel."""
        numbers = torch.arange(1, d.H * d.W + 1, dtype=x.dtype)
        matrix = numbers[:, None] * banded(d, kernels[0])
        return separable_mlp.core(x, matrix, channel), mix_each(d, x, kernels, channel)

    @mutant(drops="untied-channels", side="left")
    def one_matrix(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """All channels have the matrix of the first."""
        first = separable_mlp.core(x, banded(d, kernels[0]), channel)
        return first, first

    @mutant(drops="shared-kernel")
    def own_kernels(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """With one matrix for all channels each is still convolved with its own kernel."""
        each = separable_conv2d.core(x, kernels, channel)
        return each, each

    @mutant(drops="no-activation")
    def squared_between(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """What the depthwise part makes is squared before the pointwise one."""
        each = depthwise_conv2d.core(x, kernels)
        return self.right(d, x, kernels, channel)[0], pointwise_conv2d.core(each * each, channel)

    @mutant(sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        first, second = self.right(d, with_corner(x), kernels, channel)
        return first[..., 1:-1, 1:-1], second[..., 1:-1, 1:-1]


class SeparableMlpSparseInSpaceIsSeparableConvAsStated(Claim):
    """The depthwise separable convolution is the separable MLP whose matrix over positions is local.

    The matrix could only be that of one kernel, say of the first channel: P[o, c] · M_c has to be
    P'[o, c] · M for every o and c, so that all M_c would be multiples of M.
    """

    name = "separable-mlp-sparse-in-space-is-separable-conv-as-stated"
    expected = "refuted"
    operators = ("separable_mlp", "separable_conv2d")
    source = (
        "said where the figure of relations between operators is read as sparsity in space alone "
        f"(github.com/Atten4Vis/DemystifyLocalViT; {HAN})"
    )
    shapes = SeparableMlpSparseInSpaceIsSeparableConv.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, a kernel for every channel, and the matrix over channels."""
        return SeparableMlpSparseInSpaceIsSeparableConv().variables(d)

    def left(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> Tensor:
        """Mix by the banded matrix of the first kernel."""
        return separable_mlp.core(x, banded(d, kernels[0]), channel)

    def right(self, d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> Tensor:
        """Convolve every channel with its kernel, then mix channels."""
        return separable_conv2d.core(x, kernels, channel)


def banded(d: Dims, kernel: Tensor) -> Tensor:
    """Lay kernels [..., K, K] out as matrices [..., N, N] between positions, zero beyond the windows."""
    (rows, in_rows), (columns, in_columns) = taps(d, d.H), taps(d, d.W)
    found = kernel[..., rows[:, None, :, None], columns[:, None]]  # [..., H, W, H, W]
    matrix: Tensor = found * (in_rows[:, None, :, None] & in_columns[:, None]).to(kernel.dtype)
    return matrix.reshape(*kernel.shape[:-2], d.H * d.W, d.H * d.W)


def mix_each(d: Dims, x: Tensor, kernels: Tensor, channel: Tensor) -> Tensor:
    """Mix the positions of every channel by the banded matrix of its own kernel, then the channels."""
    mixed = banded(d, kernels) @ x.flatten(2).permute(1, 2, 0)  # [C, N, B]
    return pointwise_conv2d.core(mixed.permute(2, 0, 1).reshape(x.shape), channel)


def toeplitz(size: int, kernel: Tensor, before: int) -> Tensor:
    """Lay taps [K], so many of which come before a position, out as a banded matrix between positions."""
    tap = torch.arange(size) - torch.arange(size)[:, None] + before
    inside = ((tap >= 0) & (tap < len(kernel))).to(kernel.dtype)
    return kernel[tap.clamp(0, len(kernel) - 1)] * inside
