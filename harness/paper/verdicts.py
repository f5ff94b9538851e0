"""Verdicts of comparing two runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The outcome of comparing one case of two runs."""

    FASTER = "faster"
    SLOWER = "slower"
    UNDECIDED = "undecided"
    ONLY_BEFORE = "only in the first run"
    ONLY_AFTER = "only in the second run"
    NO_NUMBER = "no number"


@dataclass(frozen=True)
class Compared:
    """One case of two runs: times in seconds per call, their ratio after ÷ before, and the verdict."""

    case: str
    verdict: Verdict
    reason: str
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
