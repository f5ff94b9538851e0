"""Freshly started interpreters that serve as zygotes, or as the one worker of a job."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.bench.measure.channel import Channel
from harness.bench.measure.lastwords import LastWords
from harness.paper.errors import SameopError

# A cold import of torch from a slow disk takes some tens of seconds.
_START_SECONDS = 120.0
# A zygote answers at once, unless the machine is out of memory.
_ANSWER_SECONDS = 30.0


class Zygote(ABC):
    """A process that forks workers for whoever asks on its channel.

    threads_at_start: how many it had when it was ready; a fork of more than one hangs as soon as it needs
    the others.
    """

    channel: Channel
    threads_at_start: int

    @property
    @abstractmethod
    def is_alive(self) -> bool:
        """Whether the process runs."""

    @abstractmethod
    def kill(self) -> None:
        """End the process and whatever it forked."""

    @abstractmethod
    def end(self, kill: bool, timeout: float) -> int:
        """End the process, or wait until it ended by itself; return its exit code."""

    def fork(self, channel: socket.socket) -> Forked:
        """Let a zygote fork a worker that answers on a channel."""
        self.channel.send({"fork": True}, hand_over=channel)
        answer = self.channel.receive(_ANSWER_SECONDS)
        return Forked(self, int(answer["started"]) if answer else 0)

    def reap(self, worker: int, timeout: float) -> int | None:
        """Return the exit code of a worker, None where it does not end in time."""
        self.channel.send({"reap": worker, "answer": True})
        return self.await_reaped(timeout)

    def reap_later(self, worker: int) -> None:
        """Let a zygote wait for a worker that was killed; the kernel takes its time to free the memory."""
        self.channel.send({"reap": worker, "answer": False})

    def await_reaped(self, timeout: float) -> int | None:
        """Return the exit code of the worker that is being reaped."""
        answer = self.channel.receive(timeout)
        return int(answer["ended"]) if answer else None


class Interpreter(Zygote):
    """One child process with a channel to it."""

    def __init__(
        self, mode: str, folders: Sequence[str], environment: Mapping[str, str], words: LastWords
    ) -> None:
        self.channel, other = Channel.pair()
        self._words = words
        self._is_ready = False
        self.threads_at_start = 0
        # -P: the folder that the user happens to stand in adds no modules that the parent does not see.
        module = "harness.bench.measure.zygote"
        command = [sys.executable, "-P", "-m", module, mode, str(other.fileno()), *folders]
        with other, words.path.open("ab") as log:
            # A session of its own: Ctrl-C reaches the parent alone, which then ends its children.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Wait until it has read the pages, or raise :class:`SameopError` with what it said instead."""
        if self._is_ready:
            return
        answer = self.channel.receive(_START_SECONDS)
        if answer is None or "failed" in answer:
            silent = "" if self.channel.ended else f"it was not ready within {_START_SECONDS:g} s"
            self.kill()
            reason = answer["failed"] if answer else silent or self._words.last_line()
            raise SameopError(f"No worker process could be started: {reason}")
        self.threads_at_start = int(answer["threads"])
        self._is_ready = True

    # Nothing that another worker does ends it.
    is_lost = False

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def end(self, kill: bool, timeout: float) -> int:
        """End the process, or wait until it ended by itself; return its exit code."""
        if kill:
            self.kill()
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.wait()

    def dismiss(self) -> None:
        """End the process, whose exit code nobody asks for."""
        self.kill()

    def kill(self) -> None:
        """End the process and whatever it forked."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.channel.close()


@dataclass(frozen=True)
class Forked:
    """A worker that a zygote forked; process 0 is one that could not be forked."""

    zygote: Zygote
    process: int

    @property
    def is_lost(self) -> bool:
        """Whether the zygote ended, which ends all its workers whatever they do."""
        return not self.zygote.is_alive

    def kill(self) -> None:
        """Kill the worker; its zygote keeps the exit code."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGKILL)

    def dismiss(self) -> None:
        """End the worker, whose exit code nobody asks for, without waiting until its memory is free."""
        if self.process and not self.is_lost:
            self.kill()
            self.zygote.reap_later(self.process)

    def end(self, kill: bool, timeout: float) -> int:
        """End the worker, or wait until it ended by itself; return its exit code."""
        code = None
        if self.process and not self.is_lost:
            if kill:
                self.kill()
            code = self.zygote.reap(self.process, timeout)
            if code is None and not self.zygote.channel.ended:
                # It goes on without a channel, which a page can close.
                self.kill()
                code = self.zygote.await_reaped(timeout)
        if code is not None:
            return code
        # Neither of them can be relied on any more; the next job starts another zygote.
        self.zygote.kill()
        return self.zygote.end(kill=False, timeout=timeout)
