"""Networks and published figures as the commands print them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.bench.catalog import Catalogue
from harness.bench.published import Books, Figure


def describe_network(catalogue: Catalogue, name: str | None, mixer: str | None) -> dict[str, Any]:
    """Return what ``sameop network --json`` prints: the names, or one network layer by layer.

    Raises :class:`SameopError` for an unknown name and for a mixer that cannot be used.
    """
    if name is None:
        return {"networks": list(catalogue.networks)}
    books = catalogue.books
    assembly = books.network(name, mixer)
    return {
        "name": name,
        "mixer": mixer,
        "source": catalogue.networks[name].source,
        "note": catalogue.networks[name].note,
        "params": assembly.params,
        "macs": assembly.macs,
        "convention": catalogue.networks[name].convention,
        "published": None if mixer else _published(catalogue.figures, books, name),
        "layers": [
            {
                "operator": layer.operator,
                "scope": layer.scope,
                "workload": layer.workload,
                "dims": dict(layer.dims) if layer.dims is not None else None,
                "count": layer.count,
                "params": layer.params,
                "macs": layer.macs,
                "elementwise": layer.elementwise,
            }
            for layer in assembly.layers
        ],
    }


def _published(figures: list[Figure], books: Books, name: str) -> dict[str, Any] | None:
    """Gather what sources print about a network; of several figures the first of each quantity leads."""
    found = [figure.check(books) for figure in figures if figure.subject == name]
    if not found:
        return None
    leading = {figure["quantity"]: figure["printed"] for figure in reversed(found)}
    return {
        "params": leading.get("params"),
        "macs": leading.get("macs"),
        "source": "; ".join(dict.fromkeys(figure["source"] for figure in found)),
        "verdict": "; ".join(f"{figure['quantity']} {figure['verdict']}" for figure in found),
        "figures": found,
    }


def check_published(catalogue: Catalogue) -> dict[str, Any]:
    """Check every published figure and every stated formula.

    as_expected is false where a formula's verdict is not the one that its page expects and explains, or
    fewer than four fifths of the figures that were read in their source are matched or closed.
    """
    books = catalogue.books
    figures = [figure.check(books) for figure in catalogue.figures]
    formulas = [formula.check(books) for formula in catalogue.formulas]
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
