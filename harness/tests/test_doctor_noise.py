"""The noise floor and the allocator: statistics over blocks, and processes that take turns."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Collection, Iterator, Mapping
from itertools import count
from math import exp
from pathlib import Path
from typing import Any, cast

import pytest

from harness.bench.measure.clocks import Block
from harness.doors.doctor import trial as trials
from harness.doors.doctor.allocator import examine_allocator
from harness.doors.doctor.noise import examine_noise, spread
from harness.doors.doctor.trial import WORKS, Probe, Trial, run_trial, take_turns
from harness.paper.errors import SameopError


def normal(middle: float, sigma: float, count: int, seed: int) -> list[float]:
    """Draw samples about a middle with a relative standard deviation."""
    draw = random.Random(seed)
    return [middle * exp(draw.gauss(0, sigma)) for _ in range(count)]


def test_equal_processes_differ_by_no_less_than_their_samples_allow() -> None:
    """Medians that lie together by chance do not promise more than one process's samples can hold."""
    samples = normal(1.0, 0.01, 401, seed=1)
    found = spread([samples] * 4)
    assert found.between == 0
    assert found.within == pytest.approx(2 * 0.6745 * 0.01, rel=0.15)
    # The standard error of a median is 1.25 σ/√n, and Student's t with three degrees times √½ is 2.25.
    assert found.told == pytest.approx(2.25 * 1.2533 * 0.01 / 401**0.5, rel=0.15)


def test_the_floor_follows_the_processes() -> None:
    """Where processes differ by more than their samples, the processes decide what can be told."""
    processes = [normal(1 + 0.02 * number, 0.001, 301, seed=number) for number in range(4)]
    found = spread(processes)
    assert found.between == pytest.approx(0.0251, rel=0.05)
    assert found.told == pytest.approx(exp(2.2503 * found.between) - 1, rel=1e-3)


def test_more_processes_tell_smaller_differences() -> None:
    """The floor falls with the number of processes."""
    told = []
    for processes in (3, 6, 12):
        middles = [1.0 + (0.01 if number % 2 else -0.01) for number in range(processes)]
        told.append(spread([normal(middle, 1e-4, 101, seed=7) for middle in middles]).told)
    assert told == sorted(told, reverse=True)


def test_the_floor_keeps_its_promise() -> None:
    """Two sets of equal processes differ by more than the floor of a third in one case of twenty."""
    draw = random.Random(3)
    beyond = 0
    for _ in range(800):
        first, second, third = ([draw.gauss(0, 0.01) for _ in range(4)] for _ in range(3))
        floor = spread([[exp(one)] * 3 for one in third]).told
        beyond += abs(sum(first) - sum(second)) / 4 > floor
    # The standard deviation of such a share of 800 is 0.8 %.
    assert 0.025 < beyond / 800 < 0.075


def blocks(seconds: float, count: int = 40, faults: int = 0, preempted: int = 0) -> list[Block]:
    """Make blocks of ten calls whose times scatter by a thousandth."""
    times = normal(10 * seconds, 0.001, count, seed=5)
    return [
        Block(10, 1.1 * time, time, faults=10 * faults, preemptions=int(number < preempted))
        for number, time in enumerate(times)
    ]


def a_trial(**other: Any) -> Trial:
    """Make a trial of four alike pinned processes and two slow ones."""
    pinned = {"product": blocks(1e-5, preempted=15), "convolution": blocks(1e-3)}
    default = {"product": blocks(1e-5), "convolution": blocks(4e-3, faults=992)}
    lucky = {"product": blocks(1e-5), "convolution": blocks(1e-3)}
    return Trial(**{"pinned": (pinned,) * 4, "default": (default, lucky), **other})


def test_noise_is_told_by_both_clocks() -> None:
    """The findings hold what scatters within and between processes, and what can be told."""
    found = {finding["what"]: finding for finding in examine_noise(a_trial())}
    assert list(found) == ["noise in a process", "noise between", "noise floor", "preempted blocks"]
    assert found["noise between"]["found"] == (
        "The medians of 4 fresh processes scatter with a standard deviation of 0% for work in the cache and "
        "0% for work that writes 2 MiB by the thread-CPU clock, 0% and 0% by the wall clock."
    )
    assert found["noise floor"]["found"].startswith(
        "With one thread and 4 processes of each side, differences cannot be told here below 0.04% for work"
    )
    assert found["noise floor"]["measures"] == "latency on the CPU (differences above 0.04%)"
    assert found["preempted blocks"] == {
        "what": "preempted blocks",
        "found": "In 19% of 320 blocks the system gave the processor to somebody else.",
        "advice": "Other programs take turns with what is measured: end them.",
        "level": "advice",
        "measures": None,
    }


def test_noise_that_could_not_be_measured() -> None:
    """Too few processes, or a clock that stood still, are a finding and no number."""
    still = {work: [Block(1, 0.0, 0.0)] * 3 for work in WORKS}
    for pinned in ((), (still,) * 4, a_trial().pinned[:2]):
        (finding,) = examine_noise(a_trial(pinned=pinned))
        assert (finding["what"], finding["level"]) == ("noise floor", "missing")
        assert finding["measures"] == "latency on the CPU"


def test_allocator_is_told_with_faults_and_ratio() -> None:
    """The slowest process under the default allocator is held against the pinned ones."""
    cost, preloaded = examine_allocator(a_trial(), {}, "linux")
    assert cost["found"] == (
        "A convolution that writes 2 MiB pays 992 or 0 page faults a call (in 2 processes) with the default "
        "malloc and 0 page faults a call where freed memory is kept: the default is up to 4.00 times slower."
    )
    assert cost["advice"] is not None
    assert preloaded["found"] == "No other allocator replaces that of the system."
    alike = a_trial(default=a_trial().pinned[:1])
    (cost, _) = examine_allocator(alike, {}, "linux")
    assert cost["found"].endswith("no difference in these processes, though the next may have one.")
    assert cost["advice"] is None
    (cost, _) = examine_allocator(a_trial(), {}, "darwin")
    assert cost["advice"] == "It cannot be pinned here: large outputs may pay page faults."


@pytest.mark.parametrize(
    ("preload", "found", "level"),
    [
        (
            "/usr/lib/libjemalloc.so.2",
            "LD_PRELOAD puts libjemalloc.so.2 in the place of malloc, in workers too.",
            "advice",
        ),
        (
            "/x/libtcmalloc_minimal.so:/x/libother.so",
            "LD_PRELOAD puts libtcmalloc_minimal.so in the place of malloc, in workers too.",
            "advice",
        ),
        (
            "/x/libother.so",
            "No other allocator replaces that of the system; LD_PRELOAD holds libother.so.",
            "fine",
        ),
    ],
)
def test_preloaded_allocators_are_named(preload: str, found: str, level: str) -> None:
    """A library that replaces malloc is named; another one is only mentioned."""
    finding = examine_allocator(a_trial(), {"LD_PRELOAD": preload}, "linux")[1]
    assert (finding["found"], finding["level"]) == (found, level)


class FakeProbe:
    """A process whose calls take a given time."""

    def __init__(self, seconds: float, clock: list[float]) -> None:
        self.seconds, self.clock = seconds, clock
        self.cpus: list[tuple[int, ...]] = []

    def move(self, cpus: Collection[int]) -> None:
        """Remember the processors."""
        self.cpus.append(tuple(cpus))

    def take(self, work: str, calls: int, blocks: int) -> list[Block]:
        """Time blocks of calls, of any work alike."""
        self.clock[0] += self.seconds * calls * blocks
        return [Block(calls, self.seconds * calls, self.seconds * calls)] * blocks


def test_settings_of_the_allocator_are_named() -> None:
    """Variables that tune the system's allocator are named."""
    finding = examine_allocator(
        a_trial(), {"MALLOC_ARENA_MAX": "1", "GLIBC_TUNABLES": "x", "A": "b"}, "linux"
    )[1]
    assert finding["found"] == (
        "No other allocator replaces that of the system, but the environment sets GLIBC_TUNABLES and "
        "MALLOC_ARENA_MAX."
    )
    assert finding["level"] == "advice"


def test_processes_take_turns() -> None:
    """All processes do the same calls in the same number of turns, whatever the order of a turn was."""
    clock = [0.0]
    chosen = count()

    def choose(wanted: int) -> tuple[int]:
        assert wanted == 1
        return (next(chosen),)

    default, *pinned = (FakeProbe(seconds, clock) for seconds in (1e-4, 2e-5, 2e-5, 2e-5))
    found = take_turns([cast(Probe, default)], cast(list[Probe], pinned), choose, lambda: clock[0])
    assert len(found.pinned) == 3
    for process in found.pinned:
        assert {work: {block.calls for block in process[work]} for work in WORKS} == {
            work: {10} for work in WORKS
        }
    # Every turn has its processors, and all processes of a turn the same.
    turns = range(len(default.cpus))
    assert [probe.cpus for probe in (default, *pinned)] == [[(turn,) for turn in turns]] * 4
    counts = {len(process[work]) for process in found.pinned for work in WORKS}
    assert len(counts) == 1
    assert counts.pop() >= 80
    assert {block.calls for block in found.default[0]["convolution"]} == {10}
    assert clock[0] == pytest.approx(2.5, abs=0.1)


def test_slow_processes_still_take_enough_turns() -> None:
    """On a machine that takes long for a turn the time may be overdrawn, the samples may not be missing."""
    clock = [0.0]
    probes = [cast(Probe, FakeProbe(0.1, clock)) for _ in range(4)]
    assert {
        len(process["product"])
        for process in take_turns([], probes, lambda wanted: (), lambda: clock[0]).pinned
    } == {80}


@pytest.fixture(scope="module")
def real_trial() -> Iterator[Trial]:
    """Measure once in real processes, for a shorter time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "_TRIAL_SECONDS", 0.1)
        patch.setattr(trials, "PROCESSES", 2)
        patch.setattr(trials, "DEFAULT_PROCESSES", 1)
        yield run_trial()


def test_real_processes(real_trial: Trial) -> None:
    """Fresh processes give times, faults and preemptions; those that keep freed memory pay no page faults."""
    assert (len(real_trial.pinned), len(real_trial.default)) == (2, 1)
    for process in real_trial.pinned:
        for work in WORKS:
            assert len(process[work]) >= 80
            assert all(block.seconds > 0 and block.cpu_seconds for block in process[work])
        faults = [(block.faults or 0) / block.calls for block in process["convolution"]]
        assert sorted(faults)[len(faults) // 2] < 1
    assert "page faults a call" in examine_allocator(real_trial)[0]["found"]


def test_process_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot start ends the trial with its own last line."""
    (tmp_path / "torch.py").write_text("raise ImportError('this torch is broken')", encoding="utf-8")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with pytest.raises(SameopError, match=r"^a process that measures ended early: .* this torch is broken$"):
        run_trial()


def test_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that take longer than they may are ended, and the reason says so."""
    monkeypatch.setattr(trials, "_LIMIT_SECONDS", 0.05)
    with pytest.raises(SameopError, match=r"all of them together took longer than 0\.05 s"):
        run_trial()


def test_a_probe_answers_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process answers each line with one list of blocks."""
    import json

    import torch

    from harness.doors.doctor import probe

    output = io.StringIO()
    monkeypatch.setattr("sys.stdin", io.StringIO("product 2 3\nconvolution 1 1\n"))
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    probe.serve()
    first, second = (json.loads(line) for line in output.getvalue().splitlines())
    assert [block["calls"] for block in first] == [2, 2, 2]
    assert [Block(**cast(Mapping[str, Any], block)).calls for block in second] == [1]
