"""The majorant of a program: its coefficients bound those of the program, whatever is done on the way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.analysis import follow
from harness.bench.proof.majorant import Majorant
from harness.bench.proof.programs import Program, draw_integers, named
from harness.bench.proof.refusal import RefusedError

SHAPES = {"x": (2, 3, 4), "w": (3, 3)}
SIZES = {name: math.prod(shape) for name, shape in SHAPES.items()}


def majorant_of(program: Program, shapes: Any = SHAPES) -> Majorant:
    """Record a program."""
    inputs = draw_integers(shapes, 2, 0)
    majorant = Majorant(inputs)
    with torch.no_grad(), majorant:
        results = named(program(inputs))
    majorant.conclude(results)
    return majorant


def mixing(t: Tensors) -> Tensor:
    """Mix the rows of every image."""
    return torch.einsum("oc,bcn->bon", t["w"], t["x"])


def padded_in_a_buffer(t: Tensors) -> Tensor:
    """Write into a part of memory of its own, edit that, and return all of it."""
    buffer = torch.full((2, 3, 6), -2.0, dtype=torch.float64)
    inner = buffer[..., 1:5]
    inner.copy_(mixing(t))
    inner.sub_(t["x"])
    inner[0, 0] += 3 * t["x"][1, 1]
    return buffer


def differentiated(t: Tensors) -> Tensor:
    """Take a gradient, for which torch keeps its own copies of tensors."""
    x = t["x"].detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad((mixing({**t, "x": x}) * x).sum(), x)
    return gradient - 2 * t["x"]


def convolving(t: Tensors) -> Tensor:
    """Convolve along the rows, with a bias, and view the result otherwise."""
    y = F.conv1d(t["x"], t["w"][:, :, None] - 1, t["w"][0], padding=1)
    return y.view(2, 18)


def edited_by_a_view(t: Tensors) -> Tensor:
    """Edit a result by another view of it."""
    y = t["x"].transpose(1, 2).contiguous()
    y.view(2, 12).add_(7 * mixing(t).flatten(1))
    return y


def windowed(t: Tensors) -> Tensor:
    """Cut windows, weigh them by constants of both signs, and sum."""
    windows = t["x"].unfold(2, 2, 1)
    return (windows * torch.tensor([1.0, -3.0])).sum(-1)


def halved(t: Tensors) -> Tensor:
    """Divide by powers of two, and average."""
    return mixing(t) / 4 - 0.5 * t["x"].mean(2, keepdim=True)


PROGRAMS: dict[str, Program] = {
    "a product": mixing,
    "a difference": lambda t: mixing(t) - 2 * t["x"],
    "a scaled difference": lambda t: torch.sub(mixing(t), t["x"], alpha=3),
    "a reversed difference": lambda t: 1 - torch.rsub(t["x"], 2, alpha=3),
    "a negative padding": lambda t: F.pad(-t["x"], (1, 2), value=-5.0),
    "a mask": lambda t: mixing(t).masked_fill(torch.arange(4) < 2, -7.0),
    "constants chosen": lambda t: torch.where(torch.arange(4) < 2, t["x"], -torch.ones(4).double()),
    "fused products": lambda t: torch.addcmul(-t["x"], t["x"], t["x"], value=-3),
    "a square": lambda t: mixing(t) ** 2 - t["x"] ** 2,
    "parts put together": lambda t: torch.cat([t["x"], -t["x"].flip(1)], 1),
    "a gather": lambda t: t["x"].index_select(1, torch.tensor([2, 0, 0])) - t["x"],
    "a buffer": padded_in_a_buffer,
    "a gradient": differentiated,
    "a convolution": convolving,
    "a view that is edited": edited_by_a_view,
    "windows": windowed,
    "halves": halved,
    "constants alone": lambda t: torch.tensor([1.0, -2.0]),
    "an input": lambda t: t["x"],
}


# Following notes the size of numbers that depend on no input, too.
CONSTANTS_ON_THE_WAY = ("a mask", "a gradient", "constants chosen")


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_bounds_the_program_at_every_point(name: str) -> None:
    """At |x| the majorant is at least |program(x)|, for large numbers and for single variables."""
    program = PROGRAMS[name]
    majorant = majorant_of(program)
    for seed, magnitude in itertools.product(range(4), (1, 50)):
        point = draw_integers(SHAPES, magnitude, seed)
        found = torch.cat([result.flatten() for result in named(program(point)).values()])
        bound = majorant.at({key: tensor.abs()[None] for key, tensor in point.items()})[0]
        assert bool((found.abs() <= bound).all())


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_what_following_the_program_finds(name: str) -> None:
    """Two derivations agree: the largest number met at ones is the majorant of the analysis."""
    analysis = follow(PROGRAMS[name], SHAPES, 0, vjp=False)
    ones = {key: torch.ones(1, *shape, dtype=torch.float64) for key, shape in SHAPES.items()}
    largest = float(majorant_of(PROGRAMS[name]).largest_at(ones))
    assert largest <= analysis.majorant
    if not analysis.grain and name not in CONSTANTS_ON_THE_WAY:
        assert max(1.0, largest) == analysis.majorant


@pytest.mark.parametrize("name", PROGRAMS)
def test_many_points_at_once_are_as_many_single_ones(name: str) -> None:
    """Points do not touch each other, however many are replayed together."""
    majorant = majorant_of(PROGRAMS[name])
    points = {key: torch.rand(5, *shape, dtype=torch.float64).mul(9).floor() for key, shape in SHAPES.items()}
    together = majorant.at(points)
    for number in range(5):
        alone = majorant.at({key: tensor[number : number + 1] for key, tensor in points.items()})
        assert torch.equal(alone[0], together[number])


def test_coefficients_that_cancel_stay_in_the_bound() -> None:
    """The program x − x is zero, and its majorant is 2x: nothing is lost by cancellation."""
    majorant = majorant_of(lambda t: t["x"] - t["x"])
    point = {key: torch.ones(1, *shape, dtype=torch.float64) for key, shape in SHAPES.items()}
    assert bool((majorant.at(point) == 2).all())


def test_an_edit_is_not_lost_on_a_copy() -> None:
    """Where a view of many points at once would have to copy, editing it is refused."""

    def edited(t: Tensors) -> Tensor:
        y = F.conv1d(t["x"], t["w"][:, :, None])
        y.view(6, 4).add_(7 * mixing(t).flatten(0, 1))
        return y

    points = {key: torch.ones(2, *shape, dtype=torch.float64) for key, shape in SHAPES.items()}
    with pytest.raises(RefusedError, match=r"^a majorant of the program cannot be evaluated: view size is"):
        majorant_of(edited).at(points)


KEPT = torch.zeros(2, 3, 4, dtype=torch.float64)


def edits_what_it_was_not_given(t: Tensors) -> Tensor:
    """Use memory from outside as a buffer."""
    return KEPT.copy_(t["x"])


def reads_under_another_shape(t: Tensors) -> Tensor:
    """Read the memory of the data by a view that torch was not asked for inside."""
    return t["x"] * VIEWS[-1][0, 0]


VIEWS: list[Tensor] = []
REFUSED: dict[str, tuple[Callable[[Tensors], Any], str]] = {
    "an exponential": (lambda t: t["x"].exp(), "aten.exp is no operation whose majorant is known"),
    "a maximum": (lambda t: t["x"].amax(), "aten.amax is no operation whose majorant is known"),
    "memory from outside": (
        edits_what_it_was_not_given,
        "aten.copy_ edits a tensor that the program did not make",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_does_not_know_is_refused(name: str) -> None:
    """An operation without a majorant ends in a refusal that names it."""
    program, why = REFUSED[name]
    with pytest.raises(RefusedError, match=f"^{why}$"):
        majorant_of(program)


def test_a_view_made_outside_is_refused() -> None:
    """Memory of the data is read by what torch was seen to make, or not at all."""
    inputs = draw_integers(SHAPES, 2, 0)
    VIEWS.append(inputs["x"].flatten(1))
    with (
        torch.no_grad(),
        Majorant(inputs),
        pytest.raises(RefusedError, match=r"^memory is read in a way that cannot be followed$"),
    ):
        reads_under_another_shape(inputs)
