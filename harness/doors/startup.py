"""How long ago this process began, so that a session counts its own imports."""

from __future__ import annotations

import os
import time
from pathlib import Path

_STAT = Path("/proc/self/stat")
# The field of /proc/[pid]/stat that holds the moment of the start, counted behind the name in parentheses.
_START = 19


def seconds_since_start() -> float:
    """Return the age of this process, 0 where the platform does not tell."""
    try:
        ticks = int(_STAT.read_text(encoding="utf-8").rpartition(")")[2].split()[_START])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return max(0.0, age)
