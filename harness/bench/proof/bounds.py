"""Bounds of what an oracle computes: terms and degrees, followed through the same formulas as its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof.degree import Degree, Extremes
from harness.bench.proof.operation import Seen
from harness.bench.proof.oracle import Notes
from harness.bench.proof.refusal import demand_coefficient

Axes = Sequence[int]
# Functions that may be constant, or their argument itself, on more than single points.
_BENT = frozenset({"positive", "is zero", "largest", "is largest"})


@dataclass(frozen=True, eq=False)
class Bound:
    """Terms and degree of a number in a formula; ``value`` where it is an argument of the operation."""

    terms: Tensor
    degree: Degree
    bounds: Bounds
    value: Tensor | None = None

    def __add__(self, other: Bound | float) -> Bound:
        """Follow a sum."""
        other = self._bound(other)
        return self.bounds.make(self.terms + other.terms, self.degree.join(other.degree))

    def __mul__(self, other: Bound | float) -> Bound:
        """Follow a product."""
        other = self._bound(other)
        return self.bounds.make(self.terms * other.terms, self.degree.times(other.degree))

    __sub__ = __rsub__ = __radd__ = __add__
    __rmul__ = __mul__

    def _bound(self, other: Bound | float) -> Bound:
        return other if isinstance(other, Bound) else self.bounds.of_number(other)

    @property
    def shape(self) -> torch.Size:
        """The shape of the tensor."""
        return self.terms.shape

    def clone(self) -> Bound:
        """Return a bound that keeps its terms whatever is written to the tensor."""
        value = None if self.value is None else self.value.clone()
        return Bound(self.terms.clone(), self.degree, self.bounds, value)

    def sum(self, axes: Axes, *, keepdim: bool = False) -> Bound:
        """Follow a sum along axes."""
        return self.bounds.make(self.terms.sum(tuple(axes), keepdim=keepdim), self.degree)

    def flip(self, axes: Axes) -> Bound:
        """Follow a flip."""
        return self.bounds.make(self.terms.flip(tuple(axes)), self.degree)

    def amax(self, axes: Axes, *, keepdim: bool) -> Bound:
        """Follow a choice of one element."""
        return self.bounds.make(self.terms.amax(tuple(axes), keepdim=keepdim), self.degree)


class Bounds(Extremes, Notes):
    """Bounds of an oracle's values: each is a variable as large as an input.

    asked: how many values were asked for, by how deep functions are nested in them. operation: the one
    that is followed.
    """

    operation = ""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[int] = Counter()

    def of(self, argument: Any) -> Any:
        """Return the bound of an argument of an operation that is a tensor; others stay what they are."""
        if isinstance(argument, Seen):
            return Bound(argument.terms, argument.degree, self, argument.value)
        return argument

    def of_number(self, number: float) -> Bound:
        """Return the bound of a plain number."""
        demand_coefficient(self.operation, number)
        terms = torch.tensor(abs(float(number)), dtype=torch.float64)
        return Bound(terms, Degree.of_number(number), self)

    def is_data(self, argument: Any) -> bool:
        """Whether an argument depends on an input."""
        return isinstance(argument, Seen) and not argument.is_constant

    def make(self, terms: Tensor, degree: Degree) -> Bound:
        """Note an intermediate value."""
        self.note_extremes(float(terms.nan_to_num().max()) if terms.numel() else 0.0, degree)
        return Bound(terms, degree, self)

    def value(self, name: str, x: Bound, *, zero: float | None = None, odd: bool = False) -> Bound:
        """Follow :meth:`Oracle.value`."""
        terms = _unless_unwritten(x, torch.ones_like(x.terms))
        if x.value is not None:
            terms = terms.masked_fill(x.value.isneginf(), 0.0)
        if zero == 0:
            terms = terms * (x.terms != 0)
        return self._variable(name, terms, x)

    def same(self, first: Bound, second: Bound) -> bool:
        """Follow :meth:`Oracle.same`."""
        if first.value is None or second.value is None:
            return False
        return torch.equal(first.value, second.value)

    def one(self, like: Bound) -> Bound:
        """Follow :meth:`Oracle.one`."""
        return self.make(torch.ones_like(like.terms), Degree())

    def is_zero(self, x: Bound) -> Bound:
        """Follow :meth:`Oracle.is_zero`; counted as a variable."""
        return self._variable("is zero", torch.ones_like(x.terms), x)

    def positive(self, x: Bound, zero: float) -> Bound:
        """Follow :meth:`Oracle.positive`."""
        return self._variable("positive", _unless_unwritten(x, torch.ones_like(x.terms)), x)

    def member(self, name: str, x: Bound, axes: Axes) -> Bound:
        """Follow :meth:`Oracle.member`."""
        terms = torch.ones_like(x.terms)
        if x.value is not None:
            terms = terms * x.value.isfinite()
        return self._variable(name, _unless_unwritten(x, terms), x)

    def share(self, x: Bound, axis: int, *, empty: bool) -> Bound:
        """Follow :meth:`Oracle.share`."""
        return self.member("softmax", x, [axis])

    def whole(self, name: str, x: Bound, axes: Axes, *, keepdim: bool) -> Bound:
        """Follow :meth:`Oracle.whole`."""
        terms = _unless_unwritten(x, torch.ones_like(x.terms)).amax(tuple(axes), keepdim=keepdim)
        return self._variable(name, terms, x)

    def symbol(self, name: str, like: Bound) -> Bound:
        """Follow :meth:`Oracle.symbol`."""
        self.asked[1] += 1
        return self.make(like.terms.new_ones(()), Degree.variable(name, 1))

    def recall(self, argument: Any, *, in_place: bool = False) -> Any:
        """Return what was noted of an argument."""
        return super().recall(getattr(argument, "value", argument), in_place=in_place)

    def _variable(self, name: str, terms: Tensor, argument: Bound) -> Bound:
        depth = argument.degree.depth + 1
        self.asked[depth] += argument.terms.numel()
        bends = argument.degree.bends or name in _BENT
        return self.make(terms, Degree.variable(name, depth, bends=bends))


def _unless_unwritten(x: Bound, terms: Tensor) -> Tensor:
    return terms.masked_fill(x.terms.isnan(), torch.nan)
