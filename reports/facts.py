"""Facts of any depth as pairs of words; the unit of a number is read from its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.paper.units import format_bytes, format_count, format_seconds

Pairs = tuple[tuple[str, str], ...]

_COUNTS = ("params", "in_bounds", "elementwise", "transcendental", "macs")


def list_facts(facts: Mapping[str, Any], prefix: str = "") -> Pairs:
    """Return nested facts as flat pairs: ``("torch · threads", "2")``."""
    return tuple(_walk(facts, prefix))


def _walk(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in facts.items():
        name = f"{prefix} · {in_words(str(key))}" if prefix else in_words(str(key))
        if isinstance(value, Mapping):
            yield from _walk(value, name)
        elif isinstance(value, Sequence) and any(isinstance(entry, Mapping) for entry in value):
            yield from _walk({str(number): entry for number, entry in enumerate(value, start=1)}, name)
        else:
            yield name, write_fact(str(key), value)


def write_fact(key: str, value: Any) -> str:
    """Write one fact; the end of its name tells the unit."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _write_number(key, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(write_fact(key, entry) for entry in value) or "none"
    return str(value)


def _write_number(key: str, value: float) -> str:
    if key.endswith(("seconds", "seconds_per_call", "quartile")):
        return format_seconds(value)
    if key.endswith("bytes"):
        return format_bytes(value)
    if key.endswith("share"):
        return f"{100 * value:.3g} %"
    if key in _COUNTS:
        return format_count(value).strip()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def in_words(key: str) -> str:
    """Write a key of a record as words."""
    return key.replace("_", " ")


def write_dims(dims: Mapping[str, Any]) -> str:
    """Write dimensions in a row: ``B1 C64 H56``; names longer than a letter keep a sign between."""
    return " ".join(f"{name}{value}" if len(name) == 1 else f"{name}={value}" for name, value in dims.items())


def number_in(facts: Mapping[str, Any], key: str) -> float | None:
    """Return a fact if it is a number: a record may hold anything."""
    value = facts.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def part_in(facts: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the facts below one, none where it has no parts."""
    value = facts.get(key)
    return value if isinstance(value, Mapping) else {}


def parts_in(facts: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the entries of a list of facts, none where it is no such list."""
    value = facts.get(key)
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def common_facts(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts that all of them share."""
    if not every:
        return {}
    first, *others = every
    return {
        key: value
        for key, value in first.items()
        if all(key in other and other[key] == value for other in others)
    }
