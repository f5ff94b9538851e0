"""Expectations: what the reference is asked, how far rounding may lead, and mistakes in a page."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.agreement import prepare, save
from harness.bench.expectation import PLAIN, Expected
from harness.bench.inputs import activation, buffer
from harness.bench.limits import expectations
from harness.bench.pages import Scope
from harness.paper.errors import SameopError
from harness.tests.specimens import (
    DIMS,
    attending,
    implementation,
    mixed_inputs,
    mixed_output,
    mixing,
    polynomial,
    scope_of,
    transcendental,
)


def refusal(scope: Scope, dtype: str = "float32") -> str:
    """Return what a page is told."""
    with pytest.raises(SameopError) as refused:
        expectations(scope, DIMS, dtype, "cpu")
    return str(refused.value)


def kinds(checks: list[Expected]) -> list[tuple[str, str]]:
    """Name the checks."""
    return [(check.kind, check.dtype) for check in checks]


def test_a_scope_that_is_no_polynomial_is_told() -> None:
    """A page that declares too much says where its reference leaves the polynomials."""
    assert refusal(scope_of(attending, mixed_inputs, mixed_output, polynomial=True)) == (
        "tiny/core is declared a polynomial with integer coefficients, but in its reference "
        "aten._softmax is no polynomial: rewrite the reference, or leave `polynomial` out."
    )


def high_power(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply so often that not even 1 + 1 stays exact."""
    total = x
    for _ in range(60):
        total = total + total
    return mixing(total, weight)


def test_a_polynomial_that_leaves_no_room_is_told() -> None:
    """Where no integer stays exact the page has to offer something smaller."""
    assert refusal(scope_of(high_power, mixed_inputs, mixed_output, polynomial=True)) == (
        "tiny/core at B=2 C=4 H=5 W=3 sums so many terms that no integer stays exact in float64: "
        "declare a smaller workload."
    )


def test_a_wrong_output_shape_is_told() -> None:
    """What a page declares is what its reference computes."""
    told = (
        "tiny/core declares an output of shape [2, 4] at B=2 C=4 H=5 W=3, "
        "its reference computes [2, 4, 5, 3]: correct `output`."
    )
    assert refusal(scope_of(mixing, mixed_inputs, lambda d: (d.B, d.C), polynomial=True)) == told
    assert refusal(scope_of(attending, mixed_inputs, lambda d: (d.B, d.C))) == told


def test_a_result_that_is_no_tensor_is_told() -> None:
    """An operator returns one tensor."""
    judge = prepare(polynomial(), DIMS, "float32", "cpu")
    several: Any = lambda x, weight: (mixing(x, weight), x)  # noqa: E731  # typed as what it is not
    with pytest.raises(SameopError) as refused:
        judge.judge(implementation(several))
    assert str(refused.value) == "tiny/core was computed as a tuple: return one tensor."


def test_integers_are_the_largest_that_stay_exact() -> None:
    """Thirty terms of two factors meet in a weight's gradient, and no sum may exceed the significand."""
    checks = expectations(polynomial(), DIMS, "float32", "cpu")
    assert checks[0].magnitude == math.isqrt(2**24 // 30)
    largest = max(float(value.abs().max()) for value in checks[0].values.values())
    assert 2**10 < largest <= 2**24
    assert all(float(limit.max()) == 0 for limit in checks[0].limits.values())


def deep(x: Tensor, weight: Tensor) -> Tensor:
    """Mix so often that float32 has no integer left."""
    for _ in range(11):
        x = mixing(x, weight)
    return x


def test_integers_move_to_float64_where_float32_has_no_room() -> None:
    """A deep operator is still checked exactly, in the dtype that holds its sums."""
    checks = expectations(scope_of(deep, mixed_inputs, mixed_output, polynomial=True), DIMS, "float32", "cpu")
    assert kinds(checks) == [("integers", "float64"), ("wide integers", "float32"), ("floats", "float32")]
    assert checks[0].magnitude >= 1


def mixing_often(times: int, doublings: int) -> Scope:
    """Mix and double so often."""

    def reference(x: Tensor, weight: Tensor) -> Tensor:
        for _ in range(times):
            x = mixing(x, weight)
        for _ in range(doublings):
            x = x + x
        return x

    return scope_of(reference, mixed_inputs, mixed_output, polynomial=True)


@pytest.mark.parametrize(
    ("times", "doublings", "share"),
    [(3, 0, 1.0), (4, 0, 2**-3), (6, 0, 2**-3), (7, 0, 2**-6), (1, 14, None)],
)
def test_wide_integers_are_as_dense_as_sums_allow(times: int, doublings: int, share: float | None) -> None:
    """The largest share is taken at which no sum reaches 2²⁴, and none where the smallest one does."""
    checks = expectations(mixing_often(times, doublings), DIMS, "float32", "cpu")
    found = [check.share for check in checks if check.kind == "wide integers"]
    assert found == ([] if share is None else [share])


def test_what_is_saved_is_what_was_expected() -> None:
    """A saved judge holds the same numbers, and each of them once."""
    judge = prepare(polynomial(), DIMS, "float32", "cpu")
    for check, kept in zip(judge.checks, save(judge)["checks"], strict=True):
        assert Expected(**kept) == check
        assert kept["values"][PLAIN] is check.values["output"]
        assert kept["limits"]["output"].data_ptr() == check.limits["output"].data_ptr()


def test_limits_allow_rounding_and_no_more() -> None:
    """A limit is a few units of roundoff of the terms, and zero where there is nothing to round."""
    (check,) = expectations(transcendental(), DIMS, "float64", "cpu")
    share = float((check.limits["output"] / check.values["output"].abs()).max())
    assert 2**-53 < share < 1e-13
    assert (check.informative, check.bounded) == (True, True)


def test_a_limit_in_bfloat16_says_that_it_says_nothing() -> None:
    """With eight bits the bound of a gradient is too wide to refute anything, and float64 decides."""
    checks = expectations(transcendental(), DIMS, "bfloat16", "cpu")
    assert [(check.dtype, check.informative) for check in checks] == [("float64", True), ("bfloat16", False)]


def absolute(x: Tensor, weight: Tensor) -> Tensor:
    """Take a step that no rule bounds."""
    return mixing(x, weight).abs().log1p()


def test_a_reference_without_a_bound_is_judged_in_float64() -> None:
    """Where rounding cannot be followed the level says so, and small mistakes are still seen."""
    scope = scope_of(absolute, mixed_inputs, mixed_output)
    judge = prepare(scope, DIMS, "float32", "cpu")
    assert [(check.dtype, check.informative, check.bounded) for check in judge.checks] == [
        ("float64", True, False),
        ("float32", False, False),
    ]
    found = judge.judge(implementation(absolute))
    assert (found.agrees, found.level) == (True, "float64 without a bound")
    assert not judge.judge(implementation(lambda x, weight: absolute(x, weight * (1 + 1e-8)))).agrees


def normalising(x: Tensor, mean: Tensor) -> Tensor:
    """Subtract a stored statistic."""
    return x - mean


def test_a_statistic_has_no_gradient_to_compare() -> None:
    """Buffers are compared by what they do to the output alone."""
    scope = scope_of(
        normalising,
        lambda d: {"x": activation(d.B, d.C), "mean": buffer(d.C)},
        lambda d: (d.B, d.C),
        polynomial=True,
    )
    checks = expectations(scope, DIMS, "float32", "cpu")
    assert "gradient of x" in checks[0].values
    assert "gradient of mean" not in checks[0].values
    assert prepare(scope, DIMS, "float32", "cpu").judge(implementation(normalising)).agrees


def switching(x: Tensor, weight: Tensor) -> Tensor:
    """Pass on what is positive: an error of the argument may turn a unit on or off."""
    return mixing(mixing(x, weight).relu() * 1e-3, weight)


def test_the_reference_agrees_with_itself_in_every_dtype() -> None:
    """A limit on the result as a whole is never narrower than what the reference itself is off."""
    scope = scope_of(switching, mixed_inputs, mixed_output)
    for dtype in ("float64", "float32", "bfloat16", "float16"):
        assert prepare(scope, DIMS, dtype, "cpu").judge(scope.reference).agrees


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_float64_sees_the_values_of_the_measured_dtype(dtype: str) -> None:
    """Inputs are rounded to the dtype before float64 computes with them, and carry no error of their own."""
    checks = expectations(transcendental(), DIMS, dtype, "cpu")
    assert {check.drawn_as for check in checks} == {dtype}
    assert torch.equal(checks[0].values["output"], checks[1].values["output"])


def normed_often(x: Tensor, weight: Tensor) -> Tensor:
    """Normalise the whole map six times, with a mixing after each."""
    for _ in range(6):
        centred = x - x.mean((1, 2, 3), keepdim=True)
        variance = centred.square().mean((1, 2, 3), keepdim=True)
        x = mixing(centred * (variance + 1e-5).rsqrt(), weight)
    return x


def test_a_bound_too_wide_for_float64_leaves_it_the_judge() -> None:
    """Behind so many norms that a variance may be nothing but rounding, float64 judges without a bound."""
    scope = scope_of(normed_often, mixed_inputs, mixed_output)
    fine = next(check for check in expectations(scope, DIMS, "float32", "cpu") if check.dtype == "float64")
    assert (fine.informative, fine.bounded) == (True, False)
    judge = prepare(scope, DIMS, "float32", "cpu")
    assert judge.judge(implementation(normed_often)).level == "float64 without a bound"

    def wrong(x: Tensor, weight: Tensor) -> Tensor:
        return normed_often(x, weight) * (1 + 1e-8)

    assert not judge.judge(implementation(wrong)).agrees
