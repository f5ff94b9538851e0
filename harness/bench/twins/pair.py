"""A pair: the process of base and that of head, which take turns in lock-step."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.bench.measure.clocks import Block
from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import Mode
from harness.bench.twins.quads import Quad, fold
from harness.paper.gate.outcome import TwinNumber
from harness.paper.record import Status

Answer = Mapping[str, Any]
# Short, so that both sides see the same state of the machine; long against reading the clocks.
_BLOCK_SECONDS = 1.5e-3
# Below so many calls a block, one more that nobody times would take too large a share of the time.
_REWARMED = 4
_FEWEST_QUADS = 6
_PATIENCE = 4.0
BASE, HEAD = 0, 1
_ORDERS = ((BASE, HEAD, HEAD, BASE), (HEAD, BASE, BASE, HEAD))


class Asked(Protocol):
    """A worker as far as a pair uses it."""

    def ask(self, request: Mapping[str, Any]) -> Answer:
        """Return the answer to a request."""


class SideFailedError(Exception):
    """One process of a pair has no sound number. side: BASE or HEAD; answer: its status and reason."""

    def __init__(self, side: int, answer: Answer) -> None:
        super().__init__(answer["reason"])
        self.side = side
        self.answer = answer


@dataclass
class Pair:
    """Two processes, of base and of head, in which one case has begun or shall begin.

    mode: what calls are timed in. dice: decides who goes first, each time.
    """

    workers: tuple[Asked, Asked]
    mode: Mode
    dice: random.Random
    now: Callable[[], float] = time.perf_counter
    calls: int = 1
    begun: dict[int, Answer] = field(default_factory=dict)

    def begin(self, jobs: tuple[Job, Job]) -> None:
        """Let both judge and warm up; raises :class:`SideFailedError`."""
        for side in self._order():
            self.begun[side] = self._ask(side, jobs[side])
        # Equal numbers of calls: a block of one more call is another block.
        seconds = min(float(answer["seconds_per_call"]) for answer in self.begun.values())
        self.calls = max(1, round(_BLOCK_SECONDS / max(seconds, 1e-9)))

    def measure(self, seconds: float) -> TwinNumber:
        """Take quads until so much was timed, and return their middle."""
        quads: list[Quad] = []
        # Where others take the processor away, timing takes longer than what it times.
        until = self.now() + _PATIENCE * seconds
        while len(quads) < _FEWEST_QUADS or (self._timed(quads) < seconds and self.now() < until):
            quads.append(self._quad())
        return fold(quads, self.mode)

    @staticmethod
    def _timed(quads: list[Quad]) -> float:
        """Return the seconds that base and head computed, by the clock that stands still for others."""
        blocks = (block for quad in quads for block in (*quad.base, *quad.head))
        return sum(block.seconds if block.cpu_seconds is None else block.cpu_seconds for block in blocks)

    def end(self) -> tuple[Answer, Answer]:
        """Let both judge again; raises :class:`SideFailedError`."""
        job = Job("end", options={"meters": False})
        found = {side: self._ask(side, job) for side in self._order()}
        return found[BASE], found[HEAD]

    def _order(self) -> tuple[int, ...]:
        return _ORDERS[self.dice.randrange(2)][:2]

    def _quad(self) -> Quad:
        blocks: tuple[list[Block], list[Block]] = ([], [])
        job = Job("block", options={"calls": self.calls, "rewarm": self.calls >= _REWARMED})
        for side in _ORDERS[self.dice.randrange(2)]:
            blocks[side].append(Block(**self._ask(side, job)["block"]))
        return Quad(*map(tuple, blocks))

    def _ask(self, side: int, job: Job) -> Answer:
        answer = self.workers[side].ask(job.as_request())
        if answer["status"] != Status.MEASURED:
            raise SideFailedError(side, answer)
        return answer
