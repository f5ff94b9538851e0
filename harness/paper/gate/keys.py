"""What the keys of a TOML table may hold, and the sentences for what they must not."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.paper.errors import SameopError


@dataclass(frozen=True)
class Key:
    """One key: whether a value fits, and what to give in place of one that does not."""

    fits: Callable[[Any], bool]
    wanted: str


def check_table(table: Mapping[str, Any], keys: Mapping[str, Key], place: str) -> None:
    """Raise :class:`SameopError` for a key that is not known or a value that does not fit.

    place: where the table stands, such as ``sameop-gate.toml``.
    """
    for name, value in table.items():
        if name not in keys:
            raise SameopError(f"{place} has the unknown key {name!r}: {_nearest(name, keys)}.")
        if not keys[name].fits(value):
            raise SameopError(f"`{name}` in {place} is {value!r}: give {keys[name].wanted}.")


def _nearest(name: str, keys: Mapping[str, Key]) -> str:
    near = difflib.get_close_matches(name, keys, n=1)
    return f"did you mean `{near[0]}`" if near else f"known are {', '.join(keys)}"


def number(low: float, high: float, wanted: str) -> Key:
    """Return the key of a number strictly between two others."""
    return Key(lambda value: is_number(value) and low < value < high, wanted)


def share(example: str) -> Key:
    """Return the key of a share strictly between 0 and 1."""
    return number(0, 1, f"a share between 0 and 1, such as {example}")


def whole(low: int, high: int) -> Key:
    """Return the key of a whole number from ``low`` to ``high``."""
    return Key(lambda value: is_whole(value, low, high), f"a whole number from {low} to {high}")


def one_of(*words: str) -> Key:
    """Return the key of one of a few words."""
    return Key(lambda value: value in words, " or ".join(f'"{word}"' for word in words))


def is_number(value: Any) -> bool:
    """Whether a value is a number; a TOML boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: Any, low: int, high: int) -> bool:
    """Whether a value is a whole number in a range that includes its ends."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_sentence(value: Any) -> bool:
    """Whether a value is a text that is not blank."""
    return isinstance(value, str) and bool(value.strip())
