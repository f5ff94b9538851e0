"""Nested arguments: leaves come in order, and a mapping keeps the nesting."""

from __future__ import annotations

from harness.bench.proof.nesting import leaves, mapped

NESTED = (1, [2, (3, None)], {"value": 4, "sizes": [5, 6]})


def test_leaves_come_in_order() -> None:
    """What is no tuple, list or mapping is a leaf, None included."""
    assert leaves(NESTED) == [1, 2, 3, None, 4, 5, 6]
    assert leaves(7) == [7]
    assert leaves(()) == []


def test_a_function_is_applied_to_every_leaf() -> None:
    """The nesting stays, and the leaves of the result are those that the function makes."""
    assert mapped(str, NESTED) == ("1", ["2", ("3", "None")], {"value": "4", "sizes": ["5", "6"]})
    assert leaves(mapped(str, NESTED)) == list(map(str, leaves(NESTED)))
