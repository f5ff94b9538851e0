"""Rectifiers, comparisons and maxima are made of one step, and consistent with each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.certificate import certify

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Tensor]
SHAPES = {"x": (2, 4, 3, 5), "w": (4, 4), "u": (2, 4, 3, 5)}
ZERO = torch.zeros((), dtype=torch.float64)


def mixing(t: Inputs) -> Tensor:
    """Mix channels."""
    return torch.einsum("oc,bchw->bohw", t["w"], t["x"])


def convolving(t: Inputs) -> Tensor:
    """Mix channels by a 1×1 convolution."""
    return F.conv2d(t["x"], t["w"][:, :, None, None])


def rectified(t: Inputs) -> Tensor:
    """Mix and rectify."""
    return F.relu(mixing(t))


def largest(t: Inputs) -> Tensor:
    """Return the larger of two maps."""
    return torch.maximum(mixing(t), t["u"])


def smallest_is_largest(t: Inputs) -> Tensor:
    """Return the larger as the negative of the smaller of the negatives."""
    return -torch.minimum(-convolving(t), -t["u"])


SAME: dict[str, tuple[Program, Program]] = {
    "half of x + |x|": (rectified, lambda t: (mixing(t) + mixing(t).abs()) / 2),
    "maximum with zero": (rectified, lambda t: torch.maximum(mixing(t), ZERO)),
    "clamped at zero": (rectified, lambda t: mixing(t).clamp(min=0)),
    "in place": (rectified, lambda t: mixing(t).relu_()),
    "largest of x and zero": (rectified, lambda t: torch.stack([mixing(t), 0 * mixing(t)]).amax(0)),
    "where positive": (rectified, lambda t: torch.where(mixing(t) > 0, mixing(t), 0)),
    "masked where negative": (rectified, lambda t: mixing(t).masked_fill(mixing(t) < 0, 0)),
    "times a mask": (rectified, lambda t: (mixing(t) > 0) * mixing(t)),
    "x plus the rectified −x": (rectified, lambda t: mixing(t) + F.relu(-mixing(t))),
    "through a convolution": (rectified, lambda t: convolving(t).relu()),
    "two layers": (
        lambda t: mixing({**t, "x": rectified(t)}),
        lambda t: convolving({**t, "x": convolving(t).clamp_min(0)}),
    ),
    "sign times x": (lambda t: mixing(t).abs(), lambda t: mixing(t) * mixing(t).sign()),
    "maximum and minimum": (largest, smallest_is_largest),
    "largest of two": (largest, lambda t: torch.stack([t["u"], mixing(t)], -1).amax(-1)),
    "minimum by amin": (
        lambda t: torch.minimum(mixing(t), t["u"]),
        lambda t: torch.stack([t["u"], mixing(t)]).amin(0),
    ),
    "sum of both": (lambda t: largest(t) + torch.minimum(mixing(t), t["u"]), lambda t: mixing(t) + t["u"]),
    "the larger by a mask": (largest, lambda t: torch.where(t["u"] > mixing(t), t["u"], mixing(t))),
    "a mask and its complement": (largest, lambda t: torch.where(~(t["u"] > mixing(t)), mixing(t), t["u"])),
    "a mask the other way": (largest, lambda t: torch.where(t["u"] < mixing(t), mixing(t), t["u"])),
    "leaky": (
        lambda t: F.leaky_relu(mixing(t), 0.25),
        lambda t: F.relu(mixing(t)) - 0.25 * F.relu(-mixing(t)),
    ),
    "leaky in place": (
        lambda t: F.leaky_relu(mixing(t), 0.25),
        lambda t: F.leaky_relu_(mixing(t) * 1, 0.25),
    ),
    "prelu": (
        lambda t: F.prelu(mixing(t), t["w"][0]),
        lambda t: F.relu(mixing(t)) - t["w"][0, :, None, None] * F.relu(-mixing(t)),
    ),
    "hard tanh": (
        lambda t: F.relu6(mixing(t)),
        lambda t: F.relu(mixing(t)) - F.relu(mixing(t) - 6),
    ),
    "clamped at both ends": (
        lambda t: mixing(t).clamp(-1, 2).detach() * t["u"],
        lambda t: F.hardtanh(mixing(t), -1, 2).detach() * t["u"],
    ),
    "clamped at the top": (
        lambda t: mixing(t).clamp(max=3),
        lambda t: torch.minimum(convolving(t), ZERO + 3),
    ),
    "two masks": (
        lambda t: torch.where((mixing(t) > 0) & (t["u"] >= 0), t["u"], t["x"]),
        lambda t: torch.where(t["u"] >= 0, torch.where(mixing(t) > 0, t["u"], t["x"]), t["x"]),
    ),
    "one mask or the other": (
        lambda t: torch.where((mixing(t) > 0) | (t["u"] <= 0), t["u"], t["x"]),
        lambda t: torch.where(t["u"] <= 0, t["u"], torch.where(mixing(t) > 0, t["u"], t["x"])),
    ),
    "never equal": (lambda t: torch.where(mixing(t) == t["u"], t["x"], t["u"]), lambda t: t["u"] * 1),
    "always equal": (lambda t: torch.where((x := mixing(t)) != x, t["x"], t["u"]), lambda t: t["u"] * 1),
    "largest of a row": (
        lambda t: mixing(t).amax(1, keepdim=True) * t["u"],
        lambda t: t["u"] * convolving(t).flip(1).amax(1, keepdim=True),
    ),
    "largest of a map": (
        lambda t: mixing(t).amax((2, 3)),
        lambda t: convolving(t).mT.flatten(2).amax(2),
    ),
    "smallest of a map": (lambda t: mixing(t).amin((2, 3)), lambda t: -(-convolving(t)).flatten(2).amax(2)),
}


@pytest.mark.parametrize("name", SAME)
def test_what_bends_is_one_step(name: str) -> None:
    """Ways to write a bend agree in values and in gradients."""
    outcome = certify(*SAME[name], SHAPES, seed=2)
    assert (outcome.verdict, outcome.reason) == ("holds", None)
    assert [evidence.vjp for evidence in outcome.evidence] == [False, True]
    assert all(evidence.log10_p <= -30 for evidence in outcome.evidence)
    assert all(evidence.uninterpreted for evidence in outcome.evidence)


OTHER: dict[str, tuple[Program, Program, str]] = {
    "absolute value": (rectified, lambda t: mixing(t).abs(), "output"),
    "the other sign": (rectified, lambda t: F.relu(-mixing(t)), "output"),
    "no rectifier": (rectified, mixing, "output"),
    "one channel less": (
        rectified,
        lambda t: torch.cat([rectified(t)[:, :3], mixing(t)[:, 3:]], 1),
        "output",
    ),
    "another slope": (
        lambda t: F.leaky_relu(mixing(t), 0.25),
        lambda t: F.leaky_relu(mixing(t), 0.5),
        "output",
    ),
    "the smaller": (largest, lambda t: torch.minimum(mixing(t), t["u"]), "output"),
    "the smaller by a mask": (
        largest,
        lambda t: torch.where(t["u"] > mixing(t), mixing(t), t["u"]),
        "output",
    ),
    "a largest of three": (
        lambda t: mixing(t).amax(1),
        lambda t: mixing(t)[:, :3].amax(1),
        "output",
    ),
    "another axis": (lambda t: mixing(t).amax(0), lambda t: mixing(t).flip(1).amax(0), "output"),
    "no gradient of the mask": (rectified, lambda t: rectified(t).detach() + 0 * mixing(t), "gradient of x"),
    "the gradient of both sides": (
        rectified,
        lambda t: mixing(t) + F.relu(-mixing(t)).detach(),
        "gradient of x",
    ),
    "an average in place of a largest": (
        lambda t: mixing(t).amax(1),
        lambda t: mixing(t).amax(1).detach() + mixing(t).mean(1) - mixing(t).mean(1).detach(),
        "gradient of x",
    ),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_bend_is_refuted(name: str) -> None:
    """A wrong sign, slope or axis is refuted, and so is a wrong gradient of right values."""
    left, right, result = OTHER[name]
    outcome = certify(left, right, SHAPES, seed=2)
    assert (outcome.verdict, outcome.reason) == ("refuted", None)
    assert outcome.difference is not None
    assert outcome.difference.result == result


def test_the_largest_of_one_is_no_arbitrary_function() -> None:
    """Where nothing is chosen, nothing is asked for."""
    outcome = certify(lambda t: mixing(t)[:, :1].amax(1), lambda t: mixing(t)[:, 0], SHAPES, seed=2)
    assert outcome.verdict == "holds"
    assert [evidence.uninterpreted for evidence in outcome.evidence] == [(), ()]
