"""Worker processes as their user sees them: hand in a job, get a result or the reason for none."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

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


class Workers:
    """Runs every job in a process of its own.

    On the CPU a clean zygote forks it in some 20 ms; CUDA needs a fresh process. folders: the case
    packages. log: receives what workers print.
    """

    def __init__(self, folders: Iterable[Path], threads: int, timeout_seconds: float) -> None:
        self._folders = [str(folder) for folder in folders]
        self._threads = threads
        self._timeout = timeout_seconds
        self._zygote: _Process | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="sameop-")
        self.scratch = Path(self._scratch.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the scratch files."""
        if self._zygote:
            self._zygote.kill()
        self._zygote = None
        self._scratch.cleanup()

    def start(self) -> None:
        """Start the zygote now, so that its import of torch is not counted to the first case."""
        if self._zygote is None or not self._zygote.is_alive:
            self._zygote = self._launch("fork")

    def run(self, job: Job) -> Mapping[str, Any]:
        """Do one job; a crash, a hang or an exception is a result with its status and reason."""
        job = replace(job, result=str(self.scratch / "result.json"))
        Path(job.result).unlink(missing_ok=True)
        started = time.perf_counter()
        if job.case.device == "cpu":
            self.start()
            assert self._zygote is not None
            ended = self._zygote.do(job, self._timeout)
        else:
            with contextlib.closing(self._launch("once")) as process:
                ended = process.do(job, self._timeout)
        seconds = time.perf_counter() - started
        return self._result(job, ended, seconds)

    def _result(self, job: Job, ended: int | None, seconds: float) -> Mapping[str, Any]:
        path = Path(job.result)
        if ended == 0 and path.exists():
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return content
        if ended is None:
            reason = f"It did not end within {self._timeout:g} s and was stopped."
            return {"status": Status.TIMED_OUT, "reason": reason, "seconds": seconds}
        return {"status": Status.CRASHED, "reason": self._crash(ended), "seconds": seconds}

    def _crash(self, ended: int) -> str:
        cause = f"signal {signal.Signals(-ended).name}" if ended < 0 else f"exit code {ended}"
        last = _last_line(self.scratch / "workers.log")
        return f"Its process ended with {cause}" + (f"; it printed last: {last}" if last else ".")

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
        log = (self.scratch / "workers.log").open("ab")
        with log:
            command = [sys.executable, "-m", "harness.bench.measure.zygote", mode, *self._folders]
            return _Process(command, environment, log)


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
            text=True,
            start_new_session=True,
        )
        ready = self._answer(timeout=120)
        if ready is None or "ready" not in ready:
            self.kill()
            reason = (ready or {}).get("failed") or f"see {_last_line(Path(log.name)) or 'no output'}"
            raise SameopError(f"No worker process could be started: {reason}")
        self.threads_at_start: int = ready["threads"]

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def do(self, job: Job, timeout: float) -> int | None:
        """Return the exit code of the worker, or None where it had to be stopped."""
        assert self._process.stdin is not None
        self._process.stdin.write(job.as_json() + "\n")
        self._process.stdin.flush()
        started = self._answer(timeout)
        if started is None or "started" not in started:
            self._stop(None)
            return None
        ended = self._answer(timeout)
        if ended is None and not self.is_alive:
            return self._process.returncode
        if ended is None:
            self._stop(int(started["started"]))
            return None
        return int(ended["ended"])

    def _stop(self, worker: int | None) -> None:
        if worker is not None and worker != self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            self._answer(timeout=10)
        else:
            self.kill()

    def _answer(self, timeout: float) -> dict[str, Any] | None:
        """Wait for one line; None at the end of the stream or of the time."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                return None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(timeout=10)
            return None
        answer: dict[str, Any] = json.loads(line)
        return answer

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


def _last_line(path: Path) -> str:
    if not path.exists():
        return ""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    spoken = [line for line in lines if not line.startswith("USDT")]  # torch's profiler announces itself
    return spoken[-1][:300] if spoken else ""
