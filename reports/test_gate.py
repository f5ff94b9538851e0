"""The page and the Markdown of a gate say what was found, whatever names a project has."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.paper.gate.outcome import CaseOutcome, GateOutcome, TwinNumber, Verdict

from .gate import render_html
from .gate_markdown import LONGEST, render_markdown
from .gate_methods import describe_gate
from .gate_specimen import POLICY, make_outcome, make_passing, make_poisoned_outcome
from .poison import ATTACKS
from .strips import Axis, common_axis, draw_strip, own_axis
from .test_page import Page

ROOT = Path(__file__).parent.parent
CALLS = ("@everyone", "see #12", "www.evil.example", "https://evil.example", "a@evil.example")
MARKUP = (
    *ATTACKS,
    *CALLS,
    "a|b",
    r"a\|b",
    "`a` ``b``",
    "`",
    "*a* _b_ [c](d) ![e](f)",
    "~~a~~ $b$",
    "a\n\n# b",
)
UNPRINTABLE = "\x00\x1b[2J\u202e\u200b\ud800\ufffe"


@pytest.fixture(scope="module")
def page() -> Page:
    """Take the page of the specimen apart."""
    return Page(render_html(make_outcome()))


def test_nothing_leaves_the_page(page: Page) -> None:
    """No element names anything outside the page, and only its own script and style may run."""
    for tag, found in page.elements:
        assert not {"src", "srcset", "action", "poster", "data", "style", "onclick"} & set(found), (
            tag,
            found,
        )
        assert found.get("href", "#").startswith("#") or found["href"] == "data:,"
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://", page.source)
    policy = next(found["content"] for tag, found in page.elements if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("text", ["", "%41 #?&\u00b5", " ", *ATTACKS])
def test_every_link_of_the_page_has_its_target(text: str) -> None:
    """A fragment that is linked exists, whatever stands in it, and no anchor exists twice."""
    outcome = make_poisoned_outcome(text)
    found = Page(render_html(replace(outcome, cases=[*outcome.cases, *outcome.cases])))
    assert len(found.ids) == len(set(found.ids))
    links = {unquote(attributes["href"][1:]) for tag, attributes in found.elements if tag == "a"}
    assert links <= set(found.ids)


def test_every_case_has_its_verdict_and_its_reason(page: Page) -> None:
    """Each case is a row with its verdict, its reason and its numbers, if it has any."""
    outcome = make_outcome()
    assert len(page.rows) == len(outcome.cases)
    for case in outcome.cases:
        cells = page.rows[f"case/{case.name}"]
        assert cells[0]["text"].strip().endswith(case.verdict)
        assert cells[-1]["text"].strip().startswith(case.reason)
        keys = [cell.get("data-v") for cell in cells[1:5]]
        found = case.bounds
        assert [key and float(key) for key in keys] == (
            [
                pytest.approx(each, rel=1e-5)
                for each in (found.ratio, found.low, found.detectable, found.processes)
            ]
            if found
            else [None] * 4
        )


def test_what_has_to_be_acted_on_comes_first(page: Page) -> None:
    """Failing cases stand before those that are open, and these before those that pass."""
    verdicts = [cells[0]["text"].split()[-1] for cells in page.rows.values()]
    assert verdicts[:2] == ["FAIL", "FAIL"]
    assert verdicts[-3:] == ["PASS"] * 3
    assert verdicts.index("INCONCLUSIVE") < verdicts.index("INSENSITIVE") < verdicts.index("CHANGED")


def test_the_title_is_the_verdict() -> None:
    """What the exit code says is the first thing that is read."""
    for outcome, title in ((make_outcome(), "Failed"), (make_passing(), "Passed")):
        assert re.search(rf'<h1 class="verdict-title"><span [^>]*>.</span>{title}</h1>', render_html(outcome))


def test_the_page_tells_sides_policy_and_controls(page: Page) -> None:
    """Both commits, local changes, the machine, the digest of the policy, and what was planted are there."""
    for words in (
        "head HEAD (c0ffee5d0e) with local changes",
        "base origin/main (5b1a6c5d0e)",
        "Example CPU 3000",
        "digest 5f3a1c0b7e9d",
        "false alarms 0.1 %",
        "cases · 1 · detect 3 %",
        "conv2d/core/grouped/*",
        "Head against itself made slower: involution/core/reference/rednet50-stage2/float32/cpu/forward, 5 %",
        "memory allocated 784 KiB 1.53 MiB ≠",
        "Exit 1 (tests, agreement or a claim failed); 14 (a case of the base is missing or changed), 10 (",
        "1 case insensitive, more than the policy allows: 10 %",
        "accepts nothing",
    ):
        assert words in page.text, words


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_come_out_as_text(attack: str, page: Page) -> None:
    """Whatever a name holds, the page has the same kinds of elements and attributes, and shows it."""
    source = render_html(make_poisoned_outcome(attack))
    found = Page(source)
    kinds = {(tag, name) for tag, attributes in page.elements for name in attributes}
    assert {(tag, name) for tag, attributes in found.elements for name in attributes} <= kinds
    assert sum(tag == "script" for tag, _ in found.elements) == 1
    assert attack in found.text
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style
    assert attack not in style[1]


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_what_cannot_be_printed_is_marked(render: Any) -> None:
    """Control characters, signs without a width and halves of pairs are not in the file."""
    text = render(make_poisoned_outcome(UNPRINTABLE))
    assert not set(UNPRINTABLE) - set("[2J") & set(text)
    assert "\ufffd" in text
    text.encode()


def _dots(source: str) -> int:
    return sum(
        len(re.findall(r"M[\d.]+ 9h0", path)) for path in re.findall(r'class="dots[^"]*" d="([^"]*)"', source)
    )


def test_every_pair_of_processes_is_a_dot(page: Page) -> None:
    """The large drawings hold one dot for each pair, and the table of numbers one row."""
    pairs = sum(len(case.numbers) for case in make_outcome().cases)
    # The key of either section draws two.
    assert _dots(page.source) == pairs
    assert (
        page.source.count("<td>1</td>") + page.source.count("<td>2</td>") + page.source.count("<td>3</td>")
        == pairs
    )


def _case(logs: Sequence[float], clock: str = "thread CPU time", name: str = "a") -> CaseOutcome:
    stages = [[TwinNumber(value, 10 * value, 40, 0.01, 1e-4) for value in logs]]
    return CaseOutcome(name, Verdict.PASS, "", clock=clock, stages=stages)


def test_a_drawing_places_what_it_draws() -> None:
    """Places grow with the ratio, the ends are the edges, and what lies beyond is counted and not placed."""
    axis = Axis(-0.1, 0.2)
    assert (axis.place(-0.1), axis.place(0.2)) == (0.0, 100.0)
    assert axis.place(-0.05) < axis.place(0.0) < axis.place(0.1)
    strip = draw_strip(_case([log(0.8), 0.0, log(1.1), log(1.3), 700.0]), axis, {})
    assert strip is not None
    lane = strip.lanes[0]
    assert list(lane.dots) == pytest.approx([axis.place(0.0), axis.place(0.1)])
    assert (lane.below, lane.above, lane.text) == (1, 2, "5 pairs, 3 beyond the axis")


def test_a_drawing_shows_the_clock_of_the_verdict() -> None:
    """A case that is judged by the wall shows its numbers by the wall, and the margin of the wall."""
    axis = Axis(-0.1, 0.5)
    drawn = [draw_strip(_case([0.01], clock), axis, POLICY) for clock in ("thread CPU time", "wall")]
    by_cpu, by_wall = (strip for strip in drawn if strip)
    assert by_cpu.lanes[0].dots[0] < by_wall.lanes[0].dots[0]
    assert dict(by_cpu.lines)["margin"] == axis.place(0.005)
    assert dict(by_wall.lines) == {
        "zero": axis.place(0),
        "margin": axis.place(0.1),
        "detect": axis.place(0.2),
    }


def test_a_drawing_shows_the_policy_of_its_case() -> None:
    """Settings of a table that matches replace those of the whole."""
    axis = Axis(-0.1, 0.5)
    found = draw_strip(_case([0.0], name="sliding_attention2d/core/x"), axis, POLICY)
    assert found
    assert dict(found.lines)["detect"] == axis.place(0.03)


def test_a_case_without_numbers_has_no_drawing() -> None:
    """Neither no stage nor a stage without a number by the clock is drawn."""
    axis = common_axis({})
    bare = CaseOutcome("a", Verdict.MISSING, "It is gone.")
    waiting = replace(_case([0.0]), stages=[[TwinNumber(None, 0.0, 40, 0.01, 1e-4)]])
    assert draw_strip(bare, axis, {}) is None
    assert draw_strip(waiting, axis, {}) is None


def test_a_stage_that_was_not_begun_is_not_told() -> None:
    """What the end of a budget left empty is neither drawn nor counted as a stage."""
    cut = replace(_case([0.0, 0.01]), stages=[*_case([0.0, 0.01]).stages, []])
    strip = draw_strip(cut, common_axis({}), {})
    assert strip
    assert [lane.title for lane in strip.lanes] == ["stage 1"]
    outcome = replace(make_outcome(), cases=[cut])
    assert "1 case ended after 1 stage with 2 pairs" in " ".join(describe_gate(outcome))
    assert "2 pairs of processes ·" in Page(render_html(outcome)).text


def test_an_axis_of_its_own_holds_everything() -> None:
    """Whatever the numbers are, none lies beyond, and the axis has at least one tick and at most seven."""
    for logs in ([0.0], [1e-9, -1e-9], [0.3, 0.31], [-3.0, 4.0], [-900.0, 900.0]):
        case = _case(logs)
        strip = draw_strip(case, own_axis(case, POLICY), POLICY)
        assert strip
        assert len(strip.lanes[0].dots) == len(logs)
        assert 1 <= len(strip.ticks) <= 7


def test_methods_say_what_was_done() -> None:
    """Processes, stages, margins, error probabilities and clocks are told from the outcome."""
    text = " ".join(describe_gate(make_outcome()))
    for words in (
        "the processes were forked",
        "the middle of 40 comparisons",
        "thread CPU time in 7 cases and wall in 1 case",
        "2 cases ended after 1 stage with 4 pairs",
        "2 cases ended after 3 stages with 4 + 12 + 12 pairs",
        "a slowdown of 2 % is excluded",
        "exceeds 0.5 %",
        "a probability of at most 0.1 %",
        "a slowdown of 5 % is insensitive, which 10 % of the cases may be",
        "there the margin is 10 %",
        "1 × A/A and 1 × plant",
        "The gate took 83.0 s",
    ):
        assert words in text, words


def test_methods_leave_out_what_an_outcome_lacks() -> None:
    """Without a policy, controls or numbers nothing is said of them, and nothing breaks."""
    bare = replace(make_outcome(), policy={}, controls=(), twins={}, seconds=0.0)
    text = " ".join(describe_gate(bare))
    assert "None" not in text
    assert "exceeds" not in text
    assert "No control was run." in text
    assert describe_gate(_empty()) == ("The times of no case were compared.",)


def _empty() -> GateOutcome:
    return GateOutcome(base={}, head={}, machine={}, policy={}, twins={}, cases=[])


def test_an_empty_outcome_still_makes_a_page() -> None:
    """A selection without a case says so in both formats."""
    assert "Nothing was measured" in Page(render_html(_empty())).text
    assert "nothing was measured" in render_markdown(_empty())


def test_a_large_gate_makes_a_page_that_opens() -> None:
    """A thousand cases of three stages stay below sixteen megabytes, passing ones below six."""
    loud = next(case for case in make_outcome().cases if len(case.stages) == 3)
    quiet = make_passing(1000)
    assert len(render_html(quiet).encode()) < 6e6
    cases = [replace(loud, name=f"{loud.name}-{number}") for number in range(1000)]
    assert len(render_html(replace(quiet, cases=cases)).encode()) < 16e6


@pytest.mark.parametrize("renderer", ["gate:render_html", "gate_markdown:render_markdown"])
def test_the_same_outcome_gives_the_same_bytes_without_torch(renderer: str) -> None:
    """Neither the clock nor the order of hashing leaves a trace, and another name of the package will do."""
    module, _, function = renderer.partition(":")
    program = f"""
import importlib.util, sys
from importlib import import_module
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch':
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Blocker())
spec = importlib.util.spec_from_file_location(
    'elsewhere', 'reports/__init__.py', submodule_search_locations=['reports'])
sys.modules['elsewhere'] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
outcome = import_module('elsewhere.gate_specimen').make_outcome()
print(import_module('elsewhere.{module}').{function}(outcome))
assert 'reports' not in sys.modules
"""
    outputs = {_run(program, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(outputs) == 1


def _run(program: str, **environment: str) -> str:
    environment |= {"PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _parse(text: str) -> list[Token]:
    """Read Markdown as GitHub does: CommonMark with HTML and tables."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)


def _walk(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or ())


def _rows(text: str) -> list[list[str]]:
    """Return the text of every cell of every row."""
    rows: list[list[str]] = []
    for before, token in zip((None, *_parse(text)), _parse(text), strict=False):
        if token.type == "tr_open":
            rows.append([])
        if before is not None and before.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


@pytest.mark.parametrize("markup", MARKUP)
def test_markdown_shows_names_as_they_are(markup: str) -> None:
    """Every name is one cell of code that reads as the name, and every row has the cells of its table."""
    outcome = make_poisoned_outcome(markup)
    rows = _rows(render_markdown(outcome))
    names = {row[1] for row in rows if len(row) == 7}
    assert {" ".join(case.name.split()) for case in outcome.cases} <= names
    assert {len(row) for row in rows} == {4, 6, 7}


@pytest.mark.parametrize("markup", MARKUP)
def test_markdown_holds_no_markup_but_ours(markup: str) -> None:
    """No name, reason or fact becomes an element, a link, a picture, a heading or a call for somebody."""
    text = render_markdown(make_poisoned_outcome(markup))
    plain, found = (list(_walk(_parse(each))) for each in (render_markdown(make_poisoned_outcome("")), text))
    assert {token.type for token in found} <= {token.type for token in plain}
    assert [token.content for token in found if "html" in token.type] == [
        token.content for token in plain if "html" in token.type
    ]
    prose = "".join(token.content for token in found if token.type == "text")
    assert not re.search(r"[@#]\w|www\.|https?://", prose.replace("c0ffee", ""))


def test_markdown_begins_with_the_verdict() -> None:
    """Title, sides, counts and all exit codes stand above the table of what does not pass."""
    text = render_markdown(make_outcome())
    assert text.startswith(
        "## ✗ sameop gate: failed\n\n"
        "HEAD (c0ffee5d0e) with local changes against origin/main (5b1a6c5d0e): 13 cases: 2 FAIL, "
    )
    rows = _rows(text)
    assert [row[0] for row in rows[1:4]] == ["FAIL", "FAIL", "DISAGREED"]
    assert "PASS" not in text[: text.index("<details>")].partition("| Verdict")[2]
    assert render_markdown(make_passing()).startswith("## ✓ sameop gate: passed\n")


def test_markdown_counts_what_differs() -> None:
    """Only the counts in which the sides differ are told."""
    rows = [row[1:] for row in _rows(render_markdown(make_outcome())) if len(row) == 4]
    assert rows == [
        ["One call", "Base", "Head"],
        ["ATen operators", "12", "14"],
        ["memory allocated", "784 KiB", "1.53 MiB"],
    ]


@pytest.mark.parametrize("number", [300, 3000])
@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.PASS])
def test_markdown_fits_into_a_comment(number: int, verdict: Verdict) -> None:
    """However many cases there are, the text stays below the limit and says what was cut."""
    case = next(case for case in make_outcome().cases if case.verdict is verdict)
    cases = [replace(case, name=f"{case.name}-{k}") for k in range(number)]
    text = render_markdown(replace(make_outcome(), cases=cases))
    assert LONGEST < 65_536
    assert len(text) <= LONGEST
    shown = sum(row[0] == verdict for row in _rows(text))
    assert 100 < shown < number or number == 300
    what = "rows of the table" if verdict is Verdict.FAIL else "cases that pass"
    assert (f"{number - shown} {what}" in text) == (shown < number)
    assert text.count("<details>") == text.count("</details>")
    assert ("Cut to fit into a comment" in text) == (shown < number)


def test_markdown_cuts_what_is_endless() -> None:
    """A reason, a name, a note or a fact of any length leaves room for all cases."""
    text = render_markdown(make_poisoned_outcome("x" * 100_000))
    assert len(text) <= LONGEST
    assert len([row for row in _rows(text) if row[0] == "FAIL"]) == 2
    many = replace(make_outcome(), notes=["A remark of some length."] * 10_000)
    assert len(render_markdown(many)) <= LONGEST
