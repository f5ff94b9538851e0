"""The levels above a certificate: what is complete at a tiny shape, and what holds for every size."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.inputs import seed_of
from harness.bench.proof.basis import certify_on_basis
from harness.bench.proof.certificate import Difference
from harness.bench.proof.complete import Complete
from harness.bench.proof.evidence import unconditional
from harness.bench.proof.kinds import side
from harness.bench.proof.lemmas import MISSING, LemmaFinding, describe, prove_lemma
from harness.bench.proof.symbolic import certify_symbolically

# More free numbers take longer than all else about a claim; one that names shapes decides for itself.
_MOST_FREE = 200
# What a complete proof computes with, by its method.
_BACKENDS = {"basis": "float64 below 2^53", "symbolic": "symbols"}


@dataclass(frozen=True)
class Reached:
    """What a level says of a claim: its evidence, or why there is none.

    verdict: ``refuted`` or ``refused`` where the level contradicts the claim, or the claim its terms;
    ``left out`` where the level cannot be reached.
    """

    level: Literal["L2", "L3"]
    verdict: Literal["holds", "refuted", "refused", "left out"]
    evidence: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    difference: tuple[Dims, Difference] | None = None


def reach_further(claim: Claim) -> Iterator[Reached]:
    """Take a claim that holds to every level that it can reach."""
    if claim.kind != "negative" and type(claim).right is not Claim.right:
        yield from prove_completely(claim)
    if claim.lemmas:
        yield _decide_lemmas(claim)


def settles(claim: Claim, reached: Iterable[Reached]) -> bool:
    """Whether complete proofs decide a claim that its certificate refuses: they know more of a softmax."""
    if claim.kind not in ("identity", "limit"):
        return False
    complete = [level.verdict for level in reached if level.level == "L2"]
    return bool(complete) and set(complete) == {"holds"}


def prove_completely(claim: Claim) -> Iterator[Reached]:
    """Prove a claim at its smallest shape, or at those that it names, without leaving a probability."""
    for d in claim.complete_shapes or [claim.smallest_shape]:
        free = claim.free_numbers(d)
        if not claim.complete_shapes and free > _MOST_FREE:
            reason = (
                f"its smallest shape has {free} free numbers, more than {_MOST_FREE}: name `complete_shapes`"
            )
            yield Reached("L2", "left out", reason=f"At {d!r} {reason}.")
            continue
        started = time.perf_counter()
        found = _check_completely(claim, d)
        if found.verdict == "refused":
            yield Reached("L2", "left out", reason=f"At {d!r}: {found.reason}")
        elif found.difference is not None:
            yield Reached("L2", "refuted", difference=(d, found.difference))
        else:
            yield Reached("L2", "holds", [_complete_evidence(d, found, time.perf_counter() - started)])


def _check_completely(claim: Claim, d: Dims) -> Complete:
    """Try the basis, which is the faster, and then symbols, which know of more than products."""
    left, right, shapes = side(claim, d, "left"), side(claim, d, "right"), claim.variables(d)
    seed = seed_of(claim.name, repr(d))
    on_basis = certify_on_basis(left, right, shapes, seed)
    if on_basis.verdict != "refused":
        return on_basis
    by_symbols = certify_symbolically(left, right, shapes, seed)
    if by_symbols.verdict != "refused":
        return by_symbols
    reason = f"By a basis: {on_basis.reason} By symbols: {by_symbols.reason}"
    return Complete("refused", "symbolic", reason=reason)


def _complete_evidence(d: Dims, found: Complete, seconds: float) -> dict[str, Any]:
    entry = unconditional("L2", found.method, _BACKENDS[found.method], dict(d), seconds)
    return {**entry, "details": dict(found.details)}


def _decide_lemmas(claim: Claim) -> Reached:
    started = time.perf_counter()
    findings = [prove_lemma(stated) for stated in claim.lemmas]
    for finding in findings:
        if finding.verdict == "refuted":
            return Reached("L3", "refuted", reason=_counter(finding))
        if finding.verdict == "refused":
            verdict: Literal["left out", "refused"] = "left out" if finding.reason == MISSING else "refused"
            return Reached("L3", verdict, reason=str(finding.reason))
    entry = unconditional("L3", "lemmas", "z3", {}, time.perf_counter() - started)
    return Reached(
        "L3",
        "holds",
        [{**entry, "lemmas": [describe(finding) for finding in findings], "algebra": claim.algebra}],
    )


def _counter(finding: LemmaFinding) -> str:
    numbers = ", ".join(f"{name} = {value}" for name, value in (finding.countermodel or {}).items())
    return f"Its lemma {finding.name} is wrong at {numbers}."
