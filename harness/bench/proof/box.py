"""White box or black box: how an implementation is certified against its reference.

A white box is followed operation by operation, and is the same function as its reference up to a stated
error probability. A black box cannot be followed, because it is compiled, native, or has a step without a
rule: it is compared from outside, under an assumption that is stated with the result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.bench.dims import Dims
from harness.bench.expectation import bind, seed
from harness.bench.pages import Implementation, Scope
from harness.bench.proof.certificate import certify

_POLYNOMIAL = "it computes a polynomial of at most the reference's degree"
_ROUNDING = "what it differs from the reference by is rounding"


@dataclass(frozen=True)
class Certificate:
    """How an implementation was certified at one shape.

    agrees: False where it was followed and differs, of which ``reason`` tells; for a black box ``reason``
    tells why it could not be followed, and ``assumption`` what its comparison from outside rests on.
    """

    box: Literal["white", "black"]
    shape: Mapping[str, Any]
    agrees: bool = True
    log10_p: float | None = None
    backends: tuple[str, ...] = ()
    reason: str | None = None
    assumption: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a record says of it."""
        return asdict(self)


def certify_implementation(scope: Scope, implementation: Implementation, d: Dims) -> Certificate:
    """Follow an implementation beside its reference in float64, values and gradients.

    It runs under a dispatch mode, so never in a process that times compiled code.
    """
    shape = dict(d)
    assumption = _POLYNOMIAL if scope.polynomial else _ROUNDING
    if implementation.kind != "eager":
        reason = f"The implementation is {implementation.kind}, which cannot be followed."
        return Certificate("black", shape, reason=reason, assumption=assumption)
    reference, program = (bind(scope, form, d) for form in (scope.reference, implementation))
    shapes = {name: spec.shape for name, spec in scope.inputs(d).items()}
    outcome = certify(reference, program, shapes, seed(scope, d))
    if outcome.verdict == "refused":
        return Certificate("black", shape, reason=outcome.reason, assumption=assumption)
    found = outcome.difference
    if found is not None:
        place = f"{found.result}{list(found.index)}"
        reason = f"at {d!r} {place} is {found.right:.9g}, the reference has {found.left:.9g}"
        if scope.polynomial:
            return Certificate("white", shape, agrees=False, reason=reason)
        # It may be right on what its page draws, such as weights that are positive; agreement decides there.
        reason = f"On inputs that its page does not draw it differs: {reason}."
        return Certificate("black", shape, reason=reason, assumption=assumption)
    return Certificate(
        "white",
        shape,
        log10_p=max(evidence.log10_p for evidence in outcome.evidence),
        backends=tuple(sorted({name for evidence in outcome.evidence for name in evidence.backends})),
    )


def certify_smallest(scope: Scope, implementation: Implementation) -> Certificate:
    """Certify an implementation at the smallest of the adversarial shapes that it takes."""
    return certify_implementation(scope, implementation, _smallest(scope, implementation))


def _smallest(scope: Scope, implementation: Implementation) -> Dims:
    """Return the shape with the fewest input elements that an implementation takes."""
    taken = [d for d in scope.proof_dims if implementation.refusal(d) is None] or list(scope.proof_dims)
    return min(taken, key=lambda d: sum(math.prod(spec.shape) for spec in scope.inputs(d).values()))
