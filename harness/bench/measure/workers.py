"""Worker processes as their user sees them: ask one, and get an answer or the reason for none."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from harness.bench.machine import usable_cpus
from harness.bench.measure.channel import Channel
from harness.bench.measure.interpreter import Interpreter
from harness.bench.measure.jobs import Job
from harness.bench.measure.lastwords import LastWords
from harness.bench.measure.scratch import Scratch
from harness.paper.record import Status

Allocator = Literal["pinned", "default"]
ALLOCATORS: tuple[Allocator, ...] = ("pinned", "default")
# glibc returns large blocks to the kernel after every call, and each call then pays a page fault for
# every 4 KiB it touches: a factor of 3 to 12 on large outputs. Pinned, it keeps them.
PINNED_ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
    "SAMEOP_ALLOCATOR": "pinned",
}
# How long a process that was told to end may take before it is killed.
_FAREWELL_SECONDS = 10.0
# Marks the answer of a worker that ended with its zygote: any of the zygote's workers may have ended it.
LOST = "lost"


class Workers:
    """Hires worker processes.

    On the CPU a clean zygote forks one in some 20 ms; CUDA needs a fresh process, and so does a project
    whose pages start threads when they are imported. Several zygotes, each an interpreter of its own, give
    workers whose memory lies differently.

    folders: the case packages. threads: of libraries that are told by the environment. timeout_seconds: how
    long one answer may take. zygotes: how many lanes there are.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        threads: int,
        timeout_seconds: float,
        allocator: Allocator = "pinned",
        zygotes: int = 1,
    ) -> None:
        self._scratch = Scratch()
        self.scratch = self._scratch.path
        self.folders = [Path(folder) for folder in folders]
        self.allocator = allocator
        environment = worker_environment(threads, allocator, self.scratch)
        shared = [str(folder) for folder in self.folders], environment, timeout_seconds
        self._lanes = [
            _Lane(*shared, LastWords(self.scratch / f"workers-{number}.log", shared[0]))
            for number in range(zygotes)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the scratch files."""
        for lane in self._lanes:
            lane.close()
        self._scratch.close()

    def launch(self) -> None:
        """Start the zygotes without waiting for them."""
        for lane in self._lanes:
            lane.launch_zygote()

    def start(self) -> None:
        """Start the zygotes now, so that their imports of torch are not counted to the first case."""
        self.launch()
        for lane in self._lanes:
            lane.living_zygote()

    @contextlib.contextmanager
    def hire(self, device: str, lane: int = 0) -> Iterator[Worker]:
        """Give a fresh worker of a lane; it ends with the context."""
        worker = self._lanes[lane % len(self._lanes)].hire(device)
        try:
            yield worker
        finally:
            worker.close()

    @property
    def at_once(self) -> int:
        """How many jobs run at once at most."""
        return min(len(self._lanes), usable_cpus())

    def expectation(self, group: str) -> Path:
        """Return the file for what the reference of a group computed."""
        return self.scratch / f"{group}.expected"

    def run(self, job: Job, lane: int = 0) -> Mapping[str, Any]:
        """Let a worker of its own do one job, and another one where its zygote ended beneath it."""
        for _ in range(2):
            with self.hire(job.device, lane) as worker:
                answer = worker.ask(job.as_request())
            if LOST not in answer:
                break
        return answer

    def run_all(self, jobs: Sequence[Job]) -> list[Mapping[str, Any]]:
        """Do jobs in workers of their own, as many at once as there are processors and zygotes."""
        lanes: queue.SimpleQueue[int] = queue.SimpleQueue()
        at_once = min(self.at_once, max(1, len(jobs)))
        for number in range(at_once):
            lanes.put(number)

        def run(job: Job) -> Mapping[str, Any]:
            lane = lanes.get()
            try:
                return self.run(job, lane)
            finally:
                lanes.put(lane)

        if at_once == 1:
            return [run(job) for job in jobs]
        # Not in the threads below: the kernel ends a zygote with the thread that started it.
        self.launch()
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(run, jobs))


class _Lane:
    """One zygote with the log of its workers; it is replaced when it dies."""

    def __init__(
        self, folders: list[str], environment: Mapping[str, str], timeout_seconds: float, words: LastWords
    ) -> None:
        self._folders = folders
        self._environment = environment
        self._timeout = timeout_seconds
        self._words = words
        self._zygote: Interpreter | None = None

    def launch_zygote(self) -> None:
        """Start the zygote without waiting for it."""
        if self._zygote is None or not self._zygote.is_alive:
            self.close()
            self._zygote = self._launch("fork")

    def living_zygote(self) -> Interpreter:
        """Return the zygote when it is ready."""
        self.launch_zygote()
        assert self._zygote is not None
        self._zygote.wait_until_ready()
        return self._zygote

    def hire(self, device: str) -> Worker:
        # A fork of a process with threads hangs as soon as it needs one of them.
        if device == "cpu" and self.living_zygote().threads_at_start == 1:
            own, other = Channel.pair()
            with other:
                process = self.living_zygote().fork(other)
            return Worker(own, process, self._words, self._timeout)
        interpreter = self._launch("once")
        interpreter.wait_until_ready()
        return Worker(interpreter.channel, interpreter, self._words, self._timeout)

    def _launch(self, mode: str) -> Interpreter:
        return Interpreter(mode, self._folders, self._environment, self._words)

    def close(self) -> None:
        if self._zygote:
            self._zygote.kill()
        self._zygote = None


class Worker:
    """One process that answers requests; what ends it is an answer too."""

    def __init__(self, channel: Channel, process: Any, words: LastWords, timeout_seconds: float) -> None:
        self._channel = channel
        self._process = process
        self._words = words
        self._timeout = timeout_seconds
        self._is_open = True

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer; a crash or a hang is one with its status and reason, and ends the worker."""
        self._words.mark()
        started = time.perf_counter()
        self._channel.send(request)
        try:
            answer = self._channel.receive(self._timeout)
        except ValueError:  # a page wrote to every descriptor that it found
            self._end(kill=True)
            reason = "It wrote to the channel on which its process answers."
            return {"status": Status.FAILED, "reason": reason, "seconds": time.perf_counter() - started}
        if answer is not None:
            return answer
        hung = not self._channel.ended
        code = self._end(kill=hung)
        seconds = time.perf_counter() - started
        if hung:
            reason = f"It did not end within {self._timeout:g} s and was stopped."
            return {"status": Status.TIMED_OUT, "reason": reason, "seconds": seconds}
        crashed = {"status": Status.CRASHED, "seconds": seconds}
        if self._process.is_lost:
            reason = f"The process that its worker was forked from ended with {_cause(code)}."
            return {**crashed, "reason": reason, LOST: True}
        return {**crashed, "reason": f"Its process ended with {_cause(code)}{self._words.told()}"}

    def kill(self) -> None:
        """End the process from another thread; whoever waits for its answer is told that it crashed."""
        self._process.kill()

    def close(self) -> None:
        """End the process, which has nothing left to do."""
        if self._is_open:
            self._is_open = False
            self._channel.close()
            self._process.dismiss()

    def _end(self, kill: bool) -> int:
        self._is_open = False
        self._channel.close()
        return int(self._process.end(kill, _FAREWELL_SECONDS))


def worker_environment(threads: int, allocator: Allocator, scratch: Path) -> dict[str, str]:
    """Return the environment of worker processes: threads of libraries, allocator, caches of compilers."""
    pinned = PINNED_ALLOCATOR if allocator == "pinned" and sys.platform == "linux" else {}
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return {
        **cleared,
        **pinned,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # numpy's own BLAS is never measured; its threads would only stand in the way of a fork.
        "OPENBLAS_NUM_THREADS": "1",
        # The first process of a case compiles, and says how long that took; the others find its result.
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }


def _cause(ended: int) -> str:
    if ended >= 0:
        return f"exit code {ended}"
    try:
        return f"signal {signal.Signals(-ended).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-ended}"
