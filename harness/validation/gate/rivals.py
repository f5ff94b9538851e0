"""Other tools' rules in the same time slices: pytest-benchmark measures base, then head; each rule judges.

What the rules are, from their own sources:

* pytest-benchmark's ``--benchmark-compare-fail=min:5%`` (``PercentageRegressionCheck`` in its ``utils``)
  fails where a statistic of head is more than so many percent above that of base.
* asv (``asv.commands.compare._is_result_better`` and ``asv._stats.is_different``) calls a change a regression
  where the median grew by more than a factor of 1.1 and a Mann-Whitney test gives p < 0.002. It takes at most
  ten samples in each of two processes.
* pyperf (``pyperf._utils.is_significant``, used by ``compare_to``) calls two benchmarks different where
  Student's two-sample, two-tailed t test does at 95 %. It takes three values in each of twenty processes.

asv and pyperf decide on the rounds of pytest-benchmark, consecutive ones averaged into as many samples as
they would take; so they see one process of either side, and their own would see more of the machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from math import erfc, sqrt
from pathlib import Path
from statistics import fmean, median, variance
from typing import Any

from harness.paper.errors import SameopError
from harness.paper.stats import student_quantile
from harness.validation.gate import loads
from harness.validation.peers.turns import environment

_BENCH = Path(__file__).with_name("rivals_bench.py")
_PATIENCE_SECONDS = 900.0
PYTEST_RULES = ("min:5%", "median:5%", "mean:10%")
_ASV_SAMPLES, _ASV_FACTOR, _ASV_P = 20, 1.1, 0.002
_PYPERF_VALUES = 60
Stats = Mapping[str, Any]
Rule = Callable[[Stats, Stats], bool]


def ask(base: Path, head: Path, load: str) -> dict[str, Any]:
    """Measure both sides one after the other, and return by rule the operators that it alarms for."""
    with loads.during_side(load, is_first=True):
        before = _measure(base)
    with loads.during_side(load, is_first=False):
        after = _measure(head)
    return {
        "alarms": {name: _alarms(rule, before, after) for name, rule in rules().items()},
        "stats": {
            side: {
                name: {key: one[key] for key in ("min", "median", "mean", "rounds")}
                for name, one in found.items()
            }
            for side, found in (("base", before), ("head", after))
        },
        "by": {"asv": _origin("asv"), "pyperf": _origin("pyperf")},
    }


def _alarms(rule: Rule, before: Mapping[str, Stats], after: Mapping[str, Stats]) -> list[str]:
    return [name for name in before if name in after and rule(before[name], after[name])]


def _measure(side: Path) -> dict[str, Stats]:
    """Run pytest-benchmark with its defaults over the suite of a side; return the statistics by operator."""
    with tempfile.TemporaryDirectory() as folder:
        report, settings = Path(folder) / "report.json", Path(folder) / "pytest.ini"
        settings.write_text("[pytest]\n", encoding="ascii")
        command = [
            *(sys.executable, "-P", "-m", "pytest", "-q", "-c", str(settings), "--rootdir", folder),
            *("-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"),
            *(f"--benchmark-json={report}", str(_BENCH)),
        ]
        variables = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "SAMEOP_VALIDATED_SIDE": str(side)}
        done = subprocess.run(
            command,
            cwd=folder,
            env={**environment("default"), **variables},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
            raise SameopError(f"pytest-benchmark ended with {done.returncode} ({said}): leave --peers out.")
        benchmarks = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
    return {one["param"]: one["stats"] for one in benchmarks}


def rules() -> dict[str, Rule]:
    """Return the rules by name."""
    parse: Any = import_module("pytest_benchmark.utils").parse_compare_fail

    def checked(check: Any) -> Rule:
        return lambda before, after: bool(check.fails(after, before))

    found: dict[str, Rule] = {name: checked(parse(name)) for name in PYTEST_RULES}
    return {**found, "asv": _asv, "pyperf": _pyperf}


def _asv(before: Stats, after: Stats) -> bool:
    a, b = (_averaged(one["data"], _ASV_SAMPLES) for one in (before, after))
    compare = _found("asv.commands.compare")
    statistics = _found("asv_runner.statistics")
    if compare and statistics:
        found = [statistics.compute_stats(samples, 1) for samples in (a, b)]
        (value_a, stats_a), (value_b, stats_b) = found
        return bool(compare._is_result_better(value_a, value_b, (stats_a, a), (stats_b, b), _ASV_FACTOR))
    return median(a) < median(b) / _ASV_FACTOR and mann_whitney(a, b) < _ASV_P


def _pyperf(before: Stats, after: Stats) -> bool:
    number = min(_PYPERF_VALUES, len(before["data"]), len(after["data"]))
    a, b = (_averaged(one["data"], number) for one in (before, after))
    if fmean(b) <= fmean(a):
        return False
    tool = _found("pyperf._utils")
    if tool:
        return bool(tool.is_significant(a, b)[0])
    score = (fmean(b) - fmean(a)) / sqrt((variance(a) + variance(b)) / number)
    return score >= student_quantile(0.975, 2 * number - 2)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p of the Mann-Whitney test by its normal approximation, good from 8 values on."""
    above = sum((y > x) + (y == x) / 2 for x in a for y in b)
    middle = len(a) * len(b) / 2
    spread = sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    return erfc(max(0.0, abs(above - middle) - 0.5) / spread / sqrt(2))


def _averaged(data: Sequence[float], count: int) -> list[float]:
    """Average consecutive rounds into so many values, fewer where there are fewer rounds."""
    count = min(count, len(data))
    edges = [place * len(data) // count for place in range(count + 1)]
    return [fmean(data[low:high]) for low, high in pairwise(edges)]


def _found(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        return None


def _origin(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return "as its source states it"
