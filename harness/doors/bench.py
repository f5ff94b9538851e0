"""What the pytest plugin remembers from the options to the summary."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.bench.case import Case, Plan, Selection, plan_cases
from harness.bench.catalog import Catalogue
from harness.bench.claims import Claim
from harness.bench.machine import device_missing, torch_notice
from harness.bench.measure.settings import Settings
from harness.doors.measuring import BENCHMARK_NAME, MeasuringRun, open_measuring_run, write_benchmark_json
from harness.doors.messages import (
    account_line,
    claim_line,
    left_out_lines,
    plan_line,
    record_line,
    resume_line,
    summary_lines,
)
from harness.doors.options import read_selection, read_settings, require_the_machine
from harness.doors.parameters import agreement_checks, cost_checks
from harness.doors.progress import Progress
from harness.doors.project import Project
from harness.doors.proving import Proofs, closing_proofs
from harness.doors.replay import ReplayTimer, RunFile
from harness.paper.account import SessionAccount


@dataclass
class Bench:
    """One pytest session of a project with sameop cases."""

    config: pytest.Config
    project: Project
    catalogue: Catalogue
    selection: Selection
    settings: Settings
    measures: bool
    plan: Plan = field(default_factory=Plan)
    run: MeasuringRun | None = None
    page: str = ""
    account: SessionAccount | None = None
    shows_progress: bool = False
    _progress: Progress | None = None
    _asked: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, config: pytest.Config, project: Project) -> Bench:
        """Read the options and the catalogue, and decide what to measure.

        Raises :class:`SameopError` for a bad option or page, and where nothing is left to measure.
        """
        option = config.option
        selection = read_selection(option)
        settings = read_settings(option, selection.preset)
        if option.benchmark:
            require_the_machine(option)
        bench = cls(config, project, project.load(), selection, settings, option.benchmark)
        if bench.measures:
            bench.plan = plan_cases(bench.catalogue, selection)
        return bench

    def parameters(self, fixture: str) -> list[Any]:
        """Return what one of the suite's fixtures ranges over."""
        mark = pytest.mark.sameop
        if fixture == "sameop_claim":
            return [pytest.param(claim, id=claim.name, marks=mark) for claim in self._claims()]
        if fixture == "sameop_agreement":
            return [
                pytest.param(check, id=check.name, marks=mark) for check in agreement_checks(self.catalogue)
            ]
        if fixture == "sameop_cost":
            return [pytest.param(check, id=check.name, marks=mark) for check in cost_checks(self.catalogue)]
        return [self._speed_parameter(case) for case in self.plan.cases]

    def _claims(self) -> list[Claim]:
        chosen = {operator.name for operator in self.catalogue.operators_like(self.selection.operator)}
        claims = self.catalogue.claims.values()
        return [claim for claim in claims if not self.measures or chosen.intersection(claim.operators)]

    def _speed_parameter(self, case: Case) -> Any:
        marks = [pytest.mark.sameop]
        if self.config.pluginmanager.hasplugin("benchmark"):
            marks.append(pytest.mark.benchmark(timer=ReplayTimer(), group=str(case.id.group)))
        # A name and no object: pytest-benchmark writes parameters into its JSON.
        return pytest.param(str(case.id), id=str(case.id), marks=marks)

    def collect_suite(self, session: pytest.Session) -> list[pytest.Item]:
        """Collect the tests of :mod:`harness.doors.suite` under the name ``sameop``."""
        path = Path(__file__).with_name("suite.py")
        module = pytest.Module.from_parent(session, path=path, nodeid="sameop")
        return list(session.genitems(module))

    @contextlib.contextmanager
    def open_run(self, items: Sequence[pytest.Item]) -> Iterator[None]:
        """Keep the run folder and its workers open while the items run; then write the page.

        Raises :class:`SameopError` where the folder is refused.
        """
        asked = self.config.option.bench_run
        folder = Path(asked).absolute() if asked else None
        with open_measuring_run(
            self.project, self.catalogue, self.plan, self.selection, folder, self.settings
        ) as run:
            self.run = run
            self._attach_pytest_benchmark(run.folder)
            self._asked = [_name(item) for item in items if _kind(item) == "test_speed"]
            run.asked, run.watcher = self._asked, self
            claims = [claim for item in items if (claim := _claim(item)) and claim.name not in run.known]
            self._start_progress(items, len(claims))
            try:
                run.session.workers.launch()
                proofs = Proofs(run.session.workers, claims, brief=self.settings.is_brief)
                with closing_proofs(proofs) as run.proofs:
                    yield
            finally:
                self.shows_progress = False
                self.account = run.close_account()
                self.page = run.write_page()
                self._detach_pytest_benchmark(run)

    def _attach_pytest_benchmark(self, folder: Path) -> None:
        session = getattr(self.config, "_benchmarksession", None)
        if session is None:
            return
        # The run's own summary takes the place of pytest-benchmark's table of hundreds of rows.
        session.quiet = not session.verbose
        if session.json is None:
            session.json = RunFile(folder / BENCHMARK_NAME)

    def _detach_pytest_benchmark(self, run: MeasuringRun) -> None:
        """Let pytest-benchmark write nothing without room or numbers: it would end in a complaint."""
        session = getattr(self.config, "_benchmarksession", None)
        if session is None or not isinstance(session.json, RunFile):
            return
        if run.is_full or not session.benchmarks:
            session.json = None

    def _start_progress(self, items: Sequence[pytest.Item], claims: int) -> None:
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if reporter is None or self.run is None:
            return
        # Every line of progress names its case; the file's name before it would only stand in the way.
        reporter.showfspath = False
        # Said at once, so that a run that is killed can be resumed.
        reporter.write_line(f"run   {_shown(self.run.folder)}")
        cases = len(set(self._asked) - self.run.known)
        reporter.write_line(plan_line(cases, claims, self.settings.estimate_seconds(cases, claims)))
        guesses = {
            "test_claim": self.settings.claim_seconds,
            "test_speed": self.settings.whole_case_seconds,
        }
        self._progress = Progress(reporter, [_kind(item) for item in items], guesses=guesses)
        self.shows_progress = True

    def begin(self, item: pytest.Item) -> None:
        """Show what is under way."""
        if self._progress:
            self._progress.begin(_name(item))

    def end(self, item: pytest.Item) -> None:
        """Show how an item ended."""
        if self._progress and self.run:
            earlier = _name(item) in self.run.known
            line = self._ending(_name(item)) + (" (from an earlier session)" if earlier else "")
            self._progress.end(_kind(item), line, worked=not earlier)

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Show which cases are measured before their own turn comes."""
        if self._progress:
            with self._uncaptured():
                self._progress.advance(f"process {replicates} of {case.id.group}", seconds)

    def _uncaptured(self) -> AbstractContextManager[object]:
        """Let a line out while a test runs, of which pytest keeps what is printed."""
        capture = self.config.pluginmanager.getplugin("capturemanager")
        return contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled()

    def finish(self, cases: int, seconds: float) -> None:
        """Count cases that are measured before their own turn comes."""
        if self._progress:
            self._progress.finish("test_speed", cases, seconds)

    def _ending(self, name: str) -> str:
        assert self.run is not None
        found = self.run.writer
        if name in found.finished:
            return record_line(found.finished[name])
        proved = (claim for claim in found.run.claims if claim.name == name)
        return next((claim_line(claim.result) for claim in proved), name)

    def keep_benchmark_json(self, content: dict[str, Any]) -> None:
        """Write pytest-benchmark's JSON into the run folder."""
        if self.run is not None:
            write_benchmark_json(self.run.folder, content)

    def write_summary(self, screen: Any) -> None:
        """Print what was measured, what was left out, and where everything lies."""
        assert self.run is not None
        lines = [
            *summary_lines(self.run.writer.run.records),
            *left_out_lines(self.plan.left_out),
            *filter(None, [torch_notice(), self._benchmark_json_line()]),
            *([account_line(self.account)] if self.account else []),
            f"run   {_shown(self.run.folder)}",
            f"page  {self.page}",
            *filter(None, [self._resume_line()]),
        ]
        for line in lines:
            screen.write_line(line)

    def unmeasured_line(self) -> str:
        """Tell what a run that measures nothing left out."""
        reason = device_missing("cuda")
        cuda = f" CUDA was not checked: {reason}." if reason else ""
        return f"sameop: nothing was measured, `pytest --benchmark` does that.{cuda}"

    def _benchmark_json_line(self) -> str:
        assert self.run is not None
        if (self.run.folder / BENCHMARK_NAME).exists():
            return ""
        session = getattr(self.config, "_benchmarksession", None)
        if session is None:
            reason = "pytest-benchmark is switched off"
        elif session.disabled:
            reason = "pytest-benchmark is disabled"
        elif self.run.is_full:
            reason = "there is no room"
        else:
            reason = "no case has a number"
        return f"No {BENCHMARK_NAME} was written: {reason}."

    def _resume_line(self) -> str:
        """Say how to measure what was asked for and has no record yet, with the options that this run had."""
        assert self.run is not None
        missing = [name for name in self._asked if name not in self.run.writer.finished]
        if not missing:
            return ""
        arguments = _without_run([str(argument) for argument in self.config.invocation_params.args])
        command = shlex.join(["pytest", *arguments, f"--bench-run={_shown(self.run.folder)}"])
        return resume_line(len(missing), len(self._asked), command)


def _name(item: pytest.Item) -> str:
    """Return the name of the case or claim that an item is about."""
    claim = _claim(item)
    return claim.name if claim else str(_parameters(item).get("sameop_case", item.name))


def _claim(item: pytest.Item) -> Claim | None:
    found = _parameters(item).get("sameop_claim")
    return found if isinstance(found, Claim) else None


def _parameters(item: pytest.Item) -> dict[str, Any]:
    # Only an item that ranges over something has them.
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def _kind(item: pytest.Item) -> str:
    return getattr(item, "originalname", None) or item.name


def _without_run(arguments: list[str]) -> list[str]:
    """Leave out --bench-run, written with = or with its value behind it."""
    if "--bench-run" in arguments:
        place = arguments.index("--bench-run")
        arguments = arguments[:place] + arguments[place + 2 :]
    return [argument for argument in arguments if not argument.startswith("--bench-run=")]


def _shown(folder: Path) -> str:
    """Write a path from where the user stands, if that is shorter."""
    relative = os.path.relpath(folder)
    return relative if len(relative) < len(str(folder)) else str(folder)
