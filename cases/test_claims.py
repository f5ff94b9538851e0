"""Every claim has the expected verdict, and so has each of its mutants, of which there are enough."""

from pathlib import Path

from harness.bench.catalog import load_catalogue
from harness.doors.suite import test_claim

__all__ = ["test_claim"]


def test_claims_have_mutants() -> None:
    """A claim that holds has at least three mutants to refute, one of them wrong at few outputs only.

    The mutants of a negative claim make its sides the same, so there an equivalent one differs at few.
    """
    for claim in load_catalogue([Path(__file__).parent]).claims.values():
        if claim.expected == "holds":
            refuted = [mutant for mutant in claim.mutants if mutant.expected == "refuted"]
            assert len(refuted) >= 3, claim.name
            differing = "holds" if claim.kind == "negative" else "refuted"
            few = [mutant for mutant in claim.mutants if mutant.sparse and mutant.expected == differing]
            assert few, claim.name
