"""Comparisons: which operators meet on one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.bench.dims import Dims, Workload


@dataclass(frozen=True)
class Comparison:
    """Operators of one scope on one shared workload; ``matched`` says what is equal beside the input.

    The workload is added to each operator's own, so a page need not know where its operator meets others.
    particulars: by operator, the dimensions that it alone has or counts in its own way, such as its groups.
    """

    name: str
    scope: str
    operators: tuple[str, ...]
    workload: Workload
    matched: str
    particulars: Mapping[str, Dims] = field(default_factory=dict)

    def workload_of(self, operator: str) -> Workload:
        """Return the shared workload with the particulars of one operator."""
        own = self.particulars.get(operator, Dims())
        return replace(self.workload, dims=self.workload.dims.replace(**own))
