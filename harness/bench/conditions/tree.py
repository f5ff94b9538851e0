"""The files in which a kernel describes its machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True)
class Tree:
    """Files below a root; a test hands in a folder of its own. Whatever cannot be read is None."""

    root: Path = Path("/")

    def text(self, path: str) -> str | None:
        """Return the content of a file without the white space around it."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """Return the whole number that a file holds."""
        return to_number(self.text(path))

    def numbers(self, pattern: str) -> list[int]:
        """Return the numbers of all files that match a pattern and hold one."""
        found = (self.number(path) for path in self.paths(pattern))
        return [number for number in found if number is not None]

    def paths(self, pattern: str) -> list[str]:
        """Return the paths below the root that match a pattern, cpu10 behind cpu9."""
        try:
            found = [path.relative_to(self.root).as_posix() for path in self.root.glob(pattern)]
        except OSError:  # a folder that may not be listed
            return []
        return sorted(found, key=_in_order)

    def table(self, path: str) -> dict[str, str]:
        """Return the lines ``name: value`` or ``name value`` of a file; of equal names the first."""
        found: dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            name, separator, value = line.partition(":")
            if not separator:
                name, _, value = line.partition(" ")
            found.setdefault(name.strip(), value.strip())
        return found


def to_number(text: str | None) -> int | None:
    """Return a whole number, or None where the text is none."""
    try:
        return int(text or "")
    except ValueError:
        return None


def to_bytes(text: str | None) -> int | None:
    """Read a size such as ``512K``."""
    if not text:
        return None
    size = to_number(text[:-1]) if text[-1] in _UNITS else to_number(text)
    return None if size is None else size * _UNITS.get(text[-1], 1)


def to_cpus(text: str | None) -> frozenset[int]:
    """Read a list of processors such as ``0-3,8``; parts that are none are left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        low, _, high = part.partition("-")
        first, last = to_number(low), to_number(high or low)
        if first is not None and last is not None:
            found.update(range(first, last + 1))
    return frozenset(found)


def _in_order(path: str) -> list[tuple[str, int]]:
    pieces = re.findall(r"([^0-9]*)([0-9]*)", path)
    return [(words, int(digits or -1)) for words, digits in pieces]
