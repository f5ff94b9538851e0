"""What stands beside a latency says what was found, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from harness.paper.record import Reading
from harness.paper.units import Unit

from .latencies import (
    list_flags,
    say_medians,
    say_modes,
    say_processors,
    say_scaling,
    say_speedup,
    share_of,
    write_share,
)


def latency(**facts: Any) -> Reading:
    """Return a latency of one millisecond with these facts."""
    return Reading(Unit.SECONDS_PER_CALL, 1e-3, facts=facts)


def flags(**facts: Any) -> list[str]:
    """Return what is said against a latency with these facts."""
    return list(list_flags("latency", latency(**facts)))


def test_an_undisturbed_latency_has_no_flag() -> None:
    """Nothing is said against a latency of which nothing is known, or only good things."""
    assert flags() == []
    assert flags(modes=None, faults_per_call=0.2, warm_up_stable=True, deterministic=True) == []


def test_modes_are_told_with_their_processes() -> None:
    """Processes that fall into groups are told by number and median; one group is none."""
    modes = [{"median": 6.4e-4, "processes": 2}, {"median": 2.3e-3, "processes": 1}]
    assert flags(modes=modes) == ["2 processes at 640 µs, 1 at 2.30 ms"]
    assert say_modes(latency(modes=list(reversed(modes)))) == "1 process at 2.30 ms, 2 at 640 µs"
    assert flags(modes=modes[:1]) == []


def test_interruptions_count_where_the_clock_is_the_wall() -> None:
    """A thread's own clock stands still while it is interrupted; the wall does not."""
    assert flags(clock="wall", preempted_share=0.4) == ["preempted in 40 % of the samples"]
    assert flags(clock="thread CPU time", preempted_share=0.4) == []
    assert flags(clock="wall", preempted_share=0.04) == []


def test_faults_and_an_unstable_warm_up_are_told() -> None:
    """Fresh memory in every call and times that still moved stand beside the number."""
    assert flags(faults_per_call=1309.6, warm_up_stable=False) == [
        "1.31 k page faults a call",
        "warm-up not stable",
    ]


def test_results_that_differ_are_told_once() -> None:
    """That results differ is said of the case, so beside its first latency and not beside every one."""
    assert flags(deterministic=False) == ["results differ between calls within rounding"]
    assert list(list_flags("latency_cold", latency(deterministic=False))) == []


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        (
            {"throttled_share": 0.12, "flag": None},
            "GPU throttled in 12.0 % of the samples, which were left out",
        ),
        ({"throttled_share": 0.8, "flag": "more than half"}, "GPU throttled: more than half"),
        ({"launch_hidden": False, "not_hidden_because": "it waits"}, "launch not hidden: it waits"),
        ({"launch_hidden": False}, "launch not hidden"),
    ],
)
def test_the_state_of_a_gpu_is_told(gpu: dict[str, Any], words: str) -> None:
    """Throttling, and launches that could not be hidden, stand beside the number."""
    assert flags(gpu=gpu) == [words]


def test_a_cool_gpu_has_no_flag() -> None:
    """A GPU that was never throttled, behind hidden launches, is no news."""
    assert flags(gpu={"throttled_share": 0.0, "launch_hidden": True, "flag": None}) == []


def test_processes_are_told_in_their_order() -> None:
    """The medians keep their order; processors that several processes had are named once."""
    processes = [
        {"median": 2e-3, "cpus": [0, 1, 2, 8]},
        {"median": 1e-3, "cpus": [0, 1, 2, 8]},
        {"median": 3e-3, "cpus": [4]},
    ]
    reading = latency(processes=processes)
    assert say_medians(reading) == "2.00 ms, 1.00 ms, 3.00 ms"
    assert say_processors(reading) == "0–2, 8; 4"


def test_scaling_is_told_for_every_number_of_threads() -> None:
    """The speed-up names the threads it was reached with."""
    reading = latency(threads=4, speedup=1.9, scaling={"1": 1.9e-3, "2": 1.2e-3, "4": 1e-3})
    assert say_speedup(reading) == "1.90× on 4"
    assert say_scaling(reading) == "1.90 ms on 1, 1.20 ms on 2, 1.00 ms on 4"


def test_a_share_is_a_number_or_a_reason() -> None:
    """A share of the roofline names what bounds it; a missing one has the reason that was recorded."""
    assert share_of(latency(roofline={"share": 0.4, "bound": "bytes"})) == (0.4, "bytes")
    assert share_of(latency(roofline={"share": None, "reason": "no peak"})) == (None, "no peak")
    assert share_of(latency()) == (None, "the run holds no speed limit of this machine")
    assert share_of(Reading.missing(Unit.SECONDS_PER_CALL, "red")) == (None, "red")


@pytest.mark.parametrize(
    ("share", "words"), [(1.12, "112 %"), (0.5568, "55.7 %"), (0.0422, "4.22 %"), (0.0042, "0.42 %")]
)
def test_a_share_is_written_as_it_is(share: float, words: str) -> None:
    """Programs that mostly read may stand above the roofline of copying: nothing is cut off."""
    assert write_share(share) == words


@pytest.mark.parametrize("value", ["much", [1], {"a": "b"}, True, None])
def test_facts_of_another_kind_are_left_alone(value: Any) -> None:
    """A record may hold anything where a number or parts are looked for."""
    names = ("preempted_share", "faults_per_call", "modes", "gpu", "processes", "roofline", "scaling")
    reading = latency(clock="wall", **dict.fromkeys(names, value))
    assert list(list_flags("latency", reading)) == []
    assert say_medians(reading) == say_scaling(reading) == say_processors(reading) == ""
