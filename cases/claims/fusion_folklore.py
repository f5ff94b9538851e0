"""What is said of dynamic channel fusion (DCD) in numbers and in passing, and what is true of it."""

from collections.abc import Iterable, Mapping
from functools import cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d
from ..dynamic import dcd_pointwise, dcd_released

LI = "Li et al. 2021, ICLR, arXiv 2103.08756"
# All widths up to this one are counted; those of the networks are among them.
WIDTHS = Dims(C=2048)


class DefaultLatentWidth(Claim):
    """The default L = ⌊C/p⌋, p = 2^⌊log₂√C⌋, of C channels has L(L+1) > C and L² < 4C: L² is no less than C.

    Only the outer floor may bring L² below C, by less than L: where p² < C < p² + p and so L = p. Before it,
    C/p ≥ √C, because p ≤ √C.
    """

    name = "default-latent-width"
    kind = "inequality"
    operators = ("dcd_pointwise",)
    source = f"{LI}, section 3, where the default is L = ⌊C/2^⌊log₂√C⌋⌋"
    conditions = {
        "divisor-below-root": "p is at most √C, and more than half of it",
        "rest-lost": "the outer floor may leave L² below C, though not L(L+1)",
    }
    shapes = (WIDTHS,)
    algebra = (
        "For L > p, L² > C; so L² < C leaves L = p, where it says p² < C, and L(L+1) > C says C < p² + p."
    )
    corrects = "default-latent-width-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: every width is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return C + 1, L² + 1, and whether L² < C, for all widths."""
        C, L = widths(d), latent_widths(d)
        return torch.stack([C + 1, L**2 + 1, (L**2 < C).long()])

    def greater(self, d: Dims) -> Tensor:
        """Return L² + L, 4C, and whether p² < C < p² + p, for all widths."""
        C, L, p = widths(d), latent_widths(d), divisors(d)
        return torch.stack([L**2 + L, 4 * C, ((p**2 < C) & (p**2 + p > C)).long()])

    @lemma
    def product_above_the_width(self, z3: Any) -> Lemma:
        """L(L+1) > C, where L is C/p rounded down."""
        p, C, L = z3.Ints("p C L")
        return Lemma(
            {"p is at most the root of C": p * p <= C, "L+1 is more than C/p": (L + 1) * p > C}, L * L + L > C
        )

    @lemma
    def square_below_four_widths(self, z3: Any) -> Lemma:
        """L² < 4C, where L is C/p rounded down."""
        p, C, L = z3.Ints("p C L")
        return Lemma(
            {
                "p is more than half the root of C": 4 * p * p > C,
                "p is at least one": p >= 1,
                "L is at most C/p, and at least one": z3.And(L * p <= C, L >= 1),
            },
            L * L < 4 * C,
        )

    @lemma
    def square_above_the_width(self, z3: Any) -> Lemma:
        """L² > C where L is more than p."""
        p, C, L = z3.Ints("p C L")
        return Lemma(
            {"p is at least one": p >= 1, "L is more than p": p < L, "L+1 is more than C/p": (L + 1) * p > C},
            L * L > C,
        )

    @mutant(drops="divisor-below-root", side="lesser")
    def exponent_rounded_up(self, d: Dims) -> Tensor:
        """The divisor is 2^⌈log₂√C⌉, the next power of two."""
        C = widths(d)
        L = C // (2 * divisors(d))
        return torch.stack([C + 1, L**2 + 1, (L**2 < C).long()])

    @mutant(drops="rest-lost", side="greater", sparse=True)
    def nothing_lost(self, d: Dims) -> Tensor:
        """L² itself is at least C."""
        C, L = widths(d), latent_widths(d)
        return torch.stack([L**2 + 1, 4 * C, torch.ones_like(C)])

    @mutant(side="greater")
    def square_below_two_widths(self, d: Dims) -> Tensor:
        """L² is at most 2C."""
        bounds = self.greater(d)
        return torch.stack([bounds[0], 2 * widths(d), bounds[2]])

    @mutant(side="lesser")
    def square_below_the_width(self, d: Dims) -> Tensor:
        """L² < C is true of all widths."""
        counted = self.lesser(d)
        return torch.stack([counted[0], counted[1], torch.ones_like(counted[2])])

    @equivalent("⌊log₂√C⌋ is half of ⌊log₂C⌋, rounded down, as a root halves a logarithm", side="lesser")
    def exponent_of_the_whole_root(self, d: Dims) -> Tensor:
        """The divisor is the largest power of two in ⌊√C⌋."""
        C = widths(d)
        L = torch.tensor([width >> (isqrt(width).bit_length() - 1) for width in C.tolist()])
        return torch.stack([C + 1, L**2 + 1, (L**2 < C).long()])


class DefaultLatentWidthAsStated(Claim):
    """The default L = ⌊C/2^⌊log₂√C⌋⌋ of C channels satisfies L² < C."""

    name = "default-latent-width-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dcd_pointwise",)
    source = f"{LI}, section 3, asks for L² < C beside its default for L"
    shapes = tuple(Dims(C=C) for C in (64, 96, 128, 255))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: a width is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return L² + 1."""
        return torch.tensor(dcd_pointwise.latent_width(d.C) ** 2 + 1)

    def greater(self, d: Dims) -> Tensor:
        """Return C."""
        return torch.tensor(d.C)


class FusionParameters(Claim):
    """A fused 1×1 layer of C channels has C² + 2CL + (2C+L²)C/r parameters: more than 1 3/16 C² by about 2CL.

    With r = 16 and the default L, 16 times the number lies between 19C² + 31CL and 22C² + 32CL, for L² lies
    between C − L and 4C. For 64 channels it is 1.44 C², for 1024 it is 1.25 C².
    """

    name = "fusion-parameters"
    kind = "inequality"
    operators = ("dcd_pointwise",)
    source = f"{LI}, section 3, which counts C² + 2CL + (2C+L²)C/r"
    conditions = {
        "bases-counted": "P and Q, 2CL weights, are counted",
        "square-above-width": "L² is not C, but up to four times as much",
        "rest-lost": "L² may lie below C, by less than L",
    }
    shapes = (WIDTHS,)
    algebra = "16(C² + 2CL + (2C+L²)C/16) = 18C² + 32CL + L²C, with L² between C − L and 4C."
    corrects = "fusion-parameters-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: every width is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return 19C² + 31CL + 1, and 16 times the parameters and one."""
        C, L = multiples_of_16(d)
        return torch.stack([19 * C**2 + 31 * C * L + 1, sixteenfold_parameters(d) + 1])

    def greater(self, d: Dims) -> Tensor:
        """Return 16 times the parameters, and 22C² + 32CL."""
        C, L = multiples_of_16(d)
        return torch.stack([sixteenfold_parameters(d), 22 * C**2 + 32 * C * L])

    @lemma
    def parameters_between(self, z3: Any) -> Lemma:
        """16 times the parameters are more than 19C² + 31CL and fewer than 22C² + 32CL."""
        parameters, C, L = z3.Ints("parameters C L")
        return Lemma(
            {
                "L(L+1) is more than C": L * L + L > C,
                "L² is less than 4C": L * L < 4 * C,
                "the branch has C/16 hidden units": parameters
                == 16 * C * C + 32 * C * L + (2 * C + L * L) * C,
            },
            z3.And(parameters > 19 * C * C + 31 * C * L, parameters < 22 * C * C + 32 * C * L),
        )

    @mutant(drops="bases-counted", side="greater")
    def bases_left_out(self, d: Dims) -> Tensor:
        """Above, P and Q are not counted."""
        C, _ = multiples_of_16(d)
        return torch.stack([sixteenfold_parameters(d), 22 * C**2])

    @mutant(drops="square-above-width", side="greater")
    def square_is_the_width(self, d: Dims) -> Tensor:
        """Above, L² is C."""
        C, L = multiples_of_16(d)
        return torch.stack([sixteenfold_parameters(d), 19 * C**2 + 32 * C * L + 1])

    @mutant(drops="rest-lost", side="lesser", sparse=True)
    def nothing_lost(self, d: Dims) -> Tensor:
        """Below, L² is C."""
        C, L = multiples_of_16(d)
        return torch.stack([19 * C**2 + 32 * C * L, sixteenfold_parameters(d) + 1])

    @mutant(side="lesser")
    def kernel_counted_twice(self, d: Dims) -> Tensor:
        """The parameters of the static kernel are counted twice."""
        C, L = multiples_of_16(d)
        return torch.stack([35 * C**2 + 31 * C * L, sixteenfold_parameters(d) + 16 * C**2])

    @equivalent("the branch makes the C entries of Λ and the L² of Φ from C/r hidden units", side="greater")
    def counted_by_layers(self, d: Dims) -> Tensor:
        """The weights of W₀, P, Q and the two layers of the branch are added."""
        C, L = multiples_of_16(d)
        layers = C**2 + 2 * C * L + C * (C // 16) + (C // 16) * (C + L**2)
        return torch.stack([16 * layers, 22 * C**2 + 32 * C * L])


class FusionParametersAsStated(Claim):
    """A fused 1×1 layer of C channels has 1 3/16 C² parameters at most, with r = 16 and the default L."""

    name = "fusion-parameters-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dcd_pointwise",)
    source = f"said where the count of {LI} is retold for r = 16, without its term 2CL"
    shapes = tuple(Dims(C=C) for C in (64, 96, 160, 512))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: a width is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return 16 times the parameters."""
        return 16 * torch.tensor(parameters_of(d.C))

    def greater(self, d: Dims) -> Tensor:
        """Return 19C²."""
        return torch.tensor(19 * d.C**2)


class OrderOfFusionDependsOnTheMap(Claim):
    """With as many outputs as inputs, PΦQᵀ is cheaper on the kernel where N(2C+L) ≥ C(C+L), else on the map.

    In multiply-adds, N being the number of positions; the threshold lies between C/2 and C. Neither order is
    the cheaper one in all layers of a network, and a count that takes it in each is not that of one order.
    """

    name = "order-of-fusion-depends-on-the-map"
    kind = "inequality"
    operators = ("dcd_pointwise",)
    source = (
        f"{LI}, whose multiply-adds are those of the cheaper order; released on the map, "
        "github.com/liyunsheng13/dcd, issue 1"
    )
    conditions = {
        "kernel-on-large-maps": "on the kernel where N(2C+L) ≥ C(C+L)",
        "map-on-small-maps": "on the map where N(2C+L) < C(C+L)",
    }
    # All maps of up to so many positions.
    shapes = tuple(Dims(C=C, L=dcd_pointwise.latent_width(C), N=2 * C) for C in (64, 96, 24, 320))
    algebra = "Where N ≥ C the kernel is therefore cheaper, where 2N ≤ C the map."
    corrects = "order-of-fusion-depends-on-the-map-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: every map is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return the count of the order that the rule names, twice, for every number of positions."""
        return chosen(d, large_maps(d))

    def greater(self, d: Dims) -> Tensor:
        """Return the counts of both orders."""
        return torch.stack(counts(d))

    @lemma
    def orders_compared(self, z3: Any) -> Lemma:
        """The kernel takes no more multiply-adds than the map exactly where N(2C+L) ≥ C(C+L)."""
        N, C, L, kernel, on_map = z3.Ints("N C L kernel map")
        return Lemma(
            {
                "there is a latent channel": L >= 1,
                "PΦ, then times Qᵀ": kernel == C * L * L + L * C * C,
                "Qᵀx, Φ, P at N positions": on_map == N * (C * L + L * L + L * C),
            },
            (kernel <= on_map) == (N * (2 * C + L) >= C * (C + L)),
        )

    @lemma
    def threshold_between(self, z3: Any) -> Lemma:
        """N(2C+L) < C(C+L) at N = C/2, and N(2C+L) > C(C+L) at N = C."""
        C, L = z3.Ints("C L")
        half = C * (2 * C + L) < 2 * C * (C + L)
        return Lemma(
            {"there are channels": C >= 1, "there is a latent channel": L >= 1},
            z3.And(half, C * (2 * C + L) > C * (C + L)),
        )

    @mutant(drops="kernel-on-large-maps", side="lesser")
    def map_always(self, d: Dims) -> Tensor:
        """The order is on the map whatever its size."""
        return chosen(d, torch.zeros_like(large_maps(d)))

    @mutant(drops="map-on-small-maps", side="lesser")
    def kernel_always(self, d: Dims) -> Tensor:
        """The order is on the kernel whatever the size of the map."""
        return chosen(d, torch.ones_like(large_maps(d)))

    @mutant(side="lesser", sparse=True)
    def kernel_one_position_early(self, d: Dims) -> Tensor:
        """The order is on the kernel for a map with one position less, too."""
        return chosen(d, torch.cat([large_maps(d)[1:], large_maps(d)[-1:]]))

    @mutant(side="lesser")
    def rule_turned_round(self, d: Dims) -> Tensor:
        """The order is on the kernel for small maps."""
        return chosen(d, ~large_maps(d))


class OrderOfFusionAsStated(Claim):
    """PΦQᵀ takes fewer multiply-adds on the map, in the space of L channels, than on the kernel."""

    name = "order-of-fusion-depends-on-the-map-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dcd_pointwise",)
    source = (
        "svcl.ucsd.edu/projects/dcd, beside a figure of the layer: “High efficient dynamic operation in low "
        "dimensional feature space”"
    )
    shapes = (Dims(C=24, L=6, H=56, W=56), Dims(C=64, L=8, H=56, W=56), Dims(C=96, L=12, H=14, W=14))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return nothing: a layer is counted."""
        return {}

    def lesser(self, d: Dims) -> Tensor:
        """Return the multiply-adds on the map."""
        return torch.tensor(dcd_pointwise.on_features(d.replace(Co=d.C)))

    def greater(self, d: Dims) -> Tensor:
        """Return the multiply-adds on the kernel."""
        return torch.tensor(dcd_pointwise.on_matrix(d.replace(Co=d.C)))


class ReleasedGateReachesTwo(Claim):
    """The released gate Λ = min(max(w + 3, 0), 6)/3 lies between 0 and 2, reaches both, and is one at w = 0.

    It is a hard sigmoid divided by 3 instead of 6. So a layer without Φ gives between nothing and twice its
    static output, and the static output itself where w is zero.
    """

    name = "released-gate-reaches-two"
    kind = "inequality"
    operators = ("dcd_released", "conv2d")
    source = (
        "github.com/liyunsheng13/dcd, models/imagenet/resnet_dcd.py: “return F.relu6(x + 3., "
        "inplace=self.inplace) / 3.”"
    )
    conditions = {
        "thirds": "the clipped number is divided by 3; the hard sigmoid in general use divides by 6",
        "hard": "the gate is zero for all w ≤ −3; a sigmoid never is",
        "one-at-zero": "what the gate adds to w is 3, so that it is one where w is zero",
    }
    shapes = (
        Dims(B=3, C=4, Co=6, H=3, W=4, K=3, L=2, S=2),
        Dims(B=2, C=3, Co=8, H=1, W=5, K=1, L=1, S=3),
        Dims(B=2, C=8, Co=8, H=6, W=7, K=3, L=2, S=4),
    )
    algebra = "Λ is a third of that number, and the output Λ times the static one."
    corrects = "released-gate-reaches-two-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, and the layers that make the gate."""
        return released_variables(d)

    def lesser(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Return the size of the output; nothing; and the output where w is zero."""
        output, neutral = released(d, x, weight, **layers), released(d, x, weight, **without_gate(layers))
        return torch.stack([output.abs(), torch.zeros_like(output), neutral])

    def greater(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Return twice the size of the static output; whether signs agree; and the static output."""
        output, static = released(d, x, weight, **layers), conv2d.core(x, weight)
        return torch.stack([2 * static.abs(), output * static, static])

    @lemma
    def clipped_number(self, z3: Any) -> Lemma:
        """min(max(w + 3, 0), 6) is never below zero nor above six, and three at w = 0."""
        w, clipped = z3.Ints("w clipped")
        return Lemma(
            {"w + 3 is clipped to 0 and 6": clipped == z3.If(w < -3, 0, z3.If(w > 3, 6, w + 3))},
            z3.And(clipped >= 0, clipped <= 6, z3.Implies(w == 0, clipped == 3)),
        )

    @mutant(drops="thirds", side="greater")
    def divided_by_six(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The gate is at most one."""
        output, static = released(d, x, weight, **layers), conv2d.core(x, weight)
        return torch.stack([static.abs(), output * static, static])

    @mutant(drops="hard", side="lesser")
    def never_zero(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The gate is at least a thousandth."""
        sizes = self.lesser(d, x=x, weight=weight, **layers)
        return torch.stack([sizes[0], conv2d.core(x, weight) ** 2 / 1000, sizes[2]])

    @mutant(drops="one-at-zero", side="lesser")
    def two_at_zero(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The gate is two where w is zero."""
        sizes = self.lesser(d, x=x, weight=weight, **layers)
        return torch.stack([sizes[0], sizes[1], 2 * sizes[2]])

    @mutant(side="greater", sparse=True)
    def last_output_divided_by_six(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """The gate of the last output of the last image is at most one."""
        bounds = self.greater(d, x=x, weight=weight, **layers).clone()
        bounds[0, -1, -1] /= 2
        return bounds


class ReleasedGateReachesTwoAsStated(Claim):
    """The gate Λ of dynamic channel fusion is a sigmoid, between 0 and 1, in the released layer as well."""

    name = "released-gate-reaches-two-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("dcd_released", "conv2d")
    source = f"said where {LI} is introduced, and its gate as that of squeeze-and-excitation"
    shapes = ReleasedGateReachesTwo.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, and the layers that make the gate."""
        return released_variables(d)

    def lesser(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Return the size of the output."""
        return released(d, x, weight, **layers).abs()

    def greater(self, d: Dims, x: Tensor, weight: Tensor, **layers: Tensor) -> Tensor:
        """Return the size of the static output."""
        return conv2d.core(x, weight).abs()


def widths(d: Dims) -> Tensor:
    """Return all widths from 1 to C."""
    return torch.arange(1, d.C + 1)


def numbers(values: Iterable[int]) -> Tensor:
    """Return integers as a tensor."""
    return torch.tensor(list(values))


def latent_widths(d: Dims) -> Tensor:
    """Return the default L of all widths from 1 to C."""
    return numbers(dcd_pointwise.latent_width(C) for C in range(1, d.C + 1))


def divisors(d: Dims) -> Tensor:
    """Return 2^⌊log₂√C⌋ for all widths from 1 to C."""
    return numbers(2 ** (isqrt(C).bit_length() - 1) for C in range(1, d.C + 1))


def multiples_of_16(d: Dims) -> tuple[Tensor, Tensor]:
    """Return the widths from 16 to C that r = 16 divides, and the default L of each."""
    C = range(16, d.C + 1, 16)
    return numbers(C), numbers(map(dcd_pointwise.latent_width, C))


@cache
def parameters_of(C: int) -> int:
    """Return the parameters of a fused 1×1 layer of C channels, with r = 16 and the default L."""
    layer = Dims(B=1, C=C, Co=C, H=1, W=1, L=dcd_pointwise.latent_width(C), R=16)
    return dcd_pointwise.module.cost(layer).params


def sixteenfold_parameters(d: Dims) -> Tensor:
    """Return 16 times the parameters of the layers whose widths r = 16 divides."""
    return 16 * numbers(map(parameters_of, range(16, d.C + 1, 16)))


def large_maps(d: Dims) -> Tensor:
    """Return whether N(2C+L) ≥ C(C+L), for 1 to N positions."""
    large: Tensor = torch.arange(1, d.N + 1) * (2 * d.C + d.L) >= d.C * (d.C + d.L)
    return large


def chosen(d: Dims, on_kernel: Tensor) -> Tensor:
    """Return the multiply-adds of PΦQᵀ for 1 to N positions, on the kernel where that is chosen."""
    return torch.where(on_kernel, *counts(d)).expand(2, -1)


@cache
def counts(d: Dims) -> tuple[Tensor, Tensor]:
    """Return the multiply-adds of PΦQᵀ for 1 to N positions, on the kernel and on the map."""
    layers = [Dims(C=d.C, Co=d.C, L=d.L, H=1, W=positions) for positions in range(1, d.N + 1)]
    return numbers(map(dcd_pointwise.on_matrix, layers)), numbers(map(dcd_pointwise.on_features, layers))


def released_variables(d: Dims) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of the map, W₀, and the layers of the released branch, with S hidden units."""
    return {
        "x": (d.B, d.C, d.H, d.W),
        "weight": (d.Co, d.C, d.K, d.K),
        "squeeze": (d.S, d.C),
        "attend": (d.S, d.S),
        "to_gate": (d.Co, d.S),
    }


def without_gate(layers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Set the layer that makes the gate to zero."""
    return {**layers, "to_gate": torch.zeros_like(layers["to_gate"])}


def released(d: Dims, x: Tensor, weight: Tensor, squeeze: Tensor, attend: Tensor, to_gate: Tensor) -> Tensor:
    """Compute the released layer, from the map to the output, with P = 0: nothing but its gate is dynamic."""
    zeros, ones = torch.zeros(2, d.L, dtype=x.dtype), torch.ones(2, d.L, dtype=x.dtype)
    to_phi = torch.zeros(d.L**2, d.S, dtype=x.dtype)
    P, Q = torch.zeros(d.Co, d.L, dtype=x.dtype), torch.zeros(d.C, d.L, dtype=x.dtype)
    return dcd_released.module(
        x, weight, squeeze, attend, to_gate, to_phi, P, Q, gain=ones, shift=zeros, mean=zeros, variance=ones
    )
