"""Errors that are sentences, and the exit codes that every command shares."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every ``sameop`` command and of ``pytest --benchmark``.

    2, 3 and 5 are never used: make turns 1 into 2, and pytest uses 3 and 5 itself.
    """

    PASS = 0
    FAILED = 1
    USAGE = 4
    REGRESSED = 10
    INCONCLUSIVE = 11
    BASELINE = 12
    NOTHING = 13
    CHANGED = 14
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """What the code tells a person."""
        return _MEANINGS[self]


_MEANINGS = {
    Exit.PASS: "pass",
    Exit.FAILED: "tests, agreement or a claim failed",
    Exit.USAGE: "usage: an unknown option, name or file",
    Exit.REGRESSED: "regressed",
    Exit.INCONCLUSIVE: "inconclusive, or insensitive beyond the policy",
    Exit.BASELINE: "the baseline is missing, from another machine, or does not import",
    Exit.NOTHING: "nothing was measured",
    Exit.CHANGED: "a case of the base is missing or changed",
    Exit.INTERRUPTED: "interrupted",
}


class SameopError(Exception):
    """A mistake in the input, told in one sentence: what was asked, what was found, what to do."""

    exit = Exit.USAGE


class NothingToMeasureError(SameopError):
    """A selection that holds no case, or a device that was asked for by name and is absent."""

    exit = Exit.NOTHING


class RunRefusedError(SameopError):
    """A run folder that cannot be read, or that may not be added to."""
