"""What a peer is: a measuring tool that is handed a callable and a time to spend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

Call = Callable[[], object]
Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Estimate:
    """What a tool reports for one case, in seconds per call.

    low, high: the tool's own interval, where it gives one. also: other values that it reports beside the
    first, such as processor time.
    """

    value: float
    low: float | None = None
    high: float | None = None
    also: Mapping[str, float] = field(default_factory=dict)


class Peer(Protocol):
    """A measuring tool. Its own code calls, times and summarises; the adapter only hands over and reads."""

    name: str
    distribution: str
    # How many processes the tool itself makes for one result.
    processes: int

    def load(self) -> None:
        """Import the tool, before any process is forked: a time is never that of an import."""

    def measure(self, call: Call, seconds: float) -> Answer:
        """Measure ``call`` for about ``seconds`` seconds and return what one process found, fit for JSON."""

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return what the tool reports from its processes' answers."""


def missing(peer: Peer) -> str | None:
    """Say why a peer cannot be asked here, or return None."""
    try:
        version(peer.distribution)
    except PackageNotFoundError:
        return f"{peer.distribution} is not installed: pip install {peer.distribution}"
    return None
