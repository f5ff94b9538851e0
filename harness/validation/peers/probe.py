"""A rough first look at how long a case takes; it only decides which cases are compared."""

from __future__ import annotations

import time
from collections.abc import Sequence

from harness.validation.peers.peer import Answer, Call, Estimate


class Probe:
    """The shortest of three calls after a first one."""

    name = "probe"
    distribution = "torch"
    processes = 1

    def load(self) -> None:
        """Nothing to import."""

    def measure(self, call: Call, seconds: float) -> Answer:  # noqa: ARG002  # every peer has this signature
        """Call four times."""
        call()
        return {"seconds": min(_seconds(call) for _ in range(3))}

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return the shortest."""
        return Estimate(min(answer["seconds"] for answer in answers))


def _seconds(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
