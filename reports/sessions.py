"""Where the time of a run went, session by session."""

from __future__ import annotations

from collections.abc import Iterator

from harness.paper.account import SessionAccount
from harness.paper.store import Run
from harness.paper.units import format_seconds

from .latencies import write_share
from .prose import count
from .view import FactGroup


def list_sessions(run: Run) -> tuple[FactGroup, ...]:
    """Return one group for each session: its phases, what they took, and the overhead."""
    return tuple(FactGroup(_title(account), tuple(_phases(account))) for account in run.sessions)


def _title(account: SessionAccount) -> str:
    return f"{account.started}: {count(account.cases, 'case')} in {format_seconds(account.seconds)}"


def _phases(account: SessionAccount) -> Iterator[tuple[str, str]]:
    for phase, seconds in (*account.phases.items(), ("no phase", account.unaccounted)):
        if seconds > 0:
            yield phase, _write(seconds, account.seconds)
    if account.overhead_share is not None:
        yield "overhead: all but measuring and the speed limit", write_share(account.overhead_share)


def _write(seconds: float, whole: float) -> str:
    return format_seconds(seconds) + (f", {write_share(seconds / whole)}" if whole > 0 else "")
