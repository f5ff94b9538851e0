"""Every case is measured, between two agreements; only with ``--benchmark``."""

from harness.doors.suite import test_speed

__all__ = ["test_speed"]
