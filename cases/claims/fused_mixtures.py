"""Dynamic channel fusion (DCD) and mixtures of kernels: how far each is the other."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import pointwise_conv2d
from ..dynamic import cond_conv2d, dcd_pointwise, dynamic_conv2d
from ..gates import squeeze_excite
from .fusion import SOURCE, fused_kernels, fusion_variables, residual_on, without_last
from .gates import rows
from .kernel_mixtures import stride_of


class FusionIsMixtureOfExperts(Claim):
    """Dynamic channel fusion is a mixture of Co + L²·Lk kernels, which share the rows of W₀, P, Q and R.

    W₀ ×₂ Λ + Φ ×₁ Q ×₂ P ×₃ R = Σ λ_o (e_o ⊗ W₀[o]) + Σ φ_ijl (P_i ⊗ Q_j ⊗ R_l): a row of W₀, or a product of
    rank one, is an expert, and its weight one entry of Λ or Φ. These are C + L² for square 1×1 kernels.
    """

    name = "fusion-is-mixture-of-experts"
    operators = ("dcd_conv2d", "cond_conv2d")
    source = f"{SOURCE}, where Λ and Φ are the dynamic coefficients"
    conditions = {
        "rows-gated": "the expert of λ_o is row o of W₀, a kernel that reaches output o alone",
        "full-fusion": "the expert of φ_ijl is made of column i of P, j of Q and l of R",
        "weights-of-their-own": "every expert has a weight of its own",
        "per-image": "every image has weights of its own",
    }
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5, L=3, Lk=2),
        Dims(B=2, C=3, Co=4, H=7, W=6, K=3, L=2, Lk=1, stride=2),
        Dims(B=3, C=6, Co=8, H=1, W=4, K=1, L=2, Lk=1),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=1, L=4, Lk=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, K=1, L=2, Lk=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ, Φ, P, Q and R."""
        return fusion_variables(d)

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Fuse channels dynamically."""
        return fused_kernels(d, **given)

    def right(self, d: Dims, x: Tensor, gate: Tensor, phi: Tensor, **rest: Tensor) -> Tensor:
        """Mix the rows and the products."""
        routing = torch.cat([gate, phi.flatten(1)], 1)
        return cond_conv2d.core(x, rows_and_products(**rest), routing, stride=stride_of(d))

    @mutant(drops="rows-gated")
    def columns_gated(
        self, d: Dims, x: Tensor, gate: Tensor, phi: Tensor, weight: Tensor, **rest: Tensor
    ) -> Tensor:
        """The expert of λ_c is column c of W₀."""
        columns = torch.diag_embed(weight.permute(0, 2, 3, 1)).permute(4, 0, 3, 1, 2)
        experts = torch.cat([columns, rows_and_products(weight, **rest)[d.Co :]])
        routing = torch.cat([gate[:, : d.C], phi.flatten(1)], 1)
        return cond_conv2d.core(x, experts, routing, stride=stride_of(d))

    @mutant(drops="full-fusion")
    def phi_transposed(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """φ_jil weighs the expert of φ_ijl."""
        return self.right(d, phi=phi.transpose(1, 2), **rest)

    @mutant(drops="weights-of-their-own")
    def one_weight_for_each_row_of_phi(self, d: Dims, phi: Tensor, **rest: Tensor) -> Tensor:
        """The products of one column of P share the first of their weights."""
        return self.right(d, phi=phi[:, :, :1, :1].expand_as(phi), **rest)

    @mutant(drops="per-image")
    def weights_of_another_image(self, d: Dims, gate: Tensor, phi: Tensor, **rest: Tensor) -> Tensor:
        """Λ and Φ are those of the next image of the batch."""
        return self.right(d, gate=gate.roll(1, 0), phi=phi.roll(1, 0), **rest)

    @mutant(sparse=True)
    def last_tap_left_out(self, d: Dims, weight: Tensor, **rest: Tensor) -> Tensor:
        """The last tap of the last row of W₀ is missing."""
        return self.right(d, weight=without_last(weight), **rest)

    @equivalent("the order of experts does not matter, their weights coming with them")
    def products_first(self, d: Dims, x: Tensor, gate: Tensor, phi: Tensor, **rest: Tensor) -> Tensor:
        """The products come before the rows."""
        experts = rows_and_products(**rest).roll(-d.Co, 0)
        return cond_conv2d.core(x, experts, torch.cat([phi.flatten(1), gate], 1), stride=stride_of(d))


class DynamicConvInChannelFusion(Claim):
    """Dynamic convolution with 1×1 kernels is channel fusion with Λ = I, a diagonal Φ, and wide P and Q.

    If the routing sums to one and every ΔW_k = W_k − W₀ is U_k S_k V_kᵀ, Σ π_k W_k = W₀ + UΠSVᵀ: then P = U,
    Q = V and Φ = ΠS, which weighs the latent channels of expert k with π_k and fuses none of them. There are
    as many latent channels as the differences have singular directions, E·C for square kernels.
    """

    name = "dynamic-convolution-in-channel-fusion"
    operators = ("dynamic_conv2d", "dcd_pointwise")
    source = (
        f"{SOURCE}, abstract: “dynamic convolution applies dynamic attention over channel groups after "
        "projecting into a higher dimensional latent space”"
    )
    conditions = {
        "routing-sums-to-one": "the routing of an image sums to one",
        "gate-of-ones": "Λ = I: the static part has no gate",
        "phi-diagonal": "Φ is diagonal: latent channels do not fuse",
        "blocked-latent-groups": "the latent channels of an expert lie together, and share its weight",
        "all-directions": "L is large enough for all singular directions of all differences",
    }
    shapes = (
        Dims(B=4, C=4, Co=6, H=2, W=5, E=3, L=3),
        Dims(B=2, C=6, Co=4, H=7, W=1, E=4, L=2),
        Dims(B=1, C=16, Co=32, H=14, W=14, E=4, L=16),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, E=2, L=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, U, S and V, the routing, and what mutants put for Λ and for Φ's zeros."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "base": (d.Co, d.C),
            "U": (d.Co, d.E * d.L),
            "S": (d.E * d.L,),
            "V": (d.C, d.E * d.L),
            "routing": (d.B, d.E),
            "gate": (d.B, d.Co),
            "fusion": (d.B, d.E * d.L, d.E * d.L),
        }

    def given(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Let the routing sum to one."""
        first = routing[:, :-1]
        return {**rest, "routing": torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)}

    def left(
        self, d: Dims, x: Tensor, base: Tensor, U: Tensor, S: Tensor, V: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """Mix the experts W₀ + U_k S_k V_kᵀ."""
        blocks = U.view(d.Co, d.E, d.L), S.view(d.E, d.L), V.view(d.C, d.E, d.L)
        experts = base + torch.einsum("oel,el,cel->eoc", *blocks)
        return dynamic_conv2d.core(x, experts[..., None, None], routing)

    def right(
        self, d: Dims, x: Tensor, base: Tensor, U: Tensor, S: Tensor, V: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """Fuse channels with P = U, Φ = ΠS and Q = V, without a gate."""
        pi = routing.repeat_interleave(d.L, 1)
        return dcd_pointwise.core(x, base, phi=torch.diag_embed(pi * S), P=U, Q=V)

    @mutant(drops="routing-sums-to-one", side="given")
    def routing_with_any_sum(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The routing is free."""
        return variables

    @mutant(drops="gate-of-ones")
    def static_part_gated(self, d: Dims, x: Tensor, base: Tensor, gate: Tensor, **rest: Tensor) -> Tensor:
        """Λ is free."""
        residual = self.right(d, x=x, base=torch.zeros_like(base), **rest)
        return dcd_pointwise.core(x, base, gate) + residual

    @mutant(drops="phi-diagonal")
    def latent_channels_fused(
        self, d: Dims, x: Tensor, U: Tensor, V: Tensor, fusion: Tensor, **rest: Tensor
    ) -> Tensor:
        """Φ has free entries beside its diagonal."""
        beside = fusion * (1 - torch.eye(d.E * d.L, dtype=x.dtype))
        fused = residual_on(x, beside, U, V)
        return self.right(d, x=x, U=U, V=V, **rest) + fused

    @mutant(drops="blocked-latent-groups")
    def interleaved_groups(self, d: Dims, routing: Tensor, S: Tensor, **rest: Tensor) -> Tensor:
        """Latent channel l is weighed by expert l mod E."""
        weights = routing.repeat(1, d.L) * S
        return dcd_pointwise.core(
            rest["x"], rest["base"], phi=torch.diag_embed(weights), P=rest["U"], Q=rest["V"]
        )

    @mutant(drops="all-directions")
    def last_direction_left_out(self, d: Dims, S: Tensor, **rest: Tensor) -> Tensor:
        """The last expert has one direction fewer."""
        return self.right(d, S=without_last(S), **rest)

    @mutant(sparse=True)
    def last_direction_misses_last_output(
        self, d: Dims, U: Tensor, routing: Tensor, **rest: Tensor
    ) -> Tensor:
        """For the last image, the last direction does not reach the last output."""
        whole = self.right(d, U=U, routing=routing, **rest)
        parts = {**rest, "x": rest["x"][-1:], "base": rest["base"][-1:], "U": U[-1:], "routing": routing[-1:]}
        cut = self.right(d, **parts) - self.right(d, **{**parts, "U": without_last(U)[-1:]})
        return whole - F.pad(cut, (0, 0, 0, 0, d.Co - 1, 0, d.B - 1, 0))

    @equivalent("a factor may stand in any of the three")
    def singular_values_in_v(self, d: Dims, S: Tensor, V: Tensor, **rest: Tensor) -> Tensor:
        """V takes the singular values, and Φ is Π alone."""
        return self.right(d, S=torch.ones_like(S), V=V * S, **rest)


class MeanResidualNeedsFewerLatentChannels(Claim):
    """With the mean kernel as W₀, (E−1)·C latent channels represent a mixture of E kernels, not E·C.

    The differences then sum to zero, so Σ π_k ΔW_k = Σ_{k<E} (π_k − π_E) ΔW_k: the last expert needs no
    latent channels, and those of expert k have the weight π_k − π_E.
    """

    name = "mean-residual-needs-fewer-latent-channels"
    operators = ("dynamic_conv2d", "dcd_pointwise")
    source = f"{SOURCE}, section 3, where the latent space of W₀ + UΠSVᵀ has K·C dimensions"
    conditions = {
        "mean-kernel": "W₀ is the mean of the experts",
        "routing-sums-to-one": "the routing of an image sums to one",
        "against-the-last": "the latent channels of expert k have the weight π_k − π_E",
    }
    shapes = (
        Dims(B=4, C=4, Co=6, H=2, W=5, E=3),
        Dims(B=2, C=6, Co=4, H=7, W=1, E=4),
        Dims(B=1, C=16, Co=32, H=14, W=14, E=4),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=1, E=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, the differences of all experts but the last, and the routing."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "base": (d.Co, d.C),
            "differences": (d.E - 1, d.Co, d.C),
            "other": (d.Co, d.C),
            "routing": (d.B, d.E),
        }

    def given(
        self, d: Dims, base: Tensor, differences: Tensor, routing: Tensor, **rest: Tensor
    ) -> Mapping[str, Tensor]:
        """Derive the last difference, so that W₀ is the mean, and the last weight."""
        last = -differences.sum(0, keepdim=True)
        first = routing[:, :-1]
        weights = torch.cat([first, 1 - first.sum(1, keepdim=True)], 1)
        return {**rest, "base": base, "differences": torch.cat([differences, last]), "routing": weights}

    def left(
        self, d: Dims, x: Tensor, base: Tensor, differences: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """Mix the experts."""
        return dynamic_conv2d.core(x, (base + differences)[..., None, None], routing)

    def right(
        self, d: Dims, x: Tensor, base: Tensor, differences: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """Fuse channels with (E−1)·C latent ones."""
        return narrowly_fused(x, base, differences[:-1], routing[:, :-1] - routing[:, -1:])

    @mutant(drops="mean-kernel", side="given")
    def last_expert_free(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The last expert is free, so that W₀ is not the mean."""
        given = dict(MeanResidualNeedsFewerLatentChannels().given(d, **variables))
        last = variables["other"][None]
        return {**given, "differences": torch.cat([given["differences"][:-1], last])}

    @mutant(drops="routing-sums-to-one", side="given")
    def routing_with_any_sum(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The routing is free."""
        given = MeanResidualNeedsFewerLatentChannels().given(d, **variables)
        return {**given, "routing": variables["routing"]}

    @mutant(drops="against-the-last")
    def weights_themselves(
        self, d: Dims, x: Tensor, base: Tensor, differences: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """The latent channels of expert k have the weight π_k."""
        return narrowly_fused(x, base, differences[:-1], routing[:, :-1])

    @mutant(sparse=True)
    def last_weight_of_base_left_out(self, d: Dims, x: Tensor, base: Tensor, **rest: Tensor) -> Tensor:
        """W₀ lacks its last weight, for the last image."""
        whole = self.right(d, x=x, base=base, **rest)
        return whole - F.pad((x * base[-1, -1])[-1:, -1:], (0, 0, 0, 0, d.Co - 1, 0, d.B - 1, 0))

    @equivalent("W₀ may be the last expert as well, whose own difference is then zero")
    def last_expert_as_base(
        self, d: Dims, x: Tensor, base: Tensor, differences: Tensor, routing: Tensor, **_: Tensor
    ) -> Tensor:
        """W₀ is the last expert, and the weights of the others are their own."""
        last = differences[-1]
        return narrowly_fused(x, base + last, differences[:-1] - last, routing[:, :-1])


class NarrowFusionMissesMixture(Claim):
    """Channel fusion with L latent channels misses a kernel W(x) by σ_{L+1}(W(x) − ΛW₀) at least.

    That singular value is the least ‖W(x) − ΛW₀ − PΦQᵀ‖₂ for any P, Φ and Q. A mixture of kernels of which
    every Λ leaves a residual of a rank above L is therefore not represented, whatever generates Λ and Φ.
    """

    name = "narrow-fusion-misses-mixture"
    kind = "inequality"
    operators = ("dcd_pointwise", "pointwise_conv2d")
    source = f"{SOURCE}, for W(x) = ΛW₀ + PΦQᵀ; Eckart and Young 1936, Mirsky 1960, for the distance"
    conditions = {
        "L-directions": "the first L singular values may be reached, the next one not",
        "gate-taken-off": "the singular values are those of W(x) − ΛW₀, not of W(x)",
        "spectral-norm": "the distance is the largest singular value of what is missed, not an entry",
    }
    # So many images that one of them is a small share.
    shapes = (
        Dims(B=24, C=4, Co=6, H=1, W=2, L=2),
        Dims(B=2, C=6, Co=5, H=3, W=1, L=3),
        Dims(B=1, C=12, Co=16, H=4, W=5, L=4),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=1, L=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a map, W₀, Λ, Φ, P and Q, and what the fused kernels miss."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "weight": (d.Co, d.C),
            "gate": (d.B, d.Co),
            "phi": (d.B, d.L, d.L),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
            "missed": (d.B, d.Co, d.C),
        }

    def given(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """Derive the kernels of the mixture, which are any."""
        static, residual = parts_of_kernels(**variables)
        return {**variables, "static": static, "mixture": static + residual + variables["missed"]}

    def lesser(self, d: Dims, mixture: Tensor, static: Tensor, **_: Tensor) -> Tensor:
        """Return the singular value L+1 of what the gated kernel leaves of each mixture."""
        return singular_values(mixture - static)[:, d.L]

    def greater(self, d: Dims, missed: Tensor, **_: Tensor) -> Tensor:
        """Return how far each fused kernel is from its mixture."""
        return singular_values(missed)[:, 0]

    def left(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor
    ) -> Tensor:
        """Apply what is fused dynamically, W(x) without its static part."""
        return dcd_pointwise.core(x, weight, gate, phi, P, Q) - dcd_pointwise.core(x, weight, gate)

    def right(self, d: Dims, x: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor) -> Tensor:
        """Pass the map through L channels: a matrix that factors so has no more than L singular values."""
        latent = pointwise_conv2d.core(x, Q.t())
        return pointwise_conv2d.core(torch.einsum("bij,bjhw->bihw", phi, latent), P)

    @mutant(drops="L-directions", side="lesser")
    def one_singular_value_earlier(self, d: Dims, mixture: Tensor, static: Tensor, **_: Tensor) -> Tensor:
        """The singular value L is taken."""
        return singular_values(mixture - static)[:, d.L - 1]

    @mutant(drops="gate-taken-off", side="lesser")
    def static_part_left_on(self, d: Dims, mixture: Tensor, **_: Tensor) -> Tensor:
        """The singular values are those of the mixture."""
        return singular_values(mixture)[:, d.L]

    @mutant(drops="spectral-norm", side="greater")
    def largest_entry(self, d: Dims, missed: Tensor, **_: Tensor) -> Tensor:
        """The distance is the largest entry of what is missed."""
        return missed.abs().amax((1, 2))

    @mutant(side="lesser", sparse=True)
    def one_singular_value_earlier_for_the_last_image(
        self, d: Dims, mixture: Tensor, static: Tensor, **_: Tensor
    ) -> Tensor:
        """For the last image the singular value L is taken."""
        values = singular_values(mixture - static)
        return torch.cat([values[:-1, d.L], values[-1:, d.L - 1]])

    @mutant()
    def latent_channels_gated(
        self, d: Dims, x: Tensor, weight: Tensor, gate: Tensor, **rest: Tensor
    ) -> Tensor:
        """The gate weighs what passes through the latent channels too."""
        return squeeze_excite.core(self.right(d, x=x, **rest), gate)


def singular_values(matrices: Tensor) -> Tensor:
    """Return the singular values of matrices, largest first."""
    values: Tensor = torch.linalg.svdvals(matrices)
    return values


def narrowly_fused(x: Tensor, base: Tensor, differences: Tensor, weights: Tensor) -> Tensor:
    """(W₀ + Σ weights[b, k] · ΔW_k) x[b], with C latent channels for each of the differences [·, Co, C]."""
    count, Co, C = differences.shape
    P = differences.transpose(0, 1).reshape(Co, count * C)
    Q = torch.eye(C, dtype=x.dtype).repeat(1, count)
    return dcd_pointwise.core(x, base, phi=torch.diag_embed(weights.repeat_interleave(C, 1)), P=P, Q=Q)


def rows_and_products(weight: Tensor, P: Tensor, Q: Tensor, taps: Tensor) -> Tensor:
    """Return the kernels e_o ⊗ W₀[o] and P_i ⊗ Q_j ⊗ R_l, [Co + L²·Lk, Co, C, K, K]."""
    products = torch.einsum("oi,cj,nl->ijlocn", P, Q, taps).reshape(-1, *weight.shape)
    return torch.cat([rows(weight), products])


def parts_of_kernels(
    weight: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ΛW₀ and PΦQᵀ of every image, [B, Co, C]."""
    return gate[:, :, None] * weight, P @ phi @ Q.t()
