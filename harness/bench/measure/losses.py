"""Losses: what becomes of workers whose zygote ended beneath them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from harness.bench.measure.workers import LOST


class Fallible(Protocol):
    """What a replicate is made of: failure is the answer that ended it, or None."""

    failure: Mapping[str, Any] | None


Some = TypeVar("Some", bound=Fallible)


def despite_losses(members: Sequence[Some], replicate: Callable[[Sequence[Some]], None]) -> None:
    """Replicate, and once more one by one with those whose zygote ended.

    A page may kill the process that forked its worker, and with it the workers of all others. Alone they go
    through, and whoever loses its zygote again is the one that ends it.
    """
    replicate(members)
    for member in members:
        if member.failure is not None and LOST in member.failure:
            member.failure = None
            replicate([member])
