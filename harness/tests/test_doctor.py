"""What the doctor finds, and what it advises."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

from harness.doors import doctor


def findings() -> dict[str, dict[str, Any]]:
    """Return the findings by what was looked at."""
    return {finding["what"]: finding for finding in doctor.examine()}


def test_every_check_has_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor looks at the machine, its load, the tools and the noise; advice is a sentence or nothing."""
    found = findings()
    assert list(found) == [
        "processor",
        "memory",
        "torch",
        "CUDA",
        "load",
        "frequency scaling",
        "allocator",
        "C++ compiler",
        "pytest-benchmark",
        "fvcore",
        "nvidia-ml-py",
        "noise floor",
    ]
    assert all(finding["found"] for finding in found.values())


def test_absent_parts_come_with_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional part that is absent is named with what a run then lacks and how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "device_missing", lambda device: "it is absent")
    monkeypatch.setattr("shutil.which", lambda name: None)
    advice = {what: finding["advice"] for what, finding in findings().items()}
    assert advice["pytest-benchmark"] == ("no benchmark.json will be written: pip install pytest-benchmark")
    assert advice["fvcore"] == "one witness of the MACs will be missing: pip install fvcore"
    assert advice["nvidia-ml-py"] == (
        "energy and the names of GPUs will be missing: pip install nvidia-ml-py"
    )
    assert advice["CUDA"] == "CUDA cases are left out; an explicit --bench-device=cuda ends with exit 13"
    assert advice["C++ compiler"] == "compiled forms will be recorded as failed: install g++"


@pytest.mark.parametrize(("load", "advice"), [(0.0, None), (64.0, "other work disturbs times; wait")])
def test_load_is_judged(monkeypatch: pytest.MonkeyPatch, load: float, advice: str | None) -> None:
    """A busy machine is told to wait."""
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    found = findings()["load"]
    assert found["advice"] == advice
    assert found["found"] == f"{load:.2f} over the last minute"
