"""Traits by probing: what an operator's program shows of connections, sharing, dynamics, rank and degree.

The Jacobian of the output in the first activation, whatever made the weights being held fixed, shows which
inputs an output reads, which weights are equal, and their ranks. It is taken at constant maps, so that an
operator that bends every position alike, as a ReLU does, shows equal slopes where it is one function.
Everything else is drawn, several times: what is zero or equal in all draws is so as a function. A core's
linear generator shows whether the weights follow the input, and of which degree the output is in it.

A polynomial with integer coefficients gets integers small enough for nothing to round, so zeros and
equalities are exact. Elsewhere entries that differ by less than a billionth of the largest are equal: on
maps this small rounding in float64 reaches 1e-13 of it, and numbers that are not equal miss by far more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.pages import Operator
from harness.bench.proof.composed import Subject
from harness.bench.proof.pattern import (
    Rank,
    name_channels,
    name_space,
    offsets_of,
    rank_over_channels,
    rank_over_space,
    shares_positions,
    widest_sharing,
)
from harness.bench.traits import Traits

# Of Han et al.'s operators local attention with linear logits has the highest degree, three.
HIGHEST_DEGREE = 6
_DRAWS = 2
_ROUNDED = 1e-9
_FIELDS = ("space", "channels", "sharing", "dynamic", "low_rank", "degree")


@dataclass(frozen=True)
class Probed:
    """The traits that an operator's program shows, and what they were read from.

    space, channels, sharing, dynamic, low_rank, degree: as :class:`Traits` has them; space and channels
    may also be ``irregular``, which of space no page can declare.
    grid: the sizes of the map, N positions in all. positions: whether an output position reads an input
    position, [N, N]; pairs: the same of channels, [Co, C]. output: a channel and a position in the middle;
    read: which channels and positions that output reads, [C, N].
    width: of how many adjacent channels the weights are equal, one where channels are mixed.
    ranks: the largest rank along ``space`` and ``channels``, beside the full one. change: by how much the
    weights differ between two inputs, as a share of the largest; None without a generator. differences:
    the largest finite difference along a line of inputs, of every order from one on. exact: whether
    nothing rounded.
    """

    operator: str
    scope: str
    dims: Dims
    space: str
    channels: str
    sharing: tuple[str, ...]
    dynamic: str
    low_rank: tuple[str, ...]
    degree: int | None
    grid: tuple[int, ...]
    positions: Tensor
    pairs: Tensor
    output: tuple[int, int]
    read: Tensor
    width: int
    ranks: Mapping[str, Rank]
    change: float | None
    differences: tuple[float, ...]
    exact: bool

    def as_dict(self) -> dict[str, Any]:
        """Return the traits as JSON has them."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def contradicts(self, declared: Traits) -> list[str]:
        """Name the declared traits that the program does not have."""
        found = self.as_dict()
        return [name for name, value in declared.as_dict().items() if found[name] != value]


def probe(operator: Operator) -> Probed:
    """Measure every trait of an operator: of its core where it has one, else of its only scope.

    Raises :class:`SameopError` where there is nothing to probe, or where a probe would tell nothing.
    """
    subject = Subject.of(operator)
    drawn = [subject.jacobians(subject.free.draw(f"draw {number}")) for number in range(_DRAWS)]
    jacobians = [jacobian for pair in drawn for jacobian in pair]
    exact = subject.scope.polynomial
    offsets = offsets_of(subject.grid)
    connected = torch.stack([j.abs() > _tolerance(j, exact) for j in jacobians]).any(0)
    positions, pairs = connected.any(2).any(0), connected.any(3).any(1)
    channels = name_channels(pairs)
    width = math.gcd(*(widest_sharing(j, _tolerance(j, exact)) for j in jacobians))
    width = width if channels == "own" else 1
    ranks = {
        "space": max((rank_over_space(j, pairs) for j in jacobians), key=lambda rank: rank.found),
        "channels": max((rank_over_channels(j, positions) for j in jacobians), key=lambda rank: rank.found),
    }
    dynamic, change = _dynamic(subject, offsets, exact)
    degree, differences = _degree(subject, exact)
    output = pairs.shape[0] // 2, _middle(subject.grid)
    return Probed(
        operator=operator.name,
        scope=subject.scope.name,
        dims=subject.dims,
        space=name_space(positions, offsets),
        channels=channels,
        sharing=_sharing(_all_share_positions(jacobians, offsets, exact), width, pairs.shape[1]),
        dynamic=dynamic,
        low_rank=tuple(axis for axis, rank in ranks.items() if rank.is_low),
        degree=degree,
        grid=subject.grid,
        positions=positions,
        pairs=pairs,
        output=output,
        read=connected[output],
        width=width,
        ranks=ranks,
        change=change,
        differences=differences,
        exact=exact,
    )


def _sharing(positions: bool, width: int, channels: int) -> tuple[str, ...]:
    held = {"positions": positions, "channels": width == channels, "groups": 1 < width < channels}
    return tuple(name for name, holds in held.items() if holds)


def _all_share_positions(jacobians: list[Tensor], offsets: Tensor, exact: bool) -> bool:
    return all(shares_positions(j, offsets, _tolerance(j, exact)) for j in jacobians)


def _tolerance(jacobian: Tensor, exact: bool) -> float:
    return 0.0 if exact else _ROUNDED * float(jacobian.abs().max())


def _middle(grid: tuple[int, ...]) -> int:
    """Return the position in the middle of the grid."""
    position = 0
    for size in grid:
        position = position * size + size // 2
    return position


def _dynamic(subject: Subject, offsets: Tensor, exact: bool) -> tuple[str, float | None]:
    """Tell whether the weights follow the input, by those of two inputs, and by how much they differ."""
    if subject.scope.linear_generator is None:
        return "static", None
    inputs = subject.composed.draw("parameters")
    pairs = []
    for number in range(_DRAWS):
        image = subject.composed.draw(f"image {number}")[subject.activation]
        pairs.append(subject.jacobians(subject.generate({**inputs, subject.activation: image})))
    jacobians = [jacobian for pair in pairs for jacobian in pair]
    largest = max(float(j.abs().max()) for j in jacobians)
    difference = max(float((a - b).abs().max()) for a, b in zip(*pairs, strict=True))
    change = difference / largest if largest else 0.0
    if change <= (0.0 if exact else _ROUNDED):
        return "static", change
    return "per image" if _all_share_positions(jacobians, offsets, exact) else "per position", change


def _degree(subject: Subject, exact: bool) -> tuple[int | None, tuple[float, ...]]:
    """Return the degree along a line of inputs, and the largest finite difference of every order.

    Of a polynomial of degree n all differences of a higher order vanish. None where the highest order that
    is looked at does not.
    """
    orders, name = HIGHEST_DEGREE + 1, subject.activation
    # To both sides of the start, so that the line crosses the kinks of a piecewise linear function.
    steps = range(-(orders // 2), orders - orders // 2 + 1)
    inputs, other = (subject.composed.draw_line(what, max(steps), orders) for what in ("start", "direction"))
    start, direction = inputs[name], other[name]
    with torch.no_grad():
        line = torch.stack(
            [subject.composed.compute({**inputs, name: start + step * direction}) for step in steps]
        )
    limit = 0.0 if exact else _ROUNDED * float(line.abs().max())
    differences = []
    for _ in range(orders):
        line = line.diff(dim=0)
        differences.append(float(line.abs().max()))
    present = [order for order, largest in enumerate(differences, start=1) if largest > limit]
    degree = max(present, default=0)
    return degree if degree <= HIGHEST_DEGREE else None, tuple(differences)
