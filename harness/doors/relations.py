"""The graph of relations, and those that papers draw, as ``sameop relations`` prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.bench.catalog import Catalogue
    from harness.bench.claims import Claim
    from harness.doors.project import Project

# Which claims show an edge, by whether they were proved now.
_TAKEN = {
    False: "Edges are shown by claims as they are declared; `--prove` proves them.",
    True: "Edges are shown by claims that were proved now.",
}


def describe_relations(
    catalogue: Catalogue, prove: Callable[[list[Claim]], dict[str, str]] | None = None
) -> dict[str, Any]:
    """Derive the graph of a catalogue and hold the drawn ones against it; return the document.

    prove: takes claims to their verdicts. With it, those are proved that relate operators of which the probe
    found that they obey a rule, and only what holds now shows an edge; without it, what is expected to hold
    shows one.
    """
    from harness.bench.drawn import check_drawn
    from harness.bench.relations import derive, describe_graph, relate, showing

    graph = derive(catalogue)
    verdicts: dict[str, str] = {}
    if prove is not None:
        wanted = dict.fromkeys(claim for relation in graph.relations for claim in relation.claims)
        verdicts = prove([catalogue.claims[name] for name in wanted])
        graph = relate(graph.nodes, showing(catalogue, verdicts), proved=True)
    checked = check_drawn(graph, catalogue.drawn)
    flawed = [name for name, node in graph.nodes.items() if node.flaw]
    failed = [name for name, verdict in verdicts.items() if verdict != "holds"]
    return {
        **describe_graph(graph),
        **checked,
        "proved": verdicts,
        "summary": f"{checked['summary']} {_TAKEN[prove is not None]}",
        "as_expected": checked["as_expected"] and not flawed and not failed,
    }


def verdicts_of(project: Project, say: Callable[[str], None]) -> Callable[[list[Claim]], dict[str, str]]:
    """Return what proves claims of a project, says how each went, and returns their verdicts."""
    from harness.doors.messages import claim_line
    from harness.doors.proving import open_proofs

    def prove(claims: list[Claim]) -> dict[str, str]:
        found = {}
        with open_proofs(project.folders, claims) as proofs:
            for claim in claims:
                result = proofs.of(claim)
                say(claim_line(result))
                found[claim.name] = result["verdict"]
        return found

    return prove
