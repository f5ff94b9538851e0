"""The methods say what the records say was done, and nothing that a run may not have done."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.paper.record import CaseId, Record
from harness.paper.store import Run

from .methods import describe_methods
from .specimen import make_older, make_record, make_run, with_facts


def methods(run: Run) -> str:
    """Return the methods of a run as one text."""
    return "\n".join(describe_methods(run))


def single(**facts: Any) -> Run:
    """Return a run of one case whose latency has these facts."""
    record = make_run().records[0]
    return replace(make_run(), records=[with_facts(record, **facts)])


def cuda(clock: str) -> Record:
    """Return a case that names the device cuda, with a time by some clock."""
    record = make_record(CaseId("conv2d", "core", "x", "shared/stage1", "float32", "cuda", "forward"), 0.1)
    return with_facts(record, clock=clock, launch="excluded")


def test_what_was_done_is_told() -> None:
    """Lock-step, processes, interval, clock, allocator, affinity, bits, cold, threads and roofline."""
    text = methods(make_run())
    for words in (
        "measured in lock-step, 2 to 4 at a time",
        "each case was timed in 3 processes",
        "forked in turn from 3 interpreters",
        "95 % Student's t over the logarithms of the medians of 3 processes (25 cases)",
        "half the interval is at most 1.0% of the median (25 cases)",
        "The clock was thread CPU time in 25 cases",
        "In 25 cases malloc kept what was freed",
        "A process was allowed on 1 processor",
        "In 24 cases every later process returned the same bits as the first",
        "In 1 case results differed between calls or processes within rounding",
        "Cold caches (25 cases): before every call, outside of what is timed, memory of twice the last-level "
        "cache of the processor is overwritten",
        "All processors (25 cases): measured again in processes of their own, with 2 threads",
        "The speed limit of CPU was measured in this run",
        "1 case stands above 100 %",
    ):
        assert words in text


@pytest.mark.parametrize(
    "words", ["lock-step", "Student", "interpreters", "bits", "Cold", "roofline", "speed limit", "allowed on"]
)
def test_an_older_run_did_none_of_it(words: str) -> None:
    """What the records of an older run do not say is not said; its own interval is."""
    text = methods(make_older(make_run()))
    assert words not in text
    assert "distribution-free 95 % interval" in text


def test_no_gpu_is_spoken_of_where_none_ran() -> None:
    """Neither CUDA nor a GPU is in the methods of a run of the CPU, or of one whose GPU left no time."""
    for run in (make_run(), replace(make_run(), records=[*make_run().records, cuda("wall")])):
        assert "CUDA" not in methods(run)
        assert "GPU" not in methods(run)
    assert "CUDA events in 1 case" in methods(replace(make_run(), records=[cuda("CUDA events")]))


def test_one_implementation_took_turns_with_nobody() -> None:
    """A workload with one implementation is not said to have been measured in lock-step."""
    assert "lock-step" not in methods(single())


def test_how_far_apart_processes_began_is_told() -> None:
    """Where a record knows it, and where there were several processes."""
    assert "The first and the last of a case began 12.5 s apart" in methods(
        single(first_to_last_process_seconds=12.5)
    )
    assert "apart" not in methods(single(first_to_last_process_seconds=0.0))
    assert "apart" not in methods(single())


def test_cases_that_began_apart_took_no_turns() -> None:
    """A case that a later session measured by itself shared no turns with the earlier ones."""
    first, second, *_ = make_run().records
    apart = replace(second, started="2031-05-07T00:00:00+00:00")
    assert "lock-step" in methods(replace(make_run(), records=[first, second]))
    assert "lock-step" not in methods(replace(make_run(), records=[first, apart]))


def test_numbers_of_processes_become_a_range() -> None:
    """Intervals that differ in the number of processes alone are told together."""
    first, second, *_ = make_run().records
    words = "95 % Student's t over the logarithms of the medians of {} processes"
    records = [with_facts(first, interval=words.format(3)), with_facts(second, interval=words.format(8))]
    assert f"{words.format('3 to 8')} (2 cases)" in methods(replace(make_run(), records=records))


def test_mutants_are_spoken_of_where_there_were_any() -> None:
    """A brief proof checks no mutants."""
    claim = make_run().claims[0]
    bare = replace(claim, result={**claim.result, "mutants": []})
    assert "Every mutant was put to the same check." in methods(make_run())
    assert "mutant" not in methods(replace(make_run(), claims=[bare]))
