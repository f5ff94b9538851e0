"""sameop tells whether two neural operators are the same function, and what each costs.

This module is what a page of operators or claims imports. Every name is loaded on first use,
so that reading runs never needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.bench.claims import Claim, Lemma, equivalent, lemma, mutant
    from harness.bench.comparison import Comparison
    from harness.bench.cost import Cost, taps_in_bounds
    from harness.bench.dims import Dims, Workload, sweep
    from harness.bench.drawn import DrawnEdge
    from harness.bench.inputs import Spec, activation, buffer, generated, parameter
    from harness.bench.network import Blueprint, Network
    from harness.bench.pages import Operator, Scope
    from harness.bench.published import Books, Figure, Formula, Term
    from harness.bench.traits import Traits
    from harness.paper.errors import SameopError

__version__ = "0.1.0"

_HOMES = {
    "Claim": "harness.bench.claims",
    "Lemma": "harness.bench.claims",
    "equivalent": "harness.bench.claims",
    "lemma": "harness.bench.claims",
    "mutant": "harness.bench.claims",
    "Comparison": "harness.bench.comparison",
    "Cost": "harness.bench.cost",
    "taps_in_bounds": "harness.bench.cost",
    "Dims": "harness.bench.dims",
    "Workload": "harness.bench.dims",
    "sweep": "harness.bench.dims",
    "DrawnEdge": "harness.bench.drawn",
    "Spec": "harness.bench.inputs",
    "activation": "harness.bench.inputs",
    "buffer": "harness.bench.inputs",
    "generated": "harness.bench.inputs",
    "parameter": "harness.bench.inputs",
    "Blueprint": "harness.bench.network",
    "Network": "harness.bench.network",
    "Operator": "harness.bench.pages",
    "Scope": "harness.bench.pages",
    "Books": "harness.bench.published",
    "Figure": "harness.bench.published",
    "Formula": "harness.bench.published",
    "Term": "harness.bench.published",
    "Traits": "harness.bench.traits",
    "SameopError": "harness.paper.errors",
}

__all__ = [
    "Blueprint",
    "Books",
    "Claim",
    "Comparison",
    "Cost",
    "Dims",
    "DrawnEdge",
    "Figure",
    "Formula",
    "Lemma",
    "Network",
    "Operator",
    "SameopError",
    "Scope",
    "Spec",
    "Term",
    "Traits",
    "Workload",
    "activation",
    "buffer",
    "equivalent",
    "generated",
    "lemma",
    "mutant",
    "parameter",
    "sweep",
    "taps_in_bounds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
