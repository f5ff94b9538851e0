"""Proving several claims: the results are those of one process, and a dead process is told in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.bench.catalog import load_catalogue
from harness.bench.proof.prover import prove
from harness.doors import proving
from harness.doors.proving import open_proofs
from harness.paper.errors import SameopError
from harness.tests.test_workers import descendants, linux_only, wait_until_gone

_PAGE = '''
"""Claims made for a test."""

import os

from harness import Claim, Dims


class Doubling(Claim):
    """A sum with itself is twice the summand."""

    name = "doubling"
    operators = ("twice",)
    source = "made for a test"
    shapes = (Dims(C=3),)

    def variables(self, d):
        return {"x": (d.C,)}

    def left(self, d, x):
        return x + x

    def right(self, d, x):
        return 2 * x
'''
_MORE = '''

class Doubling{number}(Doubling):
    """A sum with itself is twice the summand, again."""

    name = "doubling-{number}"
'''
_FATAL = """
    def left(self, d, x):
        {}
"""


def package(folder: Path, last: str = "") -> Path:
    """Write a package with four claims, the last of which may do something else."""
    cases = folder / "doubling"
    cases.mkdir()
    text = _PAGE + "".join(_MORE.format(number=number) for number in (2, 3, 4))
    (cases / "__init__.py").write_text('"""Cases."""\n')
    (cases / "claims.py").write_text(text + (_FATAL.format(last) if last else ""))
    return cases


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "usable_cpus", lambda: 2)


def test_several_claims_get_the_results_of_one_process(tmp_path: Path) -> None:
    """What other processes prove is what this one proves, but for the time it takes."""
    cases = package(tmp_path)
    claims = list(load_catalogue([cases]).claims.values())
    with open_proofs([cases], claims) as proofs:
        found = [proofs.of(claim) for claim in claims]
    for claim, result in zip(claims, found, strict=True):
        expected = prove(claim)
        assert (result["name"], result["verdict"]) == (claim.name, "holds")
        assert _timeless(result["evidence"]) == _timeless(json.loads(json.dumps(expected["evidence"])))


def _timeless(found: Any) -> Any:
    if isinstance(found, dict):
        return {key: _timeless(value) for key, value in found.items() if key != "seconds"}
    return [_timeless(entry) for entry in found] if isinstance(found, list) else found


def test_one_claim_is_proved_here(tmp_path: Path) -> None:
    """A process of its own would take longer to start than the claim to prove."""
    cases = package(tmp_path)
    claim = next(iter(load_catalogue([cases]).claims.values()))
    before = descendants(os.getpid())
    with open_proofs([cases], [claim]) as proofs:
        assert proofs.of(claim)["verdict"] == "holds"
        assert descendants(os.getpid()) == before


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    """The sentence names the claim that was waited for, and how to prove it alone."""
    cases = package(tmp_path, "os._exit(1)")
    claims = list(load_catalogue([cases]).claims.values())
    with open_proofs([cases], claims) as proofs, pytest.raises(SameopError) as told:
        [proofs.of(claim) for claim in claims]
    assert str(told.value) == (
        "The claim doubling-4 could not be proved. Its process ended with exit code 1. "
        "`sameop prove doubling-4` proves it alone."
    )


@linux_only
def test_closing_ends_the_processes(tmp_path: Path) -> None:
    """Ctrl-C leaves nothing behind that goes on computing, not even a claim that never ends."""
    cases = package(tmp_path, "while True:\n            pass")
    claims = list(load_catalogue([cases]).claims.values())
    before = descendants(os.getpid())
    with open_proofs([cases], claims) as proofs:
        assert proofs.of(claims[0])["verdict"] == "holds"
        started = descendants(os.getpid()) - before
        assert started
    assert not wait_until_gone(started)
