"""Probing sees every trait in programs whose traits are known, and no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.cost import Cost
from harness.bench.dims import Dims, Workload
from harness.bench.inputs import Spec, activation, generated, parameter
from harness.bench.pages import Operator, Scope
from harness.bench.proof.probe import Probed, probe
from harness.bench.traits import Traits
from harness.paper.errors import SameopError

Program = Callable[..., Tensor]
Shapes = Mapping[str, Spec]

# Two groups of three channels, a map whose sides differ, and three windows of 2×2 in a row.
MAP = Dims(B=2, C=6, H=2, W=6)
C, H, W = MAP.C, MAP.H, MAP.W
N = H * W
SEQUENCE = Dims(B=2, C=4, T=7)
NOTHING = Cost(params=0, macs=0, elements_read=0, elements_written=0)


def make(
    program: Program,
    weights: Shapes | None = None,
    dims: tuple[Dims, ...] = (MAP,),
    outputs: int | None = None,
    name: str = "core",
    **properties: Any,
) -> Scope:
    """Make an operator of one scope from a program of a map or a sequence and its weights."""
    properties.setdefault("polynomial", True)
    operator = Operator("tiny", family="specimens", source="made for a test")

    def shape(d: Dims, channels: int) -> tuple[int, ...]:
        return d.B, channels, *([d.T] if "T" in d else [d.H, d.W])

    return operator.scope(
        name,
        reference=program,
        inputs=lambda d: {"x": activation(*shape(d, d.C)), **(weights or {})},
        output=properties.pop("output", lambda d: shape(d, outputs or d.C)),
        cost=lambda d: NOTHING,
        workloads=[Workload("tiny/one", dims[0], "made for a test")],
        proof_dims=dims,
        **properties,
    )


def probed(scope: Scope) -> Probed:
    """Probe the operator of a scope."""
    return probe(scope.operator)


def scale(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply with whatever broadcasts."""
    return x * factor


def mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """y[o] = Σ_c weight[o, c] · x[c]."""
    return torch.einsum("oc,bchw->bohw", weight, x)


def mix_positions(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the positions in row order by weight [N, N], or [C, N, N] with one for every channel."""
    matrices = weight.expand(x.shape[1], N, N)
    return torch.einsum("cpq,bcq->bcp", matrices, x.flatten(2)).reshape(x.shape)


def mix_low(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Multiply the positions in row order by a matrix of rank two."""
    return mix_positions(x, up @ down)


def mix_everything(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply channels and positions together by one matrix."""
    return (x.flatten(1) @ weight).reshape(x.shape)


def sum_everything(x: Tensor, channel: Tensor, position: Tensor) -> Tensor:
    """Spread the sum of the map by one factor per channel times one per position."""
    return x.sum((1, 2, 3))[:, None, None, None] * channel * position


def slide(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate every channel with a row of three taps of its own, or with the one of all."""
    return F.pad(x, (1, 1, 0, 0)).unfold(3, 3, 1).mul(weight.reshape(-1, 1, 1, 3)).sum(-1)


def slide_tied(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate every channel of a group with the group's row of three taps."""
    return slide(x, weight.repeat_interleave(C // len(weight), 0))


def slide_apart(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlate with three taps that every position and group of channels has of its own: [G, H, W, 3]."""
    taps = F.pad(x, (1, 1, 0, 0)).unfold(3, 3, 1)
    return (taps * kernel.repeat_interleave(C // len(kernel), 0)).sum(-1)


def convolve_groups(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve two groups of channels, each with all of its own."""
    return F.conv2d(x, weight, padding=(0, 1), groups=2)


def slide_sequence(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate every channel of a sequence with five taps."""
    return F.pad(x, (2, 2)).unfold(2, 5, 1).mul(weight[:, None]).sum(-1)


def mix_windows(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply the four positions of every window of 2×2 by one matrix."""
    windows = x.reshape(len(x), -1, H // 2, 2, W // 2, 2)
    return torch.einsum("uvst,bcisjt->bciujv", weight.reshape(2, 2, 2, 2), windows).reshape(x.shape)


def mix_one_low(x: Tensor, weight: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Multiply the positions by one matrix in every channel, and by one of rank two in the first."""
    return mix_positions(x, torch.cat([(up @ down)[None], weight.expand(C - 1, N, N)]))


def mix_evenly(x: Tensor, factor: Tensor) -> Tensor:
    """Spread the sum over channels to all of them."""
    return (x.sum(1, keepdim=True) * factor).expand_as(x)


def round_differently(x: Tensor) -> Tensor:
    """Multiply by 0.3, which every second channel rounds in another way."""
    return x * torch.tensor([0.3, 0.1 * 3] * 3, dtype=x.dtype)[:, None, None]


def bend_half(x: Tensor) -> Tensor:
    """Cut off what is positive in one half of the channels, which read nothing there."""
    return torch.cat([torch.relu(-x[:, :3]), x[:, 3:]], 1)


def bend(x: Tensor) -> Tensor:
    """Cut off what is negative."""
    return torch.relu(x)


def centre(x: Tensor) -> Tensor:
    """Subtract the mean over positions, whose coefficients are no integers."""
    return x - x.mean((2, 3), keepdim=True)


POSITION = Traits(space="position", channels="own", sharing=("positions",))
KNOWN: Mapping[str, tuple[Traits, Scope]] = {
    "pointwise": (
        Traits(space="position", channels="all", sharing=("positions",)),
        make(mix_channels, {"weight": parameter(5, C)}, outputs=5),
    ),
    "a factor per channel": (POSITION, make(scale, {"factor": parameter(C, 1, 1)})),
    "a factor per group": (
        replace(POSITION, sharing=("positions", "groups")),
        make(lambda x, factor: x * factor.repeat_interleave(3)[:, None, None], {"factor": parameter(2)}),
    ),
    "one factor": (
        replace(POSITION, sharing=("positions", "channels")),
        make(scale, {"factor": parameter(1)}),
    ),
    "a factor per position": (
        replace(POSITION, sharing=("channels",)),
        make(scale, {"factor": parameter(H, W)}),
    ),
    "a factor per element": (replace(POSITION, sharing=()), make(scale, {"factor": parameter(C, H, W)})),
    "sliding": (
        Traits(space="local", channels="own", sharing=("positions",)),
        make(slide, {"weight": parameter(C, 3)}),
    ),
    "sliding, tied": (
        Traits(space="local", channels="own", sharing=("positions", "groups")),
        make(slide_tied, {"weight": parameter(2, 3)}),
    ),
    "sliding, tied over all": (
        Traits(space="local", channels="own", sharing=("positions", "channels")),
        make(slide_tied, {"weight": parameter(1, 3)}),
    ),
    "sliding, each position its own": (
        Traits(space="local", channels="own", sharing=("groups",)),
        make(slide_apart, {"kernel": parameter(2, H, W, 3)}),
    ),
    "convolution in groups": (
        Traits(space="local", channels="groups", sharing=("positions",)),
        make(convolve_groups, {"weight": parameter(4, 3, 1, 3)}, outputs=4),
    ),
    "sliding over a sequence": (
        Traits(space="local", channels="own", sharing=("positions",)),
        make(slide_sequence, {"weight": parameter(4, 5)}, dims=(SEQUENCE,)),
    ),
    "windows": (
        Traits(space="window", channels="own", sharing=("channels",)),
        make(mix_windows, {"weight": parameter(4, 4)}),
    ),
    "mixing positions": (
        Traits(space="global", channels="own", sharing=("channels",)),
        make(mix_positions, {"weight": parameter(N, N)}),
    ),
    "mixing positions per channel": (
        Traits(space="global", channels="own"),
        make(mix_positions, {"weight": parameter(C, N, N)}),
    ),
    "fully connected": (
        Traits(space="global", channels="all"),
        make(mix_everything, {"weight": parameter(C * N, C * N)}),
    ),
    "positions through two numbers": (
        Traits(space="global", channels="own", sharing=("channels",), low_rank=("space",)),
        make(mix_low, {"up": parameter(N, 2), "down": parameter(2, N)}),
    ),
    "channels through two numbers": (
        Traits(space="position", channels="all", sharing=("positions",), low_rank=("channels",)),
        make(
            lambda x, up, down: mix_channels(x, up @ down),
            {"up": parameter(5, 2), "down": parameter(2, C)},
            outputs=5,
        ),
    ),
    "everything through one number": (
        Traits(space="global", channels="all", low_rank=("space", "channels")),
        make(sum_everything, {"channel": parameter(C, 1, 1), "position": parameter(H, W)}),
    ),
    "one channel through two numbers": (
        Traits(space="global", channels="own"),
        make(mix_one_low, {"weight": parameter(N, N), "up": parameter(N, 2), "down": parameter(2, N)}),
    ),
    "mixing channels evenly": (
        Traits(space="position", channels="all", sharing=("positions",), low_rank=("channels",)),
        make(mix_evenly, {"factor": parameter(1)}),
    ),
    "rounded differently": (
        replace(POSITION, sharing=("positions", "channels")),
        make(round_differently, polynomial=False),
    ),
    "half of it bent": (
        replace(POSITION, sharing=("positions", "groups"), degree=None),
        make(bend_half, polynomial=False),
    ),
    "bent": (replace(POSITION, sharing=("positions", "channels"), degree=None), make(bend, polynomial=False)),
    "centred": (
        Traits(space="global", channels="own", sharing=("positions", "channels"), low_rank=("space",)),
        make(centre, polynomial=False),
    ),
    "a module": (
        Traits(space="position", channels="all", sharing=("positions",)),
        make(mix_channels, {"weight": parameter(C, C)}, name="module"),
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_traits_are_seen(name: str) -> None:
    """A program shows exactly the traits that it was written to have."""
    declared, scope = KNOWN[name]
    found = probed(scope)
    assert found.as_dict() == declared.as_dict()
    assert found.contradicts(declared) == []


@pytest.mark.parametrize(
    ("program", "field"),
    [
        (lambda x: x.flip(3), "space"),
        (lambda x: torch.cat([x[:, :, :, :3].sum(3, True), x[:, :, :, 1:]], 3), "space"),
        (lambda x: x.cumsum(1), "channels"),
        (lambda x: torch.stack([x[:, 0::2].sum(1), x[:, 1::2].sum(1)], 1).repeat(1, 3, 1, 1), "channels"),
        (lambda x: x * 0, "space"),
    ],
    ids=["mirrored", "one position that reads three", "cumulative", "interleaved groups", "nothing read"],
)
def test_irregular_connections_have_no_other_name(program: Program, field: str) -> None:
    """What traits have no word for contradicts a declaration that has one."""
    found = probed(make(program, polynomial=False))
    assert getattr(found, field) == "irregular"
    assert field in found.contradicts(Traits(space="local", channels="all"))


def dynamic(
    program: Program, shape: tuple[int, ...], maker: Program, parameters: Shapes | None = None
) -> Scope:
    """Make a core whose second argument a linear generator makes."""
    scope = make(lambda x, made: program(x, made), {"made": generated(*shape)})

    def generator(d: Dims, x: Tensor, **weights: Tensor) -> Mapping[str, Tensor]:
        return {"made": maker(x, **weights)}

    scope.generator(inputs=lambda d: parameters or {})(generator)
    return scope


def attention(x: Tensor) -> Tensor:
    """Return the products of all pairs of positions, over all channels: [1, N, N]."""
    return torch.einsum("bcp,bcq->bpq", x.flatten(2), x.flatten(2))


def power(x: Tensor, exponent: int) -> Tensor:
    """Return a power of the first element, whose majorant stays one."""
    return reduce(torch.mul, [x[0, 0, 0, :1]] * exponent)


DYNAMIC: Mapping[str, tuple[str, int | None, Scope]] = {
    "a sum of the image": (
        "per image",
        2,
        dynamic(
            lambda x, made: x * made[:, None, None],
            (C,),
            lambda x, mixed: (mixed @ x.sum((2, 3)).mT)[:, 0],
            {"mixed": parameter(C, C)},
        ),
    ),
    "kernels of every position": (
        "per position",
        2,
        dynamic(
            slide_apart,
            (2, H, W, 3),
            lambda x, span: torch.einsum("gtc,bchw->ghwt", span, x),
            {"span": parameter(2, 3, C)},
        ),
    ),
    "attention": ("per position", 3, dynamic(mix_positions, (1, N, N), attention)),
    "constants": (
        "static",
        1,
        dynamic(lambda x, made: x * made, (C, 1, 1), lambda x, bias: bias, {"bias": parameter(C, 1, 1)}),
    ),
    "an offset": ("static", 1, dynamic(lambda x, made: x + made, (1, C, H, W), lambda x: x.flip(3))),
    "the sixth degree": ("per image", 6, dynamic(scale, (1,), lambda x: power(x, 5))),
    "the seventh degree": ("per image", None, dynamic(scale, (1,), lambda x: power(x, 6))),
}


@pytest.mark.parametrize("name", DYNAMIC)
def test_weights_that_follow_the_input_are_seen(name: str) -> None:
    """Weights are static unless another input changes them; the degree is that of the whole."""
    wanted, degree, scope = DYNAMIC[name]
    found = probed(scope)
    assert (found.dynamic, found.degree) == (wanted, degree)
    assert (found.change == 0) == (wanted == "static")


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "window"},
        {"channels": "groups"},
        {"sharing": ()},
        {"sharing": ("positions", "groups")},
        {"dynamic": "per image"},
        {"low_rank": ("space",)},
        {"degree": 2},
        {"degree": None},
        {"space": "global", "degree": 3},
    ],
    ids=repr,
)
def test_a_wrong_declaration_is_named(wrong: Mapping[str, Any]) -> None:
    """The fields in which a declaration is wrong are named, and no other."""
    declared, scope = KNOWN["sliding"]
    assert probed(scope).contradicts(replace(declared, **wrong)) == list(wrong)


def test_what_was_measured_is_kept() -> None:
    """Connections, ranks and differences can be drawn and printed."""
    found = probed(KNOWN["sliding, tied"][1])
    assert (found.scope, found.dims, found.grid) == ("core", MAP.replace(B=1), (H, W))
    assert found.output == (3, 9)
    assert found.read.nonzero().tolist() == [[3, 8], [3, 9], [3, 10]]
    assert found.positions.sum(1).tolist() == [2, 3, 3, 3, 3, 2] * 2
    assert torch.equal(found.pairs, torch.eye(C, dtype=torch.bool))
    assert (found.width, found.ranks["space"].found, found.ranks["channels"].full) == (3, N, C)
    assert found.differences[0] > 0
    assert found.differences[1:] == (0.0,) * 6
    assert (found.exact, found.change) == (True, None)


def test_the_largest_level_map_is_probed() -> None:
    """Of the proof's dimensions those with a stride or another grid are passed over; one may be declared."""
    dims = (
        Dims(B=2, C=4, T=3),
        Dims(B=2, C=4, T=7),
        Dims(B=2, C=4, T=5),
        Dims(B=2, C=4, T=9, stride=2),
        Dims(B=2, C=4, T=9, cut=1),
    )
    scope = make(lambda x: x, dims=dims, output=lambda d: (d.B, d.C, d.T - d.get("cut", 0)))
    assert probed(scope).dims == Dims(B=1, C=4, T=7)
    scope.operator.probed_at = Dims(B=2, C=3, T=4)
    assert probed(scope).dims == Dims(B=1, C=3, T=4)


SAID = [
    (
        make(scale, {"factor": generated(C, 1, 1)}),
        "tiny/core was probed, but nothing says how its generated inputs factor come from x: add a linear "
        "generator with @core.generator(inputs=…).",
    ),
    (
        dynamic(scale, (C, 1, 1), lambda x: x.sum()),
        "The linear generator of tiny/core at B=1 C=6 H=2 W=6 makes {'made': []}, but the generated inputs "
        "are {'made': [6, 1, 1]}: return each of them by its name and in its shape.",
    ),
    (
        dynamic(scale, (1,), lambda x: x @ x),
        "The linear generator of tiny/core at B=1 C=6 H=2 W=6 raises RuntimeError: Expected size for first "
        "two dimensions of batch2 tensor to be: [6, 6] but got: [6, 2]..",
    ),
    (
        dynamic(scale, (1, C, H, W), lambda x: x.softmax(1)),
        "tiny/core at B=1 C=6 H=2 W=6 with its linear generator is declared a polynomial with integer "
        "coefficients, but aten._softmax is no polynomial: keep to sums and products, in a linear generator "
        "too.",
    ),
    (
        make(lambda x: x, dims=(SEQUENCE.replace(T=1),)),
        "tiny/core at B=1 C=4 T=1 was probed, but a map of [1, 4, 1] has too few channels or positions to "
        "tell traits apart: declare `probed_at` with at least two of either.",
    ),
    (
        make(lambda x: x, dims=(SEQUENCE.replace(T=5000),)),
        "tiny/core at B=1 C=4 T=5000 was probed, but has 20000 outputs, which takes long: declare "
        "`probed_at` with at most 4096.",
    ),
    (
        make(lambda x: x[:, :, 1:], dims=(SEQUENCE,), output=lambda d: (d.B, d.C, d.T - 1)),
        "tiny/core was probed, but at none of its proof dimensions has the output the grid of the input: "
        "declare `probed_at`.",
    ),
    (
        dynamic(scale, (1,), lambda x: power(x, 40)),
        "tiny/core at B=1 C=6 H=2 W=6 with its linear generator sums so many terms that too few integers "
        "stay exact: declare smaller sizes in `probed_at`.",
    ),
]


@pytest.mark.parametrize(("scope", "said"), SAID)
def test_what_cannot_be_probed_is_said(scope: Scope, said: str) -> None:
    """A page that cannot be probed is told what to add."""
    with pytest.raises(SameopError) as caught:
        probed(scope)
    assert str(caught.value) == said


def test_a_stride_cannot_be_probed() -> None:
    """Declared dimensions with another grid for the output are refused."""
    scope = make(lambda x: x[:, :, ::2], dims=(SEQUENCE,), output=lambda d: (d.B, d.C, -(-d.T // 2)))
    scope.operator.probed_at = SEQUENCE
    with pytest.raises(SameopError) as caught:
        probed(scope)
    assert str(caught.value) == (
        "tiny/core at B=1 C=4 T=7 was probed, but its output [1, 4, 4] lies on another grid than its input "
        "[1, 4, 7]: declare `probed_at` with a stride of one."
    )


def test_the_core_is_probed_or_the_only_scope() -> None:
    """Several scopes without a core leave open which one takes its weights as given."""
    operator = Operator("tiny", family="specimens", source="made for a test")
    with pytest.raises(SameopError, match=r"^tiny was probed, but has no scope: name the scope that takes"):
        probe(operator)
    first, second = (make(lambda x: x, name=name) for name in ("module", "block"))
    operator.scopes = {scope.name: scope for scope in (first, second)}
    with pytest.raises(SameopError, match=r"^tiny was probed, but has module, block: name"):
        probe(operator)


def test_only_maps_and_sequences_are_probed() -> None:
    """An operator of something else, or of nothing, is refused."""
    flat = make(lambda x: x, output=lambda d: (d.B, d.C))
    flat.inputs = lambda d: {"x": activation(d.B, d.C)}
    with pytest.raises(SameopError) as caught:
        probed(flat)
    assert str(caught.value) == (
        "tiny/core was probed at B=1 C=6 H=2 W=6, but its activation x has the shape [1, 6]: only "
        "[1, C, H, W] and [1, C, T] are probed."
    )
    flat.inputs = lambda d: {"weight": parameter(d.C)}
    with pytest.raises(SameopError) as caught:
        probed(flat)
    assert str(caught.value) == "tiny/core was probed, but has no activation: give one input that role."
