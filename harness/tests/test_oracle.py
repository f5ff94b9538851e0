"""The oracle: a random function of exact arguments, the same on both sides of an identity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.bench.proof.oracle import Oracle, Past
from harness.bench.proof.refusal import RefusedError

INFINITY = torch.inf


def numbers(*values: float) -> Tensor:
    """Return a tensor of float64."""
    return torch.tensor(values, dtype=torch.float64)


def oracle(seed: int = 0, past: Past | None = None, magnitude: int = 1000) -> Oracle:
    """Return an oracle, by default without a past."""
    return Oracle(magnitude, seed, past or Past())


def test_equal_arguments_get_equal_values() -> None:
    """Whatever the shape, the order or the side: the value is that of the argument."""
    x = numbers(3, -2, 0, 3, 0.25, -0.0)
    found, other = oracle().value("f", x), oracle().value("f", x.flip(0).reshape(2, 3))
    assert torch.equal(found, other.flatten().flip(0))
    assert found[0] == found[3]
    assert found[2] == found[5]  # zero has one sign
    assert len(found.unique()) == 4


def test_names_and_trials_have_values_of_their_own() -> None:
    """Another function, or another trial, answers otherwise."""
    x = torch.arange(100.0, dtype=torch.float64)
    found = oracle().value("f", x)
    assert not bool((found == oracle().value("g", x)).all())
    assert not bool((found == oracle(seed=1).value("f", x)).all())


def test_values_are_uniform_integers_of_the_magnitude() -> None:
    """Every integer of the range occurs about as often as any other."""
    found = oracle(magnitude=3).value("f", torch.arange(70_000, dtype=torch.float64))
    values, counts = found.unique(return_counts=True)
    assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert int((counts - 10_000).abs().max()) < 500


def test_steps_are_uniform_integers_of_the_magnitude() -> None:
    """A step has 2m values, so that its complement has the same range."""
    found = oracle(magnitude=3).positive(torch.arange(1, 60_001, dtype=torch.float64), 0)
    values, counts = found.unique(return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3]
    assert int((counts - 10_000).abs().max()) < 500


@pytest.mark.parametrize("seed", range(3))
def test_laws_of_signs_hold_in_every_trial(seed: int) -> None:
    """Odd functions and steps keep their laws even where the argument is zero by chance."""
    pasts = Past(), Past()
    for trial, x in enumerate((numbers(0, 5, -3, 0), numbers(2, 0, -3, 0), numbers(-1, 4, 0, 0))):
        one, other = (oracle(seed + 10 * trial, past) for past in pasts)
        assert torch.equal(one.value("f", x, odd=True), -other.value("f", -x, odd=True))
        assert torch.equal(one.positive(x, 0.5), 1 - other.positive(-x, 0.5))
    assert one.value("g", numbers(0), odd=True) == 0


def test_known_values_at_zero_are_given_to_what_is_always_zero() -> None:
    """A polynomial that is zero by chance is not taken for the constant."""
    past = Past()
    first = oracle(0, past).value("exp", numbers(0, 0), zero=1)
    second = oracle(1, past).value("exp", numbers(0, 7), zero=1)
    third = oracle(2, past).value("exp", numbers(0, 0), zero=1)
    assert first.tolist() == [1, 1]
    assert second[0] == third[0] == 1
    assert second[1] != 1 != third[1]


def test_arguments_are_told_apart_by_their_past() -> None:
    """What coincides in one trial only is one argument there, and two arguments ever after."""
    past = Past()
    asked = [numbers(1, 1), numbers(2, 3), numbers(4, 4)]
    found = [oracle(trial, past).value("f", x) for trial, x in enumerate(asked)]
    assert [bool(pair[0] == pair[1]) for pair in found] == [True, False, False]


def test_zero_is_told_apart_by_the_past() -> None:
    """Two polynomials are equal where they always were."""
    past = Past()
    found = [
        oracle(trial, past).is_zero(x).tolist() for trial, x in enumerate((numbers(0, 0), numbers(0, 1)))
    ]
    assert found == [[1, 1], [1, 0]]
    assert oracle(2, past).is_zero(numbers(0, 0)).tolist() == [1, 0]


def test_a_member_knows_its_row_in_any_order() -> None:
    """A softmax commutes with permutations, and every element of the row counts."""
    x = numbers(1, 4, -2, 4).expand(2, 4)
    order = torch.tensor([2, 0, 3, 1])
    found = oracle().share(x, 1, empty=False)
    assert torch.equal(found[:, order], oracle().share(x[:, order], 1, empty=False))
    assert torch.equal(found[0], found[1])
    assert found[0, 1] == found[0, 3]
    other = oracle().share(numbers(1, 4, -2, 5)[None], 1, empty=False)
    assert not bool((found[0, :3] == other[0, :3]).any())
    thrice = oracle().share(numbers(1, 1, 4, -2)[None], 1, empty=False)
    assert thrice[0, 2] != found[0, 1]  # how often an element occurs counts


def test_minus_infinity_is_left_out_and_zero_is_not() -> None:
    """A masked element is as if it were not there; a padded one is there."""
    whole = oracle().share(numbers(3, 1)[None], 1, empty=False)
    masked = oracle().share(numbers(-INFINITY, 3, -INFINITY, 1)[None], 1, empty=False)
    padded = oracle().share(numbers(3, 1, 0)[None], 1, empty=False)
    assert masked.tolist() == [[0, whole[0, 0], 0, whole[0, 1]]]
    assert not bool((padded[:, :2] == whole).any())
    assert oracle().value("exp", numbers(-INFINITY)).tolist() == [0]


def test_the_only_element_of_a_row_has_all_of_it() -> None:
    """A softmax over one element is one, and over none is refused unless torch defines it."""
    assert oracle().share(numbers(-INFINITY, 8)[None], 1, empty=False).tolist() == [[0, 1]]
    assert oracle().share(numbers(-INFINITY)[None], 1, empty=True).tolist() == [[0]]
    with pytest.raises(RefusedError, match=r"^a softmax has a row of minus infinity alone$"):
        oracle().share(numbers(-INFINITY)[None], 1, empty=False)


def test_a_whole_row_has_a_value_in_any_order() -> None:
    """The largest of several is the same however they are ordered, over one axis or more."""
    x = torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4)
    found = oracle().whole("largest", x, (1, 2), keepdim=True)
    assert found.shape == (2, 1, 1)
    moved = oracle().whole("largest", x.flip(1).mT.reshape(2, 12), (1,), keepdim=False)
    assert torch.equal(found.flatten(), moved)


@pytest.mark.parametrize(
    "ask",
    [
        lambda one, x: one.value("f", x),
        lambda one, x: one.positive(x, 0),
        lambda one, x: one.share(x, 0, empty=False),
    ],
)
def test_other_questions_than_before_are_refused(ask: Callable[[Oracle, Tensor], Tensor]) -> None:
    """A program that asks for more or fewer values than in the trial before cannot be told apart."""
    past = Past()
    ask(oracle(0, past), numbers(1, 2, 3))
    with pytest.raises(RefusedError, match=r"^the program asks for other values than when it was followed$"):
        ask(oracle(1, past), numbers(1, 2))


def test_notes_last_until_something_is_written() -> None:
    """What a result was made of is known of every view of it, and of nothing else."""
    one, result = oracle(), numbers(1, 2, 3)
    one.keep("made")
    one.note([result])
    assert one.recall(result[:, None].detach()) == "made"
    assert one.recall(result[1:]) is None
    assert one.recall(result.clone()) is None
    assert one.recall(3.0) is None
    one.forget(result)
    assert one.recall(result) is None
