"""A survey: of the shapes drawn for a scope, which share is refused, and which share computes and agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.bench.dims import Dims
from harness.bench.pages import Scope
from harness.bench.shapes.breach import BreachError
from harness.bench.shapes.computing import demand_computed
from harness.bench.shapes.drawing import any_shapes, defined_shapes, for_all
from harness.bench.shapes.letters import Value
from harness.bench.shapes.refusing import demand_sentence
from harness.paper.errors import SameopError

# What one scope costs: a refusal takes microseconds, a computation some milliseconds.
REFUSALS, COMPUTATIONS = 60, 30
# A formula that defines nothing at more of the shapes than this is drawn badly, or its domain is an excuse.
MOST_REFUSED = 0.6
# The variable that asks for another number of computations, and where they come from.
VARIABLE = "SAMEOP_SHAPES"
# So many refusals for the table, which tells values that are always refused from chance.
MANY_REFUSALS = 500
_CHANCE = 1e-3


@dataclass
class Refusals:
    """How many shapes were drawn and refused, and how often each value of a letter was."""

    drawn: int = 0
    refused: int = 0
    by_value: dict[tuple[str, Value], list[int]] = field(default_factory=dict)

    def add(self, dims: Dims, *, refused: bool) -> None:
        """Count one shape."""
        self.drawn += 1
        self.refused += refused
        for item in dims.items():
            counts = self.by_value.setdefault(item, [0, 0])
            counts[0] += 1
            counts[1] += refused

    @property
    def share(self) -> float:
        """The share of the shapes that were refused."""
        return self.refused / max(1, self.drawn)

    @property
    def never_defined(self) -> list[str]:
        """The values of letters with which every shape was refused, and not by chance."""
        always = sorted(
            item
            for item, (drawn, refused) in self.by_value.items()
            if drawn == refused and self.share**drawn < _CHANCE
        )
        return [f"{name}={value}" for name, value in always]


@dataclass
class Computations:
    """How many shapes were computed and how many of them agreed; the simplest breach, if there is one."""

    computed: int = 0
    agreed: int = 0
    breach: BreachError | None = None


def survey_refusals(scope: Scope, shapes: int = REFUSALS) -> Refusals:
    """Draw shapes of any kind; raise :class:`BreachError` where a refusal is not one sentence."""
    found = Refusals()
    for_all(
        any_shapes(scope),
        shapes,
        lambda dims: found.add(dims, refused=demand_sentence(scope, dims) is not None),
    )
    return found


def survey_computations(scope: Scope, shapes: int = COMPUTATIONS) -> Computations:
    """Draw shapes for which the formula defines something, and count what computes and agrees."""
    found = Computations()

    def count(dims: Dims) -> None:
        found.computed += 1
        try:
            demand_all(scope, dims)
        except BreachError:
            return
        found.agreed += 1

    for_all(defined_shapes(scope), shapes, count)
    if found.agreed < found.computed:
        try:
            for_all(defined_shapes(scope), shapes, lambda dims: demand_all(scope, dims))
        except BreachError as simplest:
            found.breach = simplest
    return found


def demand_all(scope: Scope, dims: Dims) -> None:
    """Raise :class:`BreachError` unless the shape is refused in one sentence, or computed by all alike."""
    if demand_sentence(scope, dims) is None:
        demand_computed(scope, dims)


def computations_asked(variables: Mapping[str, str]) -> int:
    """Return how many shapes to compute for each scope, or raise :class:`SameopError`."""
    asked = variables.get(VARIABLE, str(COMPUTATIONS))
    if not asked.isdecimal() or int(asked) < 1:
        raise SameopError(f"{VARIABLE} is {asked!r}: give the number of shapes per scope, such as 1000.")
    return int(asked)
