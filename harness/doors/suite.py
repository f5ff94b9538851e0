"""The tests that every project with sameop cases gets: claims, agreement, costs and speed.

The plugin fills the fixtures ``sameop_claim``, ``sameop_agreement``, ``sameop_cost`` and
``sameop_case`` from the project's catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.bench.agreement import Judge, prepare
from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.measure.arithmetic import exact_arithmetic, full_precision
from harness.bench.measure.macs import count_by_witnesses, probe_with_ones
from harness.bench.measure.subject import Subject
from harness.bench.pages import Operator
from harness.bench.proof.box import certify_smallest
from harness.doors.measuring import MeasuringRun
from harness.doors.messages import claim_failure
from harness.doors.parameters import AgreementCheck, CostCheck
from harness.doors.proving import Proofs
from harness.doors.replay import replay
from harness.paper.record import ClaimRecord, Record


def test_claim(sameop_claim: Claim, sameop_run: MeasuringRun | None, request: pytest.FixtureRequest) -> None:
    """A claim has the expected verdict, and so has each of its mutants; another one would not pass."""
    if sameop_run:
        found = sameop_run.prove(sameop_claim)
    else:
        proofs: Proofs = request.getfixturevalue("sameop_proofs")
        found = ClaimRecord(sameop_claim.name, proofs.of(sameop_claim))
    if not found.as_expected:
        pytest.fail(claim_failure(found.result), pytrace=False)
    for flipped in found.flipped():
        assert not flipped.as_expected, flipped.name


def test_agreement(sameop_agreement: AgreementCheck) -> None:
    """An implementation equals its reference, values and gradients, at every adversarial shape."""
    check = sameop_agreement
    for dims in check.dims:
        judge = _judge(check, dims)
        with full_precision():
            agreement = judge.judge(check.implementation)
        if not agreement.agrees:
            pytest.fail(f"{check.name} at {dims!r}: {agreement.reason}", pytrace=False)
    certificate = certify_smallest(check.scope, check.implementation)
    if not certificate.agrees:
        pytest.fail(f"{check.name}: {certificate.reason}", pytrace=False)


def _judge(check: AgreementCheck, dims: Dims) -> Judge:
    """Follow the reference once for all implementations of a scope, which come one after another."""
    scope = f"{check.scope.operator.place} {check.scope.name}", check.dtype, check.device
    if _JUDGES.scope != scope:
        _JUDGES.scope, _JUDGES.by_dims = scope, {}
    if dims not in _JUDGES.by_dims:
        with exact_arithmetic():
            _JUDGES.by_dims[dims] = prepare(check.scope, dims, check.dtype, check.device)
    return _JUDGES.by_dims[dims]


@dataclass
class _Judges:
    """The judges of the scope that was checked last."""

    scope: tuple[str, str, str] = ("", "", "")
    by_dims: dict[Dims, Judge] = field(default_factory=dict)


_JUDGES = _Judges()


def test_cost(sameop_cost: CostCheck) -> None:
    """The closed formulas equal what is counted: parameters, elements, output, multiply-accumulates."""
    scope, dims = sameop_cost.scope, sameop_cost.workload.dims
    cost = scope.cost(dims)
    for quantity, count in scope.costs_of_shapes(dims).items():
        assert getattr(cost, quantity) == count, quantity
    if sameop_cost.workload is scope.workloads[0]:
        for name, found in _witnesses(sameop_cost):
            if found["verdict"] == "unexplained":
                pytest.fail(f"{name} counts {found['macs']:.0f} MACs, but {found['reason']}.", pytrace=False)


_ONES = "the sum with every input one"


def _witnesses(check: CostCheck) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Count the MACs of every eager implementation at one workload, once for all tests."""
    key = check.scope.operator.place, check.name
    if key not in _COUNTED:
        _COUNTED[key] = tuple(_count(check))
    return _COUNTED[key]


_COUNTED: dict[tuple[str, str], Sequence[tuple[str, Mapping[str, Any]]]] = {}


def _count(check: CostCheck) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, implementation in check.scope.implementations.items():
        if implementation.kind == "eager" and "cpu" in implementation.devices:
            subject = Subject(check.scope, implementation, check.workload.dims, "float32", "cpu", "forward")
            for witness, found in count_by_witnesses(subject).items():
                yield f"{check.name} by {name}: {witness}", found
            if name == "reference":
                yield f"{check.name}: {_ONES}", probe_with_ones(subject)


def witness_pairs(operators: Iterable[Operator]) -> dict[tuple[str, str], bool]:
    """Return for every operator and counter whether the counter agrees with a formula of the page.

    It agrees where it sees all multiply-accumulates of some implementation; the sum with every input one,
    which counts the taps inside the map, where it agrees with the formula for these. What a counter cannot
    count at all is left out.
    """
    pairs: dict[tuple[str, str], bool] = {}
    for operator in operators:
        for scope in operator.scopes.values():
            for witness, verdict in _verdicts(CostCheck(scope, scope.workloads[0])):
                if verdict != "not counted":
                    agrees = verdict == "agrees" or (witness == _ONES and verdict == "explained")
                    key = operator.name, witness
                    pairs[key] = pairs.get(key, False) or agrees
    return pairs


def _verdicts(check: CostCheck) -> Iterator[tuple[str, str]]:
    """Name the counter and its verdict for every eager implementation."""
    for name, found in _witnesses(check):
        yield name.rpartition(": ")[2], found["verdict"]


def test_speed(
    request: pytest.FixtureRequest, sameop_case: str, sameop_run: MeasuringRun, benchmark: Any
) -> None:
    """A case agrees with its reference before and after it is timed; its samples are replayed."""
    samples: Sequence[float] = ()
    try:
        samples = _samples(sameop_run.measure(sameop_case))
    finally:
        # Also where there are none, and where Ctrl-C ended the measurement.
        marker = request.node.get_closest_marker("benchmark")
        if marker is not None:
            replay(benchmark, marker.kwargs["timer"], samples, {"sameop_case": sameop_case})


def _samples(record: Record) -> Sequence[float]:
    latency = record.readings.get("latency")
    if latency is None or latency.value is None:
        pytest.fail(f"{record.case}: {record.status}. {record.reason}", pytrace=False)
    return latency.samples
