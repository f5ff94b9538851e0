"""Records: what the processes of a case answered, as one record that tells all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from harness.bench.case import Case
from harness.bench.cost import Cost
from harness.bench.measure.clocks import Block
from harness.bench.measure.group import Member
from harness.bench.measure.latency import ProcessSamples
from harness.bench.measure.meters import METERS
from harness.bench.measure.records import make_record
from harness.bench.measure.settings import Settings
from harness.bench.pages import Kind
from harness.paper.record import Reading, Record, Status
from harness.paper.roofline import CopyPoint, PeakPoint, ReadPoint, SpeedLimit, WritePoint
from harness.paper.units import Unit
from harness.tests.specimens import implementation, mixing, polynomial

Answer = dict[str, Any]
MIB = 2**20

GREEN: Answer = {
    "agrees": True,
    "level": "exact on integers",
    "reason": None,
    "evidence": {"checks": ["before"]},
}
BEGUN: Answer = {
    "status": Status.MEASURED,
    "agreement": GREEN,
    "calls": 2,
    "first_call_seconds": 7.0,
    "seconds_per_call": 0.5,
    "worker": {"threads": 1, "cpus": [1], "allocator": "pinned"},
}
ENDED: Answer = {
    "status": Status.MEASURED,
    "agreement": {**GREEN, "evidence": {"same_bits_as": "before timing"}},
    "readings": {
        "memory": asdict(Reading(Unit.BYTES, 96.0)),
        "energy": asdict(Reading.missing(Unit.JOULES_PER_CALL, "no counter")),
    },
    "facts": {"kernels": {"libraries": ["aten"]}},
}
EXPECTED: Answer = {"status": Status.MEASURED, "inputs": {"seed": 3}, "ones_probe": {"macs": 24}}
COUNTED: Answer = {
    "status": Status.MEASURED,
    "readings": {"macs": asdict(Reading(Unit.MACS_PER_CALL, 24.0, facts={"witnesses": {"flop_counter": 1}}))},
}
CERTIFIED: Answer = {
    "status": Status.MEASURED,
    "certificate": {"box": "white", "agrees": True, "reason": None},
}
SETTINGS = Settings.of("quick")


def case(
    kind: Kind = "eager",
    direction: str = "forward",
    device: str = "cpu",
    cost: Cost | None = None,
    **more: Any,
) -> Case:
    """Return a case of the polynomial specimen."""
    scope = polynomial()
    if cost is not None:
        scope.cost = lambda d: cost
    subject = implementation(mixing, kind=kind, **more)
    return Case(scope, subject, scope.workloads[0], "float32", device, direction)


def process(seconds: float, count: int = 9, **facts: Any) -> ProcessSamples:
    """Return a process with blocks of two calls, which compute without waiting."""
    known: dict[str, Any] = {"others_seconds": 0.0, "faults": 0, "waits": 0, "preemptions": 0, **facts}
    return ProcessSamples([Block(2, 3 * seconds, 2 * seconds, **known) for _ in range(count)], (1,), 12, True)


def measured(subject: Case | None = None, *seconds: float, **more: Any) -> Member:
    """Return a member whose processes took so long a call."""
    found = [process(value) for value in seconds or (1.0, 1.01, 0.99)]
    return Member(subject or case(), BEGUN, ENDED, samples={"hot": found}, stopped="3 processes", **more)


def record(
    member: Member,
    limits: Mapping[str, SpeedLimit] | None = None,
    settings: Settings = SETTINGS,
    **after: Answer,
) -> Record:
    """Make the record."""
    answers = {"counted": COUNTED, "certified": CERTIFIED, **after}
    made = make_record(member, settings, EXPECTED, answers, limits or {}, "now")
    # Every record can be written and read back.
    line = json.loads(json.dumps(made.as_json(), allow_nan=False))
    assert Record.from_json(line).status == made.status
    return made


def test_a_measured_case_tells_everything() -> None:
    """Value, agreement, inputs, worker and counters are in the record of a sound case."""
    found = record(measured(seconds=4.5))
    assert (found.status, found.reason, found.started, found.seconds) == (Status.MEASURED, None, "now", 4.5)
    assert list(found.readings) == ["latency", "memory", "energy", "macs"]
    assert found.readings["latency"].value == 1.0
    assert found.readings["memory"] == Reading(Unit.BYTES, 96.0)
    assert found.readings["energy"].reason == "no counter"
    assert found.readings["macs"].facts["witnesses"] == {"ones_probe": {"macs": 24}, "flop_counter": 1}
    assert found.inputs == {"seed": 3}
    assert found.worker == {**BEGUN["worker"], "kernels": {"libraries": ["aten"]}}


def test_both_judgements_and_the_certificate_are_evidence() -> None:
    """What was found before timing, after it, and by following the implementation."""
    agreement = record(measured()).agreement
    assert agreement is not None
    assert (agreement.agrees, agreement.level) == (True, "exact on integers")
    assert agreement.evidence == {
        "before": {"checks": ["before"]},
        "after": {"same_bits_as": "before timing"},
        "certificate": CERTIFIED["certificate"],
    }


LATENCY_FACTS = {
    *("clock", "cache", "threads", "launch", "calls_per_sample", "blocks", "low_quartile", "high_quartile"),
    *("interval", "stopped", "first_to_last_process_seconds"),
    *("wall_seconds_per_call", "cpu_seconds_per_call", "faults_per_call"),
    *("waits_per_call", "preempted_share", "warm_up_stable", "modes", "processes", "deterministic"),
}


def test_a_latency_says_how_it_was_taken() -> None:
    """Readers of records rely on these keys; of a process they rely on those below."""
    facts = record(measured()).readings["latency"].facts
    assert set(facts) == LATENCY_FACTS
    assert facts["clock"] == "thread CPU time"
    assert facts["stopped"] == "3 processes"
    assert facts["deterministic"] is True
    assert set(facts["processes"][0]) == {
        *("median", "samples", "wall", "cpu", "faults_per_call", "preempted_share"),
        *("warm_up_calls", "warm_up_stable", "cpus"),
    }


def test_bits_that_differ_are_told() -> None:
    """A member whose results differ within rounding is measured, and its latency says so."""
    found = record(measured(deterministic=False))
    assert found.status == Status.MEASURED
    assert found.readings["latency"].facts["deterministic"] is False


def test_cold_caches_have_a_reading_of_their_own() -> None:
    """Each mode fills its own reading."""
    member = measured()
    member.samples["cold"] = [process(3.0)] * 3
    found = record(member).readings
    assert (found["latency"].value, found["latency_cold"].value) == (1.0, 3.0)
    assert (found["latency"].facts["cache"], found["latency_cold"].facts["cache"]) == ("hot", "cold")


def test_a_gpu_is_told_with_and_without_the_launch() -> None:
    """The device's own time, cold and hot, and the time from the launch to the end."""
    blocks = ProcessSamples([Block(1, 2e-3)] * 9)
    member = Member(
        case(device="cuda"), BEGUN, ENDED, samples={name: [blocks] for name in ("hot", "cold", "launched")}
    )
    found = record(member).readings
    told = {
        name: (found[name].facts["launch"], found[name].facts["cache"], found[name].facts["clock"])
        for name in ("latency", "latency_cold", "latency_launched")
    }
    assert told == {
        "latency": ("excluded", "hot", "CUDA events"),
        "latency_cold": ("excluded", "cold", "CUDA events"),
        "latency_launched": ("included", "hot", "wall"),
    }


def threaded(seconds: float) -> Member:
    """Return a member on more threads: the wall tells."""
    return measured(None, *[seconds / 1.5] * 3)


def test_scaling_stands_beside_the_latency_on_all_processors() -> None:
    """The speed-up is that over the fewest threads that were measured."""
    member = measured()
    member.scaling = {2: threaded(0.6), 4: threaded(0.25)}
    found = record(member).readings["latency_all_threads"]
    assert found.value == pytest.approx(0.25)
    assert (found.facts["threads"], found.facts["clock"]) == (4, "wall")
    assert found.facts["scaling"] == {"1": 1.0, "2": pytest.approx(0.6), "4": pytest.approx(0.25)}
    assert found.facts["speedup"] == pytest.approx(4.0)
    assert set(found.facts) == LATENCY_FACTS | {"scaling", "scaling_missing", "speedup"}


def test_a_failure_on_all_processors_costs_that_reading_alone() -> None:
    """The case stays measured; the reason names the number of threads."""
    member = measured()
    broken = member.at_other_threads()
    broken.failure = {"status": Status.CRASHED, "reason": "Its process ended with signal SIGSEGV."}
    member.scaling = {2: threaded(0.6), 4: broken}
    found = record(member)
    assert found.status == Status.MEASURED
    assert found.readings["latency"].value == 1.0
    reading = found.readings["latency_all_threads"]
    assert (reading.value, reading.reason) == (None, "with 4 threads: Its process ended with signal SIGSEGV.")


def test_a_failure_on_some_processors_leaves_the_others() -> None:
    """A number of threads in between that failed is told with its reason."""
    member = measured()
    broken = member.at_other_threads()
    broken.failure = {"status": Status.TIMED_OUT, "reason": "It did not end within 300 s and was stopped."}
    member.scaling = {2: broken, 4: threaded(0.25)}
    facts = record(member).readings["latency_all_threads"].facts
    assert set(facts["scaling"]) == {"1", "4"}
    assert facts["scaling_missing"] == {"2": "It did not end within 300 s and was stopped."}


def test_scaling_below_the_measured_threads() -> None:
    """Where all processors are what was asked for, fewer are what it is compared with."""
    member = measured()
    member.scaling = {1: threaded(3.0)}
    found = record(member, settings=replace(SETTINGS, threads=2)).readings["latency_all_threads"]
    assert found.facts["threads"] == 2
    # 2.0 s by the CPU clock of one thread, 1.5 s by the wall of two.
    assert found.facts["speedup"] == pytest.approx(2.0 / 1.5)


def test_only_compiled_forms_tell_of_compilation() -> None:
    """What the first call took beyond a later one, and never less than nothing."""
    found = record(measured(case("compiled"))).readings["compilation"]
    assert (found.unit, found.value) == (Unit.SECONDS, 6.5)
    assert "compilation" not in record(measured()).readings
    quick = measured(case("compiled"))
    quick.begun = {**BEGUN, "first_call_seconds": 0.4}
    assert record(quick).readings["compilation"].value == 0.0


def test_instructions_are_told_where_they_were_counted() -> None:
    """They are counted on request."""
    counted = asdict(Reading(Unit.INSTRUCTIONS_PER_CALL, 1234.0))
    assert record(measured(), instructions=counted).readings["instructions"].value == 1234.0
    assert "instructions" not in record(measured()).readings


def test_what_a_counter_or_a_meter_lacks_is_a_reason() -> None:
    """A counter that crashed, and a meter that returned no number, cost their own reading alone."""
    crashed = {"status": Status.CRASHED, "reason": "Its process ended with exit code 3."}
    member = measured()
    member.ended = {**ENDED, "readings": {"memory": {**asdict(Reading(Unit.BYTES)), "value": math.inf}}}
    found = record(member, counted=crashed)
    assert found.status == Status.MEASURED
    assert found.readings["macs"].reason == "counting failed: Its process ended with exit code 3."
    assert found.readings["memory"].reason == "the meter returned inf"


@pytest.mark.parametrize("status", [Status.CRASHED, Status.TIMED_OUT, Status.FAILED, Status.OUT_OF_MEMORY])
def test_a_failure_has_its_reason_and_no_number(status: Status) -> None:
    """What was sampled before it failed is no reading."""
    found = record(measured(failure={"status": status, "reason": "It would not."}))
    assert (found.status, found.reason, found.agreement) == (status, "It would not.", None)
    assert found.readings == {}
    assert found.worker["threads"] == 1


@pytest.mark.parametrize("status", [Status.DISAGREED, Status.NONDETERMINISTIC])
def test_numbers_of_a_wrong_program_are_withheld(status: Status) -> None:
    """Each reading says why it is not there, and when the difference was found."""
    agreement = {
        "agrees": False,
        "level": "L0",
        "reason": "output[0] is nan",
        "evidence": {"when": "after timing", "checks": [{"largest_error": math.inf}]},
    }
    failure = {"status": status, "reason": "It is wrong.", "agreement": agreement}
    found = record(measured(failure=failure))
    assert (found.status, found.reason) == (status, "It is wrong.")
    assert set(found.readings) == {"latency", *METERS}
    assert {reading.reason for reading in found.readings.values()} == {
        "withheld, because the implementation disagrees with its reference after timing"
    }
    assert all(reading.value is None for reading in found.readings.values())
    assert found.agreement is not None
    assert found.agreement.evidence["checks"] == [{"largest_error": "inf"}]


def test_a_broken_reference_is_told_of_every_member() -> None:
    """A member that was never begun has a record too."""
    failure = {"status": Status.FAILED, "reason": "Its reference could not be evaluated. It raised."}
    expected = {"status": Status.FAILED, "reason": "It raised."}
    found = make_record(Member(case(), failure=failure), SETTINGS, expected, {}, {}, "now")
    assert (found.status, found.readings, found.inputs, found.worker) == (Status.FAILED, {}, {}, {})


def test_a_certificate_may_refute_what_the_checks_let_pass() -> None:
    """An implementation that was followed and differs disagrees, whatever was measured."""
    refuted = {"box": "white", "agrees": False, "reason": "at B=1 output[0] differs"}
    found = record(measured(), certified={"status": Status.MEASURED, "certificate": refuted})
    assert found.status == Status.DISAGREED
    assert found.reason == "It disagrees with the reference: at B=1 output[0] differs"
    assert found.agreement is not None
    assert found.agreement.evidence["certificate"] == refuted
    assert found.readings["latency"].reason == (
        "withheld, because the implementation disagrees with its reference"
    )


def test_a_box_that_broke_is_black() -> None:
    """That nobody could follow an implementation says nothing against it."""
    crashed = {"status": Status.CRASHED, "reason": "Its process ended with signal SIGSEGV."}
    found = record(measured(), certified=crashed)
    assert found.status == Status.MEASURED
    assert found.agreement is not None
    assert found.agreement.evidence["certificate"] == {
        "box": "black",
        "agrees": True,
        "reason": "following it failed: Its process ended with signal SIGSEGV.",
    }


# One MiB is read and written in all, and a million products are needed, half of them inside of the map.
COST = Cost(
    params=0, macs=10**6, elements_read=3 * MIB // 16, elements_written=MIB // 16, macs_in_bounds=5 * 10**5
)


def limit_of(bytes_per_second: float = 1e9, threads: tuple[int, ...] = (1,)) -> SpeedLimit:
    """Return the speed limit of a machine that is as fast at all sizes, and does a gigaflop."""
    return SpeedLimit(
        "cpu",
        tuple(CopyPoint(MIB, count, bytes_per_second) for count in threads),
        tuple(ReadPoint(MIB, count, bytes_per_second) for count in threads),
        tuple(WritePoint(MIB, count, bytes_per_second) for count in threads),
        tuple(PeakPoint("float32", count, 1e9) for count in threads),
    )


def at(seconds: float, subject: Case, limit: SpeedLimit) -> Record:
    """Return the record of a case that took so long a call on such a machine."""
    return record(measured(subject, *[seconds] * 3), {"cpu": limit})


def test_a_latency_is_held_beside_its_roofline() -> None:
    """The share, what bounds it, and from how many bytes and products: those on padding do not count."""
    slow_memory = at(0.1, case(cost=COST), limit_of()).readings["latency"].facts["roofline"]
    assert slow_memory == {
        "seconds": pytest.approx(MIB / 1e9),
        "share": pytest.approx(MIB / 1e9 / 0.1),
        "bound": "bytes",
        "reason": None,
        "bytes": MIB,
        "macs": 5e5,
    }
    slow_products = at(0.1, case(cost=COST), limit_of(1e12)).readings["latency"].facts["roofline"]
    assert (slow_products["bound"], slow_products["seconds"]) == ("products", pytest.approx(1e6 / 1e9))


def test_every_latency_has_its_own_roofline() -> None:
    """That on more threads is held to what the machine does with as many."""
    member = measured(case(cost=COST), *[0.1] * 3)
    member.scaling = {2: threaded(0.05)}
    found = record(member, {"cpu": limit_of(threads=(1, 2))}).readings
    assert found["latency_all_threads"].facts["roofline"]["share"] == pytest.approx(MIB / 1e9 / 0.05)
    missing = record(member, {"cpu": limit_of()}).readings["latency_all_threads"].facts["roofline"]
    assert (missing["share"], missing["reason"]) == (None, "copying was not measured with 2 threads")


def test_without_a_limit_nothing_is_said_of_it() -> None:
    """Another device's limit says nothing, and one that was not measured has a reason."""
    elsewhere = record(measured(), {"cuda": limit_of()}).readings["latency"]
    assert "roofline" not in elsewhere.facts
    unknown = SpeedLimit("cpu", reasons={"copy": "its process ended"})
    told = at(0.1, case(cost=COST), unknown).readings["latency"]
    assert told.value == 0.1
    assert (told.facts["roofline"]["share"], told.facts["roofline"]["reason"]) == (None, "its process ended")


def test_a_time_that_is_faster_than_possible_is_refused() -> None:
    """Bytes have to be moved, whatever computes: less than that was not the whole call."""
    least = MIB / 2e9  # read and written at once
    found = at(0.5 * least, case(cost=COST), limit_of())
    assert found.status == Status.FAILED
    assert found.reason == (
        "Its time is not valid: A call took 262 µs, but moving its 1.00 MiB takes at least 524 µs on this "
        "machine: what was timed is not the whole call."
    )
    assert list(found.readings) == ["latency"]
    reading = found.readings["latency"]
    assert reading.value is None
    assert str(reading.reason).startswith("invalid: A call took 262 µs")
    assert at(1.1 * least, case(cost=COST), limit_of()).status == Status.MEASURED


def test_products_may_be_fewer_where_a_page_declares_it() -> None:
    """A fast algorithm needs a fifth of the products; an implementation that counts otherwise, any number."""
    machine = limit_of(1e12)
    least = 2 * 5e5 / 1e9
    assert at(least / 4, case(cost=COST), machine).status == Status.MEASURED
    refused = at(least / 10, case(cost=COST), machine)
    assert refused.status == Status.FAILED
    assert "even where a fast algorithm needs 5.06 times fewer of them" in str(refused.reason)
    reordered = case(cost=COST, counted=lambda d: 3, counted_because="a transform")
    assert at(least / 10, reordered, machine).status == Status.MEASURED


def test_a_training_step_is_not_refused() -> None:
    """It does at least as much as a forward call, but no formula tells how much."""
    found = at(1e-5, case(direction="training", cost=COST), limit_of())
    assert found.status == Status.MEASURED


def test_a_refused_time_on_all_processors_refuses_the_case() -> None:
    """Whichever of its times cannot be true, what was timed was not the whole call."""
    member = measured(case(cost=COST), *[0.1] * 3)
    member.scaling = {2: threaded(1e-6)}
    found = record(member, {"cpu": limit_of(threads=(1, 2))})
    assert (found.status, list(found.readings)) == (Status.FAILED, ["latency"])
