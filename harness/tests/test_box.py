"""White box or black box: what is followed is certified, what is not says so, and what differs is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor

from harness.bench.pages import Scope
from harness.bench.proof.box import certify_implementation, certify_smallest
from harness.tests.specimens import DIMS, implementation, mixing, polynomial


@pytest.fixture(scope="module")
def scope() -> Scope:
    """Mix channels, a polynomial."""
    return polynomial()


def convolving(x: Tensor, weight: Tensor) -> Tensor:
    """Mix by a 1×1 convolution."""
    return F.conv2d(x, weight[:, :, None, None])


def test_what_is_followed_is_a_white_box_with_its_probability(scope: Scope) -> None:
    """An eager form is certified like a side of a claim, values and gradients."""
    found = certify_implementation(scope, implementation(convolving), DIMS)
    assert (found.box, found.agrees, found.reason, found.assumption) == ("white", True, None, None)
    assert found.log10_p is not None
    assert found.log10_p <= -30
    assert found.backends
    assert found.shape == dict(DIMS)


@pytest.mark.parametrize("kind", ["compiled", "native", "triton"])
def test_what_is_not_eager_is_never_called_under_a_dispatch_mode(scope: Scope, kind: Any) -> None:
    """A compiled function that was once called under one stays eager, so the box stays shut."""

    def never(x: Tensor, weight: Tensor) -> Tensor:
        raise AssertionError

    found = certify_implementation(scope, replace(implementation(never), kind=kind), DIMS)
    assert (found.box, found.agrees) == ("black", True)
    assert found.reason == f"The implementation is {kind}, which cannot be followed."
    assert found.assumption == "it computes a polynomial of at most the reference's degree"


def test_a_step_without_a_rule_makes_a_black_box(scope: Scope) -> None:
    """The record names the step."""

    def sorting(x: Tensor, weight: Tensor) -> Tensor:
        return mixing(x, weight).sort(-1).values

    found = certify_implementation(scope, implementation(sorting), DIMS)
    assert (found.box, found.agrees) == ("black", True)
    assert found.reason == "On the right side aten.sort has no rule."


def off_at_a_corner(x: Tensor, weight: Tensor) -> Tensor:
    """Be off at one corner."""
    result = mixing(x, weight)
    result[0, 0, 0, 0] += weight[0, 0]
    return result


WRONG: list[Callable[..., Tensor]] = [off_at_a_corner, lambda x, weight: mixing(x, weight.detach())]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_differs_is_told_with_its_place(scope: Scope, wrong: Callable[..., Tensor]) -> None:
    """A white box that is another function never agrees, whether in values or in gradients."""
    found = certify_smallest(scope, implementation(wrong))
    assert (found.box, found.agrees) == ("white", False)
    assert found.reason is not None
    assert "the reference has" in found.reason
