"""MACs: the formula, and the witnesses that agree with it, are explained, or stand against it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.cost import Cost
from harness.bench.dims import Dims, Workload
from harness.bench.inputs import activation, parameter
from harness.bench.measure.macs import probe_with_ones, read_macs
from harness.bench.measure.subject import Subject
from harness.bench.pages import Operator

D = Dims(B=2, C=3, N=5)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """y[b,n] = Σ_c x[b,c] · weight[c,n]."""
    return x @ weight


def elementwise(x: Tensor, weight: Tensor) -> Tensor:
    """y[b,n] = Σ_c x[b,c] · weight[c,n], without a product that a counter knows."""
    return (x.unsqueeze(2) * weight).sum(1)


def subject(implementation: Any, macs: int = 30, **properties: Any) -> Subject:
    """Return a matrix product whose page claims so many MACs, computed by the implementation."""
    operator = Operator("product", family="tiny", source="made for a test")
    scope = operator.scope(
        "core",
        reference=product,
        inputs=lambda d: {"x": activation(d.B, d.C), "weight": parameter(d.C, d.N)},
        output=lambda d: (d.B, d.N),
        cost=lambda d: Cost(params=15, macs=macs, elements_read=21, elements_written=10),
        workloads=[Workload("tiny", D, "made for a test")],
        proof_dims=[D],
        polynomial=True,
    )
    scope.implementation("tried", **properties)(implementation)
    return Subject(scope, scope.implementations["tried"], D, "float32", "cpu", "forward")


def witnesses(found: Subject) -> Mapping[str, Any]:
    """Return what the counters say."""
    told: Mapping[str, Any] = read_macs(found).facts["witnesses"]
    return told


AGREES = {"macs": 30.0, "verdict": "agrees", "reason": "equal to the formula"}


def test_formula_is_published_and_witnesses_agree() -> None:
    """The published number is the page's own; both counters see the same."""
    reading = read_macs(subject(product))
    assert reading.value == 30
    assert reading.facts["minimal_bytes"] == 4 * (21 + 10)
    assert reading.facts["witnesses"] == {"flop_counter": AGREES, "fvcore": AGREES}


def test_wrong_formula_is_unexplained() -> None:
    """A formula that no counter confirms is shown as what it is."""
    found = {"macs": 30.0, "verdict": "unexplained", "reason": "the formula gives 31"}
    assert witnesses(subject(product, macs=31)) == {"flop_counter": found, "fvcore": found}


def test_declared_difference_is_explained() -> None:
    """What counters cannot see is explained by the number and the reason on the page."""
    declared: dict[str, Any] = {"counted": lambda d: 0, "counted_because": "no product"}
    found = {"macs": 0.0, "verdict": "explained", "reason": "no product"}
    assert witnesses(subject(elementwise, **declared))["flop_counter"] == found
    undeclared = witnesses(subject(elementwise))["flop_counter"]
    assert undeclared["verdict"] == "unexplained"


def test_absent_counter_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fvcore one witness is missing, with the reason, and the other still speaks."""
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    monkeypatch.setitem(sys.modules, "fvcore", None)
    told = witnesses(subject(product))
    assert told["flop_counter"] == AGREES
    assert told["fvcore"]["macs"] is None
    assert told["fvcore"]["verdict"] == "not counted"
    assert told["fvcore"]["reason"] in ("fvcore is not installed", "fvcore.nn is not installed")


def test_counter_that_cannot_follow_is_a_reason() -> None:
    """A program that a counter cannot follow is not counted; that is no failure of the case."""

    def stubborn(x: Tensor, weight: Tensor) -> Tensor:
        if torch._C._get_tracing_state():  # there is no public way to ask
            raise ValueError("no tracing here")
        return x @ weight

    told = witnesses(subject(stubborn))
    assert told["flop_counter"] == AGREES
    assert told["fvcore"] == {
        "macs": None,
        "verdict": "not counted",
        "reason": "it cannot follow the program (ValueError)",
    }


def test_ones_probe_counts_a_bilinear_operator() -> None:
    """The sum of a bilinear operator over ones is its exact number of products."""
    assert probe_with_ones(subject(product)) == AGREES


def test_ones_probe_leaves_the_rest_alone(tmp_path: Path) -> None:
    """Where the operator is not bilinear the sum over ones says nothing, and says so."""
    found = subject(product)
    found.scope.polynomial = False
    assert probe_with_ones(found) == {
        "macs": None,
        "verdict": "not counted",
        "reason": "the scope is not bilinear in its inputs",
    }
