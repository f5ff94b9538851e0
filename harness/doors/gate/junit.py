"""A gate's outcome as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.paper.errors import Exit
from harness.paper.gate.outcome import CaseOutcome, ControlOutcome, GateOutcome, Verdict
from harness.paper.gate.summary import (
    changed_counts,
    plain,
    sort_cases,
    tell_control,
    tell_exits,
    tell_insensitivity,
    title_of,
)

# The elements that every reader of JUnit knows. A failure is what head did, an error what the gate could not
# decide; a skipped test is one that decides nothing. A verdict that is not here is a passed test.
_MARKS = {
    Verdict.FAIL: "failure",
    Verdict.DISAGREED: "failure",
    Verdict.BROKEN: "failure",
    Verdict.MISSING: "failure",
    Verdict.CHANGED: "failure",
    Verdict.INCONCLUSIVE: "error",
    Verdict.INSENSITIVE: "skipped",
    Verdict.NEW: "skipped",
}
# Schemas of Ant and Jenkins take a time without its zone.
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def render_junit(outcome: GateOutcome) -> str:
    """Return one test for every case, every control and the gate as a whole.

    There is a failure or an error exactly where the exit code is not 0, so that no report is green beside a
    job that is red.
    """
    suites = Element("testsuites", name="sameop gate")
    _add_suite(suites, outcome, "gate", [_whole(outcome)])
    _add_suite(suites, outcome, "cases", [_case(case) for case in sort_cases(outcome.cases)])
    blames = Exit.INCONCLUSIVE in outcome.exits
    _add_suite(suites, outcome, "controls", [_control(control, blames) for control in outcome.controls])
    suites.set("time", f"{outcome.seconds:.3f}")
    for name in _COUNTED:
        suites.set(name, str(sum(int(suite.get(name, "0")) for suite in suites)))
    ElementTree.indent(suites, space=" ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


_COUNTED = ("tests", "failures", "errors", "skipped")


def _add_suite(suites: Element, outcome: GateOutcome, name: str, tests: Sequence[Element]) -> None:
    suite = SubElement(suites, "testsuite", name=f"sameop gate: {name}", tests=str(len(tests)))
    for mark, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(test.find(mark) is not None for test in tests)))
    suite.set("time", f"{sum(float(test.get('time', '0')) for test in tests):.3f}")
    started = _TIME.match(outcome.started)
    if started:
        suite.set("timestamp", started[0])
    for test in tests:
        test.set("classname", f"sameop.gate.{name}")
        suite.append(test)


def _whole(outcome: GateOutcome) -> Element:
    """Return the test of what no single case says: that something was measured, and finely enough."""
    if not outcome.cases:
        return _test("selection", "error", f"NOTHING: {Exit.NOTHING.meaning}", tell_exits(outcome))
    too_many = tell_insensitivity(outcome)
    text = "\n".join(map(plain, (f"gate {title_of(outcome)}", tell_exits(outcome), *outcome.notes)))
    return _test("sensitivity", "error" if too_many else "", f"INSENSITIVE: {too_many}", text)


def _case(case: CaseOutcome) -> Element:
    mark = _MARKS.get(case.verdict, "")
    test = _test(case.name, mark, f"{case.verdict}: {case.reason}", "\n".join(_told(case)), case.seconds)
    _add_properties(test, case)
    return test


def _control(control: ControlOutcome, blames: bool) -> Element:
    """Return the test of a control; one that changed no verdict is shown and fails nothing."""
    mark = "" if control.is_sound else "error" if blames else "skipped"
    text = tell_control(control)
    test = _test(f"{control.kind} {control.case}", mark, f"CONTROL: {text}", text, control.outcome.seconds)
    _add_properties(test, control.outcome)
    return test


def _test(name: str, mark: str, message: str, text: str, seconds: float = 0.0) -> Element:
    test = Element("testcase", name=plain(name), time=f"{seconds:.3f}")
    if mark:
        found = SubElement(test, mark, message=plain(message))
        if mark != "skipped":
            found.set("type", message.partition(":")[0])
            found.text = text
    if mark in ("", "skipped"):
        SubElement(test, "system-out").text = text
    return test


def _told(case: CaseOutcome) -> Iterator[str]:
    """Yield the lines that a reader of the report sees below the name."""
    yield plain(f"{case.verdict}: {case.reason}")
    yield from (f"{name}: {value}" for name, value in _properties(case))
    for what, base, head in changed_counts(case):
        yield f"{plain(what)}: {_number(base)} in base, {_number(head)} in head"
    yield from map(plain, case.notes)


def _add_properties(test: Element, case: CaseOutcome) -> None:
    """Add what was measured before all other parts, where pytest writes properties too."""
    properties = Element("properties")
    for name, value in _properties(case):
        SubElement(properties, "property", name=name, value=value)
    test.insert(0, properties)


def _properties(case: CaseOutcome) -> Iterator[tuple[str, str]]:
    yield "verdict", str(case.verdict)
    if case.bounds:
        low, high = case.bounds.interval
        yield "ratio_head_by_base", _number(case.bounds.ratio)
        yield "ratio_lower_bound", _number(case.bounds.low)
        yield "ratio_interval_low", _number(low)
        yield "ratio_interval_high", _number(high)
        yield "detectable_share", _number(case.bounds.detectable)
        for side, medians in case.medians.items():
            yield f"processes_of_{side}", str(len(medians))
        if not case.medians:
            yield "pairs_of_processes", str(case.bounds.processes)
        yield "clock", plain(case.clock)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"
