"""One finding: what was looked at, what was found, and what to do about it."""

from __future__ import annotations

from typing import TypedDict


class Finding(TypedDict):
    """``level``: fine, advice or missing. ``measures``: what can be measured with it, or not without it."""

    what: str
    found: str
    advice: str | None
    level: str
    measures: str | None


def fine(what: str, found: str, measures: str | None = None) -> Finding:
    """Return a finding with which there is nothing to do."""
    return {"what": what, "found": found, "advice": None, "level": "fine", "measures": measures}


def advise(what: str, found: str, advice: str | None, measures: str | None = None) -> Finding:
    """Return a finding with advice; without any there is nothing to do."""
    level = "advice" if advice else "fine"
    return {"what": what, "found": found, "advice": advice, "level": level, "measures": measures}


def missing(what: str, found: str, advice: str, measures: str | None = None) -> Finding:
    """Return a finding of something that is not there, with what is lost or how to get it."""
    return {"what": what, "found": found, "advice": advice, "level": "missing", "measures": measures}
