"""The letters of a scope: which dimensions and options it reads, and the values that are tried for each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.bench.dims import Dims
from harness.bench.pages import Scope

Value = int | float | str

# Sizes that break programs: one, odd and even, maps smaller than kernels, steps that do not divide.
_TRIED: Mapping[str, tuple[int, ...]] = {
    "B": (1, 2, 3),
    "C": tuple(range(1, 13)),
    "Co": tuple(range(1, 13)),
    "H": tuple(range(1, 13)),
    "W": tuple(range(1, 13)),
    "T": tuple(range(1, 13)),
    "K": tuple(range(1, 8)),
    "stride": (1, 2, 3),
    "padding": (0, 1, 2, 3),
}
# For whatever else counts something: groups, heads, experts, windows, reductions.
_TRIED_OTHERWISE = (1, 2, 3, 4)
# A size of a network would make a draw cost seconds.
_LARGEST_SEEN = 24
# Sizes that are cut into parts, or not: what these letters count is no number of parts itself.
_CHANNELS = frozenset({"C", "Co"})
_WHOLE = _CHANNELS | {"H", "W", "T"}
_NEITHER = frozenset(_TRIED) - _WHOLE
# Multiples beyond it only cost time.
_LARGEST_MULTIPLE = 24


@dataclass(frozen=True)
class Letter:
    """One dimension or option that a scope reads.

    values: those of the page's small shapes, or of an option that is no size those of all its shapes,
    and then the adversarial ones. optional: whether a shape of the page leaves it out. parts: the
    letters that divide it in every shape of the page.
    """

    name: str
    values: tuple[Value, ...]
    optional: bool
    parts: tuple[str, ...] = ()

    @property
    def is_free(self) -> bool:
        """Whether it counts images, positions, taps or steps, which formulas seldom tie to anything."""
        return self.name in _TRIED and self.name not in _CHANNELS

    def multiples(self, drawn: Mapping[str, Value]) -> tuple[int, ...]:
        """Return the sizes that the parts already drawn divide, the smallest of them at least."""
        unit = math.lcm(*(int(drawn[part]) for part in self.parts if part in drawn))
        return tuple(range(unit, max(unit, _LARGEST_MULTIPLE) + 1, unit))[:4]


class _Watched(Dims):
    """Dimensions that note which letters are asked for, and which of them cannot be left out."""

    def __init__(self, asked: set[str], needed: set[str], **values: Value) -> None:
        super().__init__(**values)
        self._asked, self._needed = asked, needed

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            self._asked.add(name)
            self._needed.add(name)
        return super().__getattr__(name)

    def __getitem__(self, name: str) -> Any:
        self._asked.add(name)
        return super().__getitem__(name)

    def items(self) -> ItemsView[str, Any]:
        """Return all letters with their values; to look at all of them is to ask for none."""
        return Dims(**self._values).items()

    def replace(self, **values: Value) -> Dims:
        """Return dimensions that note in the same place."""
        return _Watched(self._asked, self._needed, **{**self._values, **values})


def letters_of(scope: Scope) -> list[Letter]:
    """Return the letters that a scope reads and whose values are known, parts before what they divide."""
    shapes = _shapes(scope)
    asked = _asked(scope, shapes)
    named = list(dict.fromkeys(name for shape in shapes for name in shape))
    order = [name for name in (*named, *_TRIED) if name in asked]
    letters = [_letter(name, scope, shapes, asked) for name in dict.fromkeys(order)]
    return sorted(letters, key=lambda letter: bool(letter.parts))


def _letter(name: str, scope: Scope, shapes: list[Dims], asked: set[str]) -> Letter:
    values = [shape[name] for shape in shapes if name in shape]
    small = [shape[name] for shape in scope.proof_dims if name in shape]
    optional = len(values) < len(shapes)
    if any(not isinstance(value, int) for value in values):
        # Names may stand for the sizes of a network: those that small shapes have are drawn more often.
        return Letter(name, (*dict.fromkeys(small), *dict.fromkeys(small), *dict.fromkeys(values)), optional)
    seen = (value for value in small if value <= _LARGEST_SEEN)
    tried = _TRIED.get(name, _TRIED_OTHERWISE)
    parts = () if name in _NEITHER else tuple(other for other in asked if _divides(other, name, shapes))
    # The page's own come first: what fails is told at a shape as close to the page as possible.
    return Letter(name, tuple(dict.fromkeys((*seen, *tried))), optional, tuple(sorted(parts)))


def _divides(part: str, name: str, shapes: list[Dims]) -> bool:
    """Tell whether one letter divides another in every shape that has both, and not always as one."""
    if part == name or part in _WHOLE or part in _NEITHER:
        return False
    pairs = [(shape[name], shape[part]) for shape in shapes if name in shape and part in shape]
    numbers = all(isinstance(count, int) for _, count in pairs)
    return numbers and any(count > 1 for _, count in pairs) and not any(size % count for size, count in pairs)


def _shapes(scope: Scope) -> list[Dims]:
    return [*scope.proof_dims, *(workload.dims for workload in scope.workloads)]


def lacking(scope: Scope, dims: Dims) -> set[str]:
    """Name the letters that a scope needs at these dimensions and does not find among them."""
    needed: set[str] = set()
    _describe(scope, _Watched(set(), needed, **dims))
    return needed.difference(dims)


def _asked(scope: Scope, shapes: list[Dims]) -> set[str]:
    asked: set[str] = set()
    for shape in shapes:
        _describe(scope, _Watched(asked, set(), **shape))
    return asked


def _describe(scope: Scope, watched: _Watched) -> None:
    """Let a scope describe itself, so that it asks for the letters that it needs."""
    for describe in _descriptions(scope):
        # Whatever fails here is told by the check of the shape itself.
        with contextlib.suppress(Exception):
            describe(watched)


def _descriptions(scope: Scope) -> Iterator[Callable[[Dims], object]]:
    yield from (scope.domain, scope.inputs, scope.output, scope.options)
    yield from (found.supports for found in scope.implementations.values() if found.supports)
