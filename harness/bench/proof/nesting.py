"""Arguments of torch operations: tensors and numbers in tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

# Every operation of a followed program comes through here several times, with some ten leaves: of most of
# them the type says at once that nothing stands in them.
_LEAVES = frozenset(
    {int, float, bool, str, type(None), Tensor}
    | {torch.dtype, torch.device, torch.layout, torch.memory_format}
)


def leaves(nested: Any) -> list[Any]:
    """Return what stands in tuples, lists and mappings, in order."""
    found: list[Any] = []
    _gather((nested,), found)
    return found


def _gather(parts: Iterable[Any], found: list[Any]) -> None:
    for part in parts:
        kind = type(part)
        if kind in _LEAVES:
            found.append(part)
        elif isinstance(part, (tuple, list)):
            _gather(part, found)
        elif _is_mapping(kind):  # type: ignore[arg-type]  # mypy takes types for unhashable
            _gather(part.values(), found)
        else:
            found.append(part)


def mapped(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return the same tuples, lists and mappings of what a function makes of each leaf."""
    if isinstance(nested, tuple):
        return tuple(_each(function, nested))
    if isinstance(nested, list):
        return _each(function, nested)
    if _is_mapping(type(nested)):  # type: ignore[arg-type]  # likewise
        return {name: mapped(function, part) for name, part in nested.items()}
    return function(nested)


def _each(function: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    return [function(part) if type(part) in _LEAVES else mapped(function, part) for part in parts]


@cache
def _is_mapping(kind: type) -> bool:
    # Asking takes longer than all else about a leaf, but there are few types.
    return issubclass(kind, Mapping)
