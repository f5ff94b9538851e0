"""Whatever an operator does, it costs its own case alone."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from harness.bench.case import Case, Selection, plan_cases
from harness.bench.catalog import Catalogue, load_catalogue
from harness.bench.machine import usable_cpus
from harness.bench.measure.jobs import Job
from harness.bench.measure.pace import Pace
from harness.bench.measure.session import Session
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Workers
from harness.paper.record import Record, Status
from harness.tests.projects import Project, implementation, make_project
from harness.tests.test_workers import command, descendants, linux_only, wait_until_gone

# Long enough for every honest job here, short enough to wait for.
TIMEOUT_SECONDS = 8.0

# Stands once above all faults. A body that asks whether it is timed is sound wherever it is judged.
BEFORE = """
import ctypes
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

calls = 0


def is_timed():
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "take_turn":
        frame = frame.f_back
    return frame is not None


def is_first(name):
    try:
        (Path(__file__).parent / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def count():
    global calls
    calls += 1
    return calls
"""

# Name, status, body; the sentences stand below.
FAULTS = {
    "before": (Status.MEASURED, "return factor * x"),
    # What ends a process, at once or in a turn.
    "segfault": (Status.CRASHED, "ctypes.string_at(0)"),
    "abort": (Status.CRASHED, "os.abort()"),
    "quits": (Status.CRASHED, "print('I am leaving')\nsys.stdout.flush()\nos._exit(7)"),
    "slips": (Status.CRASHED, "if is_timed():\n    os._exit(0)\nreturn x * factor"),
    "killed": (
        Status.CRASHED,
        "if is_timed():\n    subprocess.run(['kill', '-9', str(os.getpid())])\nreturn x * factor",
    ),
    "once": (
        Status.CRASHED,
        "if count() == 1 and not is_first('once'):\n    os.abort()\nreturn x * factor",
    ),
    "closes": (Status.CRASHED, "if is_timed():\n    os.closerange(0, 1000)\nreturn x * factor"),
    "endless": (Status.TIMED_OUT, "while True: pass"),
    # What an exception tells.
    "leaves": (Status.FAILED, "sys.exit(3)"),
    "leaves_later": (Status.FAILED, "if is_timed():\n    sys.exit('enough')\nreturn x * factor"),
    "raises": (Status.FAILED, 'raise ValueError("this way is closed")'),
    "interrupts": (Status.FAILED, "raise KeyboardInterrupt"),
    "recurses": (Status.FAILED, "return recurses(x, factor)"),
    "reads": (Status.FAILED, "return x * factor + float(input())"),
    # A pebibyte: no machine has it and no kernel promises it, so nothing is ever touched.
    "greedy": (Status.OUT_OF_MEMORY, "return torch.empty(2**50, dtype=torch.uint8) * x"),
    # What it returns.
    "undefined": (Status.DISAGREED, "return x * factor * float('nan')"),
    "infinite": (Status.DISAGREED, "return x * factor / 0"),
    "late": (Status.DISAGREED, "return x * factor + (count() > 40)"),
    "second": (
        Status.DISAGREED,
        "global calls\nif not calls:\n    calls = 1 if is_first('second') else 2\n"
        "return x * factor + (calls == 2)",
    ),
    "spoils": (Status.DISAGREED, "if is_timed():\n    x.fill_(0)\nreturn x * factor"),
    "third": (Status.NONDETERMINISTIC, "return x * factor + (count() == 3)"),
    "dropout": (Status.NONDETERMINISTIC, "return torch.nn.functional.dropout(x * factor, 0.5)"),
    # What it does to its process.
    "threads": (Status.FAILED, "torch.set_num_threads(2)\nreturn x * factor"),
    "dtype": (Status.FAILED, "torch.set_default_dtype(torch.float64)\nreturn x * factor"),
    "gradless": (Status.FAILED, "torch.set_grad_enabled(False)\nreturn x * factor"),
    "forks_and_dies": (
        Status.CRASHED,
        "if count() == 1 and os.fork() == 0:\n    time.sleep(1000)\nif calls == 5:\n    os.abort()\n"
        "return x * factor",
    ),
    "starts_and_dies": (
        Status.CRASHED,
        "if count() == 1:\n    os.system('sleep 1000 &')\nif calls == 5:\n    os.abort()\nreturn x * factor",
    ),
    "forks": (
        Status.MEASURED,
        "if count() == 1 and os.fork() == 0:\n    time.sleep(1000)\nreturn x * factor",
    ),
    "doubles": (Status.MEASURED, "if count() == 1:\n    os.fork()\nreturn x * factor"),
    "daemon": (
        Status.MEASURED,
        "if count() == 1:\n    subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
        "return x * factor",
    ),
    "thread": (
        Status.MEASURED,
        "if count() == 1:\n    threading.Thread(target=time.sleep, args=(1000,)).start()\nreturn x * factor",
    ),
    "prints": (
        Status.MEASURED,
        'print(\'{"ended": 0}\', flush=True)\nprint(\'{"status": "failed"}\', file=sys.__stderr__)\n'
        "return x * factor",
    ),
    "collector": (Status.MEASURED, "gc.disable()\nreturn x * factor"),
    "seeds": (Status.MEASURED, "torch.manual_seed(0)\nrandom.seed(0)\nreturn x * factor"),
    "handlers": (
        Status.MEASURED,
        "for name in ('SIGINT', 'SIGTERM', 'SIGCHLD', 'SIGALRM'):\n"
        "    signal.signal(getattr(signal, name), signal.SIG_IGN)\nreturn x * factor",
    ),
    "moves": (Status.MEASURED, "os.chdir('/')\nos.environ.clear()\nreturn x * factor"),
    # Products of the whole part and of the fraction: the same numbers but for rounding.
    "rounding": (
        Status.MEASURED,
        "return x * factor if count() % 2 else x.trunc() * factor + x.frac() * factor",
    ),
    "after": (Status.MEASURED, "return factor * x"),
}

LATER = "(in process 2, the earlier ones were sound)"
CHANGED = ", which decides what else is computed in its process: a page has to leave that as it is, or "
REASONS = {
    "segfault": "Its process ended with signal SIGSEGV at scale.py:{line}.",
    "abort": "Its process ended with signal SIGABRT at scale.py:{line}.",
    "quits": "Its process ended with exit code 7; it printed last: I am leaving",
    "slips": "Its process ended with exit code 0.",
    "killed": "Its process ended with signal SIGKILL.",
    "once": "Its process ended with signal SIGABRT at scale.py:{next}. " + LATER,
    "closes": "Its process ended with exit code 1.",
    "endless": "It did not end within 8 s and was stopped.",
    "leaves": "It called sys.exit(3).",
    "leaves_later": "It called sys.exit('enough').",
    "raises": "It raised ValueError at scale.py:{line}: this way is closed",
    "interrupts": "It raised KeyboardInterrupt at scale.py:{line}: no message",
    "recurses": "It raised RecursionError at scale.py:{line}: maximum recursion depth exceeded",
    "reads": "It raised EOFError at scale.py:{line}: EOF when reading a line",
    "greedy": "It ran out of memory at scale.py:{line}: ",
    "undefined": (
        "It disagrees with the reference before timing: output[0, 0] is nan, the reference has {value}: "
        "the error is inf"
    ),
    "infinite": "It disagrees with the reference before timing: output[0, 0] is inf, the reference has ",
    "late": "It disagrees with the reference after timing: ",
    "second": "It disagrees with the reference before timing: ",
    "spoils": "It disagrees with the reference after timing: called as it is timed, ",
    "third": "It is not deterministic: two calls on the same inputs differ by up to 1, which rounding ",
    "dropout": "It is not deterministic: two calls on the same inputs differ by up to ",
    "threads": "It changed the number of threads from 1 to 2" + CHANGED,
    "dtype": "It changed the default dtype from torch.float32 to torch.float64" + CHANGED,
    "gradless": "It changed whether gradients are recorded from True to False" + CHANGED,
    "forks_and_dies": "Its process ended with signal SIGABRT at scale.py:",
    "starts_and_dies": "Its process ended with signal SIGABRT at scale.py:",
}


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Every fault in one page, with sound implementations before and after them."""
    pages = [implementation(name, body) for name, (_, body) in FAULTS.items()]
    project = make_project(tmp_path_factory.mktemp("faults"), BEFORE, *pages)
    return load_catalogue([project.page.parent])


@pytest.fixture(scope="module")
def workers(catalogue: Catalogue) -> Iterator[Workers]:
    """Workers with little patience."""
    with Workers([catalogue.sources[0].parent], 1, TIMEOUT_SECONDS, zygotes=2) as workers:
        yield workers


def hasty(workers: Workers, cases: int) -> Session:
    """Return a session that takes few and short samples."""
    settings = replace(Settings.of("quick"), processes=(2, 2), warm_up_seconds=0.01, sample_seconds=0.01)
    return Session(workers, settings, Pace(None, 1.0, cases))


class Kept:
    """Keeps the records of a session, and how it came to them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.steps: list[tuple[str, int]] = []
        self.groups: list[tuple[str, float]] = []
        self.seconds = 0.0

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Remember a step."""
        self.steps.append((str(case.id.group), replicates))
        self.seconds += seconds

    def keep(self, records: Sequence[Record], seconds: float) -> None:
        """Remember what is done."""
        self.records += records
        self.groups.append((str(records[0].case.group), seconds))


def measure(session: Session, *groups: Sequence[Case]) -> list[Record]:
    """Return the records of a stretch."""
    kept = Kept()
    session.measure(groups, kept)
    return kept.records


@pytest.fixture(scope="module")
def measured(catalogue: Catalogue, workers: Workers) -> dict[str, Record]:
    """Measure every case in one group, in the order of the page."""
    cases = plan_cases(catalogue, Selection(device="cpu")).cases
    records = measure(hasty(workers, len(cases)), cases)
    return {record.case.implementation: record for record in records}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_costs_its_case_alone(name: str, measured: dict[str, Record]) -> None:
    """A crash, a hang, an exit, an exception, a NaN: each is a status, and never a number."""
    record = measured[name]
    assert (record.status, record.reason) == (FAULTS[name][0], record.reason)
    latency = record.readings.get("latency")
    if record.status == Status.MEASURED:
        assert latency is not None
        assert latency.value is not None
    else:
        assert latency is None or latency.value is None


@pytest.mark.parametrize("name", REASONS)
def test_reason_is_one_sentence(name: str, measured: dict[str, Record], catalogue: Catalogue) -> None:
    """The record says in one sentence what happened and at which line of the page."""
    reason = measured[name].reason or ""
    page = next(path for path in catalogue.sources if path.name == "scale.py").read_text(encoding="utf-8")
    first = page[: page.index(f"def {name}(")].count("\n") + 2
    value = reason.partition("the reference has ")[2].partition(":")[0]
    assert reason.startswith(REASONS[name].format(line=first, next=first + 1, value=value))
    assert "\n" not in reason


def test_a_fault_of_a_later_process_is_told_as_such(measured: dict[str, Record]) -> None:
    """What the first process did not show is a fault all the same, and the record says which showed it."""
    assert (measured["second"].reason or "").endswith(LATER)


def test_rounding_may_differ_from_call_to_call(measured: dict[str, Record]) -> None:
    """A result that changes within rounding is measured, and its record says that it changes."""
    latency = {name: measured[name].readings["latency"] for name in ("rounding", "before")}
    assert not latency["rounding"].facts["deterministic"]
    assert latency["before"].facts["deterministic"]


def test_neighbours_keep_their_numbers(measured: dict[str, Record]) -> None:
    """Before and after all faults the same program has the same time, from as many processes."""
    first, last = (measured[name].readings["latency"] for name in ("before", "after"))
    assert first.value
    assert last.value
    assert 0.5 < first.value / last.value < 2
    assert len(first.facts["processes"]) == len(last.facts["processes"]) == 2
    assert measured["before"].readings.keys() == measured["after"].readings.keys()


@linux_only
def test_no_process_is_left_behind(measured: dict[str, Record], workers: Workers) -> None:
    """What a page forks or starts ends with its worker, also where it hides in a session of its own."""
    # A worker that is just ending has the command of its zygote.
    children = Path("/proc/self/task", str(os.getpid()), "children").read_text(encoding="ascii").split()
    zygotes = {int(process) for process in children if "zygote" in command(int(process))}
    assert len(zygotes) == 2
    assert not wait_until_gone(hired(workers) - zygotes)


def hired(workers: Workers) -> set[int]:
    """Return the processes whose environment names the scratch folder of these workers."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        # Processes come and go, and some belong to others.
        with contextlib.suppress(OSError):
            if os.fsencode(workers.scratch) in (folder / "environ").read_bytes():
                found.add(int(folder.name))
    return found


def test_reference_is_unharmed(measured: dict[str, Record]) -> None:
    """The sound case of the same page is measured with every meter that works here."""
    record = measured["reference"]
    assert record.status == Status.MEASURED
    assert record.readings["memory"].value is not None
    assert record.readings["macs"].value == 24
    assert (record.readings["energy"].value is None) == bool(record.readings["energy"].reason)
    assert record.worker["threads"] == 1


@pytest.mark.parametrize("name", [*FAULTS, "reference"])
def test_every_record_can_be_written(name: str, measured: dict[str, Record]) -> None:
    """A record is strict JSON, also where an error is infinite."""
    line = json.dumps(measured[name].as_json(), allow_nan=False, default=str)
    assert Record.from_json(json.loads(line)).status == measured[name].status


def test_a_broken_reference_costs_its_group(tmp_path: Path) -> None:
    """Without a reference nothing is measured against it, and each case says so."""
    project = make_project(tmp_path, implementation("good", "return x * factor"))
    page = project.page.read_text(encoding="utf-8")
    broken = page.replace("    return x * factor\n", "    raise ValueError('nothing here')\n", 1)
    project.page.write_text(broken, encoding="utf-8")
    catalogue = load_catalogue([project.page.parent])
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        cases: list[Case] = plan_cases(catalogue, Selection(device="cpu")).cases
        found = measure(hasty(workers, len(cases)), cases)
    assert [record.status for record in found] == [Status.FAILED, Status.FAILED]
    assert found[1].reason == (
        "Its reference could not be evaluated. It raised ValueError at scale.py:11: nothing here"
    )


PARRICIDES = {
    "orphan": "if is_timed():\n    os.kill(os.getppid(), 9)\nreturn x * factor",
    "purge": "if is_timed():\n    os.kill(0, 9)\nreturn x * factor",
    "early": "os.kill(os.getppid(), 9)\nreturn x * factor",
}


@linux_only
def test_who_ends_its_zygote_ends_alone(tmp_path: Path) -> None:
    """Workers that end with their zygote are measured again, one by one, but the one that ended it."""
    sound = [implementation(name, "return factor * x") for name in ("before", "after")]
    pages = [implementation(name, body) for name, body in PARRICIDES.items()]
    project = make_project(tmp_path, BEFORE, sound[0], *pages, sound[1])
    catalogue = load_catalogue([project.page.parent])
    cases = plan_cases(catalogue, Selection(device="cpu")).cases
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        found = {record.case.implementation: record for record in measure(hasty(workers, len(cases)), cases)}
        assert not wait_until_gone(hired(workers) - descendants(os.getpid()))
    for name in ("reference", "before", "after"):
        assert found[name].status == Status.MEASURED, found[name].reason
        assert len(found[name].readings["latency"].facts["processes"]) == 2
    for name in PARRICIDES:
        assert found[name].status == Status.CRASHED
        assert found[name].reason == "The process that its worker was forked from ended with signal SIGKILL."


@linux_only
@pytest.mark.parametrize("when", ["between turns", "in a turn"])
def test_zygote_that_is_killed_costs_nobody_a_number(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the out-of-memory killer takes the zygote, all of its workers are measured again."""
    body = """
        if is_timed():
            (Path(__file__).parent / "caught").touch()
            time.sleep(0.02)
        return x * factor
        """
    project = make_project(tmp_path, BEFORE, implementation("slow", body))
    catalogue = load_catalogue([project.page.parent])
    cases = plan_cases(catalogue, Selection(device="cpu")).cases
    killed: list[int] = []
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        if when == "between turns":
            shuffle = random.Random.shuffle

            def kill_and_shuffle(generator: random.Random, turns: list[Any]) -> None:
                if not killed:
                    killed.append(kill_zygote())
                shuffle(generator, turns)

            # Every round of turns begins with an order.
            monkeypatch.setattr(random.Random, "shuffle", kill_and_shuffle)
        else:
            killer = threading.Thread(
                target=kill_zygote_after, args=(project.page.with_name("caught"), killed)
            )
            killer.start()
        found = measure(hasty(workers, len(cases)), cases)
    assert len(killed) == 1
    assert [(record.status, record.reason) for record in found] == [(Status.MEASURED, None)] * 2


def kill_zygote_after(path: Path, killed: list[int]) -> None:
    """Kill a zygote as soon as there is a file."""
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.005)
    killed.append(kill_zygote())


def kill_zygote() -> int:
    """Kill the zygote that has a worker, or any where none has."""
    zygotes = [process for process in descendants(os.getpid()) if "zygote" in command(process)]
    busy = [process for process in zygotes if descendants(process)]
    os.kill((busy or zygotes)[0], signal.SIGKILL)
    return (busy or zygotes)[0]


class Counting:
    """Workers that only write down what they are asked to do."""

    at_once = 2

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, list[Job]()

    def expectation(self, group: str) -> Path:
        """Return the file of a group."""
        return self.folder / group

    def run_all(self, jobs: Sequence[Job]) -> list[dict[str, object]]:
        """Do nothing, in a way that ends the group."""
        self.asked += jobs
        for job in jobs:
            Path(job.expected).touch()
        return [{"status": Status.FAILED, "reason": "Nothing was done.", "seconds": 0.0} for _ in jobs]


def test_directions_share_one_evaluation_of_the_reference(tmp_path: Path) -> None:
    """What training needs is computed with what forward needs: once, and kept until both are measured."""
    project = make_project(tmp_path)
    catalogue = load_catalogue([project.page.parent])
    forward, training = plan_cases(catalogue, Selection(preset="standard", device="cpu")).cases
    workers = Counting(tmp_path)
    session = Session(cast(Workers, workers), Settings.of("quick"), Pace(None, 1.0, 2))
    kept = Kept()
    kept.keep = lambda records, seconds: left.append(Path(workers.asked[0].expected).exists())  # type: ignore[method-assign]
    left: list[bool] = []
    session.measure([[forward], [training]], kept)
    assert left == [True, False]
    assert len(workers.asked) == 1


def planned(folder: Path, *operators: str) -> tuple[Project, list[list[Case]]]:
    """Return a project with a page for every operator, and its groups."""
    project = make_project(folder, implementation("other", "return factor * x"))
    page = project.page.read_text(encoding="utf-8")
    project.page.unlink()
    for operator in operators:
        text = page.replace('"scale"', f'"{operator}"')
        (project.page.parent / f"{operator}.py").write_text(text, encoding="utf-8")
    groups: dict[str, list[Case]] = {}
    for case in plan_cases(load_catalogue([project.page.parent]), Selection(device="cpu")).cases:
        groups.setdefault(case.scope.operator.name, []).append(case)
    return project, [groups[operator] for operator in operators]


def test_a_stretch_spreads_the_processes_of_a_case(tmp_path: Path) -> None:
    """Between two processes of a case the other groups have theirs; a group is kept as soon as it is done."""
    project, groups = planned(tmp_path, "one", "two", "three")
    kept = Kept()
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS, zygotes=2) as workers:
        session = hasty(workers, 6)
        session.settings = replace(session.settings, processes=(3, 3))
        session.measure(groups, kept)
    names = [(name.partition("/")[0], replicates) for name, replicates in kept.steps]
    # A step more, in which its records were made.
    passes = [
        names[:3],
        [step for step in names if step[1] == 2],
        [step for step in names[6:] if step[1] == 3],
    ]
    assert passes[0] == [("one", 1), ("two", 1), ("three", 1)]
    assert names[3:6] == passes[1]
    assert sorted(passes[1]) == [("one", 2), ("three", 2), ("two", 2)]
    assert sorted(passes[2]) == sorted([("one", 3), ("three", 3), ("two", 3)] * 2)
    assert sum(seconds for _, seconds in kept.groups) == pytest.approx(kept.seconds)
    assert [record.status for record in kept.records] == [Status.MEASURED] * 6
    for record in kept.records:
        facts = record.readings["latency"].facts
        assert len(facts["processes"]) == 3
        assert 0 < facts["first_to_last_process_seconds"] < kept.seconds
        assert ("paired" in facts) == (record.case.implementation == "other")
    assert not list(workers.scratch.glob("*.expected"))


@pytest.mark.skipif(usable_cpus() < 2, reason="needs two processors")
def test_other_numbers_of_threads_go_through_the_same_passes(tmp_path: Path) -> None:
    """Every pass times a case at all numbers of threads, so that their ratio is that of one time."""
    project, groups = planned(tmp_path, "one", "two")
    kept = Kept()
    with Workers([project.page.parent], usable_cpus(), TIMEOUT_SECONDS, zygotes=2) as workers:
        session = hasty(workers, 4)
        session.settings = replace(session.settings, scaling="on")
        session.measure(groups, kept)
    assert [replicates for _, replicates in kept.steps[:2]] == [1, 1]
    for record in kept.records:
        found = record.readings["latency_all_threads"]
        assert found.value
        assert (found.facts["threads"], len(found.facts["processes"])) == (usable_cpus(), 2)
        assert found.facts["scaling"]["1"] == record.readings["latency"].value
        assert found.facts["first_to_last_process_seconds"] > 0


def test_a_stretch_ends_after_its_time(tmp_path: Path) -> None:
    """As many groups make a stretch as are expected to fill its time, and one at least."""
    project, groups = planned(tmp_path, "one", "two", "three")
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        for seconds, wanted in ((0.0, 1), (6.0, 2)):
            session, kept = hasty(workers, 6), Kept()
            session.settings = replace(session.settings, processes=(1, 1), stretch_seconds=seconds)
            session.pace.whole = 2.0
            session.measure(groups, kept)
            assert len(kept.groups) == wanted


def test_ctrl_c_keeps_what_has_the_least(tmp_path: Path) -> None:
    """An interrupted stretch hands over the groups that have as many processes as a record needs."""
    project, groups = planned(tmp_path, "one", "two")

    class Interrupting(Kept):
        def advance(self, case: Case, replicates: int, seconds: float) -> None:
            super().advance(case, replicates, seconds)
            if len(self.steps) == 5:
                raise KeyboardInterrupt

    kept = Interrupting()
    with Workers([project.page.parent], 1, TIMEOUT_SECONDS) as workers:
        session = hasty(workers, 4)
        session.settings = replace(session.settings, processes=(3, 9), precision=0.0, case_seconds=1e9)
        session.pace = Pace(None, 1e9, 4)
        session.shuffle = lambda groups: None
        with pytest.raises(KeyboardInterrupt):
            session.measure(groups, kept)
    assert [name.partition("/")[0] for name, _ in kept.groups] == ["one"]
    for record in kept.records:
        assert record.status == Status.MEASURED
        assert record.readings["latency"].facts["stopped"] == "the run was interrupted"
        assert len(record.readings["latency"].facts["processes"]) == 3
        assert record.readings["macs"].value == 24
