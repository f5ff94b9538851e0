"""Every edge that a paper draws has the verdict that the page expects, and no edge is without a claim."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness import DrawnEdge
from harness.bench.catalog import load_catalogue
from harness.bench.relations import Graph, derive, relate

CATALOGUE = load_catalogue([Path(__file__).parent])


@cache
def graph() -> Graph:
    """Probe all operators once for all tests."""
    return derive(CATALOGUE)


def checked(edge: DrawnEdge) -> dict[str, Any]:
    """Hold a drawn edge against the graph."""
    return edge.check(graph())


@pytest.mark.parametrize("edge", CATALOGUE.drawn, ids=lambda edge: edge.title)
def test_every_drawn_edge_has_the_expected_verdict(edge: DrawnEdge) -> None:
    """What is expected to be reproduced is, and what is not says why on the page."""
    found = checked(edge)
    if found["verdict"] != edge.expected:
        pytest.fail(f"{edge.title}: {found['verdict']}. {found['reason'] or ''}", pytrace=False)
    assert edge.remark or edge.expected == "reproduced"


@pytest.mark.parametrize("edge", CATALOGUE.drawn, ids=lambda edge: edge.title)
def test_no_drawn_edge_stands_without_its_claims(edge: DrawnEdge) -> None:
    """Every step of an edge is shown by claims, and without the claims of all its steps no edge is there."""
    steps = checked(edge)["edges"]
    assert all(step["claims"] for step in steps)
    pairs = [{step["source"], step["target"]} for step in steps]
    others = {name: [pair for pair in found if pair not in pairs] for name, found in graph().shown.items()}
    if steps:
        assert edge.check(relate(graph().nodes, others))["edges"] != steps
    assert edge.check(relate(graph().nodes, {}))["verdict"] == "not reproduced"


def test_no_edge_is_without_a_claim() -> None:
    """Every derived edge is shown by claims of the catalogue that name its two ends and hold."""
    assert graph().relations
    for edge in graph().relations:
        assert edge.claims
        for name in edge.claims:
            claim = CATALOGUE.claims[name]
            assert {edge.source, edge.target} <= set(claim.operators)
            assert claim.expected == "holds"


def test_no_operator_is_flawed() -> None:
    """Every node has probed traits that its page declares, so that none is left out of the graph."""
    assert {name: node.flaw for name, node in graph().nodes.items() if node.flaw} == {}


def test_the_figure_is_whole() -> None:
    """The relation graph of Han et al. has thirteen edges, one of them dotted, between twelve nodes."""
    assert len(CATALOGUE.drawn) == 13
    nodes = {end for edge in CATALOGUE.drawn for end in (edge.start, edge.end)}
    assert len(nodes) == 12
