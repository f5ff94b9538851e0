"""Which operators a claim relates, by the sides that call them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.inputs import activation, parameter
from harness.bench.pages import Operator
from harness.bench.sides import pairs_of
from harness.paper.errors import SameopError
from harness.tests.specimens import mixing, scope_of

D = Dims(B=2, C=3, H=2, W=2)


def make(name: str) -> Operator:
    """Make an operator that mixes channels."""
    scope = scope_of(
        mixing,
        lambda d: {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.C, d.C)},
        lambda d: (d.B, d.C, d.H, d.W),
    )
    scope.operator.name = name
    scope.implementation("other")(mixing)
    return scope.operator


OPERATORS = {name: make(name) for name in ("whole", "first", "second", "silent")}


class Chain(Claim):
    """One mixing is two in a row."""

    name = "chain"
    source = "made for a test"
    operators = ("whole", "first", "second", "silent")
    shapes = (Dims(B=2, C=30, H=20, W=20), D)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a map and two matrices."""
        return {"x": (d.B, d.C, d.H, d.W), "a": (d.C, d.C), "b": (d.C, d.C)}

    def left(self, d: Dims, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Mix once."""
        return OPERATORS["whole"].scopes["core"](x, a @ b)

    def right(self, d: Dims, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """Mix twice, the second time by another implementation."""
        once = OPERATORS["first"].scopes["core"](x, b)
        return OPERATORS["second"].scopes["core"].implementations["other"].function(once, a)


def pairs(claim: Claim) -> set[tuple[str, ...]]:
    """Return the related operators as sorted tuples."""
    return {tuple(sorted(pair)) for pair in pairs_of(claim, OPERATORS)}


def test_operators_of_opposite_sides_are_related() -> None:
    """The whole is related to its parts, the parts are not to each other, and what is not called to none."""
    assert pairs(Chain()) == {("first", "whole"), ("second", "whole")}


def test_only_operators_that_the_claim_names_are_related() -> None:
    """A helper that is not named says nothing."""
    assert pairs(type("Two", (Chain,), {"operators": ("second", "whole")})()) == {("second", "whole")}


def test_an_operator_of_both_sides_is_related_to_none() -> None:
    """What stands on both sides may be a helper of both."""

    class Shared(Chain):
        """One mixing is two in a row, and the same one on both sides."""

        def left(self, d: Dims, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
            """Mix by the identity before."""
            same = torch.eye(d.C, dtype=x.dtype)
            return super().left(d, OPERATORS["first"].scopes["core"](x, same), a, b)

    assert pairs(Shared()) == {("second", "whole")}


@pytest.mark.parametrize(
    ("operators", "wanted"),
    [
        (("whole", "silent"), {("silent", "whole")}),
        (("silent", "elsewhere"), {("elsewhere", "silent")}),
        (("first", "second"), set()),
        (("whole", "whole"), set()),
        (("silent", "silent"), set()),
    ],
)
def test_a_side_may_be_written_without_its_operator(
    operators: tuple[str, ...], wanted: set[tuple[str, ...]]
) -> None:
    """A claim that names two relates them unless a side calls both; one operator is no pair."""
    assert pairs(type("Two", (Chain,), {"operators": operators})()) == wanted


def test_what_was_recorded_leaves_no_trace() -> None:
    """After a run, also one that fails, the implementations are what they were."""

    class Broken(Chain):
        """It does not compute."""

        name = "broken"

        def right(self, d: Dims, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
            """Fail."""
            raise ValueError("no way")

    before = {name: dict(operator.scopes["core"].implementations) for name, operator in OPERATORS.items()}
    pairs(Chain())
    with pytest.raises(SameopError) as refused:
        pairs(Broken())
    assert str(refused.value) == (
        f"The sides of broken do not compute at {D!r} (ValueError: no way): `sameop prove broken` tells more."
    )
    after = {name: dict(operator.scopes["core"].implementations) for name, operator in OPERATORS.items()}
    assert after == before
