"""Convolutions with learned kernels: the same for every image and at every position."""
