"""Polynomials over the rationals in numbered atoms, with powers that may be negative or fractions.

A monomial is a number, and so the product of two of them is looked up once it is known: 0.1 µs for a product
of terms, 1.4 to 2.6 µs the first time. The rings of SymPy, whose exponents are as long as there are atoms,
took 3.1 µs with 60 atoms and 16 µs with 300, and want all atoms before the first product.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction

Rational = int | Fraction
# Factors in the order of their atoms: (atom, power).
Monomial = tuple[tuple[int, Rational], ...]
# Coefficients, none of them zero, by the number of the monomial.
Polynomial = Mapping[int, Rational]

# The monomial without factors.
UNIT = 0
# What a monomial that is new costs, where the product of terms that are known costs one.
_NEW = 8
# So much work takes 10 to 20 seconds and a gigabyte.
MOST_WORK = 8_000_000
MOST_TERMS = 50_000


class NoFormError(Exception):
    """A value has no normal form here; the message is the predicate of a sentence about an operation."""


class Ring:
    """The monomials that occurred, and the arithmetic of polynomials in them.

    ``work`` counts products of terms, and whatever else takes as long, up to :data:`MOST_WORK`.
    """

    def __init__(self) -> None:
        self.monomials: list[Monomial] = [()]
        self.work = 0
        self._numbers: dict[Monomial, int] = {(): UNIT}
        self._known: defaultdict[int, dict[int, int]] = defaultdict(dict)

    def number(self, monomial: Monomial) -> int:
        """Return the number of a monomial."""
        found = self._numbers.get(monomial)
        if found is None:
            self.spend(_NEW)
            found = self._numbers[monomial] = len(self.monomials)
            self.monomials.append(monomial)
        return found

    def times(self, first: int, second: int) -> int:
        """Return the product of two monomials."""
        row = self._known[first]
        found = row.get(second)
        if found is None:
            product = _merged(self.monomials[first], self.monomials[second])
            found = row[second] = self.number(product)
        return found

    def product(self, first: Polynomial, second: Polynomial) -> Polynomial:
        """Return the product of two polynomials."""
        return self.sum_of_products([(first, second)])

    def sum_of_products(self, pairs: Iterable[tuple[Polynomial, Polynomial]]) -> Polynomial:
        """Return the sum of products of two polynomials each."""
        total: defaultdict[int, Rational] = defaultdict(int)
        for first, second in pairs:
            self.spend(len(first) * len(second))
            for left, factor in first.items():
                row = self._known[left]
                for right, coefficient in second.items():
                    # Twice as fast as calling `times` for what is known already.
                    monomial = row.get(right)
                    if monomial is None:
                        monomial = self.times(left, right)
                    total[monomial] += factor * coefficient
        return tidied(total)

    def combination(self, terms: Iterable[tuple[Rational, Polynomial]]) -> Polynomial:
        """Return the sum of polynomials, each with a factor."""
        total: defaultdict[int, Rational] = defaultdict(int)
        for factor, polynomial in terms:
            self.spend(len(polynomial))
            for monomial, coefficient in polynomial.items():
                total[monomial] += factor * coefficient
        return tidied(total)

    def power(self, base: Polynomial, exponent: int) -> Polynomial:
        """Return a power that is not negative."""
        result: Polynomial = {UNIT: 1}
        for _ in range(exponent):
            result = self.product(result, base)
        return result

    def spend(self, work: int) -> None:
        """Count work, or raise :class:`NoFormError` where it becomes too much."""
        self.work += work
        if self.work > MOST_WORK:
            raise NoFormError(f"comes after the work of {MOST_WORK:,} products of terms: use a smaller shape")


def tidied(polynomial: Polynomial) -> dict[int, Rational]:
    """Leave out what cancelled; whole numbers become integers, which are ten times faster than fractions."""
    whole = {m: c.numerator if c.denominator == 1 else c for m, c in polynomial.items() if c}
    if len(whole) > MOST_TERMS:
        raise NoFormError(f"gives a polynomial of more than {MOST_TERMS:,} terms: use a smaller shape")
    return whole


def content(coefficients: Iterable[Rational]) -> Fraction:
    """Return the largest number of which all are whole multiples."""
    numbers = [Fraction(c) for c in coefficients]
    return Fraction(math.gcd(*(c.numerator for c in numbers)), math.lcm(*(c.denominator for c in numbers)))


def sign(polynomial: Polynomial) -> int:
    """Return the sign of the leading coefficient."""
    return 1 if polynomial[max(polynomial)] > 0 else -1


def _merged(first: Monomial, second: Monomial) -> Monomial:
    powers = dict(first)
    for atom, power in second:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted((atom, power) for atom, power in powers.items() if power))
