"""What the commands of this package have in common: sentences in place of traces, and exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from harness.doors.messages import exit_line
from harness.paper.errors import Exit, SameopError


class Parser(argparse.ArgumentParser):
    """A parser whose refusals end like those of every other command."""

    def error(self, message: str) -> NoReturn:
        """Raise what becomes one sentence."""
        raise SameopError(f"{message[:1].upper()}{message[1:]}: see `{self.prog} --help`.")


def run_command(command: Callable[[], Exit], interrupted: str = "") -> int:
    """Run a command and return its exit code, printed with its meaning.

    interrupted: what to say where somebody ended it.
    """
    try:
        code = command()
    except SameopError as error:
        say(f"sameop: {error}")
        code = error.exit
    except KeyboardInterrupt:
        if interrupted:
            say(f"sameop: {interrupted}")
        code = Exit.INTERRUPTED
    say(exit_line(code))
    return int(code)


def say(line: str) -> None:
    """Tell a person a line, on standard error."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def write(line: str) -> None:
    """Write a line of the document, on standard output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
