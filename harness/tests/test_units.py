"""How numbers are written for people."""

from __future__ import annotations

import pytest

from harness.paper.units import (
    Unit,
    format_bytes,
    format_clock,
    format_count,
    format_joules,
    format_seconds,
    three_digits,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (75.04, "75.0 s"),
        (1.0, "1.00 s"),
        (0.9996, "1.00 s"),
        (0.99949, "999 ms"),
        (0.001234, "1.23 ms"),
        (0.0123, "12.3 ms"),
        (9.996e-3, "10.0 ms"),
        (22.4e-6, "22.4 µs"),
        (5e-9, "5.00 ns"),
        (3e-10, "0.30 ns"),
        (-0.002, "-2.00 ms"),
    ],
)
def test_seconds_have_three_digits_and_a_fitting_prefix(seconds: float, text: str) -> None:
    """A duration has three significant digits, in the largest unit in which it is not below one."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (150528, "147 KiB"),
        (1.5 * 2**20, "1.50 MiB"),
        (2**30, "1.00 GiB"),
        (3 * 2**40, "3.00 TiB"),
    ],
)
def test_bytes_have_binary_prefixes(count: float, text: str) -> None:
    """A size is written in binary prefixes, and below one KiB as the number itself."""
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (7375872, "7.38 M"), (1.8e9, "1.80 G"), (3.2e12, "3.20 T")],
)
def test_counts_have_decimal_prefixes(count: float, text: str) -> None:
    """A count is written in decimal prefixes, and below a thousand as the number itself."""
    assert format_count(count) == text


@pytest.mark.parametrize(
    ("joules", "text"), [(2.0, "2.00 J"), (2.5e-3, "2.50 mJ"), (1e-6, "1.00 µJ"), (4e-10, "0.40 nJ")]
)
def test_a_small_energy_is_not_written_as_zero(joules: float, text: str) -> None:
    """An energy that was measured never reads as none."""
    assert format_joules(joules) == text


@pytest.mark.parametrize(("seconds", "text"), [(125, "2:05"), (59.6, "1:00"), (0.2, "0:00"), (-3, "0:00")])
def test_time_left_reads_as_minutes_and_seconds(seconds: float, text: str) -> None:
    """A time left is never negative."""
    assert format_clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "1.23"), (9.995, "10.0"), (99.94, "99.9"), (99.96, "100"), (123.4, "123")]
)
def test_three_digits_are_three(value: float, text: str) -> None:
    """Rounding up to the next power of ten adds no digit."""
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.SECONDS_PER_CALL, 2.2e-4, "220 µs"),
        (Unit.BYTES, 150528, "147 KiB"),
        (Unit.MACS_PER_CALL, 7375872, "7.38 M MACs"),
        (Unit.MACS_PER_CALL, 12, "12 MACs"),
        (Unit.JOULES_PER_CALL, 0.031, "31.0 mJ"),
    ],
)
def test_a_unit_writes_its_own_values(unit: Unit, value: float, text: str) -> None:
    """A measurement carries its own formatter."""
    assert unit.format(value) == text


def test_every_unit_has_a_format() -> None:
    """No unit is added without a way to write it."""
    assert all(unit.format(1.0) for unit in Unit)
