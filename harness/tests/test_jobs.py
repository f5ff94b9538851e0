"""Jobs: both sides of a channel know the same one."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from harness.bench.measure.jobs import Job
from harness.paper.record import CaseId

CASE = CaseId("scale", "core", "fast", "tiny/one", "float32", "cuda", "training")


@pytest.mark.parametrize(
    "job",
    [
        Job("limits"),
        Job("limits", options={"device": "cuda", "dtypes": ["float32"], "threads": [1, 2]}),
        Job("begin", CASE, "file", 2, (1, 3), {"modes": ["hot", "cold"], "warm_up_seconds": 0.1}),
        Job("turn", options={"mode": "hot", "calls": 3, "rewarm": True}),
    ],
)
def test_a_request_is_read_back_as_it_was(job: Job) -> None:
    """Nothing is lost on the way through JSON."""
    assert Job.of_request(json.loads(json.dumps(job.as_request()))) == job


def test_a_job_runs_where_its_case_does() -> None:
    """Without a case its options say where, and without those it is the CPU."""
    assert Job("begin", CASE).device == "cuda"
    assert Job("begin", replace(CASE, device="cpu"), options={"device": "cuda"}).device == "cpu"
    assert Job("limits", options={"device": "cuda"}).device == "cuda"
    assert Job("limits").device == "cpu"


def test_options_are_added_to_those_that_are_there() -> None:
    """A later option replaces an earlier one of its name; the job itself stays as it was."""
    job = Job("begin", CASE, options={"calls": 1, "bits": "b"})
    assert job.with_options(calls=2, level="L1").options == {"calls": 2, "bits": "b", "level": "L1"}
    assert job.options == {"calls": 1, "bits": "b"}
