"""Ratios and verdicts as a person reads them."""

from __future__ import annotations

from harness.paper.gate.outcome import Bounds


def percent(share: float) -> str:
    """Write a share with two digits: ``0.47 %``, ``1.8 %``, ``12 %``."""
    size = abs(100 * share)
    digits = 0 if size >= 9.95 else 1 if size >= 0.995 else 2
    written = f"{100 * share:.{digits}f}".replace("-", "−")
    return f"{_zero(written)} %"


def setting(share: float) -> str:
    """Write a share as the policy has it: ``0.5 %``, ``0.125 %``."""
    return f"{100 * share:.6g} %"


def change(ratio: float) -> str:
    """Say what a ratio of times is: ``1.8 % slower``."""
    written = percent(abs(ratio - 1))
    if written == "0 %":
        return "as fast"
    return f"{written} {'slower' if ratio > 1 else 'faster'}"


def measured(bounds: Bounds, is_sure: bool = False) -> str:
    """Say what was measured: ``1.8 % slower (95 % interval 1.4 to 2.2 %) in 12 pairs of processes``.

    is_sure: whether the family-wise lower bound is told too.
    """
    return f"{estimated(bounds, is_sure)} in {pairs(bounds.processes)}"


def estimated(bounds: Bounds, is_sure: bool = False) -> str:
    """Say what was measured, without how often: ``1.8 % slower (95 % interval 1.4 to 2.2 %)``."""
    low, high = (percent(end - 1).removesuffix(" %") for end in bounds.interval)
    least = f"at least {percent(bounds.low - 1)}, " if is_sure else ""
    return f"{change(bounds.ratio)} ({least}95 % interval {low} to {high} %)"


def pairs(count: int) -> str:
    """Write a number of pairs of processes."""
    return f"{count} pair{'' if count == 1 else 's'} of processes"


def sentence(text: str) -> str:
    """Begin a text with a capital letter."""
    return text[:1].upper() + text[1:]


def _zero(written: str) -> str:
    return "0" if not written.strip("−0.") else written
