"""Whatever an operator does, it costs its own case alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bench.case import Case, Selection, plan_cases
from harness.bench.catalog import Catalogue, load_catalogue
from harness.bench.measure.pace import Pace
from harness.bench.measure.session import Session
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Workers
from harness.paper.record import Record, Status
from harness.tests.projects import implementation, make_project

# Long enough for every honest job here, short enough to wait for.
TIMEOUT_SECONDS = 8.0

FAULTS = {
    "segfault": ("ctypes.string_at(0)", "import ctypes"),
    "abort": ("os.abort()", "import os"),
    "endless": ("while True: pass", ""),
    "leaves": ("sys.exit(3)", "import sys"),
    "raises": ('raise ValueError("this way is closed")', ""),
    # A pebibyte: no machine has it and no kernel promises it, so nothing is ever touched.
    "greedy": ("return torch.empty(2**50, dtype=torch.uint8) * x", "import torch"),
    "undefined": ("return x * factor * float('nan')", ""),
    "reads": ("return x * factor + float(input())", ""),
    "prints": ("print('{\"ended\": 0}')\nreturn x * factor", ""),
    "quits": ("print('I am leaving')\nsys.stdout.flush()\nos._exit(7)", "import os, sys"),
}

REASONS = {
    "segfault": "Its process ended with signal SIGSEGV at scale.py:{line}.",
    "abort": "Its process ended with signal SIGABRT at scale.py:{line}.",
    "endless": "It did not end within 8 s and was stopped.",
    "leaves": "It called sys.exit(3).",
    "raises": "It raised ValueError at scale.py:{line}: this way is closed",
    "undefined": (
        "It disagrees with the reference before timing: output[0, 0] is nan, the reference has {value}: "
        "the error is inf"
    ),
    "reads": "It raised EOFError at scale.py:{line}: EOF when reading a line",
    "quits": "Its process ended with exit code 7; it printed last: I am leaving",
}

STATUSES = {
    "segfault": Status.CRASHED,
    "abort": Status.CRASHED,
    "endless": Status.TIMED_OUT,
    "leaves": Status.FAILED,
    "raises": Status.FAILED,
    "greedy": Status.OUT_OF_MEMORY,
    "undefined": Status.DISAGREED,
    "reads": Status.FAILED,
    "prints": Status.MEASURED,
    "quits": Status.CRASHED,
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Every fault in one page, and a sound implementation after each of them."""
    pages = [implementation(name, body, before) for name, (body, before) in FAULTS.items()]
    project = make_project(tmp_path_factory.mktemp("faults"), *pages)
    return load_catalogue([project.page.parent])


@pytest.fixture(scope="module")
def workers(catalogue: Catalogue) -> Iterator[Workers]:
    """Workers with little patience."""
    with Workers([catalogue.sources[0].parent], 1, TIMEOUT_SECONDS) as workers:
        yield workers


def hasty(workers: Workers, cases: int) -> Session:
    """Return a session that takes few and short samples."""
    settings = replace(Settings.of("quick"), processes=(2, 2), warm_up_seconds=0.01, sample_seconds=0.01)
    return Session(workers, settings, Pace(None, 1.0, cases))


@pytest.fixture(scope="module")
def measured(catalogue: Catalogue, workers: Workers) -> dict[str, Record]:
    """Measure every case in one session, in the order of the page."""
    cases = plan_cases(catalogue, Selection(device="cpu")).cases
    records = hasty(workers, len(cases)).measure(cases)
    return {record.case.implementation: record for record in records}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_costs_its_case_alone(name: str, measured: dict[str, Record]) -> None:
    """A crash, a hang, an exit, an exception, a NaN: each is a status, and never a number."""
    record = measured[name]
    assert record.status == STATUSES[name]
    latency = record.readings.get("latency")
    if record.status == Status.MEASURED:
        assert latency is not None
        assert latency.value is not None
    else:
        assert latency is None or latency.value is None


@pytest.mark.parametrize("name", REASONS)
def test_reason_is_one_sentence(name: str, measured: dict[str, Record], catalogue: Catalogue) -> None:
    """The record says in one sentence what happened and at which line of the page."""
    reason = measured[name].reason or ""
    page = next(path for path in catalogue.sources if path.name == "scale.py").read_text(encoding="utf-8")
    before = page[: page.index(f"def {name}(")].count("\n") + 2
    value = reason.partition("the reference has ")[2].partition(":")[0]
    wanted = REASONS[name].format(line=before, value=value)
    assert reason.startswith(wanted)
    assert "\n" not in reason


def test_too_much_memory_is_told_as_such(measured: dict[str, Record]) -> None:
    """An allocation that the machine cannot serve is named, whatever exception it came as."""
    assert (measured["greedy"].reason or "").startswith("It ran out of memory at scale.py:")


def test_reference_is_unharmed(measured: dict[str, Record]) -> None:
    """The sound case of the same page is measured with every meter that works here."""
    record = measured["reference"]
    assert record.status == Status.MEASURED
    assert record.readings["memory"].value is not None
    assert record.readings["macs"].value == 24
    assert (record.readings["energy"].value is None) == bool(record.readings["energy"].reason)
    assert record.worker["threads"] == 1


@pytest.mark.parametrize("name", [*FAULTS, "reference"])
def test_every_record_can_be_written(name: str, measured: dict[str, Record]) -> None:
    """A record is strict JSON, also where an error is infinite."""
    line = json.dumps(measured[name].as_json(), allow_nan=False, default=str)
    assert Record.from_json(json.loads(line)).status == measured[name].status


def test_a_broken_reference_costs_its_group(tmp_path: Path) -> None:
    """Without a reference nothing is measured against it, and each case says so."""
    project = make_project(tmp_path, implementation("good", "return x * factor"))
    page = project.page.read_text(encoding="utf-8")
    broken = page.replace("    return x * factor\n", "    raise ValueError('nothing here')\n", 1)
    project.page.write_text(broken, encoding="utf-8")
    catalogue = load_catalogue([project.page.parent])
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        cases: list[Case] = plan_cases(catalogue, Selection(device="cpu")).cases
        found = hasty(workers, len(cases)).measure(cases)
    assert [record.status for record in found] == [Status.FAILED, Status.FAILED]
    assert found[1].reason == (
        "Its reference could not be evaluated. It raised ValueError at scale.py:11: nothing here"
    )
