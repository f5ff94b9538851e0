"""The honest test of the gate: how often it cries wolf, and what it misses, by its own exit code.

``python -m harness.validation.gate`` runs the command ``gate`` in a temporary clone of this repository, on
heads that change nothing and on heads into which slowdowns were planted, and prints the bounds that were
earned.
"""
