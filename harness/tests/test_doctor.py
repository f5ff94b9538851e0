"""The whole examination: its order, what it survives, and how it is shown."""

from __future__ import annotations

import importlib.util
import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.bench.conditions.tree import Tree
from harness.doors.doctor import examine
from harness.doors.doctor.examination import Patient
from harness.doors.doctor.finding import Finding, advise, fine, missing
from harness.doors.doctor.folder import examine_folder, run_folder
from harness.doors.doctor.summary import summarise_findings
from harness.doors.doctor.tools import examine_tools
from harness.doors.doctor.trial import Trial
from harness.doors.tables import doctor_table
from harness.paper.errors import SameopError
from harness.tests.test_doctor_noise import a_trial


def patient(folder: Path, measure: Any = a_trial) -> Patient:
    """Return a machine whose kernel shows nothing, and whose measurement takes no time."""
    return Patient(Tree(folder / "root"), measure, folder)


def findings(patient: Patient) -> dict[str, Finding]:
    """Return the findings by what was looked at."""
    return {finding["what"]: finding for finding in examine(patient)}


def test_every_check_has_a_finding(tmp_path: Path) -> None:
    """Every check has a finding with a sentence; advice is a sentence or nothing, and fits the level."""
    found = findings(patient(tmp_path))
    assert list(found) == [
        *("load", "CPU use now"),
        *("processor", "CPU limit", "threads per core", "instructions", "caches", "memory nodes"),
        *("frequency scaling", "virtual machine"),
        *("memory", "swap", "huge pages", "overcommit", "clocks"),
        *("allocator", "preloaded allocator"),
        *("noise in a process", "noise between", "noise floor", "preempted blocks"),
        *("stolen time", "throttling"),
        *("energy of the CPU", "performance events", "valgrind", "CUDA"),
        *(
            "torch",
            "C++ compiler",
            "pytest-benchmark",
            "fvcore",
            "nvidia-ml-py",
            "z3-solver",
            "triton",
            "scipy",
        ),
        *("run folder", "summary"),
    ]
    for finding in found.values():
        assert set(finding) == {"what", "found", "advice", "level", "measures"}
        assert finding["found"].endswith(".")
        assert finding["advice"] is None or finding["advice"].rstrip("`").endswith(".")
        assert (finding["level"] == "fine") == (finding["advice"] is None)
        assert finding["level"] in ("fine", "advice", "missing")


def test_a_check_that_fails_hides_no_other(tmp_path: Path) -> None:
    """A measurement that breaks is a finding of every check that needed it, and is made once."""
    tries = []

    def broken() -> Trial:
        tries.append(1)
        raise SameopError("a process that measures ended early: no memory.")

    found = findings(patient(tmp_path, broken))
    assert len(tries) == 1
    for what in ("allocator", "noise floor"):
        assert found[what]["level"] == "missing"
        assert found[what]["found"] == (
            "It could not be examined: SameopError: a process that measures ended early: no memory."
        )
    assert found["stolen time"]["found"] == "The system does not tell."
    assert "summary" in found


def test_absent_parts_come_with_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optional part that is absent is named with what a run then lacks and how to get it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    found = {one["what"]: one for one in examine_tools("2.9", ("2.11", "2.13"), "torch 2.9 is untested.")}
    assert {what: finding["advice"] for what, finding in found.items()} == {
        "torch": "torch 2.9 is untested.",
        "C++ compiler": "Compiled forms will be recorded as failed: install g++.",
        "pytest-benchmark": "No benchmark.json will be written: pip install pytest-benchmark.",
        "fvcore": "One witness of the MACs will be missing: pip install fvcore.",
        "nvidia-ml-py": "Energy, clocks and names of GPUs will be missing: pip install nvidia-ml-py.",
        "z3-solver": "Lemmas about every size are refused: pip install z3-solver.",
        "triton": "Implementations in Triton, and compiled ones on CUDA, are left out: pip install triton.",
        "scipy": None,
    }
    assert found["torch"]["found"] == "torch 2.9 is installed; tested are 2.11 and 2.13."


def test_run_folder(tmp_path: Path) -> None:
    """A folder is judged by the nearest above it that exists."""
    runs = tmp_path / "reports" / "runs"
    found = run_folder(runs)
    assert found["found"].startswith(f"Runs go to {runs}, where ")
    assert not list(tmp_path.iterdir())
    (tmp_path / "reports").write_text("", encoding="utf-8")
    blocked = run_folder(runs)
    assert blocked["found"] == f"{tmp_path / 'reports'} is no folder, so {runs} cannot be made."
    assert blocked["advice"] == "Name another place with `--bench-run=FOLDER`."


def test_run_folder_that_is_full_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little room is advice; a folder that may not be written is missing."""

    class Usage:
        free = 2**20

    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage)
    full = run_folder(tmp_path)
    assert (full["found"], full["level"]) == (f"Runs go to {tmp_path}, where 1.00 MiB are free.", "advice")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    closed = run_folder(tmp_path)
    assert (closed["found"], closed["level"]) == (f"{tmp_path} may not be written.", "missing")


def test_run_folder_of_a_project_that_is_set_wrongly(tmp_path: Path) -> None:
    """A mistake in the project's settings is told in its own words."""
    (tmp_path / "pyproject.toml").write_text("[tool.sameop]\nrooms = 1\n", encoding="utf-8")
    (finding,) = examine_folder(tmp_path)
    assert "has the unknown key 'rooms'" in finding["found"]
    assert finding["level"] == "missing"


def test_summary() -> None:
    """The summary names what can be measured and what cannot, each once; advice is no obstacle."""
    told = [
        fine("a", "A.", "times"),
        advise("b", "B.", "wait", "instruction counts"),
        missing("c", "C.", "get it", "joules"),
        fine("d", "D.", "joules"),
        missing("e", "E.", "get it"),
    ]
    assert summarise_findings(told)["found"] == (
        "This machine can measure: times and instruction counts; it cannot: joules."
    )
    assert summarise_findings(told[:2])["found"] == (
        "This machine can measure: times and instruction counts; nothing that sameop can measure is missing."
    )


@pytest.mark.parametrize("width", [80, 120])
def test_table_fits_a_terminal(tmp_path: Path, width: int) -> None:
    """Names stay whole, advice follows an arrow, the summary stands below, and no line is too long."""
    shown = io.StringIO()
    Console(width=width, file=shown).print(doctor_table(examine(patient(tmp_path))))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "preloaded allocator" in text
    assert "→ " in text
    assert text.index("This machine can measure:") > text.index("run folder")
