"""A language for claims: two sides, named inputs, conditions, shapes and mutants."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from harness.bench.dims import Dims
from harness.paper.errors import SameopError

Kind = Literal["identity", "inequality", "limit", "negative"]
Side = Literal["given", "left", "right"]
Function = TypeVar("Function", bound=Callable[..., Any])
Outputs = Tensor | tuple[Tensor, ...]
Arguments = Mapping[str, Tensor]


@dataclass(frozen=True)
class Mutant:
    """A nearby statement: the claim with one of its parts replaced.

    drops: the condition that the mutant leaves out, if any. reason: why an equivalent mutant
    is equal; None for one that must be refuted. sparse: it differs from the truth in fewer than
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


class Claim:
    """A statement that two sides are the same function under listed conditions.

    The docstring of a subclass is its statement. A subclass gives

    - ``name``, ``operators``, ``source`` and ``conditions`` (a key and a sentence each);
    - ``shapes``: the dimensions at which it is checked;
    - ``variables(d)``: the free variables and their shapes;
    - ``given(d, **variables)``: what the sides receive, derived from the variables so that the
      conditions hold; the variables themselves unless it is overridden;
    - ``left(d, **given)`` and ``right(d, **given)``: a tensor, or a tuple of tensors for a chain
      of equations;
    - methods marked :func:`mutant` or :func:`equivalent`.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind] = "identity"
    expected: ClassVar[Literal["holds", "refuted"]] = "holds"
    operators: ClassVar[tuple[str, ...]] = ()
    source: ClassVar[str] = ""
    conditions: ClassVar[Mapping[str, str]] = {}
    shapes: ClassVar[tuple[Dims, ...]] = ()
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

    @property
    def statement(self) -> str:
        """The docstring as one paragraph."""
        # Not inspect.getdoc: a claim does not inherit what another one states.
        return " ".join((type(self).__doc__ or "").split())

    @property
    def mutants(self) -> list[Mutant]:
        """The mutants in the order in which they are written."""
        members = {name: value for kind in reversed(type(self).__mro__) for name, value in vars(kind).items()}
        return [_bound(self, name, value) for name, value in members.items() if hasattr(value, "__mutant__")]

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


def equivalent(because: str, *, side: Side = "right") -> Callable[[Function], Function]:
    """Mark a method as a different way to write the claim that the check must find equal."""
    return _marking({"drops": None, "side": side, "reason": because, "sparse": False})


def _marking(properties: Mapping[str, Any]) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        function.__mutant__ = properties  # type: ignore[attr-defined]  # read back in Claim.mutants
        return function

    return mark


def _bound(claim: Claim, name: str, function: Any) -> Mutant:
    return Mutant(
        name=name.replace("_", "-"),
        statement=" ".join((inspect.getdoc(function) or "").split()),
        function=getattr(claim, name),
        **function.__mutant__,
    )
