"""How a gate compared with a stored baseline, generated from what its outcome says was done."""

from __future__ import annotations

from collections import Counter

from harness.paper.gate.outcome import CaseOutcome, GateOutcome
from harness.paper.gate.summary import plain
from harness.paper.gate.wording import setting
from harness.paper.units import format_seconds

from .prose import cases, join, list_words, span
from .strips import SIDES, share_in

# The slowdown that must be found, in margins.
_SENSITIVITY = 3


def describe_stored_gate(outcome: GateOutcome) -> tuple[str, ...]:
    """Return one short paragraph for each thing that was done."""
    timed = [case for case in outcome.cases if case.medians]
    if not timed:
        return ("The times of no case were compared.",)
    told = (_tell_sides(outcome, timed), _tell_rule(outcome), _tell_beside(outcome), _tell_time(outcome))
    return tuple(text for text in told if text)


def _tell_sides(outcome: GateOutcome, timed: list[CaseOutcome]) -> str:
    base, head = (span(len(case.medians.get(side, ())) for case in timed) for side in SIDES)
    clocks = Counter(plain(case.clock) for case in timed if case.clock)
    reason = plain(str(outcome.twins.get("reason") or ""))
    return join(
        [
            "base and head were measured in two sessions on one machine, head with the options that base had "
            "been measured with" + (f": {reason}" if reason else ""),
            f"a process yields one number a case, the middle of its samples; base had {base} processes a "
            f"case and head {head}, and what follows rests on these numbers alone, since processes of one "
            "program differ",
            "read from " + list_words([f"{clock} in {cases(number)}" for clock, number in clocks.items()])
            if clocks
            else "",
        ]
    )


def _tell_rule(outcome: GateOutcome) -> str:
    margin, alarms = (share_in(outcome.policy, name) for name in ("baseline_margin", "false_alarms"))
    if margin is None:
        return ""
    found = setting(margin)
    return join(
        [
            "a case fails where the lower bound of its slowdown, by Welch's t on the logarithms of these "
            f"numbers and corrected for the number of cases, exceeds {found}",
            "that margin stands for what two sessions differ by, which no number of either tells"
            + (
                "; as far as it covers this, unchanged code raises an alarm in any case of a run with a "
                f"probability of at most {setting(alarms)}"
                if alarms
                else ""
            ),
            f"a case whose numbers could not have shown a slowdown of {setting(_SENSITIVITY * margin)} is "
            f"insensitive, which {setting(outcome.insensitive_share)} of the cases may be",
        ]
    )


def _tell_beside(outcome: GateOutcome) -> str:
    counted = [case for case in outcome.cases if len(case.counts) == len(SIDES)]
    memory = share_in(outcome.policy, "memory_margin")
    return join(
        [
            f"in {cases(len(counted))} what one call does was counted in either session, which is free of "
            "noise" + (f"; peak memory may grow by {setting(memory)}" if memory else "")
            if counted
            else "",
            "nothing was planted, base was not held against itself, and the results of the two were not "
            "compared: head is held against its own reference",
        ]
    )


def _tell_time(outcome: GateOutcome) -> str:
    return join([f"the gate took {format_seconds(outcome.seconds)}"]) if outcome.seconds else ""
