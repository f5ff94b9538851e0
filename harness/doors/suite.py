"""The tests that every project with sameop cases gets: claims, agreement, costs and speed.

The plugin fills the fixtures ``sameop_claim``, ``sameop_agreement``, ``sameop_cost`` and
``sameop_case`` from the project's catalogue.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.bench.agreement import prepare
from harness.bench.claims import Claim
from harness.bench.proof.prover import prove
from harness.doors.measuring import MeasuringRun
from harness.doors.messages import claim_failure
from harness.doors.parameters import AgreementCheck, CostCheck
from harness.doors.replay import replay
from harness.paper.record import ClaimRecord


def test_claim(sameop_claim: Claim, sameop_run: MeasuringRun | None) -> None:
    """A claim has the expected verdict, and so has each of its mutants."""
    found = (
        sameop_run.prove(sameop_claim) if sameop_run else ClaimRecord(sameop_claim.name, prove(sameop_claim))
    )
    if not found.as_expected:
        pytest.fail(claim_failure(found.result), pytrace=False)


def test_agreement(sameop_agreement: AgreementCheck) -> None:
    """An implementation equals its reference, values and gradients, at every adversarial shape."""
    check = sameop_agreement
    for dims in check.dims:
        agreement = prepare(check.scope, dims, check.dtype, check.device).judge(check.implementation)
        if not agreement.agrees:
            pytest.fail(f"{check.name} at {dims!r}: {agreement.reason}", pytrace=False)


def test_cost(sameop_cost: CostCheck) -> None:
    """The closed formulas equal what is counted: parameters, elements read and written, shapes."""
    scope, dims = sameop_cost.scope, sameop_cost.workload.dims
    cost, specs = scope.cost(dims), scope.inputs(dims)
    learned = sum(spec.elements for spec in specs.values() if spec.role == "parameter")
    assert cost.params == learned
    assert cost.elements_read == sum(spec.elements for spec in specs.values())
    assert cost.elements_written == math.prod(scope.output(dims))


def test_speed(
    request: pytest.FixtureRequest, sameop_case: str, sameop_run: MeasuringRun, benchmark: Any
) -> None:
    """A case agrees with its reference before and after it is timed; its samples are replayed."""
    record = sameop_run.measure(sameop_case)
    latency = record.readings.get("latency")
    if latency is None or latency.value is None:
        pytest.fail(f"{record.case}: {record.status}. {record.reason}", pytrace=False)
    marker = request.node.get_closest_marker("benchmark")
    if marker is not None:
        replay(benchmark, marker.kwargs["timer"], latency.samples, {"sameop_case": sameop_case})
