"""Contractions in 64-bit integers: what sums products, by indexing, integer products and integer sums alone.

Numbers are taken as integers over a power of two, which is what certificates draw and what dividing by
powers of two leaves; anything else is refused, as is what might leave 64 bits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.bench.proof.grain import grain_of_all

_ROOM = 2.0**62
# How many products are held at once.
_AT_ONCE = 2**20
Results = list[Tensor | None]


@dataclass(frozen=True)
class Ran:
    """An operation that ran: its arguments and what it gave."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any


class InexpressibleError(Exception):
    """An operation that cannot be computed in integers; the message completes a sentence about it."""


@dataclass(frozen=True)
class Exact:
    """A tensor as integers in units of 2⁻ᵍ."""

    units: Tensor
    grain: int

    @classmethod
    def of(cls, tensor: Tensor) -> Exact:
        """Read a tensor of floats."""
        grain = grain_of_all(tensor)
        scaled = tensor.detach().cpu().double() * 2.0 ** (grain or 0)
        if grain is None or not bool((scaled.abs() < _ROOM).all()):
            raise InexpressibleError("is given numbers that are no integers over a small power of two")
        return cls(scaled.long(), grain)

    @property
    def largest(self) -> float:
        """The largest absolute value, in units."""
        return float(self.units.abs().max()) if self.units.numel() else 0.0

    def plus(self, other: Exact) -> Exact:
        """Return the sum."""
        grain = max(self.grain, other.grain)
        first, second = (part.units << (grain - part.grain) for part in (self, other))
        return Exact(first + second, grain)

    def times(self, factor: float) -> Exact:
        """Return the product with a number."""
        scale = Exact.of(torch.tensor(float(factor), dtype=torch.float64))
        return Exact(self.units * scale.units, self.grain + scale.grain)

    def over(self, divisor: Tensor | int) -> Tensor:
        """Return the quotient as float64, which is exact where it can be."""
        return self.units.double() / (divisor * 2.0**self.grain)


def product(first: Exact, second: Exact, multiply: Callable[[Tensor, Tensor], Tensor], terms: int) -> Exact:
    """Multiply by an operation whose results sum at most ``terms`` products."""
    if first.largest * second.largest * max(1, terms) >= _ROOM:
        raise InexpressibleError("is given integers whose products leave 64 bits")
    return Exact(multiply(first.units, second.units), first.grain + second.grain)


def matrix_product(first: Tensor, second: Tensor) -> Tensor:
    """Multiply matrices or vectors of integers by element, so that no matrix kernel has a part in it."""
    rows = first[None] if first.ndim == 1 else first
    columns = second[:, None] if second.ndim == 1 else second
    across = max(1, rows.numel() // max(1, rows.shape[-1]) * columns.numel() // max(1, columns.shape[-2]))
    found = torch.zeros((), dtype=torch.int64)
    for part in torch.arange(rows.shape[-1]).split(max(1, _AT_ONCE // across)):
        products = rows[..., :, part, None] * columns[..., None, part, :]
        found = found + products.sum(-2)
    found = found.squeeze(-2) if first.ndim == 1 else found
    return found.squeeze(-1) if second.ndim == 1 else found


# --- products of matrices, and sums ----------------------------------------------------------------


def _multiplied(ran: Ran) -> Results:
    first, second = map(Exact.of, ran.args)
    return [product(first, second, matrix_product, ran.args[0].shape[-1]).over(1)]


def _multiplied_and_added(ran: Ran) -> Results:
    addend, first, second = map(Exact.of, ran.args)
    found = product(first, second, matrix_product, ran.args[1].shape[-1]).times(ran.kwargs.get("alpha", 1))
    return [found.plus(addend.times(ran.kwargs.get("beta", 1))).over(1)]


def _summed(ran: Ran) -> Results:
    return [_total(ran).over(1)]


def _averaged(ran: Ran) -> Results:
    return [_total(ran).over(max(1, ran.args[0].numel() // max(1, ran.result.numel())))]


def _total(ran: Ran) -> Exact:
    source = Exact.of(ran.args[0])
    axes = ran.args[1] if len(ran.args) > 1 else ran.kwargs.get("dim")
    keep = ran.args[2] if len(ran.args) > 2 else ran.kwargs.get("keepdim", False)
    over = tuple(axes or range(source.units.ndim))
    units = _within(source, source.units.numel() // max(1, ran.result.numel()))
    return Exact(units.sum(over, keepdim=keep) if over else units, source.grain)


# --- convolutions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sliding:
    """How the taps of a kernel connect two maps: the long one, and the short one that slides over it.

    Element p of the short map and tap t meet element p·stride + t·dilation − padding of the long one. A
    convolution computes the short map from the long one, a transposed one the long map from the short one;
    the weight is [short channels, long channels of a group, *taps] for both.
    """

    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    taps: Sequence[int]
    short: Sequence[int]
    long: Sequence[int]

    def to_short(self, long: Tensor, weight: Tensor) -> Tensor:
        """Sum over taps and long channels: [B, long channels, *long] to [B, short channels, *short]."""
        padded = self._pad(long)
        found = torch.zeros((), dtype=torch.int64)
        for tap, place in self._places():
            found = found + matrix_product(self._of_groups(weight[tap]), self._grouped(padded[place]))
        return self._flat(found, self.short)

    def to_long(self, short: Tensor, weight: Tensor) -> Tensor:
        """Sum over taps and short channels: [B, short channels, *short] to [B, long channels, *long]."""
        channels = weight.shape[1] * self.groups
        padded = torch.zeros(len(short), channels, *self._extent(), dtype=torch.int64)
        for tap, place in self._places():
            spread = matrix_product(self._of_groups(weight[tap]).mT, self._grouped(short))
            padded[place] += self._flat(spread, self.short)
        inner = (slice(before, before + size) for before, size in zip(self.padding, self.long, strict=True))
        whole: Any = (..., *inner)
        return padded[whole]

    def to_weight(self, short: Tensor, long: Tensor) -> Tensor:
        """Sum over images and positions: to [short channels, long channels of a group, *taps]."""
        padded = self._pad(long)
        by_tap = [
            matrix_product(self._grouped(short), self._grouped(padded[place]).mT).sum(0).flatten(0, 1)
            for _, place in self._places()
        ]
        return torch.stack(by_tap, -1).reshape(*by_tap[0].shape, *self.taps)

    def _extent(self) -> list[int]:
        """Return how far the padded long map reaches."""
        reached = [
            (size - 1) * stride + (taps - 1) * dilation + 1
            for size, stride, taps, dilation in zip(
                self.short, self.stride, self.taps, self.dilation, strict=True
            )
        ]
        whole = [before + size for before, size in zip(self.padding, self.long, strict=True)]
        return [max(pair) for pair in zip(reached, whole, strict=True)]

    def _pad(self, long: Tensor) -> Tensor:
        sides: list[int] = []
        for extent, before, size in zip(self._extent(), self.padding, self.long, strict=True):
            sides = [before, extent - before - size, *sides]
        return F.pad(long, sides)

    def _places(self) -> Iterator[tuple[Any, Any]]:
        """Yield every tap with what it meets on the padded long map."""
        for tap in itertools.product(*map(range, self.taps)):
            starts = [number * dilation for number, dilation in zip(tap, self.dilation, strict=True)]
            met = [
                slice(start, start + (size - 1) * stride + 1, stride)
                for start, size, stride in zip(starts, self.short, self.stride, strict=True)
            ]
            yield (..., *tap), (..., *met)

    def _grouped(self, channels: Tensor) -> Tensor:
        return channels.reshape(len(channels), self.groups, channels.shape[1] // self.groups, -1)

    def _of_groups(self, matrix: Tensor) -> Tensor:
        return matrix.reshape(self.groups, len(matrix) // self.groups, -1)

    def _flat(self, grouped: Tensor, sizes: Sequence[int]) -> Tensor:
        return grouped.reshape(len(grouped), -1, *sizes)


def _convolved(ran: Ran) -> Results:
    source, weight, bias = ran.args[:3]
    transposed = ran.args[6]
    short, long = (source, ran.result) if transposed else (ran.result, source)
    sliding = _sliding(ran.args[3:], short, long, weight)
    contract = sliding.to_long if transposed else sliding.to_short
    found = product(Exact.of(source), Exact.of(weight), contract, weight.numel())
    if bias is not None:
        own = Exact.of(bias)
        found = found.plus(Exact(own.units.reshape(-1, *[1] * (source.ndim - 2)), own.grain))
    return [found.over(1)]


def _convolution_differentiated(ran: Ran) -> Results:
    grad, source, weight = ran.args[:3]
    wanted, transposed = ran.args[10], ran.args[7]
    short, long = (source, grad) if transposed else (grad, source)
    sliding = _sliding(ran.args[4:], short, long, weight)
    to_source = sliding.to_short if transposed else sliding.to_long
    above, below, kernel = map(Exact.of, (grad, source, weight))
    pair = (below, above) if transposed else (above, below)
    terms = max(grad.numel(), source.numel())
    return [
        product(above, kernel, to_source, weight.numel()).over(1) if wanted[0] else None,
        product(*pair, sliding.to_weight, terms).over(1) if wanted[1] else None,
        Exact(_within(above, terms).sum((0, *range(2, grad.ndim))), above.grain).over(1)
        if wanted[2]
        else None,
    ]


def _sliding(numbers: Sequence[Any], short: Tensor, long: Tensor, weight: Tensor) -> Sliding:
    """Read stride, padding, dilation and groups; one number may stand for all axes."""
    axes = weight.ndim - 2
    stride, padding, dilation = (list(given) * (axes if len(given) == 1 else 1) for given in numbers[:3])
    return Sliding(stride, padding, dilation, numbers[5], weight.shape[2:], short.shape[2:], long.shape[2:])


# --- average pools ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Which rows or columns each window of a pool sums, [windows, elements], and by how much it divides."""

    members: Tensor
    counts: Tensor

    @classmethod
    def sliding(
        cls, size: int, windows: int, kernel: int, stride: int, padding: int, *, with_padding: bool
    ) -> Windows:
        """Windows of equal size; the last one may leave the padding too, of which nothing counts."""
        starts = torch.arange(windows) * stride - padding
        ends = (starts + kernel).clamp_max(size + padding)
        inside = _between(starts, ends, size)
        return cls(inside, ends - starts if with_padding else inside.sum(1))

    @classmethod
    def adaptive(cls, size: int, windows: int) -> Windows:
        """Windows that divide the elements as evenly as they can."""
        number = torch.arange(windows)
        inside = _between(number * size // windows, -(-(number + 1) * size // windows), size)
        return cls(inside, inside.sum(1))


def _between(starts: Tensor, ends: Tensor, size: int) -> Tensor:
    places = torch.arange(size)
    return ((places >= starts[:, None]) & (places < ends[:, None])).long()


def _pooled(ran: Ran) -> Results:
    return _pool_sums(ran.args[0], *_pool(ran.args[0], ran.result, *ran.args[1:]))


def _pool_differentiated(ran: Ran) -> Results:
    return _pool_spreads(ran.args[0], *_pool(ran.args[1], ran.args[0], *ran.args[2:]))


def _pooled_adaptively(ran: Ran) -> Results:
    return _pool_sums(ran.args[0], *_adaptive_pool(ran.args[0], ran.result))


def _adaptive_pool_differentiated(ran: Ran) -> Results:
    return _pool_spreads(ran.args[0], *_adaptive_pool(ran.args[1], ran.args[0]))


def _pool(
    source: Tensor,
    pooled: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,  # noqa: ARG001  # the shape of the result has it
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Windows, Windows, Tensor]:
    both = [list(numbers) * (2 // len(numbers)) for numbers in (kernel, stride or kernel, padding)]
    rows, columns = (
        Windows.sliding(source.shape[axis], pooled.shape[axis], *numbers, with_padding=count_include_pad)
        for axis, *numbers in zip((-2, -1), *both, strict=True)
    )
    divisor = rows.counts[:, None] * columns.counts
    return rows, columns, torch.full_like(divisor, divisor_override) if divisor_override else divisor


def _adaptive_pool(source: Tensor, pooled: Tensor) -> tuple[Windows, Windows, Tensor]:
    rows, columns = (Windows.adaptive(source.shape[axis], pooled.shape[axis]) for axis in (-2, -1))
    return rows, columns, rows.counts[:, None] * columns.counts


def _pool_sums(source: Tensor, rows: Windows, columns: Windows, divisor: Tensor) -> Results:
    read = Exact.of(source)
    sums = _between_matrices(rows.members, _within(read, source.numel()), columns.members.mT)
    return [Exact(sums, read.grain).over(divisor)]


def _pool_spreads(grad: Tensor, rows: Windows, columns: Windows, divisor: Tensor) -> Results:
    # Over one divisor for all windows, so that the shares are integers.
    common = math.lcm(*divisor.unique().tolist())
    units = Exact.of(grad)
    shares = _within(units, grad.numel() * common) * (common // divisor)
    return [Exact(_between_matrices(rows.members.mT, shares, columns.members), units.grain).over(common)]


def _between_matrices(before: Tensor, matrix: Tensor, after: Tensor) -> Tensor:
    return matrix_product(matrix_product(before, matrix), after)


def _within(numbers: Exact, terms: int) -> Tensor:
    if numbers.largest * max(1, terms) >= _ROOM:
        raise InexpressibleError("is given integers whose sums leave 64 bits")
    return numbers.units


CONTRACTIONS: Mapping[str, Callable[[Ran], Results]] = {
    **dict.fromkeys(("aten.mm", "aten.bmm", "aten.mv", "aten.dot"), _multiplied),
    **dict.fromkeys(("aten.addmm", "aten.baddbmm", "aten.addmv"), _multiplied_and_added),
    "aten.sum": _summed,
    "aten.mean": _averaged,
    "aten.convolution": _convolved,
    "aten.convolution_backward": _convolution_differentiated,
    "aten.avg_pool2d": _pooled,
    "aten.avg_pool2d_backward": _pool_differentiated,
    "aten._adaptive_avg_pool2d": _pooled_adaptively,
    "aten._adaptive_avg_pool2d_backward": _adaptive_pool_differentiated,
}
