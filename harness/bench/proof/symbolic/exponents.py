"""Exponentials that depend on each other: e^(a+b) = e^a·e^b, for all that occur at once.

The exponents span a vector space over the rationals. The exponentials of a basis are atoms, and every other
one is a product of their powers, in one way only. So e^(a+c)/e^(b+c) is e^a/e^b, whichever came first.
"""

from __future__ import annotations

from fractions import Fraction

from harness.bench.proof.symbolic.polynomials import Monomial, Polynomial, Rational, tidied

Vector = dict[int, Rational]


class Exponents:
    """A basis of the exponents that occurred, by Gauss and Jordan."""

    def __init__(self) -> None:
        # By its pivot: a combination of basis exponents in which no other pivot occurs, and its weights.
        self._rows: dict[int, tuple[Vector, Vector]] = {}

    def powers(self, exponent: Polynomial, next_atom: int) -> tuple[Monomial, bool]:
        """Return e^exponent as a product of atoms, and whether it is the new atom itself."""
        rest, weights = dict(exponent), Vector()
        for pivot in self._rows.keys() & exponent.keys():
            vector, combined = self._rows[pivot]
            factor = exponent[pivot]
            _subtract(rest, factor, vector)
            _subtract(weights, -factor, combined)
        if not rest:
            return tuple(sorted(tidied(weights).items())), False
        self._add(rest, weights, next_atom)
        return ((next_atom, 1),), True

    def _add(self, rest: Vector, weights: Vector, atom: int) -> None:
        """Make a row of what is left of an exponent, and take its pivot out of the other rows."""
        pivot = min(rest)
        scale = Fraction(rest[pivot])
        # Whole numbers as such: fractions take many times as long, and few are needed.
        row: Vector = tidied({monomial: value / scale for monomial, value in rest.items()})
        combined: Vector = tidied(
            {atom: 1 / scale, **{other: -weight / scale for other, weight in weights.items()}}
        )
        for vector, others in self._rows.values():
            factor = vector.get(pivot, 0)
            if factor:
                _subtract(vector, factor, row)
                _subtract(others, factor, combined)
        self._rows[pivot] = row, combined


def _subtract(target: Vector, factor: Rational, vector: Vector) -> None:
    for key, value in vector.items():
        left = target.get(key, 0) - factor * value
        if left:
            target[key] = left
        else:
            target.pop(key, None)
