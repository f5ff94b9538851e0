"""Each kind of claim demands something else of its sides, and a wrong one of any kind is refuted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.bench.claims import Claim, Lemma, equivalent, lemma, mutant
from harness.bench.dims import Dims
from harness.bench.proof.kinds import check_shape
from harness.bench.proof.prover import prove
from harness.paper.errors import SameopError
from harness.paper.record import ClaimRecord


class SquareIsNotAdditive(Claim):
    """The square of a sum is not the sum of the squares."""

    name = "square-is-not-additive"
    kind = "negative"
    operators = ("square",)
    source = "made for a test"
    conditions: ClassVar[Mapping[str, str]] = {"two": "both summands are there"}
    shapes = (Dims(C=30), Dims(C=2))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Two vectors."""
        return {"x": (d.C,), "y": (d.C,)}

    def left(self, d: Dims, x: Tensor, y: Tensor) -> Tensor:
        """Square the sum."""
        return (x + y) ** 2

    def right(self, d: Dims, x: Tensor, y: Tensor) -> Tensor:
        """Add the squares."""
        return x**2 + y**2

    @mutant(drops="two", side="given")
    def one_summand(self, d: Dims, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """Leave the second summand out."""
        return {"x": x, "y": 0 * y}

    @equivalent("one element is enough", sparse=True)
    def but_for_one(self, d: Dims, x: Tensor, y: Tensor) -> Tensor:
        """Square the sum but for one element."""
        result = (x + y) ** 2
        result[-1] = x[-1] ** 2 + y[-1] ** 2
        return result


class SumIsNotCommutative(SquareIsNotAdditive):
    """A sum depends on its order."""

    name = "sum-is-not-commutative"

    def left(self, d: Dims, x: Tensor, y: Tensor) -> Tensor:
        """Add."""
        return x + y

    def right(self, d: Dims, x: Tensor, y: Tensor) -> Tensor:
        """Add in the other order."""
        return y + x


def test_a_negative_claim_holds_by_a_counterexample_at_every_shape() -> None:
    """The evidence is conclusive and has no probability; what makes the sides equal refutes it."""
    small = SquareIsNotAdditive()
    found = prove(small)
    assert (found["verdict"], found["level"], found["reason"]) == ("holds", "L2", None)
    assert [entry["method"] for entry in found["evidence"]] == ["counterexample"] * 2
    assert all(entry["log10_p"] is None for entry in found["evidence"])
    assert found["counterexample"]["left"] != found["counterexample"]["right"]
    verdicts = {entry["name"]: entry["verdict"] for entry in found["mutants"]}
    assert verdicts == {"one-summand": "refuted", "but-for-one": "holds"}


def test_a_negative_claim_is_refuted_where_the_sides_are_the_same() -> None:
    """A certificate of the identity is what refutes its negation."""
    outcome = check_shape(SumIsNotCommutative(), Dims(C=2))
    assert (outcome.verdict, outcome.reason) == ("refuted", "The two sides are the same function.")
    assert all(evidence.log10_p <= -30 for evidence in outcome.evidence)


class ProductIsBounded(Claim):
    """The rank of a product through L columns is at most L."""

    name = "product-is-bounded"
    kind = "inequality"
    operators = ("product",)
    source = "made for a test"
    conditions: ClassVar[Mapping[str, str]] = {"through": "both factors meet in L columns"}
    shapes = (Dims(C=7, L=2), Dims(C=5, L=3))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Two factors."""
        return {"P": (d.C, d.L), "Q": (d.C, d.L)}

    def given(self, d: Dims, *_: Any, **factors: Tensor) -> Mapping[str, Tensor]:
        """Multiply them."""
        return {**factors, "product": factors["P"] @ factors["Q"].T}

    def lesser(self, d: Dims, product: Tensor, **_: Tensor) -> Tensor:
        """Take the rank."""
        rank: Tensor = torch.linalg.matrix_rank(product)
        return rank

    def greater(self, d: Dims, **_: Tensor) -> Tensor:
        """Count the columns."""
        return torch.tensor(d.L)

    def left(self, d: Dims, product: Tensor, **_: Tensor) -> Tensor:
        """Return the product."""
        return product

    def right(self, d: Dims, P: Tensor, Q: Tensor, **_: Tensor) -> Tensor:
        """Add L products of a column and a row, each of rank one."""
        return torch.einsum("il,jl->ij", P, Q)

    @mutant(side="greater")
    def one_column_fewer(self, d: Dims, **_: Tensor) -> Tensor:
        """Count one column fewer."""
        return torch.tensor(d.L - 1)

    @mutant(drops="through", side="given")
    def another_matrix(self, d: Dims, *_: Any, **factors: Tensor) -> Mapping[str, Tensor]:
        """Add ones on the diagonal."""
        return {**factors, "product": factors["P"] @ factors["Q"].T + torch.eye(d.C, dtype=torch.float64)}

    @mutant(sparse=True)
    def one_element_off(self, d: Dims, P: Tensor, Q: Tensor, **rest: Tensor) -> Tensor:
        """Miss one element."""
        result = self.right(d, P=P, Q=Q)
        result[-1, -1] = 0
        return result


def test_an_inequality_holds_by_its_construction() -> None:
    """No draw violates it, and the identity that it follows from is certified; no probability is stated."""
    found = prove(ProductIsBounded())
    assert ClaimRecord("x", found).as_expected
    assert {entry["log10_p"] for entry in found["evidence"]} == {None}
    assert found["evidence"][0]["method"] == "construction"
    assert found["evidence"][0]["passes"]


def test_an_inequality_is_refuted_by_a_draw() -> None:
    """The counterexample holds the numbers of both sides."""
    claim = ProductIsBounded()
    outcome = check_shape(claim.with_mutant(claim.mutants[0]), Dims(C=7, L=2))
    assert outcome.verdict == "refuted"
    assert outcome.difference is not None
    assert (outcome.difference.result, outcome.difference.left, outcome.difference.right) == (
        "inequality",
        2,
        1,
    )


def test_what_is_not_a_number_violates_every_inequality() -> None:
    """A NaN is never at most anything."""

    class Undefined(ProductIsBounded):
        """Stated."""

        def lesser(self, d: Dims, product: Tensor, **_: Tensor) -> Tensor:
            """Nothing."""
            return torch.tensor(torch.nan)

    assert check_shape(Undefined(), Dims(C=7, L=2)).verdict == "refuted"


class DrawsAlone(Claim):
    """A square is at least nothing."""

    name = "square-is-not-negative"
    kind = "inequality"
    operators = ("square",)
    source = "made for a test"
    shapes = (Dims(C=2),)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a vector."""
        return {"x": (d.C,)}

    def lesser(self, d: Dims, x: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros_like(x)

    def greater(self, d: Dims, x: Tensor) -> Tensor:
        """Square."""
        return x**2


def test_draws_alone_prove_no_inequality() -> None:
    """Without a construction or a lemma nothing says why no draw could violate it."""
    found = prove(DrawsAlone())
    assert (found["verdict"], found["level"]) == ("refused", None)
    assert found["reason"] == (
        "No draw violates square-is-not-negative, and nothing says why none could: "
        "give `left` and `right`, a construction that it follows from, or a lemma."
    )


class ByLemma(DrawsAlone):
    """A square of a number from one on is at least that number."""

    name = "square-is-larger"
    algebra = "x·x ≥ 1·x"

    @lemma
    def factor_from_one_on(self, z3: Any) -> Lemma:
        """For every x of at least one, x·x ≥ x."""
        x = z3.Int("x")
        return Lemma({"positive": x >= 1, "square": z3.Int("s") == x * x}, z3.Int("s") >= x)


def test_an_inequality_may_rest_on_a_lemma() -> None:
    """Then it holds for every size, and the draws are no more than a look at it."""
    pytest.importorskip("z3", reason="z3-solver is not installed")
    found = prove(ByLemma())
    assert (found["verdict"], found["level"]) == ("refused", None)  # x·x ≥ x holds for negative x as well
    assert "assumes too much" in found["reason"]


def test_a_lemma_needs_the_line_that_follows_from_it() -> None:
    """Without `algebra` nobody knows what the lemma is for."""

    class Unused(ByLemma):
        """Stated."""

        algebra = ""

    with pytest.raises(SameopError, match="has lemmas and no `algebra`"):
        prove(Unused())
