"""A run that is killed or interrupted loses nothing that was finished, and goes on where it stopped."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.tests.projects import Project, implementation, make_project, records
from harness.tests.test_workers import descendants, wait_until_gone

CPU = ("--benchmark", "--bench-device=cpu")
NAMES = ("reference", "first", "slow", "last")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

# Slow while a file says so, so that a run can be caught in it and finished later.
SLOW = implementation(
    "slow",
    "time.sleep(60 if FLAG.exists() else 0)\nreturn x * factor",
    "import time\nfrom pathlib import Path\n\nFLAG = Path(__file__).parents[1] / 'slow.flag'",
)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project whose third case hangs for a minute while a flag stands."""
    (tmp_path / "slow.flag").touch()
    return make_project(
        tmp_path,
        implementation("first", "return factor * x"),
        SLOW,
        implementation("last", "return (x * factor) * 1"),
        claim=True,
    )


def wait_for_the_slow_case(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until everything before the slow case is recorded and a worker is busy with it."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if (folder / "records.jsonl").exists() and set(records(folder)) == {"reference", "first"}:
            time.sleep(1)
            return
        time.sleep(0.05)
    raise AssertionError(process.communicate()[0])


def lines(folder: Path) -> list[str]:
    """Return the lines of the records."""
    return (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()


def test_killed_run_is_resumed(project: Project) -> None:
    """After kill -9 no process is left, no finished case is lost or measured again, and the rest follows."""
    folder = project.root / "run"
    command = (*CPU, "--bench-run=run")
    with project.start(*command) as process:
        wait_for_the_slow_case(folder, process)
        second = project.pytest(*command)
        family = descendants(process.pid)
        process.kill()
        process.communicate()
    assert second.code == 4
    assert f"Another process is writing the run in {folder}: wait for it, or start a new run." in second.lines
    assert family, "no worker was found"
    assert not wait_until_gone(family)
    before = lines(folder)
    assert len(before) == 3, "a claim and two cases"
    with (folder / "records.jsonl").open("a", encoding="utf-8") as half:
        half.write('{"kind": "case", "half": ')

    (project.root / "slow.flag").unlink()
    done = project.pytest(*command)
    assert done.code == 0, done.out
    assert lines(folder)[:3] == before
    assert len(lines(folder)) == 5
    found = records(folder)
    assert tuple(found) == NAMES
    assert all(record["status"] == "measured" for record in found.values())
    told = [line for line in done.lines if line.endswith("(from an earlier session)") or "session) (" in line]
    assert len(told) == 3
    assert (folder / "index.html").exists()


def test_interrupted_run_says_how_to_go_on(project: Project) -> None:
    """Ctrl-C ends with 130, keeps the records, writes the page and prints the command that resumes."""
    strict = ("-q", "-W", "error", "--bench-operator=s*")
    with project.start(*CPU, *strict) as process:
        end = time.monotonic() + 60
        while not project.runs and time.monotonic() < end:
            time.sleep(0.05)
        (folder,) = project.runs
        wait_for_the_slow_case(folder, process)
        family = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert not wait_until_gone(family)
    assert set(records(folder)) == {"reference", "first"}
    assert (folder / "index.html").exists()
    told = output.splitlines()
    assert "exit 130: interrupted" in told
    (advice,) = (line for line in told if "To measure the rest: " in line)
    run = folder.relative_to(project.root)
    assert advice.startswith("2 of 4 cases have no record yet. To measure the rest: pytest ")
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
