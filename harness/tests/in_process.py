"""The command line in the process of the tests, which spares each call an interpreter with torch."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from harness.doors.cli import main
from harness.tests.projects import Done


def sameop(folder: Path, *arguments: str) -> Done:
    """Run a command in a folder. What it does not turn into an exit code is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return Done(code, out.getvalue(), err.getvalue())
