"""What the fixtures of the suite hold, drawn from a catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.bench.catalog import Catalogue
from harness.bench.dims import Dims, Workload
from harness.bench.machine import device_missing
from harness.bench.pages import Implementation, Scope


@dataclass(frozen=True)
class AgreementCheck:
    """One implementation of one scope, to be held against its reference at small shapes."""

    scope: Scope
    implementation: Implementation
    dtype: str
    device: str
    dims: tuple[Dims, ...]

    @property
    def name(self) -> str:
        """A readable name."""
        operator = self.scope.operator.name
        return f"{operator}/{self.scope.name}/{self.implementation.name}/{self.dtype}/{self.device}"


@dataclass(frozen=True)
class CostCheck:
    """One workload of one scope, whose closed formulas are to be checked."""

    scope: Scope
    workload: Workload

    @property
    def name(self) -> str:
        """A readable name."""
        workload = self.workload.name.replace("/", "-")
        return f"{self.scope.operator.name}/{self.scope.name}/{workload}"


def agreement_checks(catalogue: Catalogue) -> Iterator[AgreementCheck]:
    """List every implementation, in float32 and on every device present.

    References are among them: in float32 they are held against themselves in float64.
    """
    devices = [device for device in ("cpu", "cuda") if device_missing(device) is None]
    for operator in catalogue.operators.values():
        for scope in operator.scopes.values():
            for implementation in scope.implementations.values():
                for device in (device for device in devices if device in implementation.devices):
                    if implementation.kind == "compiled":
                        continue  # compiled for minutes at these shapes; certified where they are measured
                    dims = tuple(d for d in scope.proof_dims if implementation.refusal(d) is None)
                    dtype = "float32" if "float32" in implementation.dtypes else implementation.dtypes[0]
                    yield AgreementCheck(scope, implementation, dtype, device, dims)


def cost_checks(catalogue: Catalogue) -> Iterator[CostCheck]:
    """List every workload of every scope."""
    for operator in catalogue.operators.values():
        for scope in operator.scopes.values():
            for workload in scope.workloads:
                yield CostCheck(scope, workload)
