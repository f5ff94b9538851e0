"""Which basis products two programs may have a coefficient at, and how few calls read all of them.

Everything is read off the sum of the majorants of both programs, whose coefficients bound those of their
difference, so what is left out here is zero on both sides.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.analysis import EXACT_BELOW
from harness.bench.proof.majorant import Majorant
from harness.bench.proof.programs import Shapes
from harness.bench.proof.refusal import RefusedError

# The names of the groups that a monomial has a variable of.
Kind = tuple[str, ...]
# Variables of one group that share an exponent.
Colour = tuple[int, ...]
# Looking closer at the parts of a box costs about as much as this many calls for each of them.
_CALLS_PER_LOOK = 8
# How many points all looks together may take.
_MOST_POINTS = 2**15
# A replay costs as much for a hundred points as for one.
_GROUPS_AT_ONCE = 3


class Variables:
    """The numbers of named inputs side by side, and the groups that they form."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        ends = list(itertools.accumulate(math.prod(shape) for shape in shapes.values()))
        self.count = ends[-1] if ends else 0
        self.groups: dict[str, range] = {
            name: range(start, end)
            for name, start, end in zip(shapes, [0, *ends], ends, strict=False)
            if end > start
        }

    def tensors(self, numbers: Tensor) -> Tensors:
        """Cut numbers [..., variables] into the named inputs [..., *shape]."""
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        parts = numbers.split(sizes, dim=-1)
        ahead = numbers.shape[:-1]
        return {
            name: part.reshape(ahead + torch.Size(shape))
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

    def ones(self, chosen: Sequence[int]) -> Tensor:
        """Return the point at which the chosen variables are one, all others zero."""
        point = torch.zeros(self.count, dtype=torch.float64)
        point[list(chosen)] = 1
        return point

    def split(self, name: str) -> None:
        """Let every index of a group's first axis be a group of its own, named like ``scale[0]``."""
        whole, rows = self.groups[name], self.shapes[name][0]
        size = len(whole) // rows
        parts = {f"{name}[{row}]": whole[row * size : (row + 1) * size] for row in range(rows)}
        named = {key: {key: numbers} if key != name else parts for key, numbers in self.groups.items()}
        self.groups = {key: numbers for group in named.values() for key, numbers in group.items()}

    def place(self, variable: int) -> tuple[str, tuple[int, ...]]:
        """Return the input that a variable belongs to, and its index there."""
        for name, shape in self.shapes.items():
            if variable < math.prod(shape):
                return name, tuple(int(i) for i in torch.unravel_index(torch.tensor(variable), shape))
            variable -= math.prod(shape)
        raise IndexError(variable)


@dataclass(frozen=True)
class Bounds:
    """The majorants of both programs, as functions of all variables side by side.

    grain: every coefficient is a multiple of 2⁻ᵍ, and they count in units of it.
    """

    variables: Variables
    majorants: tuple[Majorant, Majorant]
    grain: int

    def at(self, points: Tensor) -> Tensor:
        """Return the sum of both majorants [points, results] at points [points, variables]."""
        # They are integers; a kernel that is not exact on those is off by less than a half.
        left, right = (majorant.at(self.variables.tensors(points)) for majorant in self.majorants)
        return ((left + right) * 2.0**self.grain).round()

    def are_exact(self, points: Tensor) -> Tensor:
        """Return at which points neither program can round."""
        given = self.variables.tensors(points)
        left, right = (majorant.largest_at(given) for majorant in self.majorants)
        return torch.maximum(left, right) * 2.0**self.grain < EXACT_BELOW

    def with_only(self, names: Sequence[Sequence[str]]) -> Tensor:
        """Return the points [number, variables] at which the named groups are ones, all others zero."""
        points = torch.zeros(len(names), self.variables.count, dtype=torch.float64)
        for point, chosen in zip(points, names, strict=True):
            for name in chosen:
                numbers = self.variables.groups[name]
                point[numbers.start : numbers.stop] = 1
        return points


@dataclass(frozen=True)
class Box:
    """Monomials of one kind, read by the same calls.

    classes: for every group its variables by colour; no result depends on two of one colour, and on none
    that is left out. bound: no coefficient is larger, in units of the grain. room: how many products
    a call may hold.
    """

    kind: Kind
    classes: tuple[tuple[Colour, ...], ...]
    bound: int
    room: int

    @property
    def base(self) -> int:
        """The least base in which no coefficient is mistaken for another."""
        return 2 * self.bound + 1

    @property
    def products(self) -> int:
        """The number of products of colours."""
        return math.prod(map(len, self.classes))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many colours of each group go into one call."""
        return _fewest(tuple(map(len, self.classes)), self.room)[1]

    @property
    def calls(self) -> int:
        """How many calls read all products."""
        return _fewest(tuple(map(len, self.classes)), self.room)[0]

    def packed(self) -> Iterator[Packed]:
        """Pack the colours of every group in blocks, and take all products of blocks."""
        blocks = [
            [colours[start : start + size] for start in range(0, len(colours), size)]
            for colours, size in zip(self.classes, self.sizes, strict=True)
        ]
        for chosen in itertools.product(*blocks):
            yield Packed(self, chosen)


@dataclass(frozen=True)
class Packed:
    """One call: a block of colours of every group.

    A variable in it is the base to the power of its exponent, all others are zero. Exponents are digits
    of mixed radix, so that products of colours have sums of exponents of their own.
    """

    box: Box
    blocks: tuple[Sequence[Colour], ...]

    @property
    def products(self) -> int:
        """The number of products of colours in the call."""
        return math.prod(map(len, self.blocks))

    def point(self, count: int) -> Tensor:
        """Return the numbers of the call."""
        point = torch.zeros(count, dtype=torch.float64)
        stride = 1
        for block in self.blocks:
            for digit, colour in enumerate(block):
                point[list(colour)] = float(self.box.base ** (digit * stride))
            stride *= len(block)
        return point

    def lowest(self, difference: int) -> tuple[Colour, ...]:
        """Return the colours of the lowest monomial in a difference that is not zero."""
        exponent, colours = 0, []
        while difference % self.box.base == 0:
            difference //= self.box.base
            exponent += 1
        for block in self.blocks:
            exponent, digit = divmod(exponent, len(block))
            colours.append(block[digit])
        return tuple(colours)


def exact_calls(bounds: Bounds, boxes: Sequence[Box]) -> Iterator[tuple[Packed, Tensor]]:
    """Pack boxes into calls at which no number of either program rounds: yield each with its point."""
    calls = [list(box.packed()) for box in boxes]
    points = torch.stack([packed.point(bounds.variables.count) for some in calls for packed in some])
    sizes = [len(some) for some in calls]
    exact = bounds.are_exact(points).split(sizes)
    tighter = []
    for box, some, those, fits in zip(boxes, calls, points.split(sizes), exact, strict=True):
        if bool(fits.all()):
            yield from zip(some, those, strict=True)
        elif box.room == 1:
            raise RefusedError("even single basis products leave the integers that stay exact")
        else:
            tighter.append(replace(box, room=box.room - 1))
    if tighter:
        yield from exact_calls(bounds, tighter)


@functools.cache
def _fewest(counts: tuple[int, ...], room: int) -> tuple[int, tuple[int, ...]]:
    """Cut axes of the given lengths into blocks of at most ``room`` elements: return the number and sizes."""
    if not counts:
        return 1, ()
    best = None
    for size in sorted({math.ceil(counts[0] / parts) for parts in range(1, counts[0] + 1)}):
        if size <= room:
            calls, sizes = _fewest(counts[1:], room // size)
            found = (math.ceil(counts[0] / size) * calls, (size, *sizes))
            best = min(best or found, found)
    if best is None:
        raise ValueError(f"No block fits into {room}.")
    return best


def settle_degrees(bounds: Bounds) -> None:
    """Make sure that every result is of degree at most one in every group, or refuse.

    A group in which it is not is split along its first axis; there a product of two rows is of degree one
    in each.
    """
    _demand_small(bounds)
    for name in _curved(bounds):
        shape = bounds.variables.shapes[name]
        if not shape or shape[0] == 1:
            raise RefusedError(_too_high(name))
        bounds.variables.split(name)
    curved = _curved(bounds)
    if curved:
        raise RefusedError(_too_high(curved[0].split("[")[0]))


def _demand_small(bounds: Bounds) -> None:
    """Refuse coefficients whose sums, signed ones over all sets of groups too, may round."""
    ones = bounds.with_only([list(bounds.variables.groups)])
    found = bounds.at(ones)
    largest = float(found.max()) if found.numel() else 0.0
    if largest * 2 ** len(bounds.variables.groups) >= EXACT_BELOW or not bool(bounds.are_exact(ones).all()):
        raise RefusedError(f"the coefficients add up to {largest:g}, too much to tell them apart")


def _too_high(name: str) -> str:
    return f"a result is of degree two or more in the input {name}, and basis products fix degree one alone"


def _curved(bounds: Bounds) -> list[str]:
    """Name the groups along which a majorant is not affine."""
    names = list(bounds.variables.groups)
    ones, steps = bounds.with_only([names]), bounds.with_only([[name] for name in names])
    middle, more, less = (bounds.at(points) for points in (ones, ones + steps, ones - steps))
    return [name for name, curved in zip(names, (more - 2 * middle + less).any(1), strict=True) if curved]


def kinds_of_monomials(bounds: Bounds) -> dict[Kind, Tensor]:
    """Return the sets of groups that meet in a monomial, smallest first, and which results have such ones.

    The groups are decided one by one: monomials without a group are those that are left where it is zero,
    and those with it are the others.
    """
    names = list(bounds.variables.groups)
    values: dict[frozenset[str], Tensor] = {}
    parts: list[tuple[Kind, frozenset[str]]] = [((), frozenset())]
    for start in range(0, len(names), _GROUPS_AT_ONCE):
        for name in names[start : start + _GROUPS_AT_ONCE]:
            without = [(kind, gone | {name}) for kind, gone in parts]
            parts = without + [((*kind, name), gone) for kind, gone in parts]
        _evaluate(bounds, values, parts)
        parts = [part for part in parts if bool((_part(values, *part) > 0).any())]
    found = {kind: _part(values, kind, gone) > 0 for kind, gone in parts if kind}
    return dict(sorted(found.items(), key=lambda entry: len(entry[0])))


def _evaluate(
    bounds: Bounds, values: dict[frozenset[str], Tensor], parts: list[tuple[Kind, frozenset[str]]]
) -> None:
    wanted = {gone | set(more) for kind, gone in parts for more in _subsets(kind)} - values.keys()
    if not wanted:
        return
    zeroed = list(wanted)
    points = bounds.with_only(
        [[name for name in bounds.variables.groups if name not in gone] for gone in zeroed]
    )
    values.update(zip(zeroed, bounds.at(points), strict=True))


def _part(values: Mapping[frozenset[str], Tensor], kind: Kind, gone: frozenset[str]) -> Tensor:
    """Sum the coefficients of the monomials with every group of ``kind`` and with none that is gone."""
    signed = [(-1) ** len(more) * values[gone | set(more)] for more in _subsets(kind)]
    return torch.stack(signed).sum(0)


def _subsets(kind: Kind) -> Iterator[tuple[str, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(kind, size) for size in range(len(kind) + 1))


def plan(bounds: Bounds) -> list[Box]:
    """Divide all monomials into boxes that take few calls, those of small kinds first.

    Where a box takes many, it is divided by the colours of one group: with that group fixed, a result
    depends on fewer variables of the others.
    """
    kinds = kinds_of_monomials(bounds)
    done: list[Box] = []
    waiting = [(kind, bounds.with_only([kind])[0] > 0) for kind in kinds]
    points = 0
    while waiting:
        points += sum(1 + int(allowed.sum()) for _, allowed in waiting)
        looked = _look(bounds, kinds, waiting)
        waiting = []
        for box in looked:
            pivot = min((classes for classes in box.classes if len(classes) > 1), key=len, default=())
            if box.calls <= _CALLS_PER_LOOK * len(pivot) or not pivot or points > _MOST_POINTS:
                done.append(box)
            else:
                waiting += [(box.kind, _only(bounds, box, pivot, colour)) for colour in pivot]
    return sorted(done, key=lambda box: len(box.kind))


def _only(bounds: Bounds, box: Box, pivot: Sequence[Colour], colour: Colour) -> Tensor:
    """Return the variables of a box with one colour of a group alone."""
    kept = [v for classes in box.classes if classes is not pivot for found in classes for v in found]
    return bounds.variables.ones([*kept, *colour]) > 0


def _look(bounds: Bounds, kinds: Mapping[Kind, Tensor], boxes: Sequence[tuple[Kind, Tensor]]) -> list[Box]:
    """See on which of the allowed variables each result depends; leave out where nothing is left."""
    chosen = [allowed.nonzero().flatten() for _, allowed in boxes]
    points = []
    for variables in chosen:
        point = torch.zeros(len(variables) + 1, bounds.variables.count, dtype=torch.float64)
        point[:, variables] = 1
        point[torch.arange(len(variables)), variables] = 0
        points.append(point)
    values = bounds.at(torch.cat(points)).split([len(point) for point in points])
    found = [
        _box(bounds, kind, variables, (those[-1] - those[:-1]) * kinds[kind])
        for (kind, _), variables, those in zip(boxes, chosen, values, strict=True)
    ]
    return [box for box in found if box is not None]


def _box(bounds: Bounds, kind: Kind, variables: Tensor, losses: Tensor) -> Box | None:
    """Colour the variables of a box; the bounds lose ``losses`` [variables, results] without each of them."""
    groups = [bounds.variables.groups[name] for name in kind]
    within = [(variables >= group.start) & (variables < group.stop) for group in groups]
    if not all(bool(losses[members].any()) for members in within):
        return None
    classes = tuple(_colours(variables[members], losses[members] > 0) for members in within)
    largest = torch.stack([losses[members].amax(0) for members in within]).amin(0)
    bound = max(1, int(largest.max()))
    # The largest sum of so many digits; that no other number grows larger is seen later.
    base = 2 * bound + 1
    room = max(1, int(math.log(EXACT_BELOW * (base - 1) / bound, base)))
    return Box(kind, classes, bound, room)


def _colours(variables: Tensor, meets: Tensor) -> tuple[Colour, ...]:
    """Colour variables so that no result meets two of one colour, and drop what none meets.

    meets [variables, results].
    """
    shared = (meets.double() @ meets.double().T > 0).tolist()
    classes: list[list[int]] = []
    for number, row in enumerate(shared):
        if not row[number]:
            continue
        for colour in classes:
            if not any(row[other] for other in colour):
                colour.append(number)
                break
        else:
            classes.append([number])
    return tuple(tuple(int(variables[number]) for number in colour) for colour in classes)
