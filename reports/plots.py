"""Charts as geometry: bars with whiskers in percent of the width, which any output can draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harness.paper.record import Reading
from harness.paper.units import Unit

# Beyond this ratio the short bars of a linear axis are too short to compare.
_LINEAR_UP_TO = 25.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 5


@dataclass(frozen=True)
class Item:
    """One thing to draw: its label, the role that gives its colour, and its reading."""

    label: str
    role: str
    reading: Reading
    heading: str = ""
    note: str = ""
    href: str = ""


@dataclass(frozen=True)
class Bar:
    """One drawn line of a chart; positions are percent of the width, None where there is no number."""

    label: str
    role: str
    text: str
    heading: str
    note: str
    href: str
    end: str | None
    interval: tuple[str, str] | None
    quartiles: tuple[str, str] | None


@dataclass(frozen=True)
class Chart:
    """Bars over one axis. On a logarithmic axis there is no zero, so marks stand in for bars."""

    title: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[str, str], ...]
    logarithmic: bool


def draw_chart(title: str, items: Sequence[Item], unit: Unit) -> Chart | None:
    """Lay out a chart over a linear axis from zero, or a logarithmic one where values differ widely.

    Returns None where no item has a number.
    """
    values = [item.reading.value for item in items if item.reading.value is not None]
    if not values or min(values) <= 0:
        return None
    top = max(end for item in items for end in _ends(item.reading))
    low = min(end for item in items for end in _ends(item.reading) if end > 0)
    logarithmic = top / low > _LINEAR_UP_TO
    position, marks = _log_axis(low, top) if logarithmic else _linear_axis(top)
    bars = tuple(_draw_bar(item, position) for item in items)
    ticks = tuple((_percent(position(mark)), write_tick(unit, mark)) for mark in marks)
    return Chart(title, bars, ticks, logarithmic)


def write_tick(unit: Unit, value: float) -> str:
    """Write a round value without the zeros behind its point."""
    if not value:
        return "0"
    number, space, rest = unit.format(value).partition(" ")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + space + rest


def _ends(reading: Reading) -> Iterable[float]:
    ends = (reading.value, reading.low, reading.high, *_quartiles(reading))
    return [end for end in ends if end is not None]


def _draw_bar(item: Item, position: Callable[[float], float]) -> Bar:
    reading = item.reading
    if reading.value is None:
        return Bar(item.label, item.role, "", item.heading, item.note, item.href, None, None, None)
    return Bar(
        item.label,
        item.role,
        reading.unit.format(reading.value),
        item.heading,
        item.note,
        item.href,
        _percent(position(reading.value)),
        _span(reading.low, reading.high, position),
        _span(*_quartiles(reading), position),
    )


def _span(
    low: float | None, high: float | None, position: Callable[[float], float]
) -> tuple[str, str] | None:
    if low is None or high is None or low <= 0:
        return None
    return _percent(position(low)), _percent(position(high))


def _quartiles(reading: Reading) -> tuple[float | None, float | None]:
    low, high = reading.facts.get("low_quartile"), reading.facts.get("high_quartile")
    return (low, high) if isinstance(low, float) and isinstance(high, float) else (None, None)


def _linear_axis(top: float) -> tuple[Callable[[float], float], list[float]]:
    rough = top / (_MOST_TICKS - 1)
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * decade for factor in _STEPS if factor * decade >= rough * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    end = count * step
    return (lambda value: 100 * value / end), [index * step for index in range(count + 1)]


def _log_axis(low: float, top: float) -> tuple[Callable[[float], float], list[float]]:
    first = math.floor(math.log10(low) + 1e-9)
    last = math.ceil(math.log10(top) - 1e-9)
    stride = math.ceil((last - first) / (_MOST_TICKS - 1))
    marks = [10.0**power for power in range(first, last + 1, max(1, stride))]
    return (lambda value: 100 * (math.log10(value) - first) / (last - first)), marks


def _percent(share: float) -> str:
    return f"{share:.2f}%"
