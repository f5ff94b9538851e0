"""The import law: cases → harness ← reports, and inside the harness doors → bench → paper."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What the modules below a folder may not import; a name stands for everything below it.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "harness": ("cases", "reports"),
    "harness/paper": ("torch", "harness.bench", "harness.doors", "pytest"),
    "harness/bench": ("harness.doors", "pytest"),
    "reports": ("torch", "harness.bench", "harness.doors", "cases", "pytest"),
    "cases": ("reports", "harness.bench.measure", "harness.paper.store", "pytest"),
}
# These two are what cases may know of the doors: the suite, in the files that pytest collects.
SUITE = "harness.doors.suite"

_BLOCKED = """
import importlib.abc
import sys


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")


sys.meta_path.insert(0, Blocked())
for name in sys.argv[1:]:
    __import__(name)
assert "torch" not in sys.modules
"""


def modules(folder: str) -> list[Path]:
    """Find the modules below a folder, without the harness's tests and what runs have written."""
    found = sorted((ROOT / folder).rglob("*.py"))
    skipped = (ROOT / "harness" / "tests", ROOT / "reports" / "runs")
    return [path for path in found if not any(parent in skipped for parent in path.parents)]


def is_test(path: Path) -> bool:
    """Whether pytest collects a module, which may then use pytest."""
    return path.name.startswith("test_") or path.name == "conftest.py"


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(path: Path) -> Iterator[str]:
    """Name every module that a file imports, wherever in the file, relative ones in full."""
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, node.module] if node.module else start)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def breaks(name: str, forbidden: tuple[str, ...]) -> bool:
    """Whether a module is a forbidden one, or lies below one."""
    return any(name == other or name.startswith(other + ".") for other in forbidden)


LAWS = [(law, path) for law in FORBIDDEN for path in modules(law)]


@pytest.mark.parametrize(("law", "path"), LAWS, ids=[f"{law}: {name_of(path)}" for law, path in LAWS])
def test_imports_point_inward(law: str, path: Path) -> None:
    """No module imports what its room may not know, at its top or inside a function."""
    allowed = ("pytest",) if is_test(path) else ()
    found = {name for name in imported(path) if breaks(name, FORBIDDEN[law]) and not breaks(name, allowed)}
    assert found == set()


@pytest.mark.parametrize("path", modules("cases"), ids=name_of)
def test_pages_know_no_door(path: Path) -> None:
    """Only the tests of the cases know a door, and of the doors only the suite."""
    doors = {name for name in imported(path) if breaks(name, ("harness.doors",))}
    if is_test(path):
        doors = {name for name in doors if not breaks(name, (SUITE,))}
    assert doors == set()


def test_modules_are_found() -> None:
    """The law is checked on real files."""
    assert {"harness.paper.store", "harness.bench.catalog"} <= {name_of(path) for path in modules("harness")}
    assert "reports.page" in {name_of(path) for path in modules("reports")}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import torch.nn as nn", ["torch.nn"]),
        ("def late():\n    from torch import Tensor", ["torch", "torch.Tensor"]),
        ("from . import b", ["harness.paper", "harness.paper.b"]),
        ("from ..bench.case import Case", ["harness.bench.case", "harness.bench.case.Case"]),
        ("if TYPE_CHECKING:\n    import torch", ["torch"]),
    ],
)
def test_imports_are_seen_in_every_form(
    text: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No form of import escapes the law."""
    path = tmp_path / "harness" / "paper" / "a.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert list(imported(path)) == names


@pytest.mark.parametrize("folder", ["harness/paper", "reports"])
def test_reading_and_reporting_need_no_torch(folder: str) -> None:
    """Every module of these rooms imports on a machine that has no torch."""
    names = [name_of(path) for path in modules(folder) if not is_test(path)]
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKED, *names], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_public_names_need_no_torch_until_they_are_used() -> None:
    """Importing the harness loads nothing, so that a report can ask for its version."""
    program = "import sys, harness\nassert harness.__version__\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_an_unknown_public_name_is_told() -> None:
    """A typing mistake in a page reads as one."""
    import harness

    with pytest.raises(AttributeError, match=r"^module 'harness' has no attribute 'Operatr'$"):
        _ = harness.Operatr
    assert all(getattr(harness, name) for name in harness.__all__)
