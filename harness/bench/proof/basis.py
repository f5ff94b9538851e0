"""A complete check of two programs: every coefficient of their difference, on packed basis vectors.

A program whose results are of degree at most one in every input group is fixed by its values on products of
basis vectors, one vector of each group. Several of them are packed into one call, by powers of a base.

Theorem. Let p be an element of the difference of two programs, of degree at most one in every group, let
c ≥ |coefficient| of p, and b > 2c. Give each variable v of a call the value b^e(v), all others zero, such
that any two monomials of p that do not vanish there have different sums of exponents. If the programs
agree in the call, and no monomial of p that lacks one of the call's groups is left, then every coefficient
of p on a product of variables of the call is zero.

Proof. In the call p is the integer Σ d_k·b^k, where d_k is the one coefficient whose exponents sum to k, or
zero where there is none, so |d_k| < b/2. If some d_k were not zero, the lowest one would be a multiple of b,
as all others are multiplied by higher powers, which no integer of size below b/2 but zero is. Nothing
rounds, as the sum of all absolute terms stays below 2⁵³, so the programs agree exactly if p is zero. ∎

What the theorem needs is read off the majorants of both programs (see :mod:`majorant`), never assumed:

- the degree: a majorant that is affine along a group has no term of higher degree there, for its second
  difference sums coefficients that are not negative;
- which groups occur together in a monomial, smallest sets first, so that no smaller monomial is left;
- which variables a result depends on: two that never meet in one result may share their exponent, since
  in every result only one of them occurs. So variables are coloured, and a colour has an exponent;
- the bound c: what the majorant loses without a variable holds every coefficient of that variable.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from harness.bench.inputs import Tensors
from harness.bench.proof.analysis import Analysis, analyse, demand_same_outside
from harness.bench.proof.complete import Complete, Verdict
from harness.bench.proof.confirmation import first_real_difference
from harness.bench.proof.exactness import Watch, demand_exact
from harness.bench.proof.majorant import Majorant
from harness.bench.proof.packing import (
    Bounds,
    Box,
    Colour,
    Packed,
    Variables,
    exact_calls,
    plan,
    settle_degrees,
)
from harness.bench.proof.programs import (
    Difference,
    Outputs,
    Program,
    Shapes,
    draw_integers,
    first_difference,
    gradients,
    named,
    output_shapes,
    telling,
)
from harness.bench.proof.refusal import RefusedError

MOST_CALLS = 2000
# Every result is asked about every variable, so a check of n variables replays both programs n times.
_MOST_VARIABLES = 2**11
_COTANGENT = "cotangent of "


def certify_on_basis(
    left: Program,
    right: Program,
    shapes: Shapes,
    seed: int,
    most_calls: int = MOST_CALLS,
    *,
    vjp: bool = False,
) -> Complete:
    """Compare every coefficient of two programs of named inputs by calling them on packed basis vectors.

    vjp: compare their vector-Jacobian products too; the cotangents are further groups.
    Refused, with the reason, are programs that are no polynomials of degree at most one in every input,
    and pairs that take more than ``most_calls`` calls.
    """
    started = time.perf_counter()
    check = _Check(seed, most_calls)
    try:
        check.compare(left, right, shapes)
        if vjp and check.difference is None:
            names = [f"gradient of {name}" for name in shapes]
            pulled = {**shapes, **_cotangents(left, shapes, seed)}
            check.compare(_gradients_of(left, shapes), _gradients_of(right, shapes), pulled, names)
    except RefusedError as refusal:
        reason = str(refusal)
        return Complete("refused", "basis", reason=f"{reason[0].upper()}{reason[1:]}.")
    verdict: Verdict = "refuted" if check.difference else "holds"
    details = {**check.details(), "vjp": vjp, "seconds": time.perf_counter() - started}
    return Complete(verdict, "basis", check.difference, details=details)


@dataclass(frozen=True)
class _Pair:
    """The two programs under comparison. names: what their results are called, if not outputs."""

    sides: Mapping[str, Program]
    variables: Variables
    names: Mapping[str, str]

    def difference_at(self, point: Tensor) -> Difference | None:
        """Call both programs at one point [variables] and compare their results bitwise."""
        left, right = (self._call(name, program, point) for name, program in self.sides.items())
        found = first_difference(left, right)
        if found is None:
            return None
        self.demand_exact_kernels(point)
        return replace(found, result=self.names.get(found.result, found.result))

    def differ(self, colours: Sequence[Colour], found: Difference) -> bool:
        """Whether they still differ at a place where all variables of the given colours are one."""
        point = self.variables.ones([variable for colour in colours for variable in colour])
        left, right = (self._call(name, program, point) for name, program in self.sides.items())
        result = next((key for key, name in self.names.items() if name == found.result), found.result)
        return result in left and bool(left[result][found.index] != right[result][found.index])

    def demand_exact_kernels(self, point: Tensor) -> None:
        """Refuse a difference that one of the kernels may have made."""
        for name, program in self.sides.items():
            watch = Watch()
            self._call(name, program, point, watch)
            with telling(name):
                demand_exact(watch)

    def _call(self, name: str, program: Program, point: Tensor, watch: Watch | None = None) -> Tensors:
        own = point.clone()
        with torch.no_grad(), telling(name):
            with watch or contextlib.nullcontext():
                outputs = named(program(self.variables.tensors(own)))
            results = {key: result.clone() for key, result in outputs.items()}
            if not torch.equal(own, point):
                raise RefusedError("the program changes its inputs")
        return results


@dataclass
class _Check:
    """A comparison under way, and its numbers so far."""

    seed: int
    most_calls: int
    difference: Difference | None = None
    variables: int = 0
    calls: int = 0
    products: int = 0
    base: int = 0
    digits: int = 0
    product: list[list[Any]] | None = None
    backends: set[str] = field(default_factory=set)

    def details(self) -> dict[str, Any]:
        """Return the numbers for the record. digits: the products in the fullest call."""
        counted = {name: getattr(self, name) for name in ("variables", "calls", "products", "base", "digits")}
        return {**counted, "backends": sorted(self.backends), "product": self.product}

    def compare(self, left: Program, right: Program, shapes: Shapes, names: Sequence[str] = ()) -> None:
        """Compare the values of two programs; ``names`` are those of their results, if not outputs."""
        variables = Variables(shapes)
        if not variables.count:
            raise RefusedError("there are no inputs, so no basis products")
        if variables.count > _MOST_VARIABLES:
            raise RefusedError(
                f"the inputs hold {variables.count} numbers, and a check on basis products takes up to "
                f"{_MOST_VARIABLES}: use a smaller shape"
            )
        self.variables = max(self.variables, variables.count)
        called = {f"output {number}": name for number, name in enumerate(names, start=1)}
        pair = _Pair({"left": left, "right": right}, variables, called)
        followed = [self._follow(name, side, shapes) for name, side in pair.sides.items()]
        # Before anything else the constant terms, and how many results there are.
        self._call(pair, torch.zeros(variables.count, dtype=torch.float64))
        if self.difference is not None:
            self.product = []
        else:
            grain = max(analysis.grain for analysis, _ in followed)
            bounds = Bounds(variables, (followed[0][1], followed[1][1]), grain)
            self._compare_products(pair, bounds)

    def _follow(self, name: str, program: Program, shapes: Shapes) -> tuple[Analysis, Majorant]:
        with telling(name):
            analysis = analyse(program, shapes, self.seed, vjp=False)
            if any(analysis.plan):
                functions = sorted(analysis.uninterpreted) or ["a step"]
                verb = "is no polynomial" if len(functions) == 1 else "are no polynomials"
                raise RefusedError(f"{' and '.join(functions)} {verb}")
            demand_same_outside(program, shapes, self.seed, analysis, vjp=False)
            inputs = draw_integers(shapes, 1, self.seed)
            majorant = Majorant(inputs)
            with torch.no_grad(), majorant:
                results = named(program(inputs))
            majorant.conclude(results)
            if _calculating(majorant.operations) != _calculating(analysis.operations):
                raise RefusedError("the program does something else on other inputs")
        self.backends |= analysis.backends
        return analysis, majorant

    def _compare_products(self, pair: _Pair, bounds: Bounds) -> None:
        settle_degrees(bounds)
        boxes = plan(bounds)
        self._demand_few(boxes)
        for _, alike in itertools.groupby(boxes, lambda box: len(box.kind)):
            for packed, point in exact_calls(bounds, list(alike)):
                self._note(packed)
                self._call(pair, point)
                if self.difference is not None:
                    self._reduce(pair, bounds, packed, self.difference)
                    return
        self._demand_real(pair)

    def _demand_real(self, pair: _Pair) -> None:
        """Refuse programs that differ on real numbers, for integers do not show what rounds to them."""
        left, right = pair.sides.items()
        found = first_real_difference(
            left, right, pair.variables.shapes, self.seed, vjp=False, coarse=True, polynomial=True
        )
        if found is not None:
            raise RefusedError(
                f"the sides agree on integers, but on real numbers {found.result}{list(found.index)} "
                f"is {found.left} and {found.right}"
            )

    def _note(self, packed: Packed) -> None:
        self.products += packed.products
        self.base = max(self.base, packed.box.base)
        self.digits = max(self.digits, packed.products)

    def _demand_few(self, boxes: list[Box]) -> None:
        calls = self.calls + sum(box.calls for box in boxes)
        if calls > self.most_calls:
            raise RefusedError(
                f"reading every coefficient takes {calls} calls, more than {self.most_calls}: "
                "use a smaller shape"
            )

    def _reduce(self, pair: _Pair, bounds: Bounds, packed: Packed, found: Difference) -> None:
        """Find a single basis product at which the programs differ, and show the difference there."""
        if not math.isfinite(found.left - found.right):
            return
        chosen = list(packed.lowest(_in_units(found, bounds.grain)))
        if not pair.differ(chosen, found):
            return  # a program that does something else when it is called again
        for number in range(len(chosen)):
            while len(chosen[number]) > 1:
                colour = chosen[number]
                halves = colour[: len(colour) // 2], colour[len(colour) // 2 :]
                chosen[number] = halves[0]
                if not pair.differ(chosen, found):
                    chosen[number] = halves[1]
        variables = [variable for colour in chosen for variable in colour]
        places = map(pair.variables.place, variables)
        self.product = [[name, list(index)] for name, index in places]
        self.difference = pair.difference_at(pair.variables.ones(variables)) or found

    def _call(self, pair: _Pair, point: Tensor) -> None:
        self.calls += 1
        self.difference = pair.difference_at(point)


def _in_units(found: Difference, grain: int) -> int:
    """Return a difference as a number of units of 2⁻ᵍ."""
    return int(found.left * 2**grain) - int(found.right * 2**grain)


def _calculating(operations: Sequence[str]) -> list[str]:
    """Name the operations in order, without one that torch adds or not to what makes a tensor."""
    names = [operation.split("[")[0] for operation in operations]
    return [name for name in names if name != "aten.detach"]


def _gradients_of(program: Program, shapes: Shapes) -> Program:
    """Return the vector-Jacobian product of a program, as a program of its inputs and cotangents."""

    def pulled_back(given: Tensors) -> Outputs:
        leaves = {name: given[name].detach().requires_grad_() for name in shapes}
        cotangents = {name.removeprefix(_COTANGENT): given[name] for name in given if name not in shapes}
        with torch.enable_grad():
            return tuple(gradients(program, leaves, cotangents).values())

    return pulled_back


def _cotangents(program: Program, shapes: Shapes, seed: int) -> Shapes:
    results = output_shapes(program, draw_integers(shapes, 1, seed))
    return {_COTANGENT + name: shape for name, shape in results.items()}
