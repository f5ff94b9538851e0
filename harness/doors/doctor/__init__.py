"""What this machine can measure, what disturbs it, what to do about it, and its noise floor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.doors.doctor.examination import Patient
    from harness.doors.doctor.finding import Finding


def examine(patient: Patient | None = None) -> list[Finding]:
    """Return one finding per check, and at last the summary; without a patient this machine is examined."""
    # The processes that measure are modules of this package too: they start sooner without all of it.
    from harness.doors.doctor.examination import Patient, make_checks

    return make_checks(patient or Patient())
