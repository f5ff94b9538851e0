"""A disk that fills up while records are written ends a run in one sentence and costs no record."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from harness.paper.store import read_run
from harness.tests.projects import PAGE, Done, Project, implementation, make_project, run
from harness.tests.test_faults import lines, statuses
from harness.tests.test_workers import descendants, wait_until_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")

CPU = ("--benchmark", "--bench-device=cpu", "--bench-processes=1", "--bench-run=run")
FIRST_GROUP = {f"scale/core/{name}/tiny-one/float32/cpu/forward" for name in ("reference", "first")}
SECOND_GROUP = {f"twice/core/{name}/tiny-one/float32/cpu/forward" for name in ("reference", "slow", "last")}

# Waits in its first call while a file says so.
SLOW = implementation(
    "slow",
    """
    if FLAG.exists():
        (FLAG.parent / "caught").touch()
    while FLAG.exists():
        time.sleep(0.05)
    return x * factor
    """,
    """
    import time
    from pathlib import Path

    FLAG = Path(__file__).parents[1] / "slow.flag"
    """,
)


def limit_files(process: int, size: int) -> None:
    """Let a process write no file beyond a size, as if the disk were full there."""
    import resource

    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))


def fill_up(project: Project, room: float) -> tuple[Done, set[int], list[str]]:
    """Run until the first group is written, leave room for so many records more, and go on."""
    records = project.root / "run" / "records.jsonl"
    (project.root / "slow.flag").touch()
    with project.start(*CPU) as process:
        end = time.monotonic() + 90
        while not (project.root / "caught").exists() and time.monotonic() < end and process.poll() is None:
            time.sleep(0.05)
        family, before = descendants(process.pid), lines(records.parent)
        longest = max(len(line.encode()) for line in before)
        limit_files(process.pid, records.stat().st_size + int(room * longest))
        (project.root / "slow.flag").unlink()
        output, _ = process.communicate(timeout=120)
    return Done(process.returncode, output, ""), family, before


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with two groups, the second of which waits while a flag stands."""
    project = make_project(tmp_path, implementation("first", "return factor * x"))
    second = PAGE.replace('"scale"', '"twice"') + SLOW + implementation("last", "return (x * factor) * 1")
    (project.root / "ops" / "twice.py").write_text(second, encoding="utf-8")
    return project


@pytest.mark.parametrize("records", [1])
def test_full_disk_ends_a_run_that_can_go_on(records: int, project: Project) -> None:
    """What was recorded stays whole, nothing is measured in vain, and there is one sentence and no trace.

    records: how many of the second group the disk still takes before it tears one.
    """
    folder = project.root / "run"
    done, family, before = fill_up(project, records + 0.5)
    kept = lines(folder)
    refusal = (
        f"The run in {folder} can no longer be written (File too large): make room, then name it with "
        "--bench-run to go on."
    )
    assert (done.code, done.lines.count(refusal)) == (4, 1), done.out
    assert "Traceback" not in done.out
    assert "No benchmark.json was written: there is no room." in done.lines
    # The page may have found room beside the records; nothing is there by halves.
    assert {path.name for path in folder.iterdir()} - {"index.html"} == {"run.json", "records.jsonl"}
    assert family, "no worker was found"
    assert not wait_until_gone(family)
    assert kept[: len(before)] == before
    assert read_run(folder).damage == []
    assert set(statuses(folder)) >= FIRST_GROUP
    assert len(statuses(folder)) == len(FIRST_GROUP) + records
    wanted = f"{3 - records} of 5 cases have no record yet. To measure the rest: pytest "
    (advice,) = (line for line in done.lines if line.startswith(wanted))

    again = run(project.root, project.command()[:3] + shlex.split(advice.partition(": pytest ")[2]))
    assert again.code == 0, again.out
    assert lines(folder)[: len(kept)] == kept
    assert statuses(folder) == dict.fromkeys(FIRST_GROUP | SECOND_GROUP, "measured")
    cases = [line for line in lines(folder) if json.loads(line)["kind"] == "case"]
    assert len(cases) == 5, "a case was measured twice"
    assert (folder / "index.html").exists()
    assert (folder / "benchmark.json").exists()
