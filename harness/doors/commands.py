"""What each ``sameop`` command does; a command returns its exit code or raises one sentence."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.paper.errors import Exit, SameopError

app = typer.Typer(
    name="sameop",
    help="Are two neural operators the same function, and what does each cost?",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

_FORMATS = {".html": "html", ".csv": "csv", ".md": "markdown", ".tex": "latex"}
_DRAWINGS = {".html": "html", ".svg": "svg", ".md": "markdown"}
# Tables that go into a file or a pipe are not bound to anyone's window.
_WIDE = 160


def run(arguments: list[str]) -> int:
    """Run the command that the arguments name.

    Raises :class:`SameopError` for arguments that no command takes.
    """
    try:
        code = int(app(arguments, prog_name="sameop", standalone_mode=False) or 0)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer's parser raises its own or click's exceptions, depending on its version.
        if not hasattr(error, "format_message"):
            raise
        message = f"{_sentence(error.format_message())} `sameop --help` lists commands and options."
        raise SameopError(message) from None
    if code == Exit.INTERRUPTED:
        # Some versions of Typer return the code of Ctrl-C in place of raising anything.
        raise KeyboardInterrupt
    return code


@app.command("list")
def list_command(as_json: AsJson = False) -> int:
    """List operators, implementations, workloads, claims and comparisons."""
    from harness.bench.catalog import describe
    from harness.doors.project import find_project
    from harness.doors.tables import catalogue_tables

    with _pages_kept_quiet():
        description = describe(find_project(Path.cwd()).load())
    if as_json:
        return _print_json(description)
    return _print_tables(catalogue_tables(description))


@app.command()
def prove(
    claims: Annotated[list[str] | None, typer.Argument(help="Names of claims; all without one.")] = None,
    as_json: AsJson = False,
) -> int:
    """Prove claims: verdict, level, shapes, numbers and refuted mutants."""
    from harness.doors.messages import claim_failure, claim_line, left_out_lines, left_out_of_claims
    from harness.doors.project import find_project
    from harness.doors.proving import open_proofs
    from harness.paper.record import ClaimRecord

    project = find_project(Path.cwd())
    with _pages_kept_quiet():
        chosen = project.load().claims_named(claims or [])
    code, results = Exit.PASS, []
    with open_proofs(project.folders, chosen) as proofs:
        for claim in chosen:
            with _pages_kept_quiet():
                result = proofs.of(claim)
            results.append(result)
            _say(claim_line(result))
            if not ClaimRecord(claim.name, result).as_expected:
                code = Exit.FAILED
                _say(claim_failure(result))
    for line in left_out_lines(left_out_of_claims(results)):
        _say(line)
    if as_json:
        _print_json({"claims": results})
    return code


@app.command()
def traits(
    operators: Annotated[list[str] | None, typer.Argument(help="Operators; all without one.")] = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="A file for table and drawings: .html, .svg or .md.")
    ] = None,
) -> int:
    """Hold the declared traits of operators against what their programs show."""
    from harness.doors.project import TRAITS, find_project, load_renderer
    from harness.doors.tables import traits_table
    from harness.doors.traits import FAILURES, describe_traits

    if out is not None and out.suffix not in _DRAWINGS:
        raise SameopError(f"--out {out} has an unknown ending: choose one of {', '.join(_DRAWINGS)}.")
    with _pages_kept_quiet():
        entries = list(describe_traits(find_project(Path.cwd()).load(), operators or []))
    document = {"traits": entries}
    if out is not None:
        _write(out, load_renderer(_DRAWINGS[out.suffix], TRAITS)(document))
    if as_json:
        _print_json(document)
    else:
        _print_tables([traits_table(entries)])
    for entry in entries:
        if entry["reason"]:
            _say(f"{entry['operator']}: {entry['reason']}")
    return Exit.FAILED if any(entry["verdict"] in FAILURES for entry in entries) else Exit.PASS


@app.command()
def relations(
    prove_now: Annotated[
        bool,
        typer.Option("--prove", help="Prove the claims that show an edge; else they are taken as declared."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Derive which operator is a case of which, and hold the graphs that papers draw against it."""
    from harness.doors.project import find_project
    from harness.doors.relations import describe_relations, verdicts_of
    from harness.doors.tables import relation_tables

    project = find_project(Path.cwd())
    with _pages_kept_quiet():
        document = describe_relations(project.load(), verdicts_of(project, _say) if prove_now else None)
    if as_json:
        _print_json(document)
    else:
        _print_tables(relation_tables(document))
        _say(document["summary"])
    return Exit.PASS if document["as_expected"] else Exit.FAILED


@app.command()
def network(
    name: Annotated[str | None, typer.Argument(help="A network; without one they are listed.")] = None,
    mixer: Annotated[
        str | None, typer.Option("--mixer", help="The operator that replaces its mixing layers.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="A run that measured its layers: their time is summed.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Count parameters and multiply-accumulates of a published network, layer by layer."""
    from harness.doors.networks import describe_network
    from harness.doors.project import find_project
    from harness.doors.tables import network_list, network_table
    from harness.paper.store import read_run

    with _pages_kept_quiet():
        catalogue = find_project(Path.cwd()).load()
        document = describe_network(catalogue, name, mixer, read_run(run) if run else None)
    missing = document.get("latency", {}).get("missing", [])
    if missing:
        _say(f"{run} has no time of {len(missing)} layers, which are not in the sum: {', '.join(missing)}.")
    if as_json:
        return _print_json(document)
    return _print_tables([network_table(document) if name else network_list(catalogue.networks)])


@app.command()
def published(as_json: AsJson = False) -> int:
    """Hold what papers print about costs against what is counted here."""
    from harness.bench.published import check_published
    from harness.doors.project import find_project
    from harness.doors.tables import figure_table, formula_table

    with _pages_kept_quiet():
        catalogue = find_project(Path.cwd()).load()
        document = check_published(catalogue.books, catalogue.figures, catalogue.formulas)
    if as_json:
        _print_json(document)
    else:
        _print_tables([figure_table(document["figures"]), formula_table(document["formulas"])])
        _say(document["summary"])
    return Exit.PASS if document["as_expected"] else Exit.FAILED


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN ...")],
    out: Annotated[Path, typer.Option("--out", help="The file to write: .html, .csv, .md or .tex.")],
) -> int:
    """Write the page or the tables of one or more runs."""
    from harness.doors.project import load_renderer
    from harness.paper.store import read_run

    found = [read_run(folder) for folder in runs]
    for run_found in found:
        for sentence in run_found.damage:
            _say(f"{run_found.folder}: {sentence}")
    if out.suffix not in _FORMATS:
        raise SameopError(f"--out {out} has an unknown ending: choose one of {', '.join(_FORMATS)}.")
    text = load_renderer(_FORMATS[out.suffix])(found)
    _write(out, text)
    return Exit.PASS


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="The earlier run folder.", metavar="BEFORE")],
    after: Annotated[Path, typer.Argument(help="The later run folder.", metavar="AFTER")],
    as_json: AsJson = False,
) -> int:
    """Compare two runs case by case."""
    from dataclasses import asdict

    from harness.doors.tables import comparison_table
    from harness.paper.compare import compare_runs, machine_difference
    from harness.paper.store import read_run

    first, second = read_run(before), read_run(after)
    notice = machine_difference(first, second)
    if notice:
        _say(notice)
    rows = compare_runs(first, second)
    if as_json:
        return _print_json({"machines_differ": notice, "cases": [asdict(row) for row in rows]})
    return _print_tables([comparison_table(rows)])


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Say what this machine can measure, what stands in the way, and what to do."""
    from harness.doors.doctor import examine
    from harness.doors.tables import doctor_table

    findings = examine()
    if as_json:
        return _print_json({"findings": findings})
    return _print_tables([doctor_table(findings)])


@app.command()
def gate(
    base: Annotated[
        str | None, typer.Option("--base", help="The commit to compare with.", metavar="REF")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline", help="In place of a commit: a run that this machine measured before.", metavar="RUN"
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            "--head", help="The commit to judge; the worktree as it stands without it.", metavar="REF"
        ),
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option("--cases", help="A glob over the names of cases; those of quick without it."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or all.")] = "all",
    budget: Annotated[
        float | None, typer.Option("--budget", help="Seconds after which no process is started.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy; sameop-gate.toml of the project without it.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of all that is left to chance.")] = None,
    as_json: AsJson = False,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit's XML into a file.")] = None,
    markdown: Annotated[Path | None, typer.Option("--markdown", help="Write a summary for a job.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with every sample.")] = None,
) -> int:
    """Stop a change that makes a case slower, and nothing else."""
    from harness.doors.gate.command import run_command

    outcome, outputs = run_command(
        base, baseline, head, cases, device, budget, policy, seed, (junit, markdown, html), _say
    )
    if as_json:
        _print_json(outcome.as_json())
    else:
        from harness.doors.gate.table import gate_parts

        _print_tables(gate_parts(outcome))
    return outputs.write(outcome, _say)


def _pages_kept_quiet() -> contextlib.redirect_stdout[Any]:
    """Send what pages print to standard error: standard output holds documents alone."""
    return contextlib.redirect_stdout(sys.stderr)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SameopError(f"{out} cannot be written ({error.strerror}): name another file.") from None
    _say(str(out))


def _print_json(document: Mapping[str, Any]) -> int:
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
    return Exit.PASS


def _print_tables(tables: list[Any]) -> int:
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            # Rich would exit with 1, which here means that something failed.
            raise BrokenPipeError

    console = Pipe(width=None if sys.stdout.isatty() else _WIDE)
    for table in tables:
        console.print(table)
    return Exit.PASS


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else text + "."
