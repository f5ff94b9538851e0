"""Graphs of operators as papers draw them, held against the relations that are derived here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.bench.relations import KINDS, EdgeKind, Graph, Relation, changes_of, describe_relation
from harness.paper.errors import SameopError

Verdict = Literal["reproduced", "not reproduced"]
_KINDS = {kind.name: kind for kind in KINDS}


@dataclass(frozen=True)
class DrawnEdge:
    """An edge of a graph that a paper draws.

    start, end, label: what stands in the figure. sources, targets: the operators that stand for its ends;
    every target must be reached from a source. kinds: the rules that the label stands for, one of which
    must yield the edge; steps that change no more than the sharing of weights may precede or follow it.
    expected: the verdict that the remark explains.
    """

    start: str
    end: str
    label: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    kinds: tuple[str, ...]
    source: str
    expected: Verdict = "reproduced"
    remark: str = ""

    @property
    def title(self) -> str:
        """The edge as a line."""
        return f"{self.start} —{self.label}→ {self.end}"

    def check(self, graph: Graph) -> dict[str, Any]:
        """Look for the edge in a graph, and say why it is not there."""
        self._demand_known(graph)
        ways = {target: self._way(graph, target) for target in self.targets}
        missing = [target for target, way in ways.items() if not way]
        steps = [step for way in ways.values() for step in way]
        reason = self._reason(graph, missing)
        return {
            "start": self.start,
            "end": self.end,
            "label": self.label,
            "sources": list(self.sources),
            "targets": list(self.targets),
            "kinds": list(self.kinds),
            "verdict": "not reproduced" if reason else "reproduced",
            "reason": reason,
            "edges": _each_once(describe_relation(graph, step) for step in steps),
            "expected": self.expected,
            "remark": self.remark,
            "source": self.source,
        }

    def _way(self, graph: Graph, target: str) -> Sequence[Relation]:
        ways = [graph.path(source, target, self.kinds) for source in self.sources]
        return min((way for way in ways if way), key=len, default=())

    def _reason(self, graph: Graph, missing: Sequence[str]) -> str | None:
        """Say what the first target lacks that is not reached."""
        if not self.sources or not self.targets:
            return "No page declares such an operator."
        if not missing:
            return None
        # The source that comes closest tells most.
        lacks = [_lack(graph, source, missing[0], self.kinds) for source in self.sources]
        return min(lacks)[1]

    def _demand_known(self, graph: Graph) -> None:
        for name in (*self.sources, *self.targets):
            if name not in graph.nodes:
                raise SameopError(
                    f"The drawn edge {self.title} names the operator {name!r}, which no page declares: "
                    "correct the name, or add the page."
                )
        for name in self.kinds:
            if name not in _KINDS:
                raise SameopError(
                    f"The drawn edge {self.title} names the rule {name!r}: known are {', '.join(_KINDS)}."
                )


def _each_once(edges: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop what is repeated, as ways to several targets may begin alike."""
    found: list[dict[str, Any]] = []
    for edge in edges:
        if edge not in found:
            found.append(edge)
    return found


def _lack(graph: Graph, source: str, target: str, kinds: Sequence[str]) -> tuple[int, str]:
    """Return how far an edge is from being there, and why it is not."""
    for end in (source, target):
        if graph.nodes[end].flaw:
            return 2, f"No edge follows from {end}: {graph.nodes[end].flaw}."
    first, then = graph.nodes[source].traits, graph.nodes[target].traits
    assert first is not None  # a node without traits has a flaw
    assert then is not None
    if any(_KINDS[name].agrees(first, then) for name in kinds):
        which = "was proved now" if graph.proved else "is expected to hold"
        return 0, (
            "The traits change as the rule says, but no identity or limit that "
            f"{which} relates {source} and {target}."
        )
    changed = changes_of(first, then)
    return 1, " ".join(_broken(_KINDS[name], source, target, changed) for name in kinds)


def _broken(kind: EdgeKind, source: str, target: str, changed: Mapping[str, Any]) -> str:
    """Say what a rule asks of two operators and does not find."""
    told = [f"{_plain(name)} from {_value(a)} to {_value(b)}" for name, (a, b) in changed.items()]
    asked = f"{_plain(kind.changes)} to change" if kind.changes else "nothing to change"
    kept = ", ".join(map(_plain, kind.keeps))
    return (
        f"The rule {kind.name!r} asks {asked} and {kept} to be kept; "
        f"from {source} to {target} the programs show {'; '.join(told) or 'no change'}."
    )


def _plain(name: str | None) -> str:
    return (name or "nothing").replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "none"
    return str(value)


def check_drawn(graph: Graph, drawn: Sequence[DrawnEdge]) -> dict[str, Any]:
    """Check every drawn edge; as_expected is false where a verdict is not the one that the page explains."""
    edges = [edge.check(graph) for edge in drawn]
    reached = [edge for edge in edges if edge["verdict"] == "reproduced"]
    return {
        "drawn": edges,
        "summary": f"{len(edges)} drawn edges: {len(reached)} reproduced, {len(edges) - len(reached)} not.",
        "as_expected": all(edge["verdict"] == edge["expected"] for edge in edges),
    }
