"""The degree of a tensor in each named input, as a range over its terms, and in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Degree:
    """The lowest and highest degree of any term in each input, and an upper bound of the total degree.

    The total is followed by itself: the terms of x·y + u·v are of degree two, though four inputs occur.
    Zero is homogeneous of every degree, so it leaves the range of what it is added to alone.
    """

    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_zero: bool = False
    total: int = 0

    @classmethod
    def variable(cls, name: str) -> Degree:
        """Return the degree of the input ``name`` itself."""
        return cls({name: (1, 1)}, total=1)

    @classmethod
    def of(cls, constant: Tensor) -> Degree:
        """Return the degree of a constant."""
        return cls(is_zero=constant.numel() == 0 or not bool(constant.any()))

    @property
    def is_constant(self) -> bool:
        """Whether no input occurs."""
        return not any(high for _, high in self.ranges.values())

    def join(self, other: Degree) -> Degree:
        """Return the degree of a sum, or of one tensor beside another."""
        if self.is_zero or other.is_zero:
            return other if self.is_zero else self
        names = {*self.ranges, *other.ranges}
        ranges = {name: _hull(self.range_in(name), other.range_in(name)) for name in names}
        return Degree(ranges, total=max(self.total, other.total))

    def times(self, other: Degree) -> Degree:
        """Return the degree of a product."""
        if self.is_zero or other.is_zero:
            return Degree(is_zero=True)
        names = {*self.ranges, *other.ranges}
        ranges = {name: _add(self.range_in(name), other.range_in(name)) for name in names}
        return Degree(ranges, total=self.total + other.total)

    def range_in(self, name: str) -> tuple[int, int]:
        """Return the lowest and highest degree in one input."""
        return self.ranges.get(name, (0, 0))


def _hull(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return min(a[0], b[0]), max(a[1], b[1])


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]
