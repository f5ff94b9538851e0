"""Every claim has the expected verdict, and so has each of its mutants."""

from harness.doors.suite import test_claim

__all__ = ["test_claim"]
