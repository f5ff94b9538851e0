"""A stretch: groups that are measured together, pass after pass, so that their replicates lie far apart.

The speed of a machine drifts within seconds. Replicates that follow each other at once all see the same
state of it, and agree with each other more than with any later measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar


class Passing(Protocol):
    """What goes through passes, one replicate in each."""

    @property
    def is_done(self) -> bool:
        """Whether it needs no further replicate."""

    @property
    def has_the_least(self) -> bool:
        """Whether it could be kept as it is."""


Some = TypeVar("Some", bound=Passing)


def pass_by_pass(
    begun: Iterable[Some],
    replicate: Callable[[Some], None],
    finish: Callable[[Some], None],
    shuffle: Callable[[list[Some]], None],
) -> None:
    """Take groups through passes until all are done; each is finished as soon as it is.

    begun: gives the groups, each after its first replicate, which makes the first pass. shuffle: decides the
    order of every further pass. Ctrl-C finishes the groups that can be kept, and then ends the passes.
    """
    under_way: list[Some] = []
    try:
        for group in begun:
            under_way.append(group)
            _finish_if_done(group, under_way, finish)
        while under_way:
            turn = list(under_way)
            shuffle(turn)
            for group in turn:
                replicate(group)
                _finish_if_done(group, under_way, finish)
    except KeyboardInterrupt:
        for group in under_way:
            if group.has_the_least:
                finish(group)
        raise


def _finish_if_done(group: Some, under_way: list[Some], finish: Callable[[Some], None]) -> None:
    if group.is_done:
        under_way.remove(group)
        finish(group)
