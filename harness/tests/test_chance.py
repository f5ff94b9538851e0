"""The probability of missing a difference: derived, and never exceeded where it can be measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.bench.proof.chance import Chance
from harness.bench.proof.oracle import Oracle, Past
from harness.bench.proof.refusal import RefusedError

EXPERIMENTS = 100_000
Side = Callable[[Oracle, Tensor, Tensor], Tensor]


def test_polynomials_are_told_apart_as_schwartz_and_zippel_say() -> None:
    """Without functions, trials of D/(2m + 1) multiply."""
    chance = Chance.of(3, 1000, {}, {})
    assert chance.log10(7) == pytest.approx(7 * math.log10(3 / 2001))
    assert chance.trials() == math.ceil(-30 / math.log10(3 / 2001))


def test_functions_take_more_trials() -> None:
    """Every pair of arguments and every depth makes a miss more likely, but by a factor only."""
    polynomial, one, many, deep = (
        Chance.of(3, 100_000, asked, {}) for asked in ({}, {1: 1}, {1: 10_000}, {1: 5000, 2: 5000})
    )
    trials = [chance.trials() for chance in (polynomial, one, many, deep)]
    assert trials == sorted(trials)
    assert trials[-1] < 2 * trials[0]
    # One trial goes into telling arguments apart, and the pairs and their orders count.
    expected = math.log10(11 * 4 * 10_000**2) + 9 * math.log10(3 / 200_000)
    assert many.log10(10) == pytest.approx(expected, rel=1e-6)


def test_both_sides_ask() -> None:
    """Arguments of one side have to be told apart from those of the other."""
    assert Chance.of(2, 100, {1: 5}, {1: 7, 2: 1}).asked == {1: 12, 2: 1}


def test_a_probability_is_at_most_one() -> None:
    """Few trials say nothing where many pairs may coincide."""
    assert Chance.of(3, 10, {1: 100_000}).log10(2) == 0


@pytest.mark.parametrize(
    ("degree", "magnitude", "asked", "told"),
    [
        (16, 9, {}, "the integers that stay exact reach only ±9 at degree 16: use a smaller shape"),
        (19, 9, {1: 1}, "the integers that stay exact reach only ±9 at degree 19: use a smaller shape"),
        (18, 9, {1: 1}, "4000 trials at ±9 and degree 18 tell too little: use a smaller shape"),
    ],
)
def test_too_few_integers_are_refused(degree: int, magnitude: int, asked: dict[int, int], told: str) -> None:
    """Where the integers cannot tell polynomials apart, no number of trials does."""
    with pytest.raises(RefusedError) as refused:
        Chance.of(degree, magnitude, asked).trials()
    assert str(refused.value) == told


DIFFERENT: dict[str, tuple[Side, Side, Chance]] = {
    "another argument": (
        lambda one, x, y: one.value("f", x),
        lambda one, x, y: one.value("f", y),
        Chance(1, 3, {1: 2}),
    ),
    "the other sign": (
        lambda one, x, y: one.positive(x, 0),
        lambda one, x, y: one.positive(-x, 0),
        Chance(1, 3, {1: 2}),
    ),
    "zero": (
        lambda one, x, y: one.value("f", x - y, odd=True),
        lambda one, x, y: 0 * x,
        Chance(1, 3, {1: 1}),
    ),
    "a product": (
        lambda one, x, y: one.value("f", x) * one.value("f", y),
        lambda one, x, y: one.value("f", x) ** 2 + 0 * one.value("f", y),
        Chance(2, 3, {1: 4}),
    ),
    "equal by chance": (
        lambda one, x, y: one.is_zero(x - y),
        lambda one, x, y: one.is_zero(x - x),
        Chance(1, 3, {1: 1}),
    ),
    "nested": (
        lambda one, x, y: one.value("f", one.value("g", x)),
        lambda one, x, y: one.value("f", one.value("g", y)),
        Chance(1, 3, {1: 2, 2: 2}),
    ),
    "a row": (
        lambda one, x, y: one.share(torch.stack([x, y, y]), 0, empty=False)[0],
        lambda one, x, y: one.share(torch.stack([x, y, x]), 0, empty=False)[0],
        Chance(1, 3, {1: 6}),
    ),
}


def missed(left: Side, right: Side, magnitude: int, trials: int) -> float:
    """Return in what share of many experiments all trials miss a difference."""
    pasts, misses = (Past(), Past()), torch.ones(EXPERIMENTS).bool()
    for trial in range(trials):
        generator = torch.Generator().manual_seed(trial)
        x, y = (
            torch.randint(-magnitude, magnitude + 1, (EXPERIMENTS,), generator=generator).double()
            for _ in range(2)
        )
        one, other = (Oracle(magnitude, trial, past) for past in pasts)
        misses &= left(one, x, y) == right(other, x, y)
    return float(misses.double().mean())


@pytest.mark.parametrize("trials", [1, 2, 4, 6])
@pytest.mark.parametrize("name", DIFFERENT)
def test_differences_are_missed_no_more_often_than_derived(name: str, trials: int) -> None:
    """At a range so small that misses can be counted, they stay below the bound.

    Elements of one experiment coincide with those of another, which changes nothing of how often each misses.
    """
    left, right, chance = DIFFERENT[name]
    assert missed(left, right, chance.magnitude, trials) <= 10 ** chance.log10(trials) + 1e-3


def test_coinciding_arguments_are_why_one_trial_is_not_enough() -> None:
    """Two arguments coincide as often as two values do: a single trial misses twice as often as it seems."""
    left, right, chance = DIFFERENT["another argument"]
    assert missed(left, right, chance.magnitude, 1) > 1.5 / 7
    assert missed(left, right, chance.magnitude, 4) < 4 / 7**3
