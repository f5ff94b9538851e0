"""Arguments of torch operations: tensors and numbers in tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def leaves(nested: Any) -> list[Any]:
    """Return what stands in tuples, lists and mappings, in order."""
    if isinstance(nested, tuple | list):
        return [leaf for part in nested for leaf in leaves(part)]
    if isinstance(nested, Mapping):
        return leaves(list(nested.values()))
    return [nested]


def mapped(function: Callable[[Any], Any], nested: Any) -> Any:
    """Return the same tuples, lists and mappings of what a function makes of each leaf."""
    if isinstance(nested, tuple):
        return tuple(mapped(function, part) for part in nested)
    if isinstance(nested, list):
        return [mapped(function, part) for part in nested]
    if isinstance(nested, Mapping):
        return {name: mapped(function, part) for name, part in nested.items()}
    return function(nested)
