"""The language of an operator's page."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.paper.errors import SameopError
from harness.tests.specimens import mixing, polynomial


def test_a_scope_is_called_by_its_reference() -> None:
    """A claim that calls a scope gets the defining implementation."""
    x, weight = torch.arange(12.0).reshape(1, 2, 3, 2), torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    assert torch.equal(polynomial()(x, weight), mixing(x, weight))


def test_an_implementation_keeps_the_function() -> None:
    """The decorated function can be called by others as it was."""
    scope = polynomial()

    @scope.implementation("copy", preferred=True, devices=("cpu",))
    def function(x: Tensor, weight: Tensor) -> Tensor:
        return mixing(x, weight)

    found = scope.implementations["copy"]
    assert (found.function, found.preferred, found.devices) == (function, True, ("cpu",))
    assert list(scope.implementations) == ["reference", "copy"]


def test_two_implementations_of_one_name_are_told() -> None:
    """A second implementation never replaces the first in silence; the page is named."""
    scope = polynomial()
    with pytest.raises(SameopError) as refused:
        scope.implementation("reference")(mixing)
    assert str(refused.value) == (
        f"tiny/core has two implementations named 'reference' in {scope.operator.place}: rename one."
    )


def test_an_operator_knows_where_it_was_declared() -> None:
    """A mistake can be told with the file and the line of the page."""
    path, _, line = polynomial().operator.place.rpartition(":")
    assert path.endswith("specimens.py")
    assert int(line) > 1


def test_an_unknown_workload_is_told() -> None:
    """The workloads that there are follow the one that was asked for."""
    assert polynomial().workload("tiny/one").name == "tiny/one"
    with pytest.raises(SameopError) as refused:
        polynomial().workload("tiny/two")
    assert str(refused.value) == (
        "The workload 'tiny/two' was asked of tiny/core, which has tiny/one: name one of these."
    )


def test_the_formula_is_the_docstring_of_the_reference() -> None:
    """A page's formula is written once."""
    assert polynomial().formula.startswith("y[b, o, i, j] = Σ_c")
