"""Adversarial shapes: what is drawn, and that pages which break a promise are found out."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.cost import Cost
from harness.bench.dims import Dims, Workload
from harness.bench.inputs import Spec, activation, parameter
from harness.bench.pages import Operator, Scope
from harness.paper.errors import Exit, SameopError

pytest.importorskip("hypothesis", reason="shapes are drawn by hypothesis: pip install -e '.[test]'")

from harness.bench.shapes.__main__ import main
from harness.bench.shapes.breach import BreachError
from harness.bench.shapes.computing import demand_computed
from harness.bench.shapes.drawing import any_shapes, defined_shapes, for_all
from harness.bench.shapes.layouts import LAYOUTS
from harness.bench.shapes.letters import lacking, letters_of
from harness.bench.shapes.refusing import demand_known_names, demand_sentence
from harness.bench.shapes.survey import (
    computations_asked,
    demand_all,
    survey_computations,
    survey_refusals,
)
from harness.tests.projects import PAGE

Function = Callable[..., Tensor]


def pooling(x: Tensor, weight: Tensor, stride: int = 1, act: str = "none") -> Tensor:
    """y[b, c, i, j] = Σ_uv weight[g, u, v] · x[b, c, i·s + u, j·s + v], g the group of channel c."""
    G, K = weight.shape[:2]
    taps = x.unfold(2, K, stride).unfold(3, K, stride)
    kernel = weight.repeat_interleave(x.shape[1] // G, 0)[:, None, None]
    return (taps * kernel).sum((-1, -2))


def inputs(d: Dims) -> Mapping[str, Spec]:
    """Shapes of the specimen's inputs."""
    return {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.G, d.K, d.K)}


def output(d: Dims) -> tuple[int, ...]:
    """Shape of the specimen's output."""
    height, width = ((size - d.K) // d.get("stride", 1) + 1 for size in (d.H, d.W))
    return d.B, d.C, height, width


def cost(d: Dims) -> Cost:
    """Costs of the specimen."""
    outputs, learned = math.prod(output(d)), d.G * d.K**2
    read = d.B * d.C * d.H * d.W + learned
    return Cost(params=learned, macs=outputs * d.K**2, elements_read=read, elements_written=outputs)


def domain(d: Dims) -> str | None:
    """Refuse uneven groups and unknown activations."""
    if d.get("act", "none") not in ("none", "twice"):
        return f"its activation cannot be {d.act}: choose none or twice"
    return f"{d.C} channels have no {d.G} groups: choose C as a multiple" if d.C % d.G else None


def page(**changed: Any) -> Scope:
    """Make the page of a small pooling operator, parts of it changed."""
    parts: dict[str, Any] = {
        "reference": pooling,
        "inputs": inputs,
        "output": output,
        "cost": cost,
        "domain": domain,
        "options": lambda d: {"stride": d.get("stride", 1), "act": d.get("act", "none")},
        "workloads": [Workload("net/one", Dims(B=1, C=64, H=56, W=56, K=3, G=4, R=8), "made for a test")],
        "proof_dims": (
            Dims(B=2, C=4, H=5, W=6, K=3, G=2),
            Dims(B=2, C=6, H=4, W=7, K=2, G=2, stride=2, act="twice"),
        ),
        "polynomial": True,
    }
    return Operator("pool", family="specimens", source="made for a test").scope(
        "core", **{**parts, **changed}
    )


def page_with(function: Function, **properties: Any) -> Scope:
    """Make the page with another implementation, called ``subject``."""
    scope = page()
    scope.implementation("subject", **properties)(function)
    return scope


def drawn(scope: Scope, count: int = 150, *, defined: bool = True) -> list[Dims]:
    """Return the shapes that a check gets to see."""
    shapes: list[Dims] = []
    for_all((defined_shapes if defined else any_shapes)(scope), count, shapes.append)
    return shapes


def breach_of(scope: Scope) -> str:
    """Return the sentence about the simplest drawn shape at which a page breaks a promise."""
    with pytest.raises(BreachError) as breach:
        for_all(defined_shapes(scope), 150, lambda dims: demand_all(scope, dims))
    return str(breach.value)


def test_a_page_that_keeps_its_promises_passes() -> None:
    """No drawn shape breaks a page that refuses in a sentence and computes the rest."""
    scope = page_with(lambda x, weight, stride, act: pooling(x.contiguous(), weight, stride))
    found = survey_computations(scope)
    assert 25 <= found.computed <= 30
    assert (found.agreed, found.breach) == (found.computed, None)
    assert 50 <= survey_refusals(scope).drawn <= 60


# What is drawn.


def test_letters_are_those_that_the_scope_reads() -> None:
    """R is named by a workload and read by nothing; what a shape may lack is optional; G divides C."""
    found = {letter.name: letter for letter in letters_of(page())}
    assert set(found) == {"B", "C", "H", "W", "K", "G", "stride", "act"}
    assert {name for name, letter in found.items() if letter.optional} == {"stride", "act"}
    assert found["C"].parts == ("G",)
    assert all(not letter.parts for name, letter in found.items() if name != "C")
    assert set(found["act"].values) == {"twice"}
    assert found["K"].values == (3, 2, 1, 4, 5, 6, 7)


def test_an_option_that_no_shape_names_is_drawn_where_its_values_are_known() -> None:
    """A padding that a scope reads and no workload names is tried all the same."""
    scope = page(options=lambda d: {"stride": d.get("padding", 1), "act": d.get("secret", "none")})
    names = [letter.name for letter in letters_of(scope)]
    assert "padding" in names
    assert "secret" not in names


def test_shapes_are_adversarial() -> None:
    """Batch one, single rows, even kernels, steps of three, and maps smaller than the kernel are drawn."""
    shapes = drawn(page(), 300, defined=False)
    assert {dims.B for dims in shapes} == {1, 2, 3}
    assert {dims.K for dims in shapes} == set(range(1, 8))
    assert {dims.get("stride") for dims in shapes} == {None, 1, 2, 3}
    assert min(dims.H for dims in shapes) == min(dims.W for dims in shapes) == 1
    assert any(dims.K > dims.H for dims in shapes)
    assert {bool(dims.C % dims.G) for dims in shapes} == {True, False}


def test_defined_shapes_are_defined_and_small() -> None:
    """A drawn shape that is refused, or that would take long, is mended by letters of the page."""
    scope = page()
    shapes = drawn(scope)
    assert [dims for dims in shapes if scope.refusal(dims)] == []
    assert max(scope.cost(dims).macs for dims in shapes) <= 300_000
    assert 120 < len(set(shapes)) == len(shapes) <= 150


def test_shapes_are_the_same_in_every_run() -> None:
    """What fails once fails again, on every machine."""
    assert drawn(page()) == drawn(page())


def test_a_letter_is_left_out_only_where_nothing_needs_it() -> None:
    """An option that makes a letter superfluous does not let it be left out without the option."""
    one, other = page().proof_dims

    def needs_depth(d: Dims) -> str | None:
        return domain(d) if d.get("act") == "twice" or d.depth else None

    scope = page(domain=needs_depth, proof_dims=(one.replace(depth=2), other))
    assert lacking(scope, one) == {"depth"}
    shapes = drawn(scope, defined=False)
    assert {dims.get("act") for dims in shapes if "depth" not in dims} == {"twice"}


# Pages that break a promise about what they compute.


def test_a_crash_at_even_kernels_is_found() -> None:
    """An implementation that raises at some sizes only is told with the size and its error."""

    def odd_only(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        if weight.shape[-1] % 2 == 0:
            raise IndexError("no middle")
        return pooling(x, weight, stride)

    told = breach_of(page_with(odd_only))
    assert told.startswith("pool/core at ")
    assert any(f" K={even} " in told for even in (2, 4, 6))
    assert "subject with contiguous inputs raises IndexError: no middle." in told


def test_a_reference_that_is_not_finite_is_found() -> None:
    """A division by zero where the output has one column is no value."""

    def spread(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        y = pooling(x, weight, stride)
        return y / (y.shape[3] - 1)

    assert breach_of(page(reference=spread, polynomial=False)).endswith(
        "the output of the reference is not finite."
    )


def test_a_nan_of_an_implementation_is_found() -> None:
    """A NaN compares as nothing and passes for nothing, in values and in gradients."""
    told = breach_of(page_with(lambda x, weight, stride, act: pooling(x, weight, stride) * math.nan))
    assert "the output of subject with contiguous inputs is off by inf" in told


def test_a_mistake_at_batch_one_is_found() -> None:
    """An implementation that is wrong for single images alone does not pass."""

    def batched(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        return pooling(x, weight, stride) * (2 if len(x) == 1 else 1)

    told = breach_of(page_with(batched))
    assert " B=1 " in told
    assert "the output of subject with contiguous inputs is off by" in told


@pytest.mark.parametrize("layout", ["transposed", "gapped", "channels_last"])
def test_a_mistake_in_one_layout_is_found(layout: str) -> None:
    """An implementation that takes the memory for what it is not is wrong in that layout alone."""

    def reading(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        like = LAYOUTS[layout](torch.zeros(x.shape, dtype=x.dtype))
        misread = x.stride() == like.stride() and not x.is_contiguous()
        return pooling(x, weight, stride) * (2 if misread else 1)

    assert f"of subject with {layout} inputs is off by" in breach_of(page_with(reading))


def test_a_view_of_a_map_that_is_not_contiguous_is_found() -> None:
    """The commonest mistake, a view where a reshape is needed."""

    def viewing(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        return pooling(x.view(-1).view(x.shape), weight, stride)

    assert "inputs raises RuntimeError: view size is not compatible" in breach_of(page_with(viewing))


def test_a_wrong_gradient_is_found() -> None:
    """Right values do not excuse a gradient that is cut."""
    scope = page_with(lambda x, weight, stride, act: pooling(x, weight.detach(), stride))
    assert "the gradient of weight of subject with contiguous inputs is off by" in breach_of(scope)


def test_a_small_mistake_is_found_where_nothing_is_exact() -> None:
    """A result that is off by a millionth is no rounding in float64."""
    scope = page(polynomial=False)
    scope.implementation("subject")(lambda x, weight, stride, act: pooling(x, weight, stride) * (1 + 1e-6))
    assert "of subject with contiguous inputs is off by" in breach_of(scope)
    scope = page(polynomial=False)
    scope.implementation("subject")(lambda x, weight, stride, act: pooling(x, weight, stride) * (1 + 1e-14))
    demand_computed(scope, scope.proof_dims[0])


def test_another_shape_than_declared_is_found() -> None:
    """The declared output is held against what is computed."""
    scope = page(output=lambda d: (d.B, d.C, d.H - d.K + 1, d.W - d.K + 1))
    told = breach_of(scope)
    assert " stride=" in told
    assert "reference with contiguous inputs computes [2, " in told
    assert ", the output is declared as [2, " in told


def test_a_wrong_cost_is_found() -> None:
    """Formulas of learned numbers and moved elements are held against the shapes."""
    told = breach_of(page(cost=lambda d: Cost(params=18, macs=0, elements_read=0, elements_written=0)))
    assert "params, its shapes give" in told or "elements_read, its shapes give" in told


def test_an_overflow_in_a_half_precision_is_found() -> None:
    """float16 ends at 65504, and a reference must stay below it for moderate inputs."""

    def steep(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        return pooling(x * 1e3, weight, stride) * 1e3 / 1e6

    told = breach_of(page(reference=steep, polynomial=False))
    assert "the reference in float16 is not finite for moderate inputs" in told


def test_implementations_that_do_not_take_a_shape_are_left_out() -> None:
    """What an implementation says that it does not support is not asked of it."""

    def crashing(x: Tensor, weight: Tensor, stride: int, act: str) -> Tensor:
        raise IndexError

    for properties in ({"supports": lambda d: "never"}, {"devices": ("cuda",)}, {"kind": "compiled"}):
        scope = page_with(crashing, **properties)
        demand_computed(scope, scope.proof_dims[0])


# Pages that break a promise about what they refuse.


def refusal_breach(**changed: Any) -> str:
    """Return the sentence about a refusal that is none."""
    with pytest.raises(BreachError) as breach:
        survey_refusals(page(**changed))
    return str(breach.value)


def test_a_domain_that_raises_is_found() -> None:
    """A page refuses by returning a reason, not by an exception of its own."""

    def crashing(d: Dims) -> str | None:
        return f"{1 // (d.C % d.G)}" if d.K > 1 else None

    assert "its domain raises ZeroDivisionError: integer" in refusal_breach(domain=crashing)


def test_inputs_that_refuse_on_their_own_are_found() -> None:
    """Where the domain sees no reason the inputs may see none either."""

    def refusing(d: Dims) -> Mapping[str, Spec]:
        if d.K % 2 == 0:
            raise SameopError("Even kernels are not for this page: choose an odd one.")
        return inputs(d)

    told = refusal_breach(inputs=refusing)
    assert "it is not refused, yet making its inputs raises SameopError: Even kernels" in told


@pytest.mark.parametrize(
    "reason", ["", "no.", "it is odd. Choose another", "it is\nodd", "it is odd!"], ids=repr
)
def test_a_reason_that_makes_no_sentence_is_found(reason: str) -> None:
    """An empty reason, two sentences, two lines and a full stop too many are none."""
    told = refusal_breach(domain=lambda d: reason if d.K > 1 else None)
    assert "its refusal is not one sentence" in told


def test_inputs_refused_by_other_words_are_found() -> None:
    """What a user reads is the refusal."""
    scope = page()
    refused = Dims(B=1, C=3, H=5, W=5, K=3, G=2)
    assert str(demand_sentence(scope, refused)).endswith(
        "3 channels have no 2 groups: choose C as a multiple."
    )
    scope.inputs = inputs
    with pytest.raises(BreachError, match=r"its inputs by None\.$"):
        demand_sentence(scope, refused)


def test_a_name_that_no_option_has_is_refused() -> None:
    """A page that takes any name for an option is found."""
    scope = page()
    for dims in scope.proof_dims:
        demand_known_names(scope, dims)
    careless = page(domain=lambda d: None)
    with pytest.raises(BreachError, match=r"act=no_such_name: an unknown name is not refused\.$"):
        demand_known_names(careless, careless.proof_dims[1])


def test_the_share_of_refusals_tells_an_excuse() -> None:
    """A page that defines little beside its own shapes is told from one that defines what it can."""

    def own_maps(d: Dims) -> str | None:
        return "its map is another: choose 5×6 or 4×7" if (d.H, d.W) not in ((5, 6), (4, 7)) else domain(d)

    assert survey_refusals(page()).share < 0.4
    assert survey_refusals(page(domain=own_maps)).share > 0.6


def test_values_that_are_never_defined_are_named() -> None:
    """A value with which every shape is refused is told, one with which some are is not."""

    def pairs(d: Dims) -> str | None:
        return "its batch is no pair: choose B=2" if d.B != 2 else domain(d)

    never = survey_refusals(page(domain=pairs), 500).never_defined
    assert {"B=1", "B=3"} <= set(never)
    assert not {"B=2", "C=4", "H=5", "K=2", "stride=3"} & set(never)


# The survey and its table.


def test_a_survey_counts_what_agrees_and_keeps_the_simplest_breach() -> None:
    """Some shapes agree, the others do not, and one of them is shown."""
    scope = page_with(lambda x, weight, stride, act: pooling(x, weight, stride) * (1 + (x.shape[1] % 2)))
    found = survey_computations(scope)
    assert 0 < found.agreed < found.computed <= 30
    assert "the output of subject with contiguous inputs is off by" in str(found.breach)


def test_the_table_has_a_row_for_every_scope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line draws, computes and ends with a code that tells whether all promises are kept."""
    package = tmp_path / "table_of_shapes"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "scale.py").write_text(PAGE, encoding="utf-8")
    assert main(["scale", "--cases", str(package)]) == Exit.PASS
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["scope", "drawn", "refused", "computed", "agreed", "never", "defined"]
    assert row.split()[:3:2] == ["scale/core", "0%"]
    wrong = '\n\n@core.implementation("wrong")\ndef wrong(x, factor):\n    return x * factor.mean()\n'
    (package / "scale.py").write_text(PAGE.replace('"scale"', '"scale2"') + wrong, encoding="utf-8")
    package = package.rename(tmp_path / "table_of_breaches")
    assert main(["--cases", str(package)]) == Exit.FAILED
    assert "scale2/core at B=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "variable", "told"),
    [
        (["--shape"], "30", "Unrecognized arguments: --shape: see `python -m harness.bench.shapes --help`."),
        ([], "many", "SAMEOP_SHAPES is 'many': give the number of shapes per scope, such as 1000."),
        ([], "0", "SAMEOP_SHAPES is '0': give the number of shapes per scope, such as 1000."),
    ],
)
def test_a_mistake_on_the_command_line_is_told(
    arguments: list[str],
    variable: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence and the code for usage."""
    monkeypatch.setenv("SAMEOP_SHAPES", variable)
    assert main(arguments) == Exit.USAGE
    assert capsys.readouterr().err == told + "\n"


def test_the_table_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where nothing draws shapes a sentence says what to install."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for name in ("drawing", "survey", "table"):
        monkeypatch.delitem(sys.modules, f"harness.bench.shapes.{name}", raising=False)
    assert main([]) == Exit.USAGE
    told = "The table needs hypothesis, which is not installed: pip install hypothesis.\n"
    assert capsys.readouterr().err == told


def test_the_number_of_computations_is_a_variable() -> None:
    """By default what fits in a minute and a half for all pages."""
    assert computations_asked({}) == 30
    assert computations_asked({"SAMEOP_SHAPES": "1000"}) == 1000


def test_layouts_hold_the_same_values_at_other_places() -> None:
    """Every layout is what its name says, and changes no value."""
    tensor = torch.arange(120.0).reshape(2, 3, 4, 5)
    found = {name: lay(tensor) for name, lay in LAYOUTS.items()}
    assert all(torch.equal(laid, tensor) for laid in found.values())
    assert {name: laid.stride() for name, laid in found.items()} == {
        "contiguous": (60, 20, 5, 1),
        "transposed": (1, 2, 6, 24),
        "gapped": (120, 40, 10, 2),
        "channels_last": (60, 1, 15, 3),
    }
    assert LAYOUTS["channels_last"](tensor[0]).stride() == tensor[0].stride()
