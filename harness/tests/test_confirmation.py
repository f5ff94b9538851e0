"""Real numbers confirm a difference only beyond what rounding explains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.proof.confirmation import first_real_difference
from harness.bench.proof.programs import Difference

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Any]
SHAPES = {"x": (3, 40), "w": (40, 5)}


def difference(
    left: Program, right: Program, *, vjp: bool = False, coarse: bool = False
) -> Difference | None:
    """Compare two programs on real numbers."""
    return first_real_difference(("left", left), ("right", right), SHAPES, 7, vjp=vjp, coarse=coarse)


def attending(t: Inputs) -> Tensor:
    """Weigh products by a softmax."""
    return (t["x"] @ t["w"]).softmax(1) * t["x"][:, :5]


def in_another_order(t: Inputs) -> Tensor:
    """Weigh them in another order."""
    order = torch.arange(39, -1, -1)
    return t["x"][:, :5] * (t["x"][:, order] @ t["w"][order]).softmax(1)


@pytest.mark.parametrize("vjp", [False, True])
def test_rounding_is_no_difference(vjp: bool) -> None:
    """Sums in another order differ in their last digits."""
    assert difference(attending, in_another_order, vjp=vjp) is None


@pytest.mark.parametrize("vjp", [False, True])
def test_a_little_more_than_rounding_is_a_difference(vjp: bool) -> None:
    """The bound of rounding is narrow: a relative change of 1e-11 is seen."""
    found = difference(attending, lambda t: (1 + 1e-11) * attending(t), vjp=vjp)
    assert found is not None
    assert found.left == pytest.approx(found.right, rel=1e-9)
    assert found.share > 0.2


def test_coarsely_only_much_more_is_a_difference() -> None:
    """Programs that are known to agree otherwise are looked at coarsely."""
    assert difference(attending, lambda t: (1 + 1e-11) * attending(t), coarse=True) is None
    assert difference(attending, lambda t: (1 + 1e-7) * attending(t), coarse=True) is not None


def test_without_a_bound_a_billionth_is_no_difference() -> None:
    """Where rounding cannot be followed, the largest value is the measure."""
    assert difference(lambda t: t["x"].sort().values, lambda t: (t["x"] + 1e-11).sort().values) is None
    assert difference(lambda t: t["x"].sort().values, lambda t: (t["x"] + 1e-7).sort().values) is not None


def test_what_is_no_number_on_both_sides_is_no_difference() -> None:
    """The root of a negative number tells nothing; the last draw has none."""
    assert difference(lambda t: t["x"].sqrt(), lambda t: t["x"].sqrt() + 0 * t["x"].rsqrt()) is None
    found = difference(lambda t: t["x"].sqrt(), lambda t: t["x"].sqrt() * 2)
    assert found is not None


def test_a_number_on_one_side_alone_is_a_difference() -> None:
    """A program that gives a number where the other gives none is another one."""
    found = difference(lambda t: t["x"].sqrt(), lambda t: t["x"].abs().sqrt())
    assert found is not None
    assert math.isnan(found.left)
    assert not math.isnan(found.right)


def test_another_shape_is_a_difference() -> None:
    """Results of other shapes are told before any number."""
    found = difference(lambda t: t["x"], lambda t: t["x"][:2])
    assert found == Difference("size of the output along axis", (0,), 3, 2, 1.0)


def test_a_difference_in_one_gradient_is_seen() -> None:
    """Values agree, and one gradient does not."""
    found = difference(attending, lambda t: attending({**t, "w": t["w"].detach()}), vjp=True)
    assert found is not None
    assert found.result == "gradient of w"
