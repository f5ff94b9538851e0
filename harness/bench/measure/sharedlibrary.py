"""A small C file made into a shared library where it is needed, with the C compiler that is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 60.0


def c_compiler() -> str | None:
    """Return the path of the C compiler: the one that CC names, or the first that is found."""
    return next(
        (path for name in (os.environ.get("CC", ""), *_COMPILERS) if (path := shutil.which(name))), None
    )


def compile_library(source: Path, library: Path, *flags: str) -> str | None:
    """Compile ``source`` into ``library``; return the reason where that cannot be done."""
    compiler = c_compiler()
    if compiler is None:
        return "no C compiler was found: install one, or name it in the variable CC"
    command = [compiler, "-shared", "-fPIC", "-O2", *flags, "-o", str(library), str(source)]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{compiler} could not be run ({error})"
    lines = done.stderr.strip().splitlines() or ["it says nothing"]
    return None if done.returncode == 0 else f"{compiler} does not compile {source.name}: {lines[0]}"
