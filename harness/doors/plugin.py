"""The pytest plugin: ``pytest`` proves and checks, ``pytest --benchmark`` proves and measures."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from harness.paper.errors import Exit, NothingToMeasureError, SameopError

if TYPE_CHECKING:
    from harness.doors.bench import Bench

_MEASURED_FIXTURES = frozenset({"sameop_claim", "sameop_case", "benchmark"})
_BENCH = pytest.StashKey["Bench"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--benchmark`` and the ``--bench-…`` options."""
    group = parser.getgroup("sameop", "sameop: equivalence and cost of neural operators")
    group.addoption("--benchmark", action="store_true", help="Prove the claims and measure the cases.")
    group.addoption(
        "--bench-preset",
        default="quick",
        metavar="quick|standard|full",
        help="How much to measure: quick fits in 3 minutes on 2 cores.",
    )
    group.addoption(
        "--bench-device", default="all", metavar="cpu|cuda|all", help="Where; all skips what is absent."
    )
    group.addoption("--bench-operator", default="*", metavar="GLOB", help="Which operators.")
    group.addoption("--bench-run", metavar="DIR", help="The run folder; an existing run is resumed.")
    group.addoption(
        "--bench-threads", default="1", metavar="N", help="Threads of every CPU case; 1 by default."
    )
    group.addoption("--bench-builtin", action="store_true", help="Add sameop's own cases to the project's.")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep pytest-benchmark off unless measuring was asked for, by whichever switch."""
    config.addinivalue_line("markers", "sameop: proves, checks or measures a sameop case")
    option = config.option
    if not _measures(config) and hasattr(option, "benchmark_disable"):
        option.benchmark_disable = True
    if not config.pluginmanager.hasplugin("benchmark"):
        config.pluginmanager.register(_NoBenchmark())


class _NoBenchmark:
    """Stands in for pytest-benchmark where it is switched off: the suite asks for its fixture."""

    @pytest.fixture
    def benchmark(self) -> None:
        """Take no samples."""


def _measures(config: pytest.Config) -> bool:
    option = config.option
    return bool(
        option.benchmark
        or getattr(option, "benchmark_only", False)
        or getattr(option, "benchmark_enable", False)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Read the catalogue before anything is collected, so that a mistake in a page is one sentence."""
    from harness.doors.bench import Bench

    config = session.config
    with _one_sentence():
        bench = Bench.of(config, measures=_measures(config))
        if bench is None:
            return
        config.stash[_BENCH] = bench
        bench.plan_run()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill the suite's fixtures from the catalogue."""
    from harness.doors.bench import FIXTURES

    bench = metafunc.config.stash.get(_BENCH, None)
    for name in FIXTURES.intersection(metafunc.fixturenames):
        metafunc.parametrize(name, bench.parameters(name) if bench else [])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add the suite where no test of the project asks for it; drop what this run is not about."""
    from harness.doors.bench import is_ours

    bench = config.stash.get(_BENCH, None)
    if bench is not None and bench.adds_suite(config) and not any(map(is_ours, items)):
        items.extend(bench.collect_suite(session))
    dropped = [item for item in items if not _belongs(item, bench, measures=_measures(config))]
    if dropped:
        items[:] = [item for item in items if item not in set(dropped)]
        config.hook.pytest_deselected(items=dropped)
    if bench is not None:
        bench.expect_items(items)


def _belongs(item: pytest.Item, bench: Bench | None, *, measures: bool) -> bool:
    from harness.doors.bench import is_empty

    names = set(getattr(item, "fixturenames", ()))
    if is_empty(item):
        return False
    if not measures:
        return "sameop_case" not in names
    if bench is None or not item.config.option.benchmark:
        return True
    return not _MEASURED_FIXTURES.isdisjoint(names)


@pytest.fixture(scope="session")
def sameop_run(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The open run folder while measuring, otherwise None."""
    bench = request.config.stash.get(_BENCH, None)
    if bench is None or not bench.measures:
        yield None
        return
    with contextlib.ExitStack() as stack:
        try:
            run = stack.enter_context(bench.open_run())
        except SameopError as error:
            pytest.exit(str(error), returncode=int(error.exit))
        yield run
        bench.close_run(run)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Show what is under way and how it ended."""
    bench = item.config.stash.get(_BENCH, None)
    if bench is None or not bench.measures or item.get_closest_marker("sameop") is None:
        return (yield)
    bench.begin(item)
    try:
        result = yield
    except KeyboardInterrupt:
        bench.interrupted = True
        raise
    bench.end(item)
    return result


def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """Print no dots between the lines of progress."""
    bench = config.stash.get(_BENCH, None)
    if bench is None or not bench.measures or "sameop" not in report.keywords:
        return None
    if report.passed and report.when == "call":
        return "passed", "", ""
    return None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Give a measuring run the exit codes that every sameop command has."""
    bench = session.config.stash.get(_BENCH, None)
    if bench is None or not bench.measures:
        return
    if bench.interrupted:
        session.exitstatus = int(Exit.INTERRUPTED)
    elif exitstatus == pytest.ExitCode.INTERRUPTED:
        session.exitstatus = int(Exit.FAILED)
    elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = int(Exit.NOTHING)
    bench.exit = int(session.exitstatus)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the summary of what was measured and where the page lies."""
    bench = config.stash.get(_BENCH, None)
    if bench is not None and bench.measures:
        bench.write_summary(terminalreporter)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Keep a copy in the run folder where the user sent the file elsewhere."""
    bench = config.stash.get(_BENCH, None)
    if bench is not None and bench.folder is not None:
        bench.keep_benchmark_json(output_json)


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except NothingToMeasureError as error:
        pytest.exit(f"{error}", returncode=int(error.exit))
    except SameopError as error:
        raise pytest.UsageError(str(error)) from None
