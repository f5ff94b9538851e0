"""A language for claims: two sides, named inputs, conditions, shapes and mutants."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from harness.bench.dims import Dims
from harness.paper.errors import SameopError

Kind = Literal["identity", "inequality", "limit", "negative"]
Side = Literal["given", "left", "right", "lesser", "greater"]
Function = TypeVar("Function", bound=Callable[..., Any])
Outputs = Tensor | tuple[Tensor, ...]
Arguments = Mapping[str, Tensor]


@dataclass(frozen=True)
class Mutant:
    """A nearby statement: the claim with one of its parts replaced.

    drops: the condition that the mutant leaves out, if any. reason: why an equivalent mutant
    still holds; None for one that must be refuted. sparse: the two sides differ in fewer than
    5 % of the outputs.
    """

    name: str
    statement: str
    function: Callable[..., Any]
    side: Side
    drops: str | None
    reason: str | None
    sparse: bool

    @property
    def expected(self) -> Literal["refuted", "holds"]:
        """The verdict that the same check must reach on the mutant."""
        return "holds" if self.reason else "refuted"


@dataclass(frozen=True)
class Lemma:
    """A statement about integers of every size: the conclusion follows from the assumptions.

    Both are formulas of z3. Every assumption has a name and must be needed: a lemma that holds without
    one of them assumes too much.
    """

    assumptions: Mapping[str, Any]
    conclusion: Any


@dataclass(frozen=True)
class StatedLemma:
    """A lemma of a claim before it is written out: its name, its sentence, and what z3 makes of it."""

    name: str
    statement: str
    write: Callable[[Any], Lemma]


class Claim:
    """A statement that two sides are the same function under listed conditions.

    The docstring of a subclass is its statement. A subclass gives

    - ``name``, ``operators``, ``source`` and ``conditions`` (a key and a sentence each);
    - ``shapes``: the dimensions at which it is checked; ``complete_shapes``: smaller ones at which it is
      proved completely, if none of the others is small enough;
    - ``variables(d)``: the free variables and their shapes;
    - ``given(d, **variables)``: what the sides receive, derived from the variables so that the
      conditions hold; the variables themselves unless it is overridden;
    - ``left(d, **given)`` and ``right(d, **given)``: a tensor, or a tuple of tensors for a chain
      of equations;
    - methods marked :func:`mutant` or :func:`equivalent`;
    - methods marked :func:`lemma` where it speaks of index sets, and ``algebra``, the line that follows
      from them.

    ``kind`` says what is stated of the sides. An ``identity`` says that they are the same function, a
    ``limit`` that they are so at the end point, where it is stated. A ``negative`` says that they are not,
    which a counterexample at every shape shows; its mutants make the sides the same. An ``inequality``
    says that ``lesser`` is at most ``greater``, element by element; left and right are then a construction
    that it follows from, and the docstring of ``right`` says how.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "identity"
    expected: ClassVar[Literal["holds", "refuted"]] = "holds"
    operators: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    conditions: ClassVar[Mapping[str, str]] = {}
    shapes: ClassVar[tuple[Dims, ...]] = ()
    complete_shapes: ClassVar[tuple[Dims, ...]] = ()
    algebra: ClassVar[str] = ""
    corrects: ClassVar[str | None] = None

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return the free variables and their shapes."""
        raise NotImplementedError

    def given(self, d: Dims, *_: Any, **variables: Any) -> Arguments:  # noqa: ARG002  # for those who override
        """Derive what both sides receive."""
        return variables

    def left(self, d: Dims, *_: Any, **given: Any) -> Outputs:
        """Compute the left side."""
        raise NotImplementedError

    def right(self, d: Dims, *_: Any, **given: Any) -> Outputs:
        """Compute the right side."""
        raise NotImplementedError

    def lesser(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute the side of an inequality that is at most the other."""
        raise NotImplementedError

    def greater(self, d: Dims, *_: Any, **given: Any) -> Tensor:
        """Compute the side of an inequality that is at least the other."""
        raise NotImplementedError

    def free_numbers(self, d: Dims) -> int:
        """Count the elements of all free variables."""
        return sum(math.prod(shape) for shape in self.variables(d).values())

    @property
    def smallest_shape(self) -> Dims:
        """The dimensions with the fewest free numbers."""
        return min(self.shapes, key=self.free_numbers)

    @property
    def statement(self) -> str:
        """The docstring as one paragraph."""
        # Not inspect.getdoc: a claim does not inherit what another one states.
        return " ".join((type(self).__doc__ or "").split())

    @property
    def mutants(self) -> list[Mutant]:
        """The mutants in the order in which they are written."""
        return [_bound(self, name, value) for name, value in self._marked("__mutant__")]

    @property
    def lemmas(self) -> list[StatedLemma]:
        """The lemmas in the order in which they are written."""
        return [
            StatedLemma(name.replace("_", "-"), _paragraph(value), getattr(self, name))
            for name, value in self._marked("__lemma__")
        ]

    def _marked(self, mark: str) -> list[tuple[str, Any]]:
        members = {name: value for kind in reversed(type(self).__mro__) for name, value in vars(kind).items()}
        return [(name, value) for name, value in members.items() if hasattr(value, mark)]

    def with_mutant(self, mutant: Mutant) -> Claim:
        """Return the claim with one part replaced by the mutant's."""
        changed = type(self)()
        setattr(changed, mutant.side, mutant.function)
        return changed

    def check(self) -> None:
        """Raise :class:`SameopError` where the claim is not stated completely."""
        if not self.statement or not self.source or not self.shapes:
            raise SameopError(
                f"The claim {self.name} lacks a docstring, a source or shapes: "
                "a claim states what holds, who says so and where it is checked."
            )
        if self.lemmas and not self.algebra:
            raise SameopError(
                f"The claim {self.name} has lemmas and no `algebra`: add the line by which it follows."
            )
        dropped = {mutant.drops for mutant in self.mutants if mutant.drops}
        for condition in self.conditions:
            if condition not in dropped:
                raise SameopError(
                    f"No mutant of {self.name} drops the condition {condition!r}: add one, or remove the "
                    "condition if nothing depends on it."
                )
        for condition in sorted(dropped - set(self.conditions)):
            raise SameopError(
                f"A mutant of {self.name} drops {condition!r}, which is no condition of the claim "
                f"({', '.join(self.conditions) or 'it has none'}): name one of these."
            )


def mutant(
    *, drops: str | None = None, side: Side = "right", sparse: bool = False
) -> Callable[[Function], Function]:
    """Mark a method as a wrong statement that the claim's own check must refute.

    It replaces ``side`` and receives what that side receives; its docstring says what is wrong.
    """
    return _marking({"drops": drops, "side": side, "reason": None, "sparse": sparse})


def equivalent(because: str, *, side: Side = "right", sparse: bool = False) -> Callable[[Function], Function]:
    """Mark a method as a different way to write the claim, of which the check must find that it holds.

    A negative claim shows by a ``sparse`` one that its check sees sides that differ at few outputs only.
    """
    return _marking({"drops": None, "side": side, "reason": because, "sparse": sparse})


def lemma(function: Function) -> Function:
    """Mark a method that takes the module z3 and returns a :class:`Lemma`; its docstring is the sentence."""
    function.__lemma__ = True  # type: ignore[attr-defined]  # read back in Claim.lemmas
    return function


def _marking(properties: Mapping[str, Any]) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        function.__mutant__ = properties  # type: ignore[attr-defined]  # read back in Claim.mutants
        return function

    return mark


def _bound(claim: Claim, name: str, function: Any) -> Mutant:
    return Mutant(
        name=name.replace("_", "-"),
        statement=_paragraph(function),
        function=getattr(claim, name),
        **function.__mutant__,
    )


def _paragraph(function: Any) -> str:
    return " ".join((inspect.getdoc(function) or "").split())
