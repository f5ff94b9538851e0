"""The result of a complete check: what every verdict carries, for the record."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from torch import Tensor

from harness.bench.proof.basis import certify_on_basis
from harness.bench.proof.complete import Complete

Inputs = dict[str, Tensor]
SHAPES = {"x": (2, 2), "w": (2, 2)}


def scaled(t: Inputs) -> Tensor:
    """Multiply element by element."""
    return t["x"] * t["w"]


def check(right: Any) -> Complete:
    """Hold a program against the product."""
    return certify_on_basis(scaled, right, SHAPES, seed=3)


def test_every_verdict_carries_what_explains_it() -> None:
    """A refutation has a difference, a refusal a reason, and neither has the other's."""
    holds, refuted, refused = check(scaled), check(lambda t: t["x"]), check(lambda t: t["x"].exp())
    assert [found.verdict for found in (holds, refuted, refused)] == ["holds", "refuted", "refused"]
    assert [found.difference is None for found in (holds, refuted, refused)] == [True, False, True]
    assert [found.reason is None for found in (holds, refuted, refused)] == [True, True, False]


def test_the_numbers_are_written_as_they_are() -> None:
    """The details go into JSON and come back equal."""
    for right in (scaled, lambda t: t["x"], lambda t: t["w"] * t["x"] + t["w"]):
        details = check(right).details
        assert json.loads(json.dumps(details)) == details


def test_a_verdict_is_not_changed_later() -> None:
    """A result is frozen, so that nothing turns a refusal into agreement on its way to the record."""
    found: Any = check(scaled)
    with pytest.raises(FrozenInstanceError):
        found.verdict = "refuted"
