"""Programs and libraries, and what is lost without them."""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib.metadata import PackageNotFoundError, version

from harness.doors.doctor.finding import Finding, advise, fine, missing
from harness.doors.doctor.wording import listed

# Module, package, what is lost without it, and what can be measured with it where that is a thing of its own.
_OPTIONAL: tuple[tuple[str, str, str, str | None], ...] = (
    ("pytest_benchmark", "pytest-benchmark", "No benchmark.json will be written", None),
    ("fvcore", "fvcore", "One witness of the MACs will be missing", None),
    ("pynvml", "nvidia-ml-py", "Energy, clocks and names of GPUs will be missing", None),
    ("z3", "z3-solver", "Lemmas about every size are refused", None),
    (
        "triton",
        "triton",
        "Implementations in Triton, and compiled ones on CUDA, are left out",
        "Triton kernels",
    ),
)


def examine_tools(torch_version: str, tested: tuple[str, ...], notice: str | None) -> list[Finding]:
    """Return the version of torch, the compiler and the optional libraries."""
    supported = f"torch {torch_version} is installed; tested are {listed(tested)}."
    return [
        advise("torch", supported, notice),
        _compiler(),
        *(_library(*entry) for entry in _OPTIONAL),
        _scipy(),
    ]


def _compiler() -> Finding:
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        lost = "Compiled forms will be recorded as failed: install g++."
        return missing("C++ compiler", f"{name} is not installed.", lost, "compiled forms")
    return fine("C++ compiler", f"It is {path}.", "compiled forms")


def _scipy() -> Finding:
    if importlib.util.find_spec("scipy") is None:
        return fine("scipy", "It is not installed; sameop does without, and only pages of yours may need it.")
    return _library("scipy", "scipy", "", None)


def _library(module: str, package: str, loss: str, measures: str | None) -> Finding:
    if importlib.util.find_spec(module) is None:
        return missing(package, "It is not installed.", f"{loss}: pip install {package}.", measures)
    try:
        return fine(package, f"Version {version(package)} is installed.", measures)
    except PackageNotFoundError:  # the same module may come from a distribution of another name
        return fine(package, "It is installed, in an unknown version.", measures)
