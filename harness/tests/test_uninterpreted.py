"""Functions that are no polynomials: identities around them hold, wrong ones are refuted or refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

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
