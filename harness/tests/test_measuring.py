"""A measuring run as a whole: what is refused, what is recorded, and what other tools read of it."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.bench.case import Selection, plan_cases
from harness.bench.catalog import load_catalogue
from harness.bench.measure.session import Session
from harness.doors.measuring import MeasuringRun
from harness.paper.store import RunWriter
from harness.tests.projects import Done, Project, implementation, make_project, records, run

CPU = ("--benchmark", "--bench-device=cpu", "--bench-processes=1")
CASE = "scale/core/{}/tiny-one/float32/cpu/forward"

# Two implementations take a time that no other number of a run has, so that it can be searched for.
SLOW = implementation("slow", "time.sleep(0.0433)\nreturn x * factor", "import time")
# More calls than come before timing, fewer than come before the second agreement.
LATE = implementation(
    "late",
    "global calls\ncalls += 1\ntime.sleep(0.0777)\nreturn x * factor + (calls > 18)",
    "import time\n\ncalls = 0",
)
SLOW_TIMES = re.compile(r"0\.04[345]\d{5}|\b4[345]\.\d+ ms")
# Of the account of a session, where any number may stand: on the page a phase has its share behind it.
_PHASE, _LONGER = re.compile(r"\b[\d.]+ m?s, [\d.]+ %"), {"seconds", "phases", "unaccounted"}
LATE_TIMES = re.compile(r"0\.07[789]\d{5}|\b7[789]\.\d+ ms")


@dataclass(frozen=True)
class Judged:
    """A run over sound and unsound implementations."""

    project: Project
    done: Done

    @property
    def folder(self) -> Path:
        """The run folder."""
        (folder,) = self.project.runs
        return folder

    @property
    def benchmarks(self) -> dict[str, Any]:
        """What pytest-benchmark wrote, by case."""
        content = json.loads((self.folder / "benchmark.json").read_text(encoding="utf-8"))
        return {entry["extra_info"]["sameop_case"]: entry for entry in content["benchmarks"]}

    def outputs(self) -> dict[str, str]:
        """Return the three outputs as text, without what says how long a case, a claim or a phase took."""
        texts = {
            name: _PHASE.sub("", (self.folder / name).read_text(encoding="utf-8"))
            for name in ("benchmark.json", "index.html")
        }
        lines = (self.folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        return {
            **texts,
            "records.jsonl": "\n".join(json.dumps(_timeless(json.loads(line))) for line in lines),
        }


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(entry) for key, entry in value.items() if key not in _LONGER}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Measure a project with every kind of implementation once."""
    project = make_project(
        tmp_path_factory.mktemp("judged"),
        implementation("sound", "return factor * x"),
        implementation("wrong", "result = x * factor\nresult[1, 2] += 0.5\nreturn result"),
        SLOW,
        LATE,
        implementation("broken", "ctypes.string_at(0)", "import ctypes"),
        claim=True,
    )
    return Judged(project, project.pytest(*CPU))


def test_run_with_a_failure_is_exit_1(judged: Judged) -> None:
    """One case without agreement fails the whole run, and the code is printed with its meaning."""
    assert judged.done.code == 1
    assert "exit 1: tests, agreement or a claim failed" in judged.done.lines
    assert "3 failed, 4 passed" in judged.done.out
    assert "Traceback" not in judged.done.out


def test_wrong_implementation_is_refused_before_timing(judged: Judged) -> None:
    """It is told by index, both values, the error and the limit, and its record has no time."""
    record = records(judged.folder)["wrong"]
    assert record["status"] == "disagreed"
    found = re.fullmatch(
        r"It disagrees with the reference before timing: output\[1, 2\] is (\S+), the reference has (\S+): "
        r"the error is 0\.5, .* 0 \(integers, float32\)",
        record["reason"],
    )
    assert found
    assert float(found[1]) - float(found[2]) == 0.5
    assert record["readings"]["latency"]["value"] is None
    assert record["readings"]["latency"]["samples"] == []
    assert record["readings"]["memory"]["value"] is None
    assert record["reason"] in judged.done.out
    assert CASE.format("wrong") not in judged.benchmarks


def test_what_turns_wrong_after_timing_has_no_number_anywhere(judged: Judged) -> None:
    """Its samples are in none of the three outputs, where those of an equally slow sound one are."""
    assert records(judged.folder)["late"]["reason"].startswith(
        "It disagrees with the reference after timing: "
    )
    for name, text in judged.outputs().items():
        assert SLOW_TIMES.search(text), f"the search would find nothing in {name}"
        assert not LATE_TIMES.search(text), f"{name} holds a number that was withheld"


def test_crash_costs_its_case_alone(judged: Judged) -> None:
    """A segmentation fault is a status with the page's line; the cases around it have their numbers."""
    found = records(judged.folder)
    assert found["broken"]["status"] == "crashed"
    assert re.fullmatch(
        r"Its process ended with signal SIGSEGV at scale\.py:\d+\.", found["broken"]["reason"]
    )
    assert {name for name, record in found.items() if record["status"] == "measured"} == {
        "reference",
        "sound",
        "slow",
    }


def test_statistics_are_those_of_the_records(judged: Judged) -> None:
    """pytest-benchmark's statistics are computed from the very samples of the records, to the bit."""
    measured = {
        name: record for name, record in records(judged.folder).items() if record["status"] == "measured"
    }
    assert set(judged.benchmarks) == {CASE.format(name) for name in measured}
    for name, record in measured.items():
        stats, latency = judged.benchmarks[CASE.format(name)]["stats"], record["readings"]["latency"]
        samples = latency["samples"]
        assert stats["data"] == samples
        assert stats["rounds"] == len(samples)
        assert (stats["min"], stats["max"]) == (min(samples), max(samples))
        assert stats["mean"] == statistics.mean(samples)
        assert stats["median"] == statistics.median(samples)
        processes = [process["median"] for process in latency["facts"]["processes"]]
        assert latency["value"] == statistics.median(processes)


def test_pytest_benchmark_reads_the_file(judged: Judged) -> None:
    """Its own command compares the file, with the names of the cases."""
    file = str(judged.folder / "benchmark.json")
    done = run(judged.project.root, [sys.executable, "-m", "pytest_benchmark", "compare", file])
    assert done.code == 0, done.err
    assert f"test_speed[{CASE.format('sound')}]" in done.out


def test_progress_and_summary_are_plain_lines(judged: Judged) -> None:
    """In a log each step is one line, and the summary says where everything lies."""
    lines = judged.done.lines
    steps = [line for line in lines if re.match(r"\[\d/7\] ", line)]
    assert len(steps) == 7
    assert steps[0].startswith("[1/7] scale-is-a-diagonal-matrix: holds at L1, error probability at most 1e-")
    assert re.fullmatch(r"\[7/7\] .*/broken/.*  crashed: .*", steps[-1])
    folder = judged.folder.relative_to(judged.project.root)
    assert lines.count(f"run   {folder}") == 2, "at the start, for whoever kills the run, and at the end"
    assert f"page  {judged.folder / 'index.html'}" in lines
    assert not any("To measure the rest" in line for line in lines)


def test_page_names_every_case(judged: Judged) -> None:
    """The page shows the cases without a number too."""
    page = (judged.folder / "index.html").read_text(encoding="utf-8")
    for name in ("reference", "sound", "slow", "wrong", "late", "broken"):
        assert name in page


def test_run_folder_does_not_litter_a_checkout(judged: Judged) -> None:
    """Runs lie in a folder that git ignores."""
    assert (judged.folder.parent / ".gitignore").read_text(encoding="utf-8") == "*\n"


def change_options(_: Judged) -> list[str]:
    """Ask for another preset."""
    return ["--bench-preset=standard"]


def change_commit(judged: Judged) -> list[str]:
    """Edit the page."""
    page = judged.project.page
    page.write_text(page.read_text(encoding="utf-8") + "\n# another commit\n", encoding="utf-8")
    return []


def change_machine(judged: Judged) -> list[str]:
    """Pretend that the run was made elsewhere."""
    path = judged.folder / "run.json"
    header = json.loads(path.read_text(encoding="utf-8"))
    header["identity"]["machine"]["cpu"] = "another one"
    path.write_text(json.dumps(header), encoding="utf-8")
    return []


# The commit is changed for good, so it comes last.
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (change_options, r"options differs \(preset was 'quick' and is 'standard' now\)"),
        (change_machine, r"machine differs \(cpu was 'another one' and is '.*' now\)"),
        (change_commit, r"commit differs \(sources_sha256 was '\w+' and is '\w+' now\)"),
    ],
)
def test_resuming_what_differs_is_refused(
    judged: Judged, change: Callable[[Judged], list[str]], wanted: str
) -> None:
    """A run of other options, of another machine or commit is not added to: one sentence, exit 4."""
    before = (judged.folder / "records.jsonl").read_bytes()
    header = (judged.folder / "run.json").read_text(encoding="utf-8")
    done = judged.project.pytest(*CPU, *change(judged), f"--bench-run={judged.folder}")
    (judged.folder / "run.json").write_text(header, encoding="utf-8")
    assert done.code == 4
    sentence = rf"The run in {re.escape(str(judged.folder))} cannot be resumed: its {wanted}\. "
    rest = r"Leave --bench-run out to start a new run\."
    assert any(re.fullmatch(sentence + rest, line) for line in done.lines), done.out
    assert "exit 4: usage: an unknown option, name or file" in done.lines
    assert "_pytest" not in done.out
    assert (judged.folder / "records.jsonl").read_bytes() == before


@pytest.fixture
def tiny(tmp_path: Path) -> Project:
    """Return a project with nothing but a reference."""
    return make_project(tmp_path)


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        (["-p", "no:benchmark"], "pytest-benchmark is switched off"),
        (["--benchmark-disable"], "pytest-benchmark is disabled"),
    ],
)
def test_without_pytest_benchmark(tiny: Project, switch: list[str], reason: str) -> None:
    """Without pytest-benchmark cases are measured all the same; the missing file is told."""
    done = tiny.pytest(*CPU, "--strict-markers", *switch)
    assert done.code == 0, done.out
    assert f"No benchmark.json was written: {reason}." in done.lines
    (folder,) = tiny.runs
    assert records(folder)["reference"]["status"] == "measured"
    assert (folder / "index.html").exists()
    assert not (folder / "benchmark.json").exists()


def test_options_of_pytest_benchmark_keep_their_meaning(tiny: Project) -> None:
    """--benchmark-only leaves out what times nothing, --benchmark-json writes a second file elsewhere."""
    (tiny.root / "ops" / "claims.py").write_text("", encoding="utf-8")
    done = tiny.pytest(*CPU, "--benchmark-only", "--benchmark-json=elsewhere.json", "--bench-run=here")
    assert done.code == 0, done.out
    elsewhere, ours = (
        json.loads((tiny.root / path).read_text(encoding="utf-8"))
        for path in ("elsewhere.json", "here/benchmark.json")
    )
    assert elsewhere == ours
    (entry,) = ours["benchmarks"]
    assert entry["group"] == CASE.format("*")
    assert entry["params"] == {"sameop_case": CASE.format("reference")}
    alone = tiny.pytest("--benchmark-only")
    assert alone.code in (0, 5)
    assert tiny.runs == []


def test_what_is_under_way_is_told_while_a_test_runs(tiny: Project) -> None:
    """The report of the first case waits for a stretch; what happens meanwhile is no output of its test."""
    (tiny.root / "conftest.py").write_text(
        "from harness.doors import progress\n\nprogress._SILENCE_SECONDS = 0.0\n", encoding="utf-8"
    )
    done = tiny.pytest("--benchmark", "--bench-device=cpu", "--bench-processes=2")
    assert done.code == 0, done.out
    told = [re.sub(r"\d+:\d\d left", "0:00 left", line.strip()) for line in done.lines]
    for number in (1, 2):
        assert f"process {number} of {CASE.format('*')} … (0:00 left)" in told


def test_groups_are_taken_in_their_order_from_a_case_on(tmp_path: Path) -> None:
    """What is finished is left out, and what nobody asked for; named all the same it is alone."""
    page = make_project(tmp_path, implementation("other", "return factor * x")).page
    cases = plan_cases(load_catalogue([page.parent]), Selection(preset="standard", device="cpu")).cases
    named = {str(case.id): case for case in cases}
    reference, training, other, _ = named
    writer = cast(RunWriter, SimpleNamespace(finished={reference: None}))
    run = MeasuringRun(writer, cast(Session, None), named, frozenset(), asked=[reference, training, other])
    ids = [[str(case.id) for case in group] for group in run._groups_from(reference)]
    assert ids == [[other], [training]]
    unasked = list(named)[3]
    assert [[str(case.id) for case in group] for group in run._groups_from(unasked)] == [[unasked]]
