"""The roofline: the speed of the machine at a case's size, and no false alarm below it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.paper.errors import SameopError
from harness.paper.record import SCHEMA
from harness.paper.roofline import (
    CopyPoint,
    PeakPoint,
    ReadPoint,
    Roofline,
    SpeedLimit,
    WritePoint,
    best_of,
    faster_than_possible,
    peak_name,
    roofline,
)

KIB, MIB = 2**10, 2**20
SIZES = [32 * KIB * 4**step for step in range(7)]

# One thread of an AMD EPYC (Zen 4, 32 MiB of L3) as sameop measured it.
LIMIT = SpeedLimit(
    device="cpu",
    copy=tuple(
        CopyPoint(size, 1, rate * 1e9)
        for size, rate in zip(SIZES, (100.3, 108.6, 108.8, 92.2, 69.5, 21.2, 21.0), strict=True)
    ),
    read=tuple(
        ReadPoint(size, 1, rate * 1e9)
        for size, rate in zip(SIZES, (99.2, 109.5, 105.1, 92.2, 91.0, 27.4, 24.9), strict=True)
    ),
    write=tuple(
        WritePoint(size, 1, rate * 1e9)
        for size, rate in zip(SIZES, (97.0, 109.4, 106.3, 94.9, 93.0, 23.0, 19.9), strict=True)
    ),
    peak=(PeakPoint("float32", 1, 102.7e9), PeakPoint("bfloat16", 1, 216e9)),
    reasons={peak_name("float8_e4m3fn", 1): "there is no product of float8_e4m3fn"},
    started="now",
    seconds=1.1,
)


def of(minimal_bytes: float | None, macs: float | None, dtype: str = "float32", threads: int = 1) -> Roofline:
    """Return the roofline of a case on the recorded machine."""
    return roofline(LIMIT, minimal_bytes, macs, dtype, threads)


def test_a_case_takes_as_long_as_its_slower_part() -> None:
    """The larger of the times of bytes and of products decides, and is named."""
    small = of(32 * KIB, 0)
    assert (small.seconds, small.bound) == (32 * KIB / 100.3e9, "bytes")
    many = of(32 * KIB, 1_000_000)
    assert (many.seconds, many.bound) == (2e6 / 102.7e9, "products")
    assert (many.bytes_seconds, many.products_seconds) == (small.seconds, many.seconds)


@given(st.floats(1, 2**30), st.floats(0, 1e12))
def test_a_roofline_is_the_larger_of_its_parts(count: float, macs: float) -> None:
    """The bound names the part that decides, and twice the time is half of the machine."""
    found = of(count, macs)
    assert found.seconds is not None
    parts = {"bytes": found.bytes_seconds, "products": found.products_seconds}
    assert found.seconds == max(parts.values(), key=lambda seconds: seconds or 0.0) == parts[str(found.bound)]
    assert found.share(2 * found.seconds) == pytest.approx(0.5)


@pytest.mark.parametrize("place", range(6))
def test_bandwidth_is_interpolated_over_the_logarithm_of_size(place: int) -> None:
    """At a measured point it is the measured one; half way between two, on a scale of logs, their mean."""
    lower, upper = LIMIT.copy[place : place + 2]
    found = of(2 * lower.working_set_bytes, 0).seconds
    mean = (lower.bytes_per_second + upper.bytes_per_second) / 2
    assert found == pytest.approx(2 * lower.working_set_bytes / mean)
    for point in (lower, upper):
        expected = point.working_set_bytes / point.bytes_per_second
        assert of(point.working_set_bytes, 0).seconds == pytest.approx(expected)


def test_beyond_what_was_measured_the_nearest_point_counts() -> None:
    """Below the smallest working set and above the largest nothing is extrapolated."""
    assert of(100, 0).seconds == pytest.approx(100 / 100.3e9)
    assert of(2**40, 0).seconds == pytest.approx(2**40 / 21.0e9)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (of(None, 1), "the bytes that the case moves are unknown"),
        (of(1, None), "the MACs of the case are unknown"),
        (of(1, 1, threads=2), "copying was not measured with 2 threads"),
        (of(1, 1, "float64"), "the peak of float64 was not measured with 1 thread"),
        (of(1, 1, "float8_e4m3fn"), "there is no product of float8_e4m3fn"),
        (of(0, 0), "the case moves no bytes and needs no products"),
        (
            roofline(replace(LIMIT, copy=(), reasons={"copy": "there is no room"}), 1, 1, "float32", 1),
            "there is no room",
        ),
        (
            roofline(SpeedLimit("cuda", copy=(CopyPoint(1, 1, 1.0),)), 1, 1, "float32", 8),
            "the peak of float32 was not measured",
        ),
    ],
)
def test_where_a_part_is_unknown_there_is_a_reason(found: Roofline, reason: str) -> None:
    """A roofline of which one part is missing has no seconds, no bound and no share."""
    assert (found.seconds, found.bound, found.share(1.0), found.reason) == (None, None, None, reason)


def test_what_needs_no_products_needs_no_peak() -> None:
    """A case without MACs has a roofline in every dtype."""
    assert of(MIB, 0, "float64").bound == "bytes"


def test_threads_play_no_part_on_a_device() -> None:
    """A GPU is one, whatever the threads of its host."""
    gpu = replace(LIMIT, device="cuda")
    assert roofline(gpu, MIB, 1e6, "float32", 16) == roofline(gpu, MIB, 1e6, "float32", 1)


def told(latency_seconds: float, minimal_bytes: float, macs: float, **how: Any) -> str | None:
    """Judge a latency on the recorded machine."""
    return faster_than_possible(latency_seconds, of(minimal_bytes, macs), **how)


def test_a_call_that_only_started_its_work_is_found() -> None:
    """The time of a launch is no time of 64 MiB."""
    assert told(5e-6, 64 * MIB, 0) == (
        "A call took 5.00 µs, but moving its 64.0 MiB takes at least 666 µs on this machine: "
        "what was timed is not the whole call."
    )


def test_a_call_that_left_out_its_products_is_found() -> None:
    """Fast algorithms need fewer products, but not that few."""
    assert told(1e-3, 32 * KIB, 1e9) == (
        "A call took 1.00 ms, but its products take at least 3.85 ms on this machine, even where a fast "
        "algorithm needs 5.06 times fewer of them: what was timed is not the whole call."
    )


def test_a_fast_algorithm_is_no_alarm() -> None:
    """Winograd's 5.06 times fewer products at the full speed of the machine are possible."""
    assert told(2e9 / 102.7e9 / 5.06, 32 * KIB, 1e9) is None
    assert told(1e-3, 32 * KIB, 1e9, fewer_products=100) is None


def test_a_call_that_mostly_reads_is_no_alarm() -> None:
    """Reading is faster than copying: a share above 1 is no impossibility."""
    latency = 128 * MIB / 24.9e9
    share = of(128 * MIB, 0).share(latency)
    assert share is not None
    assert share > 1.1
    assert told(latency, 128 * MIB, 0) is None


def test_a_call_that_finds_a_part_of_its_data_in_the_cache_is_no_alarm() -> None:
    """Of a working set twice the size of the cache one half may still be there."""
    latency = 32 * MIB / 20e9  # the other half from memory, meanwhile
    share = of(64 * MIB, 0).share(latency)
    assert share is not None
    assert share > 1.5
    assert told(latency, 64 * MIB, 0) is None


def test_half_precision_may_be_widened() -> None:
    """Where products of float16 are slow, a program that widens its inputs is not bound by them."""
    slow = replace(LIMIT, peak=(*LIMIT.peak, PeakPoint("float16", 1, 4e9)))
    found = roofline(slow, 100, 1e9, "float16", 1)
    assert found.products_seconds == pytest.approx(0.5)
    assert found.least_products_seconds == pytest.approx(2 / 102.7)
    assert faster_than_possible(0.05, found) is None
    alone = replace(LIMIT, peak=(PeakPoint("float16", 1, 4e9),))
    assert roofline(alone, 100, 1e9, "float16", 1).least_products_seconds is None


@pytest.mark.parametrize("kind", ["read", "write", "copy"])
def test_without_all_kinds_of_traffic_nothing_is_impossible(kind: str) -> None:
    """A bound that rests on a part of the evidence is none."""
    part: dict[str, Any] = {kind: ()}
    found = roofline(replace(LIMIT, **part), 64 * MIB, 0, "float32", 1)
    assert found.least_bytes_seconds is None
    assert faster_than_possible(1e-9, found) is None


def test_a_limit_with_other_threads_proves_nothing() -> None:
    """More threads than measured may be faster; fewer may not."""
    assert of(64 * MIB, 1e9, threads=2).least_bytes_seconds is None
    both = replace(
        LIMIT,
        # A start of two threads for every call made the second measurement slower than one thread.
        copy=(*LIMIT.copy, *(CopyPoint(size, 2, 1e9) for size in SIZES)),
        read=(*LIMIT.read, *(ReadPoint(size, 2, 1e9) for size in SIZES)),
        write=(*LIMIT.write, *(WritePoint(size, 2, 1e9) for size in SIZES)),
    )
    assert (
        roofline(both, 64 * MIB, 0, "float32", 2).least_bytes_seconds == of(64 * MIB, 0).least_bytes_seconds
    )


class Machine:
    """A machine of levels: sizes of its caches, and bytes a second read from and written to each level."""

    def __init__(self, sizes: list[int], reads: list[float], writes: list[float]) -> None:
        self.sizes, self.reads, self.writes = sizes, reads, writes

    def _level(self, working_set: float) -> int:
        return sum(size < working_set for size in self.sizes)

    def limit(self) -> SpeedLimit:
        """Measure it: a working set that is gone through again and again comes from where it fits."""
        measured = [(size, self.reads[level], self.writes[level]) for size, level in self._levels()]
        return SpeedLimit(
            "cpu",
            copy=tuple(CopyPoint(size, 1, 2 * min(read, write)) for size, read, write in measured),
            read=tuple(ReadPoint(size, 1, read) for size, read, _ in measured),
            write=tuple(WritePoint(size, 1, write) for size, _, write in measured),
        )

    def _levels(self) -> list[tuple[int, int]]:
        return [(size, self._level(size)) for size in SIZES]

    def best_seconds(self, count: float, read_share: float) -> float:
        """Time a program that finds in every cache as much as fits, and uses all levels at once."""
        seconds = 0.0
        for held, read, write in zip((0, *self.sizes), self.reads, self.writes, strict=True):
            beyond = max(0.0, count - held)
            seconds = max(seconds, beyond * read_share / read, beyond * (1 - read_share) / write)
        return seconds


rates = st.lists(st.floats(1e9, 1e12), min_size=4, max_size=4).map(lambda found: sorted(found, reverse=True))
# The smallest working set that is measured lies in the nearest cache.
machines = st.builds(
    Machine,
    st.lists(st.integers(32 * KIB, 64 * MIB), min_size=3, max_size=3).map(sorted),
    rates,
    rates,
)


@given(machines, st.floats(1, 2**31), st.floats(0, 1))
def test_no_program_is_an_alarm_on_any_machine(machine: Machine, count: float, read_share: float) -> None:
    """Whatever a program reads and writes, wherever it finds it, what the machine can do is possible."""
    found = roofline(machine.limit(), count, 0, "float32", 1)
    assert found.least_bytes_seconds is not None
    assert faster_than_possible(machine.best_seconds(count, read_share), found) is None


@pytest.mark.parametrize("times", [1.05, 1.3, 2, 3.9])
@pytest.mark.parametrize("cache", SIZES[1:-1])
def test_what_the_caches_still_hold_is_no_alarm(cache: int, times: float) -> None:
    """A program that reads as much as it writes, and finds in the cache what fits, is possible."""
    near = Machine([cache - 1] * 3, [64e9, 4e9, 4e9, 4e9], [64e9, 4e9, 4e9, 4e9])
    found = roofline(near.limit(), times * cache, 0, "float32", 1)
    assert faster_than_possible(near.best_seconds(times * cache, 0.5), found) is None


@pytest.mark.parametrize("place", range(6))
def test_a_point_slower_than_a_larger_working_set_was_disturbed(place: int) -> None:
    """What a larger working set was found to move, a smaller one can move as well."""
    parts: dict[str, Any] = {}
    for kind in ("copy", "read", "write"):
        points = list(getattr(LIMIT, kind))
        points[place] = replace(points[place], bytes_per_second=1e6)
        parts[kind] = tuple(points)
    count = LIMIT.copy[place].working_set_bytes * 2
    found = roofline(replace(LIMIT, **parts), count, 0, "float32", 1)
    next_point = LIMIT.read[place + 1].bytes_per_second + LIMIT.write[place + 1].bytes_per_second
    assert faster_than_possible(count / next_point, found) is None


@given(machines, st.floats(64 * MIB, 2**31))
def test_a_small_part_of_the_work_is_an_alarm_on_every_machine(machine: Machine, count: float) -> None:
    """A call that does a fiftieth of what it should cannot pass, however fast the caches are."""
    # A memory so much slower than the cache that half of the working set may come from there unnoticed.
    assume(machine.reads[0] < 20 * machine.reads[3])
    assume(machine.writes[0] < 20 * machine.writes[3])
    found = roofline(machine.limit(), count, 0, "float32", 1)
    assert found.seconds is not None
    assert faster_than_possible(found.seconds / 50, found) is not None


@given(machines, st.integers(0, 6), st.floats(0.01, 1), st.floats(1, 2**31))
def test_a_disturbed_measurement_is_lifted_by_another(
    machine: Machine, place: int, share: float, count: float
) -> None:
    """Joined with an undisturbed one, a limit that was measured under load is as good as that one."""
    whole = machine.limit()
    slow = replace(whole.copy[place], bytes_per_second=share * whole.copy[place].bytes_per_second)
    disturbed = replace(whole, copy=(*whole.copy[:place], slow, *whole.copy[place + 1 :]))
    for limits in ([whole, disturbed], [disturbed, whole]):
        joined = best_of(limits)
        assert joined is not None
        assert roofline(joined, count, 0, "float32", 1) == roofline(whole, count, 0, "float32", 1)


def test_limits_of_a_resumed_run_are_joined() -> None:
    """Each point and each peak is the best; a reason stays where it is everyone's."""
    later = SpeedLimit(
        "cpu",
        copy=(CopyPoint(32 * KIB, 1, 200e9), CopyPoint(32 * KIB, 2, 1e9)),
        peak=(PeakPoint("float32", 1, 50e9), PeakPoint("float64", 1, 40e9)),
        reasons={"cache": "no cache is described"},
        started="later",
        seconds=0.9,
    )
    joined = best_of([LIMIT, later])
    assert joined is not None
    assert joined.copy == (later.copy[0], *LIMIT.copy[1:], later.copy[1])
    assert {point.dtype: point.flops_per_second for point in joined.peak} == {
        "float32": 102.7e9,
        "float64": 40e9,
        "bfloat16": 216e9,
    }
    assert (joined.read, joined.reasons, joined.started, joined.seconds) == (LIMIT.read, {}, "now", 2.0)
    assert best_of([]) is None
    assert best_of([LIMIT, LIMIT]) == replace(LIMIT, peak=joined_peaks(LIMIT), seconds=2.2)


def joined_peaks(limit: SpeedLimit) -> tuple[PeakPoint, ...]:
    """Return the peaks in the order of their dtypes."""
    return tuple(sorted(limit.peak, key=lambda point: point.dtype))


def test_limits_of_two_devices_are_not_joined() -> None:
    """The speed of a GPU says nothing of the CPU."""
    with pytest.raises(ValueError, match=r"^Limits of one device can be joined, these are of cpu, cuda\.$"):
        best_of([LIMIT, replace(LIMIT, device="cuda")])


def test_a_limit_is_read_back_as_it_was() -> None:
    """A limit survives a line of JSON; keys of a newer version are left alone."""
    line = json.loads(json.dumps(LIMIT.as_json()))
    assert (line["kind"], line["schema"]) == ("limits", SCHEMA)
    assert line["copy"][0] == {"working_set_bytes": 32768, "threads": 1, "bytes_per_second": 100.3e9}
    line["copy"][0]["weather"] = "fine"
    assert SpeedLimit.from_json({**line, "humidity": 0.5}) == LIMIT


def test_a_limit_without_reading_and_writing_is_read() -> None:
    """These two may be missing: then nothing is held to be impossible."""
    line = LIMIT.as_json()
    del line["read"], line["write"]
    assert SpeedLimit.from_json(line) == replace(LIMIT, read=(), write=())


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf, "inf", None, []])
def test_a_rate_that_is_none_is_refused(rate: Any) -> None:
    """What would divide by zero later is refused when it is read."""
    line = LIMIT.as_json()
    for part, name in (("copy", "bytes_per_second"), ("peak", "flops_per_second")):
        broken = {**line, part: [{**line[part][0], name: rate}]}
        with pytest.raises(SameopError, match="The line is no record of sameop"):
            SpeedLimit.from_json(broken)
