"""Groves: fresh interpreters with a branch for each side, and the numbers that pairs of processes yield."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.bench.measure.jobs import Job
from harness.bench.measure.modes import HOT, Mode
from harness.bench.measure.processors import Processors
from harness.bench.measure.workers import Allocator, worker_environment
from harness.bench.twins.inspection import Inspection, Inspector
from harness.bench.twins.pair import Pair
from harness.bench.twins.side import Side
from harness.bench.twins.trunk import Branch, ShadowedError, Trunk
from harness.paper.gate.outcome import TwinNumber
from harness.paper.record import CaseId

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class TwinSettings:
    """How a pair of processes measures.

    threads: of torch, at most. warm_up_seconds of each process; sample_seconds of both together.
    """

    threads: int = 1
    warm_up_seconds: float = 0.05
    sample_seconds: float = 0.15
    timeout_seconds: float = 120.0
    allocator: Allocator = "pinned"


@dataclass
class Grove:
    """Branches of several sides, by name, that grew from the same moment, and what is done with them."""

    branches: Mapping[str, Branch]
    sides: Mapping[str, Side]
    settings: TwinSettings
    scratch: Path
    processors: Processors
    dice: random.Random

    @property
    def is_alive(self) -> bool:
        """Whether all branches still serve: a page can end the process that forked it."""
        return all(branch.is_alive for branch in self.branches.values())

    def list(self, side: str, preset: str, device: str, match: str) -> Answer:
        """Ask a side for its cases that match."""
        job = Job("list", options={"preset": preset, "device": device, "match": match})
        return self.branches[side].ask(job.as_request())

    def inspect(self, case: CaseId, sides: Sequence[str], threads: int = 1) -> dict[str, Inspection]:
        """Judge the sides by their own references, all at once, and count what a call does."""
        with ThreadPoolExecutor(len(sides)) as pool:
            found = pool.map(lambda side: self.inspector(side, threads).inspect(case), sides)
            return dict(zip(sides, found, strict=True))

    def inspector(self, side: str, threads: int = 1) -> Inspector:
        """Return who asks a side about its cases."""
        # The references of a side compute the same in every grove.
        expected = self.scratch / f"expected-{self.sides[side].like or side}"
        expected.mkdir(exist_ok=True)
        return Inspector(self.branches[side], expected, threads)

    def measure(
        self, case: CaseId, sides: tuple[str, str], known: Mapping[str, Inspection], threads: int = 1
    ) -> TwinNumber:
        """Measure a case in a fresh pair of processes; raises :class:`SideFailedError`.

        sides: what counts as base, and what as head. known: their inspections.
        """
        cpus = self.processors.choose(threads)
        warm_up = self.settings.warm_up_seconds
        begin = {
            side: self.inspector(side, threads).begin(case, known[side], warm_up, cpus) for side in sides
        }
        hired: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            # Who is forked first finds other memory free.
            for side in self.dice.sample(sides, 2):
                hired[side] = stack.enter_context(self.branches[side].hire())
            base, head = sides
            pair = Pair((hired[base], hired[head]), Mode.of(HOT, case.device, threads), self.dice)
            pair.begin((begin[base], begin[head]))
            number = pair.measure(self.settings.sample_seconds)
            pair.end()
            return number


@dataclass
class Twins:
    """Grows groves of sides, by name. reason: why they are started apart; empty where they are forked.

    seed: of every choice that is left to chance.
    """

    sides: dict[str, Side]
    settings: TwinSettings
    scratch: Path
    seed: int = 0
    reason: str = ""
    processors: Processors = field(default_factory=Processors)
    _grown: int = 0

    @contextlib.contextmanager
    def grove(self, names: Sequence[str], *, judging: bool = False) -> Iterator[Grove]:
        """Start fresh interpreters and give branches of these sides.

        judging: whether they shall judge, and not just measure. Raises :class:`SideRefusedError` where a side
        cannot be imported, or would not be kept apart.
        """
        self._grown += 1
        dice = random.Random(f"{self.seed}/{self._grown}")  # noqa: S311  # an order, no secret
        with contextlib.ExitStack() as stack:
            try:
                branches = self._branches(names, stack, dice, judging)
            except ShadowedError as error:
                if self.reason:
                    raise
                stack.close()
                self.reason = str(error)
                branches = self._branches(names, stack, dice, judging)
            yield Grove(branches, self.sides, self.settings, self.scratch, self.processors, dice)

    def _branches(
        self, names: Sequence[str], stack: contextlib.ExitStack, dice: random.Random, judging: bool
    ) -> dict[str, Branch]:
        if self.reason:
            own = {name: self._trunk(self.sides[name].paths, judging) for name in names}
            trunks = {name: stack.enter_context(trunk) for name, trunk in own.items()}
        else:
            trunks = dict.fromkeys(names, stack.enter_context(self._trunk((), judging)))
        timeout = self.settings.timeout_seconds
        return {
            name: trunks[name].branch(self.sides[name], timeout, started=bool(self.reason))
            for name in dice.sample(list(names), len(names))
        }

    def _trunk(self, paths: Sequence[Path], judging: bool) -> Trunk:
        environment = worker_environment(self.settings.threads, self.settings.allocator, self.scratch)
        if paths:
            # What torch imports too must come from here in the first place.
            environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), environment["PYTHONPATH"]])
        return Trunk(environment, self.scratch / "twins.log", is_bare=not judging)
