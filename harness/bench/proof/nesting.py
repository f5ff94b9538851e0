"""Arguments of torch operations: tensors and numbers in tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def leaves(nested: Any) -> list[Any]:
    """Return what stands in tuples, lists and mappings, in order."""
    found: list[Any] = []
    _gather(nested, found)
    return found


def _gather(nested: Any, found: list[Any]) -> None:
    # Every operation of a followed program comes through here: nothing is built on the way.
    if isinstance(nested, tuple | list):
        for part in nested:
            _gather(part, found)
    elif isinstance(nested, dict | Mapping):
        for part in nested.values():
            _gather(part, found)
    else:
        found.append(nested)


def mapped(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return the same tuples, lists and mappings of what a function makes of each leaf."""
    if isinstance(nested, tuple):
        return tuple(mapped(function, part) for part in nested)
    if isinstance(nested, list):
        return [mapped(function, part) for part in nested]
    if isinstance(nested, dict | Mapping):
        return {name: mapped(function, part) for name, part in nested.items()}
    return function(nested)
