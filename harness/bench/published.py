"""What papers print about costs, held against what is counted here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from harness.bench.dims import Dims
from harness.bench.network import Assembly, Network
from harness.bench.pages import Operator, Scope
from harness.paper.errors import SameopError

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclass
class Books:
    """What there is to count: operators and networks, each network assembled once."""

    operators: Mapping[str, Operator]
    networks: Mapping[str, Network]
    _assembled: dict[str, Assembly] = field(default_factory=dict)

    def network(self, name: str) -> Assembly:
        """Assemble a network; ``swin_t+involution`` is swin_t with involution as its mixing layers.

        Raises :class:`SameopError` for an unknown network, and for a mixer that cannot be used.
        """
        base, _, mixer = name.partition("+")
        if base not in self.networks:
            raise SameopError(
                f"No network is named {base!r}: `sameop network` without a name lists the "
                f"{len(self.networks)} that are."
            )
        if name not in self._assembled:
            self._assembled[name] = self.networks[base].assemble(self.operators, mixer or None)
        return self._assembled[name]

    def params(self, operator: str, scope: str, **letters: Any) -> int:
        """Parameters of one layer."""
        return self._scope(operator, scope).cost(Dims(**letters)).params

    def macs(self, operator: str, scope: str, **letters: Any) -> int:
        """Multiply-accumulates of one layer."""
        return self._scope(operator, scope).cost(Dims(**letters)).macs

    def elementwise(self, operator: str, scope: str, **letters: Any) -> int:
        """Elementwise operations of one layer."""
        return self._scope(operator, scope).cost(Dims(**letters)).elementwise

    def executed(self, operator: str, scope: str, implementation: str, d: Dims) -> int:
        """Multiply-accumulates that an implementation executes, where it says that they differ."""
        chosen = self._scope(operator, scope)
        counted = chosen.implementations[implementation].counted
        return counted(d) if counted else chosen.cost(d).macs

    def generated(self, operator: str, d: Dims) -> int:
        """Count the numbers that a core takes from its generator, for one image."""
        specs = self._scope(operator, "core").inputs(d).values()
        return sum(spec.elements for spec in specs if spec.role == "generated")

    def _scope(self, operator: str, scope: str) -> Scope:
        if operator not in self.operators or scope not in self.operators[operator].scopes:
            raise SameopError(
                f"A figure speaks of {operator}/{scope}, which no page declares: correct the figure."
            )
        return self.operators[operator].scopes[scope]


@dataclass(frozen=True)
class Term:
    """Something that a source counts and we do not, or the other way round (then it is negative)."""

    reason: str
    count: Callable[[Books], float]


@dataclass(frozen=True)
class Figure:
    """A number that a source prints, to be matched to the precision in which it is printed.

    subject: a network, or an operator at some shape. quantity: ``params`` or ``macs``. printed: as
    ``25.557 M``. counted: what we count. terms: computed terms that close a gap. verified: whether
    the source was read; a figure that is only reported by others is shown and decides nothing.
    """

    subject: str
    quantity: str
    printed: str
    source: str
    counted: Callable[[Books], float]
    terms: tuple[Term, ...] = ()
    verified: bool = True
    remark: str = ""

    def check(self, books: Books) -> dict[str, Any]:
        """Count, and say whether the figure is matched, closed by the terms, or not reproduced."""
        counted = self.counted(books)
        values = [term.count(books) for term in self.terms]
        terms = [{"reason": t.reason, "value": v} for t, v in zip(self.terms, values, strict=True)]
        closed = counted + sum(values)
        if shown_as(counted, self.printed):
            verdict, terms = "matched", []
        elif terms and shown_as(closed, self.printed):
            verdict = "closed"
        else:
            verdict = "not reproduced"
        return {
            "subject": self.subject,
            "quantity": self.quantity,
            "printed": self.printed,
            "counted": counted,
            "terms": terms,
            "difference": (counted if verdict == "matched" else closed) / number(self.printed) - 1,
            "verdict": verdict,
            "source": self.source,
            "verified": self.verified,
            "remark": self.remark,
        }


def number(printed: str) -> float:
    """Return the number that is printed, such as 25557000 for ``25.557 M``."""
    value, unit = _parsed(printed)
    return float(value) * unit


def shown_as(counted: float, printed: str) -> bool:
    """Tell whether a count, rounded as the printed number is, gives that number."""
    value, unit = _parsed(printed)
    rounded = (Decimal(counted) / unit).quantize(value, rounding=ROUND_HALF_UP)
    return rounded == value


def _parsed(printed: str) -> tuple[Decimal, int]:
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?) ?([kMG]?)", printed)
    if not found:
        raise SameopError(f"The figure {printed!r} cannot be read: write it as '25.56 M', '4388' or '3.8 G'.")
    return Decimal(found[1]), _UNITS[found[2]]


@dataclass(frozen=True)
class Formula:
    """A formula of parameters or complexity that a text states, and what the page of the operator counts.

    stated, counted: dims to a number. dims: where they are held against each other. A formula is exact;
    a ``growth`` states an order, and its ratio to the count must stay within a factor of two while
    the dims grow sixteenfold and more. expected: the verdict that the remark explains.
    """

    text: str
    about: str
    source: str
    stated: Callable[[Dims], float]
    counted: Callable[[Books, Dims], float]
    dims: Sequence[Dims]
    kind: str = "formula"
    expected: str = "holds"
    remark: str = ""

    def check(self, books: Books) -> dict[str, Any]:
        """Hold the formula against the count at every dims."""
        rows = list(self._rows(books))
        ratios = [row["counted"] / row["stated"] for row in rows]
        if self.kind == "growth":
            holds = max(ratios) <= 2 * min(ratios)
        else:
            holds = all(row["counted"] == row["stated"] for row in rows)
        return {
            "text": self.text,
            "about": self.about,
            "kind": self.kind,
            "source": self.source,
            "rows": rows,
            "verdict": "holds" if holds else "differs",
            "expected": self.expected,
            "remark": self.remark,
        }

    def _rows(self, books: Books) -> Iterator[dict[str, Any]]:
        for dims in self.dims:
            yield {
                "dims": dict(dims),
                "stated": self.stated(dims),
                "counted": self.counted(books, dims),
            }


def check_published(books: Books, printed: Sequence[Figure], stated: Sequence[Formula]) -> dict[str, Any]:
    """Check every published figure and every stated formula.

    as_expected is false where a formula's verdict is not the one that its page expects and explains, or
    fewer than four fifths of the figures that were read in their source are matched or closed.
    """
    figures = [figure.check(books) for figure in printed]
    formulas = [formula.check(books) for formula in stated]
    read = [figure for figure in figures if figure["verified"]]
    reached = [figure for figure in read if figure["verdict"] != "not reproduced"]
    counts = _tally(figures)
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return {
        "figures": figures,
        "formulas": formulas,
        "counts": counts,
        "summary": (
            f"{len(figures)} figures: {tally}; "
            f"of the {len(read)} that were read in their source {len(reached)} are matched or closed. "
            f"{len(formulas)} stated formulas: {sum(f['verdict'] == 'holds' for f in formulas)} hold."
        ),
        "as_expected": len(reached) >= 0.8 * len(read)
        and all(formula["verdict"] == formula["expected"] for formula in formulas),
    }


def _tally(figures: list[dict[str, Any]]) -> Mapping[str, int]:
    verdicts = ("matched", "closed", "not reproduced")
    return {verdict: sum(figure["verdict"] == verdict for figure in figures) for verdict in verdicts}
