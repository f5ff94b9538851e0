"""The same tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from harness.paper.store import Run

from .escapes import one_line, to_csv, to_latex, to_markdown
from .page import view_run
from .sheets import Kind, Sheet, list_sheets
from .values import list_values

_LATEX_KINDS = {
    Kind.NUMBER: "r",
    Kind.TEXT: "l",
    Kind.PROSE: r">{\raggedright\arraybackslash}p{0.35\linewidth}",
}


def render_csv(runs: Sequence[Run]) -> str:
    """Return one flat table of raw numbers with a row for every case; a missing number has a reason."""
    lines = list_values(runs)
    names = dict.fromkeys(name for line in lines for name in line)
    heading = [name for name in names if any(line.get(name) not in (None, "") for line in lines)]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(to_csv(one_line(name)) for name in heading)
    for line in lines:
        values = (line.get(name, "") for name in heading)
        writer.writerow(to_csv(one_line(value)) if isinstance(value, str) else value for value in values)
    return file.getvalue()


def render_markdown(runs: Sequence[Run]) -> str:
    """Return the summary and every table as GitHub-flavoured Markdown."""
    return "\n".join(line for number, run in enumerate(runs, start=1) for line in _markdown_run(run, number))


def render_latex(runs: Sequence[Run]) -> str:
    """Return every table as LaTeX for the packages booktabs and longtable."""
    parts = [
        "% Needs \\usepackage{array,booktabs,longtable,textcomp} and \\usepackage[T1]{fontenc}.",
        *(line for number, run in enumerate(runs, start=1) for line in _latex_run(run, number)),
    ]
    return "\n".join(parts) + "\n"


def _markdown_run(run: Run, number: int) -> Iterator[str]:
    view = view_run(run, number)
    yield f"## sameop: run {to_markdown(view.name)}"
    yield ""
    yield f"Measured on {to_markdown(' · '.join(view.subtitle))}"
    yield ""
    for term, sentence in view.summary:
        yield f"- **{to_markdown(term)}:** {to_markdown(sentence)}"
    yield ""
    for sheet in list_sheets(view):
        yield f"### {to_markdown(sheet.title)}"
        yield ""
        yield from _markdown_table(sheet)
        yield ""
        if sheet.note:
            yield to_markdown(sheet.note)
            yield ""


def _markdown_table(sheet: Sheet) -> Iterator[str]:
    yield _markdown_line([title for title, _ in sheet.columns])
    yield "| " + " | ".join("---:" if kind is Kind.NUMBER else "---" for _, kind in sheet.columns) + " |"
    for line in sheet.lines:
        yield _markdown_line(line)


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(to_markdown(cell) for cell in cells) + " |"


def _latex_run(run: Run, number: int) -> Iterator[str]:
    view = view_run(run, number)
    for sheet in list_sheets(view):
        yield ""
        yield from _latex_table(sheet, view.name)


def _latex_table(sheet: Sheet, run: str) -> Iterator[str]:
    yield f"\\begin{{longtable}}{{{''.join(_LATEX_KINDS[kind] for _, kind in sheet.columns)}}}"
    caption = " ".join(to_latex(part) for part in (f"{sheet.title}.", f"Run {run}.", sheet.note) if part)
    yield f"\\caption{{{caption}}}\\\\"
    yield "\\toprule"
    yield _latex_line(sheet, [title for title, _ in sheet.columns])
    yield "\\midrule"
    yield "\\endhead"
    for line in sheet.lines:
        yield _latex_line(sheet, line)
    yield "\\bottomrule"
    yield "\\end{longtable}"


def _latex_line(sheet: Sheet, cells: Sequence[str]) -> str:
    return " & ".join(map(_latex_cell, cells, (kind for _, kind in sheet.columns))) + r" \\"


def _latex_cell(text: str, kind: Kind) -> str:
    escaped = to_latex(text)
    # In a column of fixed width a long name may break behind a slash.
    return escaped.replace("/", r"/\allowbreak{}") if kind is Kind.PROSE else escaped
