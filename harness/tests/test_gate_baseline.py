"""Head against a stored run: what is refused, what the times of two sessions say, and what they cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.paper.errors import Exit
from harness.paper.gate.baseline import BaselineRefusedError, Latency, StoredRule, Times, read_baseline
from harness.paper.gate.outcome import CaseOutcome, Verdict
from harness.paper.gate.policy import Accept, Policy
from harness.paper.record import SCHEMA, CaseId, Reading, Record, Status
from harness.paper.store import RECORDS_NAME, Header, open_run
from harness.paper.units import Unit

MACHINE = {"cpu": "AMD EPYC", "kernel": "6.1", "gpus": [], "torch": "2.13.0"}
CPU = "thread CPU time"
CASE = CaseId("tiny", "core", "reference", "tiny/one", "float32", "cpu", "forward")
NAME = str(CASE)
ANEW = "Measure a baseline here and now: `pytest --benchmark`."
TODAY = date(2030, 1, 1)


def record(
    *medians: float, clock: str = CPU, walls: Any = None, peak: float = 1e6, macs: float = 8
) -> Record:
    """Make the record of a case whose processes had these medians."""
    walls = medians if walls is None else walls
    processes = [{"median": time, "wall": wall} for time, wall in zip(medians, walls, strict=True)]
    facts = {"clock": clock, "processes": processes}
    readings = {
        "latency": Reading(Unit.SECONDS_PER_CALL, float(np.median(medians)), facts=facts),
        "memory": Reading(Unit.BYTES, peak),
        "macs": Reading(Unit.MACS_PER_CALL, 8, facts={"witnesses": {"flop_counter": {"macs": macs}}}),
    }
    return Record(CASE, Status.MEASURED, readings=readings)


def broken(status: Status, reason: str) -> Record:
    """Make the record of a case without a number."""
    return Record(CASE, status, reason)


def around(seconds: float, spread: float = 0.001, count: int = 6) -> tuple[float, ...]:
    """Return medians that lie evenly around a time."""
    return tuple(seconds * exp(spread * step) for step in np.linspace(-1.5, 1.5, count))


def judge(base: Record | None, head: Record, **settings: Any) -> CaseOutcome:
    """Judge one case of ten."""
    return StoredRule(replace(Policy(), **settings), 10, today=TODAY).judge(NAME, base, head)


def write_run(folder: Path, *records: Record, **machine: Any) -> Path:
    """Write a run of a machine."""
    identity = {"machine": {**MACHINE, **machine}, "commit": {}, "options": {}}
    with open_run(folder, Header(identity, {}, {}, (), (), "2030-01-01T00:00:00+00:00")) as run:
        for line in records:
            run.append(line)
    return folder


def refusal(folder: Path) -> str:
    """Return why a folder is no baseline."""
    with pytest.raises(BaselineRefusedError) as error:
        read_baseline(folder, MACHINE)
    assert error.value.exit == Exit.BASELINE
    return str(error.value)


def test_a_run_of_this_machine_is_read(tmp_path: Path) -> None:
    """Nothing else is asked of it than times, and that it was measured here."""
    run = read_baseline(write_run(tmp_path / "run", record(1.0, 1.1)), MACHINE)
    assert list(run.latest) == [NAME]


def test_another_machine_is_refused_by_all_that_differs(tmp_path: Path) -> None:
    """The sentence names every fact, those that one side lacks included."""
    folder = write_run(tmp_path / "run", record(1.0, 1.1), kernel="5.4", torch="2.11.0", driver="550")
    assert refusal(folder) == (
        f"The baseline {folder} is of another machine: kernel was '5.4' and is '6.1'; torch was '2.11.0' and "
        "is '2.13.0'; driver was '550' and is None. Times of two machines are never compared. " + ANEW
    )


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    """An absent folder, a file, another tool's folder and a newer one each end in a sentence."""
    assert "No run was found in" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "No run was found in" in refusal(tmp_path / "file")
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "run.json").write_text('{"benchmarks": []}')
    assert "is not the run.json of a sameop run" in refusal(folder)
    (folder / "run.json").write_text(f'{{"schema": {SCHEMA + 1}}}')
    assert "read it with the version that wrote it, or a newer one" in refusal(folder)


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    """What was lost could be the case that head makes slower."""
    folder = write_run(tmp_path / "run", record(1.0, 1.1))
    with (folder / RECORDS_NAME).open("a") as file:
        file.write('{"kind": "case", "sch')
    assert refusal(folder) == (
        f"The baseline {folder} is damaged: {RECORDS_NAME} line 2 is not a whole record and was left out. "
        f"What is lost would pass in silence; name a whole run. {ANEW}"
    )


@pytest.mark.parametrize(
    "records",
    [
        (),
        (broken(Status.CRASHED, "signal SIGSEGV"),),
        (replace(record(1.0, 1.1), readings={"latency": Reading(Unit.SECONDS_PER_CALL, 1.0)}),),
    ],
)
def test_a_run_without_times_is_refused(records: tuple[Record, ...], tmp_path: Path) -> None:
    """Against nothing everything would be new, and pass."""
    folder = write_run(tmp_path / "run", *records)
    assert refusal(folder) == (
        f"The baseline {folder} holds no time of any case, so that there is nothing to compare with. {ANEW}"
    )


def test_degrees_of_freedom_are_those_of_welch() -> None:
    """Two samples of unequal spread whose t and degrees were published; here they are logarithms."""
    first = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1, 21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4]
    second = [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0, 24.8, 20.2, 21.9, 22.1, 22.9, 20.5, 24.4]
    times = Times(CPU, base=tuple(map(exp, second)), head=tuple(map(exp, first)))
    assert times.mean / times.error == pytest.approx(-2.46, abs=0.005)
    # 24.99, of which only whole ones are used.
    assert times.count - 1 == 24


def test_sides_without_any_spread_have_all_degrees() -> None:
    """A clock may be too coarse to see a difference."""
    times = Times(CPU, base=(1.0, 1.0, 1.0), head=(1.5, 1.5))
    assert (times.error, times.count) == (0.0, 4)


@pytest.mark.parametrize(
    ("slowdown", "spread", "verdict", "said"),
    [
        (0.25, 0.001, "FAIL", "25 % slower (at least 25 %, 95 % interval 25 to 25 %), 6 processes of head "),
        (0.25, 0.001, "FAIL", "against 6 of the baseline; 10 % is allowed."),
        (0.08, 0.001, "PASS", "no slowdown beyond 10 % was found, and one of 11 % would have been."),
        (-0.3, 0.001, "PASS", "30 % faster"),
        (0.02, 0.2, "INSENSITIVE", "a slowdown below 393 % may be missed, one of 30 % must not be."),
        (0.02, 2.0, "INSENSITIVE", "any slowdown may be missed, one of 30 % must not be."),
        (0.14, 0.014, "INCONCLUSIVE", "not surely above the 10 % allowed."),
    ],
)
def test_a_time_is_judged_by_the_margin_and_the_spread(
    slowdown: float, spread: float, verdict: str, said: str
) -> None:
    """What two sessions may differ by lands; what is surely more does not; what cannot be told is said."""
    found = judge(record(*around(1e-3, spread)), record(*around(1e-3 * (1 + slowdown), spread)))
    assert (found.verdict, found.clock) == (verdict, CPU), found.reason
    assert said in found.reason
    assert found.bounds
    assert found.bounds.processes == 6
    assert found.bounds.ratio == pytest.approx(1 + slowdown)
    assert set(found.medians) == {"base", "head"}


def test_unchanged_sessions_seldom_fail() -> None:
    """Where sessions differ by the whole margin, alarms are as rare as the policy has it, and no rarer."""
    rng = np.random.default_rng(7)
    rule = StoredRule(Policy(false_alarms=0.05), 1)
    verdicts = []
    for _ in range(1000):
        # Fewer processes of the side that scatters more: where degrees of freedom matter most.
        base = record(*np.exp(rng.normal(0, 0.03, 3)))
        head = record(*(1.1 * np.exp(rng.normal(0, 0.01, 6))))
        verdicts.append(rule.judge(NAME, base, head).verdict)
    # 50 of 1000 are allowed; beyond 77 the chance is below 1e-4.
    assert 10 <= verdicts.count(Verdict.FAIL) <= 77


@pytest.mark.parametrize(("processes", "others"), [(3, 3), (4, 12), (12, 12)])
def test_a_detectable_slowdown_is_found(processes: int, others: int) -> None:
    """What is told as the smallest slowdown that would be found is found, 99 times of a hundred."""
    rng = np.random.default_rng(11)
    rule = StoredRule(Policy(), 10)
    sizes, spread = (processes, others), 0.01
    sides = [spread * np.linspace(-1, 1, size) / np.std(np.linspace(-1, 1, size), ddof=1) for size in sizes]
    known = rule.judge(NAME, *(record(*np.exp(side)) for side in sides)).bounds
    assert known
    slower = 1 + known.detectable
    drawn = [[np.exp(rng.normal(0, spread, size)) for size in sizes] for _ in range(250)]
    found = [rule.judge(NAME, record(*base), record(*(slower * head))).verdict for base, head in drawn]
    assert found.count(Verdict.FAIL) >= 242


def test_one_process_has_no_spread() -> None:
    """From one number of a side nothing follows, and that is said."""
    found = judge(record(1e-3), record(2e-3, 2e-3, 2e-3))
    assert (found.verdict, found.bounds) == ("INSENSITIVE", None)
    assert found.reason == (
        "3 processes of head against 1 of the baseline: fewer than two of a side do not tell how processes "
        "differ."
    )


def test_the_error_is_shared_by_the_cases() -> None:
    """With more cases each needs a clearer slowdown, so that the whole has no more alarms."""
    base, head = record(*around(1.0, 0.01)), record(*around(1.2, 0.01))
    lows = [StoredRule(Policy(), cases).judge(NAME, base, head).bounds for cases in (1, 100)]
    assert lows[0]
    assert lows[1]
    assert lows[1].low < lows[0].low


def test_a_margin_may_be_given_for_some_cases() -> None:
    """It is a setting like the others."""
    base, head = record(*around(1.0)), record(*around(1.25))
    assert judge(base, head, baseline_margin=0.3).verdict == "PASS"


@pytest.mark.parametrize(("up_to", "verdict"), [(1.3, "ACCEPTED"), (1.2, "FAIL")])
def test_a_slowdown_can_be_accepted(up_to: float, verdict: str) -> None:
    """By the same reviewed line as in a run of twins."""
    line = Accept("tiny/*", up_to, "Exact now.", date(2031, 1, 1))
    found = judge(record(*around(1.0)), record(*around(1.25)), accepts=(line,))
    assert found.verdict == verdict, found.reason


def test_memory_needs_no_margin_of_time() -> None:
    """More peak memory fails whatever the times say; counts of MACs explain."""
    found = judge(record(*around(1.0)), record(*around(1.0), peak=2e6, macs=16))
    assert found.verdict == "FAIL"
    assert found.reason.startswith("Peak memory rose by 977 KiB, from 977 KiB to 1.91 MiB")
    assert found.notes == ("MACs of one call rose from 8 to 16.",)
    assert found.counts == {
        "base": {"peak_bytes": 1e6, "macs": 8},
        "head": {"peak_bytes": 2e6, "macs": 16},
    }


def test_two_clocks_are_compared_by_the_wall() -> None:
    """A head that sleeps is told by the wall alone, and there the base is asked for its wall too."""
    base = record(*around(1e-3), walls=around(1.01e-3))
    head = record(*around(3e-3), clock="wall")
    found = judge(base, head)
    assert (found.verdict, found.clock) == ("FAIL", "wall")
    assert found.bounds
    assert found.bounds.ratio == pytest.approx(3 / 1.01)
    assert found.reason.startswith("By the wall 197 % slower")
    assert found.notes == (
        "Compared by the wall, since the baseline was read from the thread CPU time and head from the wall: "
        "one of them sleeps, waits or works in other threads.",
    )


def test_the_wall_has_the_wider_of_two_margins() -> None:
    """Other work on the machine shows there."""
    base, head = record(*around(1.0), clock="wall"), record(*around(1.25), clock="wall")
    assert judge(base, head).verdict == "FAIL"
    assert judge(base, head, wall_margin=0.3).verdict == "PASS"


def test_a_speed_up_is_told_where_sessions_do_not_explain_it() -> None:
    """Within the margin it may be the machine."""
    base = record(*around(1.0))
    note = "A speed-up beyond the 10 % that two sessions may differ by."
    assert judge(base, record(*around(0.8))).notes == (note,)
    assert judge(base, record(*around(0.95))).notes == ()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (Status.DISAGREED, "DISAGREED"),
        (Status.NONDETERMINISTIC, "DISAGREED"),
        (Status.CRASHED, "BROKEN"),
        (Status.TIMED_OUT, "BROKEN"),
    ],
)
def test_a_head_without_a_sound_number_never_passes(status: Status, verdict: str) -> None:
    """Whether the baseline has one or not."""
    head = broken(status, "It did something.")
    for base in (record(*around(1.0)), None, broken(Status.CRASHED, "It crashed.")):
        found = judge(base, head)
        assert (found.verdict, found.reason) == (verdict, "It did something.")


def test_a_head_whose_time_is_missing_is_broken() -> None:
    """A case that was measured and has no time has a reason for that."""
    head = replace(
        record(1.0, 1.0), readings={"latency": Reading.missing(Unit.SECONDS_PER_CALL, "the meter read nan")}
    )
    found = judge(record(*around(1.0)), head)
    assert (found.verdict, found.reason) == ("BROKEN", "the meter read nan")


def test_what_the_baseline_lacks_is_new() -> None:
    """A record of it, or a sound number."""
    head = record(*around(1.0))
    assert judge(None, head).reason == (
        "The baseline has no record of it, so that there is nothing to compare with."
    )
    found = judge(broken(Status.CRASHED, "signal SIGSEGV"), head)
    assert (found.verdict, found.reason) == (
        "NEW",
        "The baseline has no sound number (signal SIGSEGV), so that there is nothing to compare with.",
    )
    assert list(found.counts) == ["head"]


@pytest.mark.parametrize(
    "processes",
    [None, 3, "text", [1.0], [{"median": "fast"}], [{"median": -1.0}], [{"median": 1.0}, {"median": None}]],
)
def test_what_is_no_time_is_not_read_as_one(processes: Any) -> None:
    """A file may hold anything."""
    latency = Reading(Unit.SECONDS_PER_CALL, 1.0, facts={"clock": CPU, "processes": processes})
    found = Latency.of(Record(CASE, Status.MEASURED, readings={"latency": latency}))
    assert found
    assert found.medians == ()
