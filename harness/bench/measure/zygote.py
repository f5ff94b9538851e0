"""A clean parent that forks one worker per request, or is itself the only worker.

It imports torch and the pages but runs no operator: a fork after the parent ran OpenMP code hangs.
Whoever asks for a worker hands over one end of a channel, on which the worker takes its jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.bench.measure.channel import Channel

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Serve: ``zygote.py fork|once|trunk|bare-trunk DESCRIPTOR FOLDER …``."""
    mode, descriptor, *folders = arguments
    end_with_parent()
    _close_the_pipes()
    channel = Channel.of_descriptor(int(descriptor))
    # A crash then names the line of the page, on standard error.
    faulthandler.enable()
    if mode in ("trunk", "bare-trunk"):
        from harness.bench.twins.branch import grow

        # Timing needs nothing of it, and starts many trunks.
        if mode == "trunk":
            _import_ahead()
        channel.send({"ready": os.getpid(), "threads": thread_count()})
        serve_forks(channel, grow)
        return 0
    return _serve_pages(channel, mode, folders)


def _serve_pages(channel: Channel, mode: str, folders: list[str]) -> int:
    """Read the pages, and fork workers or be the one worker."""
    from harness.bench.catalog import load_catalogue
    from harness.bench.measure.worker import Desk, serve
    from harness.paper.errors import SameopError

    def work(channel: Channel) -> None:
        become_worker(channel)
        serve(channel, Desk(catalogue))

    try:
        catalogue = load_catalogue(Path(folder) for folder in folders)
    except SameopError as error:
        channel.send({"failed": str(error)})
        return 1
    if mode == "once":
        channel.send({"ready": os.getpid(), "threads": thread_count()})
        work(channel)
        return 0
    _import_ahead()
    channel.send({"ready": os.getpid(), "threads": thread_count()})
    serve_forks(channel, work)
    return 0


def _import_ahead() -> None:
    """Do once what every fork would have to do by itself."""
    # The first dispatch mode of a process imports this, in more than a second.
    import torch._dynamo  # noqa: F401

    from harness.bench.measure.libraries import calibrate
    from harness.bench.measure.macs import load_witness

    # Likewise MKL, which waits for a full second before it first says what it runs, and fvcore.
    calibrate()
    load_witness()


def serve_forks(channel: Channel, work: Callable[[Channel], None]) -> None:
    """Fork a process for everyone who asks, until the channel closes.

    work: what a forked process does with the channel that it was handed.
    """
    # A child that collects would look at all that is there again, and copy every page of it.
    gc.collect()
    gc.freeze()
    _adopt_orphans()
    # What the pages start when they are imported is theirs to keep.
    kept = _children()
    while (request := channel.receive()) is not None:
        if "reap" in request:
            ended = _reap(request["reap"])
            kept.discard(request["reap"])
            _end_orphans(kept)
            if request["answer"]:
                channel.send({"ended": ended})
        else:
            kept.add(child := _fork(channel, work))
            channel.send({"started": child})


def become_worker(channel: Channel) -> None:
    """Let the process that was forked for a worker end first where memory is short, and alone."""
    volunteer_for_the_oom_killer()
    os.register_at_fork(after_in_child=partial(_stand_apart, channel))


def _fork(channel: Channel, work: Callable[[Channel], None]) -> int:
    descriptor = channel.take_descriptor()
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        status = 1
        try:
            end_with_parent()
            channel.close()
            work(Channel.of_descriptor(descriptor))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    # The child's end would stay open here, and nobody would see it close.
    os.close(descriptor)
    return child


def _reap(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, even by kill -9."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _adopt_orphans() -> None:
    """Ask the kernel to make this process the parent of what its workers leave behind."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_orphans(kept: set[int]) -> None:
    """End what a worker started and left behind, so that it disturbs no other; its own children follow."""
    while orphans := _children() - kept:
        for orphan in orphans:
            # Not all may be ended: a program can run as somebody else.
            kept.add(orphan)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(orphan, signal.SIGKILL)
                os.waitpid(orphan, 0)
                kept.discard(orphan)


def _children() -> set[int]:
    """Return the children of this process, none where the platform does not tell."""
    path = Path("/proc/thread-self/children")
    return {int(number) for number in path.read_text(encoding="ascii").split()} if path.exists() else set()


def _stand_apart(channel: Channel) -> None:
    """Let a process that a page forks neither speak for its worker nor outlive it."""
    channel.close()
    end_with_parent()


def _prctl(what: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(what, value)


def volunteer_for_the_oom_killer() -> None:
    """Let the kernel end this process first when memory runs out, and not the one that keeps the records."""
    # Not on every system, and not always allowed.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _close_the_pipes() -> None:
    """Let the pages read nothing, and send what they print to standard error."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)


def thread_count() -> int:
    """Count the threads of this process; zero where the platform does not tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
