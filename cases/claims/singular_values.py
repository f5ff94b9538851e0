"""What the singular values of a kernel say: how near one of lower rank comes, and what they hold of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness import Claim, Dims, Lemma, equivalent, lemma, mutant

from ..convolution import conv2d, pointwise_conv2d

ECKART = "Eckart and Young 1936, Psychometrika 1(3); Mirsky 1960, Quart. J. Math. 11"
UNIT_ROUNDOFF = 2.0**-53


class TruncatedSvdIsTheBestOfItsRank(Claim):
    """No two pointwise convolutions with r channels between them come nearer to one than its truncated SVD.

    ‖W − UV‖₂ ≥ σ_{r+1}(W) for all U [Co, r] and V [r, C], the truncated SVD among them, which attains it.
    """

    name = "truncated-svd-is-the-best-of-its-rank"
    kind = "inequality"
    operators = ("pointwise_conv2d",)
    source = f"{ECKART}: no matrix of rank r is nearer"
    conditions = {
        "narrow": "there are r channels between the two",
        "unseen": "the direction that shows it is one that V makes zero",
        "next-value": "the bound is the singular value that follows the first r",
    }
    # The one of most outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=6, C=3, Co=4, L=1),
        Dims(B=1, C=4, Co=3, L=2),
        Dims(B=2, C=4, Co=4, L=1),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, L=1),)
    algebra = (
        "x = Σ c_i v_i with Vx = 0 has (W − UV)x = Wx, and of orthonormal v_i, u_i "
        "‖Wx‖² = Σ σ_i² c_i² ≥ σ_{r+1}² Σ c_i² = σ_{r+1}² ‖x‖², term by term"
    )

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the matrix, the two through r = L channels, and L+1 directions for every image."""
        return {
            "W": (d.Co, d.C),
            "U": (d.Co, d.L),
            "V": (d.L, d.C),
            "directions": (d.B, d.C, d.L + 1),
        }

    def given(self, d: Dims, W: Tensor, U: Tensor, V: Tensor, directions: Tensor) -> Mapping[str, Tensor]:
        """Combine the directions of an image so that V makes nothing of it: L equations, L+1 unknowns."""
        x = directions @ null_vector(V @ directions)[..., None]
        return {"W": W, "U": U, "V": V, "x": x[..., None]}

    def left(self, d: Dims, W: Tensor, U: Tensor, V: Tensor, x: Tensor) -> Tensor:
        """Take what the two make off what the one makes."""
        return pointwise_conv2d.core(x, W) - pointwise_conv2d.core(pointwise_conv2d.core(x, V), U)

    def right(self, d: Dims, W: Tensor, x: Tensor, **_: Tensor) -> Tensor:
        """Convolve with the one alone: along x, which may lie among the first L+1 directions, it is all."""
        return pointwise_conv2d.core(x, W)

    def lesser(self, d: Dims, W: Tensor, **_: Tensor) -> Tensor:
        """Return the singular value that follows the first r."""
        values: Tensor = torch.linalg.svdvals(W)
        return values[d.L]

    def greater(self, d: Dims, W: Tensor, U: Tensor, V: Tensor, **_: Tensor) -> Tensor:
        """Return how far the two are off, and how far the truncated SVD is."""
        return self.distances(d, W, U @ V, d.L)

    def distances(self, d: Dims, W: Tensor, other: Tensor, rank: int) -> Tensor:
        """Return the spectral distances of another matrix and of the truncated SVD of a rank."""
        u, s, vh = torch.linalg.svd(W)
        truncated = (u[:, :rank] * s[:rank]) @ vh[:rank]
        return torch.stack([torch.linalg.matrix_norm(W - near, 2) for near in (other, truncated)])

    @lemma
    def every_direction_is_stretched(self, z3: Any) -> Lemma:
        """A direction whose singular value is a ≥ s ≥ 0 adds at least as much as one whose value is s."""
        a, s, c = z3.Reals("a s c")
        return Lemma({"in order": a >= s, "no sign": s >= 0}, a * a * c * c >= s * s * c * c)

    @mutant(drops="narrow", side="greater")
    def one_channel_more(self, d: Dims, W: Tensor, U: Tensor, V: Tensor, **_: Tensor) -> Tensor:
        """The SVD is truncated one rank later."""
        return self.distances(d, W, U @ V, d.L + 1)

    @mutant(drops="unseen", side="given")
    def directions_added(
        self, d: Dims, W: Tensor, U: Tensor, V: Tensor, directions: Tensor
    ) -> Mapping[str, Tensor]:
        """The directions are just added."""
        return {"W": W, "U": U, "V": V, "x": directions.sum(2)[..., None, None]}

    @mutant(drops="next-value", side="lesser")
    def last_kept_value(self, d: Dims, W: Tensor, **_: Tensor) -> Tensor:
        """The bound is the last of the first r."""
        values: Tensor = torch.linalg.svdvals(W)
        return values[d.L - 1]

    @mutant(sparse=True)
    def one_output_less(self, d: Dims, **given: Tensor) -> Tensor:
        """One output of one image is nothing."""
        output = self.right(d, **given)
        output[-1, -1] = 0
        return output


class TruncationErrorIsTheNextSingularValue(Claim):
    """What a truncated SVD misses is the next singular value: ‖W − W_r‖₂ / σ_{r+1} = 1, up to rounding.

    W − W_r makes nothing of the first r right singular vectors, and stretches every other one by its singular
    value, of which σ_{r+1} is the largest. Here W = U·diag(s)·Vᵀ with reflections U and V, up to their
    lengths, so that the matrices are exact.
    """

    name = "truncation-error-is-the-next-singular-value"
    kind = "inequality"
    operators = ("pointwise_conv2d",)
    source = f"{ECKART}: the distance is attained"
    conditions = {
        "largest-kept": "the r largest singular values are kept",
        "orthogonal": "right singular vectors are orthogonal to each other, and so are left ones",
        "rank": "r of them are kept",
    }
    # The one of most entries first, so that an error at one of them is rare.
    shapes = (
        Dims(C=5, Co=6, L=2),
        Dims(C=4, Co=4, L=1),
        Dims(C=6, Co=5, L=4),
    )
    complete_shapes = (Dims(C=2, Co=2, L=1),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what U and V reflect, and the differences of the singular values."""
        return {"left_mirror": (d.Co,), "right_mirror": (d.C,), "steps": (min(d.C, d.Co),)}

    def given(
        self, d: Dims, left_mirror: Tensor, right_mirror: Tensor, steps: Tensor
    ) -> Mapping[str, Tensor]:
        """Let the singular values fall by at least one from each to the next, and be positive."""
        return decomposed(d, reflection(left_mirror), falling(steps), reflection(right_mirror))

    def left(self, d: Dims, W: Tensor, kept: Tensor, V: Tensor, **_: Tensor) -> Tensor:
        """Convolve the right singular vectors with both matrices, and take the difference."""
        x = V.mT[:, :, None, None]  # an image for every vector
        return pointwise_conv2d.core(x, W) - pointwise_conv2d.core(x, kept)

    def right(self, d: Dims, U: Tensor, s: Tensor, V: Tensor, **_: Tensor) -> Tensor:
        """Stretch left singular vectors by the other singular values: no more than by the first of these."""
        values = torch.cat([torch.zeros_like(s[: d.L]), s[d.L :]])
        length = (V * V).sum(0)[: len(s)]
        stretched = (U[:, : len(s)] * (values * length)).mT  # [n, Co]
        rest = stretched.new_zeros(d.C - len(s), d.Co)
        return torch.cat([stretched, rest])[..., None, None]

    def lesser(self, d: Dims, W: Tensor, kept: Tensor, **_: Tensor) -> Tensor:
        """Return by how much the quotient misses one."""
        missed, values = torch.linalg.matrix_norm(W - kept, 2), torch.linalg.svdvals(W)
        quotient: Tensor = missed / values[d.L]
        return (quotient - 1).abs()

    def greater(self, d: Dims, W: Tensor, **_: Tensor) -> Tensor:
        """Return what rounding may do: both matrices are exact, and only their singular values are computed.

        The reflections that reduce a matrix of m by n to its singular values change it by mn units of
        roundoff, a small constant aside, and singular values by no more than that times the largest (Higham,
        Accuracy and Stability of Numerical Algorithms, 2nd ed., section 19.3).
        """
        values: Tensor = torch.linalg.svdvals(W)
        condition: Tensor = 1 + values[0] / values[d.L]
        return float(UNIT_ROUNDOFF * d.Co * d.C) * condition

    @mutant(drops="largest-kept", side="given")
    def smallest_kept(
        self, d: Dims, left_mirror: Tensor, right_mirror: Tensor, steps: Tensor
    ) -> Mapping[str, Tensor]:
        """The singular values rise, so that the smallest are kept."""
        return decomposed(d, reflection(left_mirror), falling(steps).flip(0), reflection(right_mirror))

    @mutant(drops="orthogonal", side="given")
    def sheared_vectors(
        self, d: Dims, left_mirror: Tensor, right_mirror: Tensor, steps: Tensor
    ) -> Mapping[str, Tensor]:
        """The first of the right vectors is added to all others."""
        return decomposed(d, reflection(left_mirror), falling(steps), sheared(reflection(right_mirror)))

    @mutant(drops="rank", side="left")
    def one_kept_more(self, d: Dims, U: Tensor, s: Tensor, V: Tensor, W: Tensor, **rest: Tensor) -> Tensor:
        """One more singular value is kept."""
        kept = decomposed(d.replace(L=d.L + 1), U, s, V)["kept"]
        return self.left(d, W=W, V=V, kept=kept)

    @mutant(sparse=True)
    def one_entry_less(self, d: Dims, **given: Tensor) -> Tensor:
        """One entry of the last vector is nothing."""
        output = self.right(d, **given)
        output[d.L, -1] = 0
        return output


class FirstSingularValuesHoldTheirShare(Claim):
    """The first r of n singular values hold at least r/n of what all hold, summed as they are or squared.

    Of an orthogonal matrix, whose singular values are all the same, they hold no more. The kernels here are
    W = U·diag(s) with reflections U, up to their lengths: right singular vectors are the channels themselves.
    """

    name = "first-singular-values-hold-their-share"
    kind = "inequality"
    operators = ("pointwise_conv2d",)
    source = "from the order of the singular values alone; what kernels hold beyond it has to be measured"
    conditions = {
        "largest-first": "the singular values are in falling order",
        "orthogonal": "left singular vectors are orthogonal to each other",
        "all-counted": "the share is that of r among all n",
    }
    # So many kernels that one of them is few.
    shapes = (
        Dims(B=24, C=4, Co=5, L=2),
        Dims(B=2, C=3, Co=3, L=1),
        Dims(B=2, C=4, Co=4, L=3),
    )
    complete_shapes = (Dims(B=1, C=2, Co=2, L=1),)
    corrects = "first-singular-values-hold-their-share-as-stated"
    algebra = "(n−r)·Σ_{i≤r} σ_i² − r·Σ_{j>r} σ_j² = Σ_{i≤r} Σ_{j>r} (σ_i² − σ_j²) ≥ 0, term by term"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return what the U reflect, and the differences of the singular values."""
        return {"mirror": (d.B, d.Co), "steps": (d.B, d.C)}

    def given(self, d: Dims, mirror: Tensor, steps: Tensor) -> Mapping[str, Tensor]:
        """Decompose the kernels, and those with the same vectors whose singular values are one."""
        return self.both(d, reflection(mirror), falling(steps))

    def both(self, d: Dims, U: Tensor, s: Tensor) -> Mapping[str, Tensor]:
        """Decompose the kernels and those whose singular values are one."""
        V = torch.eye(d.C, dtype=s.dtype)
        even = decomposed(d, U, torch.ones_like(s), V)
        return {**decomposed(d, U, s, V), "even": even["W"], "even_kept": even["kept"]}

    def left(
        self, d: Dims, W: Tensor, kept: Tensor, even: Tensor, even_kept: Tensor, **_: Tensor
    ) -> tuple[Tensor, ...]:
        """Weigh the energy that is kept against that which is not; then both, where values are the same."""
        near, far = (d.C - d.L) * energy(d, kept), d.L * energy(d, W - kept)
        return near - far, (d.C - d.L) * energy(d, even_kept), d.L * energy(d, even - even_kept)

    def right(self, d: Dims, U: Tensor, s: Tensor, **_: Tensor) -> tuple[Tensor, ...]:
        """Add the differences of squares: none is negative, as every kept value is at least every other one.

        Where the singular values are the same, both energies are, so that the share is r/n.
        """
        squares, length = s * s, (U[:, 0] * U[:, 0]).sum(1)
        differences = (squares[:, : d.L, None] - squares[:, None, d.L :]).sum((1, 2))
        same = d.L * (d.C - d.L) * length
        return length * differences, same, same

    def lesser(self, d: Dims, **_: Tensor) -> Tensor:
        """Return the share in number."""
        return torch.tensor(d.L / d.C, dtype=torch.float64)

    def greater(self, d: Dims, W: Tensor, kept: Tensor, **_: Tensor) -> Tensor:
        """Return the share in the sum, then in that of the squares, of what is kept among all."""
        held, values = (torch.linalg.svdvals(matrix) for matrix in (kept, W))
        return torch.stack([held.sum(1) / values.sum(1), held.square().sum(1) / values.square().sum(1)])

    @lemma
    def no_difference_is_negative(self, z3: Any) -> Lemma:
        """Of two values the larger has the larger square, if the smaller is not negative."""
        a, s = z3.Reals("a s")
        return Lemma({"in order": a >= s, "no sign": s >= 0}, a * a - s * s >= 0)

    @mutant(drops="largest-first", side="given")
    def smallest_first(self, d: Dims, mirror: Tensor, steps: Tensor) -> Mapping[str, Tensor]:
        """The singular values rise."""
        return self.both(d, reflection(mirror), falling(steps).flip(1))

    @mutant(drops="orthogonal", side="given")
    def sheared_vectors(self, d: Dims, mirror: Tensor, steps: Tensor) -> Mapping[str, Tensor]:
        """The first of the left vectors is added to all others."""
        return self.both(d, sheared(reflection(mirror)), falling(steps))

    @mutant(drops="all-counted", side="left")
    def share_of_one_more(self, d: Dims, **given: Tensor) -> tuple[Tensor, ...]:
        """The share is that of one more."""
        return self.left(d.replace(L=d.L + 1), **given)

    @mutant(sparse=True)
    def one_kernel_left_out(self, d: Dims, **given: Tensor) -> tuple[Tensor, ...]:
        """The differences of the last kernel are left out."""
        differences, *same = self.right(d, **given)
        return torch.cat([differences[:-1], torch.zeros_like(differences[-1:])]), *same


class FirstSingularValuesHoldTheirShareAsStated(Claim):
    """The first tenth of the singular values of a kernel holds 99 % of what all hold."""

    name = "first-singular-values-hold-their-share-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("conv2d",)
    source = "said where singular values are introduced, of natural images, and carried over to kernels"
    shapes = (Dims(C=10, Co=20, K=1), Dims(C=4, Co=20, K=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the kernel."""
        return {"weight": (d.Co, d.C, d.K, d.K)}

    def lesser(self, d: Dims, **_: Tensor) -> Tensor:
        """Return the share in question."""
        return torch.tensor(0.99, dtype=torch.float64)

    def greater(self, d: Dims, weight: Tensor) -> Tensor:
        """Return the share of the first tenth in the sum, then in that of the squares."""
        reach = d.K // 2
        impulses = torch.eye(d.C, dtype=weight.dtype)[..., None, None]
        responses = conv2d.core(torch.nn.functional.pad(impulses, (reach,) * 4), weight)
        values = torch.linalg.svdvals(responses.transpose(0, 1).flatten(1))  # the kernel, its taps mirrored
        first = -(-len(values) // 10)
        return torch.stack([v[:first].sum() / v.sum() for v in (values, values.square())])


class KernelMatricesNeedSvd(Claim):
    """A kernel has singular values and vectors, square or not; a square one need not have real eigenvectors.

    Of one that turns pairs of channels, W = [[a, −b], [b, a]] in each, ‖Wp − λp‖² = ((a−λ)² + b²)·‖p‖²:
    where b ≠ 0 no direction p is kept by any real λ, so it has no diagonal form. Its singular values are
    easily had: WᵀW = (a² + b²)·I.
    """

    name = "kernel-matrices-need-svd"
    kind = "inequality"
    operators = ("pointwise_conv2d",)
    source = "linear algebra; Li et al. 2021, ICLR, arXiv 2103.08756, section 3, decomposes kernels by SVD"
    conditions = {
        "turning": "the kernel turns a pair of channels",
        "real": "the factor λ is real, and so is the direction",
        "own-pair": "pairs of channels do not meet",
    }
    # The one of most outputs first, so that an error at one of them is rare.
    shapes = (
        Dims(B=2, C=6, H=3, W=4),
        Dims(B=2, C=2, H=1, W=5),
        Dims(B=1, C=4, H=7, W=7),
    )
    complete_shapes = (Dims(B=1, C=2, H=1, W=1),)
    corrects = "kernel-matrices-need-svd-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a direction and a factor for every position, and the entries of the kernel."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "factor": (d.B, 1, d.H, d.W),
            "a": (d.C // 2,),
            "b": (d.C // 2,),
        }

    def given(self, d: Dims, x: Tensor, factor: Tensor, a: Tensor, b: Tensor) -> Mapping[str, Tensor]:
        """Lay the kernel out, pair by pair."""
        return {"x": x, "factor": factor, "a": a, "b": b, "weight": in_pairs(a, -b, b, a)}

    def left(self, d: Dims, x: Tensor, factor: Tensor, weight: Tensor, **_: Tensor) -> tuple[Tensor, Tensor]:
        """Measure how far directions are turned; convolve with the kernel, then with its transpose."""
        output = pointwise_conv2d.core(x, weight)
        return squared(output - factor * x), pointwise_conv2d.core(output, weight.mT)

    def right(
        self, d: Dims, x: Tensor, factor: Tensor, a: Tensor, b: Tensor, **_: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scale lengths: by (a−λ)² + b², which is b² at least; and directions, all by a² + b²."""
        a, b = (entry[:, None, None] for entry in (a, b))
        scale = (a * a + b * b).repeat_interleave(2, 0)
        return ((a - factor) * (a - factor) + b * b) * squared(x), scale * x

    def lesser(self, d: Dims, x: Tensor, b: Tensor, **_: Tensor) -> Tensor:
        """Return b²·‖p‖² of every pair."""
        return b[:, None, None].square() * squared(x)

    def greater(self, d: Dims, x: Tensor, factor: Tensor, weight: Tensor, **_: Tensor) -> Tensor:
        """Return ‖Wp − λp‖² of every pair."""
        return squared(pointwise_conv2d.core(x, weight) - factor * x)

    @mutant(drops="turning", side="given")
    def symmetric_kernel(
        self, d: Dims, x: Tensor, factor: Tensor, a: Tensor, b: Tensor
    ) -> Mapping[str, Tensor]:
        """The kernel is symmetric, [[a, b], [b, a]], and so has a diagonal form."""
        return {"x": x, "factor": factor, "a": a, "b": b, "weight": in_pairs(a, b, b, a)}

    @mutant(drops="real", side="left")
    def imaginary_factor(
        self, d: Dims, x: Tensor, factor: Tensor, weight: Tensor, **_: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The factor is imaginary: it multiplies by turning the pair by 90 degrees."""
        output = pointwise_conv2d.core(x, weight)
        ones, zeros = torch.ones(d.C // 2, dtype=x.dtype), torch.zeros(d.C // 2, dtype=x.dtype)
        by_i = pointwise_conv2d.core(x, in_pairs(zeros, -ones, ones, zeros))
        return squared(output - factor * by_i), pointwise_conv2d.core(output, weight.mT)

    @mutant(drops="own-pair", side="given")
    def all_channels_meet(
        self, d: Dims, x: Tensor, factor: Tensor, a: Tensor, b: Tensor
    ) -> Mapping[str, Tensor]:
        """Every channel is added to the first as well."""
        weight = in_pairs(a, -b, b, a)
        first = torch.cat([torch.ones_like(weight[:1]), torch.zeros_like(weight[1:])])
        return {"x": x, "factor": factor, "a": a, "b": b, "weight": weight + first}

    @mutant(sparse=True)
    def one_position_unscaled(self, d: Dims, **given: Tensor) -> tuple[Tensor, Tensor]:
        """At the last position of the last image lengths and directions are as they were."""
        lengths, directions = self.right(d, **given)
        lengths[-1, :, -1, -1] = squared(given["x"])[-1, :, -1, -1]
        directions[-1, :, -1, -1] = given["x"][-1, :, -1, -1]
        return lengths, directions


class KernelMatricesNeedSvdAsStated(Claim):
    """Kernel matrices are square and have a diagonal form: as many rows as columns, real eigenvalues."""

    name = "kernel-matrices-need-svd-as-stated"
    kind = "inequality"
    expected = "refuted"
    operators = ("conv2d",)
    source = (
        "said where dynamic convolution is decomposed, such as at cnblogs.com/lipoicyclic/p/15857166.html "
        "(“卷积核矩阵都是方阵”, kernel matrices are all square), which holds for 1×1 kernels with as many "
        "outputs as channels"
    )
    shapes = (Dims(C=4, Co=4, K=1), Dims(C=4, Co=4, K=3), Dims(C=4, Co=6, K=1))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the kernel."""
        return {"weight": (d.Co, d.C, d.K, d.K)}

    def lesser(self, d: Dims, weight: Tensor) -> Tensor:
        """Return by how many rows and columns differ, and the largest imaginary part of an eigenvalue."""
        matrix = weight.flatten(1)
        side = min(matrix.shape)
        imaginary = torch.linalg.eigvals(matrix[:side, :side]).imag.abs().max()
        return torch.stack([torch.tensor(float(abs(d.Co - matrix.shape[1])), dtype=matrix.dtype), imaginary])

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Return nothing, twice."""
        return torch.zeros(2, dtype=torch.float64)


class ShearOfChannelsIsNotDiagonalisable(Claim):
    """A shear of channels has one eigenvalue and is no multiple of the identity, so it has no diagonal form.

    W = λI + N with N² = 0, N ≠ 0: here the first half of the outputs reads the second half of the channels
    too. A diagonal form would have λ everywhere on its diagonal, and so would W. Not even complex numbers
    help.
    """

    name = "shear-of-channels-is-not-diagonalisable"
    kind = "negative"
    operators = ("pointwise_conv2d",)
    source = "linear algebra: a Jordan block, as a 1×1 convolution"
    conditions = {"sheared": "some output reads a channel of the other half"}
    # So many channels that one of them is few.
    shapes = (
        Dims(B=2, C=24, H=3, W=4),
        Dims(B=2, C=32, H=1, W=5),
        Dims(B=1, C=22, H=7, W=7),
    )
    algebra = "(W − λI)² = N² = 0, so an eigenvalue μ of W has (μ − λ)² = 0"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, the eigenvalue, and what the outputs read of the other half."""
        return {"x": (d.B, d.C, d.H, d.W), "value": (), "shear": (d.C // 2, d.C // 2)}

    def left(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Tensor:
        """Convolve with the shear."""
        return pointwise_conv2d.core(x, value * torch.eye(d.C, dtype=x.dtype) + self.across(d, shear))

    def right(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Tensor:
        """Multiply by the eigenvalue, as a diagonal form of it would."""
        return value * x

    def across(self, d: Dims, shear: Tensor) -> Tensor:
        """Lay the shear out as a matrix between the halves, [C, C], whose square is zero."""
        return torch.nn.functional.pad(shear, (d.C // 2, 0, 0, d.C // 2))

    @lemma
    def there_is_one_eigenvalue(self, z3: Any) -> Lemma:
        """Where (W−λ)(p, q) = (N q, 0), a direction (p, q) that W scales by μ has μ = λ: one pair for all."""
        p, q, shear, value, scale = z3.Reals("p q shear value scale")
        return Lemma(
            {
                "first scaled": value * p + shear * q == scale * p,
                "second scaled": value * q == scale * q,
                "a direction": z3.Or(p != 0, q != 0),
            },
            scale == value,
        )

    @mutant(drops="sheared", side="given")
    def no_shear(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Mapping[str, Tensor]:
        """No output reads a channel of the other half."""
        return {"x": x, "value": value, "shear": torch.zeros_like(shear)}

    @mutant(drops="sheared", side="given")
    def nothing_to_read(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Mapping[str, Tensor]:
        """The second half of the channels is zero."""
        kept = torch.cat([x[:, : d.C // 2], torch.zeros_like(x[:, d.C // 2 :])], 1)
        return {"x": kept, "value": value, "shear": shear}

    @mutant()
    def shear_taken_along(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Tensor:
        """What the shear adds is added on the other side too."""
        return value * x + pointwise_conv2d.core(x, self.across(d, shear))

    @equivalent("one entry of the shear is enough", side="given", sparse=True)
    def one_entry(self, d: Dims, x: Tensor, value: Tensor, shear: Tensor) -> Mapping[str, Tensor]:
        """One output reads one channel of the other half."""
        alone = torch.zeros_like(shear)
        alone[0, 0] = 1
        return {"x": x, "value": value, "shear": alone}


def null_vector(matrix: Tensor) -> Tensor:
    """Return a vector [..., n+1] that a matrix [..., n, n+1] makes zero: its minors with changing signs."""
    columns = range(matrix.shape[-1])
    minors = [determinant(torch.cat([matrix[..., :j], matrix[..., j + 1 :]], -1)) for j in columns]
    return torch.stack([minor if j % 2 == 0 else -minor for j, minor in enumerate(minors)], -1)


def determinant(matrix: Tensor) -> Tensor:
    """Return the determinants of matrices [..., n, n] of few rows, by Laplace's expansion."""
    if matrix.shape[-1] == 1:
        return matrix[..., 0, 0]
    # A determinant is a row times the vector that the other rows make zero.
    return (matrix[..., 0, :] * null_vector(matrix[..., 1:, :])).sum(-1)


def reflection(mirror: Tensor) -> Tensor:
    """Return reflections [..., n, n] at vectors [..., n], times their squared lengths: m·m·I − 2·m·mᵀ."""
    square = (mirror * mirror).sum(-1)[..., None, None]
    identity = torch.eye(mirror.shape[-1], dtype=mirror.dtype)
    scaled: Tensor = square * identity - 2 * mirror[..., None] * mirror[..., None, :]
    return scaled


def sheared(vectors: Tensor) -> Tensor:
    """Add the first column of a matrix to all others."""
    first = vectors[..., :1]
    others = first.expand(*first.shape[:-1], vectors.shape[-1] - 1)
    return vectors + torch.cat([torch.zeros_like(first), others], -1)


def falling(steps: Tensor) -> Tensor:
    """Return positive numbers [..., n], each larger than the next by one and the square of a step."""
    below = torch.ones(steps.shape[-1], steps.shape[-1], dtype=steps.dtype).tril()
    return ((1 + steps * steps)[..., None] * below).sum(-2)


def decomposed(d: Dims, U: Tensor, s: Tensor, V: Tensor) -> Mapping[str, Tensor]:
    """Compose matrices [..., Co, C] of singular vectors and values, and what the first L of these make."""
    n = s.shape[-1]
    scaled = U[..., :n] * s[..., None, :]
    kept = scaled[..., : d.L] @ V[..., : d.L].mT
    return {"U": U, "s": s, "V": V, "W": scaled @ V[..., :n].mT, "kept": kept}


def energy(d: Dims, matrices: Tensor) -> Tensor:
    """Return of every matrix [Co, C] the sum of its squared responses to an impulse in every channel."""
    impulses = torch.eye(d.C, dtype=matrices.dtype)[..., None, None]
    responses = pointwise_conv2d.core(impulses, matrices.flatten(0, 1)).view(d.C, len(matrices), -1)
    return (responses * responses).sum((0, 2))


def in_pairs(first: Tensor, second: Tensor, third: Tensor, fourth: Tensor) -> Tensor:
    """Lay matrices [[first, second], [third, fourth]], one for each pair of channels, out as [C, C]."""
    rows = torch.stack([torch.stack([first, second], -1), torch.stack([third, fourth], -1)], 1)
    blocks = torch.diag_embed(rows.permute(1, 2, 0))  # [2, 2, C/2, C/2]
    return blocks.permute(2, 0, 3, 1).reshape(2 * len(first), 2 * len(first))


def squared(x: Tensor) -> Tensor:
    """Return the squared length of every pair of channels, [B, C/2, H, W]."""
    return (x * x).view(len(x), -1, 2, *x.shape[2:]).sum(2)
