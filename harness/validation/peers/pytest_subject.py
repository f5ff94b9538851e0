"""The test that pytest-benchmark is given; named so that no other session of pytest collects it."""

from __future__ import annotations

from collections.abc import Callable


def test_subject(benchmark: Callable[[Callable[[], object]], object], subject: Callable[[], object]) -> None:
    """Let the fixture time the callable."""
    benchmark(subject)
