"""What a page changed of its process is told, with both values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.bench.measure.surroundings import Surroundings


@pytest.mark.parametrize(
    ("change", "restore", "told"),
    [
        (
            lambda: torch.set_default_dtype(torch.float64),
            lambda: torch.set_default_dtype(torch.float32),
            "It changed the default dtype from torch.float32 to torch.float64, which",
        ),
        (
            lambda: torch.set_grad_enabled(False),
            lambda: torch.set_grad_enabled(True),
            "It changed whether gradients are recorded from True to False, which",
        ),
        (
            lambda: torch.use_deterministic_algorithms(True),
            lambda: torch.use_deterministic_algorithms(False),
            "It changed whether algorithms must be deterministic from False to True, which",
        ),
    ],
)
def test_a_change_is_told_until_it_is_restored(
    change: Callable[[], object], restore: Callable[[], object], told: str
) -> None:
    """A setting that is put back is no change."""
    found = Surroundings()
    assert found.change() is None
    try:
        change()
        assert (found.change() or "").startswith(told)
    finally:
        restore()
    assert found.change() is None


def test_the_number_of_threads_is_one_of_them() -> None:
    """A latency is told for a number of threads, which has to be that of the timed call."""
    threads = torch.get_num_threads()
    found = Surroundings()
    try:
        torch.set_num_threads(threads + 1)
        assert (found.change() or "").startswith(
            f"It changed the number of threads from {threads} to {threads + 1}, which"
        )
    finally:
        torch.set_num_threads(threads)
