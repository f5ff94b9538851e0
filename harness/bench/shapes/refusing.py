"""Refusing: where a formula defines nothing, one sentence says so, and nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.bench.dims import Dims
from harness.bench.pages import Scope
from harness.bench.shapes.breach import BreachError, attempt
from harness.paper.errors import SameopError

# A name that no option has.
_UNKNOWN = "no_such_name"


def demand_sentence(scope: Scope, dims: Dims) -> str | None:
    """Return the sentence that refuses these dimensions, None where the formula defines something.

    Raises :class:`BreachError` unless it is one sentence and the inputs are refused by the same one.
    """
    refusal = attempt(scope, dims, "its domain", lambda: scope.refusal(dims))
    if refusal is None:
        attempt(scope, dims, "it is not refused, yet making its inputs", lambda: scope.inputs(dims))
        return None
    if not _is_one_sentence(scope, refusal):
        raise BreachError(scope, dims, f"its refusal is not one sentence: {refusal!r}")
    if (told := _told_by_inputs(scope, dims)) != refusal:
        raise BreachError(scope, dims, f"it is refused by {refusal!r}, its inputs by {told!r}")
    return refusal


def demand_known_names(scope: Scope, dims: Dims) -> None:
    """Raise :class:`BreachError` where an option that goes by names takes one that it does not have."""
    for misnamed in _misnamed(dims):
        if demand_sentence(scope, misnamed) is None:
            raise BreachError(scope, misnamed, "an unknown name is not refused")


def _misnamed(dims: Dims) -> Iterator[Dims]:
    names = [letter for letter, value in dims.items() if isinstance(value, str)]
    return (dims.replace(**{letter: _UNKNOWN}) for letter in names)


def _told_by_inputs(scope: Scope, dims: Dims) -> str | None:
    try:
        attempt(scope, dims, "making its inputs", lambda: scope.inputs(dims))
    except BreachError as breach:
        if isinstance(breach.__cause__, SameopError):
            return str(breach.__cause__)
        raise
    return None


def _is_one_sentence(scope: Scope, text: str) -> bool:
    """Tell whether a refusal begins with the operator, gives a reason, and ends where its sentence ends."""
    begins = text.startswith(scope.operator.name) and not text.endswith((", but .", "..", " ."))
    return begins and re.fullmatch(r"\S(?:(?![.!?]\s+[A-Z])[^\n])*[^.!?]\.", text) is not None
