"""Symbolic values: every step to a normal form is an identity, and the same function has the same form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest

from harness.bench.proof.symbolic.clearing import vanishes
from harness.bench.proof.symbolic.division import quotient
from harness.bench.proof.symbolic.largest import largest, least
from harness.bench.proof.symbolic.notation import written
from harness.bench.proof.symbolic.polynomials import UNIT, NoFormError, Polynomial, Ring
from harness.bench.proof.symbolic.symbols import (
    GREATEST,
    LEAST,
    NO_NUMBER,
    ONE,
    UNDECIDED,
    UNWRITTEN,
    ZERO,
    Symbols,
)
from harness.bench.proof.symbolic.valuation import Valuation

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed; see sameop[test]")
st = hypothesis.strategies

POINT = (0.75, -1.25, 0.5, -0.375)


@dataclass(frozen=True)
class Both:
    """A symbolic value and the number that it is at :data:`POINT`."""

    symbols: Symbols
    value: int
    number: float

    def __add__(self, other: Both) -> Both:
        """Add."""
        value = self.symbols.combination([(1, self.value), (1, other.value)])
        return Both(self.symbols, value, self.number + other.number)

    def __mul__(self, other: Both) -> Both:
        """Multiply."""
        return Both(self.symbols, self.symbols.product(self.value, other.value), self.number * other.number)

    def times(self, factor: Fraction) -> Both:
        """Multiply by a number."""
        return Both(
            self.symbols, self.symbols.combination([(factor, self.value)]), self.number * float(factor)
        )

    def apply(self, symbolic: Callable[[Symbols, int], int], real: Callable[[float], float]) -> Both:
        """Apply a function."""
        return Both(self.symbols, symbolic(self.symbols, self.value), real(self.number))


def absolute(symbols: Symbols, value: int) -> int:
    """Take the absolute value."""
    return largest(symbols, (value, symbols.negative(value)))


def tamed(x: Both) -> Both:
    """Return x/(1 + x²), which keeps numbers small."""
    return x * (x * x + constant(x.symbols, 1)).apply(Symbols.reciprocal, lambda y: 1 / y)


def rooted(x: Both) -> Both:
    """Return √(1 + x²)."""
    return (x * x + constant(x.symbols, 1)).apply(Symbols.root, math.sqrt)


def constant(symbols: Symbols, number: float) -> Both:
    """Return a constant."""
    return Both(symbols, symbols.number(number), float(number))


def distribution(x: float) -> float:
    """Return the normal distribution function."""
    return math.erfc(-x / math.sqrt(2)) / 2


ONE_ARGUMENT: list[Callable[[Both], Both]] = [
    tamed,
    rooted,
    lambda x: tamed(x).apply(Symbols.exponential, math.exp),
    lambda x: x.apply(Symbols.sigmoid, lambda y: 1 / (1 + math.exp(-y))),
    lambda x: x.apply(Symbols.tanh, math.tanh),
    lambda x: x.apply(absolute, abs),
    lambda x: x.apply(lambda symbols, value: largest(symbols, (value, ZERO)), lambda y: max(y, 0.0)),
    lambda x: x.apply(Symbols.error_function, math.erf),
    lambda x: x.apply(Symbols.normal_distribution, distribution),
    lambda x: x.times(Fraction(-3, 2)),
    lambda x: x + constant(x.symbols, 0.5),
]
TWO_ARGUMENTS: list[Callable[[Both, Both], Both]] = [
    lambda x, y: x + y,
    lambda x, y: x * y,
    lambda x, y: x + y.times(Fraction(-1)),
    lambda x, y: Both(x.symbols, largest(x.symbols, (x.value, y.value)), max(x.number, y.number)),
    lambda x, y: Both(x.symbols, least(x.symbols, (x.value, y.value)), min(x.number, y.number)),
]


def fresh() -> tuple[Symbols, list[int]]:
    """Return a table with four variables."""
    symbols = Symbols()
    return symbols, [symbols.variable(name) for name in "xyzt"]


def number_of(symbols: Symbols, value: int) -> tuple[float, float]:
    """Evaluate a value at the point, with the size of its terms."""
    return Valuation(symbols, dict(enumerate(POINT))).value_and_size(value)


steps = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100), st.integers(0, 100)), max_size=9)


def grown(steps: list[tuple[int, int, int]]) -> list[Both]:
    """Make expressions of expressions, as many as there are steps."""
    symbols, variables = fresh()
    made = [Both(symbols, value, number) for value, number in zip(variables, POINT, strict=True)]
    for which, first, second in steps:
        x, y = made[-1 - first % len(made)], made[-1 - second % len(made)]
        if which < 2 * len(ONE_ARGUMENT):
            made.append(ONE_ARGUMENT[which // 2](x))
        else:
            made.append(TWO_ARGUMENTS[which % len(TWO_ARGUMENTS)](x, y))
    return made


@hypothesis.given(steps)
@hypothesis.settings(deadline=None, max_examples=200)
def test_every_step_to_a_form_is_an_identity(steps: list[tuple[int, int, int]]) -> None:
    """Whatever is made of four numbers, its form has the value that it has by itself."""
    for both in grown(steps):
        value, size = number_of(both.symbols, both.value)
        assert value == pytest.approx(both.number, rel=1e-9, abs=1e-9 * size)


@hypothesis.given(steps, st.integers(0, 100), st.integers(0, 100))
@hypothesis.settings(deadline=None, max_examples=100)
def test_a_disguised_value_vanishes_against_itself(
    steps: list[tuple[int, int, int]], first: int, second: int
) -> None:
    """p·q/q − p is shown to be zero, and p + 1 is not shown to be p."""
    made = grown(steps)
    p, q = made[-1 - first % len(made)], made[-1 - second % len(made)]
    symbols = p.symbols
    hypothesis.assume(symbols.polynomial(q.value))
    disguised = symbols.product(symbols.product(p.value, q.value), symbols.reciprocal(q.value))
    assert vanishes(symbols, symbols.combination([(1, disguised), (-1, p.value)]))
    assert not vanishes(symbols, symbols.combination([(1, disguised), (-1, p.value), (1, ONE)]))


laurent = st.dictionaries(
    st.tuples(*[st.integers(-2, 2)] * 3),
    st.fractions(-3, 3, max_denominator=4).filter(bool),
    min_size=1,
    max_size=4,
)
Terms = dict[tuple[int, ...], Fraction]


@hypothesis.given(laurent, laurent, laurent)
@hypothesis.settings(deadline=None, max_examples=100)
def test_division_is_exact_or_none(first: Terms, second: Terms, third: Terms) -> None:
    """A quotient times the divisor is the dividend, powers below zero included; a remainder leaves none."""
    ring = Ring()

    def polynomial(terms: Terms) -> Polynomial:
        monomials = (tuple((n, power) for n, power in enumerate(powers) if power) for powers in terms)
        return dict(zip(map(ring.number, monomials), terms.values(), strict=True))

    divisor, other = polynomial(second), polynomial(third)
    product = ring.product(polynomial(first), divisor)
    found = quotient(ring, product, divisor)
    assert found == polynomial(first) or len(first) > len(product)
    dividend = ring.combination([(1, product), (1, other)])
    hypothesis.assume(dividend)
    found = quotient(ring, dividend, divisor)
    assert found is None or ring.product(found, divisor) == dividend


rationals = st.fractions(-3, 3, max_denominator=6)
vectors = st.lists(st.tuples(*[rationals] * 4, rationals), min_size=1, max_size=6)


@hypothesis.given(vectors, st.randoms())
@hypothesis.settings(deadline=None, max_examples=40)
def test_exponentials_of_sums_are_products_in_any_order(
    vectors: list[tuple[Fraction, ...]], random: object
) -> None:
    """e^(Σa) = Πe^a for all rational combinations of four numbers and a constant, whichever came first."""
    symbols, variables = fresh()
    exponents = [symbols.combination(list(zip(vector, (*variables, ONE), strict=True))) for vector in vectors]
    total = symbols.combination([(1, exponent) for exponent in exponents])
    shuffled = [*exponents, total]
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis does not name its type
    for exponent in shuffled:
        symbols.exponential(exponent)
    product = ONE
    for exponent in exponents:
        product = symbols.product(product, symbols.exponential(exponent))
    assert product == symbols.exponential(total)
    assert symbols.product(product, symbols.exponential(symbols.negative(total))) == ONE
    assert symbols.reciprocal(product) == symbols.exponential(symbols.negative(total))


def test_independent_exponentials_are_independent() -> None:
    """e^x, e^y and e^1 satisfy no relation, and e^(x/2) is no power of e^y."""
    symbols, (x, y, *_) = fresh()
    half = symbols.combination([(Fraction(1, 2), x)])
    powers = [symbols.exponential(value) for value in (x, y, half, ONE)]
    assert len(set(powers)) == 4
    assert [atom.kind for atom in symbols.atoms].count("exponential") == 3
    assert symbols.power(powers[2], 2) == powers[0]
    assert symbols.exponential(ZERO) == ONE
    assert symbols.exponential(LEAST) == ZERO


@hypothesis.given(vectors, st.tuples(*[rationals] * 4, rationals), st.fractions(Fraction(1, 5), 5))
@hypothesis.settings(deadline=None, max_examples=40)
def test_the_largest_moves_and_grows_with_its_arguments(
    vectors: list[tuple[Fraction, ...]], shift: tuple[Fraction, ...], factor: Fraction
) -> None:
    """max(c·a + s, c·b + s) = c·max(a, b) + s for c above zero, as one form, and in any order."""
    symbols, variables = fresh()

    def affine(vector: tuple[Fraction, ...]) -> int:
        return symbols.combination(list(zip(vector, (*variables, ONE), strict=True)))

    values = [affine(vector) for vector in vectors]
    whole = largest(symbols, values)
    moved = [symbols.combination([(factor, value), (1, affine(shift))]) for value in reversed(values)]
    assert largest(symbols, moved) == symbols.combination([(factor, whole), (1, affine(shift))])
    folded = values[0]
    for value in values:
        folded = largest(symbols, (value, folded))
    assert folded == whole


def test_the_largest_of_differences_is_one_form() -> None:
    """A largest value with a minus sign is taken out, so both signs of a difference meet in one atom."""
    symbols, (x, y, z, _) = fresh()
    inner = largest(symbols, (x, y))
    gap = symbols.combination([(1, inner), (-1, z)])
    relus = [largest(symbols, (each, ZERO)) for each in (gap, symbols.negative(gap))]
    summed = symbols.combination([(1, inner), (1, z), (1, relus[0]), (1, relus[1])])
    assert symbols.combination([(Fraction(1, 2), summed)]) == largest(symbols, (x, y, z))


def test_what_is_exceeded_is_left_out() -> None:
    """Squares, exponentials, roots and quotients of them are not negative; a difference of them may be."""
    symbols, (x, y, *_) = fresh()
    square, power = symbols.product(x, x), symbols.exponential(y)
    for positive in (square, power, symbols.reciprocal(symbols.combination([(1, square), (1, power)]))):
        assert largest(symbols, (positive, ZERO)) == positive
        assert least(symbols, (positive, ZERO)) == ZERO
    apart = symbols.combination([(1, square), (-1, power)])
    assert largest(symbols, (apart, ZERO)) not in (apart, ZERO)


def test_common_factors_leave_a_reciprocal() -> None:
    """1/(6x²e^y + 4xz·e^y) = x⁻¹·e^−y·(1/2)/(3x + 2z), and 1/(1/p) = p."""
    symbols, (x, y, z, _) = fresh()
    power = symbols.exponential(y)
    inner = symbols.combination([(3, x), (2, z)])
    whole = symbols.product(symbols.product(inner, symbols.product(x, power)), symbols.number(2))
    parts = symbols.product(symbols.reciprocal(inner), symbols.reciprocal(symbols.product(x, power)))
    assert symbols.reciprocal(whole) == symbols.combination([(Fraction(1, 2), parts)])
    assert symbols.reciprocal(symbols.reciprocal(inner)) == inner
    assert symbols.reciprocal(symbols.negative(inner)) == symbols.negative(symbols.reciprocal(inner))
    assert [atom.kind for atom in symbols.atoms].count("reciprocal") == 1


def test_roots_take_out_squares_of_numbers() -> None:
    """√(9p/4) = 3/2·√p, and the root of a square number is a number."""
    symbols, (x, *_) = fresh()
    inner = symbols.combination([(1, symbols.product(x, x)), (1, ONE)])
    scaled = symbols.combination([(Fraction(9, 4), inner)])
    assert symbols.root(scaled) == symbols.combination([(Fraction(3, 2), symbols.root(inner))])
    fifth = symbols.combination([(5, inner)])
    assert symbols.root(fifth) == symbols.of_atom(symbols.atom("root", (fifth,)))
    assert symbols.root(symbols.number(Fraction(9, 4))) == symbols.number(1.5)
    assert symbols.root(ZERO) == ZERO


def test_infinities_are_followed_where_they_have_a_meaning() -> None:
    """−∞ is a logit that a softmax leaves out, and the least of all numbers."""
    symbols, (x, *_) = fresh()
    assert symbols.combination([(1, LEAST), (1, x)]) == LEAST
    assert symbols.combination([(-2, LEAST)]) == GREATEST
    assert symbols.product(symbols.number(-0.5), GREATEST) == LEAST
    assert largest(symbols, (LEAST, x)) == x
    assert least(symbols, (LEAST, x)) == LEAST
    assert largest(symbols, (LEAST,)) == LEAST
    assert symbols.sigmoid(LEAST) == ZERO
    assert symbols.sigmoid(GREATEST) == ONE
    assert symbols.reciprocal(GREATEST) == ZERO
    assert number_of(symbols, LEAST) == (-math.inf, 0.0)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda s, x: s.product(x, LEAST), "multiplies infinity by data"),
        (lambda s, x: s.product(ZERO, LEAST), "multiplies infinity by zero"),
        (lambda s, x: s.product(GREATEST, LEAST), "meets infinity"),
        (lambda s, x: s.combination([(1, GREATEST), (1, LEAST)]), "adds infinities of both signs"),
        (lambda s, x: s.sum_of_products([(x, LEAST)]), "meets infinity"),
        (lambda s, x: s.exponential(GREATEST), "meets infinity"),
        (lambda s, x: s.reciprocal(s.combination([(1, x), (-1, x)])), "divides by zero"),
        (lambda s, x: s.combination([(1, UNWRITTEN)]), "reads memory that was never written"),
        (lambda s, x: s.product(x, UNDECIDED), "reads what is not followed, such as the place of a maximum"),
        (lambda s, x: s.exponential(NO_NUMBER), "meets what is no number"),
        (lambda s, x: s.combination([(1, s.number(math.nan))]), "meets what is no number"),
    ],
)
def test_what_has_no_form_says_why(make: Callable[[Symbols, int], int], why: str) -> None:
    """Where no value can be given, the reason is a predicate of the operation."""
    symbols, (x, *_) = fresh()
    with pytest.raises(NoFormError) as caught:
        make(symbols, x)
    assert str(caught.value) == why


def test_numbers_are_the_rationals_that_they_are() -> None:
    """A float is a binary fraction, whatever its decimals suggest, and whole numbers stay integers."""
    symbols = Symbols()
    tenth = symbols.polynomial(symbols.number(0.1))[UNIT]
    assert tenth == Fraction(3602879701896397, 36028797018963968)
    assert symbols.number(0.1) != symbols.number(Fraction(1, 10))
    assert type(symbols.polynomial(symbols.number(3.0))[UNIT]) is int
    assert symbols.number(True) == ONE == symbols.number(-1 * -1.0)
    assert symbols.constant(symbols.number(0.5)) == Fraction(1, 2)
    assert symbols.constant(symbols.variable("x")) is None
    assert symbols.constant(LEAST) is None


def test_values_are_written_shortly() -> None:
    """A form is told by its first terms, in the signs of a formula."""
    symbols, (x, y, z, t) = fresh()
    inner = symbols.combination([(1, x), (-2, y), (Fraction(1, 3), z), (1, t), (1, ONE)])
    assert written(symbols, ZERO) == "0"
    assert written(symbols, symbols.product(x, symbols.power(y, -2))) == "x·y^-2"
    assert written(symbols, inner) == "1 + x − 2·y + 2 more"
    assert written(symbols, symbols.reciprocal(inner)) == "3·(3 + 3·x + 3 more)^-1"
    assert written(symbols, largest(symbols, (x, y))) in ("y + max(0, x − y)", "x + max(0, −x + y)")
    assert written(symbols, symbols.exponential(symbols.negative(x))) == "exp(−x)"
    nested = x
    for _ in range(5):
        nested = symbols.root(symbols.combination([(1, nested), (1, ONE)]))
    assert written(symbols, nested) == "sqrt(1 + sqrt(1 + sqrt(…)))"
    many = symbols.combination([(Fraction(10**20 + n, 7**20), v) for n, v in enumerate((x, y, z, t))])
    long = written(symbols, symbols.power(many, 2))
    assert len(long) == 160
    assert long.endswith("…")
