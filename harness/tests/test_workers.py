"""Worker processes: a clean zygote, a protocol that pages cannot break, and no process left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness.bench.measure.channel import Channel
from harness.bench.measure.jobs import Job
from harness.bench.measure.lastwords import LastWords
from harness.bench.measure.processors import usable_processors
from harness.bench.measure.workers import ALLOCATORS, LOST, Worker, Workers, worker_environment
from harness.paper.errors import SameopError
from harness.paper.record import CaseId, Status
from harness.tests.projects import environment, implementation, make_project

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
        (zygote,) = (process for process in zygotes if "zygote" in command(process))
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


def command(process: int) -> str:
    """Return the command line of a process."""
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
        (zygote,) = (process for process in descendants(os.getpid()) if "zygote" in command(process))
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


@dataclass
class Told:
    """A process that ended as a test says."""

    code: int = 0
    is_lost: bool = False
    ends: list[bool] = field(default_factory=list)
    dismissed: int = 0

    def end(self, kill: bool, timeout: float) -> int:
        """End, and remember whether it had to be killed."""
        self.ends.append(kill)
        return self.code

    def dismiss(self) -> None:
        """End without being asked for a code."""
        self.dismissed += 1


def worker_of(process: Told, folder: Path, timeout: float = 5.0) -> tuple[Worker, Channel]:
    """Return a worker and the end of the channel at which it answers."""
    own, other = Channel.pair()
    words = LastWords(folder / "workers.log", ["/project/ops"])
    return Worker(own, process, words, timeout), Channel.of_descriptor(other.detach())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "Its process ended with exit code 0."),
        (7, "Its process ended with exit code 7."),
        (-11, "Its process ended with signal SIGSEGV."),
        (-9, "Its process ended with signal SIGKILL."),
        # A real-time signal has no name.
        (-40, "Its process ended with signal 40."),
    ],
)
def test_an_end_is_an_answer(tmp_path: Path, code: int, reason: str) -> None:
    """A process that ends in place of answering is told with its code, and asked nothing more."""
    process = Told(code)
    worker, other = worker_of(process, tmp_path)
    other.close()
    answer = worker.ask({"task": "turn"})
    assert (answer["status"], answer["reason"]) == (Status.CRASHED, reason)
    assert answer["seconds"] >= 0
    worker.close()
    assert (process.ends, process.dismissed) == ([False], 0)


def test_a_silent_worker_is_stopped(tmp_path: Path) -> None:
    """A worker that does not answer in time is killed, and the reason says after how long."""
    process = Told(-9)
    worker, other = worker_of(process, tmp_path, timeout=0.05)
    answer = worker.ask({"task": "turn"})
    assert (answer["status"], answer["reason"]) == (
        Status.TIMED_OUT,
        "It did not end within 0.05 s and was stopped.",
    )
    assert answer["seconds"] >= 0.05
    assert process.ends == [True]
    other.close()


@pytest.mark.parametrize("line", [b"I am here\n", b"{1: 2}\n", b"\xff\xfe\n", b"3\n", b"\n", b"[]\n"])
def test_a_page_that_writes_to_the_channel_costs_its_case_alone(tmp_path: Path, line: bytes) -> None:
    """What is no answer ends the worker with a reason, and is no error of the session."""
    process = Told(-9)
    own, other = Channel.pair()
    worker = Worker(own, process, LastWords(tmp_path / "workers.log", []), 5.0)
    with other:
        other.sendall(line)
        answer = worker.ask({"task": "turn"})
    assert (answer["status"], answer["reason"]) == (
        Status.FAILED,
        "It wrote to the channel on which its process answers.",
    )
    assert process.ends == [True]


def test_a_worker_that_is_done_is_dismissed_once(tmp_path: Path) -> None:
    """Nobody waits for the exit code of a worker that answered."""
    process = Told()
    worker, other = worker_of(process, tmp_path)
    other.send({"status": "measured"})
    assert worker.ask({"task": "turn"}) == {"status": "measured"}
    worker.close()
    worker.close()
    assert (process.ends, process.dismissed) == ([], 1)
    other.close()


def test_the_end_of_a_zygote_is_told_as_such(tmp_path: Path) -> None:
    """A worker whose zygote ended says so, and that it may be asked once more."""
    worker, other = worker_of(Told(-9, is_lost=True), tmp_path)
    other.close()
    answer = worker.ask({"task": "turn"})
    assert answer["status"] == Status.CRASHED
    assert answer["reason"] == "The process that its worker was forked from ended with signal SIGKILL."
    assert answer[LOST]


def test_variables_of_the_allocator_are_ours_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user's shell says about malloc does not reach a worker, pinned or not."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("KEPT", "yes")
    pinned, default = (worker_environment(3, allocator, tmp_path) for allocator in ALLOCATORS)
    for found in (pinned, default):
        assert "MALLOC_ARENA_MAX" not in found
        assert (found["KEPT"], found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"]) == ("yes", "3", "3")
        assert found["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))
    assert not any(name.startswith(("MALLOC_", "SAMEOP_ALLOCATOR")) for name in default)
    if sys.platform == "linux":
        assert pinned["SAMEOP_ALLOCATOR"] == "pinned"
        assert int(pinned["MALLOC_TRIM_THRESHOLD_"]) >= 2**40


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Give workers with two zygotes of the same pages."""
    project = make_project(
        tmp_path_factory.mktemp("lanes"),
        implementation("good", "return factor * x"),
        implementation("leaves", "print('farewell', flush=True)\nos._exit(3)", "import os"),
    )
    with Workers([project.page.parent], 1, 30.0, zygotes=2) as workers:
        workers.start()
        assert workers.run(job(workers, "expect"))["status"] == Status.MEASURED
        yield workers


def test_processes_of_two_interpreters_measure_in_turns(lanes: Workers) -> None:
    """Two workers live at once; each begins, takes turns when it is asked, and ends by itself."""
    turn = Job("turn", options={"mode": "hot", "calls": 3, "rewarm": True}).as_request()
    end = Job("end", options={"meters": False}).as_request()
    with lanes.hire("cpu", 0) as first, lanes.hire("cpu", 1) as second:
        begun = first.ask(job(lanes, "begin", "good").as_request())
        known = {"bits": begun["bits"], "level": begun["agreement"]["level"], "calls": begun["calls"]}
        later = second.ask(job(lanes, "begin", "good").with_options(**known).as_request())
        assert (begun["status"], later["status"]) == (Status.MEASURED, Status.MEASURED)
        # What one interpreter computed is what the other one does, so nothing is judged twice.
        assert begun["bits"] == later["bits"]
        assert later["agreement"]["evidence"] == {"same_bits_as": "in the first process"}
        assert later["calls"] == begun["calls"]
        for worker in (first, second, second, first):
            answer = worker.ask(turn)
            assert {block["calls"] for block in answer["blocks"]} == {3}
            assert all(block["seconds"] > 0 for block in answer["blocks"])
            assert answer["seconds"] >= sum(block["seconds"] for block in answer["blocks"])
        for worker, same_as in ((first, "before timing"), (second, "in the first process")):
            ended = worker.ask(end)
            assert ended["agreement"]["evidence"] == {"same_bits_as": same_as}
            assert ended["readings"] == {}


def test_lanes_are_counted_round(lanes: Workers) -> None:
    """More processes than zygotes share them: each lane writes the log of its own workers."""
    logs = [lanes.scratch / f"workers-{number}.log" for number in range(2)]
    sizes = [log.stat().st_size for log in logs]
    answer = lanes.run(job(lanes, "begin", "leaves"), lane=3)
    assert answer["reason"] == "Its process ended with exit code 3; it printed last: farewell"
    assert [log.stat().st_size - size for log, size in zip(logs, sizes, strict=True)] == [
        0,
        len("farewell\n"),
    ]


def test_answers_stand_in_the_order_of_the_jobs(lanes: Workers) -> None:
    """Several jobs at once, one of which crashes: each has its own answer."""
    names = ["good", "leaves", "reference", "leaves", "good"]
    answers = lanes.run_all([job(lanes, "begin", name) for name in names])
    statuses = [answer["status"] for answer in answers]
    crashed, fine = Status.CRASHED, Status.MEASURED
    assert statuses == [fine, crashed, fine, crashed, fine]
    assert answers[1]["reason"] == "Its process ended with exit code 3; it printed last: farewell"
    assert lanes.run_all([]) == []


def test_a_worker_stays_on_its_processors(lanes: Workers) -> None:
    """Processors and threads that a job names are those of its process, as it finds them itself."""
    last = max(usable_processors(), default=0)
    if not usable_processors():
        pytest.skip("this system keeps no process on some processors")
    placed = lanes.run(replace(job(lanes, "begin", "good"), cpus=(last,)))
    assert (placed["worker"]["cpus"], placed["worker"]["threads"]) == ([last], 1)
    free = lanes.run(job(lanes, "begin", "good"))
    assert tuple(free["worker"]["cpus"]) == usable_processors()
    assert free["worker"]["flush_denormal"]
    assert not free["worker"]["tf32"]
