"""What each kind of claim demands of its sides at one shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.bench.claims import Claim
from harness.bench.dims import Dims
from harness.bench.inputs import Tensors, seed_of
from harness.bench.proof.certificate import (
    Difference,
    Known,
    Outcome,
    Outputs,
    Program,
    certify,
    draw_integers,
)

# An inequality is looked at on this many draws; its construction, not their number, says that it holds.
_INSTANCES = 16
_LARGEST_INSTANCE = 9
# What float64 may be off where both sides of an inequality are equal: norms of singular vectors reach 1e-13.
_ROUNDING = 1e-9


def check_shape(claim: Claim, d: Dims, trials: int | None = None, known: Known | None = None) -> Outcome:
    """Decide what a claim states at one shape: ``holds``, ``refuted`` or ``refused``."""
    if claim.kind == "negative":
        return _negated(certify_claim(claim, d, trials, known))
    if claim.kind == "inequality":
        return _check_inequality(claim, d, trials, known)
    return certify_claim(claim, d, trials, known)


def certify_claim(claim: Claim, d: Dims, trials: int | None = None, known: Known | None = None) -> Outcome:
    """Hold the two sides of a claim against each other at one shape."""
    return certify(
        side(claim, d, "left"),
        side(claim, d, "right"),
        claim.variables(d),
        seed_of(claim.name, repr(d)),
        trials,
        known,
    )


def side(claim: Claim, d: Dims, name: str) -> Program:
    """Return a side of a claim as a program of its free variables."""

    def run(variables: Tensors) -> Outputs:
        given: Mapping[str, Tensor] = claim.given(d, **variables)
        outputs: Outputs = getattr(claim, name)(d, **given)
        return outputs

    return run


def _negated(outcome: Outcome) -> Outcome:
    """Turn the verdict on an identity into that on its negation, which a counterexample shows."""
    if outcome.verdict == "refuted":
        return Outcome("holds", difference=outcome.difference)
    if outcome.verdict == "holds":
        return Outcome("refuted", outcome.evidence, reason="The two sides are the same function.")
    return outcome


def _check_inequality(claim: Claim, d: Dims, trials: int | None, known: Known | None) -> Outcome:
    violation = _violation(claim, d)
    if violation is not None:
        return Outcome("refuted", difference=violation)
    if type(claim).right is Claim.right:
        return _without_construction(claim)
    return certify_claim(claim, d, trials, known)


def _without_construction(claim: Claim) -> Outcome:
    if claim.lemmas:
        return Outcome("holds")
    return Outcome(
        "refused",
        reason=f"No draw violates {claim.name}, and nothing says why none could: "
        "give `left` and `right`, a construction that it follows from, or a lemma.",
    )


def _violation(claim: Claim, d: Dims) -> Difference | None:
    """Look for a draw at which the lesser side is greater."""
    for instance in range(_INSTANCES):
        variables = draw_integers(
            claim.variables(d), _LARGEST_INSTANCE, seed_of(claim.name, repr(d), str(instance))
        )
        with torch.no_grad():
            given = claim.given(d, **variables)
            pair = torch.broadcast_tensors(claim.lesser(d, **given), claim.greater(d, **given))
        lesser, greater = (number.double() for number in pair)
        room = _ROUNDING * torch.maximum(lesser.abs(), greater.abs())
        # Written so that a NaN violates.
        violated = ~(lesser <= greater + room)
        if bool(violated.any()):
            index = tuple(int(i) for i in violated.nonzero()[0])
            share = float(violated.double().mean())
            return Difference("inequality", index, float(lesser[index]), float(greater[index]), share)
    return None
