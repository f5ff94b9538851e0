"""Convolutions whose kernels depend on the image: mixed, decomposed or generated."""
