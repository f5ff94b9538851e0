"""Whether a symbolic value is zero: what its atoms satisfy is used up, the latest atom first.

Each step is an identity of functions wherever nothing is divided by zero:

- p·s/p is s, wherever all terms with 1/p add up to such a product: softmax weights sum to one;
- what is left with 1/p in it is multiplied by a power of p;
- a root satisfies r² = p, and the largest m of s, t, … satisfies (m − s)(m − t)… = 0: a value with negative
  powers of r or m is multiplied by positive ones, and high powers are lowered.

An atom is made of earlier ones only, so what a step brings in is looked at later, and the steps end. A value
that ends at zero is zero; where it is not, nothing follows: it may be zero by a law that is not used here,
such as |x|·|y| = |xy|.
"""

from __future__ import annotations

from collections import defaultdict

from harness.bench.proof.symbolic.division import quotient
from harness.bench.proof.symbolic.polynomials import UNIT, Polynomial, Rational
from harness.bench.proof.symbolic.symbols import Symbols

# Polynomials by the power of the atom that they are multiplied with.
Parts = dict[int, Polynomial]


def vanishes(symbols: Symbols, value: int) -> bool:
    """Tell whether a value is shown to be zero."""
    polynomial = _divided(symbols, symbols.polynomial(value))
    while polynomial:
        atom = _latest(symbols, polynomial)
        if atom is None:
            return False
        polynomial = _without(symbols, polynomial, atom)
    return True


def _divided(symbols: Symbols, polynomial: Polynomial) -> Polynomial:
    """Divide the terms with 1/p by p where that is exact, for the latest p first.

    Clearing one denominator multiplies all terms, so one that goes by itself should go first.
    """
    factors = {atom for number in polynomial for atom, _ in symbols.ring.monomials[number]}
    for atom in sorted(factors, reverse=True):
        if symbols.atoms[atom].kind == "reciprocal":
            polynomial = _divided_by(symbols, polynomial, atom)
    return polynomial


def _divided_by(symbols: Symbols, polynomial: Polynomial, atom: int) -> Polynomial:
    parts = _parts(symbols, polynomial, atom)
    divisor = symbols.polynomial(symbols.atoms[atom].arguments[0])
    for power in range(max(parts, default=0), 0, -1):
        part = quotient(symbols.ring, parts[power], divisor) if parts.get(power) else None
        if part is not None:
            del parts[power]
            parts[power - 1] = symbols.ring.combination([(1, parts.get(power - 1, {})), (1, part)])
    return _assembled(symbols, parts, atom)


def _latest(symbols: Symbols, polynomial: Polynomial) -> int | None:
    """Return the latest atom with a power that can be used up."""
    factors = {factor for number in polynomial for factor in symbols.ring.monomials[number]}
    return max((atom for atom, power in factors if _is_usable(symbols, atom, power)), default=None)


def _is_usable(symbols: Symbols, atom: int, power: Rational) -> bool:
    described = symbols.atoms[atom]
    lowered_from = {"reciprocal": 1, "root": 2, "largest": len(described.arguments)}
    most = lowered_from.get(described.kind)
    return most is not None and not 0 <= power < most


def _relation(symbols: Symbols, atom: int) -> list[Polynomial]:
    """Return p₀, p₁, … such that the power of a root or a largest value by their number is Σ pₖ·atomᵏ."""
    described = symbols.atoms[atom]
    arguments = [symbols.polynomial(argument) for argument in described.arguments]
    if described.kind == "root":
        return [arguments[0], {}]
    product: list[Polynomial] = [{UNIT: 1}]  # coefficients of Π (m − s) in m
    for argument in arguments:
        lower = [symbols.ring.product(argument, coefficient) for coefficient in product] + [{}]
        higher = [{}, *product]
        product = [
            symbols.ring.combination([(1, up), (-1, down)]) for up, down in zip(higher, lower, strict=True)
        ]
    return [symbols.ring.combination([(-1, coefficient)]) for coefficient in product[:-1]]


def _without(symbols: Symbols, polynomial: Polynomial, atom: int) -> Polynomial:
    parts = _parts(symbols, polynomial, atom)
    if symbols.atoms[atom].kind == "reciprocal":
        return _cleared(symbols, parts, symbols.polynomial(symbols.atoms[atom].arguments[0]))
    lowest = min(0, *parts)
    raised = {power - lowest: part for power, part in parts.items()}
    return _assembled(symbols, _lowered(symbols, raised, _relation(symbols, atom)), atom)


def _parts(symbols: Symbols, polynomial: Polynomial, atom: int) -> Parts:
    parts: defaultdict[int, dict[int, Rational]] = defaultdict(dict)
    for number, coefficient in polynomial.items():
        factors = symbols.ring.monomials[number]
        power = next((int(power) for other, power in factors if other == atom), 0)
        rest = tuple(factor for factor in factors if factor[0] != atom)
        parts[power][symbols.ring.number(rest)] = coefficient
    return dict(parts)


def _cleared(symbols: Symbols, parts: Parts, denominator: Polynomial) -> Polynomial:
    highest = max(parts)
    return symbols.ring.sum_of_products(
        (symbols.ring.power(denominator, highest - power), part) for power, part in parts.items()
    )


def _lowered(symbols: Symbols, parts: Parts, relation: list[Polynomial]) -> Parts:
    """Divide by a relation: the remainder has no power as high as its own."""
    degree = len(relation)
    for power in range(max(parts), degree - 1, -1):
        leading = parts.pop(power, {})
        for lower, coefficient in enumerate(relation, start=power - degree):
            product = symbols.ring.product(leading, coefficient)
            parts[lower] = symbols.ring.combination([(1, parts.get(lower, {})), (1, product)])
    return parts


def _assembled(symbols: Symbols, parts: Parts, atom: int) -> Polynomial:
    """Return the sum of parts, each multiplied with its power of the atom."""
    powers = {power: symbols.ring.number(((atom, power),) if power else ()) for power in parts}
    return symbols.ring.sum_of_products(({powers[power]: 1}, part) for power, part in parts.items())
