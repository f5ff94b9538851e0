"""Peak memory above the inputs, against operators whose peak is known by construction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.bench.catalog import load_catalogue
from harness.bench.measure.memory import read_memory
from harness.bench.measure.subject import Subject
from harness.paper.record import CaseId
from harness.tests.projects import make_project

ELEMENTS = 1 << 16
BYTES = 4 * ELEMENTS


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Return the reference of ``scale``; only its sizes matter here."""
    catalogue = load_catalogue([make_project(tmp_path).page.parent])
    return Subject.of(
        catalogue, CaseId("scale", "core", "reference", "tiny/one", "float32", "cpu", "forward")
    )


x = torch.ones(ELEMENTS)


@pytest.mark.parametrize(
    ("call", "peak"),
    [
        (lambda: x * 2, BYTES),
        (lambda: (x * 2) * 2, 2 * BYTES),
        (lambda: x.mul(2).add_(1), BYTES),
        # Freed scratch does not add up.
        (lambda: [x * 2 for _ in range(5)] and None, 5 * BYTES),
        (lambda: [None for _ in range(5) if (x * 2) is None], BYTES),
    ],
)
def test_peak_is_what_is_held_at_once(subject: Subject, call: Callable[[], object], peak: int) -> None:
    """The peak counts the output and every intermediate that lives beside it, and nothing twice."""
    # A number in a program becomes a tensor of a few bytes.
    assert read_memory(subject, call).value == pytest.approx(peak, abs=64)


def test_facts_beside_the_peak(subject: Subject) -> None:
    """Beside the peak stand the output's size, the least that must be moved, and the share of scratch."""
    facts = dict(read_memory(subject, lambda: torch.empty(48)).facts)
    assert facts == {
        "means": "peak of tensors and scratch above the inputs, output included",
        "output_bytes": 96,
        "minimal_bytes": 4 * (24 + 6 + 24),
        "scratch_share": 0.5,
    }


def test_silent_profiler_is_a_reason(subject: Subject) -> None:
    """A call in which nothing is allocated has a reason and no zero."""
    reading = read_memory(subject, lambda: None)
    assert reading.value is None
    assert reading.reason == "the profiler of this torch reports no memory events"
