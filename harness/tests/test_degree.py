"""Degrees: sums join them, products add them, zero has every degree."""

from __future__ import annotations

import pytest
import torch

from harness.bench.proof.degree import Degree, Extremes

X, Y, U, V = (Degree.variable(name) for name in "xyuv")
ONE, ZERO = Degree(), Degree(is_zero=True)


def test_a_product_adds_degrees() -> None:
    """The degree of a product is the sum of the degrees, input by input."""
    found = X.times(X).times(Y)
    assert (found.range_in("x"), found.range_in("y"), found.total) == ((2, 2), (1, 1), 3)


def test_a_sum_spans_degrees() -> None:
    """The terms of a sum may have different degrees, and an input may be missing in some."""
    found = X.times(X).join(Y)
    assert (found.range_in("x"), found.range_in("y"), found.total) == ((0, 2), (0, 1), 2)


def test_the_total_is_that_of_the_largest_term() -> None:
    """The terms of x·y + u·v are of degree two, though four inputs occur."""
    assert X.times(Y).join(U.times(V)).total == 2


def test_a_constant_pulls_the_lowest_degree_to_zero() -> None:
    """The terms of x + 1 have degree one and zero."""
    assert X.join(ONE).range_in("x") == (0, 1)


def test_zero_has_every_degree() -> None:
    """Adding zero changes nothing, and a product with zero is zero."""
    assert X.join(ZERO) == ZERO.join(X) == X
    assert X.times(ZERO) == ZERO.times(X) == ZERO


@pytest.mark.parametrize(
    ("values", "zero"), [([0.0, 0.0], True), ([0.0, 1.0], False), ([], True), ([False], True)]
)
def test_a_constant_is_zero_when_all_of_it_is(values: list[float], zero: bool) -> None:
    """An empty tensor is zero as well."""
    found = Degree.of(torch.tensor(values))
    assert (found.is_zero, found.is_constant, found.total) == (zero, True, 0)


def test_a_variable_is_no_constant() -> None:
    """Whatever an input occurs in depends on it."""
    assert not X.is_constant
    assert not X.join(ONE).is_constant
    assert X.times(ZERO).is_constant


def test_a_grain_is_as_fine_as_the_finest_term_and_adds_up_in_products() -> None:
    """Halves plus quarters are quarters, and halves times quarters are eighths."""
    half, quarter = Degree.of_number(0.5), Degree.of(torch.tensor([0.25, 1.0]), 2)
    assert (half.join(quarter).grain, half.times(quarter).grain, X.times(half).grain) == (2, 3, 1)
    assert (ZERO.times(half).grain, ZERO.join(quarter).grain) == (0, 2)
    assert Degree.of(torch.zeros(2), 4).grain == 0


def test_depths_do_not_add_up() -> None:
    """A product of two values of functions is no deeper than either."""
    shallow, deep = Degree.variable("f", 1), Degree.variable("g", 2)
    assert (shallow.times(deep).depth, shallow.join(deep).depth, X.depth) == (2, 2, 0)


def test_extremes_count_terms_in_units_of_the_grain() -> None:
    """Three terms of quarters are as large as twelve of integers."""
    extremes = Extremes()
    extremes.note_extremes(3, Degree.of_number(0.25))
    extremes.note_extremes(5, X.times(Y))
    assert (extremes.largest, extremes.highest_degree) == (12, 2)
    extremes.note_extremes(1.0, Degree(grain=10_000))
    assert extremes.largest > 2.0**500
