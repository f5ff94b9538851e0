"""From a built wheel, in a project that has packages of the same names as ours."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from harness.tests.projects import (
    CLAIM,
    PAGE,
    PYTEST,
    Done,
    environment,
    implementation,
    records,
    run,
    without,
)

ROOT = Path(__file__).parents[2]
needs_clone = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="a wheel is built from a clone, not from itself"
)

CPU = ("--benchmark", "--bench-device=cpu", "--bench-processes=1")

# What the other project keeps in packages that are called like ours.
CASES = "WORD = 'theirs'\n"
TEST = """
import cases.comparisons
import reports.page


def test_names_are_theirs():
    assert cases.comparisons.WORD == reports.page.WORD == "theirs"
"""


@dataclass(frozen=True)
class Installed:
    """A fresh environment that holds our wheel, and nothing of our checkout."""

    python: Path

    def run(self, folder: Path, *command: str) -> Done:
        """Run a module of the environment."""
        return run(folder, [str(self.python), "-m", *command], {"PYTHONPATH": ""})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel, and install it beside the libraries of this interpreter."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "--no-deps", *_isolation(), "--wheel-dir", str(folder), str(_sources(folder)))
    (wheel,) = folder.glob("sameop-*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    library = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    _pip("install", "--no-deps", "--quiet", "--target", str(library), str(wheel))
    (library / "others.pth").write_text("\n".join(_libraries(folder)), encoding="utf-8")
    found = run(folder, [str(python), "-c", "import harness; print(harness.__file__)"], {"PYTHONPATH": ""})
    assert found.out == f"{library / 'harness' / '__init__.py'}\n"
    return Installed(python)


def _isolation() -> list[str]:
    """Build with the setuptools that is here, if it will do; otherwise pip fetches one."""
    try:
        return ["--no-build-isolation"] if int(version("setuptools").partition(".")[0]) >= 77 else []
    except PackageNotFoundError:
        return []


def _sources(folder: Path) -> Path:
    """Copy what a wheel is built from: a build leaves files beside its sources."""
    copy = folder / "sources"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".*", "*.egg-info")
    for name in ("harness", "cases", "reports"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def _libraries(folder: Path) -> list[str]:
    """Return folders with all that is installed here but sameop itself, so that torch need not be fetched."""
    linked = folder / "libraries"
    linked.mkdir()
    for place in [*site.getsitepackages(), *_site_packages_of_sys_path()]:
        for entry in Path(place).iterdir() if Path(place).is_dir() else ():
            ours = "sameop" in entry.name or entry.suffix == ".pth"
            if not ours and not (linked / entry.name).exists():
                (linked / entry.name).symlink_to(entry)
    return [str(linked)]


def _site_packages_of_sys_path() -> list[str]:
    return [path for path in sys.path if path.endswith("site-packages")]


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a project with its own cases and reports, and its operators in another folder."""
    root = tmp_path_factory.mktemp("theirs")
    operators = implementation("mine", "return factor * x")
    files = {
        "pyproject.toml": '[tool.sameop]\ncases = ["lab/operators"]\n',
        "cases/__init__.py": "",
        "cases/comparisons.py": CASES,
        "reports/__init__.py": "",
        "reports/page.py": CASES,
        "lab/operators/__init__.py": "",
        "lab/operators/scale.py": PAGE + operators,
        "lab/operators/claims.py": CLAIM,
        "test_theirs.py": TEST,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@needs_clone
def test_other_project_is_proved_measured_and_reported(installed: Installed, project: Path) -> None:
    """Their operators and claim are taken, ours are not, and our renderer writes the page."""
    done = installed.run(project, *PYTEST, *CPU)
    assert done.code == 0, done.out + done.err
    (folder,) = project.glob("reports/runs/*/")
    assert list(records(folder)) == ["reference", "mine"]
    assert all(record["status"] == "measured" for record in records(folder).values())
    claims = [
        json.loads(line)["name"]
        for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
        if json.loads(line)["kind"] == "claim"
    ]
    assert claims == ["scale-is-a-diagonal-matrix"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "scale-is-a-diagonal-matrix" in page
    assert "involution" not in page
    assert f"page  {folder / 'index.html'}" in done.lines


@needs_clone
def test_names_of_the_other_project_stay_theirs(installed: Installed, project: Path) -> None:
    """Their own tests import their own packages although ours are installed under the same names."""
    done = installed.run(project, *PYTEST, "-q", "test_theirs.py")
    assert done.code == 0, done.out
    assert "1 passed" in done.out


@needs_clone
def test_builtin_cases_come_when_asked(installed: Installed, project: Path) -> None:
    """--bench-builtin adds ours to theirs, and the command line elsewhere shows ours alone."""
    collected = installed.run(project, *PYTEST, "--collect-only", "-q", "--bench-builtin", *CPU)
    assert collected.code == 0, collected.out
    assert "/core/mine/" in collected.out
    assert "involution/core/" in collected.out
    theirs = installed.run(project, "harness", "list", "--json")
    assert [operator["name"] for operator in json.loads(theirs.out)["operators"]] == ["scale"]
    empty = project / "empty"
    empty.mkdir()
    (project / "pyproject.toml").rename(project / "hidden.toml")
    try:
        ours = installed.run(empty, "harness", "list", "--json")
    finally:
        (project / "hidden.toml").rename(project / "pyproject.toml")
    names = [operator["name"] for operator in json.loads(ours.out)["operators"]]
    assert "involution" in names
    assert "scale" not in names


def test_bare_machine_measures_all_the_same(tmp_path: Path) -> None:
    """Without the libraries that a GPU machine may lack a run works, and says what is missing."""
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "scale.py").write_text(PAGE, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")
    bare = without(tmp_path, "fvcore", "iopath", "rich", "typer", "click", "pynvml", "scipy")
    command = [sys.executable, "-m", *PYTEST, *CPU, "--bench-operator=sc*", "--bench-run=run"]
    done = run(tmp_path, command, bare)
    assert done.code == 0, done.out + done.err
    witnesses = records(tmp_path / "run")["reference"]["readings"]["macs"]["facts"]["witnesses"]
    assert witnesses["fvcore"] == {
        "macs": None,
        "verdict": "not counted",
        "reason": "fvcore is not installed",
    }
    assert witnesses["flop_counter"]["verdict"] == "explained"
    assert (tmp_path / "run" / "index.html").exists()
