"""A small measurement as cases are measured: fresh processes that take turns in random order."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from statistics import median

from harness.bench.measure.clocks import Block
from harness.bench.measure.processors import Processors
from harness.bench.measure.workers import PINNED_ALLOCATOR
from harness.paper.errors import SameopError

WORKS = ("product", "convolution")
# Three are the fewest whose scatter means anything; with four the doctor ends within 15 s on two cores.
PROCESSES = 4
# Where the blocks of a process happen to lie decides whether its default malloc gives memory back.
DEFAULT_PROCESSES = 2
_BLOCKS_PER_TURN = 10
_BLOCK_SECONDS = 200e-6
_WARM_UP_TURNS = 3
_FEWEST_TURNS = 8
_TRIAL_SECONDS = 2.5
_LIMIT_SECONDS = 60.0

Blocks = Mapping[str, Sequence[Block]]


@dataclass(frozen=True)
class Trial:
    """Blocks by work of every process: pinned ones, and some under the allocator of this machine."""

    pinned: tuple[Blocks, ...]
    default: tuple[Blocks, ...]


class Probe:
    """One process that times blocks when asked."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        # -P: the folder that the user happens to stand in adds no modules.
        command = [sys.executable, "-P", "-m", "harness.doors.doctor.probe"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        self._is_late = False
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=dict(environment),
            text=True,
        )

    def move(self, cpus: Collection[int]) -> None:
        """Keep the process on some processors, as workers are kept; on none in particular without any."""
        if cpus and hasattr(os, "sched_setaffinity"):
            # A process that has ended says so when it is asked next.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self._process.pid, cpus)

    def take(self, work: str, calls: int, blocks: int) -> list[Block]:
        """Time blocks of calls of a work."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{work} {calls} {blocks}\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SameopError(f"a process that measures ended early: {self._reason()}")
        return [Block(**block) for block in json.loads(line)]

    def stop(self) -> None:
        """End a process that takes too long."""
        self._is_late = True
        self._process.kill()

    def _reason(self) -> str:
        if self._is_late:
            return f"all of them together took longer than {_LIMIT_SECONDS:g} s"
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it did not say why")

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()


def run_trial() -> Trial:
    """Measure in fresh processes of this machine."""
    default = {name: value for name, value in os.environ.items() if name not in PINNED_ALLOCATOR}
    default |= {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    pinned = default | (PINNED_ALLOCATOR if sys.platform == "linux" else {})
    with _started([default] * DEFAULT_PROCESSES + [pinned] * PROCESSES) as probes:
        return take_turns(probes[:DEFAULT_PROCESSES], probes[DEFAULT_PROCESSES:], Processors().choose)


@contextmanager
def _started(environments: Sequence[Mapping[str, str]]) -> Iterator[list[Probe]]:
    with ExitStack() as stack:
        probes = []
        for environment in environments:
            probes.append(Probe(environment))
            stack.callback(probes[-1].end)
        # A process that hangs ends the trial, and the doctor says so, rather than hanging too.
        watch = threading.Timer(_LIMIT_SECONDS, _stop, (probes,))
        watch.daemon = True
        watch.start()
        stack.callback(watch.cancel)
        yield probes


def _stop(probes: Sequence[Probe]) -> None:
    for probe in probes:
        probe.stop()


def take_turns(
    default: Sequence[Probe],
    pinned: Sequence[Probe],
    choose: Callable[[int], Collection[int]],
    now: Callable[[], float] = time.perf_counter,
) -> Trial:
    """Let the processes take turns, one working at a time, until the time is spent.

    choose: returns so many processors for the next turn.
    """
    # All must have started before any is timed: a start disturbs.
    for probe in (*default, *pinned):
        probe.take(WORKS[0], 1, 1)
    calls = {work: _calls(pinned[0], work) for work in WORKS}
    probes = [*pinned, *default]
    found: list[dict[str, list[Block]]] = [{work: [] for work in WORKS} for _ in probes]
    order = random.Random()  # noqa: S311  # an order, no secret
    start, turn = now(), 0
    while turn < _WARM_UP_TURNS + _FEWEST_TURNS or now() - start < _TRIAL_SECONDS:
        cpus = choose(1)
        for index in order.sample(range(len(probes)), len(probes)):
            # The default allocator may be ten times slower, and only its medians are asked for.
            blocks = _BLOCKS_PER_TURN if index < len(pinned) else 2
            probes[index].move(cpus)
            for work in WORKS:
                taken = probes[index].take(work, calls[work], blocks)
                found[index][work] += taken if turn >= _WARM_UP_TURNS else []
        turn += 1
    return Trial(tuple(found[: len(pinned)]), tuple(found[len(pinned) :]))


def _calls(probe: Probe, work: str) -> int:
    """Count the calls that fill a block as long as those of cases."""
    probe.take(work, 1, 20)
    seconds = median(block.seconds for block in probe.take(work, 1, 20))
    return max(1, round(_BLOCK_SECONDS / max(seconds, 1e-9)))
