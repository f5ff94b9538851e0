"""Formulas of arbitrary functions, which take the place of operations that are no polynomials.

A formula is written once and computes either values, where k is an :class:`Oracle`, or their terms and
degrees, where k is :class:`Bounds`; the two have the same methods. What holds for arbitrary functions
holds for the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Formula = Callable[..., Any]


def any_is_data(k: Any, args: Sequence[Any]) -> bool:
    """Whether any argument depends on an input."""
    return any(k.is_data(arg) for arg in args)


def first_is_data(k: Any, args: Sequence[Any]) -> bool:
    """Whether the first argument depends on an input."""
    return bool(k.is_data(args[0]))


def second_is_data(k: Any, args: Sequence[Any]) -> bool:
    """Whether the second argument depends on an input."""
    return len(args) > 1 and bool(k.is_data(args[1]))


@dataclass(frozen=True)
class Function:
    """An operation that a formula takes the place of.

    title: what evidence calls it where it asks for values of an arbitrary function. applies: whether an
    operation is replaced, from what is known of its arguments. in_rows: whether torch lays its result out
    row by row, and not as its first argument is. jumps: whether its result jumps where arguments are equal.
    """

    title: str
    formula: Formula
    applies: Callable[[Any, Sequence[Any]], bool] = first_is_data
    in_rows: bool = False
    jumps: bool = False


@dataclass(frozen=True)
class One:
    """Noted of a number of which a formula knows that it is one."""


def table(functions: Mapping[str, Function]) -> dict[str, Function]:
    """Write a table of functions, of which several may share a line, by the operations of torch."""
    return {f"aten.{name}": function for names, function in functions.items() for name in names.split()}
