"""What references computed is kept as long as a group needs it, and not more of it than there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from harness.bench.case import Case
from harness.bench.measure import references
from harness.bench.measure.jobs import Job
from harness.bench.measure.references import References
from harness.bench.measure.workers import Workers
from harness.paper.record import Status
from harness.tests.specimens import implementation, mixing, polynomial


class Writing:
    """Workers that write as many bytes as a reference is said to take."""

    at_once = 2

    def __init__(self, folder: Path) -> None:
        self.scratch, self.size = folder, 1000
        self.asked: list[list[str]] = []
        self.status = Status.MEASURED

    def expectation(self, name: str) -> Path:
        """Return the file of a group."""
        return self.scratch / name

    def run_all(self, jobs: Sequence[Job]) -> list[dict[str, object]]:
        """Write the files."""
        self.asked.append([job.case.workload for job in jobs if job.case])
        for job in jobs:
            if self.status == Status.MEASURED:
                Path(job.expected).write_bytes(bytes(self.size))
        return [{"status": self.status, "workload": job.case and job.case.workload} for job in jobs]

    @property
    def files(self) -> int:
        """How many there are."""
        return len(list(self.scratch.iterdir()))


@pytest.fixture
def workers(tmp_path: Path) -> Writing:
    """Return workers with a folder."""
    return Writing(tmp_path)


@pytest.fixture
def kept(workers: Writing) -> References:
    """Return references that nothing was asked for yet."""
    found = cast(Workers, workers)

    def job(case: Case) -> Job:
        return Job("expect", case.id, str(workers.expectation(references.expectation_of(case))))

    return References(found, job)


def case(workload: str, direction: str = "forward") -> Case:
    """Return a case at a workload of that name."""
    scope = polynomial()
    named = replace(scope.workloads[0], name=workload)
    return Case(scope, implementation(mixing), named, "float32", "cpu", direction)


def test_some_are_evaluated_ahead(kept: References, workers: Writing) -> None:
    """The nearest are evaluated together, each once, and nothing is asked for what is known."""
    ahead = [case(name) for name in ("b", "b", "c", "d", "e")]
    assert kept.expect(case("a"), ahead)["workload"] == "a"
    assert workers.asked == [["a", "b", "c", "d"]]
    assert kept.expect(case("c"), ahead)["workload"] == "c"
    assert kept.expect(case("d", "training"))["workload"] == "d"
    assert len(workers.asked) == 1
    kept.expect(case("e"))
    assert workers.asked[1:] == [["e"]]


def test_a_file_is_kept_until_the_last_of_its_groups(kept: References, workers: Writing) -> None:
    """Both directions share an expectation, in whichever order they end."""
    kept.announce([case("a"), case("b"), case("a", "training")])
    kept.expect(case("a"), [case("b")])
    kept.release(case("a", "training"))
    assert workers.files == 2
    kept.release(case("b"))
    assert workers.files == 1
    kept.release(case("a"))
    assert workers.files == 0
    kept.expect(case("a"))
    assert len(workers.asked) == 2, "what was removed has to be evaluated again"


def test_a_failed_evaluation_is_remembered(kept: References, workers: Writing) -> None:
    """It leaves no file, takes no room, and is not tried again for the other direction."""
    workers.status = Status.FAILED
    kept.announce([case("a"), case("a", "training")])
    for direction in ("forward", "training"):
        assert kept.expect(case("a", direction))["status"] == Status.FAILED
        assert not kept.are_many
        kept.release(case("a", direction))
    assert len(workers.asked) == 1


def test_there_is_an_end_to_the_room(
    kept: References, workers: Writing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files may take so many bytes, and a share of what is free where that is less."""
    monkeypatch.setattr(references, "_MOST_BYTES", 2500)
    free = [10**9]
    monkeypatch.setattr(References, "_free_bytes", lambda self: free[0])
    assert not kept.are_many
    for number, full in enumerate([False, False, True]):
        kept.expect(case(str(number)))
        assert kept.are_many is full
    kept.release(case("0"))
    assert not kept.are_many
    free[0] = 5000
    assert kept.are_many
