"""The language of claims: what a claim states, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.bench.claims import Claim, equivalent, mutant
from harness.bench.dims import Dims
from harness.paper.errors import SameopError


class Doubling(Claim):
    """A number and itself are twice the number.

    Any    number.
    """

    name = "doubling"
    source = "made for a test"
    conditions: ClassVar[Mapping[str, str]] = {"same": "both are the same number"}
    shapes = (Dims(B=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return one number for each image."""
        return {"x": (d.B,)}

    def left(self, d: Dims, x: Tensor) -> Tensor:
        """Add."""
        return x + x

    def right(self, d: Dims, x: Tensor) -> Tensor:
        """Multiply."""
        return 2 * x

    @mutant(drops="same", side="left", sparse=True)
    def another_number(self, d: Dims, x: Tensor) -> Tensor:
        """Add another number.

        A neighbour.
        """
        return x + x.flip(0)

    @equivalent("multiplication commutes")
    def factor_last(self, d: Dims, x: Tensor) -> Tensor:
        """Multiply from the right."""
        return x * 2


def test_a_statement_is_the_docstring_in_one_paragraph() -> None:
    """A claim's docstring is its statement."""
    assert Doubling().statement == "A number and itself are twice the number. Any number."


def test_mutants_are_listed_as_written() -> None:
    """Every marked method is a mutant, with what its mark and its docstring say."""
    wrong, same = Doubling().mutants
    assert (wrong.name, wrong.statement) == ("another-number", "Add another number. A neighbour.")
    assert (wrong.drops, wrong.side, wrong.sparse, wrong.expected) == ("same", "left", True, "refuted")
    assert (same.name, same.reason, same.expected) == ("factor-last", "multiplication commutes", "holds")
    assert (same.drops, same.side, same.sparse) == (None, "right", False)


def test_a_subclass_inherits_and_replaces_mutants() -> None:
    """A claim built on another has its mutants too, each once."""

    class Tripling(Doubling):
        """Thrice."""

        @mutant()
        def factor_last(self, d: Dims, x: Tensor) -> Tensor:
            """Multiply by four."""
            return x * 4

    assert [(found.name, found.expected) for found in Tripling().mutants] == [
        ("another-number", "refuted"),
        ("factor-last", "refuted"),
    ]


def test_a_mutant_replaces_one_side() -> None:
    """The claim with a mutant differs from the claim in that side alone, and the claim stays as it was."""
    claim, x, d = Doubling(), torch.tensor([1.0, 3.0]), Dims(B=2)
    changed: Any = claim.with_mutant(claim.mutants[0])
    assert changed.left(d, x).tolist() == [4.0, 4.0]
    assert changed.right(d, x).tolist() == claim.left(d, x).tolist() == [2.0, 6.0]


def test_given_is_what_the_variables_are() -> None:
    """Unless a claim derives something, its sides receive its variables."""
    x = torch.ones(2)
    assert Doubling().given(Dims(B=2), x=x) == {"x": x}


def test_a_complete_claim_is_accepted() -> None:
    """Nothing is asked of a claim that states everything."""
    Doubling().check()


@pytest.mark.parametrize("lacking", ["__doc__", "source", "shapes"])
def test_an_incomplete_claim_is_told(lacking: str) -> None:
    """A claim states what holds, who says so and where it is checked."""
    incomplete = type("Incomplete", (Doubling,), {"__doc__": "Stated.", lacking: None})
    with pytest.raises(SameopError) as refused:
        incomplete().check()
    assert str(refused.value) == (
        "The claim doubling lacks a docstring, a source or shapes: "
        "a claim states what holds, who says so and where it is checked."
    )


def test_a_condition_that_no_mutant_drops_is_told() -> None:
    """A condition on which nothing depends is no condition."""

    class Cautious(Doubling):
        """Stated."""

        conditions: ClassVar[Mapping[str, str]] = {"same": "both are the same", "calm": "no wind blows"}

    with pytest.raises(SameopError) as refused:
        Cautious().check()
    assert str(refused.value) == (
        "No mutant of doubling drops the condition 'calm': add one, or remove the condition if nothing "
        "depends on it."
    )


@pytest.mark.parametrize(
    ("conditions", "dropped", "known"),
    [({}, "other", "it has none"), ({"other": "another"}, "same", "other")],
)
def test_a_mutant_that_drops_no_condition_is_told(
    conditions: dict[str, str], dropped: str, known: str
) -> None:
    """A mutant that drops what is not listed is a typing mistake."""

    class Careless(Doubling):
        """Stated."""

        @mutant(drops="other")
        def without_other(self, d: Dims, x: Tensor) -> Tensor:
            """Drop another condition."""
            return 3 * x

    Careless.conditions = conditions
    careless = Careless()
    with pytest.raises(SameopError) as refused:
        careless.check()
    assert str(refused.value) == (
        f"A mutant of doubling drops {dropped!r}, which is no condition of the claim ({known}): "
        "name one of these."
    )
