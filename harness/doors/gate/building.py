"""What a project builds before it can be imported, in the copy of each side."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.bench.twins.side import cache_variables
from harness.doors.gate.checkouts import BASE, Checkout
from harness.doors.gate.repository import environment
from harness.paper.errors import Exit, SameopError

_LINES = 5


class BaseNotBuiltError(SameopError):
    """A command that fails in the base."""

    exit = Exit.BASELINE


class HeadNotBuiltError(SameopError):
    """A command that fails in the head."""

    exit = Exit.FAILED


def build(side: Checkout, commands: Sequence[str]) -> None:
    """Run commands of a shell in the project's folder of a side, or raise the error of that side.

    ``python`` is the interpreter that runs the gate; compilers keep what they made in the side's own caches,
    where it is found when the side runs.
    """
    for command in commands:
        code, printed = _run(command, side.project, _environment(side))
        if code:
            kind = BaseNotBuiltError if side.name == BASE else HeadNotBuiltError
            raise kind(
                f"`{command}` of the policy's `build` ended with exit code {code} in {side.name} "
                f"({side.ref}): mend it, or the `build`. Its last lines:\n{_end(printed)}"
            )


def _environment(side: Checkout) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")]))
    # A copy has no repository, and must not find the one that the scratch folder may lie in.
    apart = {"PATH": path, "GIT_CEILING_DIRECTORIES": str(side.copy.parent)}
    return {**environment(), **cache_variables(side.caches), **apart}


def _run(command: str, folder: Path, variables: Mapping[str, str]) -> tuple[int, str]:
    """Return the exit code of a command and what it printed; it ends with us, and all that it started."""
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, printed.decode("utf-8", "replace")


def _end(printed: str) -> str:
    lines = printed.strip().splitlines() or ["(nothing)"]
    return "\n".join(f"  {line}" for line in lines[-_LINES:])
