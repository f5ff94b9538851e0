"""The cases and controls of a gate as its page shows them: text, signs, drawings and anchors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count as count_up
from math import isfinite

from harness.paper.gate.baseline import is_stored
from harness.paper.gate.outcome import Bounds, CaseOutcome, ControlOutcome, GateOutcome, TwinNumber, Verdict
from harness.paper.gate.summary import (
    AGAINST,
    plain,
    sort_cases,
    tell_detectable,
    tell_interval,
    tell_processes,
    tell_ratio,
)
from harness.paper.gate.wording import pairs, percent, setting
from harness.paper.units import format_bytes, format_count, format_seconds

from .facts import in_words
from .strips import Axis, Strip, common_axis, draw_strip, own_axis, ratio_of

# A sign and the role that gives its colour.
Sign = tuple[str, str]
GOOD, BAD, OPEN = ("✓", "good"), ("✗", "bad"), ("?", "open")
_SIGNS: Mapping[Verdict, Sign] = {
    **dict.fromkeys(AGAINST, BAD),
    Verdict.PASS: GOOD,
    Verdict.ACCEPTED: GOOD,
    Verdict.NEW: ("+", "open"),
}


@dataclass(frozen=True)
class Cell:
    """One number of a table: its text and its sort key; without a number there is neither."""

    text: str = "–"
    key: str = ""


@dataclass(frozen=True)
class Count:
    """What one call of either side did."""

    what: str
    base: str
    head: str
    differs: bool


@dataclass(frozen=True)
class CaseView:
    """One case as it is shown; ``row`` and ``anchor`` are unique on the page.

    cells: ratio, lower bound, smallest slowdown that would have been found, number of pairs. small: drawn
    over the axis that all rows share; large: over an axis of its own. pairs: the numbers of every pair.
    """

    name: str
    row: str
    anchor: str
    verdict: Verdict
    sign: Sign
    reason: str
    cells: tuple[Cell, ...]
    interval: str
    small: Strip | None
    large: Strip | None
    meta: tuple[str, ...]
    wall: str
    counts: tuple[Count, ...]
    notes: tuple[str, ...]
    pairs: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ControlView:
    """One control as it is shown."""

    kind: str
    planted: str
    sign: Sign
    reason: str
    case: CaseView


def show_cases(outcome: GateOutcome) -> list[CaseView]:
    """Return every case, those first that have to be acted on."""
    axis, taken = _shared_axis(outcome), set[str]()
    return [
        _show(case, _unique(plain(case.name), taken), axis, outcome) for case in sort_cases(outcome.cases)
    ]


def show_controls(outcome: GateOutcome) -> list[ControlView]:
    """Return every control; each is drawn over the axis of the cases."""
    axis = _shared_axis(outcome)
    return [
        _show_control(control, _show(control.outcome, f"control-{number}", axis, outcome))
        for number, control in enumerate(outcome.controls, start=1)
    ]


def _shared_axis(outcome: GateOutcome) -> Axis:
    return common_axis(outcome.policy, "baseline_margin" if is_stored(outcome) else "detect")


def _show_control(control: ControlOutcome, case: CaseView) -> ControlView:
    return ControlView(
        kind=plain(control.kind),
        planted=setting(control.planted) if control.planted else "",
        sign=GOOD if control.is_sound else BAD,
        reason=plain(control.reason),
        case=case,
    )


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that no other anchor has, whatever a file repeats."""
    tries = (name if number == 1 else f"{name} ({number})" for number in count_up(1))
    found = next(each for each in tries if each not in taken)
    taken.add(found)
    return found


def _show(case: CaseOutcome, anchor: str, axis: Axis, outcome: GateOutcome) -> CaseView:
    return CaseView(
        name=plain(case.name),
        row=f"case/{anchor}",
        anchor=f"samples/{anchor}",
        verdict=case.verdict,
        sign=_SIGNS.get(case.verdict, OPEN),
        reason=plain(case.reason),
        cells=tuple(_cells(case)),
        interval=tell_interval(case.bounds) if case.bounds else "",
        small=draw_strip(case, axis, outcome.policy),
        large=draw_strip(case, own_axis(case, outcome.policy), outcome.policy),
        meta=tuple(_meta(case)),
        wall=_tell_wall(case.wall),
        counts=tuple(list_counts(case)),
        notes=tuple(map(plain, case.notes)),
        pairs=tuple(_pairs(case.stages)),
    )


def _cells(case: CaseOutcome) -> Iterator[Cell]:
    bounds = case.bounds
    if bounds is None:
        yield from [Cell()] * 4
        return
    yield _cell(tell_ratio(bounds.ratio), bounds.ratio)
    yield _cell(tell_ratio(bounds.low), bounds.low)
    yield _cell(tell_detectable(bounds), bounds.detectable)
    yield _cell(tell_processes(case), bounds.processes)


def _cell(text: str, number: float) -> Cell:
    return Cell(text, f"{number:.6g}" if isfinite(number) else "")


def _meta(case: CaseOutcome) -> Iterator[str]:
    """Yield how the numbers of a case came about."""
    if case.clock:
        yield f"clock: {plain(case.clock)}"
    for side, medians in case.medians.items():
        times = ", ".join(map(format_seconds, medians))
        yield f"a call of {side} takes, by its processes, {times}"
    if not case.numbers:
        return
    yield f"{' + '.join(str(len(stage)) for stage in case.stages if stage)} pairs of processes"
    yield f"a call of base takes {format_seconds(_middle([number.seconds for number in case.numbers]))}"
    yield f"compared for {format_seconds(case.seconds)}"


def _middle(numbers: Sequence[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


def _tell_wall(bounds: Bounds | None) -> str:
    if bounds is None:
        return ""
    return (
        f"By the wall {tell_ratio(bounds.ratio)} ({tell_interval(bounds)}), "
        f"at least {tell_ratio(bounds.low)}, from {pairs(bounds.processes)}."
    )


def list_counts(case: CaseOutcome) -> Iterator[Count]:
    """Yield what one call of either side did, whether the sides differ in it or not."""
    base, head = (case.counts.get(side, {}) for side in ("base", "head"))
    for name in dict.fromkeys((*base, *head)):
        numbers = base.get(name), head.get(name)
        differs = numbers[0] != numbers[1]
        before, after = (_write(name, number) for number in numbers)
        if differs and before == after:
            before, after = ("–" if number is None else f"{number:.0f}" for number in numbers)
        yield Count(_COUNTS.get(name, plain(in_words(name))), before, after, differs)


_COUNTS = {
    "aten_operators": "ATen operators",
    "bytes_allocated": "memory allocated",
    "macs": "MACs",
    "peak_bytes": "peak memory",
}


def _write(name: str, number: float | None) -> str:
    if number is None:
        return "–"
    return format_bytes(number) if "bytes" in name else format_count(number)


def _pairs(stages: Sequence[Sequence[TwinNumber]]) -> Iterator[tuple[str, ...]]:
    """Yield stage, ratios by clock and wall, comparisons, their spread, and the time of a call of base."""
    for number, stage in enumerate(stages, start=1):
        for pair in stage:
            yield (
                str(number),
                "–" if pair.cpu is None else tell_ratio(ratio_of(pair.cpu)),
                tell_ratio(ratio_of(pair.wall)),
                str(pair.quads),
                percent(pair.spread),
                format_seconds(pair.seconds),
            )
