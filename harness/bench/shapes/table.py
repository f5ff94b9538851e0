"""A table: which shapes every scope defines, and which of them agree."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from harness.bench.catalog import load_catalogue
from harness.bench.pages import Scope
from harness.bench.shapes.breach import BreachError
from harness.bench.shapes.survey import (
    COMPUTATIONS,
    MANY_REFUSALS,
    VARIABLE,
    Refusals,
    computations_asked,
    survey_computations,
    survey_refusals,
)
from harness.paper.errors import Exit, SameopError

_ROW = "{:<44}{:>7}{:>9}{:>10}{:>8}  {}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SameopError(f"{message[:1].upper()}{message[1:]}: see `python -m harness.bench.shapes --help`.")


def print_table(arguments: list[str]) -> Exit:
    """Print one row a scope, and below it the simplest shape at which it breaks a promise, if any."""
    parser = _Parser(prog="python -m harness.bench.shapes", description=__doc__)
    parser.add_argument("operator", nargs="?", default="*", help="a glob of operators' names")
    parser.add_argument("--cases", type=Path, default=Path("cases"), help="the folder of the pages")
    parser.epilog = f"{VARIABLE} sets how many shapes are computed for each scope, {COMPUTATIONS} by default."
    asked = parser.parse_args(arguments)
    shapes = computations_asked(os.environ)
    operators = load_catalogue([asked.cases]).operators_like(asked.operator)
    _say(_ROW.format("scope", "drawn", "refused", "computed", "agreed", "never defined"))
    rows = [_row(scope, shapes) for operator in operators for scope in operator.scopes.values()]
    return Exit.PASS if all(rows) else Exit.FAILED


def _row(scope: Scope, shapes: int) -> bool:
    """Print the row of a scope; tell whether it keeps its promises."""
    name = f"{scope.operator.name}/{scope.name}"
    try:
        refusals, breach = survey_refusals(scope, MANY_REFUSALS), None
    except BreachError as found:
        refusals, breach = Refusals(), found
    computations = survey_computations(scope, shapes)
    never = ", ".join(refusals.never_defined)
    share = f"{refusals.share:.0%}"
    _say(_ROW.format(name, refusals.drawn, share, computations.computed, computations.agreed, never).rstrip())
    for told in dict.fromkeys(str(found) for found in (breach, computations.breach) if found):
        _say(f"    {told}")
    return breach is None and computations.breach is None


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
