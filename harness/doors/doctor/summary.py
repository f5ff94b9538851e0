"""All findings in one line."""

from __future__ import annotations

from collections.abc import Sequence

from harness.doors.doctor.finding import Finding, fine
from harness.doors.doctor.wording import listed


def summarise_findings(findings: Sequence[Finding]) -> Finding:
    """Say what this machine can measure, and what it cannot."""
    lost = list(dict.fromkeys(_names(findings, missing=True)))
    able = [name for name in dict.fromkeys(_names(findings, missing=False)) if name not in lost]
    cannot = f"it cannot: {listed(lost)}" if lost else "nothing that sameop can measure is missing"
    return fine("summary", f"This machine can measure: {listed(able) or 'nothing'}; {cannot}.")


def _names(findings: Sequence[Finding], missing: bool) -> list[str]:
    return [
        finding["measures"]
        for finding in findings
        if finding["measures"] and (finding["level"] == "missing") is missing
    ]
