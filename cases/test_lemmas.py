"""The lemmas of claims are true of all sizes."""

from pathlib import Path

import pytest

from harness.bench.catalog import load_catalogue
from harness.bench.proof.lemmas import prove_lemma

pytest.importorskip("z3", reason="lemmas are decided by z3: pip install -e '.[test]'")
CLAIMS = load_catalogue([Path(__file__).parent]).claims
LEMMAS = {f"{name}/{found.name}": found for name, claim in CLAIMS.items() for found in claim.lemmas}


@pytest.mark.parametrize("name", LEMMAS)
def test_every_lemma_holds(name: str) -> None:
    """What a claim rests on is true, needs every assumption, and is stated so that it is decided quickly."""
    found = prove_lemma(LEMMAS[name])
    assert found.verdict == "holds", found.reason or found.countermodel
    assert found.seconds < 5


def test_index_sets_are_proven_for_all_sizes() -> None:
    """The claims that speak of taps and of pairs of positions rest on lemmas."""
    assert {name.partition("/")[0] for name in LEMMAS} >= {
        "local-attention-is-dynamic-depthwise-conv",
        "self-attention-is-involution",
    }
