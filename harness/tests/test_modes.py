"""Modes: in which state of the caches, and with or without the launch, a call is timed."""

from __future__ import annotations

import pytest

from harness.bench.measure.modes import COLD, HOT, LAUNCHED, READINGS, Mode, clocks_for, modes_of


@pytest.mark.parametrize(
    ("name", "device", "cache", "launch"),
    [
        ("hot", "cpu", "hot", "included"),
        ("cold", "cpu", "cold", "included"),
        ("hot", "cuda", "hot", "excluded"),
        ("cold", "cuda", "cold", "excluded"),
        ("launched", "cuda", "hot", "included"),
    ],
)
def test_a_mode_names_its_conditions(name: str, device: str, cache: str, launch: str) -> None:
    """A GPU's own time is told without the launch, but in one mode; a CPU has no launch to leave out."""
    assert Mode.of(name, device, 3) == Mode(device, cache, 3, launch)


def test_every_device_is_timed_hot_first() -> None:
    """The first mode is the one whose reading is the latency; cold caches on the CPU are an extra."""
    assert modes_of("cpu", cold=False) == (HOT,)
    assert modes_of("cpu", cold=True) == (HOT, COLD)
    assert modes_of("cuda", cold=False) == modes_of("cuda", cold=True) == (HOT, COLD, LAUNCHED)


def test_every_mode_fills_a_reading_of_its_own() -> None:
    """No two modes share a reading, and all are latencies."""
    assert set(READINGS) == {HOT, COLD, LAUNCHED}
    assert len(set(READINGS.values())) == 3
    assert READINGS[HOT] == "latency"
    assert all(name.startswith("latency") for name in READINGS.values())


@pytest.mark.parametrize("mode", [HOT, COLD])
def test_a_clock_has_the_conditions_of_its_mode(mode: str) -> None:
    """What a clock does to the caches and to the launch is what the record will say."""
    clock = clocks_for("cpu")[mode]()
    conditions = Mode.of(mode, "cpu", 1)
    assert (clock.cache, clock.launch) == (conditions.cache, conditions.launch)


def test_every_mode_of_the_cpu_has_a_clock() -> None:
    """Whatever a case may be timed in can be timed."""
    assert set(modes_of("cpu", cold=True)) == set(clocks_for("cpu"))
