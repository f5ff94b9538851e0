"""Relations: which edges follow from traits and claims, and what becomes of edges that a paper draws."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from harness.bench.catalog import Catalogue
from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.drawn import DrawnEdge, check_drawn
from harness.bench.inputs import Spec, activation, generated, parameter
from harness.bench.pages import Operator
from harness.bench.relations import (
    KINDS,
    TRAITS,
    EdgeKind,
    Graph,
    Node,
    derive,
    describe_graph,
    probe_node,
    relate,
    showing,
)
from harness.bench.sides import Pair
from harness.bench.traits import VALUES, Traits
from harness.doors import cli
from harness.paper.errors import SameopError
from harness.tests.specimens import DIMS, mixing, scope_of

DENSE = Traits("global", "all")
CONV = Traits("local", "all", ("positions",))
DEPTHWISE = Traits("local", "own", ("positions",))
TIED = Traits("local", "own", ("positions", "groups"))
PER_IMAGE = Traits("local", "own", ("positions",), "per image", degree=2)
PER_POSITION = Traits("local", "own", ("groups",), "per position", degree=2)
COMPARED = Traits("local", "own", ("groups",), "per position", degree=3)
# Of every rule: two operators that obey it, and values of the trait that changes that obey it as well.
OBEYED: Mapping[str, tuple[Traits, Traits, tuple[Any, ...]]] = {
    "locality": (DENSE, CONV, ("local", "window")),
    "dimension separation": (CONV, DEPTHWISE, ("own",)),
    "low rank in space": (COMPARED, replace(COMPARED, low_rank=("space",)), (("space",),)),
    "low rank in channels": (CONV, replace(CONV, low_rank=("channels",)), (("channels",),)),
    "dynamic per image": (DEPTHWISE, PER_IMAGE, ("per image",)),
    "dynamic per position": (DEPTHWISE, PER_POSITION, ("per position",)),
    "weights of one position": (COMPARED, PER_POSITION, (2,)),
    "positions share": (Traits("local", "all"), CONV, (("positions",),)),
    "channels part": (TIED, DEPTHWISE, (("positions",),)),
    "same traits": (CONV, CONV, ()),
}
# What each rule lets change besides, as its sentence says.
FOLLOWS = {
    "locality": {"sharing"},
    "dimension separation": {"sharing"},
    "low rank in space": {"channels", "sharing"},
    "dynamic per image": {"sharing", "degree"},
    "dynamic per position": {"sharing", "degree"},
}
SETS = ((), ("positions",), ("groups",), ("channels",), ("positions", "groups"), ("positions", "channels"))
OTHERS: Mapping[str, tuple[Any, ...]] = {
    **VALUES,
    "sharing": SETS,
    "low_rank": ((), ("space",), ("channels",), ("space", "channels")),
    "degree": (1, 2, 3, None),
}


def graph_of(traits: Mapping[str, Traits], *claims: tuple[str, ...], **more: Any) -> Graph:
    """Relate operators by claims, which are named after the operators that they are about."""
    nodes = {name: Node(name, found) for name, found in traits.items()}
    return relate(nodes, {"-".join(ends): related(*ends) for ends in claims}, **more)


def related(*operators: str) -> frozenset[Pair]:
    """Return the one pair that a claim about two operators relates."""
    return frozenset({frozenset(operators)})


def edges(graph: Graph) -> list[tuple[str, str, str]]:
    """Return source, kind and target of every edge."""
    return [(edge.source, edge.kind.name, edge.target) for edge in graph.relations]


def test_every_rule_has_an_example() -> None:
    """No rule is left untested, and none has the name of another."""
    assert list(OBEYED) == [kind.name for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_edge_is_there_exactly_when_its_trait_changes_and_others_are_kept(kind: EdgeKind) -> None:
    """Of all values of every single trait, the edge is there for those that the sentence names."""
    source, target, obeying = OBEYED[kind.name]
    for field, values in OTHERS.items():
        for value in values:
            changed = replace(target, **{field: value})
            found = ("a", kind.name, "b") in edges(graph_of({"a": source, "b": changed}, ("a", "b")))
            if field == kind.changes:
                wanted = value in obeying
            else:
                wanted = value == getattr(source, field) or field in FOLLOWS.get(kind.name, set())
            assert found == wanted, (field, value)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_there_is_no_edge_without_a_claim_about_both_ends(kind: EdgeKind) -> None:
    """Traits alone show nothing, and neither does a claim about another pair."""
    traits = dict(zip("abc", (*OBEYED[kind.name][:2], Traits("window", "groups")), strict=True))
    assert edges(graph_of(traits, ("b", "a"))) == [("a", kind.name, "b")]
    for claims in ([], [("a", "c")], [("c", "b")]):
        assert ("a", kind.name, "b") not in edges(graph_of(traits, *claims))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_rule_has_a_direction_and_its_sentence_tells_everything(kind: EdgeKind) -> None:
    """The way back is no edge of the kind; the sentence says what is kept and what a claim shows."""
    source, target, _ = OBEYED[kind.name]
    back = edges(graph_of({"a": target, "b": source}, ("a", "b")))
    assert (("a", kind.name, "b") in back) == (kind.changes is None)
    assert "a claim shows" in kind.sentence
    assert "kept" in kind.sentence or kind.changes is None
    assert {*kind.follows, *kind.keeps, kind.changes} - {None} == set(TRAITS)
    assert kind.sentence.endswith(".")
    assert kind.sentence.count(".") == 1


def test_an_edge_tells_what_changes_what_follows_and_what_is_kept() -> None:
    """A dense layer that becomes a convolution shares its weights besides."""
    described = describe_graph(graph_of({"mlp": DENSE, "conv": CONV}, ("conv", "mlp")))
    assert json.loads(json.dumps(described["edges"])) == [
        {
            "source": "mlp",
            "target": "conv",
            "kind": "locality",
            "sentence": KINDS[0].sentence,
            "changed": {"space": ["global", "local"]},
            "followed": {"sharing": [[], ["positions"]]},
            "kept": {"channels": "all", "dynamic": "static", "low_rank": [], "degree": 1},
            "claims": ["conv-mlp"],
        }
    ]
    assert described["claims"] == "declared"
    assert described["nodes"][0] == {"operator": "mlp", "traits": DENSE.as_dict(), "flaw": None}
    assert [kind["name"] for kind in described["kinds"]] == list(OBEYED)


def test_claims_that_no_rule_explains_are_listed() -> None:
    """A claim about two operators that change otherwise is told, not dropped."""
    graph = graph_of({"a": DENSE, "b": PER_IMAGE, "c": CONV}, ("a", "b"), ("a", "c"))
    assert describe_graph(graph)["unruled"] == [{"claim": "a-b", "pairs": [["a", "b"]]}]


def test_what_changes_nothing_is_told_once() -> None:
    """Two operators of the same traits are one pair, whichever the claim names first."""
    assert edges(graph_of({"a": CONV, "b": CONV}, ("b", "a"))) == [("a", "same traits", "b")]


class Made(Claim):
    """A channel mixing is two in a row."""

    source = "made for a test"
    operators = ("a", "b")
    shapes = (DIMS,)

    def variables(self, d: Dims) -> Mapping[str, tuple[int, ...]]:
        """Return a map and a matrix."""
        return {"x": (d.B, d.C, d.H, d.W), "weight": (d.C, d.C)}

    def left(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Call the one operator."""
        return OPERATORS["a"].scopes["core"](x, weight)

    def right(self, d: Dims, x: Tensor, weight: Tensor) -> Tensor:
        """Call the other operator."""
        return OPERATORS["b"].scopes["core"](x, weight)


def operator_of(name: str, traits: Traits | None = None, make: Callable[..., Spec] = parameter) -> Operator:
    """Make an operator that mixes the channels of every position."""
    scope = scope_of(
        mixing,
        lambda d: {"x": activation(d.B, d.C, d.H, d.W), "weight": make(d.C, d.C)},
        lambda d: (d.B, d.C, d.H, d.W),
        polynomial=True,
    )
    scope.operator.name, scope.operator.traits = name, traits
    return scope.operator


OPERATORS = {name: operator_of(name) for name in "ab"}


def catalogue_of(**claims: Mapping[str, Any]) -> Catalogue:
    """Collect claims about the two operators, each with what it states otherwise."""
    made: dict[str, Claim] = {
        name: type("Other", (Made,), {"__doc__": "Stated.", "name": name, **more})()
        for name, more in claims.items()
    }
    return Catalogue(operators=OPERATORS, claims=made)


def test_only_claims_that_hold_show_an_edge() -> None:
    """Identities and limits that are expected to hold count; nothing else does, nor what names one."""
    catalogue = catalogue_of(
        identity={},
        limit={"kind": "limit"},
        negative={"kind": "negative"},
        inequality={"kind": "inequality"},
        folklore={"expected": "refuted"},
        alone={"operators": ("a", "a")},
    )
    assert showing(catalogue) == {"identity": related("a", "b"), "limit": related("a", "b")}


@pytest.mark.parametrize("verdict", ["holds", "refuted", "refused"])
def test_a_claim_that_was_not_proved_now_shows_no_edge(verdict: str) -> None:
    """With verdicts at hand a claim counts that holds, and none that was refuted, refused or left out."""
    shown = showing(catalogue_of(one={}, other={}), {"one": verdict})
    assert list(shown) == (["one"] if verdict == "holds" else [])
    graph = relate({"a": Node("a", CONV), "b": Node("b", DEPTHWISE)}, shown, proved=True)
    assert len(graph.relations) == (verdict == "holds")
    assert describe_graph(graph)["claims"] == "proved"


def test_the_graph_of_a_catalogue_is_probed() -> None:
    """Operators and claims of a catalogue become nodes and edges."""
    graph = derive(catalogue_of(one={}))
    assert graph.nodes["a"] == Node("a", Traits("position", "all", ("positions",)))
    assert edges(graph) == [("a", "same traits", "b")]
    assert not derive(catalogue_of(one={}), {}).relations


def test_edges_follow_from_what_the_program_shows() -> None:
    """A node has the probed traits; where a page declares others, it says so and yields no edge."""
    mixed = Traits("position", "all", ("positions",))
    right = probe_node(operator_of("tiny", mixed))
    assert right == probe_node(operator_of("tiny")) == Node("tiny", mixed)
    wrong = probe_node(operator_of("tiny", replace(mixed, space="global", degree=2)))
    assert wrong == Node("tiny", mixed, "it declares otherwise than its program shows: space, degree")
    own = Node("own", replace(mixed, channels="own"))
    shown = {"claim": related("tiny", "own")}
    assert edges(relate({"tiny": right, "own": own}, shown)) == [("tiny", "dimension separation", "own")]
    assert not relate({"tiny": wrong, "own": own}, shown).relations


def test_what_cannot_be_probed_yields_no_edge() -> None:
    """The reason of the probe stands at the node."""
    node = probe_node(operator_of("tiny", make=generated))
    assert node.traits is None
    assert str(node.flaw).startswith("tiny/core was probed, but nothing says how its generated ")
    assert not relate(
        {"tiny": node, "conv": Node("conv", CONV)}, {"claim": related("tiny", "conv")}
    ).relations


def drawn(*targets: str, kinds: tuple[str, ...] = ("locality",), **more: Any) -> DrawnEdge:
    """Draw an edge from the operator a."""
    stated = {"sources": ("a",), "targets": targets, "kinds": kinds, "source": "made for a test", **more}
    return DrawnEdge("A", "B", "Local", **stated)


def test_a_drawn_edge_is_reproduced_by_the_rule_of_its_label() -> None:
    """The edge is there by the rule that the label stands for, and by no other."""
    graph = graph_of({"a": DENSE, "b": CONV}, ("a", "b"))
    found = drawn("b").check(graph)
    assert (found["verdict"], found["reason"]) == ("reproduced", None)
    assert [edge["kind"] for edge in found["edges"]] == ["locality"]
    other = drawn("b", kinds=("dimension separation",)).check(graph)
    assert (other["verdict"], other["edges"]) == ("not reproduced", [])
    assert other["reason"] == (
        "The rule 'dimension separation' asks channels to change and space, dynamic, low rank, degree to be "
        "kept; from a to b the programs show space from global to local; sharing from none to positions."
    )


TIED_PER_IMAGE = replace(PER_IMAGE, sharing=("positions", "groups"))
UNSHARED = replace(DEPTHWISE, sharing=())


@pytest.mark.parametrize(
    ("first", "middle", "kinds"),
    [
        (DEPTHWISE, TIED_PER_IMAGE, ["dynamic per image", "channels part"]),
        (TIED, DEPTHWISE, ["channels part", "dynamic per image"]),
        (UNSHARED, DEPTHWISE, ["positions share", "dynamic per image"]),
        (DEPTHWISE, DEPTHWISE, ["same traits", "dynamic per image"]),
        (CONV, DEPTHWISE, []),
    ],
)
def test_steps_that_change_sharing_alone_may_be_part_of_a_drawn_edge(
    first: Traits, middle: Traits, kinds: list[str]
) -> None:
    """Weight sharing is not drawn, so such a step may come before or after, and no other step may."""
    graph = graph_of({"a": first, "b": middle, "c": PER_IMAGE}, ("a", "b"), ("b", "c"))
    found = drawn("c", kinds=("dynamic per image",)).check(graph)
    assert found["verdict"] == ("reproduced" if kinds else "not reproduced")
    assert [edge["kind"] for edge in found["edges"]] == kinds


def test_a_step_without_a_trait_may_be_gone_backwards() -> None:
    """Two operators of the same traits are the same by a claim, from either side."""
    graph = graph_of({"b": DENSE, "a": DENSE, "c": CONV}, ("a", "b"), ("b", "c"))
    found = drawn("c").check(graph)
    assert [(edge["source"], edge["target"]) for edge in found["edges"]] == [("a", "b"), ("b", "c")]


def test_a_drawn_edge_has_its_rule_once() -> None:
    """Two steps of drawn kinds are two edges: a path through both is not the one that is drawn."""
    traits = {"a": DENSE, "b": CONV, "c": DEPTHWISE}
    graph = graph_of(traits, ("a", "b"), ("b", "c"))
    kinds = ("locality", "dimension separation")
    assert drawn("c", kinds=kinds).check(graph)["verdict"] == "not reproduced"


def test_every_target_must_be_reached() -> None:
    """A node that stands for two operators is reached when both are."""
    traits = {"a": DENSE, "b": CONV, "c": CONV}
    found = drawn("b", "c").check(graph_of(traits, ("a", "b")))
    assert found["verdict"] == "not reproduced"
    assert found["reason"] == (
        "The traits change as the rule says, but no identity or limit that is expected to hold relates "
        "a and c."
    )
    both = drawn("b", "c").check(graph_of(traits, ("a", "b"), ("b", "c")))
    assert both["verdict"] == "reproduced"
    assert [(edge["source"], edge["target"]) for edge in both["edges"]] == [("a", "b"), ("b", "c")]


def test_the_source_that_comes_closest_says_what_lacks() -> None:
    """Of several sources the reason is that of one whose traits obey the rule."""
    graph = graph_of({"x": PER_IMAGE, "a": DENSE, "b": CONV}, proved=True)
    found = drawn("b", sources=("x", "a")).check(graph)
    assert found["reason"] == (
        "The traits change as the rule says, but no identity or limit that was proved now relates a and b."
    )


def test_a_flawed_operator_says_so() -> None:
    """An edge whose end declares what its program does not show is not reproduced for that reason."""
    nodes = {"a": Node("a", DENSE, "it is odd"), "b": Node("b", CONV)}
    found = drawn("b").check(relate(nodes, {"claim": related("a", "b")}))
    assert (found["verdict"], found["reason"]) == ("not reproduced", "No edge follows from a: it is odd.")


def test_an_end_without_an_operator_is_not_reproduced() -> None:
    """Where no page declares what is drawn, that is the reason."""
    found = drawn().check(graph_of({"a": DENSE}))
    assert (found["verdict"], found["reason"]) == ("not reproduced", "No page declares such an operator.")


@pytest.mark.parametrize(
    ("edge", "said"),
    [
        (
            drawn("nope"),
            "The drawn edge A —Local→ B names the operator 'nope', which no page declares: "
            "correct the name, or add the page.",
        ),
        (
            drawn("a", kinds=("magic",)),
            "The drawn edge A —Local→ B names the rule 'magic': known are " + ", ".join(OBEYED) + ".",
        ),
    ],
)
def test_a_misspelt_drawn_edge_is_told(edge: DrawnEdge, said: str) -> None:
    """A name that nobody declares is one sentence."""
    with pytest.raises(SameopError) as refused:
        edge.check(graph_of({"a": DENSE}))
    assert str(refused.value) == said


@pytest.mark.parametrize(("expected", "as_expected"), [("reproduced", True), ("not reproduced", False)])
def test_verdicts_are_held_against_what_the_page_expects(expected: Any, as_expected: bool) -> None:
    """An edge that is there against expectation is as wrong as one that is not."""
    graph = graph_of({"a": DENSE, "b": CONV}, ("a", "b"))
    found = check_drawn(graph, [drawn("b", expected=expected), drawn(expected="not reproduced")])
    assert found["as_expected"] == as_expected
    assert found["summary"] == "2 drawn edges: 1 reproduced, 1 not."


PAGE = '''
"""Two operators, a claim about them, and an edge that is drawn."""

import torch

from harness import (
    Claim, Cost, Dims, DrawnEdge, Operator, Traits, Workload, activation, equivalent, mutant, parameter
)


def make(name, reference, shape, traits):
    operator = Operator(name, family="tiny", source="made for a test", traits=traits)
    operator.scope(
        "core",
        reference=reference,
        inputs=lambda d: {"x": activation(d.B, d.C, d.T), "weight": parameter(*shape(d))},
        output=lambda d: (d.B, d.C, d.T),
        cost=lambda d: Cost(params=0, macs=0, elements_read=0, elements_written=0),
        workloads=[Workload("tiny/one", Dims(B=1, C=2, T=3), "made for a test")],
        proof_dims=(Dims(B=2, C=3, T=4),),
        polynomial=True,
    )
    return operator


def mix(x, weight):
    """y[b,o,t] = Σ_c weight[o,c] · x[b,c,t]."""
    return torch.einsum("oc,bct->bot", weight, x)


def scale(x, weight):
    """y[b,c,t] = weight[c] · x[b,c,t]."""
    return x * weight[:, None]


OPERATORS = [
    make("mixing", mix, lambda d: (d.C, d.C), Traits("{space}", "all", ("positions",))),
    make("scaling", scale, lambda d: (d.C,), Traits("position", "own", ("positions",))),
]


class ScalingIsDiagonalMixing(Claim):
    """Scaling channels is mixing them by a diagonal matrix."""

    name = "scaling-is-diagonal-mixing"
    operators = ("scaling", "mixing")
    source = "made for a test"
    shapes = (Dims(B=3, C=4, T=5),)

    def variables(self, d):
        return {"x": (d.B, d.C, d.T), "weight": (d.C,)}

    def left(self, d, x, weight):
        return scale(x, weight)

    def right(self, d, x, weight):
        return mix(x, torch.diag_embed({weight}))

    @mutant()
    def reversed_weights(self, d, x, weight):
        """The weights are those of other channels."""
        return mix(x, torch.diag_embed(weight.flip(0)))


DRAWN = [
    DrawnEdge(
        "Mix", "Scale", "Dim.", sources=("mixing",), targets=("scaling",), kinds=("dimension separation",),
        source="made for a test", remark="a remark",
    )
]
'''
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a way to run ``sameop relations`` on a project of two operators."""
    package = tmp_path / "ops"
    package.mkdir()
    (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, space: str = "position", weight: str = "weight") -> tuple[int, str, str]:
        page = PAGE.replace("{space}", space).replace("{weight}", weight)
        (package / "page.py").write_text(page, encoding="utf-8")
        code = cli.main(["relations", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_command_prints_one_document(command: Command) -> None:
    """Nodes, rules, edges and drawn edges, and which claims were taken."""
    code, out, _ = command("--json")
    found = json.loads(out)
    assert (code, found["claims"], found["proved"]) == (0, "declared", {})
    assert [(edge["source"], edge["kind"], edge["claims"]) for edge in found["edges"]] == [
        ("mixing", "dimension separation", ["scaling-is-diagonal-mixing"])
    ]
    assert found["drawn"][0]["verdict"] == "reproduced"
    assert found["as_expected"]


def test_the_command_prints_tables(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads rules, traits, what changes, and each drawn edge with its steps and its remark."""
    monkeypatch.setattr("harness.doors.commands._WIDE", 400)
    code, out, err = command()
    assert code == 0
    assert "channels all → own" in out
    assert "mixing —dimension separation→ scaling" in out
    assert "a remark" in out
    assert err.splitlines()[0] == (
        "1 drawn edges: 1 reproduced, 0 not. Edges are shown by claims as they are declared; "
        "`--prove` proves them."
    )


def test_the_command_proves_claims_when_asked(command: Command) -> None:
    """With --prove an edge is shown by what was proved now, and the document says so."""
    code, out, err = command("--prove", "--json")
    found = json.loads(out)
    assert (code, found["claims"]) == (0, "proved")
    assert found["proved"] == {"scaling-is-diagonal-mixing": "holds"}
    assert found["drawn"][0]["verdict"] == "reproduced"
    assert "scaling-is-diagonal-mixing" in err


def test_a_claim_that_is_refuted_now_shows_nothing(command: Command) -> None:
    """A wrong claim is an edge where it is believed, and none where it is proved; that ends with 1."""
    wrong = "2 * weight"
    assert command("--json", weight=wrong)[0] == 0
    code, out, _ = command("--prove", "--json", weight=wrong)
    found = json.loads(out)
    assert (code, found["proved"], found["edges"]) == (1, {"scaling-is-diagonal-mixing": "refuted"}, [])
    assert found["drawn"][0]["verdict"] == "not reproduced"
    assert not found["as_expected"]


def test_a_wrong_declaration_fails_the_command(command: Command) -> None:
    """An operator that declares what its program does not show yields no edge, and that ends with 1."""
    code, out, _ = command("--json", space="local")
    found = json.loads(out)
    assert (code, found["edges"]) == (1, [])
    assert found["nodes"][0]["flaw"] == "it declares otherwise than its program shows: space"
    assert found["drawn"][0]["reason"] == f"No edge follows from mixing: {found['nodes'][0]['flaw']}."
