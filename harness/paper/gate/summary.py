"""A gate's outcome in words, which its table, its summaries and its page share."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

from harness.paper.errors import Exit
from harness.paper.gate.outcome import Bounds, CaseOutcome, ControlOutcome, GateOutcome, Verdict
from harness.paper.gate.wording import percent, setting

# What somebody has to act on comes first.
ORDER = (
    Verdict.FAIL,
    Verdict.DISAGREED,
    Verdict.BROKEN,
    Verdict.INCONCLUSIVE,
    Verdict.INSENSITIVE,
    Verdict.CHANGED,
    Verdict.MISSING,
    Verdict.NEW,
    Verdict.ACCEPTED,
    Verdict.PASS,
)
# Verdicts that speak against head.
AGAINST = (Verdict.FAIL, Verdict.DISAGREED, Verdict.BROKEN, Verdict.CHANGED, Verdict.MISSING)
_TITLES = {
    Exit.PASS: "passed",
    Exit.FAILED: "failed",
    Exit.CHANGED: "cases missing or changed",
    Exit.REGRESSED: "regressed",
    Exit.INCONCLUSIVE: "inconclusive",
    Exit.NOTHING: "nothing was measured",
}
_CONTROLS = {"A/A": "base against itself", "plant": "head against itself made slower"}
# Ratios between these are told by their third decimal, a tenth of a percent.
_NEAR_ONE = (0.1, 100.0)
# Nothing becomes slower by this factor; a spread that asks for it finds nothing.
_BLIND = 100.0
# Control, format, surrogate, private and unassigned characters.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn")


def sort_cases(cases: Iterable[CaseOutcome]) -> list[CaseOutcome]:
    """Return what has to be acted on first, and the slowest first among equal verdicts."""
    return sorted(cases, key=lambda case: (ORDER.index(case.verdict), -case.bounds.low if case.bounds else 0))


def title_of(outcome: GateOutcome) -> str:
    """Return the end of it in a word or a few: ``regressed``."""
    return _TITLES[outcome.exit]


def count_verdicts(outcome: GateOutcome) -> str:
    """Count the cases by verdict: ``12 cases: 1 FAIL, 11 PASS``."""
    found = outcome.by_verdict()
    counts = ", ".join(f"{len(found[verdict])} {verdict}" for verdict in ORDER if verdict in found)
    return f"{_cases(len(outcome.cases))}: {counts}" if counts else "no case was selected"


def tell_exits(outcome: GateOutcome) -> str:
    """Name every exit code that holds with its meaning, the one that wins first."""
    codes = outcome.exits if outcome.cases and outcome.exits else [outcome.exit]
    first, *others = (f"{int(code)} ({code.meaning})" for code in codes)
    also = " and ".join(filter(None, (", ".join(others[:-1]), *others[-1:])))
    return f"exit {first}" + (f"; {also} hold{'s' * (len(others) == 1)} too" if others else "")


def tell_insensitivity(outcome: GateOutcome) -> str:
    """Say that too many cases are insensitive, nothing where they are not."""
    if not outcome.is_insensitive:
        return ""
    number = len(outcome.by_verdict()[Verdict.INSENSITIVE])
    allowed = f"{setting(outcome.insensitive_share)} of those whose times were compared"
    return f"{_cases(number)} insensitive, more than the policy allows: {allowed}"


def tell_passes(outcome: GateOutcome) -> list[str]:
    """Tell how many cases pass, between which ratios, and what they would have found."""
    passes = outcome.by_verdict().get(Verdict.PASS, [])
    if not passes:
        return ["no case passes"]
    number = "1 case passes" if len(passes) == 1 else f"{len(passes)} cases pass"
    timed = [case for case in passes if case.bounds]
    if not timed:
        return [number]
    ratios = _ends([(tell_ratio(_ratio_of(case)), case) for case in sorted(timed, key=_ratio_of)])
    sizes = _ends([(_size(_detectable_of(case)), case) for case in sorted(timed, key=_detectable_of)])
    return [f"{number}: head ÷ base {ratios}", f"smallest slowdown that would have been found: {sizes}"]


def _ratio_of(case: CaseOutcome) -> float:
    return case.bounds.ratio if case.bounds else nan


def _detectable_of(case: CaseOutcome) -> float:
    return case.bounds.detectable if case.bounds else nan


def _ends(numbers: Sequence[tuple[str, CaseOutcome]]) -> str:
    """Write the first and the last of a row of numbers, each with its case."""
    ends = dict.fromkeys(f"{text} ({plain(case.name)})" for text, case in (numbers[0], numbers[-1]))
    return " to ".join(ends)


def tell_controls(outcome: GateOutcome) -> Iterator[str]:
    """Yield a line for each kind of control, and one for each that was not answered as it had to be."""
    if not outcome.controls:
        yield "no control was run"
    for kind in dict.fromkeys(control.kind for control in outcome.controls):
        title = _CONTROLS.get(kind, plain(kind))
        found = [control for control in outcome.controls if control.kind == kind]
        if len(found) == 1:
            yield f"{title}: {tell_control(found[0])}"
            continue
        sound = sum(control.is_sound for control in found)
        yield f"{title}: {sound} of {len(found)} as expected{_range_of(found)}"
        yield from (f"{title}: {tell_control(control)}" for control in found if not control.is_sound)


def tell_control(control: ControlOutcome) -> str:
    """Tell one control: its case, what was found, and whether that is the answer it had to have."""
    bounds = control.outcome.bounds
    planted = f", {setting(control.planted)} planted" if control.planted else ""
    found = f"head ÷ base {tell_ratio(bounds.ratio)} ({tell_interval(bounds)})" if bounds else "no number"
    verdict = "as expected" if control.is_sound else "NOT as expected"
    reason = f": {plain(control.reason)}" if control.reason else ""
    return f"{plain(control.case)}{planted}, {found}, {verdict}{reason}"


def _range_of(controls: Sequence[ControlOutcome]) -> str:
    ratios = [control.outcome.bounds.ratio for control in controls if control.outcome.bounds]
    return f", head ÷ base {tell_ratio(min(ratios))} to {tell_ratio(max(ratios))}" if ratios else ""


def tell_side(side: Mapping[str, Any]) -> str:
    """Tell what a side is: ``main (5b1a6c5d0e) with local changes``."""
    ref, commit = (plain(str(side.get(key) or "")) for key in ("ref", "commit"))
    named = " ".join(filter(None, (ref, f"({commit[:10]})" if commit else "")))
    return (named or "not named") + (" with local changes" if side.get("dirty") else "")


def tell_sides(outcome: GateOutcome) -> str:
    """Tell what was compared: ``HEAD (c0ffee5d0e) against main (5b1a6c5d0e)``."""
    return f"{tell_side(outcome.head)} against {tell_side(outcome.base)}"


def changed_counts(case: CaseOutcome) -> list[tuple[str, float | None, float | None]]:
    """Return what one call of the two sides did differently: what, base's number and head's."""
    base, head = (case.counts.get(side, {}) for side in ("base", "head"))
    names = dict.fromkeys((*base, *head))
    return [(name, base.get(name), head.get(name)) for name in names if base.get(name) != head.get(name)]


def tell_ratio(ratio: float) -> str:
    """Write a ratio: ``1.018``."""
    low, high = _NEAR_ONE
    return f"{ratio:.3f}" if low <= ratio < high else f"{ratio:.3g}"


def tell_interval(bounds: Bounds) -> str:
    """Write the interval of a ratio: ``1.012 to 1.024``."""
    low, high = bounds.interval
    return f"{tell_ratio(low)} to {tell_ratio(high)}"


def tell_detectable(bounds: Bounds) -> str:
    """Write the smallest slowdown that would have been found: ``0.9 %``, or ``none``."""
    return _size(bounds.detectable)


def tell_processes(case: CaseOutcome) -> str:
    """Write how many processes the numbers of a case rest on: pairs, or those of head and of base."""
    if case.medians:
        return " + ".join(str(len(case.medians.get(side, ()))) for side in ("head", "base"))
    return str(case.bounds.processes) if case.bounds else ""


def _size(share: float) -> str:
    return percent(share) if share < _BLIND else "none"


def plain(text: str) -> str:
    """Return one line of what can be printed; a mark stands for what cannot.

    Names and reasons come from files and programs: a control character could end a line of XML or steer a
    terminal, a sign without a width could make one name look like another, half a pair cannot be written.
    """
    line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(sign) in _UNPRINTABLE else sign for sign in line)


def _cases(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"
