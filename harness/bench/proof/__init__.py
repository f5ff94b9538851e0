"""Proof: what establishes that two torch programs compute the same function."""
