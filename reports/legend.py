"""What the catalogue in a run's header says of operators, workloads and comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facts import write_dims


class Legend:
    """Looks names up in the JSON of the catalogue; a name that is not there yields nothing."""

    def __init__(self, catalogue: Mapping[str, Any]) -> None:
        self._operators = {entry["name"]: entry for entry in catalogue.get("operators", ())}
        self.comparisons: list[Mapping[str, Any]] = list(catalogue.get("comparisons", ()))
        self.claims: list[str] = [entry["name"] for entry in catalogue.get("claims", ())]
        self._dims = {
            (name, in_id(workload)): write_dims(dims)
            for name, entry in self._operators.items()
            for workload, dims in entry.get("dims", {}).items()
        }

    def operator(self, name: str) -> Mapping[str, Any]:
        """Return what the catalogue says of an operator."""
        found: Mapping[str, Any] = self._operators.get(name, {})
        return found

    def dims(self, operator: str, workload: str) -> str:
        """Return the dimensions of a workload in a row of text."""
        return self._dims.get((operator, in_id(workload)), "")

    def workload(self, operator: str, name: str) -> str:
        """Return a workload's own name for the one that stands in a case id."""
        known = self.operator(operator).get("dims", {})
        return next((workload for workload in known if in_id(workload) == name), name)

    def declares(self, operator: str, scope: str, implementation: str) -> bool:
        """Whether the operator's page has such an implementation."""
        return any(
            entry["name"] == implementation and scope in entry.get("scopes", (scope,))
            for entry in self.operator(operator).get("implementations", ())
        )


def in_id(workload: str) -> str:
    """Write a workload as it stands in a case id."""
    return workload.replace("/", "-")
