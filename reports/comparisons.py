"""Comparisons: the operators that meet on one input, ranked in each form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.paper.record import Reading
from harness.paper.store import Run
from harness.paper.units import Unit

from .cells import ratio_text, setting_of
from .facts import write_dims
from .forms import ROLES, Forms, group_forms, list_items, rank
from .legend import Legend, in_id
from .plots import draw_chart
from .view import Cases, Cell, ComparisonView, Entry, Form, Meeting

# What a comparison shows of each operator's best form beside its latency.
_BESIDE = ("latency_all_threads", "share", "memory", "macs", "rate", "energy")

Members = Mapping[str, Forms]


def list_comparisons(run: Run, cases: Cases) -> tuple[ComparisonView, ...]:
    """Build every comparison of the catalogue."""
    builder = _Builder(run, cases)
    return tuple(builder.build(comparison) for comparison in builder.legend.comparisons)


class _Builder:
    """Builds comparisons that share the forms and the rows of one run."""

    def __init__(self, run: Run, cases: Cases) -> None:
        self.legend = Legend(run.header.catalogue)
        self._forms = group_forms(run)
        self._rows = {row.name: row for row in cases.rows}
        self._anchors = {row.name: row.anchor for row in cases.rows}
        self._columns = tuple(column for column in cases.columns if column.key in _BESIDE)

    def build(self, comparison: Mapping[str, Any]) -> ComparisonView:
        """Build one comparison: a meeting for each setting in which its operators have cases."""
        operators = [str(name) for name in comparison.get("operators", ())]
        workload = str(next(iter(comparison.get("workloads", ())), ""))
        scope = str(comparison.get("scope", ""))
        settings: dict[str, dict[str, Forms]] = {}
        for group, forms in self._forms.items():
            place = (group.scope, in_id(group.workload))
            if place == (scope, in_id(workload)) and group.operator in operators:
                settings.setdefault(setting_of(group), {})[group.operator] = forms
        return ComparisonView(
            name=str(comparison.get("name", "")),
            scope=scope,
            workload=workload,
            dims=write_dims(comparison.get("dims", {})),
            matched=str(comparison.get("matched", "")),
            meetings=tuple(self._meet(name, operators, found, scope) for name, found in settings.items()),
        )

    def _meet(self, setting: str, operators: list[str], members: Members, scope: str) -> Meeting:
        readings = {role: [_latency(members.get(name), role) for name in operators] for role in ROLES}
        places = {role: rank(found) for role, found in readings.items()}
        best = dict(zip(operators, (reading.value for reading in readings["best"]), strict=True))
        order = sorted(operators, key=lambda name: (best[name] is None, best[name] or 0.0))
        items = [
            item
            for name in order
            if name in members
            for item in list_items(members[name], self._anchors, heading=name)
        ]
        return Meeting(
            setting=setting,
            entries=tuple(
                Entry(
                    operator=name,
                    forms=tuple(
                        self._form(role, name, scope, members, places[role][operators.index(name)])
                        for role in ROLES
                    ),
                    ratio=ratio_text(best[name], best[order[0]]),
                    cells=self._beside(members.get(name)),
                )
                for name in order
            ),
            columns=self._columns,
            chart=draw_chart(f"Latency of each operator, {setting}", items, Unit.SECONDS_PER_CALL),
            remark=_remark(operators, places),
        )

    def _form(self, role: str, operator: str, scope: str, members: Members, place: int | None) -> Form:
        forms = members.get(operator)
        name = forms.named(role) if forms else None
        if forms is None or name is None:
            return Form("", Cell(), note=self._absence(role, operator, scope))
        row = self._rows[str(forms.records[name].case)]
        return Form(name, row.cells.get("latency", row.cells["calls"]), place, href=row.anchor)

    def _absence(self, role: str, operator: str, scope: str) -> str:
        if role == "best":
            return "none has a number"
        return "not in this run" if self.legend.declares(operator, scope, role) else "its page declares none"

    def _beside(self, forms: Forms | None) -> Mapping[str, Cell]:
        best = forms.best if forms else None
        return self._rows[str(forms.records[best].case)].cells if forms and best else {}


def _latency(forms: Forms | None, role: str) -> Reading:
    name = forms.named(role) if forms else None
    if forms is None or name is None:
        return Reading.missing(Unit.SECONDS_PER_CALL, "there is no such case")
    return forms.latency(name)


def _remark(operators: list[str], places: Mapping[str, list[int | None]]) -> str:
    """Say whether the operators rank alike by their references and by their best forms."""
    pairs = dict(zip(operators, zip(places["reference"], places["best"], strict=True), strict=True))
    if len(operators) < 2 or any(None in pair for pair in pairs.values()):
        return ""
    moved = [name for name, (reference, best) in pairs.items() if reference != best]
    if not moved:
        return "By reference and by best form the operators rank alike."
    verb = "moves" if len(moved) == 1 else "move"
    return f"The ranking depends on the form: by best form instead of reference, {', '.join(moved)} {verb}."
