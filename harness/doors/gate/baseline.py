"""The gate against a stored baseline: the worktree's cases, measured as that run was, held against it."""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.bench.agreement import describe_inputs
from harness.bench.case import PRESETS, Case, Plan, Selection, plan_cases
from harness.bench.catalog import Catalogue, describe
from harness.bench.machine import commit_facts, identity, machine_facts
from harness.bench.measure.scratch import Scratch
from harness.bench.measure.settings import Settings
from harness.doors.gate.run import HeadRefusedError
from harness.doors.gate.survey import first_difference
from harness.doors.measuring import open_measuring_run
from harness.doors.project import Project
from harness.paper.errors import NothingToMeasureError, SameopError
from harness.paper.gate.baseline import STORED, BaselineRefusedError, StoredRule, read_baseline
from harness.paper.gate.outcome import CaseOutcome, GateOutcome, Verdict
from harness.paper.gate.policy import Policy
from harness.paper.gate.wording import setting
from harness.paper.record import CaseId, Facts, Record
from harness.paper.store import Run
from harness.paper.units import format_clock, format_seconds

Tell = Callable[[str], None]
# In a run of 60 cases with so many processes on either side, a spread of 5 % among these lets a slowdown of
# 30 % be found, and one of 1 % a slowdown of 14 %; with three not even the latter lets 30 % be found.
ENOUGH = 12


@dataclass(frozen=True)
class StoredRequest:
    """What a gate is asked.

    folder: of the run. match and device: which of its cases. budget: seconds of the whole, None for what the
    run's own options grant. seed: of the order in which workloads are measured.
    """

    folder: Path
    match: str = "*"
    device: str = "all"
    budget: float | None = None
    seed: int = 0


@dataclass
class Comparison:
    """What can be compared. decided: cases that need no time. cases: of head, by name, that are measured."""

    decided: list[CaseOutcome] = field(default_factory=list)
    cases: dict[str, Case] = field(default_factory=dict)


def run_stored_gate(
    project: Project, policy: Policy, request: StoredRequest, today: date, tell: Tell
) -> GateOutcome:
    """Hold the worktree as it stands against a stored run.

    Raises :class:`SameopError` for a run that is refused, a head that does not import, and no case.
    """
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    run = read_baseline(request.folder, _as_written(identity()))
    selection, settings = restore_options(run)
    with _importing_from((project.root / path).resolve() for path in policy.paths):
        catalogue = _load(project)
        found = _compare_catalogues(run, catalogue, selection, request)
        if not (found.cases or found.decided):
            raise NothingToMeasureError(
                f"Neither the baseline nor head has a case for {request.match!r} on {request.device}: "
                "`sameop list` shows what there is."
            )
        measuring = _Measuring(project, catalogue, selection, settings, request, began, tell)
        records = measuring.measure(found.cases)
    judged = list(_judge(run, found.cases, records, policy, today))
    cases = sorted([*found.decided, *judged], key=lambda case: case.name)
    head = commit_facts(project.root, catalogue.sources)
    return GateOutcome(
        base=_describe_side(str(request.folder), run.header.identity.get("commit", {}), run.header.started),
        head=_describe_side("HEAD", head, started),
        machine=machine_facts(),
        policy={**policy.as_json(), "digest": policy.digest},
        twins={
            "how": STORED,
            "reason": f"base is a run of {run.header.started}, which was asked for by --baseline",
            "seed": str(request.seed),
        },
        cases=cases,
        insensitive_share=policy.insensitive_share,
        started=started,
        seconds=time.monotonic() - began,
        notes=[*_notes(run, head, policy, cases), *policy.remarks([case.name for case in cases], today)],
    )


def restore_options(run: Run) -> tuple[Selection, Settings]:
    """Return what a run was asked for and how it was measured.

    Raises :class:`BaselineRefusedError` where this sameop has other options: its times would have another
    meaning.
    """
    options = dict(run.header.identity.get("options", {}))
    asked = {each.name for each in fields(Selection)}
    known = {*asked, *Settings.of("quick").options()}
    preset = options.get("preset")
    if options.keys() != known or preset not in PRESETS:
        strange = sorted(options.keys() ^ known) or [f"preset {preset}"]
        raise BaselineRefusedError(
            f"The baseline {run.folder} was measured by a sameop with other options ({', '.join(strange)}): "
            "measure another one with this version, by `pytest --benchmark`."
        )
    selection = Selection(**{name: options.pop(name) for name in asked})
    options["processes"] = tuple(options["processes"])
    # Neither is compared, and both take processes of their own.
    options |= {"scaling": "off", "instructions": False}
    return selection, replace(Settings.of(selection.preset), **options)


@contextlib.contextmanager
def _importing_from(folders: Iterable[Path]) -> Iterator[None]:
    """Let pages import from these folders, here and in the workers, as those of a side of twins do."""
    kept = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = kept


def _load(project: Project) -> Catalogue:
    # Standard output may be promised to one document, and pages print.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return project.load()
        except SameopError as error:
            raise HeadRefusedError(f"head cannot be imported. {error}") from None


def _compare_catalogues(
    run: Run, catalogue: Catalogue, selection: Selection, request: StoredRequest
) -> Comparison:
    """Sort the cases into those that are decided by what the pages say, and those that are measured."""
    found = Comparison()
    stated, states = run.header.catalogue, _as_written(describe(catalogue))
    for name, record in run.latest.items():
        if not _is_asked(record.case, request):
            continue
        case = _find(catalogue, record.case)
        if isinstance(case, str):
            reason = f"The baseline has it and head has not: {case}."
            found.decided.append(CaseOutcome(name, Verdict.MISSING, reason))
        elif change := _change(record, case, stated, states):
            reason = f"It keeps its name and measures something else: {change}."
            found.decided.append(CaseOutcome(name, Verdict.CHANGED, reason))
        else:
            found.cases[name] = case
    for case in _planned(catalogue, selection):
        if str(case.id) not in run.latest and _is_asked(case.id, request):
            found.cases[str(case.id)] = case
    return found


def _is_asked(case: CaseId, request: StoredRequest) -> bool:
    return request.device in ("all", case.device) and fnmatchcase(str(case), request.match)


def _find(catalogue: Catalogue, case: CaseId) -> Case | str:
    """Return what an id names, or why head has no such case."""
    operator = catalogue.operators.get(case.operator)
    scope = operator.scopes.get(case.scope) if operator else None
    implementation = scope.implementations.get(case.implementation) if scope else None
    if scope is None or implementation is None:
        return "it was renamed or deleted"
    try:
        workload = catalogue.workload(scope, case.workload)
    except SameopError:
        return "its workload was renamed or deleted"
    for what, asked, has in (
        ("device", case.device, implementation.devices),
        ("dtype", case.dtype, implementation.dtypes),
    ):
        if asked not in has:
            return f"the implementation no longer has the {what} {asked}"
    if refusal := scope.refusal(workload.dims) or implementation.refusal(workload.dims):
        return refusal.removesuffix(".")
    return Case(scope, implementation, workload, case.dtype, case.device, case.direction)


def _planned(catalogue: Catalogue, selection: Selection) -> list[Case]:
    """List what head would measure if it were asked for the same; nothing where that names nothing."""
    try:
        return plan_cases(catalogue, selection).cases
    except SameopError:
        return []


def _change(record: Record, case: Case, stated: Facts, states: Facts) -> str:
    """Say what the baseline and head differ in that makes a case another one, nothing where they do not."""
    before, after = (_dims(catalogue, record.case) for catalogue in (stated, states))
    if before and after and (change := first_difference(before, after, "dimensions")):
        return change
    inputs = _as_written(describe_inputs(case.scope, case.workload.dims))
    return first_difference(record.inputs, inputs, "inputs") if record.inputs else ""


def _dims(catalogue: Facts, case: CaseId) -> Facts:
    """Return the dimensions that a description of a catalogue gives to a workload; layers are not in it."""
    for operator in catalogue.get("operators", ()):
        if operator.get("name") == case.operator:
            found: Facts = operator.get("dims", {}).get(case.workload, {})
            return found
    return {}


@dataclass
class _Counter:
    """Tells how many cases are measured."""

    cases: int
    tell: Tell
    done: int = 0

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Hear of a step, which is too small to be told."""

    def finish(self, cases: int, seconds: float) -> None:
        """Hear that cases are done."""
        self.done += cases
        self.tell(
            f"measured {self.done} of {self.cases} cases, the last {cases} in {format_seconds(seconds)}"
        )


@dataclass(frozen=True)
class _Measuring:
    """Measures cases of head as ``pytest --benchmark`` does. began: the moment from which a budget counts."""

    project: Project
    catalogue: Catalogue
    selection: Selection
    settings: Settings
    request: StoredRequest
    began: float
    tell: Tell

    def measure(self, cases: Mapping[str, Case]) -> dict[str, Record]:
        """Return the records of the cases that the budget has room for, by name."""
        if not cases:
            return {}
        settings = self._bounded()
        clock = format_clock(settings.estimate_seconds(len(cases), 0))
        self.tell(f"measuring {len(cases)} cases as the baseline did: about {clock} minutes")
        scratch = Scratch()
        try:
            # The run of head does not stay: what it found is in the outcome.
            folder, plan = scratch.path / "head", Plan(list(cases.values()))
            with open_measuring_run(
                self.project, self.catalogue, plan, self.selection, folder, settings
            ) as run:
                run.watcher = _Counter(len(cases), self.tell)
                run.session.shuffle = random.Random(self.request.seed).shuffle  # noqa: S311  # an order, no secret
                for name in cases:
                    if self._is_over:
                        break
                    run.measure(name)
                return dict(run.writer.finished)
        finally:
            scratch.close()

    def _bounded(self) -> Settings:
        budget, own = self.request.budget, self.settings.total_seconds
        return (
            self.settings
            if budget is None
            else replace(self.settings, total_seconds=min(budget, own or budget))
        )

    @property
    def _is_over(self) -> bool:
        budget = self.request.budget
        return budget is not None and time.monotonic() - self.began >= budget


def _judge(
    run: Run, cases: Iterable[str], records: Mapping[str, Record], policy: Policy, today: date
) -> Iterator[CaseOutcome]:
    both = [name for name in cases if name in run.latest]
    rule = StoredRule(policy, len(both), today=today)
    for name in cases:
        if name in records:
            yield rule.judge(name, run.latest.get(name), records[name])
        else:
            yield CaseOutcome(name, Verdict.INCONCLUSIVE, "The budget was over before it was measured.")


def _describe_side(ref: str, commit: Facts, started: str) -> dict[str, Any]:
    """Return what an outcome says of a side."""
    known = str(commit.get("commit") or "")
    has_commit = bool(known) and not known.startswith("none")
    return {
        "ref": ref if has_commit or ref != "HEAD" else "the worktree",
        "commit": known if has_commit else "",
        "dirty": bool(commit.get("dirty")),
        "sources_sha256": commit.get("sources_sha256"),
        "sameop": commit.get("sameop"),
        "started": started,
    }


def _notes(run: Run, head: Facts, policy: Policy, cases: Iterable[CaseOutcome]) -> Iterator[str]:
    yield (
        "Base is a stored run: two sessions on one machine differ by what neither's numbers tell, so that "
        f"only a slowdown beyond {setting(policy.baseline_margin)} FAILs, one below it lands unseen, and a "
        "machine that is slower today than it was then may FAIL unchanged code. No control was run, and head "
        "was held against its own reference alone, not against what base computes. `--base` compares side by "
        "side."
    )
    few = [
        len(case.medians["base"]) for case in cases if case.verdict is Verdict.INSENSITIVE and case.medians
    ]
    if few and min(few) < ENOUGH:
        yield (
            f"A baseline of {min(few)} processes a case tells little: measure one with "
            f"`pytest --benchmark --bench-processes={ENOUGH}`, and head will have as many."
        )
    base = run.header.identity.get("commit", {})
    if base.get("sources_sha256") == head["sources_sha256"]:
        yield "The pages and sameop itself are those that the baseline was measured with."
    elif base.get("sameop") != head["sameop"]:
        yield f"The baseline was measured by sameop {base.get('sameop')}, head by {head['sameop']}."
    if change := first_difference(
        run.header.machine.get("libraries", {}), _as_written(machine_facts()["libraries"]), "version of"
    ):
        yield f"The {change}."
    if policy.build:
        yield "The policy's `build` was not run: the worktree is measured as it stands."


def _as_written(facts: Any) -> Any:
    """Return facts as they are read back from a file."""
    return json.loads(json.dumps(facts, default=str))
