"""The degree of a tensor in each named input, as a range over its terms, and in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from harness.bench.proof.grain import grain_of


@dataclass(frozen=True)
class Degree:
    """The lowest and highest degree of any term in each input, and an upper bound of the total degree.

    The total is followed by itself: the terms of x·y + u·v are of degree two, though four inputs occur.
    Zero is homogeneous of every degree, so it leaves the range of what it is added to alone.
    grain: with integers for inputs, every value is a multiple of 2⁻ᵍ. depth: how deep uninterpreted
    functions are nested in it. bends: whether one of them is constant in places, such as a rectifier.
    """

    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_zero: bool = False
    total: int = 0
    grain: int = 0
    depth: int = 0
    bends: bool = False

    @classmethod
    def variable(cls, name: str, depth: int = 0, *, bends: bool = False) -> Degree:
        """Return the degree of the input, or of the value of a function, ``name`` itself."""
        return cls({name: (1, 1)}, total=1, depth=depth, bends=bends)

    @classmethod
    def of(cls, constant: Tensor, grain: int = 0) -> Degree:
        """Return the degree of a constant whose elements are multiples of 2⁻ᵍ."""
        is_zero = constant.numel() == 0 or not bool(constant.any())
        return cls(is_zero=is_zero, grain=0 if is_zero else grain)

    @classmethod
    def of_number(cls, number: float) -> Degree:
        """Return the degree of a plain number; one that is too fine has no grain."""
        return cls(is_zero=number == 0, grain=grain_of(number) or 0)

    @cached_property
    def is_constant(self) -> bool:
        """Whether no input occurs."""
        return not any(high for _, high in self.ranges.values())

    def join(self, other: Degree) -> Degree:
        """Return the degree of a sum, or of one tensor beside another."""
        if self.is_zero or other.is_zero:
            return other if self.is_zero else self
        if self == other:
            return self
        names = {*self.ranges, *other.ranges}
        ranges = {name: _hull(self.range_in(name), other.range_in(name)) for name in names}
        return Degree(
            ranges,
            total=max(self.total, other.total),
            grain=max(self.grain, other.grain),
            depth=max(self.depth, other.depth),
            bends=self.bends or other.bends,
        )

    def times(self, other: Degree) -> Degree:
        """Return the degree of a product."""
        if self.is_zero or other.is_zero:
            return Degree(is_zero=True)
        names = {*self.ranges, *other.ranges}
        ranges = {name: _add(self.range_in(name), other.range_in(name)) for name in names}
        return Degree(
            ranges,
            total=self.total + other.total,
            grain=self.grain + other.grain,
            depth=max(self.depth, other.depth),
            bends=self.bends or other.bends,
        )

    def range_in(self, name: str) -> tuple[int, int]:
        """Return the lowest and highest degree in one input."""
        return self.ranges.get(name, (0, 0))


class Extremes:
    """The largest terms, in units of their grain, the highest degree and the finest grain that occurred."""

    largest = 0.0
    highest_degree = 0
    finest_grain = 0

    def note_extremes(self, terms: float, degree: Degree) -> None:
        """Note an intermediate value."""
        self.highest_degree = max(self.highest_degree, degree.total)
        self.finest_grain = max(self.finest_grain, degree.grain)
        # The exponent is capped where it says "too large" all the same.
        self.largest = max(self.largest, terms * 2.0 ** min(degree.grain, 512))


def _hull(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return min(a[0], b[0]), max(a[1], b[1])


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]
