"""What pages declare of connections, sharing, dynamics, rank and degree is what their programs show."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest

from harness import SameopError, Traits
from harness.bench.catalog import load_catalogue
from harness.bench.proof.probe import HIGHEST_DEGREE, Probed, probe
from harness.bench.traits import VALUES

OPERATORS = load_catalogue([Path(__file__).parent]).operators
SEVERAL = ("sharing", "low_rank")


@cache
def probed(name: str) -> Probed:
    """Probe an operator once for all tests; what its page lacks fails them in a sentence."""
    try:
        return probe(OPERATORS[name])
    except SameopError as error:
        said = str(error)
    pytest.fail(said, pytrace=False)


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_declares_traits(name: str) -> None:
    """No operator is left out of the comparison."""
    if OPERATORS[name].traits is None:
        pytest.fail(
            f"{name} declares no traits, and its program shows {probed(name).as_dict()}.", pytrace=False
        )


@pytest.mark.parametrize("name", OPERATORS)
def test_declared_traits_are_probed(name: str) -> None:
    """The program of an operator shows exactly the traits that its page declares."""
    traits, found = OPERATORS[name].traits, probed(name)
    if traits is None:
        pytest.skip("it declares no traits, of which another test complains")
    wrong = [
        f"{field} is declared {traits.as_dict()[field]!r}, the program shows {found.as_dict()[field]!r}"
        for field in found.contradicts(traits)
    ]
    if wrong:
        pytest.fail(f"{name}/{found.scope} at {found.dims!r}: {'; '.join(wrong)}.", pytrace=False)


@pytest.mark.parametrize("name", OPERATORS)
def test_any_other_declaration_is_caught(name: str) -> None:
    """A page that declared any single trait otherwise would fail."""
    right = Traits(**{field: getattr(probed(name), field) for field in (*VALUES, "degree")})
    for field, value in other_declarations(right):
        wrong = replace(right, **{field: value})
        assert probed(name).contradicts(wrong) == [field], f"{field}={value!r} passes for {name}"


def other_declarations(traits: Traits) -> Iterator[tuple[str, Any]]:
    """Name every field with every value that it could have but has not."""
    for field, known in VALUES.items():
        sets = chain.from_iterable(combinations(known, size) for size in range(len(known) + 1))
        values: Iterator[Any] = sets if field in SEVERAL else iter(known)
        yield from ((field, value) for value in values if value != getattr(traits, field))
    degrees = [None, *range(HIGHEST_DEGREE + 1)]
    yield from (("degree", value) for value in degrees if value != traits.degree)
