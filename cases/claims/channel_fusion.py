"""Dynamic channel fusion as it is published and as it is released."""

from collections.abc import Mapping

import torch
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..dynamic import dcd_conv2d, dcd_released
from .corners import with_corner


class DcdReleasedLayer(Claim):
    """The released layer of dynamic channel fusion is the paper's with other factors, plus a bias.

    It computes Λ·conv(x, W₀) + P·(N₂(Φz) + z) with z = N₁(Qᵀx), where batch norms with stored statistics
    are N(v) = s·v + t. That is conv(x, W₀ ×₂ Λ + Φ' ×₁ Q' ×₂ P ×₃ R) + P(Φ't₁ + t₂) with Φ' = diag(s₂)Φ + I,
    Q' = Q·diag(s₁), and R one-hot at the centre of the kernel; for a 1×1 kernel R is one.
    """

    name = "dcd-released-layer"
    operators = ("dcd_released", "dcd_conv2d")
    source = (
        "github.com/liyunsheng13/dcd, models/imagenet, and issue 4: “The expression should be "
        "y=p(\\Phi+I)Qx, where 'I' is an identity matrix. It makes the training process more stable.”"
    )
    conditions = {
        "stored-statistics": "both batch norms use stored statistics, not those of the batch",
        "identity": "Φ' holds the identity that the skip around Φ adds",
        "bias": "the shifts of the batch norms add a bias per image",
        "centre-tap": "R picks the centre of the kernel, where the 1×1 residual lies",
    }
    # The largest map first, so that an error at one position is seen where it is rare.
    shapes = (
        Dims(B=2, C=3, Co=4, H=7, W=6, K=3, L=2, stride=1),
        Dims(B=2, C=4, Co=3, H=2, W=5, K=3, L=3, stride=2),
        Dims(B=3, C=4, Co=6, H=5, W=3, K=1, L=2, stride=1),
    )
    complete_shapes = (Dims(B=1, C=1, Co=1, H=1, W=2, K=3, L=2, stride=1),)
    corrects = "dcd-released-layer-as-stated"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ and Φ, the bases, and scale and shift of both batch norms."""
        return {
            "x": (d.B, d.C, d.H, d.W),
            "base": (d.Co, d.C, d.K, d.K),
            "gate": (d.B, d.Co),
            "phi": (d.B, d.L, d.L),
            "P": (d.Co, d.L),
            "Q": (d.C, d.L),
            "scale": (2, d.L),
            "shift": (2, d.L),
        }

    def given(self, d: Dims, **free: Tensor) -> Mapping[str, Tensor]:
        """Derive Φ', Q', R and the bias."""
        phi, P, Q, scale, shift = (free[name] for name in ("phi", "P", "Q", "scale", "shift"))
        merged = scale[1, :, None] * phi + torch.eye(d.L, dtype=phi.dtype)
        bias = torch.einsum("ol,bl->bo", P, merged @ shift[0] + shift[1])
        centre = torch.eye(d.K**2, dtype=phi.dtype)[:, d.K**2 // 2, None]
        return {**free, "merged": merged, "scaled": Q * scale[0], "bias": bias, "R": centre}

    def left(self, d: Dims, **given: Tensor) -> Tensor:
        """Compute the layer as it is released."""
        names = ("x", "base", "gate", "phi", "P", "Q", "scale", "shift")
        return dcd_released.core(*(given[name] for name in names), stride=d.stride)

    def right(self, d: Dims, x: Tensor, base: Tensor, gate: Tensor, **rest: Tensor) -> Tensor:
        """Compute the paper's layer with the other factors, and add the bias."""
        merged, P, scaled, R = (rest[name] for name in ("merged", "P", "scaled", "R"))
        fused = dcd_conv2d.core(x, base, gate, merged[..., None], P, scaled, R, stride=d.stride)
        return fused + rest["bias"][:, :, None, None]

    @mutant(drops="stored-statistics", side="left")
    def statistics_of_the_batch(
        self, d: Dims, x: Tensor, Q: Tensor, scale: Tensor, shift: Tensor, **rest: Tensor
    ) -> Tensor:
        """The first batch norm takes the sum over the batch, in place of its mean, off its input."""
        moved = torch.stack([shift[0] - scale[0] * torch.einsum("bchw,cl->l", x, Q), shift[1]])
        return self.left(d, x=x, Q=Q, scale=scale, shift=moved, **rest)

    @mutant(drops="identity")
    def identity_left_out(
        self, d: Dims, merged: Tensor, phi: Tensor, scale: Tensor, **rest: Tensor
    ) -> Tensor:
        """Φ' is diag(s₂)Φ."""
        return self.right(d, merged=scale[1, :, None] * phi, phi=phi, scale=scale, **rest)

    @mutant(drops="bias")
    def bias_left_out(self, d: Dims, bias: Tensor, **rest: Tensor) -> Tensor:
        """The kernel is right, and nothing is added."""
        return self.right(d, bias=torch.zeros_like(bias), **rest)

    @mutant(drops="centre-tap")
    def tap_before_the_centre(self, d: Dims, R: Tensor, **rest: Tensor) -> Tensor:
        """R picks the tap to the left of the centre."""
        return self.right(d, R=R.roll(-1, 0), **rest)

    @mutant()
    def scale_on_columns(self, d: Dims, merged: Tensor, phi: Tensor, scale: Tensor, **rest: Tensor) -> Tensor:
        """The second batch norm scales what goes into Φ."""
        columns = phi * scale[1] + torch.eye(d.L, dtype=phi.dtype)
        return self.right(d, merged=columns, phi=phi, scale=scale, **rest)

    @mutant()
    def first_norm_left_out(self, d: Dims, scaled: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """Q takes the place of Q'."""
        return self.right(d, scaled=Q, Q=Q, **rest)

    @mutant(sparse=True)
    def corner_repeated(self, d: Dims, x: Tensor, **rest: Tensor) -> Tensor:
        """At one corner of the map the padding repeats the pixel instead of being zero."""
        return self.right(d.replace(stride=1), x=with_corner(x), **rest)[
            ..., 1 : -1 : d.stride, 1 : -1 : d.stride
        ]

    @equivalent("a scale on the rows of Qᵀ may as well stand on the columns of Φ'")
    def first_scale_in_phi(
        self, d: Dims, merged: Tensor, scaled: Tensor, Q: Tensor, scale: Tensor, **rest: Tensor
    ) -> Tensor:
        """Q keeps its scale, and Φ' takes that of the first batch norm."""
        return self.right(d, merged=merged * scale[0], scaled=Q, Q=Q, scale=scale, **rest)


class DcdReleasedLayerAsStated(Claim):
    """The released layer of dynamic channel fusion computes conv(x, W₀ ×₂ Λ + Φ ×₁ Q ×₂ P ×₃ R)."""

    name = "dcd-released-layer-as-stated"
    expected = "refuted"
    operators = ("dcd_released", "dcd_conv2d")
    source = (
        "github.com/liyunsheng13/dcd, issue 1, of the released code: “we use three matrics P \\Phi Q that "
        "contain weight parameters to implement DCD”; Li et al. 2021, arXiv 2103.08756"
    )
    shapes = DcdReleasedLayer.shapes

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the map, W₀, Λ and Φ, the bases, and scale and shift of both batch norms."""
        return DcdReleasedLayer().variables(d)

    def left(self, d: Dims, **variables: Tensor) -> Tensor:
        """Compute the layer as it is released."""
        return DcdReleasedLayer().left(d, **variables)

    def right(
        self, d: Dims, x: Tensor, base: Tensor, gate: Tensor, phi: Tensor, P: Tensor, Q: Tensor, **_: Tensor
    ) -> Tensor:
        """Compute the paper's layer."""
        centre = torch.eye(d.K**2, dtype=x.dtype)[:, d.K**2 // 2, None]
        return dcd_conv2d.core(x, base, gate, phi[..., None], P, Q, centre, stride=d.stride)
