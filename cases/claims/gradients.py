"""What reaches the kernels of a mixture, and the bases of dynamic channel fusion, in a backward pass.

Every gradient here is that of any loss: the gradient of the output is a free variable.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..convolution import conv2d, pointwise_conv2d
from ..dynamic import cond_conv2d, dcd_pointwise, dynamic_conv2d
from .fusion import without_last
from .kernel_mixtures import without_last_tap

JOINT = (
    "Li et al. 2021, ICLR, arXiv 2103.08756, section 1, says that small attention scores make the kernels "
    "that they weigh hard to learn"
)


class ExpertGradientCarriesItsWeight(Claim):
    """The gradient of a mixture's expert is that of a static kernel, weighed for every image by π_k.

    ∂ℓ/∂W_k = Σ_b π_k(b) · G_b, where G_b is what image b gives to the kernel of a static convolution for the
    same gradient of the output. So experts of equal weights get equal gradients, whatever they are.
    """

    name = "expert-gradient-carries-its-weight"
    operators = ("dynamic_conv2d", "cond_conv2d", "conv2d")
    source = JOINT
    conditions = {
        "own-weight": "the gradient of expert k carries π_k, not the weight of another expert",
        "per-image": "what an image gives is weighed by its own routing",
    }
    # The map that is smaller than its kernel first, as elsewhere where mixtures are compared.
    shapes = (
        Dims(B=2, C=4, Co=6, H=3, W=4, K=5, G=2, E=3, stride=1),
        Dims(B=3, C=4, Co=6, H=7, W=6, K=3, G=2, E=4, stride=2),
        Dims(B=2, C=4, Co=6, H=1, W=4, K=3, G=2, E=3, stride=1),
        Dims(B=1, C=16, Co=32, H=14, W=14, K=1, G=1, E=4, stride=1),
    )
    complete_shapes = (Dims(B=2, C=1, Co=1, H=1, W=2, K=1, G=1, E=2, stride=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the experts, the routing, and the gradient of the output."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "experts": (d.E, d.Co, d.C // d.G, d.K, d.K),
            "routing": (d.B, d.E),
            "upstream": cond_conv2d.output(d),
        }

    def left(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, upstream: Tensor) -> Tensor:
        """Go back through the mixture."""

        def mixture(every: Tensor) -> Tensor:
            return dynamic_conv2d.core(x, every, routing, stride=d.stride)

        return gradients(mixture, [experts], upstream)[0]

    def right(self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, upstream: Tensor) -> Tensor:
        """Go back through a static convolution of every image, and weigh what comes."""
        return torch.einsum("be,bocuv->eocuv", routing, static_gradients(d, x, experts[0], upstream))

    @mutant(drops="own-weight")
    def weight_of_another_expert(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """The gradient of an expert carries the weight of the next one."""
        return self.right(d, routing=routing.roll(1, 1), **rest)

    @mutant(drops="per-image")
    def routing_of_another_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """What an image gives is weighed by the routing of the next one."""
        return self.right(d, routing=routing.roll(1, 0), **rest)

    @mutant(drops="per-image")
    def weights_of_the_batch(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """What the batch gives is weighed by the sum of its routings."""
        return self.right(d, routing=routing.sum(0).expand_as(routing), **rest)

    @mutant()
    def unweighted(self, d: Dims, routing: Tensor, **rest: Tensor) -> Tensor:
        """The gradient has no weight."""
        return self.right(d, routing=torch.ones_like(routing), **rest)

    @mutant(sparse=True)
    def last_tap_without_gradient(self, d: Dims, **given: Tensor) -> Tensor:
        """The last tap of the last kernel gets no gradient, in every expert."""
        return without_last_tap(self.right(d, **given))

    @equivalent("CondConv mixes alike, and differs in what makes its routing", side="left")
    def mixed_by_cond_conv(
        self, d: Dims, x: Tensor, experts: Tensor, routing: Tensor, upstream: Tensor
    ) -> Tensor:
        """Go back through CondConv."""

        def mixture(every: Tensor) -> Tensor:
            return cond_conv2d.core(x, every, routing, stride=d.stride)

        return gradients(mixture, [experts], upstream)[0]

    @equivalent("the gradient of a kernel does not depend on the kernel, a convolution being linear in it")
    def static_kernel_is_another(self, d: Dims, experts: Tensor, **rest: Tensor) -> Tensor:
        """The static convolution has the last expert as its kernel."""
        return self.right(d, experts=experts[-1:], **rest)


class FactorGradientsCarryTheWeight(Claim):
    """In W₀ + UΠSVᵀ the gradients of U_k and V_k carry the weight π_k, as that of the whole expert does.

    They are those of the static U_kS_kV_kᵀ, weighed for every image: a group of latent channels with a small
    weight is changed little, in both of its factors.
    """

    name = "factor-gradients-carry-the-weight"
    operators = ("dcd_pointwise", "pointwise_conv2d")
    source = JOINT
    conditions = {
        "phi-diagonal": "Φ = ΠS is diagonal, as the decomposition of a mixture has it",
        "blocked-latent-groups": "the L latent channels of expert k lie together, and share its weight",
        "per-image": "what an image gives is weighed by its own routing",
    }
    # So many outputs and latent channels that one entry is a small share.
    shapes = (
        Dims(B=2, C=4, Co=6, H=2, W=5, E=3, L=2),
        Dims(B=3, C=6, Co=4, H=7, W=1, E=2, L=3),
        Dims(B=1, C=12, Co=16, H=7, W=8, E=4, L=4),
    )
    complete_shapes = (Dims(B=2, C=1, Co=1, H=1, W=2, E=2, L=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, U, S, V, the routing, entries beside Φ's diagonal, the output's gradient."""
        latent = d.E * d.L
        return {
            "x": (d.B, d.C, d.H, d.W),
            "base": (d.Co, d.C),
            "U": (d.Co, latent),
            "S": (latent,),
            "V": (d.C, latent),
            "routing": (d.B, d.E),
            "fusion": (d.B, latent, latent),
            "upstream": (d.B, d.Co, d.H, d.W),
        }

    def left(
        self,
        d: Dims,
        x: Tensor,
        base: Tensor,
        U: Tensor,
        S: Tensor,
        V: Tensor,
        routing: Tensor,
        upstream: Tensor,
        **_: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Go back through the fusion with Φ = ΠS to U and to V."""
        phi = torch.diag_embed(routing.repeat_interleave(d.L, 1) * S)
        return factor_gradients(x, base, U, V, phi, upstream)

    def right(
        self,
        d: Dims,
        x: Tensor,
        U: Tensor,
        S: Tensor,
        V: Tensor,
        routing: Tensor,
        upstream: Tensor,
        **_: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Go back through the static USVᵀ for every image, and weigh what comes."""
        weights = routing.repeat_interleave(d.L, 1)
        return weighed_static_gradients(x, U, S, V, weights, upstream)

    @mutant(drops="phi-diagonal", side="left")
    def latent_channels_fused(
        self,
        d: Dims,
        x: Tensor,
        base: Tensor,
        U: Tensor,
        S: Tensor,
        V: Tensor,
        routing: Tensor,
        fusion: Tensor,
        upstream: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Φ is full, as in dynamic channel fusion."""
        phi = torch.diag_embed(routing.repeat_interleave(d.L, 1) * S) + fusion
        return factor_gradients(x, base, U, V, phi, upstream)

    @mutant(drops="blocked-latent-groups")
    def interleaved_groups(
        self,
        d: Dims,
        x: Tensor,
        U: Tensor,
        S: Tensor,
        V: Tensor,
        routing: Tensor,
        upstream: Tensor,
        **_: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Latent channel l has the weight of expert l mod E."""
        return weighed_static_gradients(x, U, S, V, routing.repeat(1, d.L), upstream)

    @mutant(drops="per-image")
    def routing_of_another_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
        """What an image gives is weighed by the routing of the next one."""
        return self.right(d, routing=routing.roll(1, 0), **rest)

    @mutant()
    def weight_squared(self, d: Dims, routing: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
        """Every gradient carries the weight twice."""
        return self.right(d, routing=routing**2, **rest)

    @mutant(sparse=True)
    def last_entry_without_gradient(self, d: Dims, **given: Tensor) -> tuple[Tensor, Tensor]:
        """The last entry of U gets no gradient."""
        first, second = self.right(d, **given)
        return without_last(first), second

    @equivalent("W₀ is static, and nothing reaches the factors through it", side="left")
    def base_left_out(self, d: Dims, base: Tensor, **rest: Tensor) -> tuple[Tensor, Tensor]:
        """There is no W₀."""
        return self.left(d, base=torch.zeros_like(base), **rest)


class UnusedExpertIsNotTrained(Claim):
    """An expert without weight in all images of a batch gets no gradient, nor do its factors.

    A softmax never gives the weight zero; the closer it comes, the closer the gradient is to zero.
    """

    name = "unused-expert-is-not-trained"
    operators = ("dynamic_conv2d", "dcd_pointwise")
    source = JOINT
    conditions = {
        "all-images": "the expert has no weight in any image of the batch",
        "own-weight": "it is the expert's own weight that is zero",
        "loss-alone": "nothing but the loss changes the weights, no weight decay above all",
    }
    shapes = (
        Dims(B=2, C=4, Co=6, H=2, W=5, E=3),
        Dims(B=3, C=6, Co=4, H=7, W=1, E=2),
        Dims(B=2, C=12, Co=16, H=7, W=8, E=4),
    )
    complete_shapes = (Dims(B=2, C=1, Co=1, H=1, W=2, E=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, 1×1 experts, the factors U and V of others, the routing, the output's gradient."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "experts": (d.E, d.Co, d.C),
            "U": (d.Co, d.E),
            "V": (d.C, d.E),
            "routing": (d.B, d.E),
            "upstream": (d.B, d.Co, d.H, d.W),
        }

    def given(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Take all weight off the last expert."""
        return {**rest, "routing": all_but(d.E - 1, d.E) * routing}

    def left(
        self, d: Dims, x: Tensor, experts: Tensor, U: Tensor, V: Tensor, routing: Tensor, upstream: Tensor
    ) -> tuple[Tensor, ...]:
        """Go back to the last expert, and to the last factors of a mixture of kernels U_kV_kᵀ."""

        def mixture(every: Tensor) -> Tensor:
            return dynamic_conv2d.core(x, every[..., None, None], routing)

        (to_experts,) = gradients(mixture, [experts], upstream)
        base, phi = torch.zeros_like(experts[0]), torch.diag_embed(routing)
        to_factors = factor_gradients(x, base, U, V, phi, upstream)
        return to_experts[-1], *(each[:, -1] for each in to_factors)

    def right(self, d: Dims, experts: Tensor, U: Tensor, V: Tensor, **_: Tensor) -> tuple[Tensor, ...]:
        """Return zeros."""
        return torch.zeros_like(experts[-1]), torch.zeros_like(U[:, -1]), torch.zeros_like(V[:, -1])

    @mutant(drops="all-images", side="given")
    def weight_in_one_image(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """In the first image the last expert has a weight."""
        others = all_but(d.E - 1, d.E) * routing[1:]
        return {**rest, "routing": torch.cat([routing[:1], others])}

    @mutant(drops="own-weight", side="given")
    def another_expert_unused(self, d: Dims, routing: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """It is the first expert that has no weight."""
        return {**rest, "routing": all_but(0, d.E) * routing}

    @mutant(drops="loss-alone")
    def weights_decayed(
        self, d: Dims, experts: Tensor, U: Tensor, V: Tensor, **_: Tensor
    ) -> tuple[Tensor, ...]:
        """Weight decay adds the weights themselves."""
        return experts[-1], U[:, -1], V[:, -1]

    @mutant(drops="loss-alone", sparse=True)
    def last_weight_decayed(self, d: Dims, experts: Tensor, **rest: Tensor) -> tuple[Tensor, ...]:
        """Weight decay is applied to the last weight alone."""
        zeros = self.right(d, experts=experts, **rest)
        decayed = F.pad(experts[-1, -1:, -1:], (d.C - 1, 0, d.Co - 1, 0))
        return zeros[0] + decayed, *zeros[1:]

    @equivalent(
        "the other experts may be anything, as the gradient of one does not depend on them", side="left"
    )
    def other_experts_left_out(self, d: Dims, experts: Tensor, **rest: Tensor) -> tuple[Tensor, ...]:
        """All experts are zero."""
        return self.left(d, experts=torch.zeros_like(experts), **rest)


class ZeroCoefficientStopsNoGradient(Claim):
    """In dynamic channel fusion a coefficient φ_ij = 0 stops neither the gradient of P_i nor that of Q_j.

    Each column of P meets a row of Φ, and each column of Q a column: only where all of its L coefficients are
    zero does nothing reach it. In a mixture, where Φ is diagonal, one zero is enough.
    """

    name = "zero-coefficient-stops-no-gradient"
    kind = "negative"
    operators = ("dcd_pointwise",)
    source = (
        "Li et al. 2021, ICLR, arXiv 2103.08756, section 3, where every column of P and Q belongs to several "
        "coefficients of Φ, against the difficulty of joint optimisation"
    )
    conditions = {
        "full-fusion": "Φ is full; a diagonal one has no other coefficient in the row or the column",
        "others-left": "the other coefficients of the row and of the column are not zero",
    }
    # So many outputs that one of them is a small share.
    shapes = (
        Dims(B=2, C=4, Co=24, H=2, W=3, L=3),
        Dims(B=3, C=5, Co=22, H=1, W=4, L=2),
        Dims(B=2, C=16, Co=32, H=7, W=6, L=4),
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Φ, P and Q, and the gradient of the output."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "base": (d.Co, d.C),
            "phi": (d.B, d.L, d.L),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
            "upstream": (d.B, d.Co, d.H, d.W),
        }

    def given(self, d: Dims, phi: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Set the first coefficient to zero, in all images."""
        first = 1 - all_but(0, d.L)
        return {**rest, "phi": phi * (1 - first[:, None] * first)}

    def left(
        self, d: Dims, x: Tensor, base: Tensor, phi: Tensor, P: Tensor, Q: Tensor, upstream: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Go back to the first column of P and that of Q."""
        to_P, to_Q = factor_gradients(x, base, P, Q, phi, upstream)
        return to_P[:, 0], to_Q[:, 0]

    def right(self, d: Dims, P: Tensor, Q: Tensor, **_: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros."""
        return torch.zeros_like(P[:, 0]), torch.zeros_like(Q[:, 0])

    @mutant(drops="full-fusion", side="given")
    def diagonal_phi(self, d: Dims, phi: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """Φ is diagonal, as in a mixture, and its first coefficient is zero."""
        diagonal = phi.diagonal(dim1=1, dim2=2) * all_but(0, d.L)
        return {**rest, "phi": torch.diag_embed(diagonal)}

    @mutant(drops="others-left", side="given")
    def whole_row_and_column(self, d: Dims, phi: Tensor, **rest: Tensor) -> Mapping[str, Tensor]:
        """All coefficients of the first row and of the first column are zero."""
        others = all_but(0, d.L)
        return {**rest, "phi": phi * others[:, None] * others}

    @mutant()
    def others_counted(self, d: Dims, **given: Tensor) -> tuple[Tensor, Tensor]:
        """What comes through the other coefficients is counted, in place of nothing."""
        return through_others(**given)

    @equivalent("one entry that is not counted is enough of a difference", sparse=True)
    def last_entry_not_counted(self, d: Dims, **given: Tensor) -> tuple[Tensor, Tensor]:
        """What comes through the other coefficients is counted, but for the last output."""
        to_P, to_Q = through_others(**given)
        return without_last(to_P), to_Q


def through_others(
    x: Tensor, phi: Tensor, P: Tensor, Q: Tensor, upstream: Tensor, **_: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the first columns of P and Q get through all coefficients but the first."""
    read = torch.einsum("cj,bchw->bjhw", Q[:, 1:], x)
    fed = torch.einsum("oi,bohw->bihw", P[:, 1:], upstream)
    to_P = torch.einsum("bohw,bj,bjhw->o", upstream, phi[:, 0, 1:], read)
    return to_P, torch.einsum("bchw,bi,bihw->c", x, phi[:, 1:, 0], fed)


def gradients(
    function: Callable[..., Tensor], arguments: Sequence[Tensor], upstream: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients that a function's arguments get where its output gets ``upstream``."""
    with torch.enable_grad():
        leaves = [at if at.requires_grad else at.detach().requires_grad_() for at in arguments]
        # With a graph, so that a certificate may go back through these gradients in turn.
        return torch.autograd.grad(function(*leaves), leaves, upstream, create_graph=True)


def static_gradients(d: Dims, x: Tensor, kernel: Tensor, upstream: Tensor) -> Tensor:
    """Return the gradients [B, Co, C/G, K, K] that single images give to a static kernel."""
    images = zip(x.split(1), upstream.split(1), strict=True)
    found = [
        gradients(partial(conv2d.core, image, stride=d.stride), [kernel], given) for image, given in images
    ]
    return torch.stack([kernels for (kernels,) in found])


def weighed_static_gradients(
    x: Tensor, U: Tensor, S: Tensor, V: Tensor, weights: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """Weigh the gradients that single images give to the columns of a static kernel USVᵀ; weights [B, ·]."""

    def apply(image: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return pointwise_conv2d.core(image, (left * S) @ right.t())

    images = zip(x.split(1), upstream.split(1), strict=True)
    found = [gradients(partial(apply, image), [U, V], given) for image, given in images]
    first, second = (torch.stack(images) for images in zip(*found, strict=True))
    return torch.einsum("bl,bol->ol", weights, first), torch.einsum("bl,bcl->cl", weights, second)


def factor_gradients(
    x: Tensor, base: Tensor, P: Tensor, Q: Tensor, phi: Tensor, upstream: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of P and of Q in dynamic channel fusion without a gate."""
    to_P, to_Q = gradients(partial(fuse, x, base, phi), [P, Q], upstream)
    return to_P, to_Q


def fuse(x: Tensor, base: Tensor, phi: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """Fuse channels without a gate."""
    return dcd_pointwise.core(x, base, phi=phi, P=P, Q=Q)


def all_but(index: int, count: int) -> Tensor:
    """Return ones [count] with a zero at one index."""
    return 1 - torch.eye(count, dtype=torch.float64)[index]
