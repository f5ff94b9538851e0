"""Local attention seen as a convolution."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Claim, Dims, equivalent, mutant

from ..attention import sliding_attention2d
from ..involution import involution


class SelfAttentionIsInvolution(Claim):
    """Skeleton."""

    name = "skeleton"
    operators = ("sliding_attention2d", "involution")
    source = "Han et al. 2021"
    shapes = (Dims(B=2, M=2, D=2, H=5, W=3, K=3),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        return {"value": (d.B, d.M * d.D, d.H, d.W), "attention": (d.B, d.M, d.H, d.W, d.K**2)}

    def left(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        return sliding_attention2d.core(value, attention)

    def right(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        taps = attention.permute(0, 1, 4, 2, 3).reshape(d.B, d.M, d.K, d.K, d.H, d.W)
        return involution.core(value, taps)

    @mutant()
    def flipped_taps(self, d: Dims, value: Tensor, attention: Tensor) -> Tensor:
        """Taps are flipped."""
        taps = attention.flip(-1).permute(0, 1, 4, 2, 3).reshape(d.B, d.M, d.K, d.K, d.H, d.W)
        return involution.core(value, taps)
