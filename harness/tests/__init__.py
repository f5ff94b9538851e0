"""Tests of the harness, one file per module."""
