"""Functions that are no polynomials: identities around them hold, wrong ones are refuted or refused."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import _get_current_function_mode
from torch.utils._python_dispatch import _get_current_dispatch_mode

from harness.bench.proof.certificate import certify

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Any]
ATTENDED = {"q": (2, 5, 4), "k": (2, 6, 4), "v": (2, 6, 3)}


def attending(t: Inputs) -> Tensor:
    """Attend: softmax(q·kᵀ/2)·v, the width of a head being four."""
    return (torch.einsum("bid,bjd->bij", t["q"], t["k"]) / 2).softmax(-1) @ t["v"]


def logits(t: Inputs) -> Tensor:
    """Return q·kᵀ/2, written otherwise."""
    return (0.5 * t["q"]) @ t["k"].mT


def over_a_window(t: Inputs) -> Tensor:
    """Let each position attend to itself and its two neighbours, where there are such."""
    taken = [
        t["v"][:, max(0, i - 1) : i + 2].mT @ row[:, max(0, i - 1) : i + 2, None].softmax(1)
        for i, row in enumerate(logits(t).unbind(1))
    ]
    return torch.cat(taken, -1).mT


def over_a_mask(t: Inputs) -> Tensor:
    """Restrict attention so by a mask over all positions."""
    near = torch.ones(5, 6).tril(1).triu(-1).bool()
    return logits(t).masked_fill(~near, -torch.inf).softmax(-1) @ t["v"]


def over_an_added_mask(t: Inputs) -> Tensor:
    """Restrict attention so by adding minus infinity."""
    far = torch.zeros(5, 6, dtype=torch.float64)
    far[torch.ones(5, 6).tril(1).triu(-1) == 0] = -torch.inf
    return (logits(t) + far).softmax(-1) @ t["v"]


def beside_masked_keys(t: Inputs) -> Tensor:
    """Attend beside two padded keys whose logits are masked."""
    padded = F.pad(logits(t), (1, 1))
    padded[..., 0] = padded[..., -1] = -torch.inf
    return padded.softmax(-1) @ F.pad(t["v"], (0, 0, 1, 1), value=7)


HOLDS: dict[str, tuple[Program, Program]] = {
    "attention": (attending, lambda t: torch.einsum("bij,bjd->bid", logits(t).softmax(2), t["v"])),
    "permuted keys": (attending, lambda t: attending({**t, "k": t["k"].flip(1), "v": t["v"].flip(1)})),
    "keys in two parts": (
        attending,
        lambda t: sum(
            a @ v for a, v in zip(logits(t).softmax(-1).split(4, -1), t["v"].split(4, 1), strict=True)
        ),
    ),
    "a window": (over_a_mask, over_a_window),
    "an added mask": (over_a_window, over_an_added_mask),
    "masked keys": (attending, beside_masked_keys),
    "one key": (
        lambda t: logits(t)[..., :1].softmax(-1) @ t["v"][:, :1],
        lambda t: t["v"][:, :1].expand(2, 5, 3),
    ),
    "fused attention": (
        lambda t: F.scaled_dot_product_attention(t["q"], t["k"][..., :4], t["v"], scale=0.25),
        lambda t: (logits(t) / 2).softmax(-1) @ t["v"],
    ),
}


@pytest.mark.parametrize("name", HOLDS)
def test_identities_around_a_softmax_hold(name: str) -> None:
    """Whatever orders, splits, masks or restricts a softmax is one function, and so are its gradients."""
    outcome = certify(*HOLDS[name], ATTENDED, seed=3)
    assert (outcome.verdict, outcome.difference, outcome.reason) == ("holds", None, None)
    for evidence, vjp in zip(outcome.evidence, (False, True), strict=True):
        assert (evidence.vjp, evidence.uninterpreted) == (vjp, ("softmax",))
        assert evidence.log10_p <= -30
        assert 0.9 < evidence.majorant_ratio <= 1


def test_the_evidence_has_its_numbers() -> None:
    """Logits are of degree two and grain two, and so is a share, one variable, times a value."""
    values, gradients = certify(*HOLDS["attention"], ATTENDED, seed=3).evidence
    assert (values.degree, gradients.degree) == (2, 5)
    assert values.magnitude == math.isqrt(2**53 // 6)  # six shares meet; four halves of products count four
    assert gradients.magnitude > 400


class WrongSoftmax(torch.autograd.Function):
    """A softmax whose gradient misses one element."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Compute a softmax."""
        result = x.softmax(-1)
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Compute its gradient, but for one element."""
        (result,) = context.saved_tensors
        (gradient,) = gradients
        found: Tensor = result * (gradient - (gradient * result).sum(-1, keepdim=True))
        found[0, 0, 0] = 0
        return found


class RightSoftmax(WrongSoftmax):
    """A softmax with its gradient by hand."""

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Compute y·(g − Σ g·y)."""
        (result,) = context.saved_tensors
        (gradient,) = gradients
        found: Tensor = result * (gradient - (gradient * result).sum(-1, keepdim=True))
        return found


def by(function: Any) -> Program:
    """Attend by a softmax of one's own."""
    return lambda t: function.apply(logits(t)) @ t["v"]


def wrong_at_one(t: Inputs) -> Tensor:
    """Be wrong at one element of a share."""
    share = logits(t).softmax(-1)
    share[1, 4, 5] += share[1, 4, 4]
    return share @ t["v"]


WRONG: dict[str, tuple[Program, str]] = {
    "padded key": (lambda t: F.pad(logits(t), (0, 1)).softmax(-1)[..., :6] @ t["v"], "output"),
    "padded key of value zero": (
        lambda t: F.pad(logits(t), (1, 0)).softmax(-1) @ F.pad(t["v"], (0, 0, 1, 0)),
        "output",
    ),
    "no scale": (lambda t: (2 * logits(t)).softmax(-1) @ t["v"], "output"),
    "scale after": (lambda t: (2 * logits(t)).softmax(-1) @ t["v"] / 2, "output"),
    "other rows": (lambda t: logits(t).roll(1, 1).softmax(-1) @ t["v"], "output"),
    "softmax over queries": (lambda t: logits(t).softmax(1) @ t["v"], "output"),
    "softmax over images": (lambda t: logits(t).softmax(0) @ t["v"], "output"),
    "a masked key": (
        lambda t: logits(t).masked_fill(torch.arange(6) == 2, -torch.inf).softmax(-1) @ t["v"],
        "output",
    ),
    "no softmax": (lambda t: logits(t) @ t["v"], "output"),
    "sigmoid": (lambda t: logits(t).sigmoid() @ t["v"], "output"),
    "twice": (lambda t: logits(t).softmax(-1).softmax(-1) @ t["v"], "output"),
    "one element": (wrong_at_one, "output"),
    "a gradient": (by(WrongSoftmax), "gradient of q"),
    "no gradient": (lambda t: logits(t).softmax(-1).detach() @ t["v"], "gradient of q"),
    "no gradient of the keys": (lambda t: attending({**t, "k": t["k"].detach()}), "gradient of k"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_attention_is_refuted(name: str) -> None:
    """One wrong key, scale, row or gradient is enough; the difference is that of real numbers."""
    program, result = WRONG[name]
    outcome = certify(attending, program, ATTENDED, seed=3)
    assert (outcome.verdict, outcome.reason) == ("refuted", None)
    assert outcome.difference is not None
    assert outcome.difference.result == result
    assert not float(outcome.difference.left).is_integer()


def test_a_gradient_by_hand_is_followed() -> None:
    """What autograd saved is what the oracle answered."""
    assert certify(attending, by(RightSoftmax), ATTENDED, seed=3).verdict == "holds"


def test_few_outputs_differ_where_few_are_wrong() -> None:
    """The share of differing outputs is that of the real functions."""
    difference = certify(attending, wrong_at_one, ATTENDED, seed=3).difference
    assert difference is not None
    assert (difference.index, difference.share) == ((1, 4, 0), 3 / 30)


REAL: dict[str, tuple[Program, Program, str]] = {
    "a shift of a softmax": (
        attending,
        lambda t: (logits(t) + t["q"].sum(-1, keepdim=True)).softmax(-1) @ t["v"],
        "softmax (output[0, 0, 0])",
    ),
    "a quotient of exponentials": (
        lambda t: logits(t).softmax(-1),
        lambda t: logits(t).exp() / logits(t).exp().sum(-1, keepdim=True),
        "exp, reciprocal, softmax (output[0, 0, 0])",
    ),
    "shares that sum to one": (
        lambda t: logits(t).softmax(-1).sum(-1),
        lambda t: 0 * t["q"].sum(-1) + 1,
        "softmax (output[0, 0])",
    ),
    "a rectifier twice": (
        lambda t: logits(t).relu().relu(),
        lambda t: logits(t).relu(),
        "relu (output[0, 0, 0])",
    ),
    "a rectifier of twice": (
        lambda t: (2 * logits(t)).relu(),
        lambda t: 2 * logits(t).relu(),
        "relu (output[0, 0, 0])",
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_what_only_real_functions_fulfil_is_refused(name: str) -> None:
    """A law that arbitrary functions break is neither refuted, since it is true, nor certified."""
    left, right, functions = REAL[name]
    outcome = certify(left, right, ATTENDED, seed=3)
    assert (outcome.verdict, outcome.difference) == ("refused", None)
    assert outcome.reason == (
        f"The sides differ if any function may stand for {functions}, but on real numbers no difference "
        "was seen."
    )


def is_followed() -> bool:
    """Whether some mode is at work, by which a program could tell that it is tried."""
    return _get_current_dispatch_mode() is not None or _get_current_function_mode() is not None


def changing(first: Program, later: Program, calls: int) -> Program:
    """Be one program for so many calls, and then another."""
    count = itertools.count()
    return lambda t: first(t) if next(count) < calls else later(t)


def through_numpy(t: Inputs) -> Tensor:
    """Compute the shares outside of torch."""
    return torch.from_numpy(logits(t).softmax(-1).numpy()) @ t["v"]


def scratching(t: Inputs) -> Tensor:
    """Use an input as scratch memory."""
    return t["q"].copy_(t["q"] / 2) @ t["k"].mT


OTHER_CALLS = "the program calls other functions than when it was followed"
CHEATS: dict[str, tuple[Program, str]] = {
    "numpy": (through_numpy, "On the right side Tensor.numpy carries data out of torch."),
    "a list": (
        lambda t: attending({**t, "q": torch.tensor(t["q"].tolist())}),
        "On the right side Tensor.tolist carries data out of torch.",
    ),
    "a branch": (
        lambda t: attending(t) if logits(t).softmax(-1).sum() > 0 else logits(t),
        "On the right side Tensor.__bool__ carries data out of torch.",
    ),
    "indices": (
        lambda t: logits(t).softmax(-1)[t["q"].argmax()],
        "On the right side aten.argmax has no rule.",
    ),
    "a hidden constant": (
        lambda t: attending(t) + 1e-9 * t["v"].sum(1, keepdim=True),
        "On the right side aten.mul with the coefficient 1e-09, which is no multiple of 1/65536.",
    ),
    "a hidden constant in a function": (
        lambda t: attending(t) + (1e-9 + logits(t)).exp()[..., :3],
        "On the right side aten.add with the coefficient 1e-09, which is no multiple of 1/65536.",
    ),
    "an edited input": (scratching, "On the right side the program changes its input q."),
    "no number": (
        lambda t: logits(t).masked_fill(torch.ones(6).bool(), -torch.inf).softmax(-1) @ t["v"],
        "On the right side a softmax has a row of minus infinity alone.",
    ),
    "infinity": (
        lambda t: attending(t).masked_fill(torch.ones(3).bool(), -torch.inf),
        "On the right side a result is minus infinity.",
    ),
    "infinity times zero": (
        lambda t: attending(t) + 0 * logits(t)[..., :3].masked_fill(torch.ones(3).bool(), -torch.inf),
        "On the right side aten.mul meets minus infinity, which only a softmax or an exponential can take.",
    ),
    "infinity where data says": (
        lambda t: torch.where(logits(t) > 0, logits(t), -torch.inf).softmax(-1) @ t["v"],
        "On the right side aten.where meets minus infinity, which only a softmax or an exponential can take.",
    ),
    "infinity filled in where data says": (
        lambda t: logits(t).masked_fill(logits(t) < 0, -torch.inf).softmax(-1) @ t["v"],
        "On the right side aten.masked_fill with the coefficient -inf, which is no multiple of 1/65536.",
    ),
    "dropout": (
        lambda t: F.dropout(logits(t).softmax(-1), 0.5) @ t["v"],
        "On the right side aten.bernoulli_ draws random numbers.",
    ),
    "fewer functions later": (changing(attending, logits, 2), f"On the right side {OTHER_CALLS}."),
    "more functions later": (
        changing(attending, lambda t: logits(t).softmax(-1).softmax(-1) @ t["v"], 2),
        f"On the right side {OTHER_CALLS}.",
    ),
    "right when not followed": (
        lambda t: 2 * attending(t) if is_followed() else attending(t),
        "The sides differ if any function may stand for softmax (output[0, 0, 0]), but on real numbers no "
        "difference was seen.",
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused(name: str) -> None:
    """What an oracle cannot vouch for ends in a refusal, never in equal."""
    program, reason = CHEATS[name]
    outcome = certify(attending, program, ATTENDED, seed=3)
    assert (outcome.verdict, outcome.reason, outcome.difference) == ("refused", reason, None)


def test_a_program_that_is_right_only_while_it_is_followed_is_refused() -> None:
    """Where an oracle answers no program runs as it is, so the sides must agree on real numbers too."""
    outcome = certify(
        attending, lambda t: attending(t) if is_followed() else 2 * attending(t), ATTENDED, seed=3
    )
    assert outcome.verdict == "refused"
    assert outcome.reason is not None
    assert outcome.reason.startswith(
        "The sides agree if any function may stand for softmax, but on real numbers output[0, 0, 0] is "
    )


def test_a_later_call_that_is_wrong_is_refuted() -> None:
    """Trials run the program itself, so that what it does after it was followed counts."""
    program = changing(attending, lambda t: attending({**t, "v": t["v"].flip(2)}), 3)
    assert certify(attending, program, ATTENDED, seed=3).verdict == "refuted"


def test_memory_of_the_other_side_is_no_result() -> None:
    """A program that gives what the other one has left behind computes nothing, whatever it seems to do."""
    left: list[Tensor] = []

    def keeping(t: Inputs) -> Tensor:
        left[:] = [attending(t).detach()]
        return left[0]

    for copying in (lambda t: left[0], lambda t: left[0] + 0 * attending(t).detach()):
        outcome = certify(keeping, copying, ATTENDED, seed=3)
        assert (outcome.verdict, outcome.reason) == (
            "refused",
            "On the right side the program computes something else than when it was followed.",
        )
