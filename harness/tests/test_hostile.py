"""Programs that agree where random integers look and are not the same function: none of them holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.basis import certify_on_basis
from harness.bench.proof.certificate import certify
from harness.bench.proof.symbolic import certify_symbolically

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Any]
SQUARE = {"x": (4, 4)}
LONG = {"x": (64,)}
# Larger than any number that is drawn.
FAR = 20


def kept(t: Inputs) -> Tensor:
    """Return the input."""
    return t["x"] * 1


def rounded_in_a_thread(t: Inputs) -> Tensor:
    """Round where no mode of this thread sees it."""
    result = t["x"] * 1
    whole = result.detach()
    thread = threading.Thread(target=whole.round_)
    thread.start()
    thread.join()
    return result


def rounded_as_a_constant(t: Inputs) -> Tensor:
    """Write zeros into overlapping windows, as many elements as the memory has, and round the rest."""
    memory = (2 * t["x"] - t["x"]).flatten()
    memory.as_strided((4, 4), (1, 1)).zero_()
    return memory.round()


def unrounded(t: Inputs) -> Tensor:
    """Write the same zeros and round nothing."""
    memory = (2 * t["x"] - t["x"]).flatten()
    memory.as_strided((4, 4), (1, 1)).zero_()
    return memory


STATES: dict[str, Callable[[], bool]] = {
    "gradients are recorded": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
}


@pytest.mark.parametrize("check", [certify, certify_on_basis, certify_symbolically])
@pytest.mark.parametrize("state", STATES)
def test_values_are_compared_in_every_state_of_torch(check: Any, state: str) -> None:
    """What adds one only while gradients are recorded, or in inference mode, is another function."""
    assert check(kept, lambda t: t["x"] * 1 + int(STATES[state]()), SQUARE, 0).verdict != "holds"


@pytest.mark.parametrize("check", [certify, certify_on_basis, certify_symbolically])
@pytest.mark.parametrize(("left", "right"), [(kept, rounded_in_a_thread), (unrounded, rounded_as_a_constant)])
def test_what_rounds_to_integers_is_not_the_identity(check: Any, left: Program, right: Program) -> None:
    """Integers do not show rounding, so polynomials are looked at on real numbers too."""
    assert check(left, right, SQUARE, 0).verdict != "holds"


@pytest.mark.parametrize("check", [certify, certify_on_basis])
def test_a_negative_divisor_is_no_positive_one(check: Any) -> None:
    """Bounds add absolute values, which a divisor below zero would turn around."""

    def pooling(divisor: int) -> Program:
        return lambda t: 4 * F.avg_pool2d(t["x"][None], 2, divisor_override=divisor) + 2 * t["x"][0, 0]

    outcome = check(pooling(-2), pooling(2), SQUARE, 0)
    assert outcome.verdict == "refused"
    assert "aten.avg_pool2d divides by -2, which turns its terms around" in outcome.reason


def bent(t: Inputs) -> Tensor:
    """Sum rectifiers: zero wherever no input is positive, which no draw is likely to meet."""
    return t["x"].relu().sum()


def share_of_the_largest(t: Inputs) -> Tensor:
    """Divide by the number of largest ones, which are many where all are zero."""
    x = t["x"].relu()
    return t["x"] / (x == x.amax(-1, keepdim=True)).sum(-1, keepdim=True)


def far(t: Inputs) -> Tensor:
    """Tell which inputs are larger than any that is drawn."""
    return t["x"] > FAR


JUMPS: dict[str, tuple[Program, Program, str]] = {
    "equal to zero": (bent, lambda t: torch.where(bent(t) == 0, 5.0, bent(t)), "aten.eq compares"),
    "at least and above": (
        lambda t: t["x"] * (bent(t) >= 0),
        lambda t: t["x"] * (bent(t) > 0),
        "aten.ge compares",
    ),
    "the sign of zero": (
        lambda t: t["x"] * bent(t).sign(),
        lambda t: t["x"] * ((bent(t) > 0) * 2 - 1),
        "aten.sign compares",
    ),
    "several largest": (kept, share_of_the_largest, "aten.eq compares"),
    "equal truths": (
        kept,
        lambda t: torch.where(far(t) == 1, 2 * t["x"], t["x"]),
        "aten.eq compares",
    ),
    "a sum of truths": (
        lambda t: t["x"] * (far(t) + far({"x": t["x"].flip(0)})),
        lambda t: t["x"] * (far(t).double() + far({"x": t["x"].flip(0)}).double()),
        "aten.add adds truth values",
    ),
    "the negation of a number": (
        lambda t: t["x"] * torch.logical_not((t["x"].detach() - FAR).relu()),
        lambda t: t["x"] * (1 - (t["x"].detach() - FAR).relu()),
        "aten.logical_not takes numbers for truth values",
    ),
}


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_that_no_draw_meets_is_refused(name: str) -> None:
    """A law of steps that fails at their jump is not used where arguments may stay there."""
    left, right, why = JUMPS[name]
    outcome = certify(left, right, LONG, 0)
    assert outcome.verdict == "refused"
    assert outcome.reason is not None
    assert why in outcome.reason


THRESHOLD = torch.ops.aten.threshold_backward
SLOPES: dict[str, tuple[Program, Program]] = {
    "a threshold below zero": (
        lambda t: t["x"] * (t["x"] > -FAR),
        lambda t: THRESHOLD(t["x"], t["x"].detach().relu(), -FAR),
    ),
    "a transposed result": (
        lambda t: THRESHOLD(t["x"], (t["x"].detach() - FAR).relu(), 0),
        lambda t: THRESHOLD(t["x"], (t["x"].detach() - FAR).relu().T, 0),
    ),
    "a slope below zero": (
        lambda t: t["x"] * (t["x"] > -FAR),
        lambda t: THRESHOLD(t["x"], F.leaky_relu(t["x"].detach() + FAR, -1.0), 0),
    ),
    "largest ones beside other rows": (
        lambda t: t["x"] * (t["x"].square() == t["x"].square().amax(1, keepdim=True)),
        lambda t: t["x"] * (t["x"].square() == t["x"].square().amax(1)),
    ),
}


@pytest.mark.parametrize("name", SLOPES)
def test_what_is_known_of_a_result_is_known_of_its_own_place(name: str) -> None:
    """The argument of a rectifier answers for its result only where both have the same sign."""
    left, right = SLOPES[name]
    assert certify(left, right, SQUARE, 0).verdict != "holds"


@pytest.mark.parametrize("check", [certify, certify_on_basis, certify_symbolically])
@pytest.mark.parametrize(
    ("program", "shapes"),
    [(lambda t: (), SQUARE), (lambda t: t["x"] * 1j, SQUARE), (lambda t: torch.arange(3) * 1j, SQUARE)],
)
def test_strange_results_end_in_a_refusal(check: Any, program: Program, shapes: Any) -> None:
    """Nothing at all, or complex numbers, is neither compared nor met by a traceback."""
    assert check(program, program, shapes, 0).verdict == "refused"


def test_without_inputs_there_is_no_basis() -> None:
    """Programs of no inputs are refused, not met by a traceback."""
    outcome = certify_on_basis(lambda t: torch.arange(3), lambda t: torch.arange(3), {}, 0)
    assert outcome.reason == "There are no inputs, so no basis products."


def nothing_over_nothing(t: Inputs) -> Tensor:
    """Hide a quotient of zeros behind a mask that no draw meets."""
    x = t["x"]
    return torch.where(x > FAR, (x / (x - x)).detach(), x)


def test_a_quotient_by_what_is_always_zero_is_refused() -> None:
    """The oracle has no value for it, so what stands behind a mask must not depend on one."""
    outcome = certify(
        nothing_over_nothing, lambda t: torch.where(t["x"] > FAR, 0 * t["x"].detach(), t["x"]), SQUARE, 0
    )
    assert outcome.verdict == "refused"
    assert outcome.reason is not None
    assert outcome.reason.endswith("the reciprocal is taken of what is always zero.")
