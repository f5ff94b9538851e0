"""Packages loaded by path, so that two of one name can be used side by side; needs no torch."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def load_package(folder: Path, name: str) -> ModuleType:
    """Import the package in ``folder`` under a name of its own, whatever else is called like it."""
    if name in sys.modules:
        return sys.modules[name]
    start = folder / "__init__.py"
    # A folder without __init__.py is a package too, as it is for Python.
    spec = ModuleSpec(name, None, is_package=True)
    if start.exists():
        spec = importlib.util.spec_from_file_location(name, start) or spec
    spec.submodule_search_locations = [str(folder)]
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        if spec.loader is not None:
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
