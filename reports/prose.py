"""Words from numbers: counts, ranges, lists and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def count(number: int, noun: str) -> str:
    """Write a number with its noun: ``1 claim``, ``2 claims``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def cases(number: int) -> str:
    """Write a number of cases: ``1 case``, ``2 cases``."""
    return count(number, "case")


def span(numbers: Iterable[int]) -> str:
    """Write the range of at least one number: ``3`` or ``3 to 8``."""
    found = list(numbers)
    low, high = min(found), max(found)
    return str(low) if low == high else f"{low} to {high}"


def list_words(words: Sequence[str]) -> str:
    """Write words in a row: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def join(sentences: Iterable[str]) -> str:
    """Write sentences one after the other, each with a capital and a full stop."""
    return " ".join(text[:1].upper() + text[1:] + "." for text in sentences if text)
