"""Proving claims: verdicts over all shapes, mutants, and the JSON that tools read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from harness.bench.claims import Claim, equivalent, mutant
from harness.bench.dims import Dims
from harness.bench.proof.kinds import certify_claim
from harness.bench.proof.prover import prove
from harness.paper.errors import SameopError
from harness.paper.record import ClaimRecord


class DiagonalIsScaling(Claim):
    """A product with a diagonal matrix scales channels."""

    name = "diagonal-is-scaling"
    operators = ("linear", "scale")
    source = "made for a test"
    conditions: ClassVar[Mapping[str, str]] = {"order": "factors stand in the order of the channels"}
    shapes = (Dims(B=2, C=30), Dims(B=3, C=2))

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Free variables."""
        return {"x": (d.B, d.C), "factor": (d.C,)}

    def given(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Derive the matrix."""
        return {**variables, "matrix": torch.diag_embed(variables["factor"])}

    def left(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Multiply by the matrix."""
        return x @ matrix

    def right(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Scale."""
        return x * factor

    @mutant(drops="order")
    def rolled(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Take the factor of the next channel."""
        return x * factor.roll(1)

    @mutant(sparse=True)
    def one_off(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Miss one product."""
        result = x * factor
        result[-1, -1] = 0
        return result

    @mutant(side="given")
    def full_matrix(self, d: Dims, *_: Any, **variables: Tensor) -> Mapping[str, Tensor]:
        """Fill the matrix."""
        return {**variables, "matrix": variables["factor"].expand(d.C, d.C).clone()}

    @equivalent("scaling commutes with transposition")
    def transposed(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Scale rows of the transposed map."""
        return (x.T * factor[:, None]).T


class Unprovable(DiagonalIsScaling):
    """Scaling has no sign."""

    name = "unprovable"

    def right(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Scale, at the smaller shape by what cannot be followed."""
        return x * factor if d.C > 2 else x * factor.sort().values


class Folklore(DiagonalIsScaling):
    """Scaling is a product with the transposed factors, as stated."""

    name = "diagonal-is-scaling-as-stated"
    expected = "refuted"
    corrects = "diagonal-is-scaling"

    def right(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
        """Scale by what is right for the larger shape only."""
        return x * factor if d.C > 2 else x * factor.flip(0)


@pytest.fixture(scope="module")
def proved() -> dict[str, Any]:
    """Prove the true claim once."""
    return prove(DiagonalIsScaling())


def test_a_true_claim_holds_at_every_shape(proved: dict[str, Any]) -> None:
    """Each shape has its own evidence, at 1e-30 or below, for values and gradients."""
    assert (proved["verdict"], proved["expected"], proved["level"]) == ("holds", "holds", "L2")
    certified = [entry for entry in proved["evidence"] if entry["level"] == "L1"]
    assert [entry["shape"] for entry in certified] == [{"B": 2, "C": 30}, {"B": 3, "C": 2}]
    assert all(entry["log10_p"] <= -30 and entry["vjp"] for entry in certified)
    assert all(0 < entry["majorant_ratio"] <= 1 for entry in certified)
    assert ClaimRecord(proved["name"], proved).as_expected


def test_the_weaker_pass_speaks_for_a_shape(proved: dict[str, Any]) -> None:
    """The error probability of a shape is the larger of those of values and gradients."""
    for entry in (entry for entry in proved["evidence"] if entry["level"] == "L1"):
        assert entry["log10_p"] == max(found["log10_p"] for found in entry["passes"])
        assert [found["vjp"] for found in entry["passes"]] == [False, True]


def test_the_result_is_json_with_its_documented_keys(proved: dict[str, Any]) -> None:
    """Tools rely on these keys of ``sameop prove --json``."""
    found = json.loads(json.dumps(proved, allow_nan=False))
    keys = {"name", "statement", "kind", "conditions", "expected", "verdict", "level", "evidence"}
    assert keys | {"counterexample", "reason", "corrects", "mutants", "seconds"} <= set(found)
    shown = {"level", "shape", "log10_p", "degree", "majorant_ratio", "backend", "vjp", "seconds"}
    assert shown <= set(found["evidence"][0])
    assert {"name", "drops", "expected", "verdict", "counterexample"} <= set(found["mutants"][0])
    assert found["statement"] == "A product with a diagonal matrix scales channels."
    assert found["conditions"] == ["factors stand in the order of the channels"]


def test_every_mutant_is_judged_by_the_same_check(proved: dict[str, Any]) -> None:
    """Wrong statements are refuted, and a different way to write the claim holds."""
    found = [(entry["name"], entry["verdict"], entry["expected"]) for entry in proved["mutants"]]
    assert found == [
        ("rolled", "refuted", "refuted"),
        ("one-off", "refuted", "refuted"),
        ("full-matrix", "refuted", "refuted"),
        ("transposed", "holds", "holds"),
    ]
    assert [entry["drops"] for entry in proved["mutants"]] == [
        "factors stand in the order of the channels",
        None,
        None,
        None,
    ]


def test_a_mutant_tells_how_many_outputs_differ(proved: dict[str, Any]) -> None:
    """The share of differing outputs shows how fine the check is."""
    shares = {entry["name"]: entry["differing_share"] for entry in proved["mutants"]}
    assert shares["one-off"] == 1 / 60
    assert shares["rolled"] > 0.9
    assert shares["transposed"] is None


def test_a_mutant_that_is_not_as_sparse_as_declared_is_told() -> None:
    """A claim cannot show a fine check by a coarse mutant."""

    class Boasting(DiagonalIsScaling):
        """Stated."""

        @mutant(sparse=True)
        def coarse(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
            """Scale by the wrong sign."""
            return -x * factor

    with pytest.raises(SameopError) as refused:
        prove(Boasting())
    assert str(refused.value) == (
        "The mutant coarse of diagonal-is-scaling is declared sparse, but 100% of the outputs differ: "
        "leave `sparse` out, or let it differ in less than 5%."
    )


def test_a_counterexample_can_be_run(proved: dict[str, Any]) -> None:
    """A refuted mutant comes with a place, both values, and a program that shows them."""
    found = proved["mutants"][1]["counterexample"]
    assert (found["shape"], found["result"], found["index"]) == ({"B": 2, "C": 30}, "output", [1, 29])
    assert found["right"] == 0 != found["left"]
    assert found["script"] == (
        "from harness.doors.counterexample import show\n"
        "show('diagonal-is-scaling', mutant='one-off', shape={'B': 2, 'C': 30})  "
        f"# output[1, 29]: {found['left']} and 0.0"
    )


def test_a_claim_is_refused_where_one_shape_is() -> None:
    """A claim holds only where every shape does, and the reason is that of the shape."""
    found = prove(Unprovable())
    assert (found["verdict"], found["reason"]) == ("refused", "On the right side aten.sort has no rule.")
    assert [entry["log10_p"] is None for entry in found["evidence"]] == [False, True]
    assert not ClaimRecord(found["name"], found).as_expected


def test_folklore_is_refuted_with_a_counterexample() -> None:
    """A claim that is expected to be wrong is as expected when it is refuted; it names what corrects it."""
    found = prove(Folklore())
    assert (found["verdict"], found["expected"], found["reason"]) == ("refuted", "refuted", None)
    assert found["corrects"] == "diagonal-is-scaling"
    assert found["counterexample"]["shape"] == {"B": 3, "C": 2}
    assert found["counterexample"]["script"].startswith(
        "from harness.doors.counterexample import show\n"
        "show('diagonal-is-scaling-as-stated', mutant=None, shape={'B': 3, 'C': 2})"
    )


def test_a_mutant_that_is_refused_first_may_be_refuted_later() -> None:
    """One shape that refutes is enough, and leaves no reason behind."""

    class Late(DiagonalIsScaling):
        """Stated."""

        @mutant()
        def late(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
            """Do at the first shape what cannot be followed."""
            return x * (factor.sort().values if d.C > 2 else factor.flip(0))

    found = prove(Late())["mutants"][-1]
    assert (found["verdict"], found["reason"], found["counterexample"]["shape"]) == (
        "refuted",
        None,
        {"B": 3, "C": 2},
    )


def test_a_mutant_that_cannot_be_judged_is_not_as_expected() -> None:
    """A mutant that is refused at every shape fails the claim, with the reason."""

    class Opaque(DiagonalIsScaling):
        """Stated."""

        @mutant()
        def opaque(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
            """Do what cannot be followed."""
            return x * factor.sort().values

    found = prove(Opaque())
    assert found["mutants"][-1]["reason"] == "On the right side aten.sort has no rule."
    assert not ClaimRecord(found["name"], found).as_expected


def test_what_json_lacks_is_a_word() -> None:
    """A counterexample that is not a number can be printed as JSON."""

    class Changing(DiagonalIsScaling):
        """Stated."""

        calls = itertools.count()

        @mutant()
        def changing(self, d: Dims, x: Tensor, factor: Tensor, matrix: Tensor) -> Tensor:
            """Turn into what is not a number once it was followed."""
            return x * factor if next(self.calls) < 2 else x * torch.nan

    found = prove(Changing())["mutants"][-1]
    assert (found["verdict"], found["counterexample"]["right"]) == ("refuted", "nan")
    json.dumps(found, allow_nan=False)


def test_equal_names_and_shapes_draw_equal_trials() -> None:
    """A verdict can be reproduced: the numbers come from names, not from the process."""
    claim = DiagonalIsScaling()
    wrong = claim.with_mutant(claim.mutants[0])
    first, second = (certify_claim(wrong, claim.shapes[0], trials=1) for _ in range(2))
    assert first.difference == second.difference is not None


def test_threads_are_left_as_they_were() -> None:
    """Proving runs on one thread and gives the others back."""
    before = torch.get_num_threads()
    prove(DiagonalIsScaling())
    assert torch.get_num_threads() == before


def test_a_brief_proof_certifies_the_smallest_shape_and_says_what_it_leaves() -> None:
    """In haste a claim is certified once, and the rest is named with the command that does it."""
    found = prove(DiagonalIsScaling(), brief=True)
    assert (found["verdict"], found["level"], found["mutants"]) == ("holds", "L1", [])
    assert [entry["shape"] for entry in found["evidence"]] == [{"B": 3, "C": 2}]
    assert [entry["what"] for entry in found["left_out"]] == [
        "mutants",
        "other shapes",
        "levels above the certificate",
    ]
    assert "`sameop prove diagonal-is-scaling` takes it further" in found["left_out"][0]["reason"]
