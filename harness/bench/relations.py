"""Relations between operators: edges that follow from probed traits and from claims.

A rule says which trait changes from one operator to the other and which are kept. An edge is there where
the traits that the programs show obey a rule, and a claim that relates the two operators shows the special
case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import permutations
from typing import TYPE_CHECKING, Any

from harness.bench.proof.probe import probe
from harness.bench.sides import Pair, pairs_of
from harness.bench.traits import Traits
from harness.paper.errors import SameopError

if TYPE_CHECKING:
    from harness.bench.catalog import Catalogue
    from harness.bench.pages import Operator

TRAITS = tuple(field.name for field in fields(Traits))
# What changes along an edge, in the words of Han et al. 2021, arXiv 2106.04263, who do not draw the last two.
CONNECTION, DYNAMIC, RANK, SHARING, NOTHING = (
    "sparse connection",
    "dynamic weight",
    "low rank",
    "weight sharing",
    "no trait",
)
# An inequality bounds, and a negative claim separates: neither shows that one operator is the other's case.
_SHOWING = ("identity", "limit")
Change = tuple[Any, Any]


@dataclass(frozen=True)
class EdgeKind:
    """A rule of one sentence.

    changes: the trait that changes, and how; None where all are kept. follows: traits that may change with
    it, of which an edge tells. All others are kept. The rule asks for a claim that relates both ends.
    """

    name: str
    axis: str
    sentence: str
    changes: str | None
    rule: Callable[[Any, Any], bool]
    follows: tuple[str, ...] = ()

    @property
    def keeps(self) -> tuple[str, ...]:
        """The traits that must be the same at both ends."""
        return tuple(name for name in TRAITS if name != self.changes and name not in self.follows)

    def agrees(self, source: Traits, target: Traits) -> bool:
        """Tell whether the traits of two operators change and are kept as the rule says."""
        changed = changes_of(source, target)
        if self.changes is None:
            return not changed
        return not set(changed) & set(self.keeps) and self.rule(
            getattr(source, self.changes), getattr(target, self.changes)
        )

    def yields(self, source: Traits, target: Traits, claims: Collection[str]) -> bool:
        """Tell whether two operators with these traits, related by these claims, have such an edge."""
        return bool(claims) and self.agrees(source, target)


def changes_of(source: Traits, target: Traits) -> dict[str, Change]:
    """Return the traits that differ, with what they are at both ends."""
    before, after = source.as_dict(), target.as_dict()
    return {name: (before[name], after[name]) for name in TRAITS if before[name] != after[name]}


def _turns(before: Iterable[Any], after: Iterable[Any]) -> Callable[[Any, Any], bool]:
    first, then = tuple(before), tuple(after)
    return lambda source, target: source in first and target in then


def _gains(value: str) -> Callable[[Any, Any], bool]:
    return lambda source, target: value not in source and set(target) == {*source, value}


def _part(source: Collection[str], target: Collection[str]) -> bool:
    """Tell whether channels that shared weights, all or those of a group, have weights of their own."""
    tied = {"channels", "groups"}
    return bool(tied & set(source)) and set(target) == set(source) - tied


KINDS = (
    EdgeKind(
        "locality",
        CONNECTION,
        "An output that read all positions reads a neighbourhood, or a cell of a partition; which channels "
        "it reads, dynamics, rank and degree are kept, sharing may change; a claim shows the local operator "
        "as a case of the global one.",
        "space",
        _turns(["global"], ["local", "window"]),
        ("sharing",),
    ),
    EdgeKind(
        "dimension separation",
        CONNECTION,
        "An output that read all channels reads its own, mixing them being left to a pointwise layer; which "
        "positions it reads, dynamics, rank and degree are kept, sharing may change; a claim shows the "
        "separated operator as a case of the other.",
        "channels",
        _turns(["all"], ["own"]),
        ("sharing",),
    ),
    EdgeKind(
        "low rank in space",
        RANK,
        "The connections between positions lose rank; which positions are read, dynamics and degree are "
        "kept, while what merges positions may mix channels and sharing may change; a claim shows where the "
        "two are one.",
        "low_rank",
        _gains("space"),
        ("channels", "sharing"),
    ),
    EdgeKind(
        "low rank in channels",
        RANK,
        "The connections between channels lose rank, and every other trait is kept; a claim shows the "
        "operator of low rank as a case of the other.",
        "low_rank",
        _gains("channels"),
    ),
    EdgeKind(
        "dynamic per image",
        DYNAMIC,
        "Weights that were the same for all images follow the image; what is read and its rank are kept, "
        "degree and sharing may change; a claim shows the static operator as a case of the dynamic one.",
        "dynamic",
        _turns(["static"], ["per image"]),
        ("sharing", "degree"),
    ),
    EdgeKind(
        "dynamic per position",
        DYNAMIC,
        "Weights that were the same for all images, or for all positions of one, follow the position; what "
        "is read and its rank are kept, degree and sharing may change; a claim shows the operator as a case "
        "of the one that follows.",
        "dynamic",
        _turns(["static", "per image"], ["per position"]),
        ("sharing", "degree"),
    ),
    EdgeKind(
        "weights of one position",
        DYNAMIC,
        "Weights that came from comparing two positions come from one, by which the degree falls from three "
        "to two; every other trait is kept; a claim shows both as one operator on weights that are given.",
        "degree",
        _turns([3], [2]),
    ),
    EdgeKind(
        "positions share",
        SHARING,
        "Positions that had weights of their own share them, and every other trait is kept; a claim shows "
        "the operator that shares as a case of the other.",
        "sharing",
        _gains("positions"),
    ),
    EdgeKind(
        "channels part",
        SHARING,
        "Channels that shared their weights, all or those of a group, have weights of their own, and every "
        "other trait is kept; a claim shows the operator that shares as a case of the other.",
        "sharing",
        _part,
    ),
    EdgeKind(
        "same traits",
        NOTHING,
        "No trait changes; a claim shows where the two are the same function.",
        None,
        lambda *_: True,
    ),
)


@dataclass(frozen=True)
class Node:
    """An operator with the traits that its program shows.

    flaw: why no edge may follow from them, which is a declaration that they contradict, or that there is
    nothing to probe; traits is None in the latter case.
    """

    operator: str
    traits: Traits | None
    flaw: str | None = None


@dataclass(frozen=True)
class Relation:
    """An edge: its ends, its kind, what changes in the traits, and the claims that relate the ends."""

    source: str
    target: str
    kind: EdgeKind
    changed: Mapping[str, Change]
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Operators and their relations.

    shown: the claims that may show an edge, each with the pairs of operators that it relates. proved: whether
    these claims were proved now; else they are those that are expected to hold.
    """

    nodes: Mapping[str, Node]
    relations: tuple[Relation, ...]
    shown: Mapping[str, Collection[Pair]]
    proved: bool

    def claims_of(self, source: str, target: str) -> tuple[str, ...]:
        """Return the claims that relate two operators."""
        return tuple(name for name, pairs in self.shown.items() if {source, target} in pairs)

    def path(self, source: str, target: str, kinds: Collection[str]) -> tuple[Relation, ...]:
        """Return the shortest way with one edge of these kinds, where others change no more than sharing."""
        ways: list[tuple[str, tuple[Relation, ...], bool]] = [(source, (), False)]
        seen = {(source, False)}
        for end, way, has_kind in ways:
            if end == target and has_kind:
                return way
            for step in self._steps(end, () if has_kind else kinds):
                state = (step.target, has_kind or step.kind.name in kinds)
                if state not in seen:
                    seen.add(state)
                    ways.append((step.target, (*way, step), state[1]))
        return ()

    def _steps(self, source: str, kinds: Collection[str]) -> Iterator[Relation]:
        for relation in self.relations:
            if relation.source == source and (relation.kind.name in kinds or relation.kind.axis == SHARING):
                yield relation
            elif source in (relation.source, relation.target) and relation.kind.axis == NOTHING:
                other = relation.target if relation.source == source else relation.source
                yield Relation(source, other, relation.kind, {}, relation.claims)

    def unruled(self) -> dict[str, list[list[str]]]:
        """Return the claims that yield no edge, with the pairs of operators that they relate."""
        used = {claim for relation in self.relations for claim in relation.claims}
        return {
            name: sorted(sorted(pair) for pair in pairs)
            for name, pairs in self.shown.items()
            if name not in used
        }


def derive(catalogue: Catalogue, proved: Mapping[str, str] | None = None) -> Graph:
    """Probe all operators and return the graph of a catalogue.

    proved: the verdicts of the claims that were proved now, which alone may then show an edge; without
    them every claim is taken that is expected to hold.
    """
    nodes = {name: probe_node(operator) for name, operator in catalogue.operators.items()}
    return relate(nodes, showing(catalogue, proved), proved=proved is not None)


def probe_node(operator: Operator) -> Node:
    """Return an operator as a node, with the traits that its program shows."""
    try:
        probed = probe(operator)
    except SameopError as error:
        return Node(operator.name, None, str(error))
    found = Traits(**{name: getattr(probed, name) for name in TRAITS})
    wrong = probed.contradicts(operator.traits) if operator.traits else []
    flaw = f"it declares otherwise than its program shows: {', '.join(wrong)}" if wrong else None
    return Node(operator.name, found, flaw)


def showing(catalogue: Catalogue, proved: Mapping[str, str] | None = None) -> dict[str, frozenset[Pair]]:
    """Return the claims that may show an edge, with the pairs of operators that each relates.

    proved: the verdicts that were reached now, and the only ones that count; else what is expected counts.
    """
    return {
        claim.name: pairs_of(claim, catalogue.operators)
        for claim in catalogue.claims.values()
        if claim.kind in _SHOWING
        and claim.expected == "holds"
        and len(set(claim.operators)) > 1
        and (proved is None or proved.get(claim.name) == "holds")
    }


def relate(
    nodes: Mapping[str, Node], shown: Mapping[str, Collection[Pair]], *, proved: bool = False
) -> Graph:
    """Return the graph of nodes and of claims, each with the pairs of operators that it relates."""
    graph = Graph(nodes, (), shown, proved)
    return Graph(nodes, tuple(_relations(graph)), shown, proved)


def _relations(graph: Graph) -> Iterator[Relation]:
    order = list(graph.nodes)
    for source, target in permutations(order, 2):
        claims = graph.claims_of(source, target)
        first, then = (_sound_traits(graph.nodes[end]) for end in (source, target))
        if not claims or first is None or then is None:
            continue
        for kind in KINDS:
            # What changes nothing has no direction: it is told once.
            told = kind.axis == NOTHING and order.index(source) > order.index(target)
            if kind.yields(first, then, claims) and not told:
                yield Relation(source, target, kind, changes_of(first, then), claims)


def _sound_traits(node: Node) -> Traits | None:
    return None if node.flaw else node.traits


def describe_graph(graph: Graph) -> dict[str, Any]:
    """Return a graph in the shape of ``sameop relations --json``."""
    return {
        "claims": "proved" if graph.proved else "declared",
        "nodes": [
            {**asdict(node), "traits": node.traits.as_dict() if node.traits else {}}
            for node in graph.nodes.values()
        ],
        "kinds": [
            {
                "name": kind.name,
                "axis": kind.axis,
                "sentence": kind.sentence,
                "changes": kind.changes,
                "follows": list(kind.follows),
                "keeps": list(kind.keeps),
            }
            for kind in KINDS
        ],
        "edges": [describe_relation(graph, relation) for relation in graph.relations],
        "unruled": [{"claim": name, "pairs": pairs} for name, pairs in graph.unruled().items()],
    }


def describe_relation(graph: Graph, relation: Relation) -> dict[str, Any]:
    """Return an edge with the traits of both ends that change, follow and are kept."""
    traits = graph.nodes[relation.source].traits
    values = traits.as_dict() if traits else {}
    changed = {name: list(change) for name, change in relation.changed.items()}
    return {
        "source": relation.source,
        "target": relation.target,
        "kind": relation.kind.name,
        "sentence": relation.kind.sentence,
        "changed": {name: change for name, change in changed.items() if name == relation.kind.changes},
        "followed": {name: change for name, change in changed.items() if name != relation.kind.changes},
        "kept": {name: value for name, value in values.items() if name not in changed},
        "claims": list(relation.claims),
    }
