"""Drawings of which inputs one output reads, after figure 1 of Han et al. 2021 (arXiv 2106.04263).

A drawing has two planes of dots, channels in depth and positions across: the inputs below, the outputs
above. Lines lead from one output to all inputs that it reads. The planes show the positions of one row or
column; beside them lies the whole map, where there is more than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

WIDTH, HEIGHT = 320, 150
_PLANES, _MAP = 200, 96
# How far a plane reaches back, across and up, and where the front rows of the two planes lie.
_BACK, _UP, _MARGIN = 46, 34, 6
_OUTPUTS, _INPUTS = 48, 142
_MOST_APART = 18


@dataclass(frozen=True)
class Connections:
    """What one output reads: for every channel and position of a grid whether it does."""

    grid: tuple[int, ...]
    outputs: int
    channel: int
    position: int
    read: Sequence[str]

    @classmethod
    def of(cls, measured: Mapping[str, Any]) -> Connections:
        """Take them from an entry of the document of traits."""
        channel, position = measured["output"]
        return cls(tuple(measured["grid"]), len(measured["channels"]), channel, position, measured["read"])

    @cached_property
    def place(self) -> tuple[int, ...]:
        """The coordinates of the output."""
        return tuple(
            self.position // math.prod(self.grid[axis + 1 :]) % size for axis, size in enumerate(self.grid)
        )

    @cached_property
    def axis(self) -> int:
        """The longest axis, along which the planes are cut."""
        return max(range(len(self.grid)), key=lambda axis: self.grid[axis])

    @property
    def along(self) -> int:
        """Where the output lies on that axis."""
        return self.place[self.axis]

    @cached_property
    def cut(self) -> list[list[bool]]:
        """What is read of the row or column through the output: channel by position."""
        stride = math.prod(self.grid[self.axis + 1 :])
        first = self.position - self.along * stride
        places = range(first, first + self.grid[self.axis] * stride, stride)
        return [[row[place] == "1" for place in places] for row in self.read]

    @cached_property
    def map(self) -> list[list[bool]]:
        """Which positions are read in any channel, row by row."""
        width = self.grid[-1]
        met = [any(row[place] == "1" for row in self.read) for place in range(math.prod(self.grid))]
        return [met[start : start + width] for start in range(0, len(met), width)]

    @property
    def words(self) -> str:
        """The drawing in a sentence."""
        channels = sum("1" in row for row in self.read)
        positions = sum(sum(row) for row in self.map)
        return (
            f"One output reads {positions} of {math.prod(self.grid)} positions "
            f"in {channels} of {len(self.read)} channels."
        )


@dataclass(frozen=True)
class _Plane:
    """Where the dots of a plane lie."""

    front: float
    channels: int
    positions: int

    def at(self, channel: int, position: int) -> tuple[float, float]:
        """Return the place of a dot; the first channel stands in front."""
        depth = channel / max(1, self.channels - 1)
        apart = min(_MOST_APART, (_PLANES - _BACK - 2 * _MARGIN) / max(1, self.positions - 1))
        return _MARGIN + position * apart + depth * _BACK, self.front - depth * _UP

    @property
    def dots(self) -> Iterator[tuple[int, int]]:
        """Every channel with every position."""
        return ((c, p) for c in range(self.channels) for p in range(self.positions))


def draw_connections(shown: Connections) -> str:
    """Return the elements of a drawing of 320 by 150 units."""
    length = shown.grid[shown.axis]
    above = _Plane(_OUTPUTS, shown.outputs, length)
    below = _Plane(_INPUTS, len(shown.read), length)
    output = above.at(shown.channel, shown.along)
    read = [below.at(c, p) for c, p in below.dots if shown.cut[c][p]]
    rest = [below.at(c, p) for c, p in below.dots if not shown.cut[c][p]]
    rest += [above.at(c, p) for c, p in above.dots if (c, p) != (shown.channel, shown.along)]
    start = _point(output)
    parts = [
        _path("wire", "".join(f"M{start}L{_point(point)}" for point in read)),
        _path("dot", _dots(rest)),
        _path("dot read", _dots(read)),
        _path("dot output", _dots([output])),
    ]
    if len(shown.map) > 1:
        parts.append(_draw_map(shown))
    return "".join(parts)


def _draw_map(shown: Connections) -> str:
    """Draw the whole map as cells, right of the planes."""
    rows, columns = len(shown.map), len(shown.map[0])
    side = min(14.0, _MAP / columns, (HEIGHT - 2 * _MARGIN) / rows)
    left, top = WIDTH - _MARGIN - columns * side, (HEIGHT - rows * side) / 2
    cells: dict[bool, list[str]] = {True: [], False: []}
    for row in range(rows):
        for column in range(columns):
            corner = _point((left + column * side, top + row * side))
            cells[shown.map[row][column]].append(_square(corner, side - 1))
    row, column = shown.place
    centre = _square(_point((left + column * side, top + row * side)), side - 1)
    return (
        _path("cell", "".join(cells[False]))
        + _path("cell read", "".join(cells[True]))
        + _path("centre", centre)
    )


def write_connections(shown: Connections) -> list[str]:
    """Return the cut as lines of text, a channel each: ■ where it is read, an output's place beneath ▼."""
    marks = ["".join("■" if read else "·" for read in row) for row in shown.cut]
    return [" " * shown.along + "▼", *marks]


def _path(names: str, data: str) -> str:
    return f'<path class="{names}" d="{data}"/>' if data else ""


def _dots(points: Sequence[tuple[float, float]]) -> str:
    # A line of no length with round ends is a dot, in a quarter of the bytes of a circle.
    return "".join(f"M{_point(point)}h0" for point in points)


def _square(corner: str, side: float) -> str:
    return f"M{corner}h{side:.4g}v{side:.4g}h-{side:.4g}z"


def _point(place: tuple[float, float]) -> str:
    return f"{place[0]:.4g} {place[1]:.4g}"
