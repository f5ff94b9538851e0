"""At an adversarial shape a page refuses in one sentence, or everybody computes the same.

The shapes are drawn from what every page says of itself, the same ones in every run;
``SAMEOP_SHAPES=1000`` computes so many of them for each scope, and
``python -m harness.bench.shapes`` tabulates which shares are defined and agree.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness import Scope
from harness.bench.catalog import load_catalogue

pytestmark = pytest.mark.skipif(
    find_spec("hypothesis") is None,
    reason="shapes are drawn by hypothesis, which is not installed: pip install -e '.[test]'",
)
SCOPES = [
    pytest.param(scope, id=f"{operator.name}/{scope.name}")
    for operator in load_catalogue([Path(__file__).parent]).operators.values()
    for scope in operator.scopes.values()
]


@pytest.mark.parametrize("scope", SCOPES)
def test_refuses_in_one_sentence(scope: Scope) -> None:
    """Where the formula defines nothing one sentence says so, which no page uses as an excuse."""
    from harness.bench.shapes.survey import MOST_REFUSED, survey_refusals

    found = survey_refusals(scope)
    never = ", ".join(found.never_defined)
    assert found.share <= MOST_REFUSED, f"{found.share:.0%} of {found.drawn} are refused, always with {never}"


@pytest.mark.parametrize("scope", SCOPES)
def test_knows_the_names_of_its_options(scope: Scope) -> None:
    """An option that goes by names takes none but its own."""
    from harness.bench.shapes.refusing import demand_known_names

    for dims in scope.proof_dims:
        demand_known_names(scope, dims)


@pytest.mark.parametrize("scope", SCOPES)
def test_computes_what_it_defines(scope: Scope) -> None:
    """Where it is defined all compute the same, on maps of any layout, finite in every dtype."""
    from harness.bench.shapes.drawing import defined_shapes, for_all
    from harness.bench.shapes.survey import computations_asked, demand_all

    shapes = computations_asked(os.environ)
    for_all(defined_shapes(scope), shapes, lambda dims: demand_all(scope, dims))
