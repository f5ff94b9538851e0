"""An operation of a program under way: its arguments, and the symbolic values of their elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from harness.bench.proof.symbolic.symbols import UNDECIDED, UNWRITTEN, Symbols

# The numbers of the values that an operation returns, a tensor for each of its results.
Marks = Tensor | Sequence[Tensor]
# The marks are float64 whatever dtype, layout or device the program asks for.
_OF_THE_RESULT = frozenset({"dtype", "layout", "device", "pin_memory", "out"})


@dataclass(frozen=True)
class Marked:
    """A tensor argument and the numbers of its values, as float64."""

    value: Tensor
    marks: Tensor


@dataclass(frozen=True)
class Call:
    """One operation under way: its arguments with every tensor replaced by a :class:`Marked`.

    named: the arguments by their names in the schema, defaults included. Operands of the methods are
    arguments, marks, or numbers of the program.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    named: Mapping[str, Any]
    symbols: Symbols

    @classmethod
    def of(cls, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], symbols: Symbols) -> Call:
        """Name the arguments of an operation."""
        arguments = op._schema.arguments
        named = {argument.name: argument.default_value for argument in arguments}
        named |= dict(zip((argument.name for argument in arguments), args, strict=False))
        return cls(op, args, kwargs, {**named, **kwargs}, symbols)

    @property
    def marked(self) -> list[Marked]:
        """The tensor arguments in order."""
        return [leaf for leaf in tree_flatten((self.args, dict(self.kwargs)))[0] if isinstance(leaf, Marked)]

    def marks(self, operand: Any) -> Tensor:
        """Return the marks of an operand."""
        if isinstance(operand, Marked):
            return operand.marks
        if isinstance(operand, Tensor):
            return operand
        return torch.tensor(float(self.symbols.number(operand)), dtype=torch.float64)

    def indices(self, marked: Marked) -> Tensor:
        """Return the values of indices or of a mask, which must not depend on data."""
        for mark in (UNDECIDED, UNWRITTEN):
            if bool((marked.marks == mark).any()):
                self.symbols.polynomial(mark)  # raises
        return marked.value

    def run(self, replaced: Callable[[Marked], Tensor]) -> Any:
        """Run the operation with other tensors in place of its arguments."""
        kwargs = {name: value for name, value in self.kwargs.items() if name not in _OF_THE_RESULT}
        args, named = tree_map(
            lambda leaf: replaced(leaf) if isinstance(leaf, Marked) else leaf, (self.args, kwargs)
        )
        return self.op(*args, **named)

    def map(self, function: Callable[..., int], *operands: Any) -> Tensor:
        """Apply a function of values to every element of the operands, which are broadcast."""
        several = torch.broadcast_tensors(*map(self.marks, operands))
        self.symbols.ring.spend(several[0].numel())
        keys = list(zip(*(marks.flatten().tolist() for marks in several), strict=True))
        found = {key: function(*map(int, key)) for key in dict.fromkeys(keys)}
        return tensor_of([found[key] for key in keys], several[0].shape)

    def sum(self, first: Any, second: Any, factors: tuple[float, float] = (1, 1)) -> Tensor:
        """Return the sum of two operands, each with a factor."""
        alpha, beta = map(Fraction, factors)
        return self.map(lambda a, b: self.symbols.combination([(alpha, a), (beta, b)]), first, second)

    def product(self, first: Any, second: Any) -> Tensor:
        """Return the product of two operands, element by element."""
        return self.map(self.symbols.product, first, second)

    def contracted(self, first: Tensor, second: Tensor) -> Tensor:
        """Return Σₙ first[…, n]·second[…, n] of marks, both broadcast."""
        first, second = torch.broadcast_tensors(first, second)
        self.symbols.ring.spend(first.numel())
        pairs = zip(rows_of(first), rows_of(second), strict=True)
        products = [self.symbols.sum_of_products(zip(*pair, strict=True)) for pair in pairs]
        return tensor_of(products, first.shape[:-1])


Rule = Callable[[Call], Marks]


def rows_of(marks: Tensor) -> list[list[int]]:
    """Return the numbers along the last axis of marks, one list for each of the other places."""
    count = math.prod(marks.shape[:-1])
    rows: list[list[int]] = marks.reshape(count, -1).long().tolist() if marks.numel() else [[]] * count
    return rows


def tensor_of(numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return numbers as marks of a shape."""
    return torch.tensor(numbers, dtype=torch.float64).reshape(tuple(shape))
