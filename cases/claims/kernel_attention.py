"""Attention over kernels: mixtures of experts, and the matrix decomposition that revisits them."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import conv2d
from ..dynamic import cond_conv2d, dcd_conv2d, dcd_pointwise, dynamic_conv2d
from ..workloads import grouped_maps
from .corners import with_corner
from .fused_mixtures import rows_and_products

Outputs = tuple[Tensor, ...]


class CondConvIsDcdDecomposition(Claim):
    """A mixture of kernels is a static kernel and a dynamic residual; dynamic channel fusion is a mixture.

    If the routing sums to one, conv(x, Σ π_k W_k) = conv(x, W₀) + conv(x, Σ π_k ΔW_k) for any kernel W₀ and
    ΔW_k = W_k − W₀. If the blocks of U, S and V reproduce ΔW_k = U_k S_k V_kᵀ, it is conv(x, W₀ + UΠSVᵀ):
    dynamic channel fusion with Λ = I and Φ = ΠS, at every position on its K² taps. In turn
    conv(x, W₀ ×₂ Λ + Φ ×₁ Q ×₂ P ×₃ R) is a mixture of Co + L²·Lk kernels: the rows of W₀ weighted by λ,
    and the products P_i ⊗ Q_j ⊗ R_l weighted by φ_ijl.
    """

    name = "condconv-is-dcd-decomposition"
    operators = ("cond_conv2d", "dynamic_conv2d", "conv2d", "dcd_pointwise", "dcd_conv2d")
    source = (
        "Li et al. 2021, ICLR, arXiv 2103.08756, abstract: “dynamic convolution applies dynamic attention "
        "over channel groups after projecting into a higher dimensional latent space”"
    )
    conditions = {
        "routing-sums-to-one": "the routing of an image sums to one, as a softmax does and sigmoids do not",
        "one-base-kernel": "the kernel W₀ that is added is the one that was subtracted, whichever it is",
        "all-directions": "no singular direction of a difference is left out",
        "blocked-latent-groups": "the routing of expert k weighs the L latent channels from kL on",
        "full-fusion": "row and column of Φ belong to P and to Q",
        "rows-gated": "Λ weighs output channels",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, Co=4, H=7, W=6, K=3, E=3, L=2, Lk=2),
        Dims(B=2, C=3, Co=5, H=2, W=5, K=3, E=4, L=3, Lk=1),
        Dims(B=3, C=4, Co=6, H=5, W=3, K=1, E=3, L=2, Lk=1),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=1, E=4, L=4, Lk=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=2, H=1, W=2, K=1, E=2, L=1, Lk=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the routing, W₀, the factors of the differences, and the parts of the fusion."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "routing": (d.B, d.E),
            "base": (d.Co, d.C, d.K, d.K),
            "U": (d.Co, d.E * d.L),
            "S": (d.E * d.L,),
            "V": (d.C * d.K**2, d.E * d.L),
            "gate": (d.B, d.Co),
            "phi": (d.B, d.L, d.L, d.Lk),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
            "R": (d.K**2, d.Lk),
        }

    def given(self, d: Dims, routing: Tensor, **free: Tensor) -> Mapping[str, Tensor]:
        """Derive the last routing weight, and what follows from the factors."""
        first = routing[:, :-1]
        return derive(d, routing=torch.cat([first, 1 - first.sum(1, keepdim=True)], 1), **free)

    def left(
        self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, base: Tensor, **rest: Tensor
    ) -> Outputs:
        """Mix the experts, as both operators do; then fuse channels dynamically."""
        gate, phi, P, Q, R = (rest[name] for name in ("gate", "phi", "P", "Q", "R"))
        return (
            cond_conv2d.core(x, experts, routing),
            dynamic_conv2d.core(x, experts, routing),
            dcd_conv2d.core(x, base, gate, phi, P, Q, R),
        )

    def right(self, d: Dims, **given: Tensor) -> Outputs:
        """Add the residual; factor it; fuse channels by a mixture."""
        return residual_form(**given), factored_form(**given), fusion_as_mixture(**given)

    @mutant(drops="routing-sums-to-one", side="given")
    def routing_with_any_sum(self, d: Dims, **variables: Tensor) -> Mapping[str, Tensor]:
        """The routing is free, as CondConv's sigmoids are."""
        return derive(d, **variables)

    @mutant(drops="one-base-kernel")
    def first_expert_as_base(self, d: Dims, experts: Tensor, base: Tensor, **rest: Tensor) -> Outputs:
        """W₀ is the first expert, but the differences are still those from another kernel."""
        return self.right(d, experts=experts, base=experts[0], **rest)

    @mutant(drops="one-base-kernel")
    def base_left_out(self, d: Dims, base: Tensor, **rest: Tensor) -> Outputs:
        """Only the residual is computed."""
        return self.right(d, base=torch.zeros_like(base), **rest)

    @mutant(drops="all-directions")
    def last_direction_left_out(self, d: Dims, U: Tensor, **rest: Tensor) -> Outputs:
        """The last expert has one singular direction fewer."""
        return self.right(d, U=torch.cat([U[:, :-1], torch.zeros_like(U[:, -1:])], 1), **rest)

    @mutant()
    def singular_values_left_out(self, d: Dims, S: Tensor, **rest: Tensor) -> Outputs:
        """Every direction has length one."""
        return self.right(d, S=torch.ones_like(S), **rest)

    @mutant(drops="blocked-latent-groups")
    def interleaved_groups(self, d: Dims, pi: Tensor, routing: Tensor, **rest: Tensor) -> Outputs:
        """Latent channel l is weighed by expert l mod E."""
        return self.right(d, pi=routing.repeat(1, d.L), routing=routing, **rest)

    @mutant()
    def unweighted_latent_space(self, d: Dims, pi: Tensor, **rest: Tensor) -> Outputs:
        """Every latent channel has the same weight, whatever the routing."""
        return self.right(d, pi=torch.ones_like(pi), **rest)

    @mutant()
    def routing_of_another_image(self, d: Dims, pi: Tensor, **rest: Tensor) -> Outputs:
        """The routing is taken from the next image of the batch."""
        return self.right(d, pi=pi.roll(1, 0), **rest)

    @mutant(sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, columns: Tensor, **rest: Tensor) -> Outputs:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        extended = F.unfold(with_corner(x), d.K, padding=d.K // 2).view(d.B, -1, d.H + 2, d.W + 2)
        return self.right(d, x=x, columns=extended[..., 1:-1, 1:-1], **rest)

    @mutant(drops="full-fusion")
    def phi_transposed(self, d: Dims, phi: Tensor, **rest: Tensor) -> Outputs:
        """Φᵀ takes the place of Φ."""
        return self.right(d, phi=phi.transpose(1, 2), **rest)

    @mutant(drops="rows-gated")
    def gate_on_columns(self, d: Dims, x: Tensor, gate: Tensor, base: Tensor, **rest: Tensor) -> Outputs:
        """Λ weighs input channels."""
        residual, factored, _ = self.right(d, x=x, gate=gate, base=base, **rest)
        gated = conv2d.core(gate[:, : d.C, None, None] * x, base)
        return residual, factored, gated + fusion_as_mixture(x, base, torch.zeros_like(gate), **rest)

    @mutant()
    def identity_beside_phi(self, d: Dims, phi: Tensor, **rest: Tensor) -> Outputs:
        """Φ + I takes the place of Φ, as in the released layer."""
        identity = torch.eye(d.L, dtype=phi.dtype)[:, :, None].expand(d.L, d.L, d.Lk)
        return self.right(d, phi=phi + identity, **rest)

    @equivalent("a sum does not depend on its order")
    def experts_permuted(
        self,
        d: Dims,
        differences: Tensor,
        routing: Tensor,
        U: Tensor,
        S: Tensor,
        V: Tensor,
        pi: Tensor,
        **rest: Tensor,
    ) -> Outputs:
        """The experts come in another order, together with their routing and factors."""
        turned = {"U": U.flip(-1), "S": S.flip(-1), "V": V.flip(-1), "pi": pi.flip(-1)}
        return self.right(d, differences=differences.flip(0), routing=routing.flip(1), **turned, **rest)

    @equivalent("W₀ cancels where the routing sums to one, so it may be an expert and need not be their mean")
    def first_expert_as_base_of_all(
        self, d: Dims, experts: Tensor, base: Tensor, differences: Tensor, **rest: Tensor
    ) -> Outputs:
        """W₀ is the first expert, and the differences are taken from it."""
        _, factored, fused = self.right(d, experts=experts, base=base, differences=differences, **rest)
        from_first = residual_form(base=experts[0], differences=experts - experts[0], **rest)
        return from_first, factored, fused


def derive(
    d: Dims, x: Tensor, routing: Tensor, base: Tensor, U: Tensor, S: Tensor, V: Tensor, **parts: Tensor
) -> Mapping[str, Tensor]:
    """Derive the experts from W₀ and the factors of the differences, Π's diagonal and the taps of the map."""
    blocks = U.view(d.Co, d.E, d.L), S.view(d.E, d.L), V.view(-1, d.E, d.L)
    differences = torch.einsum("oel,el,nel->eon", *blocks).reshape(d.E, *base.shape)
    columns = F.unfold(x, d.K, padding=d.K // 2).view(d.B, -1, d.H, d.W)
    given = {"x": x, "routing": routing, "base": base, "U": U, "S": S, "V": V, **parts}
    pi = routing.repeat_interleave(d.L, 1)
    return given | {"differences": differences, "experts": base + differences, "columns": columns, "pi": pi}


def residual_form(x: Tensor, base: Tensor, differences: Tensor, routing: Tensor, **_: Tensor) -> Tensor:
    """conv(x, W₀) + conv(x, Σ π_k ΔW_k)."""
    return conv2d.core(x, base) + cond_conv2d.core(x, differences, routing)


def factored_form(
    columns: Tensor, base: Tensor, U: Tensor, S: Tensor, V: Tensor, pi: Tensor, **_: Tensor
) -> Tensor:
    """(W₀ + UΠSVᵀ) at every position, on its K² taps."""
    return dcd_pointwise.core(columns, base.flatten(1), phi=torch.diag_embed(pi * S), P=U, Q=V)


def fusion_as_mixture(
    x: Tensor, base: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, R: Tensor, **_: Tensor
) -> Tensor:
    """conv(x, Σ λ_o (e_o ⊗ W₀[o]) + Σ φ_ijl (P_i ⊗ Q_j ⊗ R_l))."""
    routing = torch.cat([gate, phi.flatten(1)], 1)
    return cond_conv2d.core(x, rows_and_products(base, P, Q, R), routing)


class CondConvResidualFormForAnyRouting(Claim):
    """A mixture of kernels is (Σ π_k)·conv(x, W₀) + conv(x, Σ π_k ΔW_k), whatever the routing sums to.

    Here ΔW_k = W_k − W₀, for any kernel W₀. CondConv's routing is made of sigmoids, so this is its form.
    """

    name = "condconv-residual-form-for-any-routing"
    operators = ("cond_conv2d", "conv2d")
    source = "Yang et al. 2019, NeurIPS, arXiv 1904.04971, section 3: the routing is a sigmoid"
    conditions = {
        "base-weighed": "W₀ is weighed with the sum of the image's routing",
        "one-base-kernel": "the kernel W₀ that is added is the one that was subtracted",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = tuple(d.replace(Co=6, E=3) for d in reversed(grouped_maps()) if d.K == 3)
    complete_shapes = (Dims(B=1, C=2, Co=2, H=1, W=2, K=1, G=1, E=2),)
    corrects = "condconv-residual-form-for-any-routing-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts in groups of channels, any kernel, and any routing."""
        kernel = (d.Co, d.C // d.G, d.K, d.K)
        return {
            "x": (d.B, d.C, d.H, d.W),
            "experts": (d.E, *kernel),
            "base": kernel,
            "routing": (d.B, d.E),
        }

    def given(
        self, d: Dims, x: Tensor, experts: Tensor, base: Tensor, routing: Tensor
    ) -> Mapping[str, Tensor]:
        """Derive the differences and the weight of W₀."""
        weights = {"routing": routing, "total": routing.sum(1)}
        return {"x": x, "experts": experts, "base": base, "differences": experts - base, **weights}

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, **_: Tensor) -> Tensor:
        """Mix the experts."""
        return cond_conv2d.core(x, experts, routing)

    def right(
        self,
        d: Dims,
        x: Tensor,
        base: Tensor,
        differences: Tensor,
        routing: Tensor,
        total: Tensor,
        **_: Tensor,
    ) -> Tensor:
        """Add the mixture of the differences to the weighed W₀."""
        static = total[:, None, None, None] * conv2d.core(x, base)
        return static + cond_conv2d.core(x, differences, routing)

    @mutant(drops="base-weighed")
    def base_once(self, d: Dims, total: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is added once."""
        return self.right(d, total=torch.ones_like(total), **rest)

    @mutant(drops="base-weighed")
    def sum_of_another_image(self, d: Dims, total: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is weighed with the sum of another image's routing."""
        return self.right(d, total=total.roll(1), **rest)

    @mutant(drops="one-base-kernel")
    def first_expert_as_base(self, d: Dims, experts: Tensor, base: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is the first expert, but the differences are still those from another kernel."""
        return self.right(d, experts=experts, base=experts[0], **rest)

    @mutant(sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, **rest: Tensor) -> Tensor:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        return self.right(d, x=with_corner(x), **rest)[..., 1:-1, 1:-1]

    @equivalent("W₀ cancels, so it may be the sum of the experts and need not be their mean")
    def sum_of_experts_as_base(self, d: Dims, experts: Tensor, **rest: Tensor) -> Tensor:
        """W₀ is the sum of the experts, and the differences are taken from it."""
        base = experts.sum(0)
        return self.right(d, **{**rest, "experts": experts, "base": base, "differences": experts - base})


class CondConvResidualFormAsStated(Claim):
    """A mixture of kernels is conv(x, W₀) + conv(x, Σ π_k ΔW_k), in CondConv as in dynamic convolution.

    CondConv's routing is made of sigmoids, which sum to anything between nothing and the number of experts.
    """

    name = "condconv-residual-form-for-any-routing-as-stated"
    expected = "refuted"
    operators = ("cond_conv2d", "conv2d")
    source = (
        "Li et al. 2021, arXiv 2103.08756, section 1, names CondConv and dynamic convolution together, with "
        "attention that sums to one, eq. (1), and takes the residual form of both"
    )
    shapes = CondConvResidualFormForAnyRouting.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts in groups of channels, any kernel, and any routing."""
        return CondConvResidualFormForAnyRouting().variables(d)

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, **_: Tensor) -> Tensor:
        """Mix the experts."""
        return cond_conv2d.core(x, experts, routing)

    def right(self, d: Dims, x: Tensor, experts: Tensor, base: Tensor, routing: Tensor) -> Tensor:
        """Add the mixture of the differences to W₀."""
        return residual_form(x, base, experts - base, routing)
