"""Exact division of polynomials whose powers may be negative or fractions."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from hashlib import blake2b

from harness.bench.proof.symbolic.polynomials import Monomial, Polynomial, Rational, Ring, tidied


def quotient(ring: Ring, dividend: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """Return s with dividend = s·divisor, or None where none of at most as many terms is found.

    Whatever the order of the terms, what is returned was multiplied out and subtracted, and nothing is left.
    """
    weights = {number: _weight(ring.monomials[number]) for number in (*dividend, *divisor)}
    lead = max(divisor, key=lambda number: weights[number])
    inverse = ring.number(tuple((atom, -power) for atom, power in ring.monomials[lead]))
    # The last terms of both factors give the last one of their product.
    last = min(weights[number] for number in dividend) - min(weights[number] for number in divisor)
    rest, found = dividend, dict[int, Rational]()
    while rest:
        top = max(rest, key=lambda number: _weight(ring.monomials[number]))
        step = ring.times(top, inverse)
        if _weight(ring.monomials[step]) < last or step in found or len(found) == len(dividend):
            return None
        found[step] = Fraction(rest[top]) / divisor[lead]
        rest = ring.combination([(1, rest), (-found[step], ring.product({step: 1}, divisor))])
    return tidied(found)


def _weight(monomial: Monomial) -> Rational:
    """Return what orders monomials: the weight of a product is the sum of the weights."""
    return sum((power * _weight_of_atom(atom) for atom, power in monomial), start=0)


@cache
def _weight_of_atom(atom: int) -> int:
    """Return a number that no other atom's is a small multiple of."""
    return int.from_bytes(blake2b(str(atom).encode(), digest_size=8).digest())
