"""The symbolic proof: two torch programs are followed over symbols and have the same normal form.

Each program runs once, as it is, on random numbers; beside every element of every tensor stands its symbolic
value. That the two sides are the same function is an identity between those values, for all real inputs at
which nothing is divided by zero, softmax included. Numbers are taken for the rationals that they are: the
mean of three is a third of their sum, and 0.1 is the float of that name.

Every step to a normal form, and every law that clears a difference, is an identity of functions, so what is
proved is so. The reverse does not hold: |x|·|y| = |xy| is true and beyond the laws. Two things keep the
rules honest. What every program computes, where nothing follows it and on other inputs, must be what its
symbols say. And a difference of forms refutes nothing, only one of the values.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.complete import Complete
from harness.bench.proof.confirmation import first_real_difference
from harness.bench.proof.programs import Point, Program, Shapes, telling
from harness.bench.proof.refusal import RefusedError
from harness.bench.proof.symbolic.clearing import vanishes
from harness.bench.proof.symbolic.following import Following
from harness.bench.proof.symbolic.notation import written
from harness.bench.proof.symbolic.polynomials import NoFormError
from harness.bench.proof.symbolic.symbols import Symbols
from harness.bench.proof.symbolic.valuation import Valuation

# Where values and symbols may differ by rounding, in parts of the largest sum of absolute terms.
_ROUNDING = 1e-9
_MOST_FREE = 20_000
# Draws of inputs: for following, and for holding symbols against values; the last is for those that give
# numbers only where roots are taken of positive ones.
_FOLLOWED, _CHECKED, _POSITIVE = 0, (1, 2), 2
# What it means that a program is not what its symbols say.
_OTHERWISE = (
    "the program does something else on other inputs, carries data out of torch, "
    "or writes a result in a way that cannot be followed"
)

Marks = Mapping[str, Tensor]


def certify_symbolically(left: Program, right: Program, shapes: Shapes, seed: int = 0) -> Complete:
    """Compare two programs of named inputs at one shape, for all real values of the inputs at once.

    ``holds`` where every element of the results has the same normal form on both sides, or forms whose
    difference vanishes; ``refuted`` where the values of the two programs differ; otherwise ``refused``.
    """
    started = time.perf_counter()
    free = sum(map(math.prod, shapes.values()))
    if free > _MOST_FREE:
        reason = f"The inputs have {free:,} elements, more than the {_MOST_FREE:,} that are followed."
        return Complete("refused", "symbolic", reason=reason)
    proof = _Proof(shapes, seed)
    try:
        verdict = proof.compare(left, right)
    except RefusedError as refusal:
        reason = str(refusal)
        verdict = Complete("refused", "symbolic", reason=f"{reason[0].upper()}{reason[1:]}.")
    return replace(verdict, details={**proof.details(), "seconds": time.perf_counter() - started})


class _Proof:
    """The proof at one shape: the symbols of both sides, and the inputs at which values are looked at."""

    def __init__(self, shapes: Shapes, seed: int) -> None:
        self._shapes, self._seed = shapes, seed
        self._symbols = Symbols()
        self._variables = {name: _variables(self._symbols, name, shape) for name, shape in shapes.items()}
        self._valuations = [self._valuation(draw) for draw in _CHECKED]
        self._numbers: dict[str, int] = {"free_numbers": len(self._symbols.atoms)}
        self._operations: set[str] = set()

    def details(self) -> dict[str, Any]:
        """Return the numbers of this proof."""
        kinds = Counter(atom.kind for atom in self._symbols.atoms)
        return {
            **self._numbers,
            "work": self._symbols.ring.work,
            "atoms": dict(kinds),
            "operations": sorted(self._operations),
        }

    def compare(self, left: Program, right: Program) -> Complete:
        """Compare the values of both programs, then their symbols."""
        first, second = self._evaluate("left", left), self._evaluate("right", right)
        sides = ("left", left), ("right", right)
        difference = first_real_difference(*sides, self._shapes, self._seed, vjp=False)
        if difference is not None:
            return Complete("refuted", "symbolic", difference)
        left_marks, right_marks = self._follow("left", left, first), self._follow("right", right, second)
        unequal = _unequal(left_marks, right_marks)
        self._numbers |= self._count(left_marks, right_marks, len(unequal))
        self._demand_equal(unequal)
        return Complete("holds", "symbolic")

    def _draw(self, number: int) -> Tensors:
        generator = torch.Generator().manual_seed(self._seed + number)
        drawn = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64)
            for name, shape in self._shapes.items()
        }
        return {name: tensor.abs() for name, tensor in drawn.items()} if number == _POSITIVE else drawn

    def _valuation(self, number: int) -> Valuation:
        # The first atoms are the elements of the inputs, in this order.
        numbers = (number for tensor in self._draw(number).values() for number in tensor.flatten().tolist())
        return Valuation(self._symbols, dict(enumerate(numbers)))

    def _evaluate(self, name: str, program: Program) -> list[Tensors]:
        """Return the results on the inputs to check; elsewhere they must be the same before and after."""
        with telling(name):
            before, *values, after = (
                {key: result.clone() for key, result in Point(self._draw(n), None).evaluate(program).items()}
                for n in (_FOLLOWED, *_CHECKED, _FOLLOWED)
            )
            for key, result in before.items():
                if result.is_complex():
                    raise RefusedError(f"the {key} is complex")
                if key not in after or not torch.equal(result.nan_to_num(), after[key].nan_to_num()):
                    raise RefusedError("the program does something else when it runs again")
            return values

    def _follow(self, name: str, program: Program, values: list[Tensors]) -> Marks:
        """Return the symbols of the results of a program, which must give its values at other inputs."""
        with telling(name):
            following = Following(self._symbols)
            point = Point(self._draw(_FOLLOWED), None)
            for key, tensor in point.inputs.items():
                following.track(tensor, self._variables[key])
            results = point.evaluate(program, following)
            marks = {key: following.marks(result).clone() for key, result in results.items()}
            self._operations |= following.operations
            self._demand_agreement(marks, values)
            return marks

    def _demand_agreement(self, marks: Marks, values: list[Tensors]) -> None:
        """Refuse a program that computes anything else than its symbols say, where it gives numbers."""
        for results, valuation in zip(values, self._valuations, strict=True):
            if not any(bool(result.isnan().any()) for result in results.values()):
                return _demand_agreement(marks, results, valuation)
        raise RefusedError("the results are no numbers at random inputs")

    def _count(self, first: Marks, second: Marks, unequal: int) -> dict[str, int]:
        numbers = {
            int(mark) for marks in (first, second) for each in marks.values() for mark in each.unique()
        }
        return {
            "values": sum(marks.numel() for marks in first.values()),
            "longest": max((len(self._symbols.polynomial(n)) for n in numbers if n >= 0), default=0),
            "cleared": unequal,
        }

    def _demand_equal(self, unequal: Mapping[tuple[int, int], str]) -> None:
        """Refuse where the difference of two values is not shown to be zero."""
        for (first, second), place in unequal.items():
            try:
                if vanishes(self._symbols, self._symbols.combination([(1, first), (-1, second)])):
                    continue
            except NoFormError as error:
                raise RefusedError(f"clearing the denominators at {place} {error}") from error
            sides = [written(self._symbols, value) for value in (first, second)]
            raise RefusedError(
                f"at {place} the left side is {sides[0]} and the right side is {sides[1]}: "
                "their values agree on random inputs, but no law that is used here makes these forms equal"
            )


def _variables(symbols: Symbols, name: str, shape: tuple[int, ...]) -> Tensor:
    """Make a free number for every element of an input, and return their marks."""
    names = (f"{name}{list(index)}" for index in product(*map(range, shape)))
    return torch.tensor([symbols.variable(name) for name in names], dtype=torch.float64).reshape(shape)


def _demand_agreement(marks: Marks, results: Tensors, valuation: Valuation) -> None:
    if marks.keys() != results.keys():
        raise RefusedError(_OTHERWISE)
    for name, result in results.items():
        try:
            expected = [valuation.value_and_size(int(mark)) for mark in marks[name].flatten().tolist()]
        except NoFormError as error:
            raise RefusedError(f"the {name} {error}") from error
        except (ArithmeticError, ValueError) as error:
            raise RefusedError(f"the {name} has no value in float64 at random inputs ({error})") from error
        room = _ROUNDING * max((size for _, size in expected), default=0.0)
        values = torch.tensor([value for value, _ in expected], dtype=torch.float64)
        if result.shape != marks[name].shape or not _are_close(values, result.double().flatten(), room):
            raise RefusedError(_OTHERWISE)


def _are_close(first: Tensor, second: Tensor, room: float) -> bool:
    return bool(((first == second) | ((first - second).abs() <= room)).all())


def _unequal(first: Marks, second: Marks) -> dict[tuple[int, int], str]:
    """Return the pairs of different values that stand at one place, with the first such place."""
    found: dict[tuple[int, int], str] = {}
    for name, marks in first.items():
        for place in (marks != second[name]).nonzero().tolist():
            index = tuple(place)
            pair = int(marks[index]), int(second[name][index])
            found.setdefault(pair, f"{name}{place}")
    return found
