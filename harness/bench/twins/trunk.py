"""Trunks and branches as the gate sees them: start one, fork a side from it, hire a process for a case."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.bench.measure.channel import Channel
from harness.bench.measure.interpreter import Forked, Interpreter, Zygote
from harness.bench.measure.lastwords import LastWords
from harness.bench.measure.workers import Worker
from harness.bench.twins.side import Side
from harness.paper.errors import SameopError

# Importing the pages of a project, and whatever they import.
_IMPORT_SECONDS = 120.0


class SideRefusedError(SameopError):
    """A side that cannot be imported, or that would not be kept apart. side: its name."""

    def __init__(self, side: str, sentence: str) -> None:
        super().__init__(sentence)
        self.side = side


class ShadowedError(SideRefusedError):
    """A side brings a module that its trunk has imported already, so that no fork can serve it."""


class Trunk:
    """A freshly started interpreter that has imported torch and nothing of either side.

    environment: of the process. log: where it and all its children print. is_bare: whether it leaves to its
    children what only judging needs, and is ready in half the time.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, *, is_bare: bool = False) -> None:
        self._words = LastWords(log, [])
        mode = "bare-trunk" if is_bare else "trunk"
        self._interpreter = Interpreter(mode, [], environment, self._words)
        self._channels: list[Channel] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interpreter and everything that it forked."""
        self._interpreter.kill()
        for channel in self._channels:
            channel.close()

    def branch(self, side: Side, timeout_seconds: float, *, started: bool = False) -> Branch:
        """Fork a branch that becomes a side.

        started: whether the trunk was started for this side alone. Raises :class:`SideRefusedError`.
        """
        self._interpreter.wait_until_ready()
        if self._interpreter.threads_at_start > 1:
            raise ShadowedError(side.name, "Importing torch started threads, which no fork takes along.")
        own, other = Channel.pair()
        self._channels.append(own)
        with other:
            process = self._interpreter.fork(other)
        words = LastWords(self._words.path, [str(folder) for folder in side.folders])
        branch = Branch(own, process, words, timeout_seconds)
        branch.become(side, started=started)
        return branch


class Branch(Zygote):
    """A process that has become one side and forks a process for every case."""

    def __init__(self, channel: Channel, process: Forked, words: LastWords, timeout_seconds: float) -> None:
        self.channel = channel
        self.threads_at_start = 0
        self._process = process
        self._words = words
        self._timeout = timeout_seconds
        self._side = ""

    def become(self, side: Side, *, started: bool) -> None:
        """Send the side, and wait until its pages are read."""
        self._words.mark()
        self._side = side.name
        self.channel.send({"side": side.as_json(), "started": started})
        answer = self.channel.receive(_IMPORT_SECONDS)
        if answer is None:
            silent = (
                self._words.last_line() if self.channel.ended else f"nothing within {_IMPORT_SECONDS:g} s"
            )
            raise SideRefusedError(side.name, f"Importing the pages of {side.name} ended with: {silent}")
        if "shadowed" in answer:
            brought = ", ".join(answer["shadowed"])
            raise ShadowedError(side.name, f"{side.name} brings its own {brought}, which torch imports too.")
        self.demand_apart(answer.get("strays", ()))
        if "failed" in answer:
            raise SideRefusedError(side.name, f"{side.name} cannot be imported. {answer['failed']}")
        self.threads_at_start = int(answer["threads"])

    def demand_apart(self, strays: Sequence[str]) -> None:
        """Raise :class:`SideRefusedError` for what a process of this side holds of another place."""
        if strays:
            raise SideRefusedError(
                self._side,
                f"{self._side} is not kept apart: it imported {strays[0]} ({len(strays)} in all). Name the "
                "folders of its packages in `paths` of the policy, and build what is compiled by `build`.",
            )

    @contextlib.contextmanager
    def hire(self) -> Iterator[Worker]:
        """Give a fresh process for one case; it ends with the context."""
        own, other = Channel.pair()
        with other:
            process = self.fork(other)
        worker = Worker(own, process, self._words, self._timeout)
        try:
            yield worker
        finally:
            worker.close()

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let a fresh process do one job."""
        with self.hire() as worker:
            return worker.ask(request)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs, as far as its channel tells."""
        return not self.channel.ended and not self._process.is_lost

    def kill(self) -> None:
        """End the process; what it forked ends with it."""
        if self._process.process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.process, signal.SIGKILL)

    def end(self, kill: bool, timeout: float) -> int:
        """End the process, or wait until it ended by itself; return its exit code."""
        return self._process.end(kill, timeout)
