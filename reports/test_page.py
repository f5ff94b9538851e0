"""The page keeps its promises: nothing leaves it, nothing withheld is in it, every gap has a reason."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from harness.paper.record import Agreement, ClaimRecord, Reading, Record, Status
from harness.paper.store import Header, Run
from harness.paper.units import Unit, format_seconds

from . import rows
from .page import render
from .poison import ATTACKS, make_poisoned_run
from .specimen import (
    FICKLE,
    LARGE,
    NEVER,
    RED,
    UNREAD,
    make_claim,
    make_header,
    make_older,
    make_record,
    make_run,
    with_facts,
)

ROOT = Path(__file__).parent.parent
HEADINGS = {"Cold caches", "All processors", "Roofline"}
VOID = {"meta", "link", "input", "br", "img", "line", "rect", "circle"}


@dataclass
class Page(HTMLParser):
    """A page taken apart: its elements with their attributes, its text, the cells of its case rows."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    headings: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _row: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, and which case its row is about."""
        found = {name: value or "" for name, value in attrs}
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self._row = found.get("id", "")
        if tag == "td" and self._row:
            self.rows.setdefault(self._row, []).append({**found, "links": [], "text": ""})
        if tag == "a" and self._row and self.rows.get(self._row):
            self.rows[self._row][-1]["links"].append(found["href"])

    def handle_endtag(self, tag: str) -> None:
        """Check that elements are closed in the order in which they were opened."""
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep what a reader sees."""
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(data)
            if self._open[-1] == "th":
                self.headings.append(data)
            if self.rows.get(self._row):
                self.rows[self._row][-1]["text"] += data

    @property
    def text(self) -> str:
        """Everything that a reader sees."""
        return " ".join(" ".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        """The anchors of the page."""
        return [found["id"] for _, found in self.elements if "id" in found]


@pytest.fixture(scope="module")
def page() -> Page:
    """Take the page of the specimen apart."""
    return Page(render([make_run()]))


def test_nothing_leaves_the_page(page: Page) -> None:
    """No element names anything outside the page: links are fragments, the one icon is empty data."""
    for tag, found in page.elements:
        assert not {"src", "srcset", "action", "poster", "data", "style"} & set(found), (tag, found)
        if "href" in found:
            assert found["href"].startswith("#") or found["href"] == "data:,"
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://", page.source)


def test_the_policy_allows_this_script_and_this_style_alone(page: Page) -> None:
    """The content security policy starts from nothing and names the digest of what is inlined."""
    policy = next(found["content"] for tag, found in page.elements if "http-equiv" in found)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", ["", "%41 #?&\u00b5"])
def test_every_link_of_the_page_has_its_target(name: str) -> None:
    """A fragment that is linked exists, whatever stands in it, and no anchor exists twice."""
    found = Page(render([make_poisoned_run(name)]))
    assert len(found.ids) == len(set(found.ids))
    links = {unquote(attributes["href"][1:]) for tag, attributes in found.elements if tag == "a"}
    assert links <= set(found.ids)


def test_every_planned_case_is_a_number_or_a_reason(page: Page) -> None:
    """Each planned case is a row that can be linked, and each of its cells has a value or a reason."""
    planned = make_run().header.plan
    assert set(page.rows) == set(planned) <= set(page.ids)
    # Behind implementation, workload and status, and before the witnesses.
    numbers = slice(3, -1)
    for name, cells in page.rows.items():
        for cell in cells[numbers]:
            reasons = [link for link in cell["links"] if link.startswith("#reason-")]
            assert ("data-v" in cell) != bool(reasons), (name, cell)


def test_every_reason_is_told(page: Page) -> None:
    """Status, silent meter, case without a record, claim without a result and what was left out."""
    for reason in (
        "the error is 5",
        "the worker process crashed: signal 11",
        "the page faults per call never became stable",
        "on the CPU energy is not read by this version",
        "planned, but the run holds no record of it",
        "the run holds no result for this claim",
        "this build of torch (2.13.0+cpu) has no CUDA",
    ):
        assert reason in page.text
    assert NEVER in page.rows


def _with(record: Record) -> Run:
    run = make_run()
    return replace(run, records=[*run.records, record])


@pytest.mark.parametrize(
    ("status", "agreement"),
    [
        (Status.DISAGREED, Agreement(agrees=False, level="L0", reason="off by one")),
        (Status.MEASURED, Agreement(agrees=False, level="L0", reason="off by one")),
        (Status.MEASURED, None),
        (Status.CRASHED, Agreement(agrees=True, level="L0")),
    ],
)
def test_a_withheld_number_is_nowhere(status: Status, agreement: Agreement | None) -> None:
    """Without agreement there is no number on the page, even if a record wrongly holds one."""
    record = replace(make_record(UNREAD, 4.56789), status=status, agreement=agreement)
    reading = Reading(
        Unit.SECONDS_PER_CALL, 7.654e-3, 7.654e-3, 7.654e-3, (7.654e-3,), {"low_quartile": 7.654e-3}
    )
    found = replace(record, readings={**record.readings, "latency": reading})
    text = render([_with(found)])
    assert "7.65" not in text
    assert "0.00765" not in text


def test_a_later_record_of_a_case_replaces_the_earlier_one() -> None:
    """A case that turned wrong when the run was resumed loses the number that it had."""
    fine = make_run().records[0]
    red = replace(fine, status=Status.DISAGREED, reason="It turned wrong.")
    rows = Page(render([_with(red)])).rows
    assert not any("data-v" in cell for cell in rows[str(fine.case)])


@pytest.mark.parametrize("attack", ATTACKS)
def test_names_come_out_as_text(attack: str, page: Page) -> None:
    """Whatever a name holds, the page has the same kinds of elements and attributes, and shows it."""
    found = Page(render([make_poisoned_run(attack)]))
    kinds = {(tag, name) for tag, attributes in page.elements for name in attributes}
    assert {(tag, name) for tag, attributes in found.elements for name in attributes} <= kinds
    assert sum(tag == "script" for tag, _ in found.elements) == 1
    for _, attributes in found.elements:
        assert attributes.get("href", "#").startswith("#") or attributes["href"] == "data:,"
    assert attack in found.text


def test_the_same_records_give_the_same_bytes() -> None:
    """Neither the clock nor the order of hashing leaves a trace."""
    program = (
        "from reports.page import render; from reports.specimen import make_run; print(render([make_run()]))"
    )
    outputs = {_run(program, PYTHONHASHSEED=seed) for seed in ("1", "2")}
    assert len(outputs) == 1


def test_the_reports_need_no_torch() -> None:
    """Pages and tables are made where torch cannot be imported."""
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch':
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Blocker())
from reports.page import render
from reports.specimen import make_run
from reports.tables import render_csv, render_latex, render_markdown
print(*(len(make([make_run()])) for make in (render, render_csv, render_latex, render_markdown)))
"""
    assert len(_run(program).split()) == 4


def test_the_package_works_under_another_name() -> None:
    """Another project may have a package called reports: this one then has another name."""
    program = """
import importlib.util, sys
from pathlib import Path
folder = Path('reports')
spec = importlib.util.spec_from_file_location(
    'elsewhere', folder / '__init__.py', submodule_search_locations=[str(folder)])
sys.modules['elsewhere'] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from elsewhere.page import render
from elsewhere.specimen import make_run
print(len(render([make_run()])), 'reports' in sys.modules)
"""
    assert _run(program).split()[1] == "False"


def _run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_certificate_is_called_proved(page: Page) -> None:
    """Levels L0 and L1 are told in words that promise no more than they give."""
    assert not re.search(r"\bprove[nds]?\b", page.text, re.IGNORECASE)
    assert "certified: a false identity would pass with probability below 1e-30" in page.text
    rounding = Page(render([replace(make_run(), claims=[make_claim("L0", None)])]))
    assert not re.search(r"\bprove[nds]?\b|certified: ", rounding.text, re.IGNORECASE)


def test_a_claim_that_came_out_wrong_is_said_first() -> None:
    """A verdict other than the expected one stands in the summary, by name."""
    claim = make_claim()
    wrong = ClaimRecord(claim.name, {**claim.result, "verdict": "refuted"})
    found = Page(render([replace(make_run(), claims=[wrong])]))
    assert f"0 of 1 claim came out as stated; not so: {claim.name}." in found.text
    assert "refuted, though expected to be true" in found.text


def test_what_disturbed_a_latency_stands_beside_it() -> None:
    """Page faults in every call and times that still moved are flagged where the number is."""
    record = make_run().records[0]
    latency = record.readings["latency"]
    facts = {**latency.facts, "faults_per_call": 1309.6, "warm_up_stable": False}
    noisy = replace(record, readings={**record.readings, "latency": replace(latency, facts=facts)})
    text = Page(render([_with(noisy)])).text
    assert "1.31 k page faults a call" in text
    assert "warm-up not stable" in text


def test_a_column_stands_where_any_record_has_it() -> None:
    """Cold caches, all processors and the roofline are columns of the runs that have them, and no others."""
    new, old = (Page(render([run])) for run in (make_run(), make_older(make_run())))
    assert set(new.headings) >= HEADINGS
    assert not HEADINGS & set(old.headings)
    assert {"Latency", "Calls", "Peak memory", "MACs", "GMAC/s"} <= set(old.headings)


@pytest.mark.parametrize("older", [False, True])
def test_a_speed_above_the_limit_is_written_as_it_is(older: bool) -> None:
    """A share of the roofline above one stands on the page with its explanation, where one was measured."""
    text = Page(render([make_older(make_run()) if older else make_run()])).text
    assert ("112 %" in text) == ("may be faster" in text) == (not older)


def test_a_missing_share_has_its_reason() -> None:
    """A case without a roofline says why, while others have theirs."""
    record = with_facts(make_run().records[0], roofline={"share": None, "reason": "the peak is unknown"})
    assert "the peak is unknown" in Page(render([_with(record)])).text


def test_executed_macs_stand_beside_the_useful_ones() -> None:
    """A program that does more products than needed shows how many times more; fewer is a reason."""
    record = make_run().records[0]
    more, fewer = (
        with_facts(record, "macs", in_bounds=1e6, witnesses={"flop_counter": {"macs": macs, "reason": "x"}})
        for macs in (3.15e6, 2e5)
    )
    assert "3.15×" in Page(render([_with(more)])).text
    reason = "FlopCounter sees fewer products than the formula has: x"
    assert reason in Page(render([_with(fewer)])).text


@pytest.mark.parametrize("at_length", [True, False])
def test_a_row_tells_what_its_latency_rests_on(at_length: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians of processes, processors, why sampling ended and what ran, in large runs in brief."""
    monkeypatch.setattr(rows, "_AT_LENGTH_UP_TO", 1000 if at_length else 0)
    run = make_run()
    medians = [process["median"] for process in run.records[0].readings["latency"].facts["processes"]]
    text = Page(render([run])).text
    for words in (
        f"medians of its processes {', '.join(map(format_seconds, medians))}",
        "processors 1",
        "sampling stopped half the interval is at most 1.0% of the median",
        "oneDNN convolution jit:avx2 × 2",
        "aten::copy_",
    ):
        assert words in text
    assert ("tensors · x · role activation" in text) == at_length


def test_every_status_has_its_reason() -> None:
    """What is not deterministic and what ran out of memory has no number, and says so in a sentence."""
    found = Page(render([make_run()]))
    for case, words in (
        (FICKLE, "withheld: It is not deterministic: two calls on the same inputs differ by up to 1.5"),
        (LARGE, "the case ran out of memory: It ran out of memory at attention.py:31: 1 TiB was asked for"),
    ):
        assert words in found.text
        assert not any("data-v" in cell for cell in found.rows[str(case)])


def test_clocks_that_differ_are_named_with_the_numbers() -> None:
    """One clock for all is named once; where there are two, each number names its own."""
    waiting = with_facts(make_run().records[0], clock="wall")
    assert "they alone make; CPU time of the thread." in Page(render([make_run()])).text
    assert "which they alone make. Calls" in Page(render([_with(waiting)])).text
    named = [cell["text"] for cell in Page(render([_with(waiting)])).rows[str(waiting.case)]]
    assert any("by the wall" in text for text in named)


def test_one_process_among_several_is_said() -> None:
    """What a latency is made of is told for a run in which some cases had one process."""
    alone = with_facts(make_run().records[0], processes=[])
    text = Page(render([_with(alone)])).text
    assert "which they alone make where there were several" in text
    assert "distribution-free 95 % interval of the median" in text


@pytest.mark.parametrize("clock", ["wall", "thread CPU time", "perf_counter and thread_time", None])
def test_cuda_is_measured_by_a_gpu_or_not_at_all(clock: str | None) -> None:
    """A record that names cuda shows numbers only with a time by the GPU's own clock."""
    record = _on_cuda(clock)
    found = Page(render([_with(record)]))
    assert (
        "withheld: the case is one of a GPU, and the record holds no time by the clock of one" in found.text
    )
    assert not any("data-v" in cell for cell in found.rows[str(record.case)])
    assert "0.00456" not in found.source
    assert any(
        "data-v" in cell for cell in Page(render([_with(_on_cuda("CUDA events"))])).rows[str(record.case)]
    )


def _on_cuda(clock: str | None) -> Record:
    record = make_record(replace(UNREAD, device="cuda", implementation="on_cuda"), 4.56789)
    other = {name: reading for name, reading in record.readings.items() if not name.startswith("latency_")}
    return with_facts(replace(record, readings=other), clock=clock)


def test_the_machine_tells_its_speed_and_the_run_its_time() -> None:
    """Copying, products, what could not be measured, and the phases of every session are on the page."""
    text = Page(render([make_run()])).text
    for words in (
        "Speed limit, measured in this run",
        "CPU: copying, 2 threads 32.0 KiB working set 120 GB/s",
        "float32, 1 thread 103 GFLOP/s",
        "a matrix product with 2 threads was not faster than the clock",
        "Where the time went",
        "measuring 42.0 s, 70.0 %",
    ):
        assert words in text
    assert "Speed limit" not in Page(render([make_older(make_run())])).text


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_a_file_names_is_in_the_style(attack: str) -> None:
    """The headings that the style repeats are ours alone."""
    style = re.search(r"<style>(.*?)</style>", render([make_poisoned_run(attack)]), re.DOTALL)
    assert style is not None
    assert attack not in style[1]


def test_a_large_run_makes_a_page_that_opens() -> None:
    """Two thousand cases, each with its details, stay below five megabytes together with 281 claims."""
    run = make_run()
    records = [
        replace(record, case=replace(record.case, operator=f"{record.case.operator}_{number}"))
        for number in range(67)
        for record in run.records
    ]
    claims = [replace(run.claims[0], name=f"{run.claims[0].name}-{number}") for number in range(281)]
    plan = tuple(str(record.case) for record in records)
    large = replace(run, header=replace(run.header, plan=plan), records=records, claims=claims)
    page = render([large])
    assert len(records) > 2000
    assert len(page.encode()) < 5e6
    assert page.count("medians of its processes") > 1500
    fine = 67 * 26
    assert f"energy · all {fine} measured cases" in page
    assert "67 cases, whose cells" not in page


def test_several_runs_stand_one_after_the_other() -> None:
    """Each run has sections of its own, whose anchors do not collide."""
    found = Page(render([make_run(), make_run()]))
    assert len(found.ids) == len(set(found.ids))
    assert {"cases", "run-2/cases"} <= set(found.ids)


def _empty_runs() -> Iterator[Any]:
    header = make_header(())
    yield pytest.param(Run(Path("x"), replace(header, plan=())), id="no case was planned")
    yield pytest.param(Run(Path("x"), header), id="nothing was measured yet")
    bare = Header({}, {}, {}, (), (), "")
    yield pytest.param(Run(Path("x"), bare), id="an empty header")
    red = [replace(make_record(RED, 1.0), status=Status.FAILED, readings={}, agreement=None)]
    yield pytest.param(Run(Path("x"), header, records=red), id="no reading at all")


@pytest.mark.parametrize("run", list(_empty_runs()))
def test_a_run_with_little_in_it_still_makes_a_page(run: Run) -> None:
    """A run that was stopped early, or a foreign one, yields a page that says what it lacks."""
    found = Page(render([run]))
    assert {"summary", "claims", "cases", "missing", "methods"} <= set(found.ids)
