"""Replay: hand measured samples to pytest-benchmark through its public interface."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any


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
        """Return the next reading."""
        return self._readings.pop()


def replay(benchmark: Any, timer: ReplayTimer, samples: Sequence[float], facts: dict[str, Any]) -> None:
    """Give the samples to the ``benchmark`` fixture, one round each.

    Without samples the fixture is told so: left alone it would warn of a test that forgot it.
    """
    if not samples:
        benchmark.disabled = True
    timer.load(samples)
    benchmark.extra_info.update(facts)
    benchmark.pedantic(_nothing, rounds=max(1, len(samples)), iterations=1, warmup_rounds=0)


def _nothing() -> None:
    """Stand in for the operator, which was measured elsewhere."""


class RunFile(contextlib.AbstractContextManager[IO[bytes]]):
    """Where pytest-benchmark writes its JSON.

    Its releases up to 5.2 enter an open file here, as ``--benchmark-json`` made one; later ones open a path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = contextlib.ExitStack()

    def __fspath__(self) -> str:
        return str(self._path)

    def __str__(self) -> str:
        return str(self._path)

    def __enter__(self) -> IO[bytes]:
        return self._stack.enter_context(self._path.open("wb"))

    def __exit__(self, *_: object) -> None:
        self._stack.close()
