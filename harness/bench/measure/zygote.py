"""A clean parent that forks one worker per job, or is itself the worker of a single one.

It imports torch and the pages but runs no operator: a fork after the parent ran OpenMP code hangs.
Lines on standard input are jobs; lines on standard output say which process works and how it ended.
A result travels through a file, so a crash in mid-write cannot be taken for one.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Serve jobs: ``zygote.py fork|once FOLDER …``."""
    mode, *folders = arguments
    end_with_parent()
    jobs, replies = _take_over_pipes()
    # A crash then names the line of the page, on standard error.
    faulthandler.enable()
    from harness.bench.catalog import Catalogue, load_catalogue
    from harness.bench.measure.worker import Job, run
    from harness.paper.errors import SameopError

    try:
        catalogue: Catalogue = load_catalogue(Path(folder) for folder in folders)
    except SameopError as error:
        _reply(replies, failed=str(error))
        return 1
    if mode == "fork":
        # The first dispatch mode of a process imports this, in more than a second: once here, not per fork.
        import torch._dynamo  # noqa: F401

    _reply(replies, ready=os.getpid(), threads=_thread_count())

    def work(line: str) -> None:
        volunteer_for_the_oom_killer()
        run(Job.from_json(line), catalogue)

    for line in jobs:
        if mode == "once":
            _reply(replies, started=os.getpid())
            work(line)
            _reply(replies, ended=0)
            return 0
        _fork(line, work, jobs, replies)
    return 0


def _fork(line: str, work: Any, jobs: TextIO, replies: TextIO) -> None:
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        status = 1
        try:
            end_with_parent()
            jobs.close()
            replies.close()
            work(line)
            status = 0
        finally:
            os._exit(status)
    _reply(replies, started=child)
    _, status = os.waitpid(child, 0)
    _reply(replies, ended=os.waitstatus_to_exitcode(status))


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def volunteer_for_the_oom_killer() -> None:
    """Let the kernel end this process first when memory runs out, and not the one that keeps the records."""
    # Not on every system, and not always allowed.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _take_over_pipes() -> tuple[TextIO, TextIO]:
    """Keep both pipes from the pages: they read nothing, and what they print goes to standard error."""
    jobs = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return jobs, replies


def _reply(replies: TextIO, **content: Any) -> None:
    replies.write(json.dumps(content) + "\n")
    replies.flush()


def _thread_count() -> int:
    """Count the threads of this process; zero where the platform does not tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
