"""Which processors a worker may run on: those that were idle of late."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

_STAT = Path("/proc/stat")
# Columns of a line of /proc/stat that count time in which nobody ran: idle and iowait.
_IDLE = (3, 4)


@dataclass
class Processors:
    """Chooses processors by how busy they were since they were last looked at."""

    stat: Path = _STAT
    usable: tuple[int, ...] = field(default_factory=lambda: usable_processors())
    _before: dict[int, tuple[int, int]] = field(init=False, default_factory=dict)

    def choose(self, count: int) -> tuple[int, ...]:
        """Return so many processors, the idlest first; none where all are asked for, or none can be set."""
        now = _read(self.stat)
        busy = {number: _busy(now.get(number), self._before.get(number)) for number in self.usable}
        self._before = now
        if count >= len(self.usable):
            return ()
        return tuple(sorted(self.usable, key=lambda number: (busy[number], number))[:count])


def usable_processors() -> tuple[int, ...]:
    """Return the processors of this process; none where it cannot be told to stay on some."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else ()


def _read(path: Path) -> dict[int, tuple[int, int]]:
    """Return the ticks of every processor, busy and idle."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, *columns = line.split()
        if name.startswith("cpu") and name[3:].isdecimal():
            ticks = [int(column) for column in columns]
            idle = sum(ticks[place] for place in _IDLE)
            # Guest time is counted in user time already.
            found[int(name[3:])] = (sum(ticks[:8]) - idle, idle)
    return found


def _busy(now: tuple[int, int] | None, before: tuple[int, int] | None) -> float:
    """Return the share of time in which a processor was busy, in tenths, so that noise decides nothing."""
    if now is None or before is None:
        return 0.0
    busy, idle = now[0] - before[0], now[1] - before[1]
    return round(busy / (busy + idle), 1) if busy + idle > 0 else 0.0
