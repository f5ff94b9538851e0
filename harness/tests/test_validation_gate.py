"""Laws of the honest test of the gate; its trials are made up, except in one tiny one at the end."""

from __future__ import annotations

import ast
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.paper.errors import Exit, RunRefusedError, SameopError
from harness.paper.gate.outcome import CaseOutcome, GateOutcome, Verdict
from harness.paper.gate.policy import Policy
from harness.validation.gate import __main__ as command
from harness.validation.gate import frozen as freezing
from harness.validation.gate import loads, noops, plants, rivals, suite, trials, truth
from harness.validation.gate.clone import Clone, cloned, find_source
from harness.validation.gate.exact import Share, mean_of, sign_test
from harness.validation.gate.findings import confusion, gather, rival_finds
from harness.validation.gate.frozen import Frozen, digest_sources, freeze
from harness.validation.gate.notebook import Notebook, key_of
from harness.validation.gate.plants import Plant, Scale
from harness.validation.gate.promises import State, exit_of, promises
from harness.validation.gate.report import Report, earned
from harness.validation.gate.schedule import PLANT, SAME, Trial, schedule
from harness.validation.gate.suite import SUITE
from harness.validation.gate.trials import Laboratory
from harness.validation.gate.truth import Truth

SCALE = Scale(1e-3, 2**24, 1e-4, 5e-6, 10_000, 3e-8)
SCALES = {entry.operator: SCALE for entry in SUITE}
FROZEN = Frozen("d", "p", "s", "l", "c", {"cpu": "x"}, "seed")
ROOT = Path(__file__).resolve().parents[2]


def test_intervals_are_those_of_clopper_and_pearson() -> None:
    """Tabulated values; nothing found bounds the rate at 1 − 0.05^(1/n)."""
    assert Share(0, 23).high() == pytest.approx(1 - 0.05 ** (1 / 23))
    assert Share(3, 10).interval == pytest.approx((0.06674, 0.65245), abs=1e-5)
    assert Share(10, 10).interval == pytest.approx((0.025 ** (1 / 10), 1.0))
    assert Share(0, 10).interval[0] == 0.0
    assert Share(0, 300).high() == pytest.approx(0.00994, abs=1e-5)


def test_nothing_observed_bounds_nothing() -> None:
    """Of no trials every rate is possible."""
    assert Share(0, 0).interval == (0.0, 1.0)


def test_signs_are_tested_exactly() -> None:
    """Nine of ten on one side: 2 · 11 / 1024; zeros say nothing; even signs say nothing."""
    assert sign_test([1.0] * 9 + [-1.0, 0.0]) == pytest.approx(22 / 1024)
    assert sign_test([1.0, -1.0]) == 1.0


def test_mean_has_students_interval() -> None:
    """1, 2, 3: 2 ± 4.303 / √3."""
    assert mean_of([1.0, 2.0, 3.0]).high == pytest.approx(2 + 4.3027 / 3**0.5, abs=1e-3)


def test_suite_is_what_its_entries_say() -> None:
    """Every entry names a scope, a workload and an implementation, and the function that computes it."""
    from harness.doors.project import find_project

    catalogue = find_project(ROOT).load()
    for entry in SUITE:
        scope = catalogue.operators[entry.operator].scopes[entry.scope]
        dims = scope.workload(entry.workload).dims
        assert scope.implementations[entry.implementation].function.__name__ == entry.function
        assert len(next(iter(scope.inputs(dims).values())).shape) == 4
        assert Path(scope.implementations[entry.implementation].function.__code__.co_filename).samefile(
            ROOT / entry.file
        )


PAGES = {entry.file: (ROOT / entry.file).read_text(encoding="utf-8") for entry in SUITE}


@pytest.mark.parametrize("kind", ["a comment", "blank lines"])
def test_comments_and_blank_lines_change_no_program(kind: str) -> None:
    """The text is another one and the tree is the same."""
    changed = noops.change(PAGES, kind)
    assert set(changed) == set(PAGES)
    for path, text in changed.items():
        assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(PAGES[path]))


def test_reordering_keeps_every_function() -> None:
    """The same statements in another order, and what is needed to define a function still precedes it."""
    changed = noops.change(PAGES, "functions in another order")
    assert len(changed) > len(PAGES) / 2
    for path, text in changed.items():
        before, after = (list(map(ast.dump, ast.parse(one).body)) for one in (PAGES[path], text))
        assert before != after
        assert sorted(before) == sorted(after)


def test_renaming_changes_names_of_local_variables_alone() -> None:
    """With the suffix taken away again, the tree is what it was."""
    changed = noops.change(PAGES, "local variables renamed")
    assert len(changed) > len(PAGES) / 2
    for path, text in changed.items():
        restored = text.replace("_renamed", "")
        assert ast.dump(ast.parse(restored)) == ast.dump(ast.parse(PAGES[path]))


@pytest.mark.parametrize("source", ["def f(x):\n    y = lambda y: y\n    return y(x)\n", "y = 1\nprint(y)\n"])
def test_nothing_is_renamed_where_a_name_could_mean_something_else(source: str) -> None:
    """Functions inside of functions and variables of modules keep their names."""
    assert noops.rename(source) == source


def test_functions_that_are_needed_to_define_others_stay() -> None:
    """A decorator is defined before what it decorates."""
    source = "def d(f):\n    return f\n\n\n@d\ndef g():\n    pass\n"
    assert noops.reorder(source) == source


@pytest.mark.parametrize(
    "plant", [Plant(kind, size) for kind, sizes in plants.SIZES.items() for size in sizes]
)
def test_plants_stand_before_everything_else(plant: Plant) -> None:
    """Without what was planted, the page is what it was; in the function, it is what runs first."""
    for entry in SUITE:
        text = plants.write(PAGES[entry.file], entry.function, plant, SCALE)
        before, after = (_function(one, entry.function) for one in (PAGES[entry.file], text))
        added = len(after.body) - len(before.body)
        assert added >= 1
        assert list(map(ast.dump, after.body[1 + added :])) == list(map(ast.dump, before.body[1:]))


def _function(text: str, name: str) -> ast.FunctionDef:
    return next(
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name
    )


def test_null_changes_the_text_and_not_the_program() -> None:
    """Nobody can tell by the files that differ where something is planted."""
    entry = SUITE[0]
    text = plants.write(PAGES[entry.file], entry.function, Plant(), SCALE)
    assert text != PAGES[entry.file]
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(PAGES[entry.file]))


def test_work_has_the_size_that_is_asked_for() -> None:
    """Two percent of a millisecond are 667 steps of 30 ns, and 20 µs of copying."""
    arithmetic = plants.write("def f(x):\n    return x\n", "f", Plant("arithmetic", 0.02), SCALE)
    assert "range(667)" in arithmetic
    copy = plants.write("def f(x):\n    return x\n", "f", Plant("copy", 0.02), SCALE)
    assert "range(1)" in copy
    assert "[:1579]" in copy
    assert plants.allocated_bytes(Plant("allocation", 0.05), SCALE) == round(0.05 * 2**24)


def test_seed_decides_the_plants() -> None:
    """The same again for the same seed; others for another; in all a third is nothing, some are speed-ups."""
    assert plants.draw("a") == plants.draw("a")
    drawn = [plant for number in range(300) for plant in plants.draw(str(number)).values()]
    assert sum(plant.is_null for plant in drawn) / len(drawn) == pytest.approx(1 / 3, abs=0.02)
    assert {plant.kind for plant in drawn} == {*plants.SIZES, plants.NULL}
    assert any(plant.is_speed_up for plant in drawn)
    assert all({*plants.SIZES} <= {plant.kind for plant in plants.draw(str(n)).values()} for n in range(20))


def test_beginning_of_a_schedule_is_a_fair_part_of_it() -> None:
    """Kinds are mixed, loads take turns, and a longer schedule holds the shorter one."""
    trials_ = schedule(60, 30, loads.LOADS)
    first = trials_[:9]
    assert sum(trial.kind == PLANT for trial in first) == 3
    assert {trial.load for trial in first} == set(loads.LOADS)
    assert len({trial.name for trial in trials_}) == 90
    assert set(schedule(6, 3, loads.LOADS)) <= set(trials_)
    assert {Trial(SAME, "quiet", number).noop for number in range(5)} == set(noops.NOOPS)


@pytest.mark.parametrize(
    ("load", "expected"), [("quiet", (0, 0, 0)), ("busy", (1, 1, 1)), ("onset", (1, 0, 1))], ids=str
)
def test_loads_begin_and_end_where_they_should(
    load: str, expected: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a gate, while base is measured alone, and while head is; afterwards nothing runs on."""
    running: list[int] = []
    started: list[int] = []

    @contextmanager
    def busy() -> Iterator[int]:
        running.append(1)
        started.append(1)
        yield 1
        running.pop()

    monkeypatch.setattr(loads, "busy_processors", busy)
    found = []
    for context in (
        loads.during_gate(load, 0.01),
        loads.during_side(load, is_first=True),
        loads.during_side(load, is_first=False),
    ):
        started.clear()
        with context:
            time.sleep(0.1)
        found.append(len(started))
        assert not running
    assert tuple(found) == expected


def test_onset_that_never_came_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that ends before the load begins ends the waiting too."""
    monkeypatch.setattr(loads, "busy_processors", lambda: pytest.fail("the load began"))
    with loads.during_gate("onset", 60.0):
        pass


@pytest.fixture(scope="module")
def clone() -> Iterator[Clone]:
    """Clone the repository that the tests run in."""
    try:
        source = find_source()
    except SameopError as error:
        pytest.skip(str(error))
    with cloned(source) as found:
        yield found


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_clone_holds_cases_and_suite_alone(clone: Clone) -> None:
    """No harness lies in it that could be measured with."""
    assert {path.name for path in clone.root.iterdir()} == {".git", "cases", "suite", "pyproject.toml"}
    assert _git(clone.root, "status", "--porcelain") == ""


def test_heads_are_made_in_the_clone_and_nowhere_else(clone: Clone) -> None:
    """A commit holds its changes on top of the base; clone and source are left as they were."""
    source = find_source()
    before = _git(source, "rev-parse", "HEAD"), _git(source, "for-each-ref")
    commit = clone.commit({"cases/__init__.py": "changed = True\n"})
    assert _git(clone.root, "diff", "--name-only", clone.base, commit) == "cases/__init__.py"
    assert _git(clone.root, "rev-parse", "HEAD") == clone.base
    assert _git(clone.root, "status", "--porcelain") == ""
    assert (_git(source, "rev-parse", "HEAD"), _git(source, "for-each-ref")) == before
    with clone.worktree(commit) as folder:
        assert (folder / "cases" / "__init__.py").read_text(encoding="utf-8") == "changed = True\n"
    assert not folder.exists()
    assert clone.commit({}) == clone.base


def test_killed_validation_goes_on(tmp_path: Path) -> None:
    """What was finished is there; a line that was cut off is written anew."""
    notebook = Notebook(tmp_path)
    notebook.open(FROZEN)
    notebook.add_scales(SCALES)
    notebook.add_result(Trial(SAME, "quiet", 0), _result())
    with notebook.path.open("ab") as file:
        file.write(b'{"line": "tri')
    again = Notebook(tmp_path)
    assert again.open(replace(FROZEN, seed="another")) == FROZEN
    again.add_truths({"one/copy/0.02": Truth(0.02, 0.01, 0.03, "cpu")})
    last = Notebook(tmp_path)
    assert list(last.results) == ["same/quiet/0"]
    assert last.scales == SCALES
    assert last.truths == {"one/copy/0.02": Truth(0.02, 0.01, 0.03, "cpu")}


def test_other_thresholds_are_refused(tmp_path: Path) -> None:
    """Going on with others is refused in one sentence that names what differs."""
    Notebook(tmp_path).open(FROZEN)
    with pytest.raises(RunRefusedError) as refused:
        Notebook(tmp_path).open(replace(FROZEN, policy="q"))
    assert str(refused.value) == (
        f"{tmp_path / 'trials.jsonl'} was begun with the policy p, and now it is q: thresholds may not "
        "change once trials have been seen, so name another folder with --out."
    )


def test_everything_that_decides_is_frozen(tmp_path: Path) -> None:
    """A changed threshold, source or case gives another digest; what decides nothing does not."""
    frozen = freeze(Policy(), "tree", {"cpu": "x"}, "seed")
    assert frozen == freeze(Policy(), "tree", {"cpu": "x"}, "seed")
    for other in (
        freeze(Policy(margin=0.006), "tree", {"cpu": "x"}, "seed"),
        freeze(Policy(), "other", {"cpu": "x"}, "seed"),
        freeze(Policy(), "tree", {"cpu": "y"}, "seed"),
    ):
        assert other.digest != frozen.digest
        assert frozen.difference(other)
    for folder in freezing.SOURCES:
        (tmp_path / folder).mkdir(parents=True)
    before = digest_sources(tmp_path)
    (tmp_path / "other.py").write_text("x = 1\n", encoding="utf-8")
    assert digest_sources(tmp_path) == before
    (tmp_path / freezing.SOURCES[0] / "rule.py").write_text("x = 1\n", encoding="utf-8")
    assert digest_sources(tmp_path) != before


def test_broken_file_is_refused(tmp_path: Path) -> None:
    """A line that is no JSON is told by its number."""
    (tmp_path / "trials.jsonl").write_text("no\n", encoding="utf-8")
    with pytest.raises(RunRefusedError, match=r"Line 1 of .* is no JSON: name another folder"):
        Notebook(tmp_path)


def _outcome(*cases: CaseOutcome) -> GateOutcome:
    return GateOutcome({}, {}, {}, {}, {}, cases)


def test_exit_code_is_the_answer() -> None:
    """An alarm is told with the cases that caused it and their reasons."""
    outcome = _outcome(
        CaseOutcome("a", Verdict.PASS, "equal"), CaseOutcome("b", Verdict.FAIL, "It is 3 % slower.")
    )
    found = trials.read(10, json.dumps(outcome.as_json()), "")
    assert found["exit"] == 10
    assert found["cause"] == "FAIL b: It is 3 % slower."
    assert [case["verdict"] for case in found["cases"]] == ["PASS", "FAIL"]


def test_run_that_printed_nothing_tells_its_last_words() -> None:
    """A gate that crashed is an alarm too."""
    assert trials.read(1, "", "one\nTraceback\nValueError: x\n") == {
        "exit": 1,
        "cause": "Traceback ValueError: x",
        "cases": [],
    }


def _result(
    verdicts: Mapping[str, str] | None = None, code: int = 0, ratio: float = 0.0, seconds: float = 30.0
) -> dict[str, Any]:
    """Make up the result of one trial. ratio: the log ratio of all its pairs but for small differences."""
    numbers = [ratio + 0.001, ratio - 0.001, ratio + 0.0005, ratio - 0.0005]
    return {
        "change": "nothing",
        "exit": code,
        "cause": "because" if code else "",
        "seconds": seconds,
        "cases": [
            {
                "name": entry.case,
                "verdict": (verdicts or {}).get(entry.operator, "PASS"),
                "clock": "cpu",
                "cpu": [numbers],
                "wall": [numbers],
            }
            for entry in SUITE
        ],
        "controls": [{"kind": "A/A", "case": "x", "is_sound": True, "reason": ""}],
        "rivals": None,
    }


def _observed(
    folder: Path, suites: int, plant_suites: int = 0, finds: float = 0.02, code: int = 0, **result: Any
) -> Notebook:
    """Make up a notebook. finds: its gate finds what truly costs as much, and larger allocations."""
    notebook = Notebook(folder)
    notebook.open(FROZEN)
    notebook.add_scales(SCALES)
    for number in range(suites):
        notebook.add_result(Trial(SAME, "quiet", number), _result(code=code, **result))
    for number in range(plant_suites):
        trial = Trial(PLANT, "quiet", number)
        fates = plants.draw(trial.seed(FROZEN.seed))
        verdicts = {
            entry.operator: "FAIL"
            for entry, plant in fates.items()
            if not plant.is_null and plant.size >= finds
        }
        notebook.add_truths(
            {
                key_of(entry, plant): Truth(plant.size, plant.size - 1e-4, plant.size + 1e-4, "cpu")
                for entry, plant in fates.items()
            }
        )
        notebook.add_result(trial, _result(verdicts, code=10))
    return notebook


def _states(notebook: Notebook) -> dict[str, State]:
    found = promises(gather(notebook), Policy())
    return {promise.wanted.split(":")[0]: promise.state for promise in found}


def test_gate_that_keeps_its_promises_passes(tmp_path: Path) -> None:
    """Enough trials and none against a promise: exit 0."""
    found = promises(gather(_observed(tmp_path, 60, 30)), Policy())
    assert [promise.state for promise in found] == [State.KEPT] * 7
    assert exit_of(found) == Exit.PASS


def test_nothing_observed_breaks_and_keeps_nothing(tmp_path: Path) -> None:
    """Too little data is exit 11 and never a pass."""
    found = promises(gather(_observed(tmp_path, 0)), Policy())
    assert {promise.state for promise in found} == {State.UNTESTED}
    assert exit_of(found) == Exit.INCONCLUSIVE


def test_false_alarms_break_the_promise(tmp_path: Path) -> None:
    """Any exit code but 0 on unchanged code counts, inconclusive ones too."""
    notebook = _observed(tmp_path, 10, code=11)
    states = _states(notebook)
    assert states["suites without a change that end with another code than 0"] == State.BROKEN
    assert exit_of(promises(gather(notebook), Policy())) == Exit.FAILED
    assert [alarm.cause for alarm in gather(notebook).alarms] == ["because"] * 10


def test_sleeping_gate_breaks_the_promise(tmp_path: Path) -> None:
    """A gate that finds nothing below 8 % misses what the policy detects, and larger memory."""
    states = _states(_observed(tmp_path, 2, 30, finds=0.08))
    assert states["slowdowns of 2% and more that are found when quiet"] == State.BROKEN
    assert states["rises of peak memory above 2% that are found"] == State.BROKEN


def test_gate_that_cries_wolf_among_plants_breaks_the_promise(tmp_path: Path) -> None:
    """A FAIL of a case into which nothing was planted is a false alarm, whatever else the suite holds."""
    notebook = _observed(tmp_path, 2)
    for number in range(3):
        notebook.add_result(
            Trial(PLANT, "quiet", number), _result({entry.operator: "FAIL" for entry in SUITE}, 10)
        )
    assert _states(notebook)["cases in suites with plants that FAIL and are no slower"] == State.BROKEN


def test_blind_slow_and_leaning_gates_break_their_promises(tmp_path: Path) -> None:
    """Insensitive cases, seconds, and a bias between the sides."""
    blind = {entry.operator: "INSENSITIVE" for entry in SUITE}
    notebook = _observed(tmp_path, 5, verdicts=blind, ratio=0.004, seconds=100.0)
    for number in range(5):
        notebook.add_result(Trial(SAME, "quiet", 5 + number), _result(blind, ratio=0.0041, seconds=101.0))
    states = _states(notebook)
    assert states["cases that are insensitive when quiet"] == State.BROKEN
    assert states["seconds per case when quiet"] == State.BROKEN
    assert states["unchanged code leans to neither side by more than 0.20%"] == State.BROKEN


def test_no_promise_is_held_against_plants_of_unknown_size(tmp_path: Path) -> None:
    """Before its true size is known a plant is shown and judges nothing."""
    notebook = _observed(tmp_path, 0)
    notebook.add_result(Trial(PLANT, "quiet", 0), _result())
    states = _states(notebook)
    assert states["slowdowns of 2% and more that are found when quiet"] == State.UNTESTED
    assert any(row.low == -float("inf") for row in confusion(gather(notebook).planted))


def test_confusion_table_counts_every_planted_case_once(tmp_path: Path) -> None:
    """By load, kind and true size; what was found of all of them."""
    findings = gather(_observed(tmp_path, 0, 40))
    rows = confusion(findings.planted)
    assert sum(row.found.total for row in rows) == 40 * len(SUITE) == len(findings.planted)
    arithmetic = {(row.low, row.high): row.found for row in rows if row.kind == "arithmetic"}
    assert arithmetic[0.05, 0.10].count == arithmetic[0.05, 0.10].total > 0
    assert arithmetic[0.01, 0.02].count == 0 < arithmetic[0.01, 0.02].total
    assert next(row for row in rows if row.kind == "nothing").found.count == 0


def test_bound_is_told_with_what_it_rests_on() -> None:
    """Few suites bound little, and the sentence says so."""
    assert earned(Share(0, 23)) == "0 of 23 suites: at most 0.12 of all (95 %); that is few, and says little"
    assert earned(Share(0, 300)) == "0 of 300 suites: at most 0.0099 of all (95 %)"


def test_other_rules_are_shown_in_the_same_trials(tmp_path: Path) -> None:
    """Alarms per suite, and what each rule finds and invents, beside the gate's own."""
    notebook = _observed(tmp_path, 0)
    asked = {"min:5%": [SUITE[0].operator], "asv": []}
    for number, kind in enumerate((SAME, SAME, PLANT)):
        trial = Trial(kind, "quiet", number)
        notebook.add_result(trial, {**_result(), "rivals": {"alarms": asked}})
        fates = plants.draw(trial.seed(FROZEN.seed))
        notebook.add_truths({key_of(e, p): Truth(0.5, 0.4, 0.6, "cpu") for e, p in fates.items()})
    findings = gather(notebook)
    assert {name: (share.count, share.total) for name, share in findings.rival_suites.items()} == {
        "sameop gate": (0, 2),
        "min:5%": (2, 2),
        "asv": (0, 2),
    }
    slower, unchanged = rival_finds(findings.planted, 0.02)["min:5%"]
    assert slower.count + unchanged.count <= 1
    assert unchanged.total == sum(one.is_unchanged for one in findings.planted)


def test_report_is_the_same_on_every_medium(tmp_path: Path) -> None:
    """Text, Markdown and document tell the same promises; the document is strict JSON."""
    report = Report.of(gather(_observed(tmp_path, 3, 2, code=11)), Policy(), FROZEN)
    document = json.loads(json.dumps(report.document, allow_nan=False))
    assert document["exit"] == Exit.FAILED
    assert document["all_suites"]["count"] == 3
    assert document["frozen"] == asdict(FROZEN)
    for promise in document["promises"]:
        assert promise["wanted"] in report.text
        assert promise["wanted"] in report.markdown
    assert "same/quiet/0" in report.text


def _stats(middle: float, spread: float = 0.01, rounds: int = 600) -> dict[str, Any]:
    data = [middle * (1 + spread * ((number * 7919 % 101) / 50 - 1)) for number in range(rounds)]
    ordered = sorted(data)
    return {"data": data, "min": ordered[0], "median": ordered[rounds // 2], "mean": sum(data) / rounds}


@pytest.mark.parametrize(
    ("share", "alarms"),
    [
        (-0.20, set()),
        (0.0, set()),
        (0.03, {"pyperf"}),
        (0.07, {"pyperf", "min:5%", "median:5%"}),
        (0.15, {"pyperf", "min:5%", "median:5%", "mean:10%", "asv"}),
    ],
)
def test_rules_decide_as_their_tools_do(share: float, alarms: set[str]) -> None:
    """Five and ten percent, asv's factor of 1.1, and any difference beyond the noise for pyperf."""
    found = {name for name, rule in rivals.rules().items() if rule(_stats(1.0), _stats(1.0 + share))}
    assert found == alarms


def test_rules_as_stated_decide_as_those_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where asv and pyperf are not installed, the same numbers give the same answers."""
    pairs = [(_stats(1.0), _stats(1.0 + share / 50)) for share in range(-5, 10)]
    names = ("asv", "pyperf")
    first = [[rivals.rules()[name](*pair) for name in names] for pair in pairs]
    monkeypatch.setattr(rivals, "_found", lambda _: None)
    assert [[rivals.rules()[name](*pair) for name in names] for pair in pairs] == first


def test_ranks_are_tested_as_mann_and_whitney_did() -> None:
    """Two rows of ten that do not overlap: z = 49.5 / √175, p = 1.8e-4."""
    assert rivals.mann_whitney(range(10), range(10, 20)) == pytest.approx(1.83e-4, rel=0.01)
    assert rivals.mann_whitney([1.0, 2.0], [1.0, 2.0]) == 1.0


class _Stage:
    """Everything that measures, played: the trials that were taken, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clone: Clone) -> None:
        self.taken: list[str] = []
        self.before_trial: Callable[[], object] = lambda: None
        monkeypatch.setattr(command, "cloned", lambda _: nullcontext(clone))
        monkeypatch.setattr(truth, "scales", lambda *_: SCALES)
        monkeypatch.setattr(truth, "truths", self._truths)
        monkeypatch.setattr(Laboratory, "take", self._take())

    @staticmethod
    def _truths(base: Path, head: Path, part: Mapping[Any, Plant], *_: Any) -> dict[str, Truth]:
        assert base != head
        return {entry.operator: Truth(0.05, 0.04, 0.06, "cpu") for entry in part}

    def _take(self) -> Any:
        def take(_: Laboratory, trial: Trial) -> dict[str, Any]:
            self.before_trial()
            self.taken.append(trial.name)
            return _result()

        return take


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, clone: Clone) -> _Stage:
    """Play what measures."""
    return _Stage(monkeypatch, clone)


def test_second_command_goes_on_where_the_first_one_stopped(tmp_path: Path, stage: _Stage) -> None:
    """No trial is done twice, and more can be asked for; the files say what was found."""
    asked = ["--out", str(tmp_path), "--minutes", "0", "--load", "quiet"]
    command.main([*asked, "--suites", "2", "--plants", "1"])
    assert sorted(stage.taken) == ["plant/quiet/0", "same/quiet/0", "same/quiet/1"]
    command.main([*asked, "--suites", "3", "--plants", "1"])
    assert stage.taken[3:] == ["same/quiet/2"]
    document = json.loads((tmp_path / "validation.json").read_text(encoding="utf-8"))
    assert document["all_suites"]["total"] == 3
    assert "0 of 3 suites" in (tmp_path / "validation.md").read_text(encoding="utf-8")


def test_trial_that_was_killed_before_its_truth_gets_it_later(tmp_path: Path, stage: _Stage) -> None:
    """The sizes of plants are measured when they are missing, whatever trials are left."""
    asked = ["--out", str(tmp_path), "--minutes", "0", "--load", "quiet", "--suites", "0", "--plants", "1"]
    command.main(asked)
    path = tmp_path / "trials.jsonl"
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["line"] != "truths"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command.main(asked)
    notebook = Notebook(tmp_path)
    assert notebook.truths
    assert all(one.truth is not None for one in gather(notebook).planted)
    assert stage.taken == ["plant/quiet/0"]


def test_threshold_that_changes_between_trials_ends_them(
    tmp_path: Path, stage: _Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is edited while trials run is noticed before the next one."""
    stage.before_trial = lambda: monkeypatch.setattr(freezing, "digest_sources", lambda _: "edited")
    code = command.main(["--out", str(tmp_path), "--suites", "2", "--plants", "0", "--minutes", "0"])
    assert code == Exit.USAGE
    assert len(stage.taken) == 1
    assert "and now it is edited: thresholds may not change" in capsys.readouterr().err


def test_another_seed_is_refused(tmp_path: Path, stage: _Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """The plants of a notebook are those of its own seed."""
    asked = ["--out", str(tmp_path), "--suites", "1", "--plants", "0", "--minutes", "0", "--seed"]
    command.main([*asked, "one"])
    assert command.main([*asked, "two"]) == Exit.USAGE
    assert "was begun with the seed one: leave --seed out." in capsys.readouterr().err
    assert stage.taken == ["same/quiet/0"]


def test_time_that_is_over_ends_trials_and_tells_what_is_there(
    tmp_path: Path, stage: _Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """No trial begins that would end too late; the bound that was earned is printed all the same."""
    stage.before_trial = lambda: time.sleep(0.3)
    asked = ["--out", str(tmp_path), "--suites", "9", "--plants", "0", "--minutes", "0.008"]
    assert command.main(asked) in (Exit.INCONCLUSIVE, Exit.FAILED)
    assert 0 < len(stage.taken) < 9
    said = capsys.readouterr().err
    assert "the same command goes on" in said
    assert f"0 of {len(stage.taken)} suites" in said


def test_wrong_options_are_sentences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 4 and no trace."""
    assert command.main(["--out", str(tmp_path), "--suites", "-1"]) == Exit.USAGE
    assert "Argument --suites: -1 is less than none" in capsys.readouterr().err


def test_long_mode_is_larger_and_can_be_changed() -> None:
    """Its parts are defaults of their own."""
    parse = command._parser().parse_args
    assert command._extent(parse(["--out", "x"])) == command.BOUNDED
    assert command._extent(parse(["--out", "x", "--long", "--suites", "300"])) == replace(
        command.LONG, suites=300
    )


def test_one_tiny_trial_is_really_run(clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command judges one case whose work was tripled, and the instrument beside it sees that too."""
    entry = SUITE[3]
    plant = Plant("arithmetic", 2.0)
    scales = truth.scales(clone.root, [entry])
    assert 1e-5 < scales[entry.operator].seconds < 1e-2
    policy = tmp_path / "policy.toml"
    policy.write_text("processes = [3, 5]\nfalse_alarms = 0.05\nplant = 0.5\n", encoding="utf-8")
    monkeypatch.setattr(trials, "PATTERN", entry.case.replace(entry.operator, f"{entry.operator[:-1]}?"))
    monkeypatch.setattr(plants, "draw", lambda _: {entry: plant})
    laboratory = Laboratory(clone, "seed", scales, policy)
    result = laboratory.take(Trial(PLANT, "quiet", 0))
    assert result["exit"] == Exit.REGRESSED, result["cause"]
    (case,) = result["cases"]
    assert (case["name"], case["verdict"]) == (entry.case, "FAIL")
    with clone.worktree(laboratory.commit({entry: plant})) as head:
        found = truth.truths(clone.root, head, {entry: plant}, 3, 0.1)[entry.operator]
    assert 1.0 < found.value < 4.0
    assert suite.TIMED in result["cases"][0]["name"]
