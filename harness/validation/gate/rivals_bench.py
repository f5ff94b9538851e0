"""The suite as pytest-benchmark meets it; named so that no other session of pytest collects it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.bench.catalog import load_catalogue
from harness.bench.measure.subject import Subject
from harness.paper.record import CaseId
from harness.validation.gate.suite import FOLDER, SUITE, TIMED, Entry
from harness.validation.peers.prepared import settle

SIDE = Path(os.environ["SAMEOP_VALIDATED_SIDE"])
sys.path.insert(0, str(SIDE))
settle()
CATALOGUE = load_catalogue([SIDE / FOLDER])
if SIDE not in Path(str(sys.modules["cases"].__file__)).parents:
    raise RuntimeError(f"The cases were not imported from {SIDE}.")


@pytest.mark.parametrize("entry", SUITE, ids=lambda entry: str(entry.operator))
def test_case(benchmark: Callable[[Callable[[], Any]], Any], entry: Entry) -> None:
    """Let the fixture time the same call that the gate times."""
    case = CaseId(entry.operator, entry.scope, TIMED, entry.workload, "float32", "cpu", "forward")
    benchmark(Subject.of(CATALOGUE, case).timed_call().run)
