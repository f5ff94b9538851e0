"""Grains: how fine a binary fraction is, and which numbers are none."""

from __future__ import annotations

import math

import pytest
import torch

from harness.bench.proof.grain import FINEST, are_powers_of_two, grain_of, grain_of_all, is_power_of_two


@pytest.mark.parametrize(
    ("number", "grain"),
    [
        *((0, 0), (7, 0), (1e300, 0), (0.5, 1), (-1.75, 2), (2.0**-FINEST, FINEST), (3 + 2.0**-9, 9)),
        *((2.0 ** -(FINEST + 1), None), (0.1, None), (1 / 3, None), (math.inf, None), (math.nan, None)),
    ],
)
def test_a_grain_is_the_number_of_binary_digits(number: float, grain: int | None) -> None:
    """The least g for which number·2ᵍ is an integer, or none where it is too fine."""
    assert grain_of(number) == grain


@pytest.mark.parametrize(
    ("numbers", "grain"),
    [
        ([3.0, -2.0], 0),
        ([0.5, 0.25, 4.0], 2),
        ([0.5, 0.1], None),
        ([0.5, -math.inf], 1),
        ([math.inf], None),
        ([math.nan, 1.0], None),
        ([], 0),
    ],
)
def test_a_tensor_is_as_fine_as_its_finest_element(numbers: list[float], grain: int | None) -> None:
    """Minus infinity, which marks what a softmax leaves out, is no number and has no grain."""
    assert grain_of_all(torch.tensor(numbers, dtype=torch.float64)) == grain


def test_what_is_no_fraction_has_no_grain() -> None:
    """Integers and truth values are whole."""
    assert grain_of_all(torch.tensor([1, 2])) == grain_of_all(torch.tensor([True])) == 0


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, True), (-4, True), (0.125, True), (3, False), (0, False), (0.3, False), (math.inf, False)],
)
def test_a_division_is_exact_by_powers_of_two(number: float, expected: bool) -> None:
    """Such a division only moves the point."""
    assert is_power_of_two(number) is expected
    assert are_powers_of_two(torch.tensor([1.0, number])) is expected
