"""The order of events in one process: first call, agreement, warm-up, turns, agreement again, meters."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.bench.measure.clocks import Block, Call, Clock
from harness.bench.measure.modes import COLD, HOT
from harness.bench.measure.sampling import WarmUp, take_turn, warm_up
from harness.bench.measure.vouching import Vouched
from harness.paper.record import Reading, Status
from harness.paper.units import Unit


@dataclass(frozen=True)
class Meter:
    """What reads one further quantity of a call, and its unit where there is nothing to read."""

    unit: Unit
    read: Callable[[Call], Reading]

    def try_reading(self, call: Call) -> Reading:
        """Read; a meter that fails costs its own reading alone."""
        try:
            return self.read(call)
        except Exception as error:
            return Reading.missing(self.unit, f"the meter raised {type(error).__name__}: {first_line(error)}")


@dataclass(frozen=True)
class Begun:
    """How the part before timing ended.

    calls: of a block. measuring_seconds: of the first call and of warming up, without the judging.
    """

    vouched: Vouched
    first_call_seconds: float
    warm: WarmUp = field(default_factory=WarmUp)
    calls: int = 1
    measuring_seconds: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How the part after timing ended. Without agreement there is no reading in it."""

    vouched: Vouched
    readings: Mapping[str, Reading] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    measuring_seconds: float = 0.0


@dataclass
class Procedure:
    """Measures one call in this process, in steps that the one who asks for them interleaves.

    A number exists only between two agreements; what is red before is never warmed up or timed.
    prepare: makes the call ready. vouch_for: judges it, knowing its first result; vouch: judges it again.
    clocks: by their modes. finish: waits for the device.
    """

    prepare: Callable[[], Call]
    vouch_for: Callable[[object], Vouched]
    vouch: Callable[[], Vouched]
    clocks: Mapping[str, Callable[[], Clock]]
    finish: Callable[[], None] = lambda: None
    now: Callable[[], float] = time.perf_counter
    _call: Call | None = None
    _clocks: dict[str, Clock] = field(default_factory=dict)

    def begin(self, warm_up_seconds: float, calls: int | None = None, modes: Sequence[str] = (HOT,)) -> Begun:
        """Make the call ready, judge it, and warm it up.

        calls: of a block, where that is known. modes: those that turns will ask for; a clock may hold memory
        of its own, which is better taken before the call finds its place.
        """
        for mode in modes:
            self._clock(mode)
        self._call = self.prepare()
        # The first call of a process pays for compilation and is timed for that alone.
        began = self.now()
        result = self._call()
        self.finish()
        first = self.now() - began
        vouched = self.vouch_for(result)
        # Nothing that judging needed is held while the call is timed.
        del result
        if vouched.status != Status.MEASURED:
            return Begun(vouched, first)
        # The collector would run at moments of its own choosing; what there is now is never collected.
        gc.collect()
        gc.freeze()
        gc.disable()
        began = self.now()
        warm = warm_up(self._call, self._clock(HOT), warm_up_seconds)
        spent = first + self.now() - began
        return Begun(vouched, first, warm, calls or warm.calls_per_block, spent)

    def turn(self, mode: str, calls: int, *, rewarm: bool) -> list[Block]:
        """Take one turn of timed blocks; on cold caches every call is one."""
        assert self._call is not None
        return take_turn(self._call, self._clock(mode), 1 if mode == COLD else calls, rewarm=rewarm)

    def block(self, calls: int, *, rewarm: bool) -> Block:
        """Time one block on hot caches.

        rewarm: whether to make an untimed call first.
        """
        assert self._call is not None
        if rewarm:
            self._call()
        return self._clock(HOT).time(self._call, calls)

    @property
    def call(self) -> Call:
        """What is timed."""
        assert self._call is not None
        return self._call

    def end(
        self,
        meters: Mapping[str, Meter],
        watch: Callable[[Call], tuple[Mapping[str, Any], str | None]] | None = None,
    ) -> Ended:
        """Judge again, see what ran, and read the other meters."""
        assert self._call is not None
        gc.enable()
        vouched = self.vouch()
        if vouched.status != Status.MEASURED:
            return Ended(vouched)
        began, call = self.now(), self._call
        facts: Mapping[str, Any] = {}
        if watch is not None:
            facts, objection = watch(call)
            if objection is not None:
                return Ended(replace(vouched, status=Status.FAILED, reason=objection), facts=facts)
        readings = {name: meter.try_reading(call) for name, meter in meters.items()}
        return Ended(vouched, readings, facts, self.now() - began)

    def _clock(self, mode: str) -> Clock:
        if mode not in self._clocks:
            self._clocks[mode] = self.clocks[mode]()
        return self._clocks[mode]


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says."""
    return (str(error).strip().splitlines() or ["no message"])[0]
