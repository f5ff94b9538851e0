"""The ``sameop`` command: documents go to standard output, what is meant for a person to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from harness.doors.messages import exit_line
from harness.paper.errors import Exit, SameopError


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code, printed with its meaning."""
    arguments = sys.argv[1:] if arguments is None else arguments
    code = _guarded(lambda: _run(arguments or ["--help"]))
    if not arguments:
        code = Exit.USAGE
    if "--help" not in arguments:
        _say(exit_line(code))
    return int(code)


def _run(arguments: list[str]) -> int:
    # Here and not above: without one of the libraries it needs, the command still says so in a sentence.
    from harness.doors.commands import run

    return run(arguments)


def _guarded(command: Callable[[], int]) -> Exit:
    """Turn what a command raises into one sentence and an exit code."""
    try:
        return Exit(command())
    except SameopError as error:
        _say(f"sameop: {error}")
        return error.exit
    except ModuleNotFoundError as error:
        name = (error.name or str(error)).partition(".")[0]
        _say(f"sameop: This command needs {name}, which is not installed: pip install {name}.")
        return Exit.USAGE
    except KeyboardInterrupt:
        _say("sameop: interrupted; what was finished is kept.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.PASS


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
