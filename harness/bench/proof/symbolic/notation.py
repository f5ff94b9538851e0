"""Symbolic values as text, short enough for a sentence."""

from __future__ import annotations

from harness.bench.proof.symbolic.polynomials import Polynomial, Rational
from harness.bench.proof.symbolic.symbols import Symbols

# Terms that are written out, on the outside and in the arguments of functions.
_SHOWN_TERMS, _SHOWN_INSIDE = 3, 2
_DEEPEST = 2
_LONGEST = 160


def written(symbols: Symbols, value: int, depth: int = 0) -> str:
    """Write the first terms of a value, and how many more there are."""
    if depth > _DEEPEST:
        return "…"
    polynomial = symbols.polynomial(value)
    shown = dict(sorted(polynomial.items())[: _SHOWN_INSIDE if depth else _SHOWN_TERMS])
    text = _sum(symbols, shown, depth)
    more = len(polynomial) - len(shown)
    text = f"{text} + {more} more" if more else text
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _sum(symbols: Symbols, polynomial: Polynomial, depth: int) -> str:
    text = ""
    for number, coefficient in polynomial.items():
        sign, size = (" − ", -coefficient) if coefficient < 0 else (" + ", coefficient)
        text += (sign if text else sign.strip(" +")) + _term(symbols, number, size, depth)
    return text or "0"


def _term(symbols: Symbols, number: int, coefficient: Rational, depth: int) -> str:
    factors = [_factor(symbols, atom, power, depth) for atom, power in symbols.ring.monomials[number]]
    return "·".join(factors if coefficient == 1 and factors else [str(coefficient), *factors])


def _factor(symbols: Symbols, atom: int, power: Rational, depth: int) -> str:
    described = symbols.atoms[atom]
    if described.kind == "variable":
        text = described.name
    elif described.kind == "reciprocal":
        text, power = f"({written(symbols, described.arguments[0], depth + 1)})", -power
    else:
        name = {"exponential": "exp", "largest": "max", "root": "sqrt"}.get(described.kind, described.name)
        inside = ", ".join(written(symbols, argument, depth + 1) for argument in described.arguments)
        text = f"{name}({inside})"
    return text if power == 1 else f"{text}^{power}"
