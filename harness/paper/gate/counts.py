"""What one call of each side does, counted without any noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.paper.gate.policy import CasePolicy
from harness.paper.units import format_bytes, format_count

BASE, HEAD = "base", "head"
PEAK = "peak_bytes"
# An allocator rounds sizes and objects that describe tensors are counted too; memory that is measured here
# agrees with malloc's high-water mark within this.
_SMALL_BYTES = 64 * 1024
# What is counted beside peak memory: how a person calls it and reads it.
_COUNTED: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "aten_operators": ("ATen operators", format_count),
    "bytes_allocated": ("allocated", format_bytes),
    "macs": ("MACs", format_count),
}

Sides = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Counted:
    """What the counts say: sentences that fail the case, and sentences that only explain its time.

    has_risen: whether head does more than base, so that a few processes do not suffice to pass it.
    """

    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    has_risen: bool = False


def judge_counts(counts: Sides, policy: CasePolicy) -> Counted:
    """Compare what one call of each side does: ``{"base": {name: count}, "head": {name: count}}``."""
    base, head = counts.get(BASE, {}), counts.get(HEAD, {})
    risen = [_change(name, base, head) for name in _COUNTED if _both(name, base, head) > 0]
    fallen = [_change(name, base, head) for name in _COUNTED if _both(name, base, head) < 0]
    failures = _memory_failures(base, head, policy.memory_margin)
    if policy.counts == "fail":
        failures += [f"{sentence}, and the policy allows no rise." for sentence in risen]
        explained = fallen
    else:
        explained = risen + fallen
    remarks = tuple(f"{sentence}." for sentence in explained)
    return Counted(tuple(failures), remarks, bool(risen or failures))


def _both(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> float:
    """How much more head has of what both sides counted."""
    return head[name] - base[name] if name in base and name in head else 0.0


def _change(name: str, base: Mapping[str, float], head: Mapping[str, float]) -> str:
    what, written = _COUNTED[name]
    verb = "rose" if head[name] > base[name] else "fell"
    before, after = written(base[name]), written(head[name])
    if before == after:
        before, after = f"{base[name]:.0f}", f"{head[name]:.0f}"
    subject = "The memory that one call allocates" if name == "bytes_allocated" else f"{what} of one call"
    return f"{subject} {verb} from {before} to {after}"


def _memory_failures(base: Mapping[str, float], head: Mapping[str, float], margin: float) -> list[str]:
    more = _both(PEAK, base, head)
    if more <= _SMALL_BYTES or head[PEAK] <= base[PEAK] * (1 + margin):
        return []
    return [
        f"Peak memory rose by {format_bytes(more)}, from {format_bytes(base[PEAK])} to "
        f"{format_bytes(head[PEAK])}; {100 * margin:g} % and 64 KiB are allowed."
    ]
