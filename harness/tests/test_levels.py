"""Levels above the certificate: each is printed where it is reached, and a reason where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.claims import Claim, Lemma, lemma
from harness.bench.dims import Dims
from harness.bench.proof import lemmas
from harness.bench.proof.levels import reach_further
from harness.bench.proof.prover import prove


class Scaling(Claim):
    """Scaling a sum is summing what is scaled."""

    name = "scaling"
    operators = ("scale",)
    source = "made for a test"
    shapes = (Dims(C=3), Dims(C=2))
    algebra = "f·(x + y) = f·x + f·y"

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Two vectors and a factor."""
        return {"x": (d.C,), "y": (d.C,), "f": ()}

    def left(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Scale the sum."""
        return f * (x + y)

    def right(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Sum what is scaled."""
        return f * x + f * y


class Attending(Scaling):
    """A softmax does not depend on the order of what it weighs."""

    name = "attending"

    def left(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Weigh."""
        return f * (x.softmax(0) * y).sum()

    def right(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Weigh in the other order."""
        return f * (x.flip(0).softmax(0) * y.flip(0)).sum()


class WithLemma(Scaling):
    """Scaling, with a lemma."""

    name = "with-lemma"

    @lemma
    def scaled_stays_inside(self, z3: Any) -> Lemma:
        """For every C, twice an index below C is below 2·C."""
        i, C = z3.Ints("i C")
        return Lemma({"inside": i < C}, 2 * i < 2 * C)


class WithWrongLemma(Scaling):
    """Scaling, with a wrong lemma."""

    name = "with-wrong-lemma"

    @lemma
    def scaled_stays_below(self, z3: Any) -> Lemma:
        """For every C, twice an index below C is below C."""
        i, C = z3.Ints("i C")
        return Lemma({"inside": i < C}, 2 * i < C)


def test_a_product_is_complete_on_a_basis() -> None:
    """What is linear in every input is proved at the smallest shape by packed basis vectors."""
    found = prove(Scaling())
    assert (found["verdict"], found["level"], found["left_out"]) == ("holds", "L2", [])
    complete = found["evidence"][-1]
    assert (complete["level"], complete["method"], complete["shape"]) == ("L2", "basis", {"C": 2})
    assert complete["log10_p"] is None


def test_a_softmax_is_complete_by_symbols() -> None:
    """What is no polynomial is proved by following it over symbols, and certified besides."""
    found = prove(Attending())
    assert [(entry["level"], entry.get("method")) for entry in found["evidence"]] == [
        ("L1", None),
        ("L1", None),
        ("L2", "symbolic"),
    ]


def test_the_shapes_named_for_it_are_the_ones_that_are_complete() -> None:
    """A claim may name tiny shapes beside those at which it is certified."""

    class Named(Scaling):
        """Scaling."""

        complete_shapes = (Dims(C=1), Dims(C=4))

    entries = [entry for reached in reach_further(Named()) for entry in reached.evidence]
    assert [entry["shape"] for entry in entries] == [{"C": 1}, {"C": 4}]


def test_a_level_that_is_not_reached_has_a_reason() -> None:
    """A shape that is too large is left out with the reason, and the certificate stands."""

    class Large(Claim):
        """A matrix is multiplied by itself three times, which is no linear map."""

        name = "large"
        operators = ("product",)
        source = "made for a test"
        shapes = (Dims(C=64),)

        def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
            """One matrix."""
            return {"A": (d.C, d.C)}

        def left(self, d: Dims, A: Tensor) -> Tensor:
            """Multiply from the left."""
            return (A @ A) @ A

        def right(self, d: Dims, A: Tensor) -> Tensor:
            """Multiply from the right."""
            return A @ (A @ A)

    found = prove(Large())
    assert (found["verdict"], found["level"]) == ("holds", "L1")
    reason = "At C=64 its smallest shape has 4096 free numbers, more than 200: name `complete_shapes`."
    assert found["left_out"] == [{"what": "L2", "reason": reason}]


class SummingToOne(Scaling):
    """The weights of a softmax sum to one."""

    name = "summing-to-one"

    def left(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Weigh one number with all of them."""
        return (x.softmax(0) * f).sum()

    def right(self, d: Dims, x: Tensor, y: Tensor, f: Tensor) -> Tensor:
        """Return that number."""
        return f + 0 * y.sum()


def test_what_an_arbitrary_function_does_not_show_is_decided_completely() -> None:
    """Softmax weights sum to one and arbitrary ones do not: the certificate refuses, the symbols prove."""
    found = prove(SummingToOne())
    assert (found["verdict"], found["level"], found["reason"]) == ("holds", "L2", None)
    assert [entry["method"] for entry in found["evidence"]] == ["symbolic"]
    assert [entry["what"] for entry in found["left_out"]] == ["L1"]


def keeping_one_buffer(x: Tensor) -> Tensor:
    """Write every result into the same memory."""
    return BUFFER.copy_(x.softmax(0).sum().detach() * x)


def without_a_gradient(x: Tensor) -> Tensor:
    """Lose the gradient of what the sum to one hides."""
    return x.softmax(0).sum() * x.detach()


def with_an_edit(x: Tensor) -> Tensor:
    """Edit the input once it was read."""
    result = x.softmax(0).sum() * x
    x.data.mul_(2)
    return result


BUFFER = torch.empty(2, dtype=torch.float64)


@pytest.mark.parametrize("cheat", [keeping_one_buffer, without_a_gradient, with_an_edit])
def test_symbols_settle_nothing_else_that_a_certificate_refuses(cheat: Callable[[Tensor], Tensor]) -> None:
    """What goes wrong beside an arbitrary function is no matter of symbols, which see values alone."""

    class Cheating(Claim):
        """The weights of a softmax sum to one."""

        name = "cheating"
        operators = ("scale",)
        source = "made for a test"
        shapes = (Dims(C=2),)

        def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
            """One vector."""
            return {"x": (d.C,)}

        def left(self, d: Dims, x: Tensor) -> Tensor:
            """Cheat."""
            return cheat(x)

        def right(self, d: Dims, x: Tensor) -> Tensor:
            """Return the vector."""
            return 1 * x

    assert prove(Cheating())["verdict"] != "holds"


def test_a_lemma_makes_the_third_level() -> None:
    """The evidence holds the lemma with its sentence, and the line that follows from it."""
    pytest.importorskip("z3", reason="z3-solver is not installed")
    found = prove(WithLemma())
    assert (found["verdict"], found["level"]) == ("holds", "L3")
    entry = found["evidence"][-1]
    assert entry["algebra"] == "f·(x + y) = f·x + f·y"
    assert entry["lemmas"][0]["statement"] == "For every C, twice an index below C is below 2·C."


def test_a_wrong_lemma_refutes_its_claim() -> None:
    """What does not hold for every size is no claim for every size, whatever the programs do."""
    pytest.importorskip("z3", reason="z3-solver is not installed")
    found = prove(WithWrongLemma())
    assert found["verdict"] == "refuted"
    assert found["reason"].startswith("Its lemma scaled-stays-below is wrong at ")


def test_a_missing_solver_leaves_the_level_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without z3 the claim stands at its other levels, and the reason says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "z3", None)
    found = prove(WithLemma())
    assert (found["verdict"], found["level"]) == ("holds", "L2")
    assert found["left_out"] == [{"what": "L3", "reason": lemmas.MISSING}]
