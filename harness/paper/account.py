"""The account of a session: where its seconds went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from harness.paper.record import SCHEMA, readable, writable

PHASES = (
    "start-up",
    "speed limit",
    "proving",
    "expecting",
    "agreeing",
    "certifying",
    "counting",
    "measuring",
    "writing",
)
# What a session is for; everything else is what it takes to trust and to keep these.
_TIMING = ("speed limit", "measuring")


@dataclass(frozen=True)
class SessionAccount:
    """Where the seconds of one session went.

    phases: seconds of each phase, without the phases inside it. seconds: from start to end. cases: how
    many were measured.
    """

    phases: Mapping[str, float]
    seconds: float
    started: str
    ended: str
    cases: int

    @property
    def unaccounted(self) -> float:
        """Seconds that belong to no phase."""
        return max(0.0, self.seconds - sum(self.phases.values()))

    @property
    def overhead_share(self) -> float | None:
        """The share of the session that was neither measuring nor the speed limit; None for no seconds."""
        if self.seconds <= 0:
            return None
        return max(0.0, 1 - sum(self.phases.get(phase, 0.0) for phase in _TIMING) / self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the account as one line of a run's ``records.jsonl``."""
        shares = {"unaccounted": self.unaccounted, "overhead_share": self.overhead_share}
        return writable({"kind": "session", "schema": SCHEMA, **asdict(self), **shares})

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Read back what :meth:`as_json` wrote, or raise :class:`SameopError`."""
        with readable(line):
            return cls(
                phases={phase: float(seconds) for phase, seconds in line["phases"].items()},
                seconds=float(line["seconds"]),
                started=line["started"],
                ended=line["ended"],
                cases=int(line["cases"]),
            )


class Account:
    """Keeps the account of the session that runs; one thread may use it.

    clock: seconds since some moment; now: the date and time; already: seconds of starting up before it.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        already: float = 0.0,
    ) -> None:
        self._clock, self._now = clock, now
        self._started, self._charged_until = now() - timedelta(seconds=already), clock()
        self._begun = self._charged_until - already
        self._phases: dict[str, float] = {"start-up": already} if already else {}
        self._open: list[str] = []

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Charge the time spent inside to a phase; a phase inside of it is charged by itself."""
        if name not in PHASES:
            raise ValueError(f"A session has no phase {name!r}: name one of {', '.join(PHASES)}.")
        self._charge()
        self._open.append(name)
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def transfer(self, source: str, target: str, seconds: float) -> None:
        """Charge seconds to another phase: to the one that another process spent them in."""
        self._charge()
        moved = min(seconds, self._phases.get(source, 0.0))
        self._phases[source] = self._phases.get(source, 0.0) - moved
        self._phases[target] = self._phases.get(target, 0.0) + moved

    def _charge(self) -> None:
        """Charge the time since the last change to the innermost open phase."""
        now = self._clock()
        if self._open:
            phase = self._open[-1]
            self._phases[phase] = self._phases.get(phase, 0.0) + now - self._charged_until
        self._charged_until = now

    def so_far(self, cases: int) -> SessionAccount:
        """Return the account up to now; phases that are still open count as far as they got."""
        self._charge()
        return SessionAccount(
            phases={phase: self._phases[phase] for phase in PHASES if phase in self._phases},
            seconds=self._charged_until - self._begun,
            started=self._started.isoformat(timespec="seconds"),
            ended=self._now().isoformat(timespec="seconds"),
            cases=cases,
        )
