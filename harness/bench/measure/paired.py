"""Pairs: how the members of a group compare within each replicate, where all saw the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from harness.bench.measure.group import Member
from harness.bench.measure.latency import WALL, ProcessSamples, choose_clock, without_throttled
from harness.bench.measure.modes import Mode
from harness.paper.stats import estimate


def pair_up(members: Sequence[Member], threads: int) -> None:
    """Compare every sound member with the first of those that have most replicates, in every mode.

    The state of the machine multiplies the times of all members of a replicate alike, and no ratio of two
    of them; so the ratio is known better than either time.
    """
    sound = [member for member in members if member.failure is None and member.samples]
    for mode in sound[0].samples if sound else ():
        against = max(sound, key=lambda member: len(member.samples[mode]))
        for member in sound:
            if member is not against:
                found = _compare(member, against, Mode.of(mode, member.case.device, threads), mode)
                member.paired |= {mode: found} if found else {}


def _compare(member: Member, against: Member, conditions: Mode, mode: str) -> Mapping[str, Any]:
    """Return the ratio of the medians of a member and another one, with the interval over the replicates."""
    clocks = {choose_clock(one.samples[mode], conditions) for one in (member, against)}
    # Two clocks would compare what one counts and the other leaves out.
    clock = clocks.pop() if len(clocks) == 1 else WALL
    own, other = (_medians(one.samples[mode], clock) for one in (member, against))
    ratios = [own[number] / other[number] for number in sorted(own.keys() & other.keys()) if other[number]]
    if not ratios:
        return {}
    found = estimate(ratios)
    return {
        "against": str(against.case.id),
        "ratio": found.value,
        "low": found.low,
        "high": found.high,
        "processes": len(ratios),
        "clock": clock,
    }


def _medians(processes: Sequence[ProcessSamples], clock: str) -> dict[int, float]:
    """Return the median of every replicate that a throttled GPU left something of."""
    return {process.number: median(process.per_call(clock)) for process in without_throttled(processes)[0]}
