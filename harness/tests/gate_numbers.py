"""Numbers of processes as they might come, for the tests of a gate's rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.paper.gate.outcome import TwinNumber

KINDS = ("normal", "heavy tails", "modes", "rare modes")


def draw(rng: np.random.Generator, kind: str, spread: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw logarithms of ratios of unchanged code, with mean 0 and this standard deviation.

    Student's t with 3 degrees has a kurtosis without bound. Modes: each side has one of two, which a process
    takes evenly or one time in twenty; nine tenths of the variance are theirs.
    """
    found: NDArray[np.float64]
    if kind == "normal":
        found = rng.standard_normal(shape)
    elif kind == "heavy tails":
        found = rng.standard_t(3, shape) / np.sqrt(3)
    else:
        share = 0.5 if kind == "modes" else 0.05
        sides = (rng.random((2, *shape)) < share).astype(float)
        distance = np.sqrt(0.9 / (2 * share * (1 - share)))
        found = distance * (sides[0] - sides[1]) + np.sqrt(0.1) * rng.standard_normal(shape)
    found *= spread
    return found


def twins(
    rng: np.random.Generator,
    count: int,
    slowdown: float,
    spread: float,
    wall: float | None = None,
    has_cpu: bool = True,
) -> list[TwinNumber]:
    """Draw numbers of processes of which head is slower by a share; wall: by the wall, where it differs."""
    cpu = np.log1p(slowdown) + rng.normal(0, spread, count)
    walls = np.log1p(slowdown if wall is None else wall) + rng.normal(0, max(spread, 0.01), count)
    return [
        TwinNumber(float(own) if has_cpu else None, float(other), 20, 0.01, 1e-3)
        for own, other in zip(cpu, walls, strict=True)
    ]
