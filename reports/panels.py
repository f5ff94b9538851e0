"""Latency, operator by operator: one small chart for every workload and setting."""

from __future__ import annotations

from harness.paper.record import CaseId
from harness.paper.store import Run
from harness.paper.units import Unit

from .cells import setting_of
from .facts import list_facts
from .forms import Forms, group_forms, list_items
from .legend import Legend
from .plots import draw_chart
from .view import Cases, OperatorView, Panel


def list_operators(run: Run, cases: Cases) -> tuple[OperatorView, ...]:
    """Build the charts of every operator and scope that has a number; the others have a reason each."""
    legend = Legend(run.header.catalogue)
    anchors = {row.name: row.anchor for row in cases.rows}
    settings = {row.case.group: row.setting for row in cases.rows}
    panels: dict[tuple[str, str], list[Panel]] = {}
    for group, forms in group_forms(run).items():
        panel = _draw_panel(group, forms, legend, anchors, settings[group])
        if panel is not None:
            panels.setdefault((group.operator, group.scope), []).append(panel)
    return tuple(_describe(legend, *place, tuple(found)) for place, found in panels.items())


def _draw_panel(
    group: CaseId, forms: Forms, legend: Legend, anchors: dict[str, str], setting: str
) -> Panel | None:
    items = list(list_items(forms, anchors))
    title = f"Latency of {group.operator}, {group.scope}, at {group.workload}, {setting_of(group)}"
    chart = draw_chart(title, items, Unit.SECONDS_PER_CALL)
    if chart is None:
        return None
    return Panel(group.workload, legend.dims(group.operator, group.workload), setting, chart)


def _describe(legend: Legend, operator: str, scope: str, panels: tuple[Panel, ...]) -> OperatorView:
    page = legend.operator(operator)
    return OperatorView(
        operator=operator,
        scope=scope,
        source=str(page.get("source", "")),
        note=str(page.get("note", "")),
        formula=str(page.get("formulas", {}).get(scope, "")),
        traits=list_facts(page.get("traits", {})),
        panels=panels,
    )
