"""The grain of a number: how many binary digits stand behind its point.

A multiple of 2⁻ᵍ is exact in binary, and so is every sum of such numbers that stays below 2⁵³⁻ᵍ.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Fine enough for one over the positions of a map of 256 × 256; decimal fractions are never that coarse.
FINEST = 16


def grain_of(number: float) -> int | None:
    """Return the least g for which number·2ᵍ is an integer, or None where it is too fine."""
    if not math.isfinite(number):
        return None
    grain = float(number).as_integer_ratio()[1].bit_length() - 1
    return grain if grain <= FINEST else None


def grain_of_all(constant: Tensor) -> int | None:
    """Return the finest grain of the elements, or None; minus infinity has none."""
    if not constant.is_floating_point():
        return 0
    finite = constant.detach().double()
    # A finite sum tells that every element is a finite number.
    if math.isfinite(float(finite.sum())) and torch.equal(finite, finite.round()):
        return 0
    finite = finite[~finite.isneginf()]
    if not bool(finite.isfinite().all()):
        return None
    if torch.equal(finite, finite.round()):
        return 0
    if not torch.equal(scaled := finite * 2.0**FINEST, scaled.round()):
        return None
    return max(grain_of(number) or 0 for number in finite.unique().tolist())


def is_power_of_two(number: float) -> bool:
    """Whether a number is ±2ᵏ, so that dividing by it is exact."""
    return math.isfinite(number) and abs(math.frexp(number)[0]) == 0.5


def are_powers_of_two(constant: Tensor) -> bool:
    """Whether every element is ±2ᵏ."""
    return bool((torch.frexp(constant.double())[0].abs() == 0.5).all())
