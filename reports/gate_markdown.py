"""A gate's outcome as Markdown, for the summary of a job or a comment on a change."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from harness.paper.errors import Exit
from harness.paper.gate.baseline import is_stored
from harness.paper.gate.outcome import CaseOutcome, ControlOutcome, GateOutcome, Verdict
from harness.paper.gate.summary import (
    count_verdicts,
    plain,
    sort_cases,
    tell_controls,
    tell_detectable,
    tell_exits,
    tell_insensitivity,
    tell_interval,
    tell_passes,
    tell_processes,
    tell_ratio,
    tell_sides,
    title_of,
)
from harness.paper.gate.wording import sentence, setting

from .escapes import to_markdown
from .facts import list_facts
from .gate_cases import list_counts
from .gate_methods import describe_gate, list_settings

# GitHub refuses a comment of more than 65 536 characters; what a job puts around this needs some.
LONGEST = 64_000
# The rows of the table of cases that do not pass may fill this share; the rest is for what is folded.
_ROWS = 0.75
# A name or a reason longer than this is a mistake or an attack; the page and the JSON have it whole.
_LONGEST_NAME, _LONGEST_REASON = 160, 400
# An @ or # before a word would call a person or a team or link an issue, and addresses would become links: a
# space of no width after it does not. Renovate, which writes comments full of foreign text, does the same.
_CALLS = re.compile(r"([@#](?=\w)|www(?=\.)|:(?=//))")
_SIGNS = {Exit.PASS: "✓", Exit.INCONCLUSIVE: "?"}


@dataclass(frozen=True)
class Fold:
    """A part that is folded: a title in our own words, and lines of which the last ones may be cut.

    Of a table the first two lines are its heading, without which no row is kept.
    """

    title: str
    lines: Sequence[str]
    is_table: bool = True


def render_markdown(outcome: GateOutcome) -> str:
    """Return the verdict, the cases that do not pass, and folded below them the others and how it was done.

    It stays below the size that GitHub takes as a comment, and says what was cut for that.
    """
    cases = sort_cases(outcome.cases)
    top = list(_top(outcome))
    others = [case for case in cases if case.verdict is not Verdict.PASS]
    told = Fold("rows of the table", list(_table(outcome, others)))
    room = LONGEST - _size(top)
    lines, cut = _fit(told, int(_ROWS * room))
    body, room = ["", *lines], room - _size(lines)
    losses = [cut] if cut else []
    for fold in _folds(outcome, cases):
        opening = ["", "<details>", f"<summary>{fold.title}</summary>", ""]
        # Room stays for the sentence that says what was cut.
        kept, cut = _fit(fold, room - _size([*opening, "", "</details>"]) - 1000)
        losses += [cut] if cut else []
        if kept:
            part = [*opening, *kept, "", "</details>"]
            body, room = body + part, room - _size(part)
    if losses:
        body += [
            "",
            f"Cut to fit into a comment: {', '.join(losses)}. The JSON and the page hold everything.",
        ]
    return "\n".join([*top, *body]) + "\n"


def _size(lines: Iterable[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _fit(fold: Fold, room: int) -> tuple[list[str], str]:
    """Return as many lines as there is room for, and what was cut in words."""
    number = sum(size <= room for size in accumulate(len(line) + 1 for line in fold.lines))
    heading = 2 if fold.is_table else 0
    if number == len(fold.lines):
        return list(fold.lines), ""
    if number <= heading:
        return [], f"all {len(fold.lines) - heading} {fold.title}" if fold.is_table else fold.title
    return list(fold.lines[:number]), f"{len(fold.lines) - number} {fold.title}"


def _top(outcome: GateOutcome) -> Iterator[str]:
    sign = _SIGNS.get(outcome.exit, "✗")
    yield f"## {sign} sameop gate: {title_of(outcome)}"
    yield ""
    yield f"{_text(tell_sides(outcome))}: {_text(count_verdicts(outcome))}"
    yield ""
    yield f"- {_text(sentence(tell_exits(outcome)))}"
    lines = [tell_insensitivity(outcome), *tell_passes(outcome), *tell_controls(outcome), *outcome.notes]
    yield from (f"- {_text(sentence(line))}" for line in lines[:_MOST_LINES] if line)
    if len(lines) > _MOST_LINES:
        yield f"- {len(lines) - _MOST_LINES} more remarks, which the JSON and the page hold"


# More remarks than any run has of its own.
_MOST_LINES = 30


def _table(outcome: GateOutcome, cases: Iterable[CaseOutcome]) -> Iterator[str]:
    """Yield a table of cases, nothing for none."""
    rows = [_row(case) for case in cases]
    if rows:
        counted = "Processes" if is_stored(outcome) else "Pairs"
        yield _line(("Verdict", "Case", "Head ÷ base", "95 % interval", "Would find", counted, "Why"))
        yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
        yield from rows


def _row(case: CaseOutcome) -> str:
    found = case.bounds
    numbers = (
        (tell_ratio(found.ratio), tell_interval(found), tell_detectable(found), tell_processes(case))
        if found
        else ("",) * 4
    )
    return _line(
        (str(case.verdict), to_code(case.name), *numbers, _text(" ".join((case.reason, *case.notes))))
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _folds(outcome: GateOutcome, cases: Sequence[CaseOutcome]) -> Iterator[Fold]:
    passes = [case for case in cases if case.verdict is Verdict.PASS]
    if passes:
        yield Fold("cases that pass", list(_table(outcome, passes)))
    counts = [
        _line((to_code(case.name), _text(found.what), found.base, found.head))
        for case in cases
        for found in list_counts(case)
        if found.differs
    ]
    if counts:
        heading = [_line(("Case", "One call", "Base", "Head")), "| --- | --- | ---: | ---: |"]
        yield Fold("counts of one call that differ between base and head", [*heading, *counts])
    if outcome.controls:
        yield Fold("controls", list(_control_table(outcome.controls)))
    parts = {"machine": list_facts(outcome.machine), "policy": list_settings(outcome.policy)}
    facts = [
        f"- {title} · {_text(name)}: {_text(value)}"
        for title, found in parts.items()
        for name, value in found
    ]
    methods = [f"{_text(paragraph, None)}\n" for paragraph in describe_gate(outcome)]
    yield Fold("how it was done, machine and policy", [*methods, *facts], is_table=False)


def _control_table(controls: Sequence[ControlOutcome]) -> Iterator[str]:
    yield _line(("Control", "Case", "Planted", "Head ÷ base", "95 % interval", "Answer"))
    yield "| --- | --- | ---: | ---: | ---: | --- |"
    for control in controls:
        found = control.outcome.bounds
        numbers = (tell_ratio(found.ratio), tell_interval(found)) if found else ("", "")
        answer = "as expected" if control.is_sound else f"not as expected: {_text(control.reason)}"
        planted = setting(control.planted) if control.planted else ""
        yield _line((_text(control.kind), to_code(control.case), planted, *numbers, answer))


def _text(text: str, longest: int | None = _LONGEST_REASON) -> str:
    """Escape a text, so that nothing in it is markup, calls anybody or links anything."""
    return _CALLS.sub(r"\1&#8203;", to_markdown(_clip(plain(text), longest)))


def to_code(name: str) -> str:
    """Write a name as code, in which no markup is read; in a table only pipes end a cell."""
    text = _clip(plain(name), _LONGEST_NAME).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def _clip(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"
