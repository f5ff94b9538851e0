"""Worker processes: a clean zygote, a protocol that pages cannot break, and no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.bench.measure.lastwords import LastWords
from harness.bench.measure.jobs import Job
from harness.bench.measure.workers import Workers
from harness.paper.errors import SameopError
from harness.paper.record import CaseId, Status
from harness.tests.projects import environment, make_project

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def job(workers: Workers, task: str, implementation: str = "reference") -> Job:
    """Return a job about the operator ``scale``."""
    case = CaseId("scale", "core", implementation, "tiny/one", "float32", "cpu", "forward")
    options = {"warm_up_seconds": 0.01, "modes": ["hot"]} if task == "begin" else {}
    return Job(task, case, str(workers.expectation("a")), options=options)


def descendants(parent: int) -> set[int]:
    """Return the processes that a process has started, and those that these have."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        found = [int(number) for number in children.read_text(encoding="ascii").split()]
    except OSError:
        return set()
    return {*found, *(below for child in found for below in descendants(child))}


def alive(process: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def wait_until_gone(processes: set[int], seconds: float = 10.0) -> set[int]:
    """Wait for processes to end and return those that did not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, processes)):
        time.sleep(0.05)
    return {process for process in processes if alive(process)}


@linux_only
def test_zygote_is_clean_and_leaves_nothing(tmp_path: Path) -> None:
    """It has one thread, so a fork is safe; closing ends it and removes the scratch folder."""
    project = make_project(tmp_path)
    with Workers([project.page.parent], 1, 30.0) as workers:
        workers.start()
        zygotes = descendants(os.getpid())
        (zygote,) = (process for process in zygotes if "zygote" in _command(process))
        assert len(list(Path(f"/proc/{zygote}/task").iterdir())) == 1
        first = workers.run(job(workers, "expect"))
        second = workers.run(job(workers, "begin"))
        assert (first["status"], second["status"]) == (Status.MEASURED, Status.MEASURED)
        assert not wait_until_gone(descendants(os.getpid()) - zygotes), "a worker outlived its job"
        assert alive(zygote)
        scratch = workers.scratch
        assert scratch.is_dir()
    assert not wait_until_gone({zygote})
    assert not scratch.exists()


def _command(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@linux_only
def test_workers_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    """A parent that has no time for farewells takes its zygote and its worker with it."""
    project = make_project(tmp_path)
    page = project.page.read_text(encoding="utf-8")
    slow = page.replace("    return x * factor\n", "    import time\n    time.sleep(60)\n", 1)
    project.page.write_text(slow, encoding="utf-8")
    program = f"""
import sys
from pathlib import Path
from harness.bench.measure.workers import Workers
from harness.tests.test_workers import job
workers = Workers([Path({str(project.page.parent)!r})], 1, 100.0)
workers.start()
print("started", flush=True)
workers.run(job(workers, "expect"))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment()
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        end = time.monotonic() + 30
        while len(family := descendants(parent.pid)) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        assert len(family) == 2, "a zygote and a worker"
        parent.kill()
    assert not wait_until_gone(family)


def test_page_with_threads_is_served_by_fresh_processes(tmp_path: Path) -> None:
    """A page that starts a thread when it is imported makes forks unsafe, so nothing is forked."""
    project = make_project(tmp_path)
    with project.page.open("a", encoding="utf-8") as page:
        page.write(
            "\nimport os, threading, time\n"
            "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
            "print('loaded in', os.getpid(), flush=True)\n"
        )
    with Workers([project.page.parent], 1, 30.0) as workers:
        assert workers.run(job(workers, "expect"))["status"] == Status.MEASURED
        told = (workers.scratch / "workers-0.log").read_text(encoding="utf-8")
    loaded = [line for line in told.splitlines() if line.startswith("loaded in")]
    assert len(set(loaded)) == 2, "the zygote, and one process for the job"


def test_page_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    """A page that breaks in the worker alone is told like one that breaks in the parent."""
    project = make_project(tmp_path)
    project.page.write_text("1 / 0\n", encoding="utf-8")
    with Workers([project.page.parent], 1, 30.0) as workers, pytest.raises(SameopError) as caught:
        workers.start()
    assert str(caught.value) == (
        f"No worker process could be started: The page {project.page}:1 cannot be imported "
        "(ZeroDivisionError: division by zero)."
    )


def test_page_that_ends_the_process_is_one_sentence(tmp_path: Path) -> None:
    """Where the process itself ends, its last words stand in for a reason."""
    project = make_project(tmp_path)
    project.page.write_text("import os\nprint('farewell', flush=True)\nos._exit(9)\n", encoding="utf-8")
    with Workers([project.page.parent], 1, 30.0) as workers, pytest.raises(SameopError) as caught:
        workers.start()
    assert str(caught.value) == "No worker process could be started: farewell"


@linux_only
def test_zygote_that_was_killed_is_replaced(tmp_path: Path) -> None:
    """The out-of-memory killer may take the zygote between two jobs; the next one starts another."""
    project = make_project(tmp_path)
    with Workers([project.page.parent], 1, 30.0) as workers:
        workers.start()
        (zygote,) = (process for process in descendants(os.getpid()) if "zygote" in _command(process))
        os.kill(zygote, 9)
        assert not wait_until_gone({zygote})
        assert workers.run(job(workers, "expect"))["status"] == Status.MEASURED


LOG = """\
an earlier job said this
--mark--
Fatal Python error: Segmentation fault

Current thread 0x00007f (most recent call first):
  File "/usr/lib/python3/ctypes/__init__.py", line 517 in string_at
  File "/project/ops/page.py", line 12 in broken
  File "/elsewhere/worker.py", line 3 in run

Extension modules: numpy._core (total: 1)
"""


def test_last_words_name_the_line_of_the_page(tmp_path: Path) -> None:
    """Of a dump only the page's innermost line is told; what earlier jobs printed is not."""
    words = LastWords(tmp_path / "workers.log", ["/project/ops"])
    before, after = LOG.split("--mark--\n")
    words.path.write_text(before, encoding="utf-8")
    words.mark()
    assert words.told() == "."
    words.path.write_text(before + after, encoding="utf-8")
    assert words.told() == " at page.py:12."


def test_last_words_are_short_and_need_no_file(tmp_path: Path) -> None:
    """The last printed line is told, cut to what a table can hold; a silent process says nothing."""
    words = LastWords(tmp_path / "workers.log", ["/project/ops"])
    words.mark()
    assert words.told() == "."
    words.path.write_text("first\n" + "x" * 1000 + "\n\n", encoding="utf-8")
    assert words.told() == "; it printed last: " + "x" * 300
