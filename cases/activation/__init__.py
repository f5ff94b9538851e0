"""Activations: piecewise linear functions of each element alone, with fixed, learned or generated pieces."""
