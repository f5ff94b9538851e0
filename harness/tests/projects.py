"""Little projects on disk, and the ways to run pytest and ``sameop`` in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

PAGE = '''
"""Scale: every channel has a factor of its own."""

from harness import Cost, Dims, Operator, Workload, activation, parameter

operator = Operator("scale", family="tiny", source="made for a test")


def reference(x, factor):
    """y[b,c] = factor[c] · x[b,c]."""
    return x * factor


core = operator.scope(
    "core",
    reference=reference,
    inputs=lambda d: {"x": activation(d.B, d.C), "factor": parameter(d.C)},
    output=lambda d: (d.B, d.C),
    cost=lambda d: Cost(
        params=d.C, macs=d.B * d.C, elements_read=d.B * d.C + d.C, elements_written=d.B * d.C
    ),
    workloads=[Workload("tiny/one", Dims(B=4, C=6), "made for a test")],
    proof_dims=(Dims(B=2, C=3),),
    polynomial=True,
    counted=lambda d: 0,
    counted_because="elementwise",
)
'''

CLAIM = '''
"""One claim about the page beside it."""

import torch

from harness import Claim, Dims, mutant

from . import scale


class ScaleIsADiagonalMatrix(Claim):
    """Scaling channels is a product with a diagonal matrix."""

    name = "scale-is-a-diagonal-matrix"
    operators = ("scale",)
    source = "made for a test"
    conditions = {"order": "factors stand in the order of the channels"}
    shapes = (Dims(B=2, C=3),)

    def variables(self, d):
        return {"x": (d.B, d.C), "factor": (d.C,)}

    def left(self, d, x, factor):
        return scale.core(x, factor)

    def right(self, d, x, factor):
        return x @ torch.diag(factor)

    @mutant(drops="order")
    def reversed_factors(self, d, x, factor):
        """The factors stand in reverse order."""
        return x @ torch.diag(factor.flip(0))
'''

# Hypothesis' plugin imports all of it when pytest ends, and these projects draw nothing.
PYTEST = ("pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")

# Everything that a process inherits and that could change what a nested pytest does.
_PRIVATE = ("PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER", "COLUMNS", "FORCE_COLOR")


def implementation(name: str, body: str, before: str = "") -> str:
    """Write an implementation of ``scale`` that every preset shows; ``before`` stands above it."""
    properties = 'preferred=True, counted=lambda d: 0, counted_because="elementwise"'
    return (
        f"\n{textwrap.dedent(before)}\n\n@core.implementation({name!r}, {properties})\n"
        f"def {name}(x, factor):\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\n"
    )


@dataclass(frozen=True)
class Done:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it printed on both streams, without the blanks at the ends of the lines."""
        return [line.rstrip() for line in (self.out + self.err).splitlines()]


@dataclass(frozen=True)
class Project:
    """A project with the operator ``scale`` in its package ``ops``."""

    root: Path

    @property
    def page(self) -> Path:
        """The file of the operator."""
        return self.root / "ops" / "scale.py"

    @property
    def runs(self) -> list[Path]:
        """The run folders in their usual place."""
        return sorted(self.root.glob("reports/runs/*/"))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of pytest in this project."""
        return [sys.executable, "-m", *PYTEST, *arguments]

    def pytest(self, *arguments: str, variables: Mapping[str, str] | None = None) -> Done:
        """Run pytest."""
        return run(self.root, self.command(*arguments), variables)

    def sameop(self, *arguments: str) -> Done:
        """Run the command line."""
        return run(self.root, [sys.executable, "-m", "harness", *arguments])

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start pytest and return at once."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Whoever runs the tests in the background lets them, and what they start, ignore Ctrl-C.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )


def make_project(root: Path, *implementations: str, claim: bool = False) -> Project:
    """Write a project with the given implementations beside the reference."""
    package = root / "ops"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "scale.py").write_text(PAGE + "\n".join(implementations), encoding="utf-8")
    if claim:
        (package / "claims.py").write_text(CLAIM, encoding="utf-8")
    (root / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")
    return Project(root)


def run(folder: Path, command: list[str], variables: Mapping[str, str] | None = None) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        command, cwd=folder, env=environment(variables), text=True, capture_output=True, timeout=300
    )
    return Done(done.returncode, done.stdout, done.stderr)


BLOCKER = """
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Blocker())
"""


def without(folder: Path, *modules: str) -> dict[str, str]:
    """Return the variables of an environment in which these modules cannot be imported."""
    blocker = folder / "blocker"
    blocker.mkdir()
    (blocker / "sitecustomize.py").write_text(BLOCKER.format(blocked=modules), encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(blocker), os.environ.get("PYTHONPATH")]))}


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what would change a nested pytest.

    One thread: at these sizes more of them only wait for each other where other work goes on.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _PRIVATE}
    return {**kept, "OMP_NUM_THREADS": "1", **(variables or {})}


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the case records of a run as plain JSON, by implementation."""
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return {line["case"]["implementation"]: line for line in found if line["kind"] == "case"}
