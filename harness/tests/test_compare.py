"""Two runs side by side: what a difference must be before it is called one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.paper.compare import PROCESS_SPREAD, compare_runs, machine_difference
from harness.paper.record import CaseId, Reading, Record, Status
from harness.paper.store import Header, Run
from harness.paper.units import Unit
from harness.paper.verdicts import Compared, Verdict


def case(name: str) -> CaseId:
    """Make a case id that differs from others by its implementation."""
    return CaseId("tiny", "core", name, "tiny/one", "float32", "cpu", "forward")


def timed(name: str, seconds: float, half: float = 0.0) -> Record:
    """Make a record with a latency and half its interval."""
    latency = Reading(Unit.SECONDS_PER_CALL, seconds, seconds - half, seconds + half)
    return Record(case(name), Status.MEASURED, readings={"latency": latency})


def run(*records: Record, **machine: object) -> Run:
    """Make a run of a machine."""
    header = Header({"machine": machine, "commit": {}, "options": {}}, {}, {}, (), (), "now")
    return Run(Path("run"), header, list(records))


def compare(before: Record, after: Record) -> Compared:
    """Compare one case."""
    (found,) = compare_runs(run(before), run(after))
    return found


@pytest.mark.parametrize(
    ("before", "after", "verdict", "reason"),
    [
        (1.0, 1.2, Verdict.SLOWER, "the whole interval of the ratio lies above 1"),
        (1.2, 1.0, Verdict.FASTER, "the whole interval of the ratio lies below 1"),
        (1.0, 1.05, Verdict.UNDECIDED, "the interval of the ratio holds 1"),
        (1.0, 1.0, Verdict.UNDECIDED, "the interval of the ratio holds 1"),
    ],
)
def test_only_an_interval_away_from_one_decides(
    before: float, after: float, verdict: Verdict, reason: str
) -> None:
    """A ratio is called a difference when its interval excludes one."""
    found = compare(timed("a", before, 0.03), timed("a", after, 0.03))
    assert (found.verdict, found.reason) == (verdict, reason)
    assert found.ratio == after / before


@pytest.mark.parametrize(("change", "decided"), [(0.9, False), (1.1, True)])
def test_the_spread_between_processes_decides_nothing(change: float, decided: bool) -> None:
    """Even exact times may differ by what separates two processes of one program."""
    found = compare(timed("a", 1.0), timed("a", 1.0 + change * PROCESS_SPREAD))
    assert (found.verdict is Verdict.SLOWER) is decided


def test_the_ratio_lies_in_its_interval() -> None:
    """The interval of the ratio spans the intervals of both times."""
    found = compare(timed("a", 1.0, 0.1), timed("a", 2.0, 0.2))
    assert (found.low, found.high) == pytest.approx((1.8 / 1.1 / 1.016, 2.2 / 0.9 * 1.016))


def test_every_case_of_either_run_is_named() -> None:
    """No case drops out of a comparison in silence; the first run gives the order."""
    before = run(timed("b", 1.0), timed("gone", 1.0))
    after = run(timed("new", 1.0), timed("b", 1.0))
    found = [
        (entry.case.split("/")[2], str(entry.verdict), entry.reason) for entry in compare_runs(before, after)
    ]
    assert found == [
        ("b", "undecided", "the interval of the ratio holds 1"),
        ("gone", "only in the first run", "the second run has no such case"),
        ("new", "only in the second run", "the first run has no such case"),
    ]


WITHHELD = "withheld, because the implementation disagrees with its reference after timing"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (
            Record(case("a"), Status.CRASHED, "Its worker ended by signal 11."),
            "Its worker ended by signal 11.",
        ),
        (
            Record(
                case("a"),
                Status.DISAGREED,
                readings={"latency": Reading.missing(Unit.SECONDS_PER_CALL, WITHHELD)},
            ),
            WITHHELD,
        ),
        (Record(case("a"), Status.MEASURED), "no latency was recorded"),
        (timed("a", 0.0), "no latency was recorded"),
    ],
)
def test_a_missing_number_carries_its_reason(record: Record, why: str) -> None:
    """Where either run has no number the comparison says which, and why."""
    assert compare(record, timed("a", 1.0)).reason == f"first run: {why}"
    found = compare(timed("a", 1.0), record)
    assert (found.verdict, found.reason) == (Verdict.NO_NUMBER, f"second run: {why}")


def test_the_last_record_of_a_case_counts() -> None:
    """A case that was measured again is compared by its last record."""
    (found,) = compare_runs(run(timed("a", 9.0), timed("a", 1.0)), run(timed("a", 1.0)))
    assert found.before == 1.0


def test_runs_of_different_machines_are_told() -> None:
    """Ratios between machines compare the machines too."""
    assert machine_difference(run(cpu="EPYC", cpus=2), run(cpu="Xeon", cpus=8)) == (
        "The runs come from different machines (cpu is 'EPYC' and 'Xeon'): "
        "their ratios compare the machines too."
    )
    assert machine_difference(run(cpu="EPYC"), run(cpu="EPYC")) is None
