"""The largest of several symbolic values.

Of the values, one is subtracted from all and their rational content taken out, so that relu, |·|, min and
clamp of one argument share one atom. Before that,

- max(a, b + max(c, d)) becomes max(a, b + c, b + d);
- max(a, b − max(c, d)) becomes max(a + c, a + d, b) − max(c, d);
- what another value exceeds by a sum of squares, exponentials and the like is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce

from harness.bench.proof.symbolic.polynomials import NoFormError, Rational, content, sign
from harness.bench.proof.symbolic.symbols import GREATEST, LEAST, ZERO, Symbols

# The largest of so many values at once.
_MOST_RIVALS = 64


def largest(symbols: Symbols, values: Iterable[int]) -> int:
    """Return the largest of several values."""
    rivals = set(values)
    if GREATEST in rivals:
        return GREATEST
    rivals, taken_out = _spread(symbols, rivals - {LEAST})
    if not rivals:
        return LEAST
    rivals = _undominated(symbols, rivals)
    first = reduce(partial(_leading, symbols), rivals)
    gaps = [_gap(symbols, value, first) for value in sorted(rivals)]
    factor = content(number for gap in gaps for number in symbols.polynomial(gap).values())
    if factor:
        scaled = tuple(sorted(symbols.combination([(1 / factor, gap)]) for gap in gaps))
        taken_out.append((factor, symbols.of_atom(symbols.atom("largest", scaled))))
    return symbols.combination([(1, first), *taken_out])


def least(symbols: Symbols, values: Iterable[int]) -> int:
    """Return the smallest of several values."""
    return symbols.negative(largest(symbols, [symbols.negative(value) for value in values]))


def _spread(symbols: Symbols, rivals: set[int]) -> tuple[set[int], list[tuple[Rational, int]]]:
    """Use up the m = max(s, t) among the terms of values, and return what was taken out of all.

    The lowest multiple of m that occurs is taken out; then r + c·m, c above zero, is r + c·s and r + c·t.
    """
    taken_out: list[tuple[Rational, int]] = []
    while (atom := _latest(symbols, rivals)) is not None:
        monomial, own = symbols.ring.number(((atom, 1),)), symbols.of_atom(atom)
        factors = {value: symbols.polynomial(value).get(monomial, 0) for value in rivals}
        lowest = min(factors.values())
        taken_out.append((lowest, own))
        rivals = {
            symbols.combination([(1, value), (-factor, own), (factor - lowest, rival)])
            for value, factor in factors.items()
            for rival in (symbols.atoms[atom].arguments if factor > lowest else (ZERO,))
        }
        if len(rivals) > _MOST_RIVALS:
            raise NoFormError(f"takes the largest of more than {_MOST_RIVALS} values")
    return rivals, taken_out


def _latest(symbols: Symbols, values: set[int]) -> int | None:
    """Return the latest largest of values that is a term by itself."""
    monomials = (symbols.ring.monomials[number] for value in values for number in symbols.polynomial(value))
    factors = (monomial[0] for monomial in monomials if len(monomial) == 1)
    atoms = (atom for atom, power in factors if power == 1 and symbols.atoms[atom].kind == "largest")
    return max(atoms, default=None)


def _undominated(symbols: Symbols, rivals: set[int]) -> set[int]:
    """Leave out every value that another one exceeds by what cannot be negative."""
    kept = set(rivals)
    for value in sorted(rivals):
        if any(_is_positive(symbols, _gap(symbols, other, value)) for other in sorted(kept - {value})):
            kept.remove(value)
    return kept


def _is_positive(symbols: Symbols, value: int) -> bool:
    """Tell whether no term of a value can be negative."""
    return all(
        coefficient > 0
        and all(_is_positive_factor(symbols, *factor) for factor in symbols.ring.monomials[number])
        for number, coefficient in symbols.polynomial(value).items()
    )


def _is_positive_factor(symbols: Symbols, atom: int, power: Rational) -> bool:
    described = symbols.atoms[atom]
    if described.kind in ("exponential", "root") or power % 2 == 0:
        return True
    if described.kind == "largest":
        return any(_is_positive(symbols, argument) for argument in described.arguments)
    return described.kind == "reciprocal" and _is_positive(symbols, described.arguments[0])


def _leading(symbols: Symbols, first: int, second: int) -> int:
    """Return the one that is ahead in an order that adding the same to both leaves as it is."""
    difference = symbols.polynomial(_gap(symbols, first, second))
    return first if not difference or sign(difference) > 0 else second


def _gap(symbols: Symbols, first: int, second: int) -> int:
    return symbols.combination([(1, first), (-1, second)])
