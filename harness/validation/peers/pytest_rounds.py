"""pytest-benchmark: rounds inside a session of pytest, calibrated as it calibrates by default."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.validation.peers.peer import Answer, Call, Estimate

_TEST = Path(__file__).with_name("pytest_subject.py")


class PytestBenchmark:
    """The ``benchmark`` fixture with its own calibration; the median of its JSON report."""

    name = "pytest-benchmark"
    distribution = "pytest-benchmark"
    processes = 1

    def load(self) -> None:
        """Import pytest and the plugin."""
        import pytest_benchmark.plugin  # noqa: F401

    def measure(self, call: Call, seconds: float) -> Answer:
        """Run a session of pytest with one test and read the statistics from its report."""
        import pytest

        with tempfile.TemporaryDirectory() as folder, _without_other_plugins():
            report = Path(folder) / "report.json"
            settings = Path(folder) / "pytest.ini"
            settings.write_text("[pytest]\n", encoding="ascii")
            arguments = [
                *("-q", "-c", str(settings), "--rootdir", folder, "-p", "no:cacheprovider"),
                *("-p", "pytest_benchmark.plugin", f"--benchmark-max-time={seconds!r}"),
                *(f"--benchmark-json={report}", str(_TEST)),
            ]
            ended = pytest.main(arguments, plugins=[_plugin(call)])
            if ended != 0:
                raise RuntimeError(f"the session of pytest ended with {ended!r}")
            (found,) = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
        return {name: found["stats"][name] for name in ("median", "q1", "q3")}

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return the median of the one process."""
        (answer,) = answers
        return Estimate(answer["median"], answer["q1"], answer["q3"])


def _plugin(call: Call) -> object:
    """Return a plugin that hands the callable to the test as a fixture."""
    import pytest

    class Plugin:
        @pytest.fixture
        def subject(self) -> Call:
            return call

    return Plugin()


@contextlib.contextmanager
def _without_other_plugins() -> Iterator[None]:
    """Leave out what else is installed: a session of pytest should hold this tool alone."""
    name = "PYTEST_DISABLE_PLUGIN_AUTOLOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
