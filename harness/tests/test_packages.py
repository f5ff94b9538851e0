"""Packages loaded by their path, under names of their own."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from harness.bench.packages import load_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a package with a page."""
    package = tmp_path / "cases"
    package.mkdir()
    (package / "page.py").write_text("value = 3\n")
    return package


def test_a_package_needs_no_init(folder: Path) -> None:
    """A folder of Python files is a package, as it is for Python."""
    load_package(folder, "sameop_test_bare")
    assert import_module("sameop_test_bare.page").value == 3


def test_a_package_is_loaded_once(folder: Path) -> None:
    """A second load gives the package that is there."""
    (folder / "__init__.py").write_text("marks = []\n")
    first = load_package(folder, "sameop_test_once")
    assert load_package(folder, "sameop_test_once") is first


def test_a_package_that_fails_is_tried_again(folder: Path) -> None:
    """A package whose first import failed is not taken for a whole one."""
    start = folder / "__init__.py"
    start.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_package(folder, "sameop_test_failing")
    assert "sameop_test_failing" not in sys.modules
