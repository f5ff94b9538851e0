"""What symbolic values are at one point, in float64, to be held against what a program computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from harness.bench.proof.symbolic.symbols import GREATEST, LEAST, Atom, Symbols


def normal_distribution(x: float) -> float:
    """Return the probability that a normal variable is below x."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


# The functions of which a proof knows nothing but their names.
FUNCTIONS: Mapping[str, Callable[[float], float]] = {"erf": math.erf, "Φ": normal_distribution}


class Valuation:
    """The values of all symbols where the variables have given values.

    variables: by the number of their atom.
    """

    def __init__(self, symbols: Symbols, variables: Mapping[int, float]) -> None:
        self._symbols = symbols
        # Of an exponential its exponent, for powers of several may be finite where they are not.
        self._atoms: dict[int, float] = dict(variables)
        self._monomials: dict[int, float] = {}
        self._values: dict[int, tuple[float, float]] = {}

    def value(self, value: int) -> float:
        """Return a value."""
        return self.value_and_size(value)[0]

    def value_and_size(self, value: int) -> tuple[float, float]:
        """Return a value and the sum of the absolute values of its terms."""
        if value in (LEAST, GREATEST):
            return (-math.inf if value == LEAST else math.inf), 0.0
        found = self._values.get(value)
        if found is None:
            polynomial = self._symbols.polynomial(value)
            terms = [float(c) * self._monomial(number) for number, c in polynomial.items()]
            found = self._values[value] = math.fsum(terms), math.fsum(map(abs, terms))
        return found

    def _monomial(self, number: int) -> float:
        found = self._monomials.get(number)
        if found is None:
            found = self._monomials[number] = self._multiplied(number)
        return found

    def _multiplied(self, number: int) -> float:
        exponent, product = 0.0, 1.0
        for atom, power in self._symbols.ring.monomials[number]:
            if self._symbols.atoms[atom].kind == "exponential":
                exponent += float(power) * self._atom(atom)
            else:
                product *= self._atom(atom) ** int(power)
        return product * math.exp(exponent)

    def _atom(self, atom: int) -> float:
        found = self._atoms.get(atom)
        if found is None:
            described = self._symbols.atoms[atom]
            found = self._atoms[atom] = _applied(described, *map(self.value, described.arguments))
        return found


def _applied(atom: Atom, *arguments: float) -> float:
    (first, *_) = arguments
    if atom.kind == "function":
        return FUNCTIONS[atom.name](first)
    if atom.kind == "largest":
        return max(arguments)
    if atom.kind == "root":
        return math.sqrt(first)
    return first if atom.kind == "exponential" else 1 / first
