"""Units and how a person reads them; a measurement carries its own formatter."""

from __future__ import annotations

from enum import StrEnum

_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Unit(StrEnum):
    """A unit together with its denominator."""

    SECONDS_PER_CALL = "seconds_per_call"
    BYTES = "bytes"
    MACS_PER_CALL = "macs_per_call"
    JOULES_PER_CALL = "joules_per_call"

    def format(self, value: float) -> str:  # type: ignore[override]  # no unit is a template
        """Write ``value`` with three significant digits and a fitting prefix."""
        return _FORMATS[self](value)


def format_seconds(seconds: float) -> str:
    """Write a duration: ``1.23 ms``."""
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if abs(seconds) >= scale:
            return f"{three_digits(seconds / scale)} {name}"
    return f"{three_digits(seconds / 1e-9)} ns"


def format_bytes(count: float) -> str:
    """Write a size in binary prefixes: ``1.50 MiB``."""
    for scale, name in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(count) >= scale:
            return f"{three_digits(count / scale)} {name}"
    return f"{count:.0f} B"


def format_count(count: float) -> str:
    """Write a count in decimal prefixes: ``12.3 M``; below a thousand the number itself."""
    for prefix, scale in reversed(_PREFIXES.items()):
        if prefix and abs(count) >= scale:
            return f"{three_digits(count / scale)} {prefix}"
    return f"{count:g}"


def format_clock(seconds: float) -> str:
    """Write a remaining time as minutes and seconds: ``2:05``."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def three_digits(value: float) -> str:
    """Write a value between 1 and 1000 with three significant digits."""
    size = abs(value)
    return f"{value:.0f}" if size >= 99.95 else f"{value:.1f}" if size >= 9.995 else f"{value:.2f}"


_FORMATS = {
    Unit.SECONDS_PER_CALL: format_seconds,
    Unit.BYTES: format_bytes,
    Unit.MACS_PER_CALL: lambda value: f"{format_count(value)} MACs",
    Unit.JOULES_PER_CALL: lambda value: f"{three_digits(value * 1e3)} mJ",
}
