"""Declared and probed traits as ``sameop traits`` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.paper.errors import SameopError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.bench.catalog import Catalogue
    from harness.bench.pages import Operator
    from harness.bench.proof.probe import Probed

# What makes the command fail: a wrong declaration, and one that could not be held against anything.
FAILURES = ("contradicted", "not probed")


def describe_traits(catalogue: Catalogue, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Probe operators, all of them without a name, and yield an entry of the document for each.

    Raises :class:`SameopError` for an unknown name before anything is probed.
    """
    from harness.bench.proof.probe import probe

    for operator in catalogue.operators_named(names):
        try:
            yield _entry(operator, probe(operator))
        except SameopError as error:
            yield {**_page(operator), "verdict": "not probed", "reason": str(error)}


def _page(operator: Operator) -> dict[str, Any]:
    return {
        "operator": operator.name,
        "family": operator.family,
        "declared": operator.traits.as_dict() if operator.traits else {},
        "probed": {},
        "contradicts": [],
        "dims": {},
        "reason": None,
    }


def _entry(operator: Operator, probed: Probed) -> dict[str, Any]:
    contradicts = probed.contradicts(operator.traits) if operator.traits else []
    verdict = "contradicted" if contradicts else "confirmed" if operator.traits else "undeclared"
    return {
        **_page(operator),
        "scope": probed.scope,
        "probed": probed.as_dict(),
        "verdict": verdict,
        "contradicts": contradicts,
        "dims": dict(probed.dims),
        "measured": _measured(probed),
    }


def _measured(probed: Probed) -> dict[str, Any]:
    """Return what the traits were read from; rows of zeros and ones as text."""
    return {
        "grid": list(probed.grid),
        "positions": _rows(probed.positions),
        "channels": _rows(probed.pairs),
        "output": list(probed.output),
        "read": _rows(probed.read),
        "width": probed.width,
        "ranks": {axis: {"found": rank.found, "full": rank.full} for axis, rank in probed.ranks.items()},
        "change": probed.change,
        "differences": list(probed.differences),
        "exact": probed.exact,
    }


def _rows(matrix: Tensor) -> list[str]:
    return ["".join("1" if value else "0" for value in row) for row in matrix.tolist()]
