"""The rounding bound: never exceeded by float32, and never so wide that it says nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.rules import RULES, gamma
from harness.bench.proof.shadow import RefusedError, Shadow

UNIT = 2.0**-24  # the unit roundoff of float32
SHAPES = {"x": (2, 4, 7, 6), "w": (4, 2, 3, 3), "m": (4, 4), "u": (2, 4, 7, 6), "s": (4,)}
Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Tensor]


def attention(t: Inputs) -> Tensor:
    """Attend to every position of the map."""
    q, k, v = (torch.einsum("oc,bcn->bon", t["m"], t[name].flatten(2)) for name in "xux")
    return ((q.transpose(1, 2) @ k) * 0.5).softmax(-1) @ v.transpose(1, 2)


def masked_attention(t: Inputs) -> Tensor:
    """Attend to what lies before."""
    logits = t["x"].flatten(2).transpose(1, 2) @ t["u"].flatten(2)
    later = torch.ones(42, 42, dtype=torch.bool).triu(1)
    return logits.masked_fill(later, -torch.inf).softmax(-1) @ t["x"].flatten(2).transpose(1, 2)


def additive_mask(t: Inputs) -> Tensor:
    """Mask by adding minus infinity."""
    mask = torch.zeros(6, dtype=t["x"].dtype)
    mask[4:] = -torch.inf
    return (t["x"] * t["u"] + mask).softmax(-1)


def normalised(t: Inputs) -> Tensor:
    """Normalise by stored statistics and gate."""
    scale = (t["s"] * t["s"] + 0.5).rsqrt()
    return (t["x"] * scale[:, None, None]) * (t["u"] / (2 + t["s"] * t["s"])[:, None, None]).sigmoid()


def shifted(t: Inputs) -> Tensor:
    """Add up shifted copies in place."""
    padded, total = F.pad(t["x"], (1, 1, 1, 1)), torch.zeros_like(t["x"])
    for place in range(9):
        row, column = divmod(place, 3)
        total = total.addcmul(padded[:, :, row : row + 7, column : column + 6], t["u"], value=0.3)
    return total


ROWS = torch.tensor([0, 2, 2, 1])
PROGRAMS: dict[str, Program] = {
    "elementwise": lambda t: (t["x"] * t["u"] - 0.1 * t["x"]) * t["x"] + t["u"],
    "convolution": lambda t: F.conv2d(t["x"], t["w"], t["s"], padding=1, groups=2),
    "strided convolution": lambda t: F.conv2d(t["x"], t["w"].repeat(1, 2, 1, 1), stride=2, dilation=2),
    "depthwise convolution": lambda t: F.conv2d(t["x"], t["w"][:, :1], padding=1, groups=4),
    "transposed convolution": lambda t: F.conv_transpose2d(t["x"], t["w"], stride=2, groups=2),
    "matrix products": lambda t: t["m"] @ t["m"] @ t["m"] @ t["x"].flatten(2),
    "linear": lambda t: F.linear(F.linear(t["m"], t["m"], t["s"]), t["m"], t["s"]),
    "einsum": lambda t: torch.einsum("bchw,oc,bohw->bhw", t["x"], t["m"], t["u"]),
    "unfold and fold": lambda t: F.fold(F.unfold(t["x"], 3) * 0.7, (7, 6), 3),
    "overlapping views": lambda t: (
        t["x"].unfold(2, 3, 1).unfold(3, 3, 1) * t["u"][..., :5, :4, None, None]
    ).sum((-1, -2)),
    "reflection": lambda t: F.conv2d(F.pad(t["x"], (3, 3, 3, 3), mode="reflect"), t["w"], groups=2),
    "replication": lambda t: F.conv2d(F.pad(t["x"], (3, 3, 3, 3), mode="replicate"), t["w"], groups=2),
    "average pooling": lambda t: F.avg_pool2d(t["x"] * t["u"], 3, stride=1),
    "adaptive pooling": lambda t: F.adaptive_avg_pool2d(t["x"] * t["u"], (3, 4)),
    "global pooling": lambda t: F.adaptive_avg_pool2d(t["x"] * t["u"], 1) + t["x"].mean((2, 3), keepdim=True),
    "scattering": lambda t: torch.zeros_like(t["m"]).index_add(0, ROWS, t["m"]) @ t["m"][ROWS],
    "shifted": shifted,
    "softmax": lambda t: (t["x"] / 30).softmax(1) * t["u"],
    "attention": attention,
    "masked attention": masked_attention,
    "additive mask": additive_mask,
    "normalised": normalised,
    "exponential": lambda t: (t["x"] * t["u"] * 0.2).exp() * t["x"],
    "relu": lambda t: F.relu(t["x"] * t["u"] - t["x"]) * t["u"],
    "relu that bends everywhere": lambda t: F.relu(t["x"] * 1.1 - (t["x"] + t["x"] * 0.1)) * t["u"],
    "maximum of two lines by a relu": lambda t: t["x"] + F.relu(t["u"] * t["x"] + 0.3 - t["x"]),
    "hard tanh": lambda t: F.hardtanh(t["x"] * t["u"] - t["x"], -0.7, 1.0) * t["u"],
    "hard tanh that bends everywhere": lambda t: (
        F.hardtanh(t["x"] * 1.1 - (t["x"] + t["x"] * 0.1), -1.0, 0.0) * t["u"]
    ),
    "hard tanh of a large error": lambda t: F.hardtanh(t["x"] * 3e3 - t["x"] * 2999.8, 0.0, 0.2) * t["u"],
    "error function": lambda t: torch.erf(t["x"] * 10.3 - t["x"] * 9.7) * t["u"],
    "error function far from zero": lambda t: torch.erf(2 * t["x"]) * t["u"],
    "gelu": lambda t: F.gelu(t["x"] * 3e3 - t["x"] * 2999.8 + t["s"][:, None, None]) * t["u"],
    "gelu far from zero": lambda t: F.gelu(5 * t["x"] * t["s"][:, None, None]) * t["u"],
    "gelu by its formula": lambda t: t["x"] * (1 + torch.erf(t["x"] * 0.5**0.5)) / 2 + t["u"],
}


def draw(seed: int) -> Inputs:
    """Draw inputs whose values float32 holds exactly."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).double() for name, shape in SHAPES.items()}


def cotangent_of(program: Program, seed: int) -> Tensor:
    """Draw a cotangent of the shape of the output."""
    shape = program(draw(seed)).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1)).double()


def differentiate(program: Program, inputs: Inputs, cotangent: Tensor) -> Inputs:
    """Return the output and the gradient of every input."""
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items()}
    output = program(leaves)
    found = torch.autograd.grad(output, list(leaves.values()), cotangent, allow_unused=True)
    gradients = zip(leaves, found, strict=True)
    return {"output": output.detach(), **{name: grad for name, grad in gradients if grad is not None}}


def bounds(program: Program, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Return exact results, the bound of each element, and the widest share of the terms."""
    shadow, inputs = Shadow(RULES, unit=UNIT, exact=False), draw(seed)
    cotangent = cotangent_of(program, seed)
    for name, tensor in {**inputs, "cotangent": cotangent}.items():
        shadow.track(name, tensor, tensor.abs())
    with shadow:
        results = differentiate(program, inputs, cotangent)
    seen = {name: shadow.see(result) for name, result in results.items()}
    limits = {name: gamma(found.roundings, UNIT) * found.terms for name, found in seen.items()}
    return results, limits, max(gamma(found.roundings, UNIT) for found in seen.values())


@pytest.mark.parametrize("name", PROGRAMS)
def test_float32_never_exceeds_the_bound(name: str) -> None:
    """Over random inputs no value and no gradient is further from float64 than γₙ·Σ|terms|."""
    for seed in range(8):
        exact, limits, _ = bounds(PROGRAMS[name], seed)
        single = {letter: tensor.float() for letter, tensor in draw(seed).items()}
        cotangent = cotangent_of(PROGRAMS[name], seed).float()
        for result, found in differentiate(PROGRAMS[name], single, cotangent).items():
            assert bool(((found.double() - exact[result]).abs() <= limits[result]).all()), (result, seed)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_bound_is_narrow_enough_to_judge(name: str) -> None:
    """In float32 the bound of these programs stays below 1 % of the terms."""
    assert bounds(PROGRAMS[name], 0)[2] < 0.01


@pytest.mark.parametrize(
    ("program", "off"),
    [
        (lambda t: F.relu(t["x"] * t["u"]), lambda t: t["x"] * t["u"] < 0),
        (lambda t: F.hardtanh(t["x"] * t["u"], -0.2, 0.3), lambda t: (t["x"] * t["u"] - 0.05).abs() > 0.25),
    ],
)
def test_no_gradient_passes_a_unit_that_is_off(program: Program, off: Program) -> None:
    """Beyond the bends, farther than the error, the gradient is bound to be zero, and nowhere else."""
    assert torch.equal(bounds(program, 0)[1]["x"] == 0, off(draw(0)))


@pytest.mark.parametrize("name", ["relu", "hard tanh"])
def test_a_void_bound_loses_no_terms(name: str) -> None:
    """Where any unit may be on or off, gradients keep their terms, for a finer unit to judge."""
    shadow, inputs = Shadow(RULES, unit=0.5, exact=False), draw(0)
    cotangent = cotangent_of(PROGRAMS[name], 0)
    for letter, tensor in {**inputs, "cotangent": cotangent}.items():
        shadow.track(letter, tensor, tensor.abs())
    with shadow:
        results = differentiate(PROGRAMS[name], inputs, cotangent)
    for result in results.values():
        seen = shadow.see(result)
        assert gamma(seen.roundings, 0.5) == math.inf
        assert bool((seen.terms >= result.abs()).all())


@pytest.mark.parametrize(
    ("roundings", "unit", "expected"),
    [(0, 2.0**-24, 0.0), (10, 2.0**-24, 10 * 2.0**-24 / (1 - 10 * 2.0**-24)), (256, 2.0**-8, math.inf)],
)
def test_gamma_grows_without_bound(roundings: float, unit: float, expected: float) -> None:
    """Where so many roundings meet that nothing is known, the bound is infinite."""
    assert gamma(roundings, unit) == expected


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (lambda t: torch.div(t["x"], 2, rounding_mode="floor"), "aten.div rounds to integers"),
        (lambda t: t["x"].abs(), "aten.abs has no rule"),
        (lambda t: F.gelu(t["x"], approximate="tanh"), "aten.gelu is approximated by tanh"),
        (lambda t: t["x"] * torch.tensor(torch.nan), "a constant of the program is not a number"),
        (lambda t: (t["x"] * 1e6).exp() * 0, "aten.mul gives what is no number"),
    ],
)
def test_what_has_no_bound_is_refused(program: Program, told: str) -> None:
    """A step that is no sum, product or known function ends the analysis with its name."""
    with pytest.raises(RefusedError) as refused:
        bounds(program, 0)
    assert str(refused.value) == told


@pytest.mark.parametrize(
    "program",
    [
        lambda t: (t["x"] * 1e9).exp(),
        lambda t: t["u"] / (t["x"] * 1e8 - t["x"] * 1e8 + 1),
        lambda t: (1e8 * t["x"]).softmax(1),
        lambda t: torch.erf(t["u"] / (t["x"] * 1e8 - t["x"] * 1e8 + 1)),
        lambda t: F.gelu(t["u"] / (t["x"] * 1e8 - t["x"] * 1e8 + 1)),
    ],
)
def test_an_unbounded_error_makes_the_bound_infinite(program: Program) -> None:
    """An argument whose error may be anything leaves a bound that no check takes for information."""
    assert bounds(program, 0)[2] == math.inf
