"""Independent counters agree with the closed formulas, but for a tenth of the pairs of operator and counter.

A pair agrees where the counter sees all multiply-accumulates of some implementation: no counter of matrix
products and convolutions sees what is multiplied and added elementwise, and the page then says how much it
sees. The sum with every input one counts the taps inside the map, for which the pages have a formula too;
it can count bilinear scopes alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import Operator, Scope
from harness.bench.catalog import load_catalogue
from harness.bench.measure.macs import count_by_witnesses, probe_with_ones
from harness.bench.measure.subject import Subject

OPERATORS = load_catalogue([Path(__file__).parent]).operators
MOST_EXCEPTIONS = 0.1


def witnessed(scope: Scope) -> Iterator[Mapping[str, Mapping[str, Any]]]:
    """Let every counter count every eager implementation at the first workload, the best one first."""
    dims = scope.workloads[0].dims
    forms = [
        form for form in scope.implementations.values() if form.kind == "eager" and "cpu" in form.devices
    ]
    for form in sorted(forms, key=lambda form: not form.preferred):
        if form.supports is None or form.supports(dims) is None:
            subject = Subject(scope, form, dims, "float32", "cpu", "forward")
            yield count_by_witnesses(subject)
    yield {"ones": probe_with_ones(Subject(scope, scope.reference, dims, "float32", "cpu", "forward"))}


def verdicts(operator: Operator) -> dict[str, bool]:
    """Return, by the counters that can count the operator, whether they agree with a formula of its page."""
    found: dict[str, bool] = {}
    for scope in operator.scopes.values():
        for counts in witnessed(scope):
            for witness, count in counts.items():
                if count["verdict"] == "not counted":
                    continue
                agrees = count["verdict"] == "agrees" or (
                    witness == "ones" and count["verdict"] == "explained"
                )
                found[witness] = found.get(witness, False) or agrees
    return found


def test_exceptions_are_few() -> None:
    """At most a tenth of the pairs of operator and counter are exceptions."""
    pairs = {(name, w): fine for name, op in OPERATORS.items() for w, fine in verdicts(op).items()}
    exceptions = sorted(pair for pair, fine in pairs.items() if not fine)
    assert len(pairs) > len(OPERATORS)
    assert len(exceptions) <= MOST_EXCEPTIONS * len(pairs), exceptions
