"""The tables hold what the page holds, and no name in them is markup or a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.paper.record import Agreement, Reading, Status
from harness.paper.store import Run
from harness.paper.units import Unit

from .escapes import to_csv, to_latex, to_markdown
from .poison import ATTACKS, make_poisoned_run
from .specimen import LOOSE, RED, UNREAD, make_older, make_record, make_run
from .tables import render_csv, render_latex, render_markdown

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "＝1")
COMMANDS = r"\input{/etc/passwd}\write18{rm -rf /}$x^2_3$ 100% & # ~ [opt] -- ,, ``'' \\"
MARKUP = "| a | `b` *c* _d_ <e> [f](http://g) ![h](i) ~~j~~ $k$ &amp; :smile:\n\n# l"
# Every control word and symbol that the tables may hold.
LATEX_WORDS = {
    *("allowbreak", "arraybackslash", "begin", "bottomrule", "caption", "cdot", "div", "end", "endhead"),
    *("leq", "linewidth", "midrule", "pm", "raggedright", "textasciicircum", "textasciigrave"),
    *("textasciitilde", "textbackslash", "textbar", "textgreater", "textless", "textmu", "textquotedbl"),
    *("textquotesingle", "times", "toprule", "usepackage"),
}


def read_csv(run: Run) -> list[dict[str, str]]:
    """Read the table back as a tool would."""
    return list(csv.DictReader(io.StringIO(render_csv([run]))))


def test_csv_has_a_row_for_every_planned_case() -> None:
    """Each planned case has either a latency in seconds per call or a reason for none."""
    run = make_run()
    rows = read_csv(run)
    assert [row["case"] for row in rows] == list(run.header.plan)
    for row in rows:
        assert bool(row["latency_seconds_per_call"]) != bool(row["reason"] or row["latency_missing_because"])


def test_csv_holds_the_numbers_of_the_records() -> None:
    """Numbers are written in full, as they were recorded."""
    run = make_run()
    first = run.records[0].readings["latency"]
    row = read_csv(run)[0]
    assert float(row["latency_seconds_per_call"]) == first.value
    assert (float(row["latency_low"]), float(row["latency_high"])) == (first.low, first.high)
    assert int(row["latency_samples"]) == len(first.samples)


def test_a_withheld_number_is_in_no_table() -> None:
    """Without agreement there is no number in any format, even if a record wrongly holds one."""
    wrong = replace(
        make_record(UNREAD, 1.0),
        status=Status.DISAGREED,
        agreement=Agreement(agrees=False, level="L0", reason="off by one"),
        readings={"latency": Reading(Unit.SECONDS_PER_CALL, 7.654e-3, facts={"low_quartile": 7.654e-3})},
    )
    run = make_run()
    runs = [replace(run, records=[*run.records, wrong])]
    for text in (render_csv(runs), render_markdown(runs), render_latex(runs)):
        assert "7.65" not in text
        assert "0.00765" not in text


@pytest.mark.parametrize("attack", [*FORMULAS, *ATTACKS])
def test_no_cell_is_a_formula(attack: str) -> None:
    """A spreadsheet computes nothing: a cell that is no number does not start like a formula."""
    run = make_poisoned_run(attack)
    starting = replace(run.records[0], case=replace(run.records[0].case, operator=attack))
    table = csv.reader(io.StringIO(render_csv([replace(run, records=[starting, *run.records])])))
    for cell in (cell for row in table for cell in row):
        assert not re.match(r"\s*[=+@＝＋－＠-]", cell) or _is_number(cell), cell


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("attack", [MARKUP, *ATTACKS])
def test_markdown_tables_keep_their_shape(attack: str) -> None:
    """No name opens a column, a tag, a link or a paragraph."""
    text = render_markdown([make_poisoned_run(attack)])
    assert "<" not in text
    assert not re.search(r"(?<!\\)(?:\\\\)*[\[`$~]", text)
    assert "http://" not in text
    tables = [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    assert tables
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}) == 1


@pytest.mark.parametrize("attack", [COMMANDS, *ATTACKS])
def test_latex_holds_no_command_but_ours(attack: str) -> None:
    """No name runs a command, opens a formula, ends a row or comments one out."""
    text = render_latex([make_poisoned_run(attack)])
    assert set(re.findall(r"\\([A-Za-z]+)", text)) <= LATEX_WORDS
    body = text.split("\n", 1)[1].replace("\\\\\n", "\n")
    assert set(re.findall(r"\\([^A-Za-z])", body)) <= set("{}$&#%_")
    assert not re.search(r"(?<!\\)[%#_~^]", body)
    for table in re.findall(r"\\midrule\n\\endhead\n(.*?)\\bottomrule", text, re.DOTALL):
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in table.splitlines()}) == 1


def test_csv_flattens_what_has_parts() -> None:
    """Processes, the roofline, scaling, what ran and what was executed are columns of numbers and words."""
    row = read_csv(make_run())[0]
    facts = make_run().records[0].readings["latency"].facts
    medians = [float(text) for text in row["latency_process_medians"].split()]
    assert medians == [process["median"] for process in facts["processes"]]
    assert (row["latency_processes"], row["latency_processors"]) == ("3", "1")
    assert float(row["latency_roofline_share"]) == facts["roofline"]["share"]
    assert row["latency_roofline_bound"] == "bytes"
    assert float(row["latency_all_threads_speedup"]) > 1
    assert row["latency_all_threads_scaling"].endswith(" on 2")
    assert float(row["executed_macs"]) == 9.83e6
    assert row["kernels"] == "oneDNN convolution jit:avx2 × 2"


def test_csv_says_what_speaks_against_a_latency() -> None:
    """Flags are words in a column of their own."""
    row = next(row for row in read_csv(make_run()) if row["case"] == str(LOOSE))
    assert row["latency_flags"] == (
        "2 processes at 640 µs, 1 at 2.30 ms; results differ between calls within rounding"
    )
    assert row["latency_all_threads_flags"] == "preempted in 40 % of the samples"


def test_csv_of_an_older_run_has_no_column_of_the_new_facts() -> None:
    """A column stands where any case has something in it."""
    row = read_csv(make_older(make_run()))[0]
    assert not [name for name in row if "roofline" in name or "process" in name or "cold" in name]


@pytest.mark.parametrize("render", [render_markdown, render_latex])
def test_tables_tell_remarks_speed_and_time(render: Callable[[list[Run]], str]) -> None:
    """Flags, the share of the roofline, the speed limit and the account are in the tables too."""
    text = render([make_run()]).replace("\\", "")
    for words in (
        "Remarks",
        "Latency: 2 processes at 640",
        "112 % bytes",
        "3.05 M 1.00",
        "Speed limit",
        "103 GFLOP/",
        "Where the time went",
        "42.0 s, 70.0 %",
    ):
        assert words in text


def test_escapes_leave_plain_names_alone() -> None:
    """A name of letters, digits, slashes and points is the same in every format."""
    name = "involution/core/shifted/rednet50-stage2 7.5"
    assert to_csv(name) == to_markdown(name) == to_latex(name) == name


def test_latex_names_a_letter_that_it_lacks() -> None:
    """A sign that the fonts lack becomes its code, so that the document still compiles."""
    assert to_latex("é µ × 卷") == r"é \textmu{} $\times$ (U+5377)"


def test_latex_special_signs_are_letters() -> None:
    """Each sign that means something to LaTeX is written as a sign."""
    assert to_latex(r"\a{b}$c&d#e%f_g^h~i<j>k|l[m]n*") == (
        r"\textbackslash{}a\{b\}\$c\&d\#e\%f\_g\textasciicircum{}h\textasciitilde{}i"
        r"\textless{}j\textgreater{}k\textbar{}l{[}m{]}n{*}"
    )


def test_latex_keeps_signs_that_would_join() -> None:
    """Two hyphens, commas or quotes stay two signs."""
    assert to_latex("--,,``") == r"-{}-,{},\textasciigrave{}\textasciigrave{}"


def test_markdown_tells_summary_and_reasons() -> None:
    """The summary has its five lines, and each missing number its reason."""
    text = render_markdown([make_run()])
    assert len(re.findall(r"^- \*\*", text, re.MULTILINE)) == 5
    for reason in ("the worker process crashed: signal 11", "the page faults per call never became stable"):
        assert reason in text
    assert RED.operator in text


def test_the_same_records_give_the_same_tables() -> None:
    """Rendering twice gives the same bytes."""
    for render in (render_csv, render_markdown, render_latex):
        assert render([make_run()]) == render([make_run()])
