"""Comparisons: which operators meet on one input."""

from __future__ import annotations

from dataclasses import dataclass

from harness.bench.dims import Workload


@dataclass(frozen=True)
class Comparison:
    """Operators of one scope on one shared workload; ``matched`` says what is equal beside the input.

    The workload is added to each operator's own, so a page need not know where its operator meets others.
    """

    name: str
    scope: str
    operators: tuple[str, ...]
    workload: Workload
    matched: str
