"""An operation under way: what is known of its arguments, and what a rule says of its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof.degree import Degree
from harness.bench.proof.nesting import leaves, mapped


@dataclass(frozen=True)
class Facts:
    """What torch says of an operation: its name, such as ``aten.mul``, and what it may do.

    written: position and name of every argument that it writes into. op: the operation itself, which lives
    as long as what is known of it.
    """

    op: Any
    name: str
    is_random: bool
    is_mutable: bool
    written: tuple[tuple[int, str], ...]


def facts_of(op: Any) -> Facts:
    """Return what torch says of an operation; programs call few operations, and those many times."""
    # By identity, as torch computes the hash of an operation anew each time.
    known = _FACTS.get(id(op))
    if known is None:
        known = _FACTS[id(op)] = _read(op)
    return known


_FACTS: dict[int, Facts] = {}


def _read(op: Any) -> Facts:
    schema = op._schema
    return Facts(
        op,
        str(op.overloadpacket),
        torch.Tag.nondeterministic_seeded in op.tags,
        schema.is_mutable,
        tuple(
            (position, argument.name)
            for position, argument in enumerate(schema.arguments)
            if argument.alias_info is not None and argument.alias_info.is_write
        ),
    )


# These three are not frozen: that takes most of the time of making one, and every operation needs several.
@dataclass(slots=True)
class Seen:
    """A tensor argument of an operation together with what is known of it."""

    value: Tensor
    terms: Tensor
    degree: Degree
    roundings: float

    @property
    def is_constant(self) -> bool:
        """Whether it depends on no input."""
        return self.degree.is_constant


def described(name: str, args: Any, kwargs: Any) -> str:
    """Return an operation of that name with every argument that is no tensor."""
    return f"{name}{[repr(leaf) for leaf in leaves((args, kwargs)) if not isinstance(leaf, Tensor)]}"


def whole_memory(tensor: Tensor) -> Tensor:
    """Return all elements that the memory of a tensor holds: other views of it may follow."""
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.detach().as_strided((count,), (1,), 0)


@dataclass(slots=True)
class Effect:
    """What a rule says of the outputs of an operation, one entry per tensor that it returns."""

    terms: Sequence[Tensor | None]
    degrees: Sequence[Degree]
    roundings: float


Rule = Callable[[Any, "Call"], Effect]


@dataclass(eq=False)
class Call:
    """One operation under way: its arguments with every tensor replaced by a :class:`Seen`.

    unit: the unit roundoff of the dtype that is analysed; exact: only coefficients k·2⁻ᵍ are allowed.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    unit: float
    exact: bool

    @cached_property
    def seen(self) -> list[Seen]:
        """The tensor arguments in order."""
        return [leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Seen)]

    def on_terms(self) -> Any:
        """Run the same operation on the shadows in place of the values."""
        return self._on(_terms)

    def on_ones(self) -> Any:
        """Run the same operation on ones: where it sums, the result is the number of terms."""
        return self._on(lambda leaf: torch.ones_like(leaf.terms) if _is_float(leaf) else _terms(leaf))

    def _on(self, view: Callable[[Any], Any]) -> Any:
        # The shadows are float64 whatever dtype the program asks for.
        kwargs = {name: mapped(view, value) for name, value in self.kwargs.items() if name != "dtype"}
        return self.op(*mapped(view, self.args), **kwargs)


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Seen) and leaf.value.is_floating_point()


def _terms(leaf: Any) -> Any:
    if not isinstance(leaf, Seen):
        return leaf
    return leaf.terms if _is_float(leaf) else leaf.value
