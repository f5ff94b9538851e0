"""Closed-form costs, held against counting one by one."""

from __future__ import annotations

import pytest

from harness.bench.cost import Cost, taps_in_bounds


def counted(size: int, kernel: int, stride: int, padding: int) -> int:
    """Count every tap of every output that lies inside the map."""
    starts = range(-padding, size + padding - kernel + 1, stride)
    return sum(0 <= start + tap < size for start in starts for tap in range(kernel))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_taps_in_bounds_are_those_that_are_counted(kernel: int, stride: int) -> None:
    """The formula holds for maps smaller than the kernel, as large, and larger."""
    sizes = range(1, 16)
    found = [taps_in_bounds(size, kernel, stride) for size in sizes]
    assert found == [counted(size, kernel, stride, kernel // 2) for size in sizes]


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_padding_may_be_chosen(padding: int) -> None:
    """A padding other than half the kernel is counted too."""
    assert taps_in_bounds(9, 4, 1, padding) == counted(9, 4, 1, padding)


def test_windows_beyond_the_map_read_nothing() -> None:
    """With more padding than the kernel is wide, some windows lie outside the map altogether."""
    assert taps_in_bounds(3, 1, 1, 2) == counted(3, 1, 1, 2) == 3


@pytest.mark.parametrize(("width", "count"), [(4, 120), (2, 60)])
def test_minimal_bytes_are_every_input_and_output_once(width: int, count: int) -> None:
    """No implementation moves fewer bytes than its inputs and outputs have."""
    cost = Cost(params=4, macs=100, elements_read=20, elements_written=10)
    assert cost.minimal_bytes(width) == count


def test_what_a_formula_leaves_out_is_none_or_zero() -> None:
    """A formula without padding has no count of taps inside the map."""
    cost = Cost(params=0, macs=1, elements_read=1, elements_written=1)
    assert (cost.macs_in_bounds, cost.elementwise, cost.transcendental) == (None, 0, 0)
