"""Laws of the comparison with other measuring tools; their times are made up, except in one tiny trial."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.paper.errors import Exit, NothingToMeasureError, RunRefusedError, SameopError
from harness.paper.record import CaseId, Reading, Record, Status
from harness.paper.stats import estimate
from harness.paper.units import Unit
from harness.tests.projects import PAGE
from harness.validation import spread
from harness.validation.peers import sameop, turns
from harness.validation.peers.candidates import LONGEST, SHORTEST, matching, spread_out
from harness.validation.peers.comparison import Deadline, Plan, compare, steps
from harness.validation.peers.load import busy_processors
from harness.validation.peers.observations import Experiment, Notebook, Observation
from harness.validation.peers.peer import Estimate, missing
from harness.validation.peers.roster import PEERS, USUAL
from harness.validation.peers.summary import Summary, summarise
from harness.validation.peers.turns import Outcome, Turn, environment, take_turn
from harness.validation.peers.verdicts import interval


def case(operator: str) -> CaseId:
    """Name a case of an operator."""
    return CaseId(operator, "core", "reference", "tiny/one", "float32", "cpu", "forward")


ONE, TWO = case("one"), case("two")
PLAN = Plan((ONE, TWO), ("sameop", "torch", "asv"), ("quiet", "busy"), 4, 0.25, "default")


def experiment(**changes: Any) -> Experiment:
    """Describe an experiment of the plan's cases."""
    return replace(Experiment((ONE, TWO), 0.25, "default", {"cpu": "x"}, {"torch": "2"}, "abc"), **changes)


def notebook(folder: Path) -> Notebook:
    """Open a notebook as a new process would."""
    found = Notebook(folder)
    found.open(experiment())
    return found


class Machine:
    """A take_turn that takes no time: every tool reads the true value with its own bias and noise."""

    def __init__(self, noise: Mapping[str, float], bias: Mapping[str, float] | None = None) -> None:
        self.noise, self.bias = noise, bias or {}
        self.taken: list[Turn] = []
        self.busy = False
        self.seen_busy: list[bool] = []

    def __call__(self, turn: Turn) -> Mapping[CaseId, Outcome]:
        """Answer for every case; the noise goes up and down from turn to turn."""
        self.taken.append(turn)
        self.seen_busy.append(self.busy)
        before = zip(self.taken, self.seen_busy, strict=True)
        alike = sum(other.tool == turn.tool and busy == self.busy for other, busy in before)
        sign = 1 if alike % 2 else -1
        factor = (1 + self.bias.get(turn.tool, 0)) * (1 + sign * self.noise[turn.tool])
        return {one: Outcome(Estimate(1e-3 * factor), 0.2) for one in turn.cases}

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Be busy for a while."""
        self.busy = True
        yield
        self.busy = False


def observe(folder: Path, machine: Machine, plan: Plan = PLAN) -> Summary:
    """Make the comparison and judge it."""
    found = notebook(folder)
    compare(plan, found, machine, machine.load, lambda _: None, Deadline(math.inf))
    return summarise(plan, Notebook(folder))


QUIET = {"sameop": 0.001, "torch": 0.004, "asv": 0.003}


def test_every_tool_has_one_turn_a_round_in_changing_order(tmp_path: Path) -> None:
    """In each round all tools measure all cases, and no tool always goes first."""
    found = list(steps(replace(PLAN, rounds=20), notebook(tmp_path)))
    orders = [tuple(step.turn.tool for step in found[start : start + 3]) for start in range(0, len(found), 3)]
    assert len(found) == 2 * 20 * 3
    assert {tuple(sorted(order)) for order in orders} == {("asv", "sameop", "torch")}
    assert len(set(orders)) == math.factorial(3)
    assert {step.turn.cases for step in found} == {(ONE, TWO), (TWO, ONE)}


def test_a_comparison_that_was_killed_goes_on(tmp_path: Path) -> None:
    """What is written down is not measured again, and the rest keeps its order."""
    machine, whole = Machine(QUIET), Machine(QUIET)
    compare(PLAN, notebook(tmp_path / "whole"), whole, whole.load, lambda _: None, Deadline(math.inf))

    def dies(turn: Turn) -> Mapping[CaseId, Outcome]:
        if len(machine.taken) == 7:
            raise KeyboardInterrupt
        return machine(turn)

    with pytest.raises(KeyboardInterrupt):
        compare(PLAN, notebook(tmp_path / "killed"), dies, machine.load, lambda _: None, Deadline(math.inf))
    with (tmp_path / "killed" / "observations.jsonl").open("ab") as file:
        file.write(b'{"kind": "observation", "load": "qui')
    observe(tmp_path / "killed", machine)
    assert machine.taken == whole.taken
    assert len(Notebook(tmp_path / "killed").observations) == 2 * 4 * 3 * 2


def test_more_rounds_and_tools_add_to_what_is_there(tmp_path: Path) -> None:
    """A longer plan takes the turns that the shorter one lacked."""
    observe(tmp_path, Machine(QUIET))
    more = Machine({**QUIET, "google-benchmark": 0.01})
    observe(tmp_path, more, replace(PLAN, tools=(*PLAN.tools, "google-benchmark"), rounds=5))
    assert [turn.tool for turn in more.taken].count("google-benchmark") == 2 * 5
    assert [turn.tool for turn in more.taken].count("torch") == 2 * 1


def test_the_load_is_on_for_the_busy_rounds_alone(tmp_path: Path) -> None:
    """Quiet rounds run without the loops, busy ones with them."""
    machine = Machine(QUIET)
    observe(tmp_path, machine)
    assert machine.seen_busy == ([False] * 3 + [True] * 3) * 4


def test_the_time_is_kept(tmp_path: Path) -> None:
    """No turn begins that might end too late; what is left is counted, and the next command takes it."""
    now = [0.0]
    machine = Machine(QUIET)

    def slow(turn: Turn) -> Mapping[CaseId, Outcome]:
        now[0] += 10
        return machine(turn)

    found = notebook(tmp_path)
    left = compare(PLAN, found, slow, machine.load, lambda _: None, Deadline(65, lambda: now[0]))
    assert (len(machine.taken), left) == (6, 2 * 4 * 3 - 6)
    early = summarise(PLAN, found)
    assert early.exit is Exit.INCONCLUSIVE
    assert "Spreads need three rounds of a tool; --rounds and --minutes give more." in early.lines
    assert observe(tmp_path, machine).exit is Exit.PASS
    assert len(machine.taken) == 2 * 4 * 3


@pytest.mark.parametrize(
    "changes", [{"seconds": 1.0}, {"allocator": "pinned"}, {"machine": {"cpu": "y"}}, {"sources": "abd"}]
)
def test_another_experiment_is_not_mixed_in(changes: Mapping[str, Any], tmp_path: Path) -> None:
    """A folder is refused where the budget, the allocator, the machine or the sources differ."""
    notebook(tmp_path)
    with pytest.raises(RunRefusedError, match=r"was begun with .*: name another folder with --out\.$"):
        Notebook(tmp_path).open(experiment(**changes))


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path) -> None:
    """A line that is no JSON is named, and nothing is overwritten."""
    path = tmp_path / "observations.jsonl"
    path.write_text("hello\n")
    with pytest.raises(RunRefusedError) as told:
        Notebook(tmp_path)
    assert str(told.value) == f"Line 1 of {path} is no JSON: name another folder with --out."
    assert path.read_text() == "hello\n"


def test_what_has_no_value_is_told_and_asked_for_again(tmp_path: Path) -> None:
    """A failed turn costs its own values alone, makes the end inconclusive, and is taken anew."""
    machine = Machine(QUIET)

    def fails(turn: Turn) -> Mapping[CaseId, Outcome]:
        if turn.tool == "asv":
            raise SameopError("asv is ill")
        return machine(turn)

    found = notebook(tmp_path)
    compare(PLAN, found, fails, machine.load, lambda _: None, Deadline(math.inf))
    summary = summarise(PLAN, found)
    assert summary.complaints == [f"asv at {one}: asv is ill" for one in (ONE, TWO)]
    assert summary.exit is Exit.INCONCLUSIVE
    assert observe(tmp_path, machine).exit is not Exit.INCONCLUSIVE
    assert summarise(PLAN, Notebook(tmp_path)).complaints == []


def test_an_interval_is_that_of_the_rounds() -> None:
    """It is the one that a record has for its processes, and two rounds are too few for one."""
    values = [1.0, 1.1, 1.21, 1.331]
    found, expected = interval(values), estimate(values)
    assert found is not None
    assert (found.value, found.low, found.high, found.rounds) == (
        expected.value,
        expected.low,
        expected.high,
        4,
    )
    assert interval(values[:2]) is None


def test_tools_that_read_the_same_agree(tmp_path: Path) -> None:
    """Intervals that overlap, ours narrow, are agreement."""
    summary = observe(tmp_path, Machine(QUIET))
    assert [one.verdict for one in summary.agreed] == ["agree", "agree"]
    assert summary.exit is Exit.PASS


def test_a_bias_is_disagreement(tmp_path: Path) -> None:
    """A value that is 5 % off where rounds differ by tenths of a percent fails the comparison."""
    summary = observe(tmp_path, Machine(QUIET, {"sameop": 0.05}))
    assert [one.verdict for one in summary.agreed] == ["differs from torch, asv"] * 2
    assert summary.agreed[0].difference("torch") == pytest.approx(0.05, abs=0.01)
    assert summary.exit is Exit.FAILED


def test_a_wide_interval_of_ours_agrees_with_nothing(tmp_path: Path) -> None:
    """Beyond ±2 % an interval of ours that overlaps is no evidence."""
    summary = observe(tmp_path, Machine({"sameop": 0.1, "torch": 0.1, "asv": 0.1}))
    assert [one.agrees for one in summary.agreed] == [False, False]
    assert summary.agreed[0].verdict.startswith("sameop's interval is ±")


@pytest.mark.parametrize(
    ("ours", "load", "expected"),
    [(0.0014, "busy", True), (0.0016, "busy", False), (0.0029, "quiet", True), (0.0031, "quiet", False)],
)
def test_our_spread_is_held_against_the_best_peer(
    ours: float, load: str, expected: bool, tmp_path: Path
) -> None:
    """Half of the best peer's under load, no more than it on a quiet machine, by both measures."""
    plan = replace(PLAN, loads=(load,))
    summary = observe(tmp_path, Machine({**QUIET, "sameop": ours}), plan)
    assert [one.best_tool for one in summary.judged[load]] == ["asv", "asv"]
    assert {one.holds for one in summary.judged[load]} == {expected}


def test_a_small_spread_may_not_be_bought_with_time(tmp_path: Path) -> None:
    """A tool that takes twice as long as the others has not shown that it is steadier."""

    class Patient(Machine):
        def __call__(self, turn: Turn) -> Mapping[CaseId, Outcome]:
            found = super().__call__(turn)
            if turn.tool != "sameop":
                return found
            return {one: replace(outcome, spent=0.4) for one, outcome in found.items()}

    summary = observe(tmp_path, Patient(QUIET))
    assert not any(one.holds for group in summary.judged.values() for one in group)
    assert "the best peer, but it took 2.0 times as long; wanted is" in "\n".join(summary.lines)


def test_a_tool_that_always_says_the_same_shows_its_bias(tmp_path: Path) -> None:
    """Beside the spread under load stands how far the values went from the quiet ones."""

    class Shifted(Machine):
        def __call__(self, turn: Turn) -> Mapping[CaseId, Outcome]:
            self.bias = {"torch": 1.0 if self.busy else 0.0}
            return super().__call__(turn)

    summary = observe(tmp_path, Shifted({**QUIET, "torch": 0.0}))
    biases = {one.tool: one.bias for one in summary.spread["busy"]}
    assert biases["torch"] == pytest.approx(1.0)
    assert biases["asv"] == pytest.approx(0.0, abs=0.01)


def test_other_values_of_a_tool_stand_beside_its_first(tmp_path: Path) -> None:
    """Processor time has a line of its own and is not what the verdict is about."""
    found = notebook(tmp_path)
    for number in range(4):
        slow, even = 1e-3 * (1 + number / 10), 1e-3
        found.add([Observation("busy", number, "google-benchmark", ONE, slow, also={"cpu": even})])
        found.add([Observation("busy", number, "sameop", ONE, 1e-3 * (1 + number / 1000))])
    plan = Plan((ONE,), ("sameop", "google-benchmark"), ("busy",), 4, 0.25, "default")
    summary = summarise(plan, found)
    assert [one.tool for one in summary.spread["busy"]] == [
        "sameop",
        "google-benchmark",
        "google-benchmark (cpu)",
    ]
    assert summary.spread["busy"][2].deviation == 0
    assert {one.best_tool for one in summary.judged["busy"]} == {"google-benchmark"}


def test_the_tables_say_what_the_document_says(tmp_path: Path) -> None:
    """Every verdict stands in the text, and the document is JSON."""
    summary = observe(tmp_path, Machine(QUIET))
    text = "\n".join(summary.lines)
    assert "2 of 2 operators agree" in text
    assert "busy, relative standard deviation: sameop's is 0.33 times that of asv, the best peer" in text
    document = json.loads(json.dumps(summary.document))
    assert [entry["agrees"] for entry in document["agreement"]] == [True, True]
    assert document["exit"] == 0


def test_cases_are_chosen_evenly_by_time_alone() -> None:
    """One case an operator, within the bounds, spread over the logarithm of their times."""
    ratio = (LONGEST / SHORTEST) ** (1 / 100)
    seconds = {case(f"op{step}"): SHORTEST * ratio**step for step in range(101)}
    seconds |= {case("short"): SHORTEST / 2, case("long"): LONGEST * 2}
    chosen = spread_out(seconds, 4)
    steps_apart = [round(math.log(seconds[one] / SHORTEST, ratio)) for one in chosen]
    assert steps_apart in ([12, 38, 62, 88], [13, 37, 62, 87], [12, 37, 62, 87], [13, 38, 63, 88])
    twice = {case("op"): 1e-3, replace(case("op"), implementation="authors"): 2e-3}
    assert len(spread_out(twice, 4)) == 1


def test_an_unknown_operator_is_told() -> None:
    """The patterns are repeated, and where the names stand."""
    assert matching([ONE, TWO], ["on*"]) == [ONE]
    with pytest.raises(NothingToMeasureError) as told:
        matching([ONE, TWO], ["x*", "y"])
    assert str(told.value) == "No operator is called x* or y: `sameop list` shows the names."


def test_the_loops_run_on_every_processor_and_end() -> None:
    """As many as may be used here, none of them left behind."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    with busy_processors() as count:
        assert count == usable
        running = children.read_text().split() if children.exists() else []
    assert not set(running) & set(children.read_text().split() if children.exists() else [])


def test_no_setting_of_the_allocator_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default allocator is the default one, whatever the command was started with."""
    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "SAMEOP_ALLOCATOR"):
        monkeypatch.setenv(name, "1")
    found = environment("default")
    assert not [name for name in found if name.startswith(("MALLOC", "SAMEOP_A"))]
    assert found["OMP_NUM_THREADS"] == "1"
    assert "MALLOC_TRIM_THRESHOLD_" in environment("pinned")


def test_our_turn_has_the_time_and_the_allocator_that_it_is_given() -> None:
    """A session's case may take the time of a turn, and precision ends it no earlier."""
    found = sameop.settings_of(Turn("sameop", (ONE,), 0.6, "default"))
    assert (found.case_seconds, found.allocator, found.threads) == (0.6, "default", 1)
    assert found.precision == 0
    assert found.processes[1] * found.sample_seconds == pytest.approx(0.6)


def test_our_record_is_read_with_its_wall_time() -> None:
    """The latency is the value, and a record without one gives its reason."""
    facts = {"wall_seconds_per_call": 2e-3}
    reading = Reading(Unit.SECONDS_PER_CALL, 1e-3, 0.9e-3, 1.1e-3, facts=facts)
    record = Record(case=ONE, status=Status.MEASURED, readings={"latency": reading})
    found = sameop.outcome_of(record, 0.5)
    assert found == Outcome(Estimate(1e-3, 0.9e-3, 1.1e-3, {"wall": 2e-3}), 0.5)
    failed = replace(record, status=Status.CRASHED, reason="it ended", readings={})
    assert sameop.outcome_of(failed, 0.5) == Outcome(None, 0.5, "it ended")


def test_a_reference_is_evaluated_once(tmp_path: Path) -> None:
    """Later turns get its file and its answer; one that could not be evaluated is tried again."""
    tool, asked = sameop.Ours(tmp_path), list[str]()

    def evaluate(to: Path, content: str | None) -> dict[str, str]:
        asked.append(to.name)
        if content is not None:
            to.write_text(content)
        return {"status": "measured" if content else "failed"}

    for name, content in (("1", None), ("2", "numbers"), ("3", "others")):
        file = tmp_path / name
        answer = tool.expect(ONE, file, partial(evaluate, file, content))
    assert asked == ["1", "2"]
    assert answer == {"status": "measured"}
    assert (tmp_path / "3").read_text() == "numbers"


def test_our_side_measures_a_case(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session of sameop's own gives a time with an interval, turn after turn, and says what it spent."""
    # How many interpreters its processes are forked from is no matter here, and each takes seconds to start.
    monkeypatch.setattr(sameop, "_ZYGOTES", 1)
    good = CaseId("scale", "core", "reference", "tiny/one", "float32", "cpu", "forward")
    tool, turn = sameop.Ours(project.parent), Turn("sameop", (good,), 0.2, "default")
    first = tool.take_turn(turn, [project])
    assert first[good].estimate is not None, first[good].reason
    found = tool.take_turn(turn, [project])
    ours = found[good].estimate
    assert ours is not None, found[good].reason
    assert ours.low is not None
    assert ours.high is not None
    assert 0 < ours.low <= ours.value <= ours.high
    assert found[good].spent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a case package with the operator ``scale``, one form of which ends its process."""
    folder = tmp_path / "ops"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Operators of a test."""\n')
    ends = '\n\n@core.implementation("ends")\ndef ends(x, factor):\n    import os\n    os._exit(7)\n'
    raises = '\n\n@core.implementation("raises")\ndef raises(x, factor):\n    raise ValueError("no")\n'
    (folder / "scale.py").write_text(PAGE + ends + raises)
    return folder


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_measures_in_processes_of_its_own(name: str, project: Path) -> None:
    """Every tool that is installed hands back a time, and says why where the operator fails."""
    reason = missing(PEERS[name])
    if reason:
        pytest.skip(reason)
    good = CaseId("scale", "core", "reference", "tiny/one", "float32", "cpu", "forward")
    bad, worse = replace(good, implementation="raises"), replace(good, implementation="ends")
    found = take_turn(Turn(name, (good, bad, worse), 0.02, "default"), [project])
    theirs = found[good].estimate
    assert theirs is not None, found[good].reason
    assert theirs.value > 0
    assert found[bad].estimate is None
    assert found[worse].reason == "its process ended with status 7"


def test_a_turn_that_never_begins_is_told(tmp_path: Path) -> None:
    """The last words of the interpreter are in the sentence."""
    with pytest.raises(SameopError, match=r"^torch could not take its turn: .*"):
        take_turn(Turn("torch", (ONE,), 0.02, "default"), [tmp_path / "absent"])


def test_a_turn_that_hangs_is_ended(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its limit a turn is stopped and says so."""
    monkeypatch.setattr(turns, "_START_SECONDS", 0.1)
    monkeypatch.setattr(turns, "_SECONDS_A_CASE", 0.0)
    with pytest.raises(SameopError, match=r"^torch could not take its turn: it did not end within 0\.1 s$"):
        take_turn(Turn("torch", (ONE,), 0.0, "default"), [project])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--tools", "stopwatch"], "'stopwatch' is no tool: known are sameop, torch, "),
        (["--rounds", "0"], "argument --rounds: 0 is less than one; see "),
        (["--seconds", "-1"], "argument --seconds: -1 is no number between 0 and 3600; see "),
        (["--load", "some"], "argument --load: invalid choice: 'some'"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ends with the exit code of usage, and nothing is written."""
    assert spread.main(["--out", str(tmp_path / "out"), *arguments]) == Exit.USAGE
    assert capsys.readouterr().err.startswith(f"sameop: {sentence}")
    assert not (tmp_path / "out").exists()


def test_the_command_chooses_measures_and_judges(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It looks once, takes all turns, prints one document, and a second call measures nothing."""
    machine = Machine({**dict.fromkeys(USUAL, 0.003), "sameop": 0.001, "probe": 0.0})
    monkeypatch.chdir(project.parent)
    (project.parent / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n')
    monkeypatch.setattr(spread, "missing", lambda _: None)
    monkeypatch.setattr(spread, "busy_processors", machine.load)
    monkeypatch.setattr(spread, "take_turn", lambda turn, _: machine(turn))
    monkeypatch.setattr(sameop.Ours, "take_turn", lambda _, turn, __: machine(turn))
    command = ["--out", str(project.parent / "out"), "--rounds", "4", "--json"]
    assert spread.main(command) == Exit.PASS
    first = json.loads(capsys.readouterr().out)
    assert len(machine.taken) == 1 + 2 * 4 * 5
    assert [entry["case"].partition("/")[0] for entry in first["agreement"]] == ["scale"]
    assert spread.main(command) == Exit.PASS
    assert json.loads(capsys.readouterr().out) == first
    assert len(machine.taken) == 1 + 2 * 4 * 5
