"""Arguments of torch operations: tensors and numbers in tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

_SEQUENCES = (tuple, list)


def leaves(nested: Any) -> list[Any]:
    """Return what stands in tuples, lists and mappings, in order."""
    found: list[Any] = []
    _gather(nested, found)
    return found


def _gather(nested: Any, found: list[Any]) -> None:
    # Every operation of a followed program comes through here: nothing is built on the way.
    if isinstance(nested, _SEQUENCES):
        for part in nested:
            _gather(part, found)
    elif _is_mapping(type(nested)):  # type: ignore[arg-type]  # mypy takes types for unhashable
        for part in nested.values():
            _gather(part, found)
    else:
        found.append(nested)


@cache
def _is_mapping(kind: type) -> bool:
    # Asking a leaf whether it is a mapping takes longer than all else about it, but there are few types.
    return issubclass(kind, Mapping)


def mapped(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return the same tuples, lists and mappings of what a function makes of each leaf."""
    if isinstance(nested, tuple):
        return tuple(mapped(function, part) for part in nested)
    if isinstance(nested, list):
        return [mapped(function, part) for part in nested]
    if _is_mapping(type(nested)):  # type: ignore[arg-type]  # likewise
        return {name: mapped(function, part) for name, part in nested.items()}
    return function(nested)
