"""torch.utils.benchmark: the timer that torch ships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.validation.peers.peer import Answer, Call, Estimate


class TorchTimer:
    """``Timer.blocked_autorange``: blocks of calls, each long enough for the clock, for the time given."""

    name = "torch"
    distribution = "torch"
    processes = 1

    def load(self) -> None:
        """Import the tool."""
        import torch.utils.benchmark  # noqa: F401

    def measure(self, call: Call, seconds: float) -> Answer:
        """Return the median and the quartiles that torch computes."""
        return _answer(_timer(call).blocked_autorange(min_run_time=seconds))

    def combine(self, answers: Sequence[Answer]) -> Estimate:
        """Return the median of the one process."""
        (answer,) = answers
        return Estimate(answer["median"], answer["low"], answer["high"])


class AdaptiveTorchTimer(TorchTimer):
    """``Timer.adaptive_autorange``: it stops as soon as the quartiles lie within a tenth of the median."""

    name = "torch-adaptive"

    def measure(self, call: Call, seconds: float) -> Answer:
        """Return what torch found in at most ``seconds`` seconds."""
        return _answer(_timer(call).adaptive_autorange(max_run_time=seconds))


def _timer(call: Call) -> Any:
    import torch.utils.benchmark

    return torch.utils.benchmark.Timer(stmt="call()", globals={"call": call}, num_threads=1)


def _answer(measurement: Any) -> Answer:
    return {"median": measurement.median, "low": measurement._p25, "high": measurement._p75}
