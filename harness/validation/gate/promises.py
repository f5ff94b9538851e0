"""The promises of the gate, and whether the trials break them.

A promise is broken where the one-sided 95 % bound of what was seen lies beyond it. It is untested where no
outcome of so few trials could have broken it: a check that cannot fail says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log1p

from harness.paper.errors import Exit
from harness.paper.gate.policy import Policy
from harness.paper.gate.stages import FLOOR
from harness.validation.gate.exact import Mean, Share
from harness.validation.gate.findings import FOUND, Findings, Planted
from harness.validation.gate.loads import QUIET
from harness.validation.gate.plants import ALLOCATION, ARITHMETIC, COPY, FORMAT

# A real slowdown of what the policy detects is found 99 times of a hundred, in nine of ten cases.
_FOUND = 0.99 * 0.9
# Beside the policy's share, a call may hold so much more.
_ALLOWED_BYTES = 64 * 1024
# What is counted has no noise.
_COUNTED = 0.99


class State(StrEnum):
    """What the data say of a promise."""

    KEPT = "not broken"
    BROKEN = "BROKEN"
    UNTESTED = "too little data"


@dataclass(frozen=True)
class Promise:
    """One promise. wanted: it in words. seen: what the trials say."""

    wanted: str
    seen: str
    state: State


def promises(findings: Findings, policy: Policy) -> list[Promise]:
    """Hold the findings against every promise."""
    unharmed = [one for one in findings.planted if _is_unharmed(one, policy)]
    slower = [one for one in findings.planted if _is_to_be_found(one, policy)]
    larger = [one for one in findings.planted if _is_larger(one, policy)]
    rare = f"at most {policy.false_alarms:.2%}"
    return [
        _at_most(
            f"suites without a change that end with another code than 0: {rare}",
            policy.false_alarms,
            findings.all_suites,
        ),
        _at_most(
            f"cases in suites with plants that FAIL and are no slower: {rare}",
            policy.false_alarms,
            _found(unharmed),
        ),
        _at_least(
            f"slowdowns of {policy.detect:.0%} and more that are found when quiet: {_FOUND:.1%}",
            _FOUND,
            _found(slower),
        ),
        _at_least(
            f"rises of peak memory above {policy.memory_margin:.0%} that are found: {_COUNTED:.0%}",
            _COUNTED,
            _found(larger),
        ),
        _at_most(
            f"cases that are insensitive when quiet: at most {policy.insensitive_share:.0%}",
            policy.insensitive_share,
            findings.insensitive.get(QUIET, Share(0, 0)),
        ),
        _mean_at_most(
            "seconds per case when quiet", policy.seconds_per_case, findings.seconds_per_case.get(QUIET)
        ),
        _is_centred(FLOOR * log1p(policy.margin), findings.lean),
    ]


def exit_of(found: Sequence[Promise]) -> Exit:
    """Return the exit code of the validation."""
    states = {promise.state for promise in found}
    if State.BROKEN in states:
        return Exit.FAILED
    return Exit.INCONCLUSIVE if State.UNTESTED in states else Exit.PASS


def _is_unharmed(one: Planted, policy: Policy) -> bool:
    """Whether a case surely became no slower; a copy may raise the peak of memory and fail by that."""
    return one.is_unchanged or (one.kind == ARITHMETIC and one.is_at_most(policy.margin))


def _is_to_be_found(one: Planted, policy: Policy) -> bool:
    return one.load == QUIET and one.kind in (ARITHMETIC, COPY, FORMAT) and one.is_at_least(policy.detect)


def _is_larger(one: Planted, policy: Policy) -> bool:
    return (
        one.kind == ALLOCATION and one.is_at_least(policy.memory_margin) and one.extra_bytes > _ALLOWED_BYTES
    )


def _found(planted: Sequence[Planted]) -> Share:
    return Share(sum(one.answer == FOUND for one in planted), len(planted))


def _at_most(wanted: str, limit: float, share: Share) -> Promise:
    if Share(share.total, share.total).low() <= limit:
        return Promise(wanted, _told(share), State.UNTESTED)
    seen = f"{_told(share)}: at most {share.high():.2%} (95 %)"
    return Promise(wanted, seen, State.BROKEN if share.low() > limit else State.KEPT)


def _at_least(wanted: str, limit: float, share: Share) -> Promise:
    if Share(0, share.total).high() >= limit:
        return Promise(wanted, _told(share), State.UNTESTED)
    seen = f"{_told(share)}: at least {share.low():.1%} (95 %)"
    return Promise(wanted, seen, State.BROKEN if share.high() < limit else State.KEPT)


def _told(share: Share) -> str:
    return f"{share.count} of {share.total}"


def _mean_at_most(what: str, limit: float, mean: Mean | None) -> Promise:
    wanted = f"{what}: at most {limit:g}"
    if mean is None or mean.count < 2:
        return Promise(wanted, f"{mean.value:.1f} in one suite" if mean else "none", State.UNTESTED)
    seen = f"{mean.value:.1f} ({mean.low:.1f} to {mean.high:.1f}, 95 %)"
    return Promise(wanted, seen, State.BROKEN if mean.low > limit else State.KEPT)


def _is_centred(limit: float, mean: Mean | None) -> Promise:
    wanted = f"unchanged code leans to neither side by more than {limit:.2%}"
    if mean is None or mean.count < 2:
        return Promise(wanted, f"{mean.value:+.2%} in one suite" if mean else "none", State.UNTESTED)
    seen = f"{mean.value:+.2%} ({mean.low:+.2%} to {mean.high:+.2%}, 95 %)"
    return Promise(wanted, seen, State.BROKEN if mean.low > limit or mean.high < -limit else State.KEPT)
