"""The timed call is judged itself: no other program than the one that agreed is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.bench.agreement import Judge, prepare
from harness.bench.measure.subject import Subject, TimedCall, digest
from harness.bench.pages import Scope
from harness.tests.specimens import DIMS, attending, implementation, mixing, polynomial, transcendental

Function = Callable[..., Any]


@pytest.fixture(scope="module")
def mixing_judge() -> Judge:
    """Prepare the judge of the polynomial specimen."""
    return prepare(polynomial(), DIMS, "float32", "cpu")


def subject(scope: Scope, function: Function, direction: str = "forward") -> Subject:
    """Make an implementation ready to be timed."""
    return Subject(scope, implementation(function), DIMS, "float32", "cpu", direction)


def kept_by_version() -> Function:
    """Make a program that keeps its result as long as autograd's version counter tells of no edit."""
    kept: dict[tuple[Any, ...], Tensor] = {}

    def remember(x: Tensor, weight: Tensor) -> Tensor:
        key = (x.data_ptr(), x._version, weight._version, torch.is_grad_enabled(), x.dtype)
        if key not in kept:
            kept[key] = mixing(x, weight)
        return kept[key]

    return remember


def into_one_buffer() -> Function:
    """Make a program that writes every result to the same memory."""
    buffer = torch.empty(DIMS.B, DIMS.C, DIMS.H, DIMS.W)

    def overwrite(x: Tensor, weight: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return mixing(x, weight)
        return buffer.copy_(mixing(x, weight))

    return overwrite


def zero_without_gradients(x: Tensor, weight: Tensor) -> Tensor:
    """Compute nothing where nobody asks for gradients."""
    return mixing(x, weight) if torch.is_grad_enabled() else torch.zeros_like(x)


@pytest.mark.parametrize("direction", ["forward", "training"])
@pytest.mark.parametrize(("scope", "function"), [(polynomial(), mixing), (transcendental(), attending)])
def test_an_honest_call_agrees(scope: Scope, function: Function, direction: str) -> None:
    """What a right implementation returns as it is timed agrees, in both directions."""
    judge = prepare(scope, DIMS, "float32", "cpu")
    rehearsal = subject(scope, function, direction).timed_call().rehearse()
    found = judge.judge_call(rehearsal.results, "float32")
    assert (rehearsal.misdeed, rehearsal.difference, found.agrees, found.reason) == (None, 0, True, None)


def test_a_result_kept_by_version_is_seen(mixing_judge: Judge) -> None:
    """Values that change beneath the version counter tell a kept result from a computed one."""
    rehearsal = subject(polynomial(), kept_by_version()).timed_call().rehearse()
    found = mixing_judge.judge_call(rehearsal.results, "float32")
    assert not found.agrees
    assert str(found.reason).startswith("called as it is timed, output[")


def test_one_buffer_for_all_results_is_a_misdeed() -> None:
    """A result must outlive the next call."""
    rehearsal = subject(polynomial(), into_one_buffer()).timed_call().rehearse()
    assert rehearsal.misdeed == "two calls return the same memory, and the second overwrites the first"


def test_two_calls_that_differ_are_measured() -> None:
    """A program that is random says by how much, and its bits are never twice the same."""

    def noisy(x: Tensor, weight: Tensor) -> Tensor:
        return mixing(x, weight) + torch.rand(())

    call = subject(polynomial(), noisy).timed_call()
    first, second = call.rehearse(), call.rehearse()
    assert 0 < first.difference < 1
    assert first.bits != second.bits


def test_both_of_two_different_results_are_kept() -> None:
    """What the first of two calls returned is there to be judged, and only where the second is another."""
    calls: list[int] = []

    def counting(x: Tensor, weight: Tensor) -> Tensor:
        calls.append(1)
        return mixing(x, weight) + (1 if len(calls) == 2 else 0)

    call = subject(polynomial(), counting).timed_call()
    once, twice = call.rehearse(), call.rehearse()
    assert once.earlier is not None
    torch.testing.assert_close(once.earlier["output"] - 1, once.results["output"])
    assert once.difference == pytest.approx(1)
    assert twice.difference == 0
    assert twice.earlier is None


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (torch.zeros(2), torch.tensor([0.0, 0.5]), 0.5),
        (torch.zeros(2), torch.tensor([0.0, float("nan")]), float("inf")),
        (torch.tensor([float("nan")]), torch.tensor([float("nan")]), 0),
        (torch.zeros(2), torch.zeros(3), float("inf")),
        (torch.zeros(2), torch.tensor([0.0, -float("inf")]), float("inf")),
    ],
)
def test_difference_of_two_results(first: Tensor, second: Tensor, difference: float) -> None:
    """Two calls differ by their worst element; what is no number differs without end, but from itself."""
    results = [torch.zeros(1), first, second]
    call = TimedCall(lambda: results.pop(0), ("output",), [])
    assert call.rehearse().difference == difference


def test_a_gradient_that_is_missing_in_one_call_is_a_difference() -> None:
    """A result that is there once and once is not differs without end."""
    results: list[Any] = [(torch.zeros(1),), (torch.zeros(1),), (None,)]
    call = TimedCall(lambda: results.pop(0), ("gradient of x",), [])
    assert call.rehearse().difference == float("inf")


def test_a_digest_tells_names_shapes_and_dtypes_apart() -> None:
    """Equal bytes under another name, in another shape or of another dtype are another result."""
    four = torch.zeros(4)
    others = [{"b": four}, {"a": four.reshape(2, 2)}, {"a": four.view(torch.int32)}, {"a": four + 1}, {}]
    digests = {digest(found) for found in [{"a": four}, *others]}
    assert len(digests) == 6
    assert digest({"a": four, "b": four + 1}) == digest({"b": four + 1, "a": four.clone()})
    assert digest({"a": torch.arange(6.0).reshape(2, 3).T}) == digest(
        {"a": torch.tensor([[0.0, 3], [1, 4], [2, 5]])}
    )


def test_bits_tell_of_other_inputs_too(mixing_judge: Judge) -> None:
    """A program that is right on the timed inputs alone has other bits than a right one."""
    honest = subject(polynomial(), mixing)
    wanted = honest.inputs()["x"]

    def knows_its_inputs(x: Tensor, weight: Tensor) -> Tensor:
        return mixing(x, weight) if torch.equal(x, wanted) else torch.zeros_like(x)

    cheating = subject(polynomial(), knows_its_inputs).timed_call().rehearse()
    assert mixing_judge.judge_call(cheating.results, "float32").agrees
    assert cheating.bits != honest.timed_call().rehearse().bits


def test_another_path_without_gradients_disagrees(mixing_judge: Judge) -> None:
    """Forward cases are timed without gradients, so they are judged without them too."""
    found = mixing_judge.judge(implementation(zero_without_gradients))
    assert not found.agrees
    assert "output without gradients[" in str(found.reason)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_judged_in_itself(dtype: str) -> None:
    """Right in float64 and nothing but zeros, or no numbers, in the dtype that is timed: refused."""
    judge = prepare(polynomial(), DIMS, dtype, "cpu")

    def broken(value: float) -> Function:
        return lambda x, weight: mixing(x, weight) * (1.0 if x.dtype == torch.float64 else value)

    assert judge.judge(implementation(broken(1.0))).agrees
    assert not judge.judge(implementation(broken(0.0))).agrees
    assert not judge.judge(implementation(broken(float("nan")))).agrees


def test_rounding_does_not_excuse_a_gradient_through_an_idle_unit() -> None:
    """A unit that is off beyond doubt passes no gradient back, whatever the size of its argument."""

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.relu()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad

    def rectified(x: Tensor, weight: Tensor) -> Tensor:
        return torch.relu(mixing(x, weight))

    def straight(x: Tensor, weight: Tensor) -> Tensor:
        return StraightThrough.apply(mixing(x, weight))  # type: ignore[no-any-return, no-untyped-call]  # likewise

    scope = transcendental()
    scope.implementations["reference"] = implementation(rectified)
    judge = prepare(scope, DIMS, "float32", "cpu")
    assert judge.judge(implementation(rectified, dtypes=("float32",))).agrees
    assert not judge.judge(implementation(straight, dtypes=("float32",))).agrees


def test_wide_logits_are_within_the_bound() -> None:
    """A softmax over logits that lie far apart rounds their differences, and still agrees."""

    def wide(x: Tensor, weight: Tensor) -> Tensor:
        return (mixing(x, weight) * 64).softmax(1)

    scope = transcendental()
    scope.implementations["reference"] = implementation(wide)
    found = prepare(scope, DIMS, "float32", "cpu").judge(implementation(wide, dtypes=("float32", "float64")))
    assert (found.agrees, found.reason) == (True, None)
