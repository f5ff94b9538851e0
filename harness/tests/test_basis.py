"""Packed basis vectors: every coefficient is read, none is mistaken for another, and no cheat passes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.basis import certify_on_basis
from harness.bench.proof.complete import Complete
from harness.bench.proof.packing import Box

SHAPES = {"x": (2, 4, 3, 5), "w": (4, 4)}
Inputs = dict[str, Tensor]
Program = Callable[[Inputs], Any]


def mixing(t: Inputs) -> Tensor:
    """Mix channels: y = w·x at every position."""
    return torch.einsum("oc,bchw->bohw", t["w"], t["x"])


def convolving(t: Inputs) -> Tensor:
    """Mix channels by a 1×1 convolution."""
    return F.conv2d(t["x"], t["w"][:, :, None, None])


def against(right: Program, left: Program = mixing, **options: Any) -> Complete:
    """Hold a program against mixing."""
    return certify_on_basis(left, right, options.pop("shapes", SHAPES), seed=5, **options)


def test_a_true_identity_holds_with_its_numbers() -> None:
    """Four weights meet four values in a result; all sixteen products fit into one call, in base five."""
    found = against(convolving)
    assert (found.verdict, found.method, found.difference, found.reason) == ("holds", "basis", None, None)
    details = found.details
    assert (details["variables"], details["calls"], details["products"]) == (120 + 16, 2, 16)
    assert (details["base"], details["digits"], details["product"]) == (5, 16, None)
    assert len(details["backends"]) == 1


def test_a_call_holds_as_many_products_as_stay_exact() -> None:
    """In base five 2⁵³ has 23 digits, so a hundred products take five calls, and one for the constants."""
    shapes = {"x": (100,), "w": (1,)}
    summed = certify_on_basis(
        lambda t: t["w"] * t["x"].sum(), lambda t: (t["w"] * t["x"]).sum(0, keepdim=True), shapes, seed=5
    )
    assert summed.verdict == "holds"
    assert (summed.details["products"], summed.details["base"]) == (100, 5)
    assert (summed.details["calls"], summed.details["digits"]) == (1 + 5, 20)


def one_coefficient(t: Inputs) -> Tensor:
    """Differ by one at one product of one result."""
    result = mixing(t)
    result[1, 3, 2, 4] += t["w"][3, 1] * t["x"][1, 1, 2, 4]
    return result


def test_a_difference_in_one_coefficient_is_found_and_named() -> None:
    """The counterexample is the product itself: both coefficients, and which variables are one."""
    found = against(one_coefficient)
    assert found.verdict == "refuted"
    assert found.difference is not None
    assert (found.difference.result, found.difference.index) == ("output", (1, 3, 2, 4))
    assert (found.difference.left, found.difference.right) == (1, 2)
    assert found.details["product"] == [["x", [1, 1, 2, 4]], ["w", [3, 1]]]


PAIR = {"x": (3,), "w": (3,)}


def dot(t: Inputs) -> Tensor:
    """Multiply two vectors."""
    return t["x"] @ t["w"]


UNSEEN_BY_FEW: dict[str, Program] = {
    "one group alone": lambda t: dot(t) + t["x"][0] * t["w"][1],
    "equal vectors": lambda t: dot(t) + t["x"][0] * t["w"][1] - t["x"][1] * t["w"][0],
    "equal basis vectors": lambda t: dot(t) + t["x"][2] * t["w"][0],
    "all ones": lambda t: dot(t) + t["x"][0] * t["w"][1] - t["x"][1] * t["w"][2],
    "powers of five": lambda t: dot(t) + 5 * t["x"][0] * t["w"][1] - t["x"][1] * t["w"][1],
    "powers of two": lambda t: dot(t) + 2 * t["x"][0] * t["w"][1] - t["x"][1] * t["w"][1],
}


@pytest.mark.parametrize("name", UNSEEN_BY_FEW)
def test_a_difference_that_cancels_elsewhere_is_found(name: str) -> None:
    """It vanishes on single basis vectors, where both are equal, or at all ones; on products it shows."""
    found = against(UNSEEN_BY_FEW[name], dot, shapes=PAIR)
    assert found.verdict == "refuted"
    assert found.details["product"] is not None
    assert len(found.details["product"]) == 2


@pytest.mark.parametrize("shift", range(-7, 8))
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_coefficients_at_the_limit_of_a_digit_do_not_alias(size: int, shift: int) -> None:
    """A carry from one digit into the next, and a coefficient one off, are never the same number.

    Without ``shift`` the programs are equal. With it, the first coefficient is off by ±size, as far as the
    digits are meant to reach, and the next one makes up for that in some base up to fifteen.
    """
    signs = torch.tensor([1.0, -1.0, 1.0])

    def left(t: Inputs) -> Tensor:
        return (size * signs * t["x"]).sum()

    def right(t: Inputs) -> Tensor:
        return (size * signs * t["x"]).sum() - shift * (size * t["x"][0]) + t["x"][1] * (shift != 0)

    found = certify_on_basis(left, right, {"x": (3,)}, seed=0)
    assert found.verdict == ("holds" if shift == 0 else "refuted")
    assert found.details["base"] > 2 * max(size, 1)


def form_of(coefficients: Tensor) -> Program:
    """Return the bilinear form with given coefficients."""
    return lambda t: (t["x"][:, None] * coefficients * t["w"]).sum()


def test_all_small_forms_are_told_apart() -> None:
    """Of every two bilinear forms with coefficients −2 to 2 exactly the equal ones hold."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2,), "w": (2,)}
    for _ in range(60):
        first, change = torch.randint(-2, 3, (2, 2, 2), generator=generator).double()
        second = first + change * (torch.rand(2, 2, generator=generator) < 0.3)
        found = certify_on_basis(form_of(first), form_of(second), shapes, seed=1)
        assert found.verdict == ("holds" if torch.equal(first, second) else "refuted")


def test_large_coefficients_do_not_hide_small_ones() -> None:
    """Beside a coefficient of 2⁴⁰ a difference of one is seen."""

    def large(t: Inputs) -> Tensor:
        return mixing(t) * 2**40

    assert against(lambda t: large(t), large).verdict == "holds"
    found = against(lambda t: large(t) + t["w"][:, :1, None] * t["x"][:, :1], large)
    assert found.difference is not None
    assert found.difference.right - found.difference.left == 1


def test_numbers_on_the_way_stay_exact_too() -> None:
    """Where a larger number occurs on the way to a result, a call holds fewer products."""
    shapes = {"x": (100,)}

    def summed(t: Inputs) -> Tensor:
        return t["x"].sum()

    def by_a_detour(t: Inputs) -> Tensor:
        return t["x"].sum() + (t["x"] * 2.0**30).sum() * 0

    plain, detour = (certify_on_basis(summed, side, shapes, seed=0) for side in (summed, by_a_detour))
    assert (plain.verdict, detour.verdict) == ("holds", "holds")
    assert plain.details["digits"] == 20
    assert detour.details["digits"] <= (53 - 30) / math.log2(5) + 1


def affine(t: Inputs) -> Tensor:
    """Have terms of every kind: of both groups, of each alone, and a constant."""
    return mixing(t) + 2 * t["x"] - t["w"][:, 0, None, None] + 3


LOWER: dict[str, tuple[Program, int]] = {
    "the constant": (lambda t: affine(t) + 1, 0),
    "one group": (lambda t: affine(t) - t["x"].flip(3) + t["x"], 1),
    "the other group": (lambda t: affine(t) + t["w"][0, 1], 1),
    "both groups": (lambda t: affine(t) + t["w"][0, 1] * t["x"], 2),
}


@pytest.mark.parametrize("name", LOWER)
def test_terms_of_every_kind_are_compared(name: str) -> None:
    """A group that is absent from a term is zero there; what is left of the product names the others."""
    assert against(lambda t: affine(t), affine).verdict == "holds"
    program, groups = LOWER[name]
    found = against(program, affine)
    assert found.verdict == "refuted"
    assert len(found.details["product"]) == groups


def rows_multiplied(t: Inputs) -> Tensor:
    """Multiply two rows of one input: of degree two in it, of degree one in each row."""
    return t["s"][0] * t["s"][1] + t["s"][1]


def test_rows_of_an_input_are_groups_where_the_whole_is_not() -> None:
    """The degree is judged by rows where it is two in all of an input."""
    shapes = {"s": (2, 3)}
    equal = against(lambda t: t["s"][1] * (t["s"][0] + 1), rows_multiplied, shapes=shapes)
    assert equal.verdict == "holds"
    found = against(
        lambda t: rows_multiplied(t) + t["s"][0] * t["s"][1].flip(0), rows_multiplied, shapes=shapes
    )
    assert found.verdict == "refuted"
    assert [name for name, _ in found.details["product"]] == ["s", "s"]


KEPT: list[Tensor] = []


def of_higher_degree_than_it_says(t: Inputs) -> Tensor:
    """Multiply by what a former call was given."""
    KEPT.append(t["x"].detach().clone())
    return mixing(t) * KEPT[max(0, len(KEPT) - 2)]


def squared_outside(t: Inputs) -> Tensor:
    """Be linear while anything looks on."""
    followed = torch._C._len_torch_dispatch_stack() > 0
    return t["x"] * 1 if followed else t["x"] * t["x"]


def carried(t: Inputs) -> Tensor:
    """Carry the data through a list."""
    return mixing({**t, "x": torch.tensor(t["x"].tolist(), dtype=torch.float64)})


def edited(t: Inputs) -> Tensor:
    """Use the input as scratch memory."""
    return mixing({**t, "x": t["x"].mul_(2)})


OTHERWISE = "the program does something else on other inputs, or carries data out of torch"
REFUSED: dict[str, tuple[Program, str]] = {
    "a square": (
        lambda t: mixing({**t, "w": t["w"] @ t["w"]}),
        "A result is of degree two or more in the input w, and basis products fix degree one alone.",
    ),
    "a square that cancels": (
        lambda t: mixing(t) + t["x"] * t["x"] - t["x"] * t["x"],
        "A result is of degree two or more in the input x, and basis products fix degree one alone.",
    ),
    "a degree that is hidden": (of_higher_degree_than_it_says, f"On the right side {OTHERWISE}."),
    "a degree that shows when nothing looks on": (
        squared_outside,
        "On the right side the program computes something else than when it was followed.",
    ),
    "a list": (carried, "On the right side Tensor.tolist carries data out of torch."),
    "an edited input": (edited, "On the right side the program changes its input x."),
    "a softmax": (lambda t: mixing(t).softmax(1), "On the right side softmax is no polynomial."),
    "a program that raises": (lambda t: t["y"], "The right side raises KeyError: 'y'."),
    "too large a coefficient": (
        lambda t: mixing(t) * 2.0**50,
        "The coefficients add up to 4.5036e+15, too much to tell them apart.",
    ),
    "two functions": (
        lambda t: mixing(t).softmax(1) + t["x"].sigmoid(),
        "On the right side sigmoid and softmax are no polynomials.",
    ),
    "too fine a coefficient": (
        lambda t: mixing(t) * 0.3,
        "On the right side aten.mul with the coefficient 0.3, which is no multiple of 1/65536.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_basis_products_do_not_fix_is_refused(name: str) -> None:
    """A higher degree, however it is brought in, ends in a refusal, never in agreement."""
    program, why = REFUSED[name]
    KEPT.clear()
    found = against(program)
    assert (found.verdict, found.difference, found.reason) == ("refused", None, why)


def test_too_many_calls_are_refused_with_their_number() -> None:
    """The refusal says how many calls the shape takes; with as many allowed it holds."""
    shapes = {"x": (2, 9, 3, 5), "w": (9, 9)}
    found = against(convolving, shapes=shapes, most_calls=3)
    assert found.reason == "Reading every coefficient takes 6 calls, more than 3: use a smaller shape."
    assert against(convolving, shapes=shapes, most_calls=6).verdict == "holds"


def test_too_many_numbers_are_refused() -> None:
    """What would take minutes is refused at once."""
    found = against(convolving, shapes={"x": (1, 4, 30, 30), "w": (4, 4)})
    assert found.reason == (
        "The inputs hold 3616 numbers, and a check on basis products takes up to 2048: use a smaller shape."
    )


class WrongGradient(torch.autograd.Function):
    """A right value with a wrong gradient."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        """Copy."""
        return x.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Lose the gradient of the first element."""
        (gradient,) = gradients
        changed = gradient.clone()
        changed.view(-1)[0] = 0
        return changed


def lost_gradient(t: Inputs) -> Tensor:
    """Mix, with a part of the gradient lost."""
    apply: Any = WrongGradient.apply
    result: Tensor = apply(mixing(t))
    return result


def test_gradients_are_compared_where_they_are_asked_for() -> None:
    """A right value with one wrong gradient holds by values and is refuted by vector-Jacobian products."""
    shapes = {"x": (1, 2, 2, 1), "w": (2, 2)}
    assert against(convolving, shapes=shapes, vjp=True).verdict == "holds"
    assert against(lost_gradient, shapes=shapes).verdict == "holds"
    found = against(lost_gradient, shapes=shapes, vjp=True)
    assert found.difference is not None
    assert found.difference.result.startswith("gradient of ")
    assert found.details["product"][-1] == ["cotangent of output", [0, 0, 0, 0]]


def test_binary_fractions_are_digits_too() -> None:
    """A mean over four positions is a sum of quarters, and a quarter too much is seen."""
    shapes = {"x": (3, 4), "w": (3,)}

    def mean(t: Inputs) -> Tensor:
        return t["x"].mean(1) * t["w"] / 2

    equal = against(lambda t: 0.125 * t["w"] * t["x"].sum(1), mean, shapes=shapes)
    assert equal.verdict == "holds"
    found = against(lambda t: mean(t) + t["w"] * t["x"][:, 1] * 0.125, mean, shapes=shapes)
    assert found.difference is not None
    assert (found.difference.left, found.difference.right) == (0.125, 0.25)


def test_results_of_other_shapes_are_a_difference() -> None:
    """The first call shows another shape, or another number of results."""
    for right, result in (
        (lambda t: mixing(t)[:, :3], "size of the output along axis"),
        (lambda t: (mixing(t), mixing(t)), "number of results"),
    ):
        found = against(right)
        assert found.difference is not None
        assert found.difference.result == result


def test_several_results_are_compared_one_by_one() -> None:
    """A chain of equations may differ in its second result."""
    found = against(lambda t: (mixing(t), mixing(t) + t["x"]), lambda t: (convolving(t), convolving(t)))
    assert found.difference is not None
    assert found.difference.result == "output 2"


def test_sides_without_a_common_variable_are_compared_all_the_same() -> None:
    """Constants, programs that ignore their inputs, and inputs without elements."""
    shapes = {"x": (2,), "none": (0, 3)}
    ones: Program = lambda t: torch.ones(2)  # noqa: E731
    assert certify_on_basis(ones, lambda t: torch.tensor([1.0, 1.0]), shapes, seed=0).verdict == "holds"
    assert certify_on_basis(ones, lambda t: t["x"], shapes, seed=0).verdict == "refuted"
    assert certify_on_basis(lambda t: t["x"] + 0, lambda t: t["x"], shapes, seed=0).verdict == "holds"


def convolution(t: Inputs) -> Tensor:
    """Convolve a map with a 3×3 kernel."""
    return F.conv2d(t["x"], t["w"], padding=1)


def unfolded(t: Inputs) -> Tensor:
    """Multiply the unfolded map by the kernel."""
    columns = F.unfold(t["x"], 3, padding=1)
    return (t["w"].flatten(1) @ columns).view(*t["x"].shape[:1], -1, *t["x"].shape[2:])


def test_variables_that_never_meet_share_an_exponent() -> None:
    """On a larger map a convolution takes no more calls: elements three apart never meet in a result."""
    calls = {
        size: certify_on_basis(
            convolution, unfolded, {"x": (1, 1, size, size), "w": (1, 1, 3, 3)}, seed=0
        ).details["calls"]
        for size in (6, 9, 12)
    }
    assert set(calls.values()) == {6}  # nine positions by nine taps, eighteen in a call, and the constants


@pytest.mark.parametrize("place", list(itertools.product((0, 5), (0, 4), range(0, 9, 4))))
def test_no_coefficient_of_a_convolution_goes_unread(place: tuple[int, int, int]) -> None:
    """Wherever one tap is counted twice at one position, that is seen."""
    row, column, tap = place

    def off(t: Inputs) -> Tensor:
        result = unfolded(t)
        result[0, 0, row, column] += F.unfold(t["x"], 3, padding=1)[0, tap, row * 5 + column]
        return result

    shapes = {"x": (1, 1, 6, 5), "w": (1, 1, 3, 3)}
    found = certify_on_basis(convolution, off, shapes, seed=0)
    in_the_map = 0 <= row + tap // 3 - 1 < 6 and 0 <= column + tap % 3 - 1 < 5
    assert found.verdict == ("refuted" if in_the_map else "holds")


def test_blocks_cover_every_product_once() -> None:
    """The calls of a box take each product of colours exactly once, at an exponent of its own."""
    classes = tuple(
        tuple((10 * group + colour,) for colour in range(size)) for group, size in enumerate((3, 5, 4))
    )
    box = Box(("a", "b", "c"), classes, bound=2, room=7)
    met = []
    for packed in box.packed():
        assert packed.products <= 7
        exponents = []
        for product in itertools.product(*packed.blocks):
            met.append(product)
            point = packed.point(60)
            value = math.prod(int(point[variable]) for (variable,) in product)
            assert packed.lowest(value) == product
            exponents.append(value)
        assert len(set(exponents)) == len(exponents)
    assert sorted(met) == sorted(itertools.product(*classes))
    assert len(list(box.packed())) == box.calls
