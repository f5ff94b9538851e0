"""At every shape of a proof, the arguments of a ReLU have both signs.

Were they all negative, no gradient would pass it; were they all positive, it might be left out.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness import Dims, Scope
from harness.bench.catalog import load_catalogue
from harness.bench.expectation import bind, inputs_of

SHAPES = [
    pytest.param(scope, dims, id=f"{operator.name}/{scope.name} {dims!r}")
    for operator in load_catalogue([Path(__file__).parent]).operators.values()
    for scope in operator.scopes.values()
    if scope.name == "module"
    for dims in scope.proof_dims
]


@pytest.mark.parametrize(("scope", "dims"), SHAPES)
def test_relu_sees_both_signs(scope: Scope, dims: Dims, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reference gives to a ReLU has a positive and a negative element."""

    def relu(argument: Tensor) -> Tensor:
        assert (argument > 0).any(), "no argument of a ReLU is positive: choose more hidden units"
        assert (argument < 0).any(), "no argument of a ReLU is negative: choose more hidden units"
        return argument.clamp(min=0)

    monkeypatch.setattr(torch, "relu", relu)
    bind(scope, scope.reference, dims)(inputs_of(scope, dims, "float32", "cpu"))
