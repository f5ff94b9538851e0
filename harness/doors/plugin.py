"""The pytest plugin: ``pytest`` proves and checks, ``pytest --benchmark`` proves and measures.

It is loaded in every project of an environment, so it imports torch and the rest of the harness only
where [tool.sameop] or an option asks for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.doors.options import add_options
from harness.paper.errors import Exit, RunRefusedError, SameopError

if TYPE_CHECKING:
    from harness.doors.bench import Bench
    from harness.doors.project import Project

FIXTURES = frozenset({"sameop_claim", "sameop_agreement", "sameop_cost", "sameop_case"})
_MEASURED_FIXTURES = frozenset({"sameop_claim", "sameop_case", "benchmark"})
_PROJECT: pytest.StashKey[Project] = pytest.StashKey()
_BENCH: pytest.StashKey[Bench] = pytest.StashKey()
_REFUSAL: pytest.StashKey[SameopError] = pytest.StashKey()
_INTERRUPTION: pytest.StashKey[_Interruption] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--benchmark`` and the ``--bench-…`` options."""
    add_options(parser.getgroup("sameop", "sameop: equivalence and cost of neural operators"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Find out whether this project uses sameop; one that does not is left alone."""
    from harness.doors.project import find_project

    config.addinivalue_line("markers", "sameop: proves, checks or measures a sameop case")
    option = config.option
    try:
        project = find_project(Path(config.rootpath), builtin=option.bench_builtin)
        if not project.is_configured and option.benchmark and not option.bench_builtin:
            raise SameopError(
                f"No [tool.sameop] was found at or above {config.rootpath}, so there is no case to measure: "
                'add [tool.sameop] cases = ["folder"] to pyproject.toml, or pass --bench-builtin for '
                "sameop's own cases."
            )
    except SameopError as error:
        config.stash[_REFUSAL] = error
        return
    if not project.is_configured and not option.bench_builtin:
        return
    config.stash[_PROJECT] = project
    config.stash[_INTERRUPTION] = _Interruption()
    config.pluginmanager.register(config.stash[_INTERRUPTION])
    if not _measures(config) and hasattr(option, "benchmark_disable"):
        # Plain `pytest` measures nothing in a project with sameop cases.
        option.benchmark_disable = True


def _measures(config: pytest.Config) -> bool:
    """Whether anything may be timed, by whichever switch."""
    option = config.option
    return bool(
        option.benchmark
        or getattr(option, "benchmark_only", False)
        or getattr(option, "benchmark_enable", False)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> bool | None:
    """Read the catalogue before anything is collected; a refusal ends the collection before it begins."""
    config = session.config
    if _REFUSAL in config.stash:
        return True
    if _PROJECT not in config.stash:
        return None
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(_NoBenchmark())
    if config.option.benchmark or _adds_suite(config):
        try:
            _bench(config)
        except SameopError as error:
            config.stash[_REFUSAL] = error
            return True
    return None


def _adds_suite(config: pytest.Config) -> bool:
    """Whether the suite is collected although no file of the project asks for it."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    narrow = any("::" in arg or Path(arg).is_file() for arg in config.args)
    return not narrow and (config.option.benchmark or not named)


def _bench(config: pytest.Config) -> Bench | None:
    """Return what is known of the project's cases, None where it has none; the first call reads its pages."""
    if _BENCH not in config.stash and _PROJECT in config.stash:
        try:
            from harness.doors.bench import Bench
        except ModuleNotFoundError as error:
            raise SameopError(
                f"Proving and measuring need {error.name}, which is not installed: pip install {error.name}."
            ) from None
        config.stash[_BENCH] = Bench.of(config, config.stash[_PROJECT])
    return config.stash.get(_BENCH, None)


class _NoBenchmark:
    """Stands in for pytest-benchmark where it is switched off: the suite asks for its fixture."""

    @pytest.fixture
    def benchmark(self) -> None:
        """Take no samples."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the suite's fixtures from the catalogue."""
    for name in sorted(FIXTURES.intersection(metafunc.fixturenames)):
        try:
            bench = _bench(metafunc.config)
        except SameopError as error:
            raise pytest.Collector.CollectError(str(error)) from None
        metafunc.parametrize(name, bench.parameters(name) if bench else [])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the suite where no test of the project asks for it; drop what this run is not about."""
    bench = config.stash.get(_BENCH, None)
    if bench is None:
        return
    if _adds_suite(config) and not any(map(_is_ours, items)):
        items.extend(bench.collect_suite(session))
    kept = [item for item in items if _belongs(item, config)]
    if len(kept) < len(items):
        dropped = [item for item in items if item not in set(kept)]
        items[:] = kept
        config.hook.pytest_deselected(items=dropped)


def _belongs(item: pytest.Item, config: pytest.Config) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    if _is_ours(item) and item.get_closest_marker("sameop") is None:
        return False  # its fixture ranges over nothing
    if not config.option.benchmark:
        return "sameop_case" not in names
    return not _MEASURED_FIXTURES.isdisjoint(names)


def _is_ours(item: pytest.Item) -> bool:
    """Whether an item is one of the suite's tests."""
    return not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the run folder open while the cases are measured, and write the page whatever ends them."""
    bench = session.config.stash.get(_BENCH, None)
    ours = [item for item in session.items if _is_ours(item)]
    if bench is None or not bench.measures or not ours or _runs_nothing(session):
        return (yield)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(bench.open_run(ours))
        except SameopError as error:
            session.config.stash[_REFUSAL] = error
            session.items.clear()
        return (yield)


def _runs_nothing(session: pytest.Session) -> bool:
    option = session.config.option
    return bool(option.collectonly or (session.testsfailed and not option.continue_on_collection_errors))


@pytest.fixture(scope="session")
def sameop_run(request: pytest.FixtureRequest) -> Any:
    """Return the open run while measuring, otherwise None."""
    bench = request.config.stash.get(_BENCH, None)
    return bench.run if bench else None


@pytest.fixture(scope="session")
def sameop_proofs(request: pytest.FixtureRequest) -> Generator[Any]:
    """Prove the claims of this session, in as many processes as there are processors."""
    from harness.doors.proving import open_proofs

    parameters = (getattr(item, "callspec", None) for item in request.session.items)
    claims = [
        found.params["sameop_claim"] for found in parameters if found and "sameop_claim" in found.params
    ]
    with open_proofs(request.config.stash[_PROJECT].folders, claims) as proofs:
        yield proofs


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Show what is under way and how it ended."""
    bench = item.config.stash.get(_BENCH, None)
    if bench is None or bench.run is None or not _is_ours(item):
        return (yield)
    bench.begin(item)
    result = yield
    bench.end(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Check with one thread: the shapes of proofs are tiny, and the threads of the project are its own.

    A run that can no longer be written ends here: whatever else was measured would be lost.
    """
    bench = item.config.stash.get(_BENCH, None)
    if bench is None or not _is_ours(item):
        return (yield)
    if bench.measures:
        try:
            return (yield)
        except RunRefusedError as error:
            item.config.stash[_REFUSAL] = error
            item.session.shouldfail = "the run can no longer be written"
            pytest.skip("its record could not be written")
    from harness.bench.threads import one_thread

    with one_thread():
        return (yield)


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Print no letters between the lines of progress, which say more; in pytest's summary it has its say."""
    bench = config.stash.get(_BENCH, None)
    if bench is None or not bench.shows_progress or "sameop" not in report.keywords or report.when != "call":
        return None
    return (report.outcome, "", "") if report.outcome in ("passed", "failed", "skipped") else None


class _Interruption:
    """Remembers that a person, and no error, ended the run: pytest has one exit code for both."""

    happened = False

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Tell Ctrl-C from pytest's own ways to stop, which are kinds of it."""
        self.happened = excinfo.type is KeyboardInterrupt


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give a measuring run, and every refusal, the exit codes that every sameop command has."""
    config = session.config
    refusal = config.stash.get(_REFUSAL, None)
    if refusal is not None:
        session.exitstatus = int(refusal.exit)
    elif _PROJECT in config.stash and config.option.benchmark:
        session.exitstatus = _exit_code(exitstatus, interrupted=config.stash[_INTERRUPTION].happened)


def _exit_code(exitstatus: int, *, interrupted: bool) -> int:
    if exitstatus == pytest.ExitCode.INTERRUPTED:
        return int(Exit.INTERRUPTED if interrupted else Exit.FAILED)
    return int(Exit.NOTHING if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED else exitstatus)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    """Print what was measured and where it lies, or why nothing was; then the exit code."""
    from harness.doors.messages import exit_line

    bench, refusal = config.stash.get(_BENCH, None), config.stash.get(_REFUSAL, None)
    if refusal is None and (bench is None or not bench.measures):
        if bench is not None:
            terminalreporter.write_line(bench.unmeasured_line())
        return
    terminalreporter.section("sameop")
    if bench is not None and bench.run is not None:
        bench.write_summary(terminalreporter)
    if refusal is not None:
        terminalreporter.write_line(str(refusal), red=True)
        code = int(refusal.exit)
    else:
        code = _exit_code(exitstatus, interrupted=config.stash[_INTERRUPTION].happened)
    terminalreporter.write_line(exit_line(code))


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Keep a copy in the run folder where the user sent the file elsewhere."""
    bench = config.stash.get(_BENCH, None)
    if bench is not None and bench.run is not None:
        bench.keep_benchmark_json(output_json)
