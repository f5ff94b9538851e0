"""The shadow of a program: degrees, terms and roundings, and what it refuses to follow."""

from __future__ import annotations

import copy
import ctypes
import io
import math
import pickle
import random
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.rules import RULES
from harness.bench.proof.shadow import RefusedError, Seen, Shadow, TooLargeError

SHAPES = {"x": (2, 4, 5, 3), "w": (4, 2, 3, 3), "m": (4, 4), "u": (2, 4, 5, 3)}
Program = Callable[[dict[str, Tensor]], Tensor]


def drawn(seed: int = 0, size: int = 3) -> dict[str, Tensor]:
    """Draw integer inputs of every shape that the programs use."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randint(-size, size + 1, shape, generator=generator).double()
        for name, shape in SHAPES.items()
    }


def follow(program: Program, shadow: Shadow | None = None) -> Seen:
    """Follow a program on inputs of size one and return what is known of its result."""
    shadow = shadow or Shadow(RULES)
    inputs = drawn()
    for name, tensor in inputs.items():
        shadow.track(name, tensor, 1.0)
    with torch.no_grad(), shadow:
        result = program(inputs)
    return shadow.see(result)


def in_place_shifts(t: dict[str, Tensor]) -> Tensor:
    """Add shifted copies of a padded map into a total."""
    padded, total = F.pad(t["x"], (1, 1, 1, 1)), torch.zeros_like(t["x"])
    for row in range(3):
        for column in range(3):
            total[:, :2].addcmul_(padded[:, :2, row : row + 5, column : column + 3], t["u"][:, :2])
    return total


def written_piecewise(t: dict[str, Tensor]) -> Tensor:
    """Fill memory that held nothing, piece by piece."""
    result = torch.empty_like(t["x"])
    result[:, :2], result[:, 2:] = t["x"][:, :2] * t["u"][:, :2], 7
    return result


def cubed_in_place(t: dict[str, Tensor]) -> Tensor:
    """Multiply a copy by itself."""
    result = t["x"].clone()
    return result.mul_(t["x"]).mul_(t["x"])


def moved_about(t: dict[str, Tensor]) -> Tensor:
    """Move elements without changing any."""
    flat = t["x"].permute(0, 2, 3, 1).reshape(2, -1).roll(3, 1).flip(0)
    return torch.cat([flat[:, ::2], flat.new_zeros(2, 3)], 1).unfold(1, 5, 2).contiguous()


ROWS = torch.tensor([0, 2, 2, 1])
MASK = torch.tensor([True, False, True])
DEGREES: dict[str, tuple[Program, dict[str, tuple[int, int]]]] = {
    "sum": (lambda t: t["x"] + t["u"], {"x": (0, 1), "u": (0, 1)}),
    "difference with a constant": (lambda t: 3 - t["x"], {"x": (0, 1)}),
    "sum with zero": (lambda t: t["x"] + torch.zeros(3), {"x": (1, 1)}),
    "product": (lambda t: t["x"] * t["u"], {"x": (1, 1), "u": (1, 1)}),
    "square": (lambda t: t["x"] * t["x"] * 2, {"x": (2, 2)}),
    "cube": (lambda t: t["x"] ** 3 + t["x"] ** 2, {"x": (2, 3)}),
    "product of sums": (lambda t: (t["x"] + 1) * (t["x"] - t["u"]), {"x": (0, 2), "u": (0, 1)}),
    "views": (moved_about, {"x": (1, 1)}),
    "in-place shifts": (in_place_shifts, {"x": (1, 1), "u": (1, 1)}),
    "in-place products": (cubed_in_place, {"x": (3, 3)}),
    "pieces": (written_piecewise, {"x": (0, 1), "u": (0, 1)}),
    "convolution": (lambda t: F.conv2d(t["x"], t["w"], padding=1, groups=2), {"x": (1, 1), "w": (1, 1)}),
    "convolution with bias": (
        lambda t: F.conv2d(t["x"], t["w"], t["m"][0], groups=2),
        {"x": (0, 1), "m": (0, 1)},
    ),
    "matrix product": (lambda t: t["m"] @ t["m"] @ t["x"].flatten(2), {"m": (2, 2), "x": (1, 1)}),
    "einsum": (
        lambda t: torch.einsum("bchw,oc,bohw->bo", t["x"], t["m"], t["u"]),
        {"x": (1, 1), "m": (1, 1)},
    ),
    "linear": (lambda t: F.linear(t["m"], t["m"], t["m"][0]), {"m": (1, 2)}),
    "unfold and fold": (
        lambda t: F.fold(F.unfold(t["x"], 3, padding=1), (5, 3), 3, padding=1) * t["x"],
        {"x": (2, 2)},
    ),
    "gather": (lambda t: t["x"][:, ROWS].index_select(2, ROWS) * t["m"][0, 0], {"x": (1, 1), "m": (1, 1)}),
    "index_add": (lambda t: torch.zeros_like(t["m"]).index_add(0, ROWS, t["m"] * t["m"]), {"m": (2, 2)}),
    "scatter_add": (
        lambda t: torch.zeros_like(t["m"]).scatter_add(0, ROWS.expand(4, 4), t["m"] * t["m"]),
        {"m": (2, 2)},
    ),
    "index_put": (lambda t: t["m"].clone().index_put((ROWS[:3],), t["m"][:3] * t["m"][0]), {"m": (1, 2)}),
    "where": (lambda t: torch.where(MASK, t["x"] * t["x"], t["x"]), {"x": (1, 2)}),
    "masked filling": (lambda t: t["x"].masked_fill(MASK, 2), {"x": (0, 1)}),
    "masked filling by data": (lambda t: t["x"].masked_fill(MASK, (t["m"] * t["m"])[0, 0]), {"m": (0, 2)}),
    "padding": (lambda t: F.pad(t["x"], (1, 2)) * F.pad(t["x"], (1, 2), value=3), {"x": (1, 2)}),
    "stack and unbind": (lambda t: torch.stack(t["x"].unbind(1)[::2]).sum(0), {"x": (1, 1)}),
    "vmap": (lambda t: torch.func.vmap(lambda row: (row * row).sum())(t["m"]), {"m": (2, 2)}),
}


@pytest.mark.parametrize("name", DEGREES)
def test_degrees_are_those_of_the_program(name: str) -> None:
    """The derived range holds every degree that occurs; for these programs it is exact."""
    program, expected = DEGREES[name]
    found = follow(program).degree
    assert {letter: found.range_in(letter) for letter in expected} == expected


@pytest.mark.parametrize("name", DEGREES)
def test_derived_degrees_are_measured_ones(name: str) -> None:
    """Finite differences along each input give the highest degree that really occurs."""
    program, expected = DEGREES[name]
    for letter, (low, high) in expected.items():
        inputs = drawn(seed=1)
        values = [program({**inputs, letter: inputs[letter] * step}) for step in range(high + 3)]
        orders = [torch.stack(values)]
        while len(orders) < high + 2:
            orders.append(orders[-1].diff(dim=0))
        assert bool(orders[high][0].any())
        assert not orders[high + 1][0].any()
        assert low == 0 or not values[0].any()


def test_backward_degrees_are_those_of_the_gradient() -> None:
    """The gradient of x²·w with respect to x is 2·x·w times the cotangent."""
    shadow, inputs = Shadow(RULES), drawn()
    cotangent = torch.ones(4, 4, dtype=torch.float64)
    x, m = inputs["u"][0, :, :4, 0].clone(), inputs["m"]
    for name, tensor in {"x": x.requires_grad_(), "m": m.requires_grad_(), "g": cotangent}.items():
        shadow.track(name, tensor, 1.0)
    with shadow:
        by_x, by_m = torch.autograd.grad(x * x @ m, (x, m), cotangent)
    found = shadow.see(by_x).degree, shadow.see(by_m).degree
    assert [[degree.range_in(name) for name in "xmg"] for degree in found] == [
        [(1, 1), (1, 1), (1, 1)],
        [(2, 2), (0, 0), (1, 1)],
    ]


@pytest.mark.parametrize(
    ("program", "largest"),
    [
        (lambda t: t["m"] @ t["m"], 4),
        (lambda t: t["x"].sum(), 120),
        (lambda t: t["x"] * -5 + t["u"] - 2, 8),
        (lambda t: F.conv2d(t["x"], t["w"], padding=1, groups=2), 18),
        (lambda t: F.fold(F.unfold(t["x"], 3), (5, 3), 3), 3),
        (lambda t: in_place_shifts(t), 9),
    ],
)
def test_terms_count_what_is_added(program: Program, largest: float) -> None:
    """With every input of size one the terms are the number of products that meet, with their factors."""
    assert float(follow(program).terms.max()) == largest


def test_terms_know_the_border() -> None:
    """A tap on padding is no term: 4 at a corner, 6 at an edge, 9 inside."""
    ones = {
        "x": torch.ones(1, 1, 5, 4, dtype=torch.float64),
        "w": torch.ones(1, 1, 3, 3, dtype=torch.float64),
    }
    shadow = Shadow(RULES)
    for name, tensor in ones.items():
        shadow.track(name, tensor, 1.0)
    with shadow:
        result = F.conv2d(ones["x"], ones["w"], padding=1)
    assert torch.equal(shadow.see(result).terms, result)
    assert shadow.see(result).terms.unique().tolist() == [4, 6, 9]


@pytest.mark.parametrize(
    ("program", "roundings"),
    [
        (lambda t: t["x"].permute(1, 0, 2, 3)[:2], 0),
        (lambda t: -t["x"], 0),
        (lambda t: t["x"] * t["u"], 1),
        (lambda t: t["x"] * t["u"] + t["x"], 2),
        (lambda t: t["x"] * 0.1, 2),
        (lambda t: t["m"] @ t["m"], 5),
        (lambda t: t["x"].sum(1), 4),
        (lambda t: F.conv2d(t["x"], t["w"], groups=2), 19),
        (lambda t: F.conv_transpose2d(t["x"], t["w"]), 37),
        (lambda t: F.fold(F.unfold(t["x"][..., :3, :], 3, padding=1), (3, 3), 3, padding=1), 9),
        (lambda t: F.fold(F.unfold(t["x"], 3), (5, 3), 3), 3),
    ],
)
def test_roundings_count_the_operations_on_an_element(program: Program, roundings: float) -> None:
    """Each addition and multiplication that an element goes through is one rounding at most."""
    assert follow(program, Shadow(RULES, unit=2.0**-24, exact=False)).roundings == roundings


class Checking(Shadow):
    """A shadow that checks after every operation that it bounds what the operation computed."""

    def _apply(self, name: str, call: Any, outputs: list[Tensor]) -> None:
        super()._apply(name, call, outputs)
        for out in outputs:
            seen = self.see(out)
            bound = seen.terms * 3.0**seen.degree.total
            assert bool((out.detach().abs() <= bound).all()), name


STEPS: list[Callable[[list[Tensor], random.Random], Tensor]] = [
    lambda pool, choose: choose.choice(pool) + choose.choice(pool),
    lambda pool, choose: choose.choice(pool) - 2 * choose.choice(pool),
    lambda pool, choose: choose.choice(pool) * choose.choice(pool),
    lambda pool, choose: choose.choice(pool) @ choose.choice(pool),
    lambda pool, choose: choose.choice(pool).T.contiguous(),
    lambda pool, choose: choose.choice(pool) ** 2,
    lambda pool, choose: F.pad(choose.choice(pool), (1, 0, 0, 1), value=2)[:4, :4],
    lambda pool, choose: choose.choice(pool).clone().add_(choose.choice(pool)[:1]),
    lambda pool, choose: F.conv2d(
        choose.choice(pool)[None, None], choose.choice(pool)[None, None, :3, :3], padding=1
    )[0, 0],
    lambda pool, choose: choose.choice(pool).sum(0, keepdim=True).expand(4, 4),
    lambda pool, choose: torch.zeros(4, 4).double().index_add(0, ROWS, choose.choice(pool)),
    lambda pool, choose: choose.choice(pool).clone().mul_(choose.choice(pool)).roll(1, 0),
    lambda pool, choose: torch.addcmul(
        choose.choice(pool), choose.choice(pool), choose.choice(pool), value=-3
    ),
]


@pytest.mark.parametrize("seed", range(30))
def test_the_shadow_bounds_every_intermediate(seed: int) -> None:
    """In any program |value| ≤ terms · mᴰ, forward and backward, whatever was composed."""
    choose = random.Random(seed)
    shadow, generator = Checking(RULES), torch.Generator().manual_seed(seed)
    leaves = [torch.randint(-3, 4, (4, 4), generator=generator).double().requires_grad_() for _ in range(3)]
    cotangent = torch.randint(-3, 4, (4, 4), generator=generator).double()
    for number, tensor in enumerate([*leaves, cotangent]):
        shadow.track(str(number), tensor, 1.0)
    with shadow:
        pool = [*leaves]
        for _ in range(5):
            pool.append(choose.choice(STEPS)(pool, choose))
        torch.autograd.grad(pool[-1], leaves, cotangent, allow_unused=True)
    values = [tensor.detach().abs().max() for tensor in pool]
    assert float(max(values)) <= shadow.largest * 3.0**shadow.highest_degree


def through_a_file(x: Tensor) -> Tensor:
    """Save a tensor and load it."""
    memory = io.BytesIO()
    torch.save(x, memory)
    memory.seek(0)
    loaded: Tensor = torch.load(memory)
    return x * loaded


def read_by_pointer(x: Tensor) -> Tensor:
    """Read the first element where it lies."""
    return x * float(ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_double))[0])


def edited_in_a_list(x: Tensor) -> Tensor:
    """Edit constants by an operation that returns nothing."""
    factors = torch.ones(3, dtype=torch.float64)
    torch._foreach_mul_([factors], 1000.0)
    return x * factors


def half_written(x: Tensor) -> Tensor:
    """Read two rows of which one was written."""
    result = torch.empty_like(x)
    result[0] = 1
    return x + result


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "numpy": (lambda x: x * torch.from_numpy(x.numpy()), "Tensor.numpy carries data out of torch"),
    "array": (lambda x: x * torch.from_numpy(np.asarray(x)), "Tensor.__array__ carries data out of torch"),
    "tolist": (lambda x: torch.tensor(x.tolist()), "Tensor.tolist carries data out of torch"),
    "item": (lambda x: x * x[0, 0].item(), "Tensor.item carries data out of torch"),
    "float": (lambda x: x * float(x[0, 0]), "Tensor.__float__ carries data out of torch"),
    "int": (lambda x: x * int(x[0, 0]), "Tensor.__int__ carries data out of torch"),
    "index": (lambda x: x[:, : x[0, 0].to(torch.int64)], "aten._to_copy turns the data into torch.int64"),
    "branch": (lambda x: -x if x[0, 0] else x, "Tensor.__bool__ carries data out of torch"),
    "branch on a comparison": (lambda x: -x if x.sum() > 100 else x, "aten.gt has no rule"),
    "branch on equality": (
        lambda x: -x if torch.equal(x, 2 * x) else x,
        "aten.equal carries data out of torch",
    ),
    "branch on zero": (
        lambda x: -x if x[0, 0].is_nonzero() else x,
        "aten._local_scalar_dense carries data out of torch",
    ),
    "branch on closeness": (
        lambda x: -x if torch.allclose(x, 2 * x) else x,
        "aten.allclose carries data out of torch",
    ),
    "text": (lambda x: x * len(str(x)), "Tensor.__repr__ carries data out of torch"),
    "formatting": (lambda x: x * len(f"{x[0, 0]:.1f}"), "Tensor.__format__ carries data out of torch"),
    "deepcopy": (lambda x: x * copy.deepcopy(x), "Tensor.__deepcopy__ carries data out of torch"),
    "pickle": (
        lambda x: x * pickle.loads(pickle.dumps(x)),
        "Tensor.untyped_storage carries data out of torch",
    ),
    "file": (through_a_file, "Tensor.untyped_storage carries data out of torch"),
    "pointer": (read_by_pointer, "Tensor.data_ptr carries data out of torch"),
    "scalar argument": (
        lambda x: x * torch.full((3,), cast(Any, x[0, 0])),
        "aten._local_scalar_dense carries data out of torch",
    ),
    "mask from data": (lambda x: torch.where(x > 100, 0, x), "aten.gt has no rule"),
    "positions of data": (lambda x: x[x.nonzero()[0]], "aten.nonzero has no rule"),
    "largest": (lambda x: x * x.max(), "aten.max has no rule"),
    "absolute": (lambda x: x.abs(), "aten.abs has no rule"),
    "negative part": (lambda x: x.clamp(min=0), "aten.clamp has no rule"),
    "relu": (lambda x: F.relu(x), "aten.relu is no polynomial"),
    "power": (lambda x: x**4, "aten.pow with the exponent 4"),
    "root as a power": (lambda x: x**0.5, "aten.pow with the exponent 0.5"),
    "power of data": (lambda x: x**x, "aten.pow with the exponent of data"),
    "softmax": (lambda x: x.softmax(0), "aten._softmax is no polynomial"),
    "sigmoid": (lambda x: x.sigmoid(), "aten.sigmoid is no polynomial"),
    "exp": (lambda x: x.exp(), "aten.exp is no polynomial"),
    "root": (lambda x: (x * x).sqrt(), "aten.sqrt is no polynomial"),
    "reciprocal": (lambda x: 1 / x, "aten.reciprocal is no polynomial"),
    "division": (lambda x: x / 3, "aten.div by 3, which is no power of two"),
    "division by constants": (
        lambda x: x / torch.tensor([4.0, 2.0, 6.0]),
        "aten.div by 6, which is no power of two",
    ),
    "division of a constant": (lambda x: torch.ones(3) / x, "aten.div is no polynomial"),
    "mean": (lambda x: x.mean(1), "aten.mean over 3 elements, which is no power of two"),
    "average": (
        lambda x: F.avg_pool1d(x, 3),
        "aten.avg_pool2d over 3 elements, which is no power of two",
    ),
    "average beside padding": (
        lambda x: F.avg_pool1d(x, 2, padding=1, count_include_pad=False),
        "aten.avg_pool2d over windows of several sizes",
    ),
    "average over uneven windows": (
        lambda x: F.adaptive_avg_pool2d(x[None], (2, 2)),
        "aten._adaptive_avg_pool2d over windows of several sizes",
    ),
    "coefficient": (lambda x: x * 0.1, "aten.mul with the coefficient 0.1, which is no multiple of 1/65536"),
    "coefficient that is too fine": (
        lambda x: x * 2.0**-17,
        "aten.mul with the coefficient 7.62939453125e-06, which is no multiple of 1/65536",
    ),
    "coefficient of a sum": (
        lambda x: torch.add(x, x, alpha=0.1),
        "aten.add with the coefficient 0.1, which is no multiple of 1/65536",
    ),
    "infinite coefficient": (
        lambda x: x * torch.inf,
        "aten.mul with the coefficient inf, which is no multiple of 1/65536",
    ),
    "filling": (
        lambda x: x.masked_fill(MASK, torch.inf),
        "aten.masked_fill with the coefficient inf, which is no multiple of 1/65536",
    ),
    "product with minus infinity": (
        lambda x: x.masked_fill(MASK, -torch.inf) * x,
        "aten.mul meets minus infinity, which only a softmax or an exponential can take",
    ),
    "difference of infinities": (
        lambda x: (masked := x.masked_fill(MASK, -torch.inf)) - masked,
        "aten.sub meets minus infinity, which only a softmax or an exponential can take",
    ),
    "sum that is no number": (
        lambda x: x.masked_fill(MASK, -torch.inf).add(x.masked_fill(MASK, -torch.inf), alpha=-1),
        "aten.add meets minus infinity, which only a softmax or an exponential can take",
    ),
    "padding": (
        lambda x: F.pad(x, (1, 1), value=0.3),
        "aten.constant_pad_nd with the coefficient 0.3, which is no multiple of 1/65536",
    ),
    "factor of a product": (
        lambda x: torch.addmm(x[:, :2], x, x.T, alpha=2),
        "aten.addmm with a factor other than 1",
    ),
    "factor of a scatter": (
        lambda x: x.index_add(0, ROWS[:2] // 2, x[:2], alpha=-1),
        "aten.index_add with a factor other than 1",
    ),
    "constant": (
        lambda x: x * torch.tensor([0.1, 1.0, 2.0], dtype=torch.float64),
        "a constant of the program is 0.1, which is no multiple of 1/65536",
    ),
    "new constant": (
        lambda x: x * x.new_full((3,), 0.1),
        "a constant of the program is 0.1, which is no multiple of 1/65536",
    ),
    "infinite constant": (
        lambda x: x * torch.tensor(torch.inf),
        "a constant of the program is inf, which is no multiple of 1/65536",
    ),
    "constant that is minus infinity": (
        lambda x: x * torch.tensor(-torch.inf),
        "aten.mul meets minus infinity, which only a softmax or an exponential can take",
    ),
    "constant that is none": (
        lambda x: x * torch.tensor(torch.nan),
        "a constant of the program is not a number",
    ),
    "cast": (lambda x: x.float().double(), "aten._to_copy turns the data into torch.float32"),
    "cast by copying": (
        lambda x: torch.empty(2, 3).copy_(x).double(),
        "aten.copy_ turns the data into torch.float32",
    ),
    "cast of the result": (
        lambda x: torch.mul(x, x, out=torch.empty(2, 3)),
        "aten.mul turns the data into torch.float32",
    ),
    "cast of a sum": (lambda x: x.sum(dtype=torch.float32), "aten.sum turns the data into torch.float32"),
    "bits": (
        lambda x: (x.view(torch.int64) + 1).view(torch.float64),
        "aten.view turns the data into torch.int64",
    ),
    "bits of constants": (
        lambda x: x * torch.ones(3, dtype=torch.float64).view(torch.int64),
        "memory is written as torch.float64 and read as torch.int64",
    ),
    "dropout": (lambda x: F.dropout(x, 0.1), "aten.bernoulli_ draws random numbers"),
    "noise": (lambda x: x + torch.randn(3), "aten.randn draws random numbers"),
    "unwritten memory": (lambda x: x + torch.empty_like(x), "aten.add reads memory that was never written"),
    "unwritten memory with strides": (
        lambda x: x + torch.empty_strided((3,), (1,), dtype=torch.float64),
        "aten.add reads memory that was never written",
    ),
    "unwritten constants": (
        lambda x: x + 2 * torch.empty(3).zero_()[:1] + torch.empty(3),
        "aten.add reads memory that was never written",
    ),
    "half-written memory": (half_written, "aten.add reads memory that was never written"),
    "a list edited in place": (edited_in_a_list, "aten._foreach_mul_ edits a tensor that it does not return"),
    "other memory": (lambda x: torch.empty(0).double().set_(cast(Any, x * x)), "aten.set_ has no rule"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
def test_what_cannot_be_followed_is_refused(name: str) -> None:
    """Every way by which data, casts or roundings could pass unseen is refused by its name."""
    program, told = REFUSED[name]
    with pytest.raises(RefusedError) as refused:
        follow(lambda t: program(t["x"][0, 0, :2].clone()))
    assert str(refused.value) == told


def test_views_of_one_constant_are_one_constant() -> None:
    """A view of a constant that was first met by another view is known in full."""
    memory = torch.tensor([0.0, 1000.0], dtype=torch.float64)
    first, second = memory[:1], memory[1:]
    shadow = Shadow(RULES)
    found = follow(lambda t: t["x"] * first + t["x"] * second, shadow)
    assert (found.degree.range_in("x"), float(found.terms.max())) == ((1, 1), 1000.0)
    assert [constant.tolist() for constant in shadow.constants] == [[0.0, 1000.0]]


def test_a_result_has_terms_of_its_own() -> None:
    """What is written to a copy changes neither the bound of its source nor that of another copy."""

    def program(t: dict[str, Tensor]) -> Tensor:
        first, second = t["x"].clone(), t["x"].clone()
        halves = t["x"].split(2, dim=1)
        joined = torch.cat(halves, 1)
        for copied in (first, joined):
            copied.add_(t["u"]).mul_(3)
        return torch.stack([t["x"], first, second, joined, halves[0].repeat(1, 2, 1, 1)])

    terms = follow(program).terms
    assert [sorted(set(part.flatten().tolist())) for part in terms] == [[1], [6], [1], [6], [1]]


def test_terms_of_every_layout_are_kept() -> None:
    """Transposed, expanded and partly used memory is bounded element by element."""

    def program(t: dict[str, Tensor]) -> Tensor:
        turned = (t["m"].T * torch.arange(4.0, dtype=torch.float64)).contiguous()
        spread = turned[:, :1].expand(4, 4).clone()
        turned[1:, 1:].mul_(10)
        return torch.stack([turned, spread, turned.T.clone()])

    first, spread, turned = follow(program).terms
    assert first.tolist() == [[0, 1, 2, 3], *([[0, 10, 20, 30]] * 3)]
    assert (spread == 0).all()
    assert turned.tolist() == first.T.tolist()


def test_a_limit_on_terms_ends_the_program() -> None:
    """Where terms reach the limit nothing is followed any further; below it everything is."""
    calls: list[str] = []

    def program(t: dict[str, Tensor]) -> Tensor:
        wide = t["x"] * 8
        calls.append("wide")
        wide = wide * t["u"] * 2
        calls.append("wider")
        return wide

    follow(program, Shadow(RULES, below=16.5))
    assert calls == ["wide", "wider"]
    with pytest.raises(TooLargeError, match=r"^terms reach 16, the limit is 16$"):
        follow(program, Shadow(RULES, below=16))
    assert calls == ["wide", "wider", "wide"]


def test_infinities_are_looked_for_wherever_they_come_from() -> None:
    """An input, a constant, a number and a product of large ones may be infinite."""
    sources: dict[str, Program] = {
        "input": lambda t: t["m"] * t["i"],
        "constant": lambda t: t["m"] * torch.tensor([1, 2, 3, -math.inf], dtype=torch.float64),
        "made constant": lambda t: t["m"] * torch.zeros(4).double().log(),
        "new constant": lambda t: t["m"] * t["m"].new_full((4,), -math.inf),
        "number": lambda t: t["m"].masked_fill(torch.eye(4, dtype=torch.bool), -math.inf) * t["m"],
        "overflow": lambda t: (t["m"] * -(2.0**600) * (t["m"] * 2.0**600)) * t["m"],
    }
    for name, program in sources.items():
        shadow, inputs = Shadow(RULES), drawn(seed=1) | {"i": torch.full((4, 4), -math.inf).double()}
        for key, tensor in inputs.items():
            shadow.track(key, tensor, 1.0)
        with pytest.raises(RefusedError, match="meets minus infinity"), torch.no_grad(), shadow:
            program(inputs)
        assert name


@pytest.mark.parametrize(
    ("program", "roundings"),
    [
        (lambda t: F.fold(t["x"].reshape(2, 20, 3), (4, 1), (2, 1)), 2),
        (lambda t: F.fold(t["x"].reshape(2, 12, 5)[..., :4], (3, 3), (2, 2)), 4),
        (lambda t: F.fold(t["x"].reshape(2, 12, 5)[..., :4], (4, 4), (2, 2), stride=2), 1),
        (lambda t: t["x"].sum((0, 2)), 10),
        (lambda t: t["x"].sum(), 120),
        (lambda t: t["m"].trace(), 4),
        (lambda t: t["m"][:2].trace(), 2),
    ],
)
def test_a_sum_is_counted_anew_at_every_shape(program: Program, roundings: float) -> None:
    """The terms of a result are those of its own shape, whatever was followed before."""
    assert follow(program, Shadow(RULES, unit=2.0**-24, exact=False)).roundings == roundings


def test_freed_memory_is_no_longer_known() -> None:
    """A tensor that gets the memory of a freed one does not get its shadow."""

    def program(t: dict[str, Tensor]) -> Tensor:
        for _ in range(50):
            t["x"] * t["x"]
        return t["u"] * 2

    found = follow(program).degree
    assert (found.range_in("x"), found.range_in("u")) == ((0, 0), (1, 1))


def test_plain_arguments_are_part_of_what_was_done() -> None:
    """Two passes can be told apart by a number that is no tensor."""
    shadow = Shadow(RULES)
    follow(lambda t: (t["x"] * 2).sum(1), shadow)
    assert shadow.operations == ["aten.mul['2']", "aten.sum['1']"]


def test_the_backend_of_a_convolution_is_noted() -> None:
    """Some kernels are not exact, so the evidence names the one that ran."""
    shadow = Shadow(RULES)
    follow(lambda t: F.conv2d(t["x"], t["w"], groups=2), shadow)
    assert len(shadow.backends) == 1


def test_every_rule_names_an_operation_of_torch() -> None:
    """A typing mistake in the table of rules would silently refuse good programs."""
    assert [name for name in RULES if not hasattr(torch.ops.aten, name.removeprefix("aten."))] == []
