"""Every closed formula equals what is counted."""

from harness.doors.suite import test_cost

__all__ = ["test_cost"]
