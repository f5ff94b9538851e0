"""Published figures: precision, terms, and formulas."""

from __future__ import annotations

import pytest

from harness import Books, Dims, Figure, Formula, Term
from harness.bench.published import check_published, number, shown_as
from harness.paper.errors import SameopError

BOOKS = Books({}, {})


@pytest.mark.parametrize(
    ("counted", "printed", "shown"),
    [
        (25_557_032, "25.557 M", True),
        (25_557_032, "25.56 M", True),
        (25_557_032, "26 M", True),
        (25_557_032, "25.558 M", False),
        (4388, "4388", True),
        (4389, "4388", False),
        (1_835_000_000, "1.84 G", True),
        (296_584, "296.6 k", True),
    ],
)
def test_precision(counted: int, printed: str, shown: bool) -> None:
    """A count matches when it rounds to the printed digits, and only then."""
    assert shown_as(counted, printed) is shown


def test_number() -> None:
    """A printed figure is read with its unit."""
    assert number("25.557 M") == 25_557_000
    with pytest.raises(SameopError, match="cannot be read"):
        number("about 3")


def figure(counted: float, *terms: Term) -> str:
    """Return the verdict on a count held against 3.86 G."""
    found = Figure("net", "macs", "3.86 G", "somewhere", lambda _: counted, terms)
    return str(found.check(BOOKS)["verdict"])


def test_verdicts() -> None:
    """Matched, closed by a computed term, or not reproduced."""
    stride = Term("stride in the first 1×1", lambda _: -0.23e9)
    assert figure(3.8613e9) == "matched"
    assert figure(4.0892e9, stride) == "closed"
    assert figure(4.0892e9) == "not reproduced"
    assert figure(4.2e9, stride) == "not reproduced"


def test_difference_is_of_what_the_verdict_speaks_of() -> None:
    """A figure that is not reproduced says by how much the count differs."""
    found = Figure("net", "macs", "4 G", "somewhere", lambda _: 5e9, (Term("too little", lambda _: -1.0),))
    assert found.check(BOOKS)["difference"] == pytest.approx(0.25)


def formula(kind: str, counted: dict[int, int]) -> str:
    """Return the verdict on counts held against n²."""
    found = Formula(
        "n²",
        "something",
        "somewhere",
        stated=lambda d: d.T**2,
        counted=lambda _, d: counted[d.T],
        dims=[Dims(T=T) for T in counted],
        kind=kind,
    )
    return str(found.check(BOOKS)["verdict"])


def test_formulas() -> None:
    """A formula holds at every dims; an order of growth within a factor of two."""
    assert formula("formula", {2: 4, 3: 9}) == "holds"
    assert formula("formula", {2: 4, 3: 10}) == "differs"
    assert formula("growth", {4: 50, 64: 64 * 64 * 3}) == "holds"
    assert formula("growth", {4: 16, 64: 64 * 16}) == "differs"


def printed(digits: str, verified: bool = True) -> Figure:
    """Make a figure whose count is 47."""
    return Figure("net", "params", digits, "a paper", lambda _: 47, verified=verified)


def test_too_few_reproduced_figures_fail() -> None:
    """Four fifths of the figures that were read must be matched or closed; others decide nothing."""
    good, bad, unread = printed("47"), printed("48"), printed("49", verified=False)
    assert check_published(BOOKS, [good, unread], [])["as_expected"]
    found = check_published(BOOKS, [good, bad], [])
    assert not found["as_expected"]
    assert found["counts"] == {"matched": 1, "closed": 0, "not reproduced": 1}
