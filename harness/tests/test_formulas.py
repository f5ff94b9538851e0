"""Formulas of arbitrary functions: true of torch's own functions, and their bounds are bounds."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.analysis import Analysis, analyse
from harness.bench.proof.certificate import certify
from harness.bench.proof.oracle import Notes, Oracle, Past
from harness.bench.proof.programs import Point
from harness.bench.proof.rules import RULES
from harness.bench.proof.shadow import Shadow
from harness.bench.proof.smooth import POLYNOMIALS
from harness.bench.proof.uninterpreted import FUNCTIONS, Trial, Uninterpreted

Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Tensor]
SHAPES = {"x": (2, 4, 3, 5), "w": (4, 4), "u": (2, 4, 3, 5), "s": (5,)}
MASK = torch.tensor([True, False, True, True, False])


def mixing(t: Inputs) -> Tensor:
    """Mix channels."""
    return torch.einsum("oc,bchw->bohw", t["w"], t["x"])


def convolving(t: Inputs) -> Tensor:
    """Mix channels by a 1×1 convolution."""
    return F.conv2d(t["x"], t["w"][:, :, None, None])


Function = Callable[[Tensor, Inputs], Tensor]


def of_mixing(function: Function) -> Program:
    """Return a function of the mixed channels."""
    return lambda t: function(mixing(t), t)


FOLLOWED: dict[str, Function] = {
    "softmax": lambda x, t: x.softmax(1) * t["u"],
    "softmax of a transposed map": lambda x, t: x.permute(0, 2, 3, 1).softmax(2).flatten(1),
    "masked softmax": lambda x, t: x.masked_fill(MASK, -torch.inf).softmax(-1) * t["u"],
    "fused attention": lambda x, t: F.scaled_dot_product_attention(x[0], x[1], t["u"][0], scale=0.25),
    "exp": lambda x, t: x.exp() * t["u"],
    "exp of a masked map": lambda x, t: x.masked_fill(MASK, -torch.inf).exp(),
    "sigmoid": lambda x, t: x.sigmoid() * t["u"],
    "tanh": lambda x, t: x.tanh() * t["u"],
    "erf": lambda x, t: x.erf(),
    "gelu": lambda x, t: F.gelu(x),
    "gelu by tanh": lambda x, t: F.gelu(x, approximate="tanh"),
    "silu": lambda x, t: F.silu(x),
    "sqrt": lambda x, t: (x * x + 1).sqrt(),
    "rsqrt": lambda x, t: (x * x + 1).rsqrt(),
    "reciprocal": lambda x, t: (x * x + 1).reciprocal(),
    "division": lambda x, t: t["u"] / (x * x + 1),
    "division in place": lambda x, t: (t["u"] * 1).div_(x * x + 1),
    "layer norm": lambda x, t: F.layer_norm(x, (5,), t["s"], t["s"] + 1),
    "layer norm over a map": lambda x, t: F.layer_norm(x, (3, 5), t["u"][0, 0]),
    "layer norm without weights": lambda x, t: F.layer_norm(x, (5,), eps=0.5),
    "relu": lambda x, t: F.relu(x) * t["u"],
    "relu in place": lambda x, t: (x * 2).relu_() * t["u"],
    "absolute value": lambda x, t: x.abs() * t["u"],
    "sign": lambda x, t: x.sign() * t["u"],
    "leaky relu": lambda x, t: F.leaky_relu(x, 0.25),
    "leaky relu in place": lambda x, t: F.leaky_relu_(x * 1, 0.25),
    "prelu": lambda x, t: F.prelu(x, t["w"][0]),
    "hard tanh": lambda x, t: F.hardtanh(x, -1, 0.5),
    "clamp": lambda x, t: x.clamp(-0.5, 1),
    "clamp from below": lambda x, t: x.clamp(min=0.5),
    "clamp from above": lambda x, t: x.clamp_max(0.5),
    "clamp by data": lambda x, t: x.clamp(min=t["u"]),
    "maximum": lambda x, t: torch.maximum(x, t["u"]),
    "minimum": lambda x, t: torch.minimum(x, t["u"]),
    "largest of four": lambda x, t: x.amax(1) * t["s"],
    "largest of two": lambda x, t: x.amax(0, keepdim=True) * t["u"],
    "largest of a map": lambda x, t: x.amax((2, 3)),
    "smallest of three": lambda x, t: x.amin(2),
    "smallest of two": lambda x, t: x.amin(0),
    "where greater": lambda x, t: torch.where(x > t["u"], x, t["u"]),
    "where not less": lambda x, t: torch.where(x.lt(0.5).logical_not(), x, t["u"]),
    "two comparisons": lambda x, t: torch.where((x <= 1) & (t["u"] >= 0), x, 0),
    "one of two comparisons": lambda x, t: torch.where((x <= 0) | (t["u"] == 0) | (x != x), x, 0),
    "clamp between data": lambda x, t: x.clamp_min(t["u"]).clamp_max(t["u"] + 1),
    "a complement of bits": lambda x, t: torch.where(
        (~(x > 0)).logical_and(torch.bitwise_not(x < -1)).logical_or(x > 1), x, t["u"]
    ),
    "masked by data": lambda x, t: x.masked_fill(x > 0.5, 0.5),
    "masked in place": lambda x, t: (x * 1).masked_fill_(t["u"] > 0, 2),
    "nested": lambda x, t: F.relu(x.softmax(1) - t["u"].sigmoid()).amax(1),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_function_of_one_polynomial_is_one_function(name: str) -> None:
    """Whatever computes its argument, a function and its gradient are the same; of another argument not."""
    function = FOLLOWED[name]
    same = certify(of_mixing(function), lambda t: function(convolving(t), t), SHAPES, seed=1)
    assert (same.verdict, same.reason) == ("holds", None)
    other = certify(of_mixing(function), lambda t: function(mixing(t) + t["u"], t), SHAPES, seed=1, trials=3)
    assert (other.verdict, other.reason) == ("refuted", None)


class Real(Notes):
    """The real functions in place of an oracle."""

    def of(self, argument: Any) -> Any:
        """Return numbers for truth values."""
        return (
            argument.double() if isinstance(argument, Tensor) and argument.dtype == torch.bool else argument
        )

    def value(self, name: str, x: Tensor, *, zero: float | None = None, odd: bool = False) -> Tensor:
        """Return the function of that name."""
        found = NAMED[name](x)
        if zero is not None:
            assert float(NAMED[name](x.new_zeros(()))) == zero
        if odd:
            assert torch.equal(NAMED[name](-x), -found)
        return found

    def positive(self, x: Tensor, zero: float) -> Tensor:
        """Return a step."""
        return torch.where(x == 0, zero, (x > 0).double())

    def is_zero(self, x: Tensor) -> Tensor:
        """Return where x is zero."""
        return (x == 0).double()

    def member(self, name: str, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """Return what an element is in its row."""
        if name == "is largest":
            return (x == x.amax(axes, keepdim=True)).double()
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        return (x - mean) / (variance + float(name.split()[-1])).sqrt()

    def share(self, x: Tensor, axis: int, *, empty: bool) -> Tensor:
        """Return a softmax."""
        return x.softmax(axis)

    def whole(self, name: str, x: Tensor, axes: tuple[int, ...], *, keepdim: bool) -> Tensor:
        """Return what a row is."""
        if name == "largest":
            return x.amax(axes, keepdim=keepdim)
        if name == "mean":
            return x.mean(axes, keepdim=keepdim)
        variance = x.var(axes, correction=0, keepdim=keepdim)
        size = math.prod(x.shape[axis] for axis in axes) if "size" in name else 1
        return (variance + float(name.split()[-1])).rsqrt() / size

    def symbol(self, name: str, like: Tensor) -> Tensor:
        """Return the number of that name."""
        return like.new_tensor({"2/√π": 2 / math.sqrt(math.pi)}[name])

    def same(self, first: Tensor, second: Tensor) -> bool:
        """Whether two tensors hold the same."""
        return torch.equal(first, second)

    def one(self, like: Tensor) -> Tensor:
        """Return ones."""
        return torch.ones_like(like)


def gelu_slope(x: Tensor) -> Tensor:
    """Differentiate x·Φ(x)."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2 + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def gelu_by_tanh_slope(x: Tensor) -> Tensor:
    """Differentiate x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2."""
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return (1 + inner.tanh()) / 2 + x / 2 * (1 - inner.tanh() ** 2) * slope


def gelu_by_tanh(x: Tensor) -> Tensor:
    """Approximate GELU."""
    return F.gelu(x, approximate="tanh")


NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(torch, name) for name in ("exp", "sigmoid", "tanh", "erf", "sqrt", "rsqrt")},
    "reciprocal": torch.reciprocal,
    "gelu none": F.gelu,
    "gelu tanh": gelu_by_tanh,
    "slope of gelu none": gelu_slope,
    "slope of gelu tanh": gelu_by_tanh_slope,
}


@cache
def analysed(name: str, *, vjp: bool) -> Analysis:
    """Analyse a program once for all tests."""
    return analyse(of_mixing(FOLLOWED[name]), SHAPES, 0, vjp=vjp)


@pytest.mark.parametrize("vjp", [False, True])
@pytest.mark.parametrize("name", FOLLOWED)
def test_formulas_are_true_of_real_functions(name: str, vjp: bool) -> None:
    """With the real functions for the arbitrary ones, formulas compute what torch computes."""
    program = of_mixing(FOLLOWED[name])
    analysis = analysed(name, vjp=vjp)
    integers = Point.of_integers(program, SHAPES, 2**20, 5, vjp=vjp)
    point = Point(*(halves and {key: x / 2**19 for key, x in halves.items()} for halves in parts(integers)))
    expected = point.evaluate(program)
    trial = Trial(cast(Oracle, Real()), analysis.plan)
    for key, value in point.evaluate(program, trial).items():
        assert value.shape == expected[key].shape
        assert value.stride() == expected[key].stride()
        torch.testing.assert_close(value, expected[key], rtol=1e-11, atol=1e-12)
    trial.demand_finished()


def parts(point: Point) -> tuple[Any, Any]:
    """Return the inputs and the cotangents."""
    return point.inputs, point.cotangents


def test_every_function_is_tried() -> None:
    """Each operation that is replaced occurs in a program above, or is another form of one that does."""
    seen: set[str] = set()
    for name, vjp in itertools.product(FOLLOWED, (False, True)):
        seen |= {operation.split("[")[0] for operation in analysed(name, vjp=vjp).operations}
    assert {
        name for name in (*FUNCTIONS, *POLYNOMIALS) if name not in seen and not name.endswith("_")
    } == set()


class Checking(Shadow):
    """A shadow that checks after every operation that it bounds what the operation computed."""

    def _apply(self, name: str, call: Any, outputs: list[Tensor]) -> None:
        super()._apply(name, call, outputs)
        for out in outputs:
            seen = self.see(out)
            # What a softmax leaves out has no size.
            value = out.detach().double().masked_fill(out.isneginf(), 0.0)
            assert bool((value.abs() <= seen.terms * 3.0**seen.degree.total).all()), name
            assert torch.equal(value * 2.0**seen.degree.grain, (value * 2.0**seen.degree.grain).round()), name
            assert (
                float(value.abs().max()) * 2.0**seen.degree.grain <= self.largest * 3.0**self.highest_degree
            )


ROWS = torch.tensor([0, 2, 2, 1])
STEPS: list[Callable[[list[Tensor], random.Random], Tensor]] = [
    lambda pool, choose: choose.choice(pool) - choose.choice(pool) / 2,
    lambda pool, choose: choose.choice(pool) * choose.choice(pool) * 0.75,
    lambda pool, choose: choose.choice(pool) @ choose.choice(pool),
    lambda pool, choose: choose.choice(pool).softmax(choose.choice([0, 1])),
    lambda pool, choose: choose.choice(pool).tril().masked_fill(ROWS > 1, -torch.inf).softmax(1),
    lambda pool, choose: choose.choice(pool).relu(),
    lambda pool, choose: choose.choice(pool).mul(0.5).relu_(),
    lambda pool, choose: choose.choice(pool).abs() + choose.choice(pool).sign(),
    lambda pool, choose: torch.maximum(choose.choice(pool), choose.choice(pool)),
    lambda pool, choose: torch.where(choose.choice(pool) > 0.5, choose.choice(pool), choose.choice(pool)),
    lambda pool, choose: choose.choice(pool).clamp(-0.5, 2),
    lambda pool, choose: F.leaky_relu(choose.choice(pool), 0.125),
    lambda pool, choose: F.prelu(choose.choice(pool), choose.choice(pool)[0]),
    lambda pool, choose: choose.choice(pool).amax(0, keepdim=True) + choose.choice(pool),
    lambda pool, choose: choose.choice(pool).exp() + choose.choice(pool).sigmoid(),
    lambda pool, choose: choose.choice(pool) / choose.choice(pool),
    lambda pool, choose: F.gelu(choose.choice(pool)) - choose.choice(pool).tanh(),
    lambda pool, choose: F.silu(choose.choice(pool)) + choose.choice(pool).mean(1, keepdim=True),
    lambda pool, choose: F.layer_norm(choose.choice(pool), (4,), choose.choice(pool)[1]),
    lambda pool, choose: choose.choice(pool).sqrt() + choose.choice(pool).mean(0),
    lambda pool, choose: F.adaptive_avg_pool2d(choose.choice(pool)[None], (2, 2)).repeat(1, 2, 2)[0],
    lambda pool, choose: F.avg_pool2d(choose.choice(pool)[None], (1, 2), (1, 2))[0].repeat(1, 2),
]


@pytest.mark.parametrize("seed", range(40))
def test_bounds_hold_for_every_intermediate(seed: int) -> None:
    """In any program |value| ≤ terms·mᴰ and value·2ᵍ is an integer, forward and backward."""
    choose = random.Random(seed)
    functions = Uninterpreted(Oracle(3, seed, Past()))
    shadow = Checking(RULES, replacement=functions)
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.randint(-3, 4, (4, 4), generator=generator).double().requires_grad_() for _ in range(3)]
    cotangent = torch.randint(-3, 4, (4, 4), generator=generator).double()
    for number, tensor in enumerate([*leaves, cotangent]):
        shadow.track(str(number), tensor, 1.0)
    with shadow:
        pool = [*leaves]
        for _ in range(4):
            pool.append(choose.choice(STEPS)(pool, choose))
        torch.autograd.grad(pool[-1], leaves, cotangent, allow_unused=True)
    assert functions.bounds.highest_degree <= shadow.highest_degree * 3 + 3


def test_every_function_names_an_operation_of_torch() -> None:
    """A typing mistake in the tables would silently refuse good programs."""
    names = [*FUNCTIONS, *POLYNOMIALS]
    assert [name for name in names if not hasattr(torch.ops.aten, name.removeprefix("aten."))] == []
