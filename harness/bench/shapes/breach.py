"""A breach: a shape at which a page does not do what it promises, told in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harness.bench.dims import Dims
from harness.bench.pages import Scope

Result = TypeVar("Result")


class BreachError(AssertionError):
    """What a page breaks at a shape: where, what was found, and what was promised."""

    def __init__(self, scope: Scope, dims: Dims, found: str) -> None:
        super().__init__(f"{scope.operator.name}/{scope.name} at {dims!r}: {found}.")


def attempt(scope: Scope, dims: Dims, what: str, call: Callable[[], Result]) -> Result:
    """Return what a page computes; whatever it raises is a breach."""
    try:
        return call()
    except Exception as error:
        raised = f"{type(error).__name__}: {str(error).rstrip('.')}"
        raise BreachError(scope, dims, f"{what} raises {raised}") from error
