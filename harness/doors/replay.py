"""Replay: hand measured samples to pytest-benchmark through its public interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class ReplayTimer:
    """A clock for ``@pytest.mark.benchmark(timer=…)`` that returns samples in place of time.

    Each round reads it twice; the first reading is zero, so the difference is the sample to the bit.
    """

    # pytest-benchmark writes the timer's name into its JSON.
    __name__ = "sameop.replay"

    def __init__(self) -> None:
        self._readings: list[float] = []

    def load(self, samples: Sequence[float]) -> None:
        """Set the samples that the next rounds return."""
        self._readings = [reading for sample in reversed(samples) for reading in (sample, 0.0)]

    def __call__(self) -> float:
        return self._readings.pop()


def replay(benchmark: Any, timer: ReplayTimer, samples: Sequence[float], facts: dict[str, Any]) -> None:
    """Give the samples to the ``benchmark`` fixture, one round each."""
    timer.load(samples)
    benchmark.extra_info.update(facts)
    benchmark.pedantic(_nothing, rounds=len(samples), iterations=1, warmup_rounds=0)


def _nothing() -> None:
    """What pytest-benchmark calls in place of the operator, which was measured elsewhere."""
