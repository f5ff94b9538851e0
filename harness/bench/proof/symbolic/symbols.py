"""Symbolic values: polynomials in atoms, the same number for the same normal form.

An atom is an element of an input, or a function of values: an exponential, the reciprocal of a sum, the
largest of several values, a root, or a function of which nothing is known but its arguments. Every step to a
normal form is an identity of real functions wherever what is divided by is not zero:

- e^a is a product of powers of the exponentials of a basis, as in
  :mod:`harness.bench.proof.symbolic.exponents`; sigmoid and tanh are quotients of exponentials;
- 1/p has the common factor of p's terms, which is a product of powers, taken out, then its rational content;
- for the largest of several values see :mod:`harness.bench.proof.symbolic.largest`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from harness.bench.proof.symbolic.exponents import Exponents
from harness.bench.proof.symbolic.polynomials import (
    UNIT,
    Monomial,
    NoFormError,
    Polynomial,
    Rational,
    Ring,
    content,
    sign,
    tidied,
)

ZERO, ONE = 0, 1
# What an element of a tensor may be that is no polynomial.
LEAST, GREATEST, UNWRITTEN, UNDECIDED, NO_NUMBER = -1, -2, -3, -4, -5
_WHY_NOT = {
    LEAST: "meets infinity",
    GREATEST: "meets infinity",
    UNWRITTEN: "reads memory that was never written",
    UNDECIDED: "reads what is not followed, such as the place of a maximum",
    NO_NUMBER: "meets what is no number",
}
Kind = Literal["variable", "exponential", "reciprocal", "largest", "root", "function"]


@dataclass(frozen=True)
class Atom:
    """What a factor of a monomial stands for: its arguments are values.

    name: that of a variable or of an unknown function; otherwise empty.
    """

    kind: Kind
    name: str
    arguments: tuple[int, ...]


class Symbols:
    """All values of one proof by their numbers; equal normal forms have equal numbers.

    Numbers below zero are infinities and what may not be read: :data:`LEAST` to :data:`NO_NUMBER`.
    """

    def __init__(self) -> None:
        self.ring = Ring()
        self.atoms: list[Atom] = []
        self._atom_numbers: dict[Atom, int] = {}
        self._values: list[Polynomial] = []
        self._numbers: dict[frozenset[tuple[int, Rational]], int] = {}
        self._constants: dict[Rational | float, int] = {}
        self._products: dict[tuple[int, int], int] = {}
        self._exponents = Exponents()
        self.keep({})
        self.keep({UNIT: 1})

    # --- values -------------------------------------------------------------------------------

    def keep(self, polynomial: Polynomial) -> int:
        """Return the number of a polynomial."""
        key = frozenset(polynomial.items())
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self._values)
            self._values.append(polynomial)
        return found

    def polynomial(self, value: int) -> Polynomial:
        """Return a value as a polynomial, or raise :class:`NoFormError`."""
        if value < 0:
            raise NoFormError(_WHY_NOT[value])
        return self._values[value]

    def number(self, constant: Rational | float) -> int:
        """Return the value of a constant; a float stands for the rational number that it is."""
        found = self._constants.get(constant)
        if found is None:
            found = self._constants[constant] = self._constant(constant)
        return found

    def _constant(self, constant: Rational | float) -> int:
        if isinstance(constant, float) and not math.isfinite(constant):
            return NO_NUMBER if math.isnan(constant) else GREATEST if constant > 0 else LEAST
        return self.keep(tidied({UNIT: Fraction(constant)}))

    def variable(self, name: str) -> int:
        """Return the free number of a name."""
        return self.of_atom(self.atom("variable", (), name))

    def constant(self, value: int) -> Rational | None:
        """Return what a value is if it depends on no input, else None."""
        if value < 0 or self._values[value].keys() - {UNIT}:
            return None
        return self._values[value].get(UNIT, 0)

    # --- sums and products --------------------------------------------------------------------

    def combination(self, terms: Sequence[tuple[Rational, int]]) -> int:
        """Return a sum of values, each with a factor."""
        infinite = {value for factor, value in terms if value in (LEAST, GREATEST)}
        if not infinite:
            return self.keep(
                self.ring.combination((factor, self.polynomial(value)) for factor, value in terms)
            )
        signs = {self._scaled_infinity(value, factor) for factor, value in terms if value in infinite}
        for _, value in terms:
            if value not in infinite:
                self.polynomial(value)
        if len(signs) == 1:
            return signs.pop()
        raise NoFormError("adds infinities of both signs")

    def product(self, first: int, second: int) -> int:
        """Return a product."""
        key = (first, second) if first < second else (second, first)
        found = self._products.get(key)
        if found is None:
            found = self._products[key] = self._product(*key)
        return found

    def _product(self, first: int, second: int) -> int:
        if first not in (LEAST, GREATEST) or second < 0:
            return self.keep(self.ring.product(self.polynomial(first), self.polynomial(second)))
        factor = self.constant(second)
        if factor is None:
            raise NoFormError("multiplies infinity by data")
        return self._scaled_infinity(first, factor)

    def _scaled_infinity(self, infinity: int, factor: Rational) -> int:
        if not factor:
            raise NoFormError("multiplies infinity by zero")
        return infinity if factor > 0 else LEAST + GREATEST - infinity

    def sum_of_products(self, pairs: Iterable[tuple[int, int]]) -> int:
        """Return the sum of products of two values each."""
        return self.keep(
            self.ring.sum_of_products(
                (self.polynomial(first), self.polynomial(second)) for first, second in pairs
            )
        )

    def negative(self, value: int) -> int:
        """Return a value with its sign changed."""
        return self.combination([(-1, value)])

    def power(self, base: int, exponent: int) -> int:
        """Return a power with a whole exponent."""
        polynomial = self.polynomial(base if exponent >= 0 else self.reciprocal(base))
        return self.keep(self.ring.power(polynomial, abs(exponent)))

    # --- functions ----------------------------------------------------------------------------

    def exponential(self, value: int) -> int:
        """Return e to the power of a value."""
        if value == LEAST:
            return ZERO
        exponent = self.polynomial(value)
        if not exponent:
            return ONE
        powers, is_new = self._exponents.powers(exponent, len(self.atoms))
        if is_new:
            self.atom("exponential", (value,))
        return self.keep({self.ring.number(powers): 1})

    def sigmoid(self, value: int) -> int:
        """Return 1/(1 + e^−value)."""
        if value == LEAST:
            return ZERO
        grown = self.exponential(self.negative(value))
        return self.reciprocal(self.combination([(1, ONE), (1, grown)]))

    def reciprocal(self, value: int) -> int:
        """Return 1/value."""
        if value in (LEAST, GREATEST):
            return ZERO
        polynomial = self.polynomial(value)
        if not polynomial:
            raise NoFormError("divides by zero")
        outside = {self.ring.number(_inverted(self._common_factor(polynomial))): Fraction(1)}
        inside = self.ring.product(polynomial, outside)
        factor = 1 / (content(inside.values()) * sign(inside))
        rest = self.keep(self.ring.combination([(factor, inside)]))
        result = self.ring.combination([(factor, outside)])
        if rest != ONE:
            atom = self.atom("reciprocal", (rest,))
            result = self.ring.product(result, {self.ring.number(((atom, 1),)): 1})
        return self.keep(self._without_reciprocals_below(result))

    def _without_reciprocals_below(self, polynomial: Polynomial) -> Polynomial:
        """Write 1/(1/p) as p, in the one term that a reciprocal has."""
        ((monomial, coefficient),) = polynomial.items()
        factors = self.ring.monomials[monomial]
        below = {atom for atom, power in factors if power < 0 and self.atoms[atom].kind == "reciprocal"}
        kept = self.ring.number(tuple(factor for factor in factors if factor[0] not in below))
        result: Polynomial = {kept: coefficient}
        for atom, power in factors:
            if atom in below:
                base = self.polynomial(self.atoms[atom].arguments[0])
                result = self.ring.product(result, self.ring.power(base, -int(power)))
        return result

    def _common_factor(self, polynomial: Polynomial) -> Monomial:
        """Return the product of the lowest powers of every atom in any term."""
        monomials = [dict(self.ring.monomials[number]) for number in polynomial]
        atoms = sorted(set().union(*monomials))
        lowest = ((atom, min(powers.get(atom, 0) for powers in monomials)) for atom in atoms)
        return tuple((atom, power) for atom, power in lowest if power)

    def root(self, value: int) -> int:
        """Return the square root of a value, which is not negative where it is defined."""
        polynomial = self.polynomial(value)
        if not polynomial:
            return ZERO
        factor = content(polynomial.values())
        outside = Fraction(math.isqrt(factor.numerator), math.isqrt(factor.denominator))
        if outside**2 != factor:
            outside = Fraction(1)
        inside = self.combination([(1 / outside**2, value)])
        if inside == ONE:
            return self.number(outside)
        atom = self.atom("root", (inside,))
        return self.keep(tidied({self.ring.number(((atom, 1),)): outside}))

    def tanh(self, value: int) -> int:
        """Return 1 − 2/(1 + e^2x)."""
        twice = self.combination([(-2, value)])
        return self.combination([(1, ONE), (-2, self.sigmoid(twice))])

    def error_function(self, value: int) -> int:
        """Return erf, which is odd."""
        polynomial = self.polynomial(value)
        if not polynomial:
            return ZERO
        if sign(polynomial) > 0:
            return self._function("erf", value)
        return self.negative(self._function("erf", self.negative(value)))

    def normal_distribution(self, value: int) -> int:
        """Return Φ, the probability that a normal variable is below a value; Φ(−x) = 1 − Φ(x)."""
        polynomial = self.polynomial(value)
        if not polynomial:
            return self.number(Fraction(1, 2))
        if sign(polynomial) > 0:
            return self._function("Φ", value)
        return self.combination([(1, ONE), (-1, self._function("Φ", self.negative(value)))])

    def _function(self, name: str, value: int) -> int:
        return self.of_atom(self.atom("function", (value,), name))

    def atom(self, kind: Kind, arguments: tuple[int, ...], name: str = "") -> int:
        """Return the number of the atom of a kind with these arguments."""
        described = Atom(kind, name, arguments)
        if described not in self._atom_numbers:
            self._atom_numbers[described] = len(self.atoms)
            self.atoms.append(described)
        return self._atom_numbers[described]

    def of_atom(self, atom: int) -> int:
        """Return the value of an atom."""
        return self.keep({self.ring.number(((atom, 1),)): 1})


def _inverted(monomial: Monomial) -> Monomial:
    return tuple((atom, -power) for atom, power in monomial)
