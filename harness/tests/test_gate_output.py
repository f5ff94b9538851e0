"""What a gate writes: a table for people, JUnit for CI, files that hide no verdict, and recipes that work."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from rich.console import Console

from harness.doors.gate.junit import render_junit
from harness.doors.gate.output import Outputs
from harness.doors.gate.table import gate_parts
from harness.paper.errors import Exit, SameopError
from harness.paper.gate.outcome import GateOutcome, Verdict
from harness.paper.gate.policy import Policy, read_policy
from harness.paper.gate.summary import (
    AGAINST,
    ORDER,
    plain,
    sort_cases,
    tell_controls,
    tell_exits,
    tell_passes,
    tell_side,
)
from reports.gate_specimen import make_controls, make_outcome, make_passing, make_poisoned_outcome
from reports.poison import ATTACKS

ROOT = Path(__file__).parents[2]
HOSTILE = (
    *ATTACKS,
    "[red]x[/red]",
    "]]>",
    "&amp;",
    "\x00\x1b[2J\x07",
    "\x85\u2028",
    "\ud800",
    "\ufffe",
    "a\nb",
)
README = ROOT / "README.md"
needs_clone = pytest.mark.skipif(not README.exists(), reason="the README is part of a clone, not of a wheel")


def one(verdict: Verdict) -> GateOutcome:
    """Return an outcome of two cases that pass and one of the given verdict."""
    case = next(case for case in make_outcome().cases if case.verdict is verdict)
    return replace(make_passing(2), cases=[*make_passing(2).cases, case])


def insensitive(number: int, share: float) -> GateOutcome:
    """Return an outcome of ten cases, some of which are insensitive, and the share that may be."""
    loud = next(case for case in make_outcome().cases if case.verdict is Verdict.INSENSITIVE)
    cases = [replace(loud, name=f"loud{k}") for k in range(number)]
    return replace(
        make_passing(10 - number), cases=[*make_passing(10 - number).cases, *cases], insensitive_share=share
    )


def empty() -> GateOutcome:
    """Return an outcome of no case."""
    return replace(make_outcome(), cases=(), controls=())


def outcomes() -> Iterator[Any]:
    """Yield outcomes with every exit code that an outcome can have."""
    yield pytest.param(make_outcome(), id="every verdict")
    yield from (pytest.param(one(verdict), id=verdict) for verdict in Verdict)
    yield pytest.param(insensitive(1, 0.1), id="insensitive within the policy")
    yield pytest.param(insensitive(2, 0.1), id="insensitive beyond the policy")
    yield pytest.param(empty(), id="empty")
    unsound = [replace(control, is_sound=False, reason="It was not found.") for control in make_controls()]
    yield pytest.param(replace(make_passing(), controls=unsound), id="controls that change nothing")
    yield pytest.param(
        replace(one(Verdict.INCONCLUSIVE), controls=unsound), id="controls that changed something"
    )
    yield pytest.param(replace(make_passing(), controls=()), id="no control")


def shown(outcome: GateOutcome, width: int = 160) -> str:
    """Return what a terminal of this width shows."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    for part in gate_parts(outcome):
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def entries_of(outcome: GateOutcome) -> list[Element]:
    """Return the tests of the report."""
    return list(ElementTree.fromstring(render_junit(outcome)).iter("testcase"))


def test_every_verdict_has_its_place() -> None:
    """No verdict is lost in the order, and those against head stand before those that are fine."""
    assert sorted(ORDER) == sorted(Verdict)
    assert max(map(ORDER.index, AGAINST)) < ORDER.index(Verdict.NEW)
    assert [case.verdict for case in sort_cases(make_outcome().cases)][:2] == [Verdict.FAIL] * 2


def test_the_slowest_comes_first_among_equals() -> None:
    """Of two cases that fail, the one that is surely slower by more is read first."""
    first, second = sort_cases(make_outcome().cases)[:2]
    assert first.bounds
    assert second.bounds
    assert first.bounds.low > second.bounds.low


@pytest.mark.parametrize("width", [60, 80, 120, 160, 240])
def test_the_table_holds_what_does_not_pass(width: int) -> None:
    """Every case but those that pass is there with its name and its reason, at any width."""
    text = shown(make_outcome(), width)
    squeezed = re.sub(r"[\s│]", "", text)
    for case in make_outcome().cases:
        if case.verdict is not Verdict.PASS:
            assert case.verdict in text
            assert case.name.replace(" ", "") in squeezed
            assert re.sub(r"\s", "", case.reason) in squeezed
    assert all(len(line) <= width for line in text.splitlines())


@pytest.mark.parametrize("width", [80, 160])
def test_the_table_tells_the_numbers(width: int) -> None:
    """Ratio, interval, the smallest slowdown that would have been found, and the pairs stand with a case."""
    text = shown(one(Verdict.FAIL), width)
    bounds = one(Verdict.FAIL).cases[-1].bounds
    assert bounds
    assert f"{bounds.ratio:.3f}" in text
    assert f"{bounds.interval[0]:.3f} to {bounds.interval[1]:.3f}" in text
    assert f"{100 * bounds.detectable:.1f} %" in text
    assert "12" in text


def test_passes_are_counted_with_their_extremes() -> None:
    """A passing gate has no table but says between which ratios its cases lie."""
    text = shown(make_passing(3))
    assert "┃" not in text
    lines = text.splitlines()
    assert lines[0] == "gate passed: HEAD (c0ffee5d0e) with local changes against origin/main (5b1a6c5d0e)"
    assert lines[1] == "3 cases: 3 PASS"
    assert tell_passes(make_passing(3))[0].startswith("3 cases pass: head ÷ base 0.99")
    assert tell_passes(make_passing(1))[0].count("involution_0") == 1
    assert tell_passes(empty()) == ["no case passes"]


def test_controls_are_two_lines() -> None:
    """One line for each kind; those that went wrong are named one by one."""
    outcome = make_outcome()
    same, slower = tell_controls(outcome)
    assert re.fullmatch(
        r"base against itself: involution/\S+, head ÷ base \S+ \(.* to .*\), as expected", same
    )
    assert re.fullmatch(r"head against itself made slower: .*, 5 % planted, .*, as expected", slower)
    wrong = replace(outcome.controls[0], is_sound=False, reason="Nothing is believed.")
    many = [*outcome.controls, outcome.controls[0], wrong]
    lines = list(tell_controls(replace(outcome, controls=many)))
    assert lines[0].startswith("base against itself: 2 of 3 as expected, head ÷ base 1.00")
    assert lines[1].endswith("NOT as expected: Nothing is believed.")
    assert len(lines) == 3
    assert list(tell_controls(replace(outcome, controls=()))) == ["no control was run"]


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (make_passing(), "exit 0 (pass)"),
        (one(Verdict.FAIL), "exit 10 (regressed)"),
        (empty(), "exit 13 (nothing was measured)"),
        (
            make_outcome(),
            "exit 1 (tests, agreement or a claim failed); 14 (a case of the base is missing or changed), "
            "10 (regressed) and 11 (inconclusive, or insensitive beyond the policy) hold too",
        ),
    ],
)
def test_the_last_line_names_every_exit_code(outcome: GateOutcome, line: str) -> None:
    """The code that wins stands first, with its meaning, and those that hold too follow."""
    assert tell_exits(outcome) == line
    assert re.sub(r"\s", "", shown(outcome)).endswith(re.sub(r"\s", "", line))


def test_a_side_is_named_by_what_is_known() -> None:
    """A side without a commit or a name is told without it."""
    assert tell_side({"ref": "v1", "commit": "5b1a6c5d0e9f8a7b", "dirty": False}) == "v1 (5b1a6c5d0e)"
    assert tell_side({"commit": "5b1a6c5d0e9f8a7b", "dirty": True}) == "(5b1a6c5d0e) with local changes"
    assert tell_side({}) == "not named"


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [80, 160])
def test_names_steer_no_terminal(text: str, width: int) -> None:
    """Whatever a name holds, only what can be printed reaches the terminal, and no markup is read."""
    found = shown(make_poisoned_outcome(text), width)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\ud800-\udfff\ufffe]", found)
    squeezed = re.sub(r"[\s│]", "", found)
    assert re.sub(r"\s", "", plain(text)) in squeezed


@pytest.mark.parametrize("outcome", list(outcomes()))
def test_junit_is_red_exactly_where_the_job_is(outcome: GateOutcome) -> None:
    """A failure or an error stands in the report if and only if the exit code is not 0."""
    tests = entries_of(outcome)
    red = any(test.find(mark) is not None for test in tests for mark in ("failure", "error"))
    assert red == (outcome.exit is not Exit.PASS)
    assert tests


def test_junit_has_a_test_for_every_case_and_control() -> None:
    """Each is there once, with a mark that its verdict stands for, its numbers and its reason."""
    outcome = make_outcome()
    marks = {
        **dict.fromkeys(AGAINST, "failure"),
        Verdict.INCONCLUSIVE: "error",
        Verdict.INSENSITIVE: "skipped",
        Verdict.NEW: "skipped",
    }
    tests = {(test.get("classname"), test.get("name")): test for test in entries_of(outcome)}
    assert len(tests) == len(outcome.cases) + len(outcome.controls) + 1
    for case in outcome.cases:
        test = tests["sameop.gate.cases", case.name]
        found = [child.tag for child in test if child.tag not in ("properties", "system-out")]
        assert found == ([marks[case.verdict]] if case.verdict in marks else [])
        if found:
            assert test[1].get("message") == f"{case.verdict}: {case.reason}"
        values = {each.get("name"): each.get("value", "") for each in test.iter("property")}
        assert values["verdict"] == case.verdict
        assert ("ratio_head_by_base" in values) == (case.bounds is not None)
        if case.bounds:
            assert float(values["ratio_lower_bound"]) == pytest.approx(case.bounds.low)
            assert float(values["detectable_share"]) == pytest.approx(case.bounds.detectable)
            assert int(values["pairs_of_processes"]) == case.bounds.processes


def test_junit_counts_what_it_holds() -> None:
    """The numbers of each suite, and of all, are those of its tests."""
    root = ElementTree.fromstring(render_junit(make_outcome()))
    assert (root.tag, [suite.tag for suite in root]) == ("testsuites", ["testsuite"] * 3)
    for part in (root, *root):
        tests = list(part.iter("testcase"))
        assert int(part.get("tests", "")) == len(tests)
        for attribute, mark in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(part.get(attribute, "")) == sum(test.find(mark) is not None for test in tests)
    assert root[0].get("timestamp") == "2031-05-06T07:08:09"


def test_junit_tells_counts_that_differ() -> None:
    """Both numbers are written in full below the test."""
    failure = next(
        test.find("failure") for test in entries_of(make_outcome()) if "sliding" in test.get("name", "")
    )
    assert failure is not None
    assert "bytes_allocated: 802816 in base, 1605632 in head" in (failure.text or "")


@pytest.mark.parametrize("text", HOSTILE)
def test_junit_is_legal_whatever_names_hold(text: str) -> None:
    """The file is well-formed, every character is one of XML 1.0, and a name that can be printed is whole."""
    source = render_junit(make_poisoned_outcome(text))
    assert not re.search(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", source)
    root = ElementTree.fromstring(source.encode())
    assert {element.tag for element in root.iter()} == {
        *("testsuites", "testsuite", "testcase", "properties", "property"),
        *("failure", "error", "skipped", "system-out"),
    }
    names = {test.get("name") for test in root.iter("testcase")}
    assert {plain(case.name) for case in make_poisoned_outcome(text).cases} <= names


def test_the_document_reads_back() -> None:
    """Everything that the formats tell is in the JSON, which holds no value that JSON lacks."""
    outcome = make_outcome()
    document = json.loads(json.dumps(outcome.as_json(), allow_nan=False))
    again = GateOutcome.from_json(document)
    assert render_junit(again) == render_junit(outcome)
    assert shown(again) == shown(outcome)


def test_files_are_written_in_their_formats(tmp_path: Path) -> None:
    """The renderers are found by their entry points, and each file is named when it is there."""
    outputs = Outputs(tmp_path / "a.xml", tmp_path / "a.md", tmp_path / "a.html")
    outputs.check()
    said: list[str] = []
    assert outputs.write(one(Verdict.FAIL), said.append) is Exit.REGRESSED
    assert said == [str(tmp_path / name) for name in ("a.xml", "a.md", "a.html")]
    starts = [(tmp_path / name).read_text(encoding="utf-8")[:9] for name in ("a.xml", "a.md", "a.html")]
    assert starts == ["<?xml ver", "## ✗ same", "<!doctype"]
    assert Outputs().write(make_passing(), said.append) is Exit.PASS


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"junit": "."}, "--junit {} is a folder: name a file."),
        ({"html": "no/a.html"}, "--html {} lies in no folder: make {parent} first."),
        (
            {"junit": "a", "markdown": "./a"},
            "--junit and --markdown both name {}: give each a file of its own.",
        ),
    ],
)
def test_what_cannot_be_written_is_told_before_anything_is_measured(
    files: dict[str, str], message: str, tmp_path: Path
) -> None:
    """A mistake in an option costs no minutes."""
    paths = {option: tmp_path / name for option, name in files.items()}
    path = [*paths.values()][-1]
    with pytest.raises(SameopError) as caught:
        Outputs(**paths).check()
    assert str(caught.value) == message.format(path, parent=path.parent)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(one(Verdict.FAIL), Exit.REGRESSED), (make_passing(), Exit.USAGE)],
    ids=["FAIL", "PASS"],
)
def test_a_file_that_cannot_be_written_hides_no_verdict(
    outcome: GateOutcome, code: Exit, tmp_path: Path
) -> None:
    """The other files are written, the code of the gate stays, and only a pass becomes an error of usage."""
    (tmp_path / "gone").mkdir()
    outputs = Outputs(junit=tmp_path / "gone" / "a.xml", markdown=tmp_path / "a.md")
    outputs.check()
    (tmp_path / "gone").rmdir()
    said: list[str] = []
    assert outputs.write(outcome, said.append) is code
    assert said == [
        f"--junit {tmp_path}/gone/a.xml cannot be written (No such file or directory): name another file.",
        f"{tmp_path}/a.md",
    ]


def recipe(name: str) -> str:
    """Return a block of the README by its mark."""
    found = re.search(
        rf"<!-- (?:recipe|file): {re.escape(name)} -->\n```\w+\n(.*?)```",
        README.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert found, name
    return found[1]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script beside a ``sameop`` that ends with a given code, as a measured gate would."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in (
        ("sameop", 'echo "$@" > asked\n[ "$CODE" = 4 ] || echo "## gate" > gate.md\nexit "$CODE"'),
        ("git", 'echo "merge base of $*"'),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    def run(shell: list[str], script: str, code: int) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "CODE": str(code),
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        }
        return subprocess.run(
            [*shell, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@needs_clone
@pytest.mark.parametrize("shell", [["sh", "-c"], ["sh", "-ec"], ["bash", "-euo", "pipefail", "-c"]])
@pytest.mark.parametrize("code", [int(code) for code in Exit])
def test_the_shell_recipe_acts_on_every_code(
    code: int, shell: list[str], play: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """What the change did stops the job by its own code; what the gate could not tell is a warning."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    done = play(shell, recipe("gate.sh"), code)
    assert done.returncode == (0 if code in (Exit.PASS, Exit.INCONCLUSIVE, Exit.BASELINE) else code)
    assert (done.stderr == "") == (code == Exit.PASS)
    asked = "gate --base merge base of merge-base origin/main HEAD --junit gate.xml --markdown gate.md\n"
    assert (tmp_path / "asked").read_text() == asked


@needs_clone
@pytest.mark.parametrize("code", [0, 4, 10, 11, 14])
def test_the_workflow_recipe_stops_and_still_tells(
    code: int, play: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The step of the gate ends with its code, and the summary follows if there is one."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    workflow = yaml.safe_load(recipe("gate.yml"))
    steps = workflow["jobs"]["gate"]["steps"]
    # YAML 1.1 reads `on` as a truth value.
    assert workflow[True] == "pull_request"
    assert steps[0]["with"]["fetch-depth"] == 2
    named = {step.get("name", step.get("uses")): step for step in steps}
    # How GitHub runs a step on Linux.
    shell = ["bash", "-e", "-c"]
    assert play(shell, named["Gate"]["run"], code).returncode == code
    assert (tmp_path / "asked").read_text() == (
        "gate --base HEAD^1 --junit gate.xml --markdown gate.md --html gate.html\n"
    )
    assert play(shell, named["Summary"]["run"], code).returncode == 0
    assert (tmp_path / "summary").exists() == (code != 4)
    late = [step for step in steps if step.get("if") == "always()"]
    assert len(late) == 2
    assert set(late[1]["with"]["path"].split()) == {"gate.xml", "gate.md", "gate.html"}


@needs_clone
def test_the_readme_shows_the_policy_that_holds_without_a_file(tmp_path: Path) -> None:
    """Its settings are the defaults, each of them, and its exceptions are read."""
    path = tmp_path / "sameop-gate.toml"
    path.write_text(recipe("sameop-gate.toml"), encoding="utf-8")
    assert read_policy(path) == Policy()
    told = re.findall(r"^(\w+) =", recipe("sameop-gate.toml"), re.MULTILINE)
    assert set(told) == set(Policy().as_json()) - {"cases", "accepts"}
    path.write_text(recipe("exceptions.toml"), encoding="utf-8")
    policy = read_policy(path)
    assert policy.for_case("sliding_attention2d/core/x").detect == 0.03
    assert policy.for_case("conv2d/core/grouped/x").accepts[0].up_to == 1.08


@needs_clone
def test_the_readme_names_every_verdict() -> None:
    """Each verdict is a word of its table, with the exit code that it has."""
    rows = re.findall(
        r"^\| ([A-Z, ]+) \| .* \| (\d+)[^|]* \|$", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {Verdict(name): int(code) for names, code in rows for name in names.split(", ")}
    assert told == {
        **{verdict: int(one(verdict).exit) for verdict in Verdict},
        Verdict.INSENSITIVE: int(insensitive(2, 0.1).exit),
    }
