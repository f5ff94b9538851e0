"""``sameop gate --baseline`` as its user meets it: every verdict, its exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness.bench.case import Selection, plan_cases
from harness.bench.measure.settings import Settings
from harness.doors.gate.baseline import restore_options
from harness.doors.measuring import open_measuring_run
from harness.doors.project import find_project
from harness.paper.errors import Exit
from harness.paper.gate.baseline import BaselineRefusedError
from harness.paper.gate.outcome import GateOutcome
from harness.paper.store import HEADER_NAME, Run, read_run
from harness.tests.in_process import sameop
from harness.tests.projects import PAGE, Done, implementation
from harness.tests.test_gate_command import ACCEPT, BASE, CASE, HEAD, OTHERS, SPIN

# What is told apart here is far apart, so that other work on the machine changes nothing.
POLICY = "false_alarms = 0.05\nbaseline_margin = 0.3\ninsensitive_share = 1\n"
# One interpreter serves all processes; none is precise enough, so that each case gets all five.
SETTINGS = replace(
    Settings.of("quick"),
    processes=(1, 5),
    precision=1e-9,
    case_seconds=3.0,
    warm_up_seconds=0.01,
    sample_seconds=0.03,
)


def write(root: Path, forms: Mapping[str, str], *, is_head: bool = False) -> Path:
    """Write a project: an operator with these implementations, and those that change their meaning."""
    bodies = "\n".join(implementation(name, body) for name, body in forms.items())
    files = {
        "ops/__init__.py": "",
        "ops/scale.py": PAGE.replace("operator =", f"{SPIN}\n\noperator =", 1) + bodies,
        "pyproject.toml": '[tool.sameop]\ncases = ["ops"]\n',
        "sameop-gate.toml": POLICY + ACCEPT,
    }
    for name, (was, new) in {**OTHERS, "relaid": ("activation(d.B, d.C)", "parameter(d.B, d.C)")}.items():
        page = PAGE.replace('Operator("scale"', f'Operator("{name}"')
        files[f"ops/{name}.py"] = page.replace(was, new if is_head else was)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return root


def measure(root: Path, folder: Path) -> None:
    """Measure a project as ``pytest --benchmark`` does, in less time than any preset."""
    project = find_project(root)
    catalogue, selection = project.load(), Selection()
    plan = plan_cases(catalogue, selection)
    with open_measuring_run(project, catalogue, plan, selection, folder, SETTINGS) as run:
        for case in plan.cases:
            run.measure(str(case.id))


@dataclass(frozen=True)
class Gated:
    """One run of the gate over a head with everything that can go wrong."""

    baseline: Path
    head: Path
    files: Path
    done: Done
    outcome: GateOutcome


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """Measure a baseline, and hold another version of the project against it."""
    folder = tmp_path_factory.mktemp("stored")
    baseline, head = folder / "run", write(folder / "head", HEAD, is_head=True)
    measure(write(folder / "base", BASE), baseline)
    before = state(head), state(baseline)
    names = ("gate.xml", "gate.md", "gate.html")
    options = [
        f"--{kind}={folder / name}" for kind, name in zip(("junit", "markdown", "html"), names, strict=True)
    ]
    done = sameop(head, "gate", "--baseline", str(baseline), "--json", *options)
    assert (state(head), state(baseline)) == before
    return Gated(baseline, head, folder, done, GateOutcome.from_json(json.loads(done.out)))


def state(folder: Path) -> dict[str, float]:
    """Return what a gate must leave as it is: files and their times, but for compiled ones."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path): path.stat().st_mtime for path in files}


def gate(gated: Gated, *arguments: str, baseline: Path | None = None) -> Done:
    """Hold the head against a baseline, or against none where the arguments name one."""
    return sameop(gated.head, "gate", "--baseline", str(baseline or gated.baseline), *arguments)


@pytest.mark.parametrize(
    ("name", "verdict", "said"),
    [
        (CASE.format("steady"), "PASS", "5 processes of head against 5 of the baseline"),
        (CASE.format("slower"), "FAIL", "30 % is allowed"),
        (CASE.format("hungry"), "FAIL", "Peak memory rose by 4.00 MiB"),
        (CASE.format("accepted"), "ACCEPTED", "it does twice as much now"),
        (CASE.format("deleted"), "MISSING", "renamed or deleted"),
        (CASE.format("spoilt"), "DISAGREED", "disagrees with the reference"),
        (CASE.format("dying"), "BROKEN", "SIGABRT"),
        (CASE.format("mended"), "NEW", "The baseline has no sound number (It disagrees"),
        (CASE.format("added"), "NEW", "The baseline has no record of it"),
        (
            "shrunk/core/reference/tiny-one/float32/cpu/forward",
            "CHANGED",
            "dimensions C is 6 in base and 3 in head",
        ),
        (
            "relaid/core/reference/tiny-one/float32/cpu/forward",
            "CHANGED",
            "inputs tensors x role is activation in base and parameter in head",
        ),
    ],
)
def test_every_case_has_its_verdict_and_reason(gated: Gated, name: str, verdict: str, said: str) -> None:
    """Each kind of change is told apart, in a sentence."""
    case = next(case for case in gated.outcome.cases if case.name == name)
    assert case.verdict == verdict, case.reason
    assert said in case.reason


def test_all_exit_codes_are_named(gated: Gated) -> None:
    """A wrong head outranks a missing case, and that a slowdown."""
    assert gated.done.code == Exit.FAILED == gated.outcome.exit
    # A case of a few microseconds may add that it could not be told.
    assert gated.outcome.exits[:3] == [Exit.FAILED, Exit.CHANGED, Exit.REGRESSED]


def test_the_evidence_is_in_the_outcome(gated: Gated) -> None:
    """The medians of every process of both sides, and what one call did."""
    (case,) = (case for case in gated.outcome.cases if case.name == CASE.format("slower"))
    base = read_run(gated.baseline).latest[case.name].readings["latency"]
    assert list(case.medians["base"]) == [entry["median"] for entry in base.facts["processes"]]
    assert len(case.medians["head"]) == 5
    assert case.counts["base"] == case.counts["head"]
    assert case.bounds
    assert 1.5 < case.bounds.low < case.bounds.ratio < 2.5


def test_what_a_stored_baseline_cannot_promise_is_said(gated: Gated) -> None:
    """An outcome says how it came about, when base was measured, and what that leaves open."""
    outcome = gated.outcome
    assert outcome.twins["how"] == "stored"
    assert outcome.base["ref"] == str(gated.baseline)
    assert outcome.base["started"] in outcome.twins["reason"]
    assert outcome.head["ref"] == "the worktree"
    assert "two sessions on one machine differ by what neither's numbers tell" in outcome.notes[0]
    assert "only a slowdown beyond 30 % FAILs" in outcome.notes[0]
    assert outcome.controls == ()


def test_a_redefined_operator_is_beyond_a_stored_baseline(gated: Gated) -> None:
    """No result of base is stored: what the note says of it is so."""
    name = "redefined/core/reference/tiny-one/float32/cpu/forward"
    (case,) = (case for case in gated.outcome.cases if case.name == name)
    assert case.verdict not in ("CHANGED", "MISSING", "NEW", "DISAGREED")
    assert "not against what base computes" in gated.outcome.notes[0]


def test_every_output_tells_processes_and_not_pairs(gated: Gated) -> None:
    """The files and the table hold the verdicts, and count processes of either side."""
    slower = CASE.format("slower")
    markdown, page, xml = (
        (gated.files / name).read_text(encoding="utf-8") for name in ("gate.md", "gate.html", "gate.xml")
    )
    assert "| Verdict | Case | Head ÷ base | 95 % interval | Would find | Processes | Why |" in markdown
    assert "| 5 + 5 |" in markdown
    assert "two sessions on one machine" in markdown
    assert "Processes of base" not in page
    assert f'aria-label="Processes of {slower}: base: 5 processes; head: 5 processes"' in page
    assert "margin, 30 %" in page
    assert "Welch" in page
    for text in (markdown, page):
        assert "airs of processes" not in text
    found = {test.get("name"): test for test in ElementTree.fromstring(xml).iter("testcase")}
    told = {entry.get("name"): entry.get("value") for entry in found[slower].iter("property")}
    assert (told["verdict"], told["processes_of_base"], told["processes_of_head"]) == ("FAIL", "5", "5")
    assert "pairs_of_processes" not in told


def test_a_part_of_the_baseline_needs_no_other_case(gated: Gated) -> None:
    """What a pattern leaves out is neither measured nor missing, and a change needs no measuring."""
    done = gate(gated, "--cases", "shrunk/*")
    assert done.code == Exit.CHANGED
    assert "1 case: 1 CHANGED" in done.out
    assert "measur" not in done.err


def test_a_budget_that_is_over_is_inconclusive(gated: Gated) -> None:
    """What was not measured does not pass."""
    done = gate(gated, "--cases", CASE.format("steady"), "--budget", "0.001", "--json")
    (case,) = json.loads(done.out)["cases"]
    assert (done.code, case["verdict"]) == (Exit.INCONCLUSIVE, "INCONCLUSIVE")
    assert case["reason"] == "The budget was over before it was measured."


def with_header(gated: Gated, folder: Path, **parts: Mapping[str, Any]) -> Path:
    """Copy the baseline and change parts of its identity."""
    shutil.copytree(gated.baseline, folder)
    header = json.loads((folder / HEADER_NAME).read_text(encoding="utf-8"))
    for part, facts in parts.items():
        header["identity"][part] |= facts
    (folder / HEADER_NAME).write_text(json.dumps(header), encoding="utf-8")
    return folder


def test_another_machine_is_refused(gated: Gated, tmp_path: Path) -> None:
    """In one sentence that names what differs, before anything is measured."""
    done = gate(gated, baseline=with_header(gated, tmp_path / "run", machine={"cpu": "Z80", "cpus": 1}))
    assert done.code == Exit.BASELINE
    assert f"cpu was 'Z80' and is {read_run(gated.baseline).header.identity['machine']['cpu']!r}" in done.err
    assert f"cpus was 1 and is {os.cpu_count()}" in done.err
    assert "measuring" not in done.err


def test_the_options_are_those_of_the_run(gated: Gated) -> None:
    """All of them, but for what is not compared and would take time."""
    run = read_run(gated.baseline)
    selection, settings = restore_options(run)
    assert (selection, settings) == (Selection(), SETTINGS)
    changed = with_options(run, threads=2, allocator="default", scaling="on", instructions=True, cold=True)
    assert restore_options(changed)[1] == replace(SETTINGS, threads=2, allocator="default", cold=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"turbo": True}, "turbo"), ({"preset": "hasty"}, "preset hasty"), ({"cold": None}, "cold")],
)
def test_options_of_another_sameop_are_refused(gated: Gated, change: dict[str, Any], named: str) -> None:
    """A time under an option that means nothing here cannot be measured again."""
    with pytest.raises(BaselineRefusedError) as error:
        restore_options(with_options(read_run(gated.baseline), **change))
    assert f"was measured by a sameop with other options ({named})" in str(error.value)


def with_options(run: Run, **change: Any) -> Run:
    """Change options of a run; None takes one away."""
    options = {**run.header.identity["options"], **change}
    options = {name: value for name, value in options.items() if value is not None}
    return replace(run, header=replace(run.header, identity={**run.header.identity, "options": options}))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--base", "HEAD"], Exit.USAGE, "either --base REF or --baseline RUN, and both were given"),
        (["--head", "HEAD"], Exit.USAGE, "--head HEAD cannot be held against a stored baseline"),
        (["--cases", "nothing/*"], Exit.NOTHING, "has a case for 'nothing/*' on all"),
        (["--device", "cuda"], Exit.NOTHING, "has a case for '*' on cuda"),
        (["--device", "abacus"], Exit.USAGE, "--device abacus"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    gated: Gated, arguments: list[str], code: Exit, said: str
) -> None:
    """Each mistake has its own exit code."""
    done = gate(gated, *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_an_absent_baseline_has_its_own_exit_code(gated: Gated, tmp_path: Path) -> None:
    """A job can tell it from a mistake in the command."""
    done = gate(gated, baseline=tmp_path / "nowhere")
    assert (done.code, done.out) == (Exit.BASELINE, "")
    assert f"No run was found in {tmp_path / 'nowhere'}" in done.err


def test_a_head_that_does_not_import_fails(gated: Gated, tmp_path: Path) -> None:
    """It is no matter of the baseline; and what a page prints is no part of the document."""
    head = write(tmp_path / "head", {})
    (head / "ops/more.py").write_text("print('hello')\nraise RuntimeError('not today')\n", encoding="utf-8")
    done = sameop(head, "gate", "--baseline", str(gated.baseline), "--json")
    assert (done.code, done.out) == (Exit.FAILED, "")
    assert "head cannot be imported" in done.err
    assert "not today" in done.err
