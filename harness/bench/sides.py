"""Which operators stand on which side of a claim, read from a run of its sides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.inputs import seed_of
from harness.bench.proof.certificate import draw_integers
from harness.paper.errors import SameopError

if TYPE_CHECKING:
    from harness.bench.pages import Operator

Pair = frozenset[str]
# The values do not matter: what is called follows from the shapes.
_LARGEST = 3


def pairs_of(claim: Claim, operators: Mapping[str, Operator]) -> frozenset[Pair]:
    """Return the pairs of operators that a claim relates.

    An operator that only the left side calls is related to those that only the right side calls; operators
    of one side are parts of it, and say nothing of each other. Where a claim names two and a side is
    written without its operator, it relates these.
    """
    named = dict.fromkeys(claim.operators)
    left, right = _called(claim, [operators[name] for name in named if name in operators])
    pairs = {Pair(pair) for pair in product(left - right, right - left)}
    if len(named) == 2 and set(named) - left - right:
        pairs.add(Pair(named))
    return frozenset(pairs)


def _called(claim: Claim, operators: Iterable[Operator]) -> tuple[set[str], set[str]]:
    d = min((*claim.complete_shapes, *claim.shapes), key=lambda d: _elements(claim, d))
    found = []
    try:
        variables = draw_integers(claim.variables(d), _LARGEST, seed_of(claim.name, repr(d)))
        with torch.no_grad():
            given = claim.given(d, **variables)
            for side in (claim.left, claim.right):
                with _recorded(operators) as called:
                    side(d, **given)
                found.append(called)
    except Exception as error:
        raise SameopError(
            f"The sides of {claim.name} do not compute at {d!r} ({type(error).__name__}: {error}): "
            f"`sameop prove {claim.name}` tells more."
        ) from error
    return found[0], found[1]


def _elements(claim: Claim, d: Dims) -> int:
    return sum(prod(shape) for shape in claim.variables(d).values())


@contextlib.contextmanager
def _recorded(operators: Iterable[Operator]) -> Iterator[set[str]]:
    """Record the operators that are called meanwhile, by any implementation."""
    called: set[str] = set()
    scopes = [scope for operator in operators for scope in operator.scopes.values()]
    before = [scope.implementations for scope in scopes]
    for scope in scopes:
        scope.implementations = {
            name: replace(found, function=_telling(found.function, scope.operator.name, called))
            for name, found in scope.implementations.items()
        }
    try:
        yield called
    finally:
        for scope, implementations in zip(scopes, before, strict=True):
            scope.implementations = implementations


def _telling(function: Callable[..., Any], name: str, called: set[str]) -> Callable[..., Any]:
    def told(*tensors: Any, **arguments: Any) -> Any:
        called.add(name)
        return function(*tensors, **arguments)

    return told
