"""Networks: what is laid is counted, named, and fits; a wrong layer is a sentence."""

from __future__ import annotations

import pytest
from torch import Tensor

from harness import Blueprint, Cost, Dims, Network, Operator, Workload, activation, parameter
from harness.bench.network import Layer
from harness.paper.errors import SameopError
from harness.tests.specimens import mixing

linear = Operator("linear", family="specimens", source="made for a test")
linear.scope(
    "core",
    reference=mixing,
    inputs=lambda d: {"x": activation(d.B, d.C, d.H, d.W), "weight": parameter(d.Co, d.C)},
    output=lambda d: (d.B, d.Co, d.H, d.W),
    cost=lambda d: Cost(d.C * d.Co, d.C * d.Co * d.H * d.W, elements_read=0, elements_written=0),
    workloads=[Workload("tiny/one", Dims(B=1, C=2, Co=2, H=3, W=3), "made for a test")],
    proof_dims=(),
    domain=lambda d: "a single row is too little: choose a larger map" if d.H == 1 else None,
)
OPERATORS = {"linear": linear}


def small(net: Blueprint) -> None:
    """Lay two equal layers, one other of the same role, and a bias."""
    x = net.input(4, 6, 5)
    with net.stage("stage1"):
        for _ in range(2):
            x = net.layer("linear", "linear", x, Co=4)
        x = net.layer("linear", "linear", x, Co=3)
    net.other("bias", ((3,),), elementwise=x.numel())


def assemble(build: object, mixer: str | None = None) -> tuple[Layer, ...]:
    """Assemble a network of that name."""
    return Network("small", "nowhere", build).assemble(OPERATORS, mixer).layers  # type: ignore[arg-type]


def test_equal_layers_are_counted_together() -> None:
    """Two equal layers are one row; a third of the same role is named by what tells it apart."""
    first, second, bias = assemble(small)
    assert (first.workload, first.count, first.params, first.macs) == ("small/stage1_linear", 2, 16, 480)
    assert (second.workload, second.count, second.params) == ("small/stage1_linear_co3", 1, 12)
    assert (bias.operator, bias.workload, bias.params, bias.elementwise) == ("bias", "small/bias", 3, 90)


def test_sums() -> None:
    """Parameters by formula equal those that were allocated."""
    found = Network("small", "nowhere", small).assemble(OPERATORS)
    assert found.params == found.allocated == 2 * 16 + 12 + 3
    assert found.macs == 30 * (2 * 16 + 12)
    assert found.macs_of("linear") == found.macs
    assert found.params_of("bias") == 3
    assert found.elementwise_of("bias") == 90
    assert [work.name for _, work in found.workloads()] == ["small/stage1_linear", "small/stage1_linear_co3"]


def test_unknown_operator_is_a_sentence() -> None:
    """A layer of an operator that no page declares."""
    with pytest.raises(SameopError, match="small is built with 'nothing', which no page declares"):
        assemble(lambda net: net.layer("nothing", "", net.input(1, 2, 2)))


def test_unknown_scope_is_a_sentence() -> None:
    """A layer of a scope that its operator does not have."""
    with pytest.raises(SameopError, match="linear/module, but the page of linear has core"):
        assemble(lambda net: net.layer("linear", "", net.input(1, 2, 2), "module", Co=2))


def test_layer_of_another_shape_is_a_sentence() -> None:
    """A layer whose operator takes another shape than the map that it is laid on."""
    with pytest.raises(SameopError, match=r"small lays linear on \[1, 4, 6\], but it takes \[1, 4, 2, 3\]"):
        assemble(lambda net: net.layer("linear", "", net.input(4, 6), Co=2, H=2, W=3))


def test_undefined_layer_is_a_sentence() -> None:
    """A layer that the formula does not define."""
    with pytest.raises(SameopError, match=r"linear/core was asked for .*, but a single row is too little"):
        assemble(lambda net: net.layer("linear", "", net.input(4, 1, 6), Co=2))


def test_mixer_needs_a_place() -> None:
    """A network without mixing layers refuses a mixer, and an unknown mixer is refused."""
    with pytest.raises(SameopError, match="its mixing layers have no other operator's shape"):
        assemble(small, "linear")
    mixing = Network("mixing", "nowhere", small, mixes=True)
    with pytest.raises(SameopError, match="No operator is named 'nothing'"):
        mixing.assemble(OPERATORS, "nothing")


def test_output_of_a_layer_is_the_next_one_s_input() -> None:
    """The map that a layer returns has the shape that the operator declares, and holds no values."""
    seen: list[Tensor] = []

    def build(net: Blueprint) -> None:
        seen.append(net.layer("linear", "", net.input(3, 9, 8), Co=5))

    assemble(build)
    assert tuple(seen[0].shape) == (1, 5, 9, 8)
    assert seen[0].is_meta
