"""Every implementation equals its reference at the adversarial shapes."""

from harness.doors.suite import test_agreement

__all__ = ["test_agreement"]
