"""Measurement: worker processes, clocks and meters."""
