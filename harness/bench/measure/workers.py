"""Worker processes as their user sees them: hand in a job, get a result or the reason for none."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from harness.bench.measure.lastwords import LastWords
from harness.bench.measure.scratch import Scratch
from harness.bench.measure.worker import Job
from harness.paper.errors import SameopError
from harness.paper.record import Status

# glibc returns large blocks to the kernel after every call, and each call then pays a page fault for
# every 4 KiB it touches: a factor of 3 to 12 on large outputs. Pinned, it keeps them.
PINNED_ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
    "SAMEOP_ALLOCATOR": "pinned",
}
# A cold import of torch from a slow disk takes some tens of seconds.
_START_SECONDS = 120.0


class Workers:
    """Runs every job in a process of its own.

    On the CPU a clean zygote forks it in some 20 ms; CUDA needs a fresh process, and so does a project
    whose pages start threads when they are imported. folders: the case packages. timeout_seconds: how
    long one job may take.
    """

    def __init__(self, folders: Iterable[Path], threads: int, timeout_seconds: float) -> None:
        self._folders = [str(folder) for folder in folders]
        self._threads = threads
        self._timeout = timeout_seconds
        self._zygote: _Process | None = None
        self._scratch = Scratch()
        self.scratch = self._scratch.path
        self._log = LastWords(self.scratch / "workers.log", self._folders)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the scratch files."""
        self._end_zygote()
        self._scratch.close()

    def start(self) -> None:
        """Start the zygote now, so that its import of torch is not counted to the first case."""
        self._living_zygote()

    def _living_zygote(self) -> _Process:
        if self._zygote is None or not self._zygote.is_alive:
            self._end_zygote()
            self._zygote = self._launch("fork")
        return self._zygote

    def _end_zygote(self) -> None:
        if self._zygote:
            self._zygote.kill()
        self._zygote = None

    def run(self, job: Job) -> Mapping[str, Any]:
        """Do one job; a crash, a hang or an exception is a result with its status and reason."""
        job = replace(job, result=str(self.scratch / "result.json"))
        Path(job.result).unlink(missing_ok=True)
        # A fork of a process with threads hangs as soon as it needs one of them.
        if job.case.device == "cpu" and self._living_zygote().threads_at_start == 1:
            return self._run_in(self._living_zygote(), job)
        with contextlib.closing(self._launch("once")) as process:
            return self._run_in(process, job)

    def _run_in(self, process: _Process, job: Job) -> Mapping[str, Any]:
        self._log.mark()
        started = time.perf_counter()
        ended = process.do(job, self._timeout)
        return self._result(job, ended, time.perf_counter() - started)

    def _result(self, job: Job, ended: int | None, seconds: float) -> Mapping[str, Any]:
        path = Path(job.result)
        if ended == 0 and path.exists():
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return content
        if ended is None:
            reason = f"It did not end within {self._timeout:g} s and was stopped."
            return {"status": Status.TIMED_OUT, "reason": reason, "seconds": seconds}
        reason = f"Its process ended with {_cause(ended)}{self._log.told()}"
        return {"status": Status.CRASHED, "reason": reason, "seconds": seconds}

    def _launch(self, mode: str) -> _Process:
        threads = str(self._threads)
        environment = {
            **os.environ,
            **(PINNED_ALLOCATOR if sys.platform == "linux" else {}),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # numpy's own BLAS is never measured; its threads would only stand in the way of a fork.
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        # -P: the folder that the user happens to stand in adds no modules that the parent does not see.
        command = [sys.executable, "-P", "-m", "harness.bench.measure.zygote", mode, *self._folders]
        with self._log.path.open("ab") as log:
            process = _Process(command, environment, log)
        reason = process.wait_until_ready(_START_SECONDS)
        if reason is not None:
            process.kill()
            raise SameopError(f"No worker process could be started: {reason or self._log.last_line()}")
        return process


class _Process:
    """One child process that takes jobs and answers with lines."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: IO[bytes]) -> None:
        # A session of its own: Ctrl-C reaches the parent alone, which then ends its children.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        self._received = b""
        self.threads_at_start = 0

    def wait_until_ready(self, timeout: float) -> str | None:
        """Wait for the first line; return why there is none, "" where the process did not say."""
        answer = self._answer(timeout)
        if answer is None:
            return f"it was not ready within {timeout:g} s" if self.is_alive else ""
        if "failed" in answer:
            return str(answer["failed"])
        self.threads_at_start = int(answer["threads"])
        return None

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def do(self, job: Job, timeout: float) -> int | None:
        """Return the exit code of the worker, or None where it had to be stopped."""
        assert self._process.stdin is not None
        # A process that is gone has its exit code read below.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(job.as_json().encode() + b"\n")
            self._process.stdin.flush()
        started = self._answer(timeout)
        ended = self._answer(timeout) if started else None
        if ended is not None:
            return int(ended["ended"])
        if not self.is_alive:
            return int(self._process.returncode)
        self._stop(int(started["started"]) if started else None)
        return None

    def _stop(self, worker: int | None) -> None:
        """End the worker alone where that can be done; the next job starts a new zygote otherwise."""
        if worker is not None and worker != self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            if self._answer(timeout=10) is not None:
                return
        self.kill()

    def _answer(self, timeout: float) -> dict[str, Any] | None:
        """Wait for one line; None at the end of the stream or of the time."""
        deadline = time.monotonic() + timeout
        # Two answers may arrive at once: whatever follows the first line is kept for the next call.
        while b"\n" not in self._received:
            chunk = self._receive(deadline - time.monotonic())
            if not chunk:
                return None
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _receive(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, timeout)):
                return b""
        chunk = os.read(self._process.stdout.fileno(), 65536)
        if not chunk:
            self._process.wait(timeout=10)
        return chunk

    def kill(self) -> None:
        """End the process and whatever it forked."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    close = kill


def _cause(ended: int) -> str:
    if ended >= 0:
        return f"exit code {ended}"
    try:
        return f"signal {signal.Signals(-ended).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-ended}"
