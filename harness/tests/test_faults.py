"""A run that is killed or interrupted loses nothing that was finished, and goes on where it stopped."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.paper.store import read_run
from harness.tests.projects import PAGE, Project, implementation, make_project
from harness.tests.test_workers import descendants, wait_until_gone

# One process a case: what is tested here is who survives, and interpreters take seconds to start.
CPU = ("--benchmark", "--bench-device=cpu", "--bench-processes=1")
FIRST_GROUP = {f"scale/core/{name}/tiny-one/float32/cpu/forward" for name in ("reference", "first")}
SECOND_GROUP = {f"twice/core/{name}/tiny-one/float32/cpu/forward" for name in ("reference", "slow", "last")}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

# Slow while a file says so, so that a run can be caught in a turn of it and finished later.
SLOW = implementation(
    "slow",
    """
    if FLAG.exists() and is_timed():
        (FLAG.parent / "caught").touch()
        time.sleep(60)
    return x * factor
    """,
    """
    import sys
    import time
    from pathlib import Path

    FLAG = Path(__file__).parents[1] / "slow.flag"


    def is_timed():
        frame = sys._getframe()
        while frame is not None and frame.f_code.co_name != "take_turn":
            frame = frame.f_back
        return frame is not None
    """,
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project with two groups, the second of which hangs in its turns while a flag stands."""
    (tmp_path / "slow.flag").touch()
    project = make_project(tmp_path, implementation("first", "return factor * x"), claim=True)
    second = PAGE.replace('"scale"', '"twice"') + SLOW + implementation("last", "return (x * factor) * 1")
    (project.root / "ops" / "twice.py").write_text(second, encoding="utf-8")
    return project


def wait_for_the_slow_case(project: Project, process: subprocess.Popen[str]) -> None:
    """Wait until the first group is recorded and a worker is in a turn of the slow case."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if (project.root / "caught").exists():
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[0])


def lines(folder: Path) -> list[str]:
    """Return the lines of the records."""
    return (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()


def statuses(folder: Path) -> dict[str, str]:
    """Return the status of every case that is recorded."""
    return {str(case): record.status for case, record in read_run(folder).latest.items()}


def test_killed_run_is_resumed(project: Project) -> None:
    """After kill -9 no process is left, no finished case is lost or measured again, and the rest follows."""
    folder = project.root / "run"
    command = (*CPU, "--bench-run=run")
    with project.start(*command) as process:
        wait_for_the_slow_case(project, process)
        second = project.pytest(*command)
        family = descendants(process.pid)
        process.kill()
        process.communicate()
    assert second.code == 4
    assert f"Another process is writing the run in {folder}: wait for it, or start a new run." in second.lines
    assert family, "no worker was found"
    assert not wait_until_gone(family)
    before = lines(folder)
    assert set(statuses(folder)) == FIRST_GROUP
    with (folder / "records.jsonl").open("a", encoding="utf-8") as half:
        half.write('{"kind": "case", "half": ')

    (project.root / "slow.flag").unlink()
    done = project.pytest(*command)
    assert done.code == 0, done.out
    assert lines(folder)[: len(before)] == before
    assert statuses(folder) == dict.fromkeys(FIRST_GROUP | SECOND_GROUP, "measured")
    cases = [line for line in lines(folder) if json.loads(line)["kind"] == "case"]
    assert len(cases) == 5, "a case was measured twice"
    told = [line for line in done.lines if line.endswith("(from an earlier session)") or "session) (" in line]
    assert len(told) == 3, "a claim and two cases"
    assert (folder / "index.html").exists()


def test_interrupted_run_says_how_to_go_on(project: Project) -> None:
    """Ctrl-C in a turn ends with 130; finished groups are kept, of the one under way nothing is written."""
    strict = ("-q", "-W", "error", "--bench-operator=*")
    with project.start(*CPU, *strict) as process:
        wait_for_the_slow_case(project, process)
        (folder,) = project.runs
        family = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert family, "no worker was found"
    assert not wait_until_gone(family)
    assert set(statuses(folder)) == FIRST_GROUP
    assert (folder / "index.html").exists()
    told = output.splitlines()
    assert "exit 130: interrupted" in told
    (advice,) = (line for line in told if "To measure the rest: " in line)
    run = folder.relative_to(project.root)
    assert advice.startswith("3 of 5 cases have no record yet. To measure the rest: pytest ")
    arguments = shlex.split(advice.partition(": pytest ")[2])
    assert arguments == [*project.command()[3:], *CPU, *strict, f"--bench-run={run}"]
    assert "Traceback" not in output
    assert "Warning" not in output


def test_arguments_of_the_resuming_command() -> None:
    """The command that resumes names the run once, however it was named before."""
    from harness.doors.bench import _without_run

    wanted = ["--benchmark", "cases"]
    assert _without_run(["--benchmark", "--bench-run=a", "cases"]) == wanted
    assert _without_run(["--benchmark", "--bench-run", "a", "cases"]) == wanted
    assert _without_run(wanted) == wanted
