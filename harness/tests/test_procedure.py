"""The order of events in one process, told by a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness.bench.measure.clocks import Block, Call
from harness.bench.measure.procedure import Ended, Meter, Procedure, first_line
from harness.bench.measure.vouching import Vouched
from harness.paper.record import Agreement, Reading, Status
from harness.paper.units import Unit

GREEN = Vouched(Status.MEASURED, Agreement(True, "L0", None, {"checks": ["fine"]}))
RED = Vouched(Status.DISAGREED, Agreement(False, "L0", "off"), "It disagrees.")


@dataclass
class Bench:
    """A measurement whose every step leaves a word in ``events``."""

    verdicts: Iterator[Vouched]
    events: list[str] = field(default_factory=list)
    name: str = "fake"
    launch: str = "included"
    cache: str = "hot"

    def vouch_for(self, first: object) -> Vouched:
        """Give the next verdict, by what the first call returned."""
        assert first == "a result"
        return self.vouch()

    def vouch(self) -> Vouched:
        """Give the next verdict."""
        self.events.append("agree")
        return next(self.verdicts)

    def prepare(self) -> Call:
        """Make the call ready."""
        self.events.append("prepare")
        return self.call

    def call(self) -> str:
        """Do what is timed."""
        self.events.append("call")
        return "a result"

    def time(self, call: Call, calls: int) -> Block:
        """Pretend that a call takes a tenth of a millisecond."""
        self.events.append(f"time {calls}")
        return Block(calls, calls * 1e-4, calls * 1e-4, faults=0)

    def procedure(self) -> Procedure:
        """Make the procedure."""
        return Procedure(
            self.prepare, self.vouch_for, self.vouch, {"hot": lambda: self, "cold": lambda: self}
        )


@pytest.fixture
def bench() -> Bench:
    """Agree whenever asked."""
    return Bench(iter([GREEN] * 9))


def noting(bench: Bench, name: str) -> Meter:
    """Return a meter that leaves its name in the events."""

    def read(call: Call) -> Reading:
        bench.events.append(name)
        return Reading(Unit.BYTES, 1.0)

    return Meter(Unit.BYTES, read)


def test_order_of_events(bench: Bench) -> None:
    """First call, agreement, warm-up, turns, agreement, what ran, meters: in this order, nothing between."""
    procedure = bench.procedure()
    begun = procedure.begin(0.01)
    assert bench.events == ["prepare", "call", "agree", *["time 1"] * 10]
    assert begun.calls == 2
    bench.events.clear()
    blocks = procedure.turn("hot", begun.calls, rewarm=True)
    assert bench.events == ["call", *["time 2"] * 50]
    assert len(blocks) == 50
    bench.events.clear()

    def watch(call: Call) -> tuple[dict[str, str], None]:
        bench.events.append("watch")
        return {"ran": "it"}, None

    ended = procedure.end({"memory": noting(bench, "memory"), "energy": noting(bench, "energy")}, watch)
    assert bench.events == ["agree", "watch", "memory", "energy"]
    assert list(ended.readings) == ["memory", "energy"]
    assert ended.facts == {"ran": "it"}


def test_red_before_timing_is_never_timed() -> None:
    """What disagrees before timing is neither warmed up nor timed."""
    bench = Bench(iter([RED]))
    begun = bench.procedure().begin(0.01)
    assert bench.events == ["prepare", "call", "agree"]
    assert begun.vouched is RED


def test_red_after_timing_is_not_metered() -> None:
    """What disagrees after timing has no reading."""
    bench = Bench(iter([GREEN, RED]))
    procedure = bench.procedure()
    procedure.begin(0.01)
    procedure.turn("hot", 1, rewarm=False)
    ended = procedure.end({"memory": noting(bench, "memory")})
    assert bench.events[-1] == "agree"
    assert ended == Ended(RED)


def test_what_ran_may_object(bench: Bench) -> None:
    """Where another program ran than the one that was judged there is no reading; the facts say what ran."""
    procedure = bench.procedure()
    procedure.begin(0.01)
    ended = procedure.end(
        {"memory": noting(bench, "memory")}, lambda call: ({"ran": "eager"}, "It ran eagerly.")
    )
    assert (ended.vouched.status, ended.vouched.reason) == (Status.FAILED, "It ran eagerly.")
    assert ended.facts == {"ran": "eager"}
    assert not ended.readings
    assert "memory" not in bench.events


def test_known_block_length_is_kept(bench: Bench) -> None:
    """Later processes time blocks of as many calls as the first one did."""
    assert bench.procedure().begin(0.01, calls=7).calls == 7


def test_cold_blocks_are_single_calls(bench: Bench) -> None:
    """On cold caches every block is one call, for the second of two finds them warm."""
    procedure = bench.procedure()
    procedure.begin(0.01)
    assert {block.calls for block in procedure.turn("cold", 5, rewarm=False)} == {1}


def test_failing_meter_costs_its_own_reading_alone(bench: Bench) -> None:
    """A meter that raises is a reason in place of its value."""

    def read(call: Call) -> Reading:
        raise RuntimeError("no counter\nand a second line")

    procedure = bench.procedure()
    procedure.begin(0.01)
    readings = procedure.end({"energy": Meter(Unit.JOULES_PER_CALL, read)}).readings
    assert readings["energy"] == Reading.missing(
        Unit.JOULES_PER_CALL, "the meter raised RuntimeError: no counter"
    )


def test_first_line_of_an_exception_without_text() -> None:
    """An exception without text still ends a sentence."""
    assert first_line(ValueError()) == "no message"
