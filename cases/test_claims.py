"""Every claim has the expected verdict, and so has each of its mutants, of which there are enough."""

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness import Claim
from harness.bench.catalog import load_catalogue
from harness.doors.suite import test_claim

__all__ = ["test_claim"]


@pytest.fixture(scope="module")
def claims() -> list[Claim]:
    """Read all claims."""
    return list(load_catalogue([Path(__file__).parent]).claims.values())


def test_claims_have_mutants(claims: list[Claim]) -> None:
    """A claim that holds has at least three mutants to refute, one of them wrong at few outputs only.

    The mutants of a negative claim make its sides the same, so there an equivalent one differs at few.
    """
    for claim in claims:
        if claim.expected == "holds":
            refuted = [mutant for mutant in claim.mutants if mutant.expected == "refuted"]
            assert len(refuted) >= 3, claim.name
            differing = "holds" if claim.kind == "negative" else "refuted"
            few = [mutant for mutant in claim.mutants if mutant.sparse and mutant.expected == differing]
            assert few, claim.name


def test_identities_reach_their_levels(claims: list[Claim], sameop_proofs: Any) -> None:
    """A softmax is no polynomial, so it is proved completely too; what rests on lemmas, for every size."""
    has_solver = importlib.util.find_spec("z3") is not None
    for claim in claims:
        if claim.expected == "holds" and claim.kind in ("identity", "limit"):
            evidence = sameop_proofs.of(claim)["evidence"]
            levels = {entry["level"] for entry in evidence}
            arbitrary = any(found["uninterpreted"] for entry in evidence for found in entry.get("passes", ()))
            assert levels & {"L1", "L2"}, claim.name
            assert "L2" in levels or not arbitrary, claim.name
            assert "L3" in levels or not (claim.lemmas and has_solver), claim.name


def test_claims_say_different_things(claims: list[Claim]) -> None:
    """There are at least fifty, no two of the same operators under the same conditions.

    What is stated wrongly names no condition; it is told apart by the claim that corrects it.
    """
    true = [claim for claim in claims if claim.expected == "holds"]
    stated = Counter((frozenset(claim.operators), frozenset(claim.conditions.values())) for claim in true)
    assert len(true) >= 50
    assert [claim.name for claim in true if not claim.conditions] == []
    assert [what for what, number in stated.items() if number > 1] == []


def test_folklore_stands_beside_what_corrects_it(claims: list[Claim]) -> None:
    """What is stated wrongly is refuted, and exactly one claim that holds corrects it."""
    corrected = Counter(claim.corrects for claim in claims if claim.corrects)
    for claim in claims:
        assert (claim.expected == "refuted") == claim.name.endswith("-as-stated"), claim.name
        assert corrected[claim.name] == (claim.expected == "refuted"), claim.name


def test_claims_speak_of_operators_of_the_catalogue(claims: list[Claim]) -> None:
    """Every operator that a claim names has a page, so what is claimed is what is measured."""
    known = set(load_catalogue([Path(__file__).parent]).operators)
    assert {name for claim in claims for name in claim.operators} <= known
