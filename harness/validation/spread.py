"""Holds sameop's latency beside four other tools': do they agree, and whose repeats lie closest together.

``python -m harness.validation.spread --out DIR`` lets each tool time the same callables in processes of one
kind, round after round in random order, on the machine as it is and with every processor kept busy. It writes
down each value at once; the same command goes on where a killed one stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harness.doors.project import Project, find_project
from harness.paper.errors import Exit, NothingToMeasureError, SameopError
from harness.paper.record import CaseId
from harness.validation.command import run_command, say
from harness.validation.peers.candidates import matching, offered, spread_out
from harness.validation.peers.comparison import LOADS, Deadline, Plan, TakeTurn, compare
from harness.validation.peers.load import busy_processors
from harness.validation.peers.observations import Experiment, Notebook
from harness.validation.peers.peer import missing
from harness.validation.peers.probe import Probe
from harness.validation.peers.roster import OURS, PEERS, USUAL
from harness.validation.peers.sameop import Ours
from harness.validation.peers.summary import summarise
from harness.validation.peers.turns import Outcome, Turn, take_turn

if TYPE_CHECKING:
    from harness.bench.catalog import Catalogue

_LIBRARIES = ("torch", "pytest", "pytest-benchmark", "asv", "asv_runner", "google-benchmark")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, printed with its meaning."""
    return run_command(
        lambda: _run(_parser().parse_args(arguments)),
        "interrupted; the same command goes on where this one stopped.",
    )


def _run(options: argparse.Namespace) -> Exit:
    tools = _tools(options.tools)
    project = find_project(Path.cwd())
    notebook = Notebook(options.out)
    catalogue = project.load()
    cases = _cases(notebook, project, catalogue, options)
    plan = Plan(tuple(cases), tools, _loads(options.load), options.rounds, options.seconds, options.allocator)
    notebook.open(_experiment(plan, project, catalogue))
    deadline = Deadline(60 * options.minutes or math.inf)
    with tempfile.TemporaryDirectory(prefix="sameop-expected-") as shelf:
        left = compare(plan, notebook, _taker(project, Path(shelf)), busy_processors, say, deadline)
    if left:
        say(f"The {options.minutes:g} minutes are over with {left} turns left: the same command goes on.")
    return _report(plan, notebook, as_json=options.json)


def _tools(asked: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    unknown = [name for name in names if name not in (OURS, *PEERS)]
    if unknown:
        raise SameopError(f"{unknown[0]!r} is no tool: known are {', '.join((OURS, *PEERS))}.")
    for name in names:
        reason = missing(PEERS[name]) if name in PEERS else None
        if reason:
            raise SameopError(
                f"{name} was asked for, but {reason}, or all of them with pip install 'sameop[validation]'."
            )
    return names


def _loads(asked: str) -> tuple[str, ...]:
    return LOADS if asked == "both" else (asked,)


def _cases(
    notebook: Notebook, project: Project, catalogue: Catalogue, options: argparse.Namespace
) -> list[CaseId]:
    """Return the cases that an earlier command chose, or choose."""
    patterns = [name.strip() for name in options.operators.split(",")]
    if notebook.experiment:
        return matching(notebook.experiment.cases, patterns)
    candidates = offered(catalogue, patterns)
    say(f"A first look at {len(candidates)} cases.")
    looked = take_turn(Turn(Probe.name, tuple(candidates), 0.0, options.allocator), project.folders)
    seconds = {case: outcome.estimate.value for case, outcome in looked.items() if outcome.estimate}
    chosen = spread_out(seconds, options.cases)
    if not chosen:
        raise NothingToMeasureError(
            "No case takes from 50 µs to 20 ms: name other operators with --operators."
        )
    say(f"Compared are {', '.join(map(str, chosen))}.")
    return chosen


def _experiment(plan: Plan, project: Project, catalogue: Catalogue) -> Experiment:
    from harness.bench.machine import commit_facts, identity

    sources = commit_facts(project.root, catalogue.sources)["sources_sha256"]
    versions = {name: _version(name) for name in _LIBRARIES}
    return Experiment(plan.cases, plan.seconds, plan.allocator, identity(), versions, sources)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _taker(project: Project, shelf: Path) -> TakeTurn:
    ours = Ours(shelf)

    def take(turn: Turn) -> Mapping[CaseId, Outcome]:
        return (ours.take_turn if turn.tool == OURS else take_turn)(turn, project.folders)

    return take


def _report(plan: Plan, notebook: Notebook, *, as_json: bool) -> Exit:
    summary = summarise(plan, notebook)
    sys.stdout.write((json.dumps(summary.document, indent=2) if as_json else "\n".join(summary.lines)) + "\n")
    return summary.exit


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m harness.validation.spread", description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the observations; an old one goes on"
    )
    parser.add_argument("--rounds", type=_at_least_one, default=5, help="turns of each tool under each load")
    parser.add_argument("--operators", default="*", help="globs of operators, with commas between them")
    parser.add_argument("--cases", type=_at_least_one, default=12, help="how many operators")
    parser.add_argument("--tools", default=",".join(USUAL), help=f"of {', '.join((OURS, *PEERS))}")
    parser.add_argument("--load", choices=(*LOADS, "both"), default="both")
    parser.add_argument("--seconds", type=_positive, default=0.5, help="for each tool, case and round")
    parser.add_argument("--allocator", choices=("default", "pinned"), default="default")
    parser.add_argument("--minutes", type=_minutes, default=10, help="stop after so long; 0 for no limit")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON document")
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that ends like every other command."""

    def error(self, message: str) -> NoReturn:
        """Raise what becomes one sentence."""
        raise SameopError(f"{message}; see {self.prog} --help.")


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than one")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 3600:
        raise argparse.ArgumentTypeError(f"{text} is no number between 0 and 3600")
    return number


def _minutes(text: str) -> float:
    return float(text) and _positive(text)


if __name__ == "__main__":
    sys.exit(main())
