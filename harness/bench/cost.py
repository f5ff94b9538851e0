"""What an operator costs by its own formula, whatever computes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Closed-form costs of one call.

    params: learned numbers. macs: multiply-accumulates, taps that fall on padding included
    (the papers' convention: 1 MAC counts as 1). macs_in_bounds: the same without those taps,
    where the formula has padding. elementwise and transcendental: operations that are no MACs
    (bias, scale, ReLU; exp, sigmoid, square root). elements_read and elements_written: every
    input read once, every output written once.
    """

    params: int
    macs: int
    elements_read: int
    elements_written: int
    macs_in_bounds: int | None = None
    elementwise: int = 0
    transcendental: int = 0

    def minimal_bytes(self, bytes_per_element: int) -> int:
        """Bytes that any implementation moves at least."""
        return (self.elements_read + self.elements_written) * bytes_per_element


def taps_in_bounds(size: int, kernel: int, stride: int = 1, padding: int | None = None) -> int:
    """Count, over all outputs of one axis, the kernel taps that lie inside the map.

    size, kernel, stride and padding in elements; padding defaults to kernel // 2.
    """
    pad = kernel // 2 if padding is None else padding
    outputs = (size + 2 * pad - kernel) // stride + 1
    starts = (index * stride - pad for index in range(outputs))
    return sum(max(0, min(size, start + kernel) - max(0, start)) for start in starts)
