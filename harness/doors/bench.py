"""What the pytest plugin remembers from the options to the summary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.bench.case import DEVICES, PRESETS, Case, Plan, Selection, plan_cases
from harness.bench.catalog import Catalogue
from harness.bench.machine import torch_notice
from harness.doors.measuring import BENCHMARK_NAME, MeasuringRun, open_measuring_run, write_benchmark_json
from harness.doors.messages import claim_line, exit_line, record_line, summary_lines
from harness.doors.parameters import SpeedCheck, agreement_checks, cost_checks
from harness.doors.progress import Progress
from harness.doors.project import Project, find_project
from harness.doors.replay import ReplayTimer
from harness.paper.errors import SameopError


@dataclass
class Bench:
    """One pytest session of a project with sameop cases."""

    config: pytest.Config
    project: Project
    catalogue: Catalogue
    selection: Selection
    threads: int
    measures: bool
    plan: Plan = field(default_factory=Plan)
    folder: Path | None = None
    run: MeasuringRun | None = None
    page: str = ""
    exit: int = 0
    interrupted: bool = False
    _progress: Progress | None = None

    @classmethod
    def of(cls, config: pytest.Config, *, measures: bool) -> Bench | None:
        """Read the options and the catalogue; None where the project has no cases of its own.

        Raises :class:`SameopError` for a bad option or page.
        """
        option = config.option
        selection, threads = _selection(option), _threads(option.bench_threads)
        project = find_project(Path(config.rootpath), builtin=option.bench_builtin)
        if not project.is_configured and not option.bench_builtin:
            if option.benchmark:
                raise SameopError(
                    f"No [tool.sameop] was found at or above {config.rootpath}, so there is no case to measure: "
                    'add [tool.sameop] cases = ["folder"] to pyproject.toml, or pass --bench-builtin for '
                    "sameop's own cases."
                )
            return None
        if measures and getattr(option, "numprocesses", None):
            raise SameopError("Measuring needs the machine to itself: leave -n out, or --benchmark.")
        return cls(config, project, project.load(), selection, threads, measures and option.benchmark)

    def plan_run(self) -> None:
        """Decide what to measure."""
        if self.measures:
            self.plan = plan_cases(self.catalogue, self.selection)
            asked = self.config.option.bench_run
            self.folder = Path(asked).absolute() if asked else None

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

    def _claims(self) -> list[Any]:
        chosen = {operator.name for operator in self.catalogue.operators_like(self.selection.operator)}
        claims = self.catalogue.claims.values()
        return [claim for claim in claims if not self.measures or chosen.intersection(claim.operators)]

    def _speed_parameter(self, case: Case) -> Any:
        timer = ReplayTimer()
        check = SpeedCheck(case, timer)
        marks = [
            pytest.mark.sameop,
            pytest.mark.benchmark(timer=timer, group=str(case.id.group)),
            # A case without a number leaves pytest-benchmark's fixture alone, on purpose.
            pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),
        ]
        return pytest.param(check, id=check.name, marks=marks)

    def _has_pytest_benchmark(self) -> bool:
        return bool(self.config.pluginmanager.hasplugin("benchmark"))

    def adds_suite(self, config: pytest.Config) -> bool:
        """Whether the suite is collected although no file of the project asks for it."""
        named = config.args_source is pytest.Config.ArgsSource.ARGS
        narrow = any("::" in arg or Path(arg).is_file() for arg in config.args)
        return not narrow and (self.measures or not named)

    def collect_suite(self, session: pytest.Session) -> list[pytest.Item]:
        """Collect the tests of :mod:`harness.doors.suite` under the name ``sameop``."""
        path = Path(__file__).with_name("suite.py")
        module = pytest.Module.from_parent(session, path=path, nodeid="sameop")
        return list(session.genitems(module))

    def expect_items(self, items: list[pytest.Item]) -> None:
        """Prepare the progress over the items that are ours."""
        ours = [item for item in items if is_ours(item)]
        reporter = self.config.pluginmanager.getplugin("terminalreporter")
        if self.measures and reporter is not None:
            # Every line of progress names its case; the file's name before it would only stand in the way.
            reporter.showfspath = False
            self._progress = Progress(reporter, len(ours))

    @contextlib.contextmanager
    def open_run(self) -> Iterator[MeasuringRun]:
        """Open the run folder and its workers."""
        with open_measuring_run(
            self.project, self.catalogue, self.plan, self.selection, self.folder, self.threads
        ) as run:
            self.run, self.folder = run, run.folder
            self._attach_pytest_benchmark(run.folder)
            yield run

    def _attach_pytest_benchmark(self, folder: Path) -> None:
        session = getattr(self.config, "_benchmarksession", None)
        if session is None:
            return
        # The run's own summary takes the place of pytest-benchmark's table of hundreds of rows.
        session.quiet = not session.verbose
        if session.json is None:
            session.json = folder / BENCHMARK_NAME

    def close_run(self, run: MeasuringRun) -> None:
        """Write the page from what was recorded."""
        self.page = run.write_page()

    def begin(self, item: pytest.Item) -> None:
        """Show what is under way."""
        if self._progress:
            self._progress.begin(item.name)

    def end(self, item: pytest.Item) -> None:
        """Show how an item ended."""
        if self._progress:
            self._progress.end(self._ending(item))

    def _ending(self, item: pytest.Item) -> str:
        parameters = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        if self.run is None:
            return item.name
        if "sameop_case" in parameters:
            record = self.run.writer.finished.get(parameters["sameop_case"].name)
            return record_line(record) if record else item.name
        name = parameters["sameop_claim"].name if "sameop_claim" in parameters else None
        proved = (claim for claim in self.run.writer.run.claims if claim.name == name)
        return next((claim_line(claim.result) for claim in proved), item.name)

    def keep_benchmark_json(self, content: dict[str, Any]) -> None:
        """Write pytest-benchmark's JSON into the run folder."""
        if self.folder is not None:
            write_benchmark_json(self.folder, content)

    def write_summary(self, screen: Any) -> None:
        """Print what was measured, what was left out, and where everything lies."""
        screen.section("sameop")
        if self.run is not None:
            for line in summary_lines(self.run.writer.run.records):
                screen.write_line(line)
        for entry in _grouped(self.plan.left_out):
            screen.write_line(entry)
        notice = torch_notice()
        for line in filter(None, [notice, self._benchmark_json_line()]):
            screen.write_line(line)
        if self.run is not None:
            screen.write_line(f"run   {self.run.folder}")
            screen.write_line(f"page  {self.page}")
        screen.write_line(exit_line(self.exit))

    def _benchmark_json_line(self) -> str:
        if self._has_pytest_benchmark():
            return ""
        return f"No {BENCHMARK_NAME} was written: pytest-benchmark is switched off."


FIXTURES = frozenset({"sameop_claim", "sameop_agreement", "sameop_cost", "sameop_case"})


def is_ours(item: pytest.Item) -> bool:
    """Whether an item is one of the suite's tests."""
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def is_empty(item: pytest.Item) -> bool:
    """Whether an item stands for a fixture of the suite that ranges over nothing."""
    return is_ours(item) and item.get_closest_marker("sameop") is None


def _grouped(left_out: list[dict[str, str]]) -> list[str]:
    """Tell what was left out, one line a reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in left_out:
        by_reason.setdefault(entry["reason"], []).append(entry["what"])
    return [
        f"left out: {what[0]}{f' and {len(what) - 1} more' if len(what) > 1 else ''} ({reason})"
        for reason, what in by_reason.items()
    ]


def _selection(option: Any) -> Selection:
    if option.bench_preset not in PRESETS:
        raise SameopError(
            f"--bench-preset={option.bench_preset} is unknown: choose {', '.join(PRESETS[:-1])} or {PRESETS[-1]}."
        )
    if option.bench_device not in DEVICES:
        raise SameopError(
            f"--bench-device={option.bench_device} is unknown: choose {', '.join(DEVICES[:-1])} or {DEVICES[-1]}."
        )
    return Selection(option.bench_preset, option.bench_device, option.bench_operator)


def _threads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise SameopError(f"--bench-threads={text} is no count of threads: give a whole number from 1 up.")
    return int(text)
