"""A clean parent that forks one worker per job, or is itself the worker of a single one.

It imports torch and the pages but runs no operator: a fork after the parent ran OpenMP code hangs.
Lines on standard input are jobs; lines on standard output say which process works and how it ended.
A result travels through a file, so a crash in mid-write cannot be taken for one.
"""

from __future__ import annotations

import ctypes
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
    replies = _take_over_output()
    # The first dispatch mode of a process imports this, in more than a second: once here, not per fork.
    import torch._dynamo  # noqa: F401

    from harness.bench.catalog import Catalogue, load_catalogue
    from harness.bench.measure.worker import Job, prepare_process, run
    from harness.paper.errors import SameopError

    try:
        catalogue: Catalogue = load_catalogue(Path(folder) for folder in folders)
    except SameopError as error:
        _reply(replies, failed=str(error))
        return 1
    _reply(replies, ready=os.getpid(), threads=_thread_count())

    def work(line: str) -> None:
        job = Job.from_json(line)
        prepare_process(job)
        run(job, catalogue)

    for line in sys.stdin:
        if mode == "once":
            _reply(replies, started=os.getpid())
            work(line)
            _reply(replies, ended=0)
            return 0
        _fork(line, work, replies)
    return 0


def _fork(line: str, work: Any, replies: TextIO) -> None:
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        status = 1
        try:
            end_with_parent()
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


def _take_over_output() -> TextIO:
    """Keep standard output for replies and send what pages print to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, **content: Any) -> None:
    replies.write(json.dumps(content) + "\n")
    replies.flush()


def _thread_count() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
