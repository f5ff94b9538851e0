"""The documents tell the truth: their examples work and their tables match the code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.paper.errors import Exit

ROOT = Path(__file__).parents[2]
needs_clone = pytest.mark.skipif(
    not (ROOT / "CONTRIBUTING.md").exists(),
    reason="the documents are part of a clone, not of an installed wheel",
)


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def example_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project of the files that CONTRIBUTING.md shows, with its workload added."""
    root = tmp_path_factory.mktemp("contributing")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", text, flags=re.DOTALL)
    added = re.search(r"```python\n(Workload\(.*?\))\n```", text, flags=re.DOTALL)
    assert len(files) == 3
    assert added
    for name, content in files:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content.replace("workloads=[", f"workloads=[{added[1]}, "), encoding="utf-8")
    settings = '[tool.sameop]\ncases = ["my_cases"]\n'
    (root / "pyproject.toml").write_text(settings, encoding="utf-8")
    return root


GATE, SUMS = "channel-gate-is-diagonal-convolution", "channel-gate-of-sums-is-not-additive"


@pytest.fixture(scope="module")
def proved(example_project: Path) -> dict[str, Any]:
    """Prove both claims of the project by one command; return what it says of each."""
    done = _run(example_project, "harness", "prove", GATE, SUMS, "--json")
    return {claim["name"]: claim for claim in json.loads(done.stdout)["claims"]}


@needs_clone
def test_contributing_shows_a_project_that_proves_and_checks(example_project: Path) -> None:
    """The operator, the claim and the workload of CONTRIBUTING.md pass `pytest` as they stand."""
    done = _run(example_project, "pytest", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    listed = json.loads(_run(example_project, "harness", "list", "--json").stdout)
    assert [operator["name"] for operator in listed["operators"]] == ["channel_gate"]
    assert listed["operators"][0]["workloads"] == ["se_resnet50/stage4", "se_resnet50/stage2"]


@needs_clone
def test_contributing_shows_a_claim_whose_mutants_are_refuted(proved: dict[str, Any]) -> None:
    """Every mutant of the example is refuted, and the equivalent one holds."""
    claim = proved[GATE]
    assert claim["verdict"] == "holds"
    assert [mutant["verdict"] for mutant in claim["mutants"]] == ["refuted", "refuted", "refuted", "holds"]


@needs_clone
def test_contributing_shows_a_negative_claim_with_a_lemma(proved: dict[str, Any]) -> None:
    """It holds by a counterexample, and its lemma for every size; each assumption is needed."""
    pytest.importorskip("z3", reason="z3-solver is not installed")
    claim = proved[SUMS]
    assert (claim["verdict"], claim["level"]) == ("holds", "L3")
    assert [mutant["verdict"] for mutant in claim["mutants"]] == ["refuted", "holds"]
    assert all(assumption["needed"] for assumption in claim["evidence"][-1]["lemmas"][0]["assumptions"])


@needs_clone
def test_readme_lists_the_exit_codes_with_their_meaning() -> None:
    """Each exit code in the README's table is one of ours and begins with our words for it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.MULTILINE)
    assert rows
    for code, meaning in rows:
        assert meaning.startswith(Exit(int(code)).meaning)
