"""Dimensions: letters with values, and what is told when one is missing."""

from __future__ import annotations

import copy
import pickle

import pytest

from harness.bench.dims import Dims
from harness.paper.errors import SameopError

D = Dims(B=2, C=8, K=3)


def test_letters_are_attributes_and_keys() -> None:
    """A letter is read as an attribute on a page and as a key by a tool."""
    assert (D.B, D["C"], len(D), list(D)) == (2, 8, 3, ["B", "C", "K"])


def test_dims_are_written_in_their_order() -> None:
    """Messages show the letters as the page wrote them."""
    assert repr(D) == "B=2 C=8 K=3"


def test_a_missing_letter_is_told() -> None:
    """A formula that needs a letter which the workload lacks says which, and what to do."""
    with pytest.raises(SameopError) as refused:
        _ = D.G
    assert str(refused.value) == (
        "The dimension G was asked for, the workload has B, C, K: add G to the workload."
    )


def test_replace_leaves_the_original_alone() -> None:
    """Dimensions are immutable."""
    assert dict(D.replace(C=4, G=2)) == {"B": 2, "C": 4, "K": 3, "G": 2}
    assert D.C == 8


def test_equal_letters_are_equal_dims() -> None:
    """Order makes no difference to what dimensions are."""
    assert Dims(K=3, C=8, B=2) == D
    assert hash(Dims(K=3, C=8, B=2)) == hash(D)
    assert Dims(B=2) != D


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_dims_travel(travel: object) -> None:
    """Copies and messages between processes hold the same letters."""
    assert callable(travel)
    assert travel(D) == D
