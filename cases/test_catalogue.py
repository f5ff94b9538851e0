"""What every operator's page offers: a source, traits, workloads that differ, a reference everywhere."""

from itertools import combinations
from math import prod
from pathlib import Path

import pytest

from harness import Operator, Workload
from harness.bench.catalog import load_catalogue
from harness.bench.pages import ALL_DEVICES, ALL_DTYPES

OPERATORS = load_catalogue([Path(__file__).parent]).operators
EVERY = [pytest.param(operator, id=name) for name, operator in OPERATORS.items()]


@pytest.mark.parametrize("operator", EVERY)
def test_reference_runs_everywhere(operator: Operator) -> None:
    """Every scope has a reference on every device and in every dtype."""
    for scope in operator.scopes.values():
        assert scope.reference.devices == ALL_DEVICES
        assert scope.reference.dtypes == ALL_DTYPES


@pytest.mark.parametrize("operator", EVERY)
def test_source_formula_and_traits(operator: Operator) -> None:
    """A page says where its operator comes from, what it computes, and what sorts it."""
    assert operator.source
    assert operator.traits is not None
    assert all(scope.formula for scope in operator.scopes.values())


@pytest.mark.parametrize("operator", EVERY)
def test_one_form_is_preferred(operator: Operator) -> None:
    """Every scope names one form as the best; without a better one that is the reference."""
    for scope in operator.scopes.values():
        assert sum(found.preferred for found in scope.implementations.values()) <= 1


def sizes(workload: Workload) -> tuple[int, int]:
    """Return the channels and the positions of a workload."""
    d = workload.dims
    return d.C, prod(d[letter] for letter in ("H", "W", "T") if letter in d)


@pytest.mark.parametrize("operator", EVERY)
def test_three_workloads_differ_in_channels_and_positions(operator: Operator) -> None:
    """Three workloads differ, each from each, in the channels and in the positions."""
    found = {sizes(w) for scope in operator.scopes.values() for w in scope.workloads if not w.sweep}
    assert any(
        all(len({size[axis] for size in three}) == 3 for axis in (0, 1)) for three in combinations(found, 3)
    ), found
