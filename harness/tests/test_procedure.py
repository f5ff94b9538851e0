"""The order of events of one measurement, told by a fake clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness.bench.measure.clocks import Block, Call
from harness.bench.measure.latency import Budget
from harness.bench.measure.procedure import Meter, Outcome, first_line, measure
from harness.paper.record import Agreement, Reading, Status
from harness.paper.units import Unit

GREEN = Agreement(True, "L0", None, {"checks": ["fine"]})
RED = Agreement(False, "L0", "output[0] is 2, the reference has 1", {"checks": ["off"]})


@dataclass
class Bench:
    """A measurement whose every step leaves a word in ``events``."""

    verdicts: Iterator[Agreement]
    events: list[str] = field(default_factory=list)
    meters: dict[str, Meter] = field(default_factory=dict)
    name: str = "fake"
    launch: str = "included"

    def judge(self) -> Agreement:
        """Give the next verdict."""
        self.events.append("agree")
        return next(self.verdicts)

    def prepare(self) -> Call:
        """Make the call ready."""
        self.events.append("prepare")
        return lambda: self.events.append("call")

    def time(self, call: Call, calls: int) -> Block:
        """Pretend that a call takes a tenth of a millisecond."""
        call()
        self.events.append(f"time {calls}")
        return Block(calls, calls * 1e-4, calls * 1e-4, 0)

    def run(self) -> Outcome:
        """Measure with a budget of two samples."""
        return measure(self.judge, self.prepare, self, self.meters, Budget(0.01, 1e-4, 2))


def noting(bench: Bench, name: str) -> Meter:
    """Return a meter that leaves its name in the events."""

    def read(call: Call) -> Reading:
        bench.events.append(name)
        return Reading(Unit.BYTES, 1.0)

    return Meter(Unit.BYTES, read)


def test_order_of_events() -> None:
    """Agree, warm up, sample, agree again, then the other meters: in this order and nothing between."""
    bench = Bench(iter([GREEN, GREEN]))
    bench.meters = {"memory": noting(bench, "memory"), "energy": noting(bench, "energy")}
    outcome = bench.run()
    warm_up = ["call", "time 1"] * 10
    samples = ["call", "time 2"] * 2
    assert bench.events == ["agree", "prepare", *warm_up, *samples, "agree", "memory", "energy"]
    assert outcome.status == Status.MEASURED
    assert list(outcome.readings) == ["latency", "memory", "energy"]
    assert outcome.readings["latency"].samples == pytest.approx((1e-4, 1e-4))


def test_red_before_timing_is_never_timed() -> None:
    """What disagrees before timing is neither prepared, nor warmed up, nor timed, nor metered."""
    bench = Bench(iter([RED]))
    bench.meters = {"memory": noting(bench, "memory")}
    outcome = bench.run()
    assert bench.events == ["agree"]
    assert outcome.status == Status.DISAGREED
    assert outcome.reason == (
        "It disagrees with the reference before timing: output[0] is 2, the reference has 1"
    )
    assert outcome.agreement.evidence == {"checks": ["off"], "when": "before timing"}


def test_red_after_timing_has_no_number() -> None:
    """What disagrees after timing keeps neither its samples nor any other reading, and is not metered."""
    bench = Bench(iter([GREEN, RED]))
    bench.meters = {"memory": noting(bench, "memory")}
    outcome = bench.run()
    assert bench.events[-1] == "agree"
    assert outcome.status == Status.DISAGREED
    assert outcome.reason == (
        "It disagrees with the reference after timing: output[0] is 2, the reference has 1"
    )
    withheld = "withheld, because the implementation disagrees with its reference after timing"
    assert outcome.readings == {
        "latency": Reading.missing(Unit.SECONDS_PER_CALL, withheld),
        "memory": Reading.missing(Unit.BYTES, withheld),
    }


def test_evidence_of_both_agreements_is_kept() -> None:
    """A number stands between two agreements, and the record shows both."""
    outcome = Bench(iter([GREEN, GREEN])).run()
    assert outcome.agreement.evidence == {"before": GREEN.evidence, "after": GREEN.evidence}


def test_failing_meter_costs_its_own_reading_alone() -> None:
    """A meter that raises is a reason in place of its value; the latency stays."""

    def read(call: Call) -> Reading:
        raise RuntimeError("no counter\nand a second line")

    bench = Bench(iter([GREEN, GREEN]), meters={"energy": Meter(Unit.JOULES_PER_CALL, read)})
    readings = bench.run().readings
    assert readings["latency"].value is not None
    assert readings["energy"] == Reading.missing(
        Unit.JOULES_PER_CALL, "the meter raised RuntimeError: no counter"
    )


def test_first_line_of_an_exception_without_text() -> None:
    """An exception without text still ends a sentence."""
    assert first_line(ValueError()) == "no message"
