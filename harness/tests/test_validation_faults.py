"""The command that plants faults tells one that does not end as it shall."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.paper.record import Status
from harness.validation import faults
from harness.validation.faults import Fault, Planted, Row, page_faults, plant, told

ROW = Row("abort", "crashed", "crashed", "Its process ended.", True, 1.01, "", 0)


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({"status": "measured"}, "the status is not crashed"),
        ({"fits": False}, "the sentence is not the one that was expected"),
        ({"slowest": None}, "others lost their numbers"),
        ({"slowest": 1.6}, "others lost their numbers"),
        ({"lost": "the exit code is 0"}, "the exit code is 0"),
        ({"left": 2}, "2 processes are left"),
    ],
)
def test_whatever_does_not_hold_is_told(change: dict[str, object], objection: str) -> None:
    """Each of the promises is an objection of its own where it is broken."""
    assert ROW.verdict == "holds"
    row = replace(ROW, **change)  # type: ignore[arg-type]
    assert row.objections == [objection]
    assert not row.as_json()["holds"]
    assert objection in told(row)


class Brief(Planted):
    """A project whose cases are measured in one process each: interpreters take seconds to start."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        with (self.root / "pyproject.toml").open("a", encoding="utf-8") as settings:
            settings.write('[tool.pytest.ini_options]\naddopts = ["--bench-processes=1"]\n')


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_implementation_without_its_fault_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that was planted and is not there is told, while nothing else is objected to."""
    monkeypatch.setattr(faults, "Planted", Brief)
    quiet = {f"scale/{name}": 1e-6 for name in faults.SOUND}
    sound = Fault("none", "return factor * x", Status.CRASHED, "Its process ended")
    row = plant(sound, tmp_path / "planted", quiet)
    assert (row.status, row.fits, row.left) == ("measured", False, 0)
    assert row.objections[:2] == [
        "the status is not crashed",
        "the sentence is not the one that was expected",
    ]
    assert "the exit code is 0" in row.objections


def test_faults_are_named_once(tmp_path: Path) -> None:
    """Every fault has a name of its own, and the project that holds it can be imported."""
    found = page_faults()
    assert len({fault.name for fault in found}) == len(found)
    planted = Planted(
        tmp_path / "planted", {f"fault{number}": fault.body for number, fault in enumerate(found)}
    )
    compile((planted.root / "ops" / "scale.py").read_text(encoding="utf-8"), "scale.py", "exec")


def test_one_document_or_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``--json`` prints one document; either way the exit code says whether all held."""
    monkeypatch.setattr(faults, "validate", lambda: iter([ROW, replace(ROW, left=1)]))
    assert faults.main(["--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [row["holds"] for row in document["rows"]] == [True, False]
    monkeypatch.setattr(faults, "validate", lambda: iter([ROW]))
    assert faults.main([]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].endswith("holds: Its process ended.")
    assert err == "1 of 1 faults cost what they may cost and nothing else.\nexit 0: pass\n"
    assert faults.main(["--what"]) == 4
