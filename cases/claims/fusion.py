"""Dynamic channel fusion (DCD): what its forms are to one another."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, depthwise_conv2d, pointwise_conv2d
from ..dynamic import (
    cond_conv2d,
    dcd_conv2d,
    dcd_depthwise,
    dcd_fusion,
    dcd_pointwise,
    dcd_sparse,
    dynamic_depthwise_conv2d,
)
from ..gates import squeeze_excite
from .kernel_mixtures import stride_of

Outputs = Tensor | tuple[Tensor, ...]

SOURCE = "Li et al. 2021, ICLR, arXiv 2103.08756"


class GateOnKernelIsGateOnOutput(Claim):
    """(ΛW₀) * x = Λ(W₀ * x): what weighs the rows of a kernel weighs the output channels.

    So dynamic channel fusion without Φ is a convolution followed by the scale of squeeze-and-excitation,
    whatever makes the gate. A shift, such as that of a batch norm, has to come after the scale.
    """

    name = "gate-on-kernel-is-gate-on-output"
    operators = ("dcd_conv2d", "dcd_fusion", "conv2d", "squeeze_excite")
    source = f"{SOURCE}, where Λ(x)W₀ is computed on the weights or on the features; Hu et al. 2018, eq. (4)"
    conditions = {
        "rows-gated": "Λ weighs output channels, not input channels",
        "shift-after-gate": "what is added to the output is added after the gate",
        "per-image": "every image has a gate of its own",
    }
    # The map that is smaller than its kernel first: few of its positions read the last tap.
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5),
        Dims(B=2, C=3, Co=4, H=1, W=4, K=3),
        Dims(B=3, C=2, Co=5, H=7, W=6, K=3, stride=2),
        Dims(B=1, C=64, Co=64, H=14, W=14, K=1),
    )
    complete_shapes = (Dims(B=2, C=2, Co=2, H=1, W=2, K=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the kernel, the gate, and a shift of every output channel."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.Co, d.C, d.K, d.K),
            "gate": (d.B, d.Co),
            "shift": (d.Co, 1, 1),
        }

    def left(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, shift: Tensor) -> Tensor:
        """Gate the kernel."""
        return dcd_conv2d.core(x, weight, gate, stride=stride_of(d)) + shift

    def right(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, shift: Tensor) -> Tensor:
        """Gate the output."""
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate) + shift

    @mutant(drops="rows-gated")
    def input_gated(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, shift: Tensor) -> Tensor:
        """The input channels are gated."""
        gated = squeeze_excite.core(x, gate[:, : d.C])
        return conv2d.core(gated, weight, stride=stride_of(d)) + shift

    @mutant(drops="shift-after-gate")
    def shift_gated(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, shift: Tensor) -> Tensor:
        """The gate weighs the shift too, as behind a batch norm."""
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)) + shift, gate)

    @mutant(drops="per-image")
    def gate_of_another_image(self, d: Dims, gate: Tensor, **rest: Tensor) -> Tensor:
        """The gate is that of the next image of the batch."""
        return self.right(d, gate=gate.roll(1, 0), **rest)

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last kernel is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("a static kernel beside nothing dynamic but its gate is all that is left of the other form")
    def fused_beside_the_kernel(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, shift: Tensor
    ) -> Tensor:
        """Channel fusion with a single latent tap has no Φ either."""
        return dcd_fusion.core(x, weight, gate, stride=stride_of(d)) + shift


class FusedGateSqueezesTheInput(Claim):
    """Channel fusion without Φ is a convolution whose output is scaled by what the mean of its input decides.

    λ = excite·ReLU(squeeze·mean(x)), with neither biases nor a sigmoid; squeeze-and-excitation takes the mean
    of the convolution's output. From the map to the output, branch included.
    """

    name = "fused-gate-squeezes-the-input"
    operators = ("dcd_conv2d", "conv2d", "squeeze_excite")
    source = f"{SOURCE}, figure 3; Hu et al. 2018, eq. (2) to (4)"
    conditions = {
        "input-squeezed": "the mean is that of the layer's input",
        "no-sigmoid": "the gate is not bounded",
        "own-image": "the gate of an image comes from its own mean",
    }
    # Maps whose numbers of positions have reciprocals that are exact in binary; as many outputs as inputs.
    shapes = (
        Dims(B=2, C=4, H=4, W=8, K=7, S=3),
        Dims(B=2, C=3, H=1, W=4, K=3, S=2),
        Dims(B=1, C=8, H=8, W=4, K=3, S=2, stride=2),
    )
    complete_shapes = (Dims(B=1, C=2, H=1, W=2, K=1, S=1),)
    corrects = "fused-gate-squeezes-the-input-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the kernel, and the two layers of the branch, with S hidden units."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.C, d.C, d.K, d.K),
            "squeeze": (d.S, d.C),
            "excite": (d.C, d.S),
        }

    def left(self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor) -> Tensor:
        """Gate the kernel by the branch."""
        return dcd_conv2d.module(x, weight, squeeze, excite, stride=stride_of(d))

    def right(self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor) -> Tensor:
        """Scale the output by what the branch makes of the input."""
        gate = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate)

    @mutant(drops="input-squeezed")
    def output_squeezed(self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor) -> Tensor:
        """The mean is that of the convolution's output, as in squeeze-and-excitation."""
        output = conv2d.core(x, weight, stride=stride_of(d))
        gate = torch.relu(output.mean((2, 3)) @ squeeze.t()) @ excite.t()
        return squeeze_excite.core(output, gate)

    @mutant(drops="no-sigmoid")
    def sigmoid_gate(self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor) -> Tensor:
        """The gate goes through a sigmoid, as in squeeze-and-excitation."""
        gate = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), torch.sigmoid(gate))

    @mutant(drops="own-image")
    def mean_of_another_image(
        self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor
    ) -> Tensor:
        """The mean is that of the next image of the batch."""
        gate = torch.relu(x.mean((2, 3)) @ squeeze.t()) @ excite.t()
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate.roll(1, 0))

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last kernel is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("the mean passes through a 1×1 layer, so the layer may come before it")
    def layer_before_the_mean(
        self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor
    ) -> Tensor:
        """The squeezing layer acts on the map, and its output is averaged."""
        hidden = torch.relu(pointwise_conv2d.core(x, squeeze).mean((2, 3)))
        return squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), hidden @ excite.t())


class FusedGateAsStated(Claim):
    """Channel fusion without Φ is a convolution followed by squeeze-and-excitation."""

    name = "fused-gate-squeezes-the-input-as-stated"
    expected = "refuted"
    operators = ("dcd_conv2d", "conv2d", "squeeze_excite")
    source = f"said where {SOURCE}, is introduced, of what is left of it without Φ"
    shapes = FusedGateSqueezesTheInput.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the kernel, and the two layers of the branch, with S hidden units."""
        return FusedGateSqueezesTheInput().variables(d)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Gate the kernel by the branch."""
        return FusedGateSqueezesTheInput().left(d, **given)

    def right(self, d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, excite: Tensor) -> Tensor:
        """Squeeze and excite the output, without biases."""
        output = conv2d.core(x, weight, stride=stride_of(d))
        none = torch.zeros(d.S, dtype=x.dtype), torch.zeros(d.C, dtype=x.dtype)
        return squeeze_excite.module(output, squeeze, none[0], excite, none[1])


class Pointwise(Claim):
    """What the claims on 1×1 kernels receive: a map, W₀, Λ, Φ and the bases P and Q."""

    # Many images and outputs first, so that one output of one image is a small share.
    shapes = (
        Dims(B=4, C=4, Co=6, H=2, W=5, L=3),
        Dims(B=2, C=6, Co=4, H=7, W=1, L=2),
        Dims(B=1, C=32, Co=48, H=14, W=14, L=8),
    )
    complete_shapes = (Dims(B=2, C=2, Co=2, H=1, W=2, L=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, Φ, P and Q."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.Co, d.C),
            "gate": (d.B, d.Co),
            "phi": (d.B, d.L, d.L),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
        }

    @mutant(sparse=True)
    def last_gate_of_last_image_left_out(self, d: Dims, gate: Tensor, **rest: Tensor) -> Outputs:
        """The gate of the last image's last output is missing."""
        return self.right(d, gate=without_last(gate), **rest)


class OneBlockIsDenseFusion(Pointwise):
    """The sparse form of dynamic channel fusion with a single block is the dense form, W(x) = ΛW₀ + PΦQᵀ."""

    name = "sparse-fusion-of-one-block-is-dense"
    operators = ("dcd_sparse", "dcd_pointwise")
    source = f"{SOURCE}, the sparse dynamic residual with B = 1"
    conditions = {"one-block": "all channels are in one block"}

    def left(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor
    ) -> Tensor:
        """Fuse the channels of a single block."""
        return dcd_sparse.core(x, weight, gate, phi[:, None], P[None], Q[None])

    def right(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor
    ) -> Tensor:
        """Fuse all channels."""
        return dcd_pointwise.core(x, weight, gate, phi, P, Q)

    @mutant(drops="one-block", side="left")
    def two_blocks(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor
    ) -> Tensor:
        """The channels are in two blocks, each with its part of P and Q."""
        halves = phi[:, None].expand(-1, 2, -1, -1), P.view(2, -1, d.L), Q.view(2, -1, d.L)
        return dcd_sparse.core(x, weight, gate, *halves)

    @mutant()
    def phi_transposed(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """Φᵀ takes the place of Φ."""
        return self.right(d, phi=phi.mT, **rest)

    @mutant()
    def static_part_in_two_blocks(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is block-diagonal too."""
        return self.right(d, weight=on_diagonal(blocks_of(weight, 2)), **rest)

    @equivalent("a 1×1 kernel has one tap", side="left")
    def kernel_of_one_tap(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor
    ) -> Tensor:
        """Fuse a K×K kernel with K = 1 and a single latent tap, R being one."""
        one = torch.ones(1, 1, dtype=x.dtype)
        return dcd_conv2d.core(x, weight[:, :, None, None], gate, phi[..., None], P, Q, one)


class BlocksAreFusionWithBlockDiagonalFactors(Pointwise):
    """The sparse form of channel fusion is the dense one with P, Φ and Q on block diagonals, W₀ staying full.

    ⊕ P_gΦ_gQ_gᵀ = (⊕P_g)(⊕Φ_g)(⊕Q_g)ᵀ. A block-diagonal Φ alone does not make the residual block-diagonal: a
    block of latent channels would still read and feed all channels.
    """

    name = "sparse-fusion-is-fusion-with-block-diagonal-factors"
    operators = ("dcd_sparse", "dcd_pointwise")
    source = f"{SOURCE}, the sparse dynamic residual"
    conditions = {
        "phi-in-blocks": "latent channels of two blocks do not fuse",
        "P-in-blocks": "a latent channel feeds its own block alone",
        "Q-in-blocks": "a latent channel reads its own block alone",
        "blocks-contiguous": "block g is made of the channels gC/G to (g+1)C/G − 1",
        "static-part-full": "W₀ reads all channels",
    }
    shapes = (
        Dims(B=4, C=4, Co=6, H=2, W=5, blocks=2, L=3),
        Dims(B=2, C=9, Co=6, H=7, W=1, blocks=3, L=2),
        Dims(B=1, C=32, Co=48, H=14, W=14, blocks=8, L=2),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, blocks=2, L=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, and Φ, P and Q in full, of which the blocks are a part."""
        return super().variables(d.replace(L=d.blocks * d.L))

    def left(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor
    ) -> Tensor:
        """Fuse the channels of every block."""
        parts = (blocks_of(matrix, d.blocks) for matrix in (phi, P, Q))
        return dcd_sparse.core(x, weight, gate, *parts)

    def right(self, d: Dims, **given: Tensor) -> Tensor:
        """Fuse all channels, by matrices that are zero outside the blocks."""
        return fused_with(given, **{name: in_blocks(given[name], d.blocks) for name in ("phi", "P", "Q")})

    @mutant(drops="phi-in-blocks")
    def phi_full(self, d: Dims, phi: Tensor, P: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """All latent channels fuse."""
        return fused_with(rest, phi=phi, P=in_blocks(P, d.blocks), Q=in_blocks(Q, d.blocks))

    @mutant(drops="P-in-blocks")
    def p_full(self, d: Dims, phi: Tensor, P: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """A latent channel feeds all channels."""
        return fused_with(rest, phi=in_blocks(phi, d.blocks), P=P, Q=in_blocks(Q, d.blocks))

    @mutant(drops="Q-in-blocks")
    def q_full(self, d: Dims, phi: Tensor, P: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """A latent channel reads all channels."""
        return fused_with(rest, phi=in_blocks(phi, d.blocks), P=in_blocks(P, d.blocks), Q=Q)

    @mutant(drops="blocks-contiguous")
    def blocks_interleaved(self, d: Dims, Q: Tensor, **rest: Tensor) -> Tensor:
        """Channel c is read by block c mod G."""
        rows = in_blocks(Q, d.blocks).view(d.blocks, -1, d.blocks * d.L).transpose(0, 1)
        factors = {name: in_blocks(rest[name], d.blocks) for name in ("phi", "P")}
        return fused_with(rest, **factors, Q=rows.reshape(Q.shape))

    @mutant(drops="static-part-full")
    def static_part_in_blocks(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is block-diagonal too."""
        return self.right(d, weight=in_blocks(weight, d.blocks), **rest)

    @equivalent("latent channels may come in any order, in P, Φ and Q together")
    def latent_channels_reversed(self, d: Dims, phi: Tensor, P: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """The last latent channel of the last block comes first."""
        P, Q = (in_blocks(matrix, d.blocks).flip(1) for matrix in (P, Q))
        return fused_with(rest, phi=in_blocks(phi, d.blocks).flip(1, 2), P=P, Q=Q)


class OneHotTapsAreStaticKernelAndDynamicPointwise(Claim):
    """K×K fusion with R one-hot at the centre is a static K×K convolution and a dynamic 1×1 one.

    W₀ ×₂ Λ + Φ ×₁ Q ×₂ P ×₃ R then computes Λ(W₀ * x) + PΦQᵀx, the latter at the positions that the stride
    keeps; there is a single latent tap.
    """

    name = "one-hot-taps-are-static-kernel-and-dynamic-pointwise"
    operators = ("dcd_conv2d", "conv2d", "squeeze_excite", "dcd_pointwise")
    source = f"{SOURCE}, the K×K form with a single latent tap"
    conditions = {
        "one-hot": "R is one at one tap, and zero at the others",
        "centre-tap": "that tap is the centre of the kernel",
        "same-stride": "the 1×1 part keeps the positions i·s at which the kernel is centred",
        "odd-kernel": "K is odd, so that there is an output for each of these positions and no other",
    }
    algebra = "So R one-hot at the centre leaves, of the K² taps of the residual, the position itself."
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5, L=3, stride=1),
        Dims(B=2, C=3, Co=4, H=7, W=6, K=3, L=2, stride=2),
        Dims(B=3, C=2, Co=5, H=1, W=4, K=3, L=2, stride=1),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=3, L=4, stride=2),
    )
    complete_shapes = (Dims(B=1, C=1, Co=1, H=1, W=2, K=3, L=1, stride=1),)

    @lemma
    def centre_of_the_kernel(self, z3: Any) -> Lemma:
        """For odd K, tap ⌊K²/2⌋ lies in row and column (K−1)/2 and reads the output's own position."""
        tap, row, column, p, K = z3.Ints("tap row column p K")
        return Lemma(
            {
                "K is odd, p the padding (K-1)/2": 2 * p + 1 == K,
                "taps are counted row by row": tap == K * row + column,
                "a row has K taps": z3.And(column >= 0, column < K),
                "the tap is the rounded half of all": 2 * tap + 1 == K * K,
            },
            z3.And(row == p, column == p),
        )

    @lemma
    def outputs_of_an_odd_kernel(self, z3: Any) -> Lemma:
        """For odd K and padding (K−1)/2, output i fits the padded map exactly where i·s lies in the map."""
        i, s, p, H, K = z3.Ints("i s p H K")
        return Lemma(
            {"K is odd, p the padding (K-1)/2": 2 * p + 1 == K},
            (i * s + K <= H + 2 * p) == (i * s < H),
        )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, Φ, P and Q, and the taps that mutants put in the place of one."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.Co, d.C, d.K, d.K),
            "gate": (d.B, d.Co),
            "phi": (d.B, d.L, d.L),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
            "taps": (d.K**2, 1),
        }

    def left(self, d: Dims, phi: Tensor, taps: Tensor, **given: Tensor) -> Tensor:
        """Fuse with one latent tap in the centre."""
        centre = torch.eye(d.K**2, dtype=phi.dtype)[:, d.K**2 // 2, None]
        return fused_kernels(d, phi=phi, taps=centre, **given)

    def right(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor
    ) -> Tensor:
        """Gate the static output, and fuse the channels of the positions that the stride keeps."""
        static = squeeze_excite.core(conv2d.core(x, weight, stride=d.stride), gate)
        return static + residual_on(x[:, :, :: d.stride, :: d.stride], phi, P, Q)

    @mutant(drops="one-hot", side="left")
    def any_taps(self, d: Dims, **given: Tensor) -> Tensor:
        """R is free."""
        return fused_kernels(d, **given)

    @mutant(drops="centre-tap", side="left")
    def tap_before_the_centre(self, d: Dims, phi: Tensor, taps: Tensor, **given: Tensor) -> Tensor:
        """R is one at the tap to the left of the centre."""
        before = torch.eye(d.K**2, dtype=phi.dtype)[:, d.K**2 // 2 - 1, None]
        return fused_kernels(d, phi=phi, taps=before, **given)

    @mutant(drops="same-stride")
    def first_positions(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor
    ) -> Tensor:
        """The 1×1 part keeps the first positions, side by side."""
        static = squeeze_excite.core(conv2d.core(x, weight, stride=d.stride), gate)
        return static + residual_on(x[:, :, : static.shape[2], : static.shape[3]], phi, P, Q)

    @mutant(drops="odd-kernel", side="left")
    def even_kernel(self, d: Dims, weight: Tensor, phi: Tensor, taps: Tensor, **given: Tensor) -> Tensor:
        """The kernel has a row and a column of zeros before the others, and its tap (K/2, K/2) is R's."""
        wide = d.replace(K=d.K + 1)
        middle = torch.eye(wide.K**2, dtype=phi.dtype)[:, wide.K**2 // 2 + wide.K // 2, None]
        return fused_kernels(wide, weight=F.pad(weight, (1, 0, 1, 0)), phi=phi, taps=middle, **given)

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last static kernel is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("that form computes the same two terms")
    def fused_beside_the_kernel(self, d: Dims, taps: Tensor, **given: Tensor) -> Tensor:
        """Channel fusion beside a static kernel."""
        factors = ("x", "weight", "gate", "phi", "P", "Q")
        return dcd_fusion.core(*(given[name] for name in factors), stride=d.stride)


class DepthwiseFusionIsDynamicDepthwise(Claim):
    """Depthwise channel fusion is dynamic depthwise convolution with the kernels ΛW₀ + PΦRᵀ of each image.

    Row c of that matrix holds the K² taps of channel c, row by row; a channel still reads itself alone.
    """

    name = "depthwise-fusion-is-dynamic-depthwise-convolution"
    operators = ("dcd_depthwise", "dynamic_depthwise_conv2d")
    source = f"{SOURCE}, the form for depthwise kernels, ΛW₀ + PΦRᵀ"
    conditions = {
        "own-gate": "λ_c weighs the kernel of channel c",
        "full-fusion": "rows of Φ belong to P, columns to R",
        "row-order": "taps are counted row by row",
        "per-image": "Λ and Φ are those of the image",
    }
    shapes = (
        Dims(B=2, C=6, H=3, W=4, K=5, Lk=3, stride=1),
        Dims(B=2, C=4, H=7, W=6, K=3, Lk=2, stride=2),
        Dims(B=3, C=5, H=1, W=4, K=3, Lk=4, stride=1),
        Dims(B=1, C=64, H=14, W=14, K=3, Lk=4, stride=1),
    )
    complete_shapes = (Dims(B=1, C=1, H=1, W=2, K=3, Lk=1, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, Φ, P and R."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.C, d.K, d.K),
            "gate": (d.B, d.C),
            "phi": (d.B, d.Lk, d.Lk),
            "P": (d.C, d.Lk),
            "taps": (d.K**2, d.Lk),
        }

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Fuse the taps of every channel."""
        return dcd_depthwise.core(*given.values(), stride=d.stride)

    def right(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, taps: Tensor
    ) -> Tensor:
        """Make the kernels of every image, and convolve."""
        matrix = gate[:, :, None] * weight.flatten(1) + P @ phi @ taps.t()
        return dynamic_depthwise_conv2d.core(x, matrix.reshape(d.B, *weight.shape), stride=d.stride)

    @mutant(drops="own-gate")
    def gate_of_another_channel(self, d: Dims, gate: Tensor, **rest: Tensor) -> Tensor:
        """λ_c weighs the kernel of the next channel."""
        return self.right(d, gate=gate.roll(1, 1), **rest)

    @mutant(drops="full-fusion")
    def phi_transposed(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """Φᵀ takes the place of Φ."""
        return self.right(d, phi=phi.mT, **rest)

    @mutant(drops="row-order")
    def columns_first(self, d: Dims, taps: Tensor, **rest: Tensor) -> Tensor:
        """The rows of R are the taps counted column by column."""
        return self.right(d, taps=taps.view(d.K, d.K, -1).transpose(0, 1).reshape(taps.shape), **rest)

    @mutant(drops="per-image")
    def phi_of_another_image(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """Φ is that of the next image of the batch."""
        return self.right(d, phi=phi.roll(1, 0), **rest)

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last static kernel is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("the residual may be computed on the map, where every channel meets the latent kernels of R")
    def latent_kernels_on_the_map(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, taps: Tensor
    ) -> Tensor:
        """Gate the static output, and mix what the Lk latent kernels make of every channel."""
        static = squeeze_excite.core(depthwise_conv2d.core(x, weight, stride=d.stride), gate)
        latent = taps.t().reshape(-1, 1, d.K, d.K).expand(-1, d.C, -1, -1)
        outputs = torch.stack([depthwise_conv2d.core(x, kernels, stride=d.stride) for kernels in latent])
        return static + torch.einsum("bcl,lbchw->bchw", P @ phi, outputs)


class FusionOnKernelIsFusionOnMap(Claim):
    """Channel fusion may be computed on the kernel or on the map: W(x) * x = Λ(W₀ * x) + P(Φ * (Qᵀx)).

    On the map it takes a 1×1 convolution to L channels, a K×K one of these, whose kernels Σ_l φ_ijl R_l are
    those of the image, and a 1×1 one to the outputs. The released layer goes this way and never makes W(x).
    """

    name = "fusion-on-kernel-is-fusion-on-map"
    operators = ("dcd_conv2d", "squeeze_excite", "conv2d", "pointwise_conv2d", "cond_conv2d")
    source = (
        "github.com/liyunsheng13/dcd, issue 1: “I do not synthesize kernel. Instead, I use \\lambda W0 and "
        "P\\PhiQ to extract features separately and then add the feature.”"
    )
    conditions = {
        "static-part-gated": "Λ weighs the static output alone",
        "in-order": "Qᵀ comes first, then Φ, whose rows belong to P, then P",
        "nothing-between": "nothing is added to the latent channels, by a bias or the shift of a batch norm",
    }
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5, L=3, Lk=2),
        Dims(B=2, C=3, Co=4, H=7, W=6, K=3, L=2, Lk=1, stride=2),
        Dims(B=3, C=6, Co=5, H=1, W=4, K=1, L=2, Lk=1),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=3, L=4, Lk=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, K=1, L=2, Lk=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, Φ, P, Q and R."""
        return fusion_variables(d)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Make one kernel for every image, and convolve with it."""
        return fused_kernels(d, **given)

    def right(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, **rest: Tensor) -> Tensor:
        """Gate the static output, and add what P makes of the fused latent channels."""
        static = squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate)
        return static + fused_map(d, pointwise_conv2d.core(x, rest["Q"].t()), **rest)

    @mutant(drops="static-part-gated")
    def everything_gated(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, **rest: Tensor) -> Tensor:
        """Λ weighs the sum of both parts."""
        ungated = self.right(d, x=x, weight=weight, gate=torch.ones_like(gate), **rest)
        return squeeze_excite.core(ungated, gate)

    @mutant(drops="in-order")
    def phi_transposed(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """Φᵀ takes the place of Φ."""
        return self.right(d, phi=phi.transpose(1, 2), **rest)

    @mutant(drops="nothing-between")
    def latent_channels_shifted(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, **rest: Tensor
    ) -> Tensor:
        """One is added to every latent channel."""
        static = squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate)
        return static + fused_map(d, pointwise_conv2d.core(x, rest["Q"].t()) + 1, **rest)

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last static kernel is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("P may be multiplied with Φ before either meets the map")
    def p_with_phi(self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, **rest: Tensor) -> Tensor:
        """The latent channels go to the outputs by the K×K kernels PΦRᵀ."""
        phi, P, Q, taps = (rest[name] for name in ("phi", "P", "Q", "taps"))
        kernels = torch.einsum("oi,bijl,nl->bojn", P, phi, taps).unflatten(3, (d.K, d.K))
        latent = pointwise_conv2d.core(x, Q.t())
        every_image = torch.eye(d.B, dtype=x.dtype)
        static = squeeze_excite.core(conv2d.core(x, weight, stride=stride_of(d)), gate)
        return static + cond_conv2d.core(latent, kernels, every_image, stride=stride_of(d))


def fusion_variables(d: Dims) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of a map, W₀, Λ, Φ, P, Q and R."""
    return {
        "x": (d.B, d.C, d.H, d.W),
        "weight": (d.Co, d.C, d.K, d.K),
        "gate": (d.B, d.Co),
        "phi": (d.B, d.L, d.L, d.Lk),
        "P": (d.Co, d.L),
        "Q": (d.C, d.L),
        "taps": (d.K**2, d.Lk),
    }


def fused_kernels(d: Dims, phi: Tensor, **given: Tensor) -> Tensor:
    """Fuse K×K kernels; Φ may lack its third axis where there is one latent tap."""
    cube = phi if phi.ndim == 4 else phi[..., None]
    x, weight, gate, P, Q, taps = (given[name] for name in ("x", "weight", "gate", "P", "Q", "taps"))
    return dcd_conv2d.core(x, weight, gate, cube, P, Q, taps, stride=stride_of(d))


def fused_with(given: Mapping[str, Tensor], **factors: Tensor) -> Tensor:
    """Fuse 1×1 kernels, some of whose factors are given by themselves."""
    every = {**given, **factors}
    return dcd_pointwise.core(*(every[name] for name in ("x", "weight", "gate", "phi", "P", "Q")))


def fused_map(d: Dims, latent: Tensor, phi: Tensor, P: Tensor, Q: Tensor, taps: Tensor) -> Tensor:
    """Fuse latent channels [B, L, H, W] by kernels Σ_l φ_ijl R_l, those of the image, then apply P."""
    entries = torch.eye(d.L**2, dtype=phi.dtype).view(-1, d.L, d.L)
    experts = torch.einsum("pij,nl->plijn", entries, taps).reshape(-1, d.L, d.L, d.K, d.K)
    return pointwise_conv2d.core(cond_conv2d.core(latent, experts, phi.flatten(1), stride=stride_of(d)), P)


def residual_on(x: Tensor, phi: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """Fuse channels with no static part."""
    return dcd_pointwise.core(x, torch.zeros(len(P), len(Q), dtype=x.dtype), phi=phi, P=P, Q=Q)


def blocks_of(matrix: Tensor, count: int) -> Tensor:
    """Return the blocks on the diagonal of matrices […, R, S], as […, count, R/count, S/count]."""
    *batch, rows, columns = matrix.shape
    cells = matrix.reshape(*batch, count, rows // count, count, columns // count)
    return cells.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def on_diagonal(blocks: Tensor) -> Tensor:
    """Put blocks […, count, r, s] on the diagonal of matrices […, count·r, count·s]."""
    *batch, count, rows, columns = blocks.shape
    cells = torch.einsum("...grs,gh->...grhs", blocks, torch.eye(count, dtype=blocks.dtype))
    return cells.reshape(*batch, count * rows, count * columns)


def in_blocks(matrix: Tensor, count: int) -> Tensor:
    """Set what lies outside the blocks on the diagonal of matrices to zero."""
    return on_diagonal(blocks_of(matrix, count))


def without_last(tensor: Tensor) -> Tensor:
    """Set the last element to zero."""
    kept = torch.ones(tensor.shape, dtype=tensor.dtype)
    kept[(-1,) * tensor.ndim] = 0
    return kept * tensor
