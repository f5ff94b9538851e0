"""Proving a claim: the certificate at every shape, and the same certificate against every mutant."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import Tensor

from harness.bench.claims import Claim, Mutant
from harness.bench.dims import Dims
from harness.bench.inputs import Tensors, seed_of
from harness.bench.proof.certificate import Difference, Outcome, Outputs, Program, certify
from harness.bench.threads import one_thread
from harness.paper.errors import SameopError

# One trial that differs refutes a mutant, so few are enough; one that escapes them is reported.
_MUTANT_TRIALS = 8
# A sparse mutant differs from the truth in a smaller share of the outputs.
SPARSE_BELOW = 0.05


@one_thread()
def prove(claim: Claim) -> dict[str, Any]:
    """Check a claim and its mutants; return the result in the shape of ``sameop prove --json``."""
    claim.check()
    started = time.perf_counter()
    outcomes = [(d, *_timed(claim, d)) for d in claim.shapes]
    verdict, worst = _overall([outcome for _, outcome, _ in outcomes])
    refuting = next(((d, outcome) for d, outcome, _ in outcomes if outcome.difference), None)
    return {
        "name": claim.name,
        "statement": claim.statement,
        "kind": claim.kind,
        "operators": list(claim.operators),
        "source": claim.source,
        "conditions": list(claim.conditions.values()),
        "expected": claim.expected,
        "verdict": verdict,
        "level": None if verdict == "refused" else "L1",
        "evidence": [_evidence(d, outcome, seconds) for d, outcome, seconds in outcomes],
        "counterexample": _counterexample(claim, None, *refuting) if refuting else None,
        "reason": worst.reason,
        "corrects": claim.corrects,
        "mutants": [_judge(claim, mutant) for mutant in claim.mutants],
        "seconds": time.perf_counter() - started,
    }


def _timed(claim: Claim, d: Dims) -> tuple[Outcome, float]:
    started = time.perf_counter()
    outcome = certify_claim(claim, d, trials=None)
    return outcome, time.perf_counter() - started


def certify_claim(claim: Claim, d: Dims, trials: int | None = None) -> Outcome:
    """Hold the two sides of a claim against each other at one shape."""
    return certify(
        _side(claim, d, "left"),
        _side(claim, d, "right"),
        claim.variables(d),
        seed_of(claim.name, repr(d)),
        trials,
    )


def _side(claim: Claim, d: Dims, name: str) -> Program:
    def run(variables: Tensors) -> Outputs:
        given: Mapping[str, Tensor] = claim.given(d, **variables)
        outputs: Outputs = getattr(claim, name)(d, **given)
        return outputs

    return run


def _overall(outcomes: list[Outcome]) -> tuple[str, Outcome]:
    """Return the verdict of the claim, which holds only where every shape does."""
    for verdict in ("refuted", "refused"):
        for outcome in outcomes:
            if outcome.verdict == verdict:
                return verdict, outcome
    return "holds", outcomes[0]


def _judge(claim: Claim, mutant: Mutant) -> dict[str, Any]:
    """Refute a mutant at the first shape that can; an equivalent one must hold at every shape."""
    changed = claim.with_mutant(mutant)
    verdict, reason, counterexample, share = "holds", None, None, None
    for d in claim.shapes:
        outcome = certify_claim(changed, d, trials=None if mutant.reason else _MUTANT_TRIALS)
        if outcome.difference:
            verdict, reason, share = "refuted", None, outcome.difference.share
            _demand_sparse(claim, mutant, share)
            counterexample = _counterexample(claim, mutant, d, outcome)
            break
        if outcome.verdict == "refused":
            verdict, reason = "refused", outcome.reason
    return {
        "name": mutant.name,
        "statement": mutant.statement,
        "drops": claim.conditions.get(mutant.drops or ""),
        "expected": mutant.expected,
        "equivalent_because": mutant.reason,
        "verdict": verdict,
        "reason": reason,
        "differing_share": share,
        "sparse": mutant.sparse,
        "counterexample": counterexample,
    }


def _demand_sparse(claim: Claim, mutant: Mutant, share: float) -> None:
    if mutant.sparse and share >= SPARSE_BELOW:
        raise SameopError(
            f"The mutant {mutant.name} of {claim.name} is declared sparse, "
            f"but {share:.0%} of the outputs differ: leave `sparse` out, "
            f"or let it differ in less than {SPARSE_BELOW:.0%}."
        )


def _evidence(d: Dims, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """One shape: the figures of its weaker pass, and both passes in full."""
    passes = [asdict(evidence) for evidence in outcome.evidence]
    weakest = max(passes, key=lambda entry: entry["log10_p"], default={})
    return {
        "level": "L1",
        "shape": dict(d),
        "log10_p": weakest.get("log10_p"),
        "degree": weakest.get("degree"),
        "majorant_ratio": max((entry["majorant_ratio"] for entry in passes), default=None),
        "backend": ", ".join(weakest.get("backends", ())) or "matrix products and elementwise kernels",
        "vjp": any(entry["vjp"] for entry in passes),
        "passes": passes,
        "dtype": "float64",
        "device": "cpu",
        "box": "white",
        "seconds": seconds,
    }


def _counterexample(claim: Claim, mutant: Mutant | None, d: Dims, outcome: Outcome) -> dict[str, Any]:
    difference = outcome.difference
    assert difference is not None
    return {
        "shape": dict(d),
        "index": list(difference.index),
        "result": difference.result,
        "left": _number(difference.left),
        "right": _number(difference.right),
        "script": _script(claim, mutant, d, difference),
    }


def _number(value: float) -> float | str:
    """Return a number, or the word for one that JSON lacks."""
    return value if math.isfinite(value) else str(value)


def _script(claim: Claim, mutant: Mutant | None, d: Dims, difference: Difference) -> str:
    """Write a program that a person can paste to see the difference."""
    which = f"'{mutant.name}'" if mutant else "None"
    return (
        "from harness.doors.counterexample import show\n"
        f"show({claim.name!r}, mutant={which}, shape={dict(d)!r})  "
        f"# {difference.result}{list(difference.index)}: {difference.left} and {difference.right}"
    )
