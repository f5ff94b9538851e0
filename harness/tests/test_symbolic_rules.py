"""The rules of the symbolic proof: each gives the values that torch computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.complete import Complete
from harness.bench.proof.symbolic import certify_symbolically
from harness.bench.proof.symbolic.rules import RULES

Program = Callable[[Tensor, Tensor, Tensor], Tensor | tuple[Tensor, ...]]
# A map, a matrix and a row.
SHAPES = {"x": (2, 4, 4, 3), "w": (3, 3), "v": (3,)}
aten = torch.ops.aten


def held(left: Program, right: Program) -> Complete:
    """Hold two programs of a map, a matrix and a row against each other."""
    return certify_symbolically(lambda t: left(*t.values()), lambda t: right(*t.values()), SHAPES)


LAST = torch.tensor([2, 0])
MASK = torch.tensor([True, False, True])


def mixed_groups(x: Tensor, stride: int, transposed: bool = False) -> Tensor:
    """Convolve in groups with padding, dilation and a bias, whose weights are elements of the map too."""
    weight = x[:, :, :2, :].reshape(4, 2, 2, 3)
    if transposed:
        return F.conv_transpose2d(
            x, weight, x[0, :, 0, 0], stride, padding=1, output_padding=1, groups=2, dilation=2
        )
    return F.conv2d(x, weight, x[0, :, 0, 0], stride, padding=(2, 1), dilation=(1, 2), groups=2)


def convolved(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Convolve in one and three dimensions too."""
    tall = F.conv3d(x[:, :1], x[None, :, 1:2, :2, :2], padding=(0, 1, 0))
    long = F.conv1d(x[0], x[:, :, 1, :2])
    several = (mixed_groups(x, stride) for stride in (1, 2))
    turned = F.conv_transpose1d(x[0], x[1], stride=3)
    return *several, mixed_groups(x, 2, transposed=True), tall, long, turned


def attended(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Attend with the scale of four, a mask of numbers, a causal one, and a scale that is given."""
    query, key, value = x.mT.contiguous(), x.flip(1).mT.contiguous(), x.mT.exp().contiguous()
    attend = F.scaled_dot_product_attention
    return (
        attend(query, key, value),
        attend(query, key, value, attn_mask=w),
        attend(key, key, value, is_causal=True, scale=0.5),
    )


def attended_to_itself(tokens: Tensor) -> Tensor:
    """Attend with one tensor as queries, keys and values."""
    return F.scaled_dot_product_attention(tokens, tokens, tokens)


def normed(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Normalise channels by the batch and by stored numbers."""
    by_batch = F.batch_norm(x[..., :2, :1], None, None, training=True)
    stored = F.batch_norm(x, x[0, :, 0, 0], x[0, :, 0, 1].square(), x[0, :, 1, 0], x[0, :, 1, 1])
    return by_batch, stored


def scattered(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Place elements and a number."""
    index = torch.tensor([[2, 0, 1]])
    return w.scatter(0, index, v[None]), w.scatter(1, index, 0.5), w.clone().scatter_(0, index, v[None])


def indexed(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Place rows by numbers and by a mask."""
    return w.index_put((LAST,), w[:2]), w.masked_fill(MASK, 0).index_put((MASK,), v)


def filled(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Fill by a number and by an element, in a copy too."""
    return w.masked_fill(MASK, 0.25), w.masked_fill(MASK, v[0]), w.clone().masked_fill_(MASK, 2)


def extremes(x: Tensor, w: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Take extremes of all, along axes, and of two."""
    return w.max(), w.max(1).values, w.max(0, keepdim=True)[0], torch.max(w, v), x.amax((0, 2))


PROGRAMS: dict[str, Program] = {
    "view": lambda x, w, v: x.view(8, 12),
    "_unsafe_view": lambda x, w, v: aten._unsafe_view(x, [8, 12]),
    "expand": lambda x, w, v: v.expand(2, 3),
    "permute": lambda x, w, v: x.permute(3, 1, 0, 2),
    "transpose": lambda x, w, v: x.transpose(1, 3),
    "t": lambda x, w, v: w.t(),
    "squeeze": lambda x, w, v: v[None].squeeze(0),
    "unsqueeze": lambda x, w, v: v.unsqueeze(1),
    "slice": lambda x, w, v: x[:, 1::2],
    "select": lambda x, w, v: x[0, :, 1],
    "clone": lambda x, w, v: x.mT.clone(memory_format=torch.contiguous_format),
    "cat": lambda x, w, v: torch.cat([w, torch.ones(1, 3), v[None]]),
    "stack": lambda x, w, v: torch.stack([v, w[0]], 1),
    "as_strided": lambda x, w, v: w.as_strided((2, 2), (3, 2), 1),
    "unfold": lambda x, w, v: x.unfold(2, 2, 2),
    "diagonal": lambda x, w, v: x.diagonal(1, 2, 3),
    "diag_embed": lambda x, w, v: torch.diag_embed(w, 1),
    "flip": lambda x, w, v: x.flip(1, 3),
    "roll": lambda x, w, v: x.roll((1, -1), (2, 3)),
    "repeat": lambda x, w, v: w.repeat(2, 1, 2),
    "unbind": lambda x, w, v: x.unbind(1)[2],
    "split": lambda x, w, v: x.split(3, 2)[1],
    "split_with_sizes": lambda x, w, v: x.split([1, 3], 1)[1],
    "detach": lambda x, w, v: x.detach(),
    "alias": lambda x, w, v: aten.alias(x),
    "slice_backward": lambda x, w, v: aten.slice_backward(w, [5, 3], 0, 1, 4, 1),
    "select_backward": lambda x, w, v: aten.select_backward(v, [2, 3], 0, 1),
    "slice_scatter": lambda x, w, v: torch.slice_scatter(w, w[:2], 0, 1),
    "select_scatter": lambda x, w, v: torch.select_scatter(w, v, 1, 0),
    "diagonal_scatter": lambda x, w, v: torch.diagonal_scatter(w, v),
    "diagonal_backward": lambda x, w, v: aten.diagonal_backward(v, [3, 3], 0, 0, 1),
    "im2col": lambda x, w, v: F.unfold(x, (3, 2), padding=1, stride=2),
    "lift_fresh": lambda x, w, v: aten.lift_fresh(x),
    "_to_copy": lambda x, w, v: aten._to_copy(w, dtype=torch.float64) + torch.tensor(1).double(),
    "tril": lambda x, w, v: w.tril(-1),
    "triu": lambda x, w, v: w.clone().triu_(),
    "reflection_pad1d": lambda x, w, v: F.pad(w, (1, 2), mode="reflect"),
    "reflection_pad2d": lambda x, w, v: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "replication_pad1d": lambda x, w, v: F.pad(w, (1, 2), mode="replicate"),
    "replication_pad2d": lambda x, w, v: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "unsafe_split": lambda x, w, v: torch.unsafe_split(w, 2)[0],
    "pixel_shuffle": lambda x, w, v: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x, w, v: F.pixel_unshuffle(x[..., :2], 2),
    "channel_shuffle": lambda x, w, v: F.channel_shuffle(x, 2),
    "rot90": lambda x, w, v: x.rot90(1, (2, 3)),
    "index": lambda x, w, v: w[LAST],
    "index_select": lambda x, w, v: w.index_select(1, LAST),
    "gather": lambda x, w, v: w.gather(1, LAST[:, None]),
    "take": lambda x, w, v: w.take(LAST),
    "embedding": lambda x, w, v: F.embedding(LAST, w),
    "index_put": indexed,
    "_index_put_impl": lambda x, w, v: aten._index_put_impl_(w.clone(), [LAST], w[:2]),
    "scatter": scattered,
    "index_copy": lambda x, w, v: w.index_copy(1, LAST, w[:, :2]),
    "masked_scatter": lambda x, w, v: w.masked_scatter(MASK, v.repeat(2)),
    "copy": lambda x, w, v: torch.empty_like(w).copy_(v),
    "zero": lambda x, w, v: torch.cat([w.clone().zero_(), w]),
    "constant_pad_nd": lambda x, w, v: F.pad(x, (1, 0, -1, 2), value=0.5),
    "masked_fill": filled,
    "fill": lambda x, w, v: w.clone().fill_(v[0]),
    "where": lambda x, w, v: torch.where(MASK, w, 3.0),
    "add": lambda x, w, v: w.add(v, alpha=0.5).add_(2),
    "sub": lambda x, w, v: w.sub(v, alpha=0.5).sub_(2),
    "rsub": lambda x, w, v: (1 - w, torch.rsub(w, v, alpha=3)),
    "mul": lambda x, w, v: (w * v).mul_(0.1),
    "div": lambda x, w, v: (w / v, (1 / w) / 3),
    "pow": lambda x, w, v: (w**3, (w * w) ** -1.5, w**0, w ** torch.tensor([2.0, -1.0, 1.0])),
    "addcmul": lambda x, w, v: torch.addcmul(w, w, v, value=0.5),
    "addcdiv": lambda x, w, v: torch.addcdiv(w, w, v, value=-2),
    "lerp": lambda x, w, v: (torch.lerp(w, v, 0.25), torch.lerp(w, v, w.T)),
    "neg": lambda x, w, v: -w,
    "exp": lambda x, w, v: w.exp(),
    "sigmoid": lambda x, w, v: w.sigmoid(),
    "tanh": lambda x, w, v: w.tanh(),
    "reciprocal": lambda x, w, v: w.reciprocal(),
    "sqrt": lambda x, w, v: (4 * w * w + 2).sqrt(),
    "rsqrt": lambda x, w, v: (w * w + 1).rsqrt(),
    "erf": lambda x, w, v: w.erf(),
    "relu": lambda x, w, v: w.relu().sub_(1).relu_(),
    "abs": lambda x, w, v: w.abs(),
    "silu": lambda x, w, v: F.silu(w),
    "hardsigmoid": lambda x, w, v: F.hardsigmoid(4 * w),
    "hardswish": lambda x, w, v: F.hardswish(4 * w),
    "maximum": lambda x, w, v: torch.maximum(w, v),
    "minimum": lambda x, w, v: torch.minimum(w, v),
    "gelu": lambda x, w, v: F.gelu(w),
    "leaky_relu": lambda x, w, v: F.leaky_relu(w, 0.3),
    "_prelu_kernel": lambda x, w, v: F.prelu(w, v),
    "clamp": lambda x, w, v: (w.clamp(-0.5, 0.75), w.clamp(max=v), w.clamp(0.5, 0.25)),
    "clamp_min": lambda x, w, v: w.clamp_min(0.5),
    "clamp_max": lambda x, w, v: w.clamp_max(0.5),
    "hardtanh": lambda x, w, v: (F.hardtanh(2 * w), F.relu6(8 * w)),
    "mm": lambda x, w, v: w @ w,
    "bmm": lambda x, w, v: x[0] @ w.expand(4, 3, 3),
    "mv": lambda x, w, v: w @ v,
    "dot": lambda x, w, v: v @ w[0],
    "addmm": lambda x, w, v: torch.addmm(v, w, w, beta=0.5, alpha=-2),
    "baddbmm": lambda x, w, v: torch.baddbmm(x[0], x[0], w.expand(4, 3, 3), alpha=3),
    "addmv": lambda x, w, v: torch.addmv(v, w, v, beta=2),
    "convolution": convolved,
    "sum": lambda x, w, v: (x.sum(), x.sum((1, -1)), x.sum(2, keepdim=True)),
    "mean": lambda x, w, v: (x.mean(), x.mean((0, 2)), x.mean(-1, keepdim=True)),
    "prod": lambda x, w, v: (v.prod(), w.prod(1)),
    "amax": lambda x, w, v: (w.amax(), w.amax(1), x[..., :2].amax((0, -1), keepdim=True)),
    "amin": lambda x, w, v: (w.amin(), w.amin(0)),
    "max": extremes,
    "min": lambda x, w, v: (w.min(), w.min(1).values),
    "_softmax": lambda x, w, v: (w.softmax(0), w.masked_fill(MASK, -torch.inf).softmax(1)),
    "_safe_softmax": lambda x, w, v: aten._safe_softmax(w.masked_fill(MASK[:, None], -torch.inf), 1),
    "native_layer_norm": lambda x, w, v: F.layer_norm(w, (3,), v, w[0], 1e-3),
    "native_group_norm": lambda x, w, v: F.group_norm(x[:, :, :1, :1], 2, x[0, :, 0, 0], x[0, :, 1, 0]),
    "native_batch_norm": normed,
    "_scaled_dot_product_flash_attention_for_cpu": attended,
    "col2im": lambda x, w, v: F.fold(x.reshape(2, 6, 8), (3, 4), (2, 3), padding=(0, 1)),
    "avg_pool2d": lambda x, w, v: (F.avg_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2, ceil_mode=True)),
    "_adaptive_avg_pool2d": lambda x, w, v: F.adaptive_avg_pool2d(x, (3, 2)),
    "avg_pool3d": lambda x, w, v: F.avg_pool3d(x, (2, 2, 3)),
    "_adaptive_avg_pool3d": lambda x, w, v: F.adaptive_avg_pool3d(x, (2, 3, 1)),
    "cumsum": lambda x, w, v: w.cumsum(1),
    "trace": lambda x, w, v: w.trace(),
    "max_pool2d_with_indices": lambda x, w, v: F.max_pool2d(x, 2, 2, 1),
}


@pytest.mark.parametrize("name", sorted(name.removeprefix("aten.") for name in RULES))
def test_a_rule_gives_the_values_of_torch(name: str) -> None:
    """There is no rule that is not held against torch: its symbols are evaluated at random inputs."""
    outcome = held(PROGRAMS[name], PROGRAMS[name])
    assert (outcome.verdict, outcome.reason) == ("holds", None)
    assert {f"aten.{name}", f"aten.{name}_"} & set(outcome.details["operations"])


IN_OTHER_WORDS: dict[str, tuple[Program, Program]] = {
    "a pool is a mean over windows": (
        lambda x, w, v: F.avg_pool2d(x, (2, 3), 1),
        lambda x, w, v: x.unfold(2, 2, 1).unfold(3, 3, 1).mean((-1, -2)),
    ),
    "a global pool is a mean": (
        lambda x, w, v: F.adaptive_avg_pool2d(x, 1),
        lambda x, w, v: x.mean((2, 3), keepdim=True),
    ),
    "a pool is the largest of windows": (
        lambda x, w, v: F.max_pool2d(x, (2, 3), 1),
        lambda x, w, v: x.unfold(2, 2, 1).unfold(3, 3, 1).amax((-1, -2)),
    ),
    "fold adds what unfold copies": (
        lambda x, w, v: F.fold(F.unfold(x, 2), (4, 3), 2),
        lambda x, w, v: x * F.conv_transpose2d(torch.ones(1, 1, 3, 2), torch.ones(1, 1, 2, 2)),
    ),
    "convolution is unfolding and a product": (
        lambda x, w, v: F.conv2d(x, x[:, :, :2, :2], padding=1, dilation=(2, 1)),
        lambda x, w, v: (x[:, :, :2, :2].flatten(1) @ F.unfold(x, 2, padding=1, dilation=(2, 1))).view(
            2, 2, 4, 4
        ),
    ),
    "groups are convolutions beside each other": (
        lambda x, w, v: F.conv2d(x, x[:, :2, :2].reshape(4, 1, 2, 3), groups=4),
        lambda x, w, v: torch.cat(
            [F.conv2d(x[:, [c]], x[c // 2, [c % 2], :2][:, None]) for c in range(4)], 1
        ),
    ),
    "a transposed convolution adds shifted maps": (
        lambda x, w, v: F.conv_transpose1d(w.T, v[:, None, None] * torch.tensor([1.0, 2.0])),
        lambda x, w, v: (F.pad(w @ v, (0, 1)) + F.pad(2 * w @ v, (1, 0)))[None],
    ),
    "torch's attention is softmax of scaled products": (
        lambda x, w, v: attended_to_itself(x.mT.contiguous()),
        lambda x, w, v: (x.mT @ x / 2).softmax(-1) @ x.mT,
    ),
    "normalised by the batch": (
        lambda x, w, v: F.batch_norm(x[..., 0, :2], None, None, training=True),
        lambda x, w, v: (
            F.group_norm(x[..., 0, :2].transpose(0, 1)[None].flatten(2), 4).view(4, 2, 2).transpose(0, 1)
        ),
    ),
}


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_an_operation_is_what_it_is_in_other_words(name: str) -> None:
    """Rules that were written apart agree on one function."""
    outcome = held(*IN_OTHER_WORDS[name])
    assert (outcome.verdict, outcome.reason) == ("holds", None)


FORMS: dict[str, tuple[Program, str]] = {
    "rounded quotient": (
        lambda x, w, v: torch.div(w, v, rounding_mode="floor") * 0 + w,
        "aten.div rounds to integers",
    ),
    "gelu by tanh": (lambda x, w, v: F.gelu(w, approximate="tanh"), "aten.gelu is approximated by tanh"),
    "values that meet": (
        lambda x, w, v: w.index_put((LAST,), w[:2], accumulate=True),
        "aten.index_put places several values that are reduced",
    ),
    "data in an exponent": (lambda x, w, v: w.abs() ** v, "aten.pow has the data in its exponent"),
    "a high power": (lambda x, w, v: w**40, "aten.pow has the exponent 40.0"),
    "running statistics": (
        lambda x, w, v: F.batch_norm(x, x[0, :, 0, 0].clone(), x[0, :, 0, 1].clone(), training=True),
        "aten.native_batch_norm edits running statistics",
    ),
    "too many rivals": (
        lambda x, w, v: w.relu().sum().relu(),
        "aten.relu takes the largest of more than 64 values",
    ),
    "infinities": (
        lambda x, w, v: (F.pad(w, (0, 1), value=torch.inf) + F.pad(w, (0, 1), value=-torch.inf))[:, :3],
        "aten.add adds infinities of both signs",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_without_a_rule_is_refused(name: str) -> None:
    """Where an operation has a rule for some of its forms, the others are told."""
    program, why = FORMS[name]
    outcome = held(program, program)
    assert (outcome.verdict, outcome.reason) == ("refused", f"On the left side {why}.")
