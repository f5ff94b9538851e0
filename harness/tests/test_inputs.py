"""Inputs: the same values everywhere, drawn as the record says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.bench.inputs import (
    Spec,
    activation,
    buffer,
    differentiable,
    draw_inputs,
    draw_integers,
    generated,
    parameter,
    seed_of,
)

SPECS = {
    "x": activation(4, 5),
    "weight": parameter(3, 5, fan_in=5),
    "maps": generated(2, 7, softmax=-1),
    "mean": buffer(3),
    "variance": buffer(3, positive=True),
}


def many(spec: Spec) -> Tensor:
    """Draw enough values to tell a distribution."""
    return spec.draw(torch.randn((40_000,), generator=torch.Generator().manual_seed(7)))


def test_a_seed_is_the_same_on_every_machine() -> None:
    """Seeds come from names and not from the hash of a process."""
    assert seed_of("involution", "core", "B=2 C=4") == 92063179724854
    assert seed_of("a", "b") != seed_of("ab")


def test_equal_seeds_draw_equal_values() -> None:
    """Every implementation of a case gets the same inputs."""
    first, second, other = (draw_inputs(SPECS, seed, torch.float64) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in SPECS)
    assert not any(torch.equal(first[name], other[name]) for name in SPECS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_gets_the_same_values(dtype: torch.dtype) -> None:
    """Values are drawn in float32 and cast, so that dtypes can be compared."""
    wide, cast = draw_inputs(SPECS, 3, torch.float32), draw_inputs(SPECS, 3, dtype)
    assert all(torch.equal(wide[name].to(dtype), cast[name]) for name in SPECS)


def test_inputs_have_their_declared_shapes_and_lie_in_order() -> None:
    """What is drawn is contiguous and of the shape that the record tells."""
    drawn = draw_inputs(SPECS, 3, torch.float32)
    assert {name: tuple(tensor.shape) for name, tensor in drawn.items()} == {
        name: spec.shape for name, spec in SPECS.items()
    }
    assert all(tensor.is_contiguous() for tensor in drawn.values())


def test_integers_reach_both_ends() -> None:
    """Integers are uniform between −m and m, both included."""
    drawn = draw_integers({"x": activation(2000)}, 3, 1, torch.float32)["x"]
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert counts.min() > 200


@pytest.mark.parametrize(
    ("spec", "mean", "deviation", "distribution"),
    [
        (activation(1), 0.0, 1.0, "normal(0, 1)"),
        (parameter(1, fan_in=16), 0.0, 0.25, "normal(0, 0.25²)"),
        (parameter(1, mean=1.0, fan_in=100), 1.0, 0.1, "normal(1, 0.1²)"),
        (generated(1, fan_in=4), 0.0, 0.5, "normal(0, 0.5²)"),
        (buffer(1), 0.0, 0.1, "normal(0, 0.1²)"),
    ],
)
def test_values_follow_the_recorded_distribution(
    spec: Spec, mean: float, deviation: float, distribution: str
) -> None:
    """What a record says of its inputs is what was drawn."""
    values = many(spec)
    assert spec.distribution == distribution
    assert float(values.mean()) == pytest.approx(mean, abs=0.02)
    assert float(values.std()) == pytest.approx(deviation, rel=0.02)


def test_a_positive_buffer_stays_away_from_zero() -> None:
    """A variance can be divided by."""
    values = many(buffer(1, positive=True))
    assert buffer(1, positive=True).distribution == "0.5 + sigmoid(normal)"
    assert 0.5 < float(values.min()) < float(values.max()) < 1.5


@pytest.mark.parametrize(
    ("axes", "distribution"),
    [
        (-1, "softmax over axes (-1,) of normal(0, 1)"),
        ((0, 2), "softmax over axes (0, 2) of normal(0, 1)"),
    ],
)
def test_a_softmax_sums_to_one(axes: int | tuple[int, ...], distribution: str) -> None:
    """Attention maps and routing weights are positive and sum to one over their axes."""
    spec = generated(3, 4, 5, softmax=axes)
    values = spec.draw(torch.randn(3, 4, 5))
    assert spec.distribution == distribution
    assert float(values.min()) > 0
    assert torch.allclose(values.sum(dim=axes), torch.ones(()))


def test_statistics_take_no_gradient() -> None:
    """Every input but a buffer is differentiated, also one that no page declares."""
    tensors = {**draw_inputs(SPECS, 3, torch.float32), "extra": torch.ones(1)}
    assert differentiable(SPECS, tensors) == ["x", "weight", "maps", "extra"]


@pytest.mark.parametrize(("shape", "elements"), [((4, 5), 20), ((), 1), ((0, 3), 0)])
def test_elements_are_counted(shape: tuple[int, ...], elements: int) -> None:
    """A scalar has one element, an empty tensor none."""
    assert activation(*shape).elements == elements
