"""Plans: which cases a selection stands for, and why the others are left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness import Blueprint, Network
from harness.bench import case as case_module
from harness.bench.case import Plan, Selection, plan_cases
from harness.bench.catalog import Catalogue
from harness.bench.comparison import Comparison
from harness.bench.dims import Dims, Workload
from harness.bench.pages import Scope
from harness.paper.errors import NothingToMeasureError, SameopError
from harness.tests.specimens import mixing, polynomial

SHARED = Workload("shared/one", Dims(B=1, C=2, H=3, W=4), "where operators meet")
EAGER = "quick takes the reference, the authors' way and the best eager form"
BRIEF = "of so many operators (fewer with --bench-operator) quick takes"


@pytest.fixture
def scope() -> Scope:
    """Make a scope with implementations of every kind and two workloads."""
    found = polynomial()
    found.workloads.append(Workload("tiny/two", Dims(B=1, C=8, H=3, W=3), "made for a test"))
    properties: dict[str, dict[str, Any]] = {
        "authors": {},
        "unfold": {},
        "shifted": {"preferred": True},
        "compiled": {"kind": "compiled"},
        "triton": {"kind": "triton", "devices": ("cuda",), "dtypes": ("float32",)},
    }
    for name, wanted in properties.items():
        found.implementation(name, **wanted)(mixing)
    return found


@pytest.fixture
def catalogue(scope: Scope) -> Catalogue:
    """Make a catalogue of that operator alone."""
    return Catalogue(operators={"tiny": scope.operator})


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that every device is present."""
    monkeypatch.setattr(case_module, "device_missing", lambda device: None)


@pytest.fixture
def without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is no GPU."""
    missing = {"cpu": None, "cuda": "no CUDA device was found on this machine"}
    monkeypatch.setattr(case_module, "device_missing", missing.__getitem__)


def ids(plan: Plan) -> list[str]:
    """Name the cases of a plan in order."""
    return [str(case.id) for case in plan.cases]


def reasons(plan: Plan) -> dict[str, str]:
    """Return what a plan leaves out, with the reasons."""
    return {entry["what"]: entry["reason"] for entry in plan.left_out}


@pytest.mark.usefixtures("without_cuda")
def test_quick_takes_the_forms_that_people_compare(catalogue: Catalogue) -> None:
    """Quick measures one workload forward: the reference, the authors' way and the best eager form."""
    assert ids(plan_cases(catalogue, Selection())) == [
        "tiny/core/reference/tiny-one/float32/cpu/forward",
        "tiny/core/authors/tiny-one/float32/cpu/forward",
        "tiny/core/shifted/tiny-one/float32/cpu/forward",
    ]


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two cases be more than quick has time for."""
    monkeypatch.setattr(case_module, "_QUICK_CASES", 2)


@pytest.mark.usefixtures("without_cuda", "crowd")
def test_quick_takes_the_best_form_of_many(catalogue: Catalogue) -> None:
    """Where too much is selected for three minutes, the best form stands for its operator."""
    plan = plan_cases(catalogue, Selection())
    assert ids(plan) == ["tiny/core/shifted/tiny-one/float32/cpu/forward"]
    reason = f"{BRIEF} the best eager form, and the authors' way where operators meet"
    assert reasons(plan)["tiny/core/authors/tiny/one on cpu"] == reason
    assert reasons(plan)["tiny/core/reference/tiny/one on cpu"] == reason


@pytest.mark.usefixtures("without_cuda", "crowd")
def test_quick_takes_the_authors_way_where_operators_meet(scope: Scope, catalogue: Catalogue) -> None:
    """A comparison shows what a user of the released code gets."""
    catalogue.comparisons["meeting"] = Comparison("meeting", "core", ("tiny",), scope.workloads[0], "input")
    assert ids(plan_cases(catalogue, Selection())) == [
        "tiny/core/authors/tiny-one/float32/cpu/forward",
        "tiny/core/shifted/tiny-one/float32/cpu/forward",
    ]


@pytest.mark.usefixtures("without_cuda", "crowd")
def test_quick_takes_the_module_of_many_unless_a_comparison_asks(catalogue: Catalogue, scope: Scope) -> None:
    """One scope an operator, and those in which it meets others."""
    module = replace(scope, name="module")
    scope.operator.scopes["module"] = module
    plan = plan_cases(catalogue, Selection())
    assert ids(plan) == ["tiny/module/shifted/tiny-one/float32/cpu/forward"]
    assert reasons(plan)["tiny/core"] == f"{BRIEF} one scope where no comparison asks"
    catalogue.comparisons["meeting"] = Comparison("meeting", "core", ("tiny",), scope.workloads[0], "input")
    assert {case.scope.name for case in plan_cases(catalogue, Selection()).cases} == {"core"}


@pytest.mark.usefixtures("without_cuda", "crowd")
def test_standard_is_never_brief(catalogue: Catalogue) -> None:
    """Only quick promises to be over soon."""
    names = {case.implementation.name for case in plan_cases(catalogue, Selection(preset="standard")).cases}
    assert {"reference", "authors", "unfold", "shifted"} <= names


@pytest.mark.usefixtures("without_cuda")
def test_what_quick_leaves_out_is_listed_with_reasons(catalogue: Catalogue) -> None:
    """Nothing is left out in silence, and each thing once."""
    plan = plan_cases(catalogue, Selection())
    assert reasons(plan) == {
        "every case on cuda": "no CUDA device was found on this machine",
        "tiny/core at tiny/two": "quick takes one workload a scope",
        "the direction training": "quick measures forward",
        "tiny/core/unfold/tiny/one on cpu": EAGER,
        "tiny/core/compiled/tiny/one on cpu": "quick compiles nothing",
        "tiny/core/triton/tiny/one on cpu": "the implementation does not run on cpu",
    }
    assert len(plan.left_out) == 6


@pytest.mark.usefixtures("without_cuda")
def test_quick_prefers_the_workload_on_which_operators_meet(scope: Scope, catalogue: Catalogue) -> None:
    """Where an operator takes part in a comparison, quick measures it there."""
    catalogue.comparisons["meeting"] = Comparison("meeting", "core", ("tiny",), SHARED, "the input")
    scope.workloads.append(SHARED)
    plan = plan_cases(catalogue, Selection())
    assert {case.workload.name for case in plan.cases} == {"shared/one"}
    assert reasons(plan)["tiny/core at tiny/one"] == "quick takes one workload a scope"


@pytest.mark.parametrize(("scope_name", "operators"), [("module", ("tiny",)), ("core", ("another",))])
@pytest.mark.usefixtures("without_cuda")
def test_a_comparison_of_others_changes_no_workload(
    catalogue: Catalogue, scope_name: str, operators: tuple[str, ...]
) -> None:
    """A comparison of another scope or of other operators is none of this operator's business."""
    catalogue.comparisons["meeting"] = Comparison("meeting", scope_name, operators, SHARED, "the input")
    assert {case.workload.name for case in plan_cases(catalogue, Selection()).cases} == {"tiny/one"}


@pytest.mark.usefixtures("without_cuda")
def test_standard_compiles_at_one_workload(catalogue: Catalogue) -> None:
    """Standard measures three workloads forward and the first both ways, and compiles at the first."""
    plan = plan_cases(catalogue, Selection(preset="standard"))
    names = {(case.implementation.name, case.workload.name) for case in plan.cases}
    assert ("compiled", "tiny/one") in names
    assert ("unfold", "tiny/two") in names
    assert (
        reasons(plan)["tiny/core/compiled/tiny/two on cpu"] == "standard compiles at one workload an operator"
    )
    assert {case.direction for case in plan.cases} == {"forward", "training"}
    assert {case.dtype for case in plan.cases} == {"float32"}


@pytest.mark.usefixtures("with_cuda")
def test_full_takes_everything(catalogue: Catalogue) -> None:
    """Full measures every dtype that an implementation supports, on every device that it runs on."""
    plan = plan_cases(catalogue, Selection(preset="full"))
    assert len(plan.cases) == (5 * 2 * 3 + 1) * 2 * 2  # 5 forms on 2 devices in 3 dtypes, and one kernel
    assert reasons(plan)["tiny/core/triton/tiny/one in bfloat16"] == (
        "the implementation does not support the dtype"
    )


@pytest.mark.parametrize(
    ("device", "devices"), [("cpu", ["cpu"]), ("cuda", ["cuda"]), ("all", ["cpu", "cuda"])]
)
@pytest.mark.usefixtures("with_cuda")
def test_a_device_is_measured_when_it_is_asked_for(
    catalogue: Catalogue, device: str, devices: list[str]
) -> None:
    """One device comes after the other."""
    plan = plan_cases(catalogue, Selection(device=device))
    assert list(dict.fromkeys(case.device for case in plan.cases)) == devices


@pytest.mark.usefixtures("without_cuda")
def test_a_gpu_that_is_asked_for_and_absent_is_told(catalogue: Catalogue) -> None:
    """An explicit device is never skipped."""
    with pytest.raises(NothingToMeasureError) as refused:
        plan_cases(catalogue, Selection(device="cuda"))
    assert str(refused.value) == (
        "The device cuda was asked for, but no CUDA device was found on this machine: "
        "leave --bench-device out."
    )


@pytest.mark.skipif(torch.version.cuda is not None, reason="this build of torch knows CUDA")
def test_a_build_without_cuda_is_told(catalogue: Catalogue) -> None:
    """What is missing is the build's, and the sentence says so."""
    with pytest.raises(NothingToMeasureError) as refused:
        plan_cases(catalogue, Selection(device="cuda"))
    assert str(refused.value) == (
        f"The device cuda was asked for, but this build of torch ({torch.__version__}) has no CUDA: "
        "leave --bench-device out."
    )


@pytest.mark.usefixtures("without_cuda")
def test_what_an_implementation_cannot_take_is_left_out(scope: Scope, catalogue: Catalogue) -> None:
    """The implementation's own reason is passed on."""
    supports = lambda d: None if d.C > 4 else f"it needs more than 4 channels, not {d.C}"  # noqa: E731
    scope.implementation("wide", supports=supports)(mixing)
    plan = plan_cases(catalogue, Selection(preset="standard"))
    assert reasons(plan)["tiny/core/wide/tiny/one on cpu"] == "it needs more than 4 channels, not 4"
    assert any(case.implementation.name == "wide" for case in plan.cases)


@pytest.mark.usefixtures("without_cuda")
def test_a_plan_without_a_case_tells_every_reason_once(scope: Scope, catalogue: Catalogue) -> None:
    """An empty plan is an error that says why each case fell away."""
    kept = scope.implementations["triton"]
    scope.implementations.clear()
    scope.implementations["triton"] = kept
    with pytest.raises(NothingToMeasureError) as refused:
        plan_cases(catalogue, Selection(preset="standard", device="cpu", operator="ti*"))
    assert str(refused.value) == (
        "No case is left for 'ti*' on cpu with the preset standard: the implementation does not run on cpu."
    )


@pytest.mark.parametrize("preset", ["quick", "full"])
@pytest.mark.usefixtures("without_cuda")
def test_a_scope_without_a_workload_is_left_out(scope: Scope, catalogue: Catalogue, preset: str) -> None:
    """A page that has no workload yet is no traceback."""
    scope.workloads.clear()
    with pytest.raises(NothingToMeasureError) as refused:
        plan_cases(catalogue, Selection(preset=preset, device="cpu"))  # type: ignore[arg-type]  # parametrised
    assert str(refused.value) == (
        f"No case is left for '*' on cpu with the preset {preset}: the scope has no workload."
    )


def test_an_unknown_operator_is_told(catalogue: Catalogue) -> None:
    """A glob that matches nothing is a usage error, not an empty run."""
    with pytest.raises(SameopError) as refused:
        plan_cases(catalogue, Selection(operator="involutoin"))
    assert str(refused.value) == "No operator is named 'involutoin': `sameop list` shows the 1 that are."
    assert not isinstance(refused.value, NothingToMeasureError)


@pytest.mark.usefixtures("without_cuda")
def test_a_network_s_layers_take_the_place_of_workloads(catalogue: Catalogue) -> None:
    """Every distinct layer is one case, by the best form; what is no operator has none."""
    plan = plan_cases(catalogue_with_network(catalogue), Selection(network="net"))
    assert ids(plan) == [
        "tiny/core/shifted/net-stage1/float32/cpu/forward",
        "tiny/core/shifted/net-stage1_h7/float32/cpu/forward",
    ]


@pytest.mark.usefixtures("without_cuda")
def test_an_unknown_network_is_refused(catalogue: Catalogue) -> None:
    """The message says where the names are."""
    with pytest.raises(SameopError, match="No network is named 'nte'"):
        plan_cases(catalogue_with_network(catalogue), Selection(network="nte"))


def test_a_layer_is_found_by_its_workload(catalogue: Catalogue, scope: Scope) -> None:
    """A worker finds a layer by the name in a case's id, and a page's own workload as before."""
    found = catalogue_with_network(catalogue)
    assert found.workload(scope, "net/stage1_h7").dims == Dims(B=1, C=2, H=7, W=3)
    assert found.workload(scope, "tiny/two").dims.C == 8
    with pytest.raises(SameopError, match="'net/stage9' was asked of tiny/core"):
        found.workload(scope, "net/stage9")


def catalogue_with_network(catalogue: Catalogue) -> Catalogue:
    """Add a network of two different layers, one of them twice, and a norm."""

    def build(net: Blueprint) -> None:
        with net.stage("stage1"):
            for height in (5, 5, 7):
                net.layer("tiny", "", net.input(2, height, 3))
            net.other("norm", ((2,),))

    catalogue.networks["net"] = Network("net", "made for a test", build)
    return catalogue
