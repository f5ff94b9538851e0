"""Units and how a person reads them; a measurement carries its own formatter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

# What three digits write as 1.00 or more: 0.9996 ms is 1.00 ms, not 1000 µs.
_ROUNDS_TO_ONE = 0.9995


class Unit(StrEnum):
    """A unit together with its denominator."""

    SECONDS = "seconds"
    SECONDS_PER_CALL = "seconds_per_call"
    BYTES = "bytes"
    MACS_PER_CALL = "macs_per_call"
    JOULES_PER_CALL = "joules_per_call"
    INSTRUCTIONS_PER_CALL = "instructions_per_call"

    def format(self, value: float) -> str:  # type: ignore[override]  # no unit is a template
        """Write ``value`` with three significant digits and a fitting prefix."""
        return _FORMATS[self](value)


def format_seconds(seconds: float) -> str:
    """Write a duration: ``1.23 ms``."""
    return _scaled(seconds, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")))


def format_joules(joules: float) -> str:
    """Write an energy: ``1.23 mJ``."""
    return _scaled(joules, ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")))


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Write a value in the largest of the units in which it does not round to less than one."""
    scale, name = next((unit for unit in units if abs(value) / unit[0] >= _ROUNDS_TO_ONE), units[-1])
    return f"{three_digits(value / scale)} {name}"


def format_bytes(count: float) -> str:
    """Write a size in binary prefixes: ``1.50 MiB``."""
    if abs(count) < 2**10 * _ROUNDS_TO_ONE:
        return f"{count:.0f} B"
    return _scaled(count, ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")))


def format_count(count: float) -> str:
    """Write a count in decimal prefixes: ``12.3 M``; below a thousand the number itself."""
    if abs(count) < 1e3 * _ROUNDS_TO_ONE:
        return f"{count:g}"
    return _scaled(count, ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")))


def format_clock(seconds: float) -> str:
    """Write a remaining time as minutes and seconds: ``2:05``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def three_digits(value: float) -> str:
    """Write a value between 1 and 1000 with three significant digits."""
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


_FORMATS: Mapping[Unit, Callable[[float], str]] = {
    Unit.SECONDS: format_seconds,
    Unit.SECONDS_PER_CALL: format_seconds,
    Unit.BYTES: format_bytes,
    Unit.MACS_PER_CALL: lambda value: f"{format_count(value)} MACs",
    Unit.JOULES_PER_CALL: format_joules,
    Unit.INSTRUCTIONS_PER_CALL: lambda value: f"{format_count(value)} instructions",
}
