"""How a gate compared, generated from what its outcome says was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.paper.gate.baseline import is_stored
from harness.paper.gate.outcome import CaseOutcome, GateOutcome
from harness.paper.gate.summary import plain
from harness.paper.gate.wording import setting
from harness.paper.units import format_seconds

from .facts import Pairs, list_facts
from .gate_stored_methods import describe_stored_gate
from .prose import cases, count, join, list_words, span
from .strips import share_in

# Settings that are shares, though their names do not end in the word.
_SHARES = (
    "margin",
    "detect",
    "sensitivity",
    "false_alarms",
    "wall_margin",
    "memory_margin",
    "plant",
    "baseline_margin",
)


def list_settings(policy: Mapping[str, Any]) -> Pairs:
    """Return every setting of a policy as words, shares in percent."""
    return tuple((plain(name), plain(value)) for name, value in list_facts(_in_percent(policy)))


def _in_percent(settings: Any, name: str = "") -> Any:
    if isinstance(settings, Mapping):
        return {key: _in_percent(value, key) for key, value in settings.items()}
    if isinstance(settings, list) and any(isinstance(entry, Mapping) for entry in settings):
        return [_in_percent(entry) for entry in settings]
    return setting(settings) if name in _SHARES and isinstance(settings, float) else settings


def describe_gate(outcome: GateOutcome) -> tuple[str, ...]:
    """Return one short paragraph for each thing that was done."""
    if is_stored(outcome):
        return describe_stored_gate(outcome)
    timed = [case for case in outcome.cases if case.numbers]
    if not timed:
        return ("The times of no case were compared.",)
    told = (
        _tell_twins(outcome, timed),
        _tell_stages(timed),
        _tell_rule(outcome),
        _tell_beside(outcome, timed),
        _tell_controls(outcome),
        _tell_time(outcome, timed),
    )
    return tuple(text for text in told if text)


def _tell_twins(outcome: GateOutcome, timed: list[CaseOutcome]) -> str:
    kind, reason = (plain(str(outcome.twins.get(key) or "")) for key in ("how", "reason"))
    quads = span(number.quads for case in timed for number in case.numbers)
    clocks = Counter(plain(case.clock) for case in timed if case.clock)
    return join(
        [
            "base and head were timed side by side, on the same inputs, in pairs of fresh processes that "
            "took turns"
            + (f"; the processes were {kind}" if kind else "")
            + (f" ({reason})" if reason else ""),
            f"each pair yields one number a case, the middle of {quads} comparisons within it, and what "
            "follows rests on these numbers alone, since processes of one program differ",
            "read from " + list_words([f"{clock} in {cases(number)}" for clock, number in clocks.items()])
            if clocks
            else "",
        ]
    )


def _tell_stages(timed: list[CaseOutcome]) -> str:
    ended = Counter(tuple(len(stage) for stage in case.stages if stage) for case in timed)
    told = [
        f"{cases(number)} ended after {count(len(sizes), 'stage')} with {' + '.join(map(str, sizes))} pairs"
        for sizes, number in sorted(ended.items())
    ]
    return join([list_words(told), "the numbers of a later stage are those of processes of its own"])


def _tell_rule(outcome: GateOutcome) -> str:
    margin, detect, sensitivity, alarms = _shares(outcome, "margin", "detect", "sensitivity", "false_alarms")
    sentences = [
        f"the first stage is a screen: a case passes there only where a slowdown of {detect} is excluded"
        if detect
        else "",
        "a case fails where the lower bound of its slowdown, corrected for the number of cases and of looks, "
        f"exceeds {margin}"
        if margin
        else "",
        f"unchanged code raises an alarm in any case of a run with a probability of at most {alarms}"
        if alarms
        else "",
        f"a case whose numbers could not have shown a slowdown of {sensitivity} is insensitive, "
        f"which {setting(outcome.insensitive_share)} of the cases may be"
        if sensitivity
        else "",
    ]
    return join(sentences)


def _tell_beside(outcome: GateOutcome, timed: list[CaseOutcome]) -> str:
    wall, memory = _shares(outcome, "wall_margin", "memory_margin")
    by_wall = [case for case in timed if case.wall]
    counted = [case for case in outcome.cases if case.counts]
    return join(
        [
            f"in {cases(len(by_wall))} the wall was read too, for sleeps, locks and further threads are "
            "invisible to the clock of a thread" + (f"; there the margin is {wall}" if wall else "")
            if by_wall
            else "",
            f"in {cases(len(counted))} one call of either side was counted, which is free of noise"
            + (f"; peak memory may grow by {memory}" if memory else "")
            if counted
            else "",
        ]
    )


def _tell_controls(outcome: GateOutcome) -> str:
    kinds = Counter(control.kind for control in outcome.controls)
    told = [f"{number} × {plain(kind)}" for kind, number in kinds.items()]
    return join(
        [
            f"{list_words(told)} went through the same loader and the same rule as the cases"
            if told
            else "no control was run"
        ]
    )


def _tell_time(outcome: GateOutcome, timed: list[CaseOutcome]) -> str:
    if not outcome.seconds:
        return ""
    each = sum(case.seconds for case in timed) / len(timed)
    return (
        f"The gate took {format_seconds(outcome.seconds)}; a case whose times were compared took "
        f"{format_seconds(each)} on average."
    )


def _shares(outcome: GateOutcome, *names: str) -> Iterator[str]:
    """Yield settings of the policy in percent, nothing for one that a file lacks."""
    found: list[Any] = [share_in(outcome.policy, name) for name in names]
    return (setting(share) if share else "" for share in found)
