"""An oracle: random functions of exact arguments, in place of functions that are no polynomials.

An oracle remembers what every argument was in the trials before. Two arguments that are different
polynomials may coincide at one random point, but hardly at several, so from the second trial on they
are told apart although the numbers at hand are equal. Arguments that are the same polynomial coincide
in every trial, on both sides of an identity, and get the same value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.bench.proof.refusal import RefusedError, key_of

Axes = Sequence[int]
# Wider ranges would be hit unevenly by 63 random bits.
WIDEST = 2**40
_BITS = 2**63 - 1
# At zero these have no value that could stand for theirs. An argument that was zero in as many trials as
# this is always zero.
_POLES, _TELLING = frozenset({"reciprocal", "rsqrt"}), 4


@dataclass(frozen=True)
class _Note:
    """What is known of a tensor, with its memory, so that no later tensor can get the same."""

    memory: Any
    extent: tuple[int, int]
    layout: tuple[Any, ...]
    what: Any


def _extent(tensor: Tensor) -> tuple[int, int]:
    return int(tensor.storage_offset()), tensor.numel()


def _layout(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride()


class Notes:
    """What results were made of, known by their memory, for as long as nothing else is written there."""

    def __init__(self) -> None:
        self._notes: dict[int, _Note] = {}
        self._kept: Any = None

    def keep(self, what: Any) -> None:
        """Note what the result under way is made of."""
        self._kept = what

    def note(self, results: Sequence[Tensor]) -> None:
        """Note that these are the results that were under way."""
        for tensor in results if self._kept is not None else ():
            memory = tensor.untyped_storage()
            self._notes[key_of(tensor)] = _Note(memory, _extent(tensor), _layout(tensor), self._kept)
        self._kept = None

    def recall(self, tensor: Any, *, in_place: bool = False) -> Any:
        """Return what was noted of a tensor or of another view of all its elements, or None.

        in_place: only of a view in which every element stands where it did.
        """
        noted = self._notes.get(key_of(tensor)) if isinstance(tensor, Tensor) else None
        if noted is None or noted.extent != _extent(tensor):
            return None
        return None if in_place and noted.layout != _layout(tensor) else noted.what

    def forget(self, tensor: Tensor) -> None:
        """Drop what was noted of a tensor that is written to."""
        self._notes.pop(key_of(tensor), None)


class Past:
    """What the arguments were in the trials so far, in the order in which they are asked."""

    def __init__(self) -> None:
        self._entries: list[tuple[Tensor, Tensor]] = []
        self._next = 0
        self.trials = 0

    def rewind(self) -> None:
        """Begin a trial."""
        self._next = 0
        self.trials += 1

    def add(self, x: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
        """Return a code of all that each element has been, and the sign of the first that was not zero.

        Unless it is ``signed``, the code is that of x and of −x alike.
        """
        if self._next == len(self._entries):
            self._entries.append((torch.zeros(x.shape, dtype=torch.int64), torch.zeros(x.shape).double()))
        codes, signs = self._entries[self._next]
        if codes.shape != x.shape:
            raise RefusedError("the program asks for other values than when it was followed")
        signs = torch.where(signs == 0, x.sign(), signs)
        turned = x if signed else x * signs
        codes = mix(mix(codes) + (turned + 0.0).contiguous().view(torch.int64))  # zero has one sign
        self._entries[self._next] = codes, signs
        self._next += 1
        return codes, signs


class Oracle(Notes):
    """Draws values of at most ``magnitude`` from what every argument has been.

    seed: of this trial. past: of the trials before; this one brings it up to date.
    """

    def __init__(self, magnitude: int, seed: int, past: Past) -> None:
        super().__init__()
        self._magnitude = min(magnitude, WIDEST)
        self._seed = seed
        self._past = past
        past.rewind()

    def of(self, argument: Any) -> Any:
        """Return an argument of an operation as a tensor of numbers, if it is one."""
        if isinstance(argument, Tensor) and not argument.is_floating_point():
            return argument.double()
        return argument

    def value(self, name: str, x: Tensor, *, zero: float | None = None, odd: bool = False) -> Tensor:
        """Return f(x) element by element, 0 for minus infinity.

        ``zero`` is f(0) where it is known, and an odd f has f(−x) = −f(x).
        """
        codes, signs = self._past.add(x, signed=not odd)
        if name in _POLES and self._past.trials >= _TELLING and bool((signs == 0).any()):
            raise RefusedError(f"the {name} is taken of what is always zero")
        values = self._draw(name, codes)
        if odd:
            values = values * signs
        values = values.masked_fill(x.isneginf(), 0.0)
        return values if zero is None else values.masked_fill(signs == 0, zero)

    def positive(self, x: Tensor, zero: float) -> Tensor:
        """Return p(x) in place of 1 where x is positive and 0 where it is negative: p(−x) = 1 − p(x)."""
        codes, signs = self._past.add(x, signed=False)
        # Of 1 − m to m, so that 1 − p has the same range.
        inside = self._bits("positive", codes).remainder(2 * self._magnitude).double() + 1 - self._magnitude
        return torch.where(signs > 0, inside, 1 - inside).masked_fill(signs == 0, zero)

    def is_zero(self, x: Tensor) -> Tensor:
        """Return one where an element has always been zero."""
        return (self._past.add(x, signed=False)[1] == 0).double()

    def member(self, name: str, x: Tensor, axes: Axes) -> Tensor:
        """Return f(xᵢ, {xⱼ}) for every finite xᵢ of a row and 0 for the others.

        The rows run along the axes; f does not depend on the order of the finite xⱼ.
        """
        finite = x.isfinite()
        codes, _ = self._past.add(x, signed=True)
        rows = mix(codes).masked_fill(~finite, 0).sum(tuple(axes), keepdim=True)
        return self._draw(name, mix(codes + mix(rows))).masked_fill(~finite, 0.0)

    def share(self, x: Tensor, axis: int, *, empty: bool) -> Tensor:
        """Return a softmax: a member of every row, one where it is alone."""
        finite = x.isfinite()
        counts = finite.sum(axis, keepdim=True)
        if not empty and bool((counts == 0).any()):
            raise RefusedError("a softmax has a row of minus infinity alone")
        return torch.where(finite & (counts == 1), 1.0, self.member("softmax", x, [axis]))

    def whole(self, name: str, x: Tensor, axes: Axes, *, keepdim: bool) -> Tensor:
        """Return f({xⱼ}) for every row along the axes."""
        codes, _ = self._past.add(x, signed=True)
        return self._draw(name, mix(mix(codes).sum(tuple(axes), keepdim=keepdim)))

    def symbol(self, name: str, like: Tensor) -> Tensor:
        """Return a number that stands for another one."""
        return self.value(name, like.new_zeros(()))

    def same(self, first: Tensor, second: Tensor) -> bool:
        """Whether two tensors hold the same."""
        return first.shape == second.shape and torch.equal(first, second)

    def one(self, like: Tensor) -> Tensor:
        """Return ones in a shape."""
        return torch.ones_like(like)

    def _draw(self, name: str, codes: Tensor) -> Tensor:
        """Draw integers of −m to m."""
        return self._bits(name, codes).remainder(2 * self._magnitude + 1).double() - self._magnitude

    def _bits(self, name: str, codes: Tensor) -> Tensor:
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        return mix(codes + int.from_bytes(digest[:8], "little", signed=True)) & _BITS


def mix(codes: Tensor) -> Tensor:
    """Scramble 64 bits as SplitMix64 does (Steele, Lea and Flood, OOPSLA 2014)."""
    codes = codes + -0x61C8864680B583EB
    codes = (codes ^ ((codes >> 30) & (2**34 - 1))) * -0x40A7B892E31B1A47
    codes = (codes ^ ((codes >> 27) & (2**37 - 1))) * -0x6B2FB644ECCEEE15
    return codes ^ ((codes >> 31) & (2**33 - 1))
