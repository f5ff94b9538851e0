"""Cases: one operator, scope, implementation, workload, dtype, device and direction; and their selection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from harness.bench.catalog import Catalogue
from harness.bench.comparison import Comparison
from harness.bench.dims import Workload
from harness.bench.machine import device_missing
from harness.bench.pages import Implementation, Operator, Scope
from harness.paper.errors import NothingToMeasureError
from harness.paper.record import CaseId

Preset = Literal["quick", "standard", "full"]
PRESETS: tuple[Preset, ...] = ("quick", "standard", "full")
DEVICES = ("cpu", "cuda", "all")
# About as many cases as fit in three minutes on two cores, claims included.
_QUICK_CASES = 60
# As many cases as fit in thirty minutes, with what every case costs beside its sampling.
_STANDARD_WORKLOADS = 3
_BRIEF = "of so many operators (fewer with --bench-operator) quick takes"


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    scope: Scope
    implementation: Implementation
    workload: Workload
    dtype: str
    device: str
    direction: str

    @property
    def id(self) -> CaseId:
        """The stable name."""
        return CaseId(
            self.scope.operator.name,
            self.scope.name,
            self.implementation.name,
            self.workload.name,
            self.dtype,
            self.device,
            self.direction,
        )


@dataclass(frozen=True)
class Selection:
    """What a run is asked for; with a network, its layers in place of the workloads of the pages."""

    preset: Preset = "quick"
    device: str = "all"
    operator: str = "*"
    network: str = ""


@dataclass
class Plan:
    """The cases of a run in order, and what it leaves out with a reason each.

    brief: whether so much was selected that quick must leave forms and scopes out to stay quick.
    """

    cases: list[Case] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)
    brief: bool = False

    def leave_out(self, what: str, reason: str) -> None:
        """Note something that will not be measured; each pair once."""
        entry = {"what": what, "reason": reason}
        if entry not in self.left_out:
            self.left_out.append(entry)


def plan_cases(catalogue: Catalogue, selection: Selection) -> Plan:
    """List what to measure. Raises :class:`NothingToMeasureError` where that is nothing."""
    plan = _planned(catalogue, selection, brief=False)
    if selection.preset == "quick" and len(plan.cases) > _QUICK_CASES:
        plan = _planned(catalogue, selection, brief=True)
    if not plan.cases:
        reasons = dict.fromkeys(entry["reason"] for entry in plan.left_out)
        raise NothingToMeasureError(
            f"No case is left for {selection.operator!r} on {selection.device} with the preset "
            f"{selection.preset}: {'; '.join(reasons)}."
        )
    return plan


def _planned(catalogue: Catalogue, selection: Selection, brief: bool) -> Plan:
    plan = Plan(brief=brief)
    operators = catalogue.operators_like(selection.operator)
    for device in _devices(selection.device, plan):
        if selection.network:
            plan.cases.extend(_layers_of(selection, operators, device, catalogue, plan))
            continue
        for operator in operators:
            for scope in _scopes(operator, catalogue, plan):
                plan.cases.extend(_cases_of(operator, scope, device, selection.preset, catalogue, plan))
    return plan


def _devices(asked: str, plan: Plan) -> list[str]:
    present = []
    for device in ("cpu", "cuda") if asked == "all" else (asked,):
        reason = device_missing(device)
        if reason is None:
            present.append(device)
        elif asked == device:
            raise NothingToMeasureError(
                f"The device {device} was asked for, but {reason}: leave --bench-device out."
            )
        else:
            plan.leave_out(f"every case on {device}", reason)
    return present


def _cases_of(
    operator: Operator, scope: Scope, device: str, preset: Preset, catalogue: Catalogue, plan: Plan
) -> Iterator[Case]:
    where = f"{operator.name}/{scope.name}"
    for workload in _workloads(operator, scope, preset, catalogue, plan):
        for implementation in scope.implementations.values():
            name = f"{where}/{implementation.name}/{workload.name}"
            reason = _unsupported(scope, implementation, workload, device, preset)
            if reason is None and plan.brief:
                reason = _left_to_longer_runs(scope, implementation, workload, catalogue)
            if reason:
                plan.leave_out(f"{name} on {device}", reason)
                continue
            for dtype in _dtypes(preset):
                if dtype not in implementation.dtypes:
                    plan.leave_out(f"{name} in {dtype}", "the implementation does not support the dtype")
                    continue
                for direction in _directions(preset, scope, workload, plan):
                    yield Case(scope, implementation, workload, dtype, device, direction)


def _layers_of(
    selection: Selection, operators: list[Operator], device: str, catalogue: Catalogue, plan: Plan
) -> Iterator[Case]:
    """List a network's distinct layers, each by its best form that the preset has."""
    chosen = {operator.name for operator in operators}
    for layer, workload in catalogue.books.network(selection.network).workloads():
        if layer.operator not in chosen or layer.scope is None:
            continue
        scope = catalogue.operators[layer.operator].scopes[layer.scope]
        implementation = scope.best_eager(workload.dims)
        reason = _unsupported(scope, implementation, workload, device, "full")
        if reason:
            plan.leave_out(f"{workload.name} on {device}", reason)
            continue
        for dtype in _dtypes(selection.preset):
            for direction in _directions_of_layers(selection.preset, plan):
                yield Case(scope, implementation, workload, dtype, device, direction)


def _scopes(operator: Operator, catalogue: Catalogue, plan: Plan) -> list[Scope]:
    """List the scopes; a brief plan takes those in which operators meet, or else what papers count."""
    scopes = list(operator.scopes.values())
    if not plan.brief:
        return scopes
    meeting = [scope for scope in scopes if _comparisons_of(scope, catalogue)]
    chosen = meeting or [operator.scopes.get("module") or scopes[0]]
    for scope in scopes:
        if scope not in chosen:
            plan.leave_out(f"{operator.name}/{scope.name}", f"{_BRIEF} one scope where no comparison asks")
    return chosen


def _comparisons_of(scope: Scope, catalogue: Catalogue) -> list[Comparison]:
    """List the comparisons that a scope takes part in."""
    return [
        comparison
        for comparison in catalogue.comparisons.values()
        if comparison.scope == scope.name and scope.operator.name in comparison.operators
    ]


def _workloads(
    operator: Operator, scope: Scope, preset: Preset, catalogue: Catalogue, plan: Plan
) -> list[Workload]:
    """Quick takes one workload: where the operator meets others, the one on which they meet."""
    if not scope.workloads:
        plan.leave_out(f"{operator.name}/{scope.name}", "the scope has no workload")
    if preset == "full" or not scope.workloads:
        return scope.workloads
    if preset == "standard":
        for letter in sorted({workload.sweep for workload in scope.workloads} - {""}):
            plan.leave_out(f"{operator.name}/{scope.name}: the sweep over {letter}", "sweeps are for full")
        chosen = _first_workloads(scope, catalogue)[:_STANDARD_WORKLOADS]
        reason = f"standard takes {_STANDARD_WORKLOADS} workloads a scope, those of comparisons first"
    else:
        chosen = _first_workloads(scope, catalogue)[:1]
        reason = "quick takes one workload a scope"
    for workload in scope.workloads:
        if workload not in chosen and not (preset == "standard" and workload.sweep):
            plan.leave_out(f"{operator.name}/{scope.name} at {workload.name}", reason)
    return chosen


def _first_workloads(scope: Scope, catalogue: Catalogue) -> list[Workload]:
    """List the workloads of a scope without sweeps: those on which operators meet, then in their order."""
    met = [scope.workload(comparison.workload.name) for comparison in _comparisons_of(scope, catalogue)]
    own = [workload for workload in scope.workloads if not workload.sweep] or scope.workloads
    return list({workload.name: workload for workload in (*met, *own)}.values())


def _unsupported(
    scope: Scope, implementation: Implementation, workload: Workload, device: str, preset: Preset
) -> str | None:
    if device not in implementation.devices:
        return f"the implementation does not run on {device}"
    if preset == "quick" and implementation.kind != "eager":
        return "quick compiles nothing"
    if preset == "standard" and implementation.kind == "compiled" and not _is_compiled_at(scope, workload):
        return "standard compiles at one workload an operator"
    if preset == "quick" and not _is_shown_in_quick(scope, implementation):
        return "quick takes the reference, the authors' way and the best eager form"
    return implementation.refusal(workload.dims)


def _is_compiled_at(scope: Scope, workload: Workload) -> bool:
    """Whether standard compiles here: at the first workload of the first scope."""
    return scope is next(iter(scope.operator.scopes.values())) and workload is scope.workloads[0]


def _is_shown_in_quick(scope: Scope, implementation: Implementation) -> bool:
    names = {"reference", "authors"}
    preferred = [found.name for found in scope.implementations.values() if found.preferred]
    return implementation.name in names or implementation.name in preferred


def _left_to_longer_runs(
    scope: Scope, implementation: Implementation, workload: Workload, catalogue: Catalogue
) -> str | None:
    """Say why a brief plan leaves an implementation out, or return None."""
    if implementation is scope.best_eager(workload.dims):
        return None
    if implementation.name == "authors" and _comparisons_of(scope, catalogue):
        return None
    return f"{_BRIEF} the best eager form, and the authors' way where operators meet"


def _dtypes(preset: Preset) -> tuple[str, ...]:
    return ("float32",) if preset != "full" else ("float32", "bfloat16", "float16")


def _directions(preset: Preset, scope: Scope, workload: Workload, plan: Plan) -> tuple[str, ...]:
    if preset == "standard" and workload is not scope.workloads[0]:
        plan.leave_out(
            f"{scope.operator.name}/{scope.name} at {workload.name} in the direction training",
            "standard trains at the first workload of a scope",
        )
        return ("forward",)
    return _directions_of_layers(preset, plan)


def _directions_of_layers(preset: Preset, plan: Plan) -> tuple[str, ...]:
    if preset == "quick":
        plan.leave_out("the direction training", "quick measures forward")
        return ("forward",)
    return ("forward", "training")
