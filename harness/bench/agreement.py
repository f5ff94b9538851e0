"""Agreement: an implementation equals its reference, in values and in gradients.

Where a scope is a polynomial both sides run on integers so small that nothing rounds, and must be
bitwise equal. Elsewhere, and again on the very inputs that are timed, the difference must be explained
by rounding: it may not exceed γₙ·Σ|terms|, a bound that is derived from the reference and has no free
tolerance. Where that bound is too wide to tell anything, a comparison in float64 decides, and in the
dtype itself the error as a whole must stay small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from harness.bench.dims import Dims
from harness.bench.expectation import Evaluation, Expected, evaluate, seed
from harness.bench.inputs import Tensors
from harness.bench.limits import expectations
from harness.bench.pages import Implementation, Scope
from harness.paper.record import Agreement

# From the strongest; the strongest that an implementation passed is what its record says.
_LEVELS = ("exact on integers", "L0", "float64 without a bound")
_LARGEST = torch.finfo(torch.float64).max


@dataclass
class Judge:
    """Decides whether an implementation of a scope agrees with its reference at given dimensions."""

    scope: Scope
    dims: Dims
    device: str
    checks: list[Expected]

    def judge(self, implementation: Implementation) -> Agreement:
        """Run every check that the implementation supports; the first that fails decides."""
        evidence: list[dict[str, Any]] = []
        for expected in self._checks_for(implementation):
            found = evaluate(self.scope, implementation, self.dims, self.device, expected)
            entry, failure = _compare(expected, found)
            evidence.append(entry)
            if failure and not self._is_inexact_kernel(implementation, expected, entry):
                return Agreement(False, _level(expected), failure, {"checks": evidence})
        if not any(entry["informative"] for entry in evidence):
            reason = "no check that ran could have refuted it: let the implementation support float64"
            return Agreement(False, "L0", reason, {"checks": evidence})
        # A check that could refute nothing says nothing about the level.
        told = (_level(check) for check in self._checks_for(implementation) if check.informative)
        return Agreement(True, min(told, key=_LEVELS.index), None, {"checks": evidence})

    def judge_call(self, results: Tensors, dtype: str) -> Agreement:
        """Judge what the timed call itself returned on the inputs of the check in ``dtype``."""
        check = next(check for check in self.checks if check.kind == "floats" and check.dtype == dtype)
        values = {name: value for name, value in check.values.items() if name in results}
        entry, failure = _compare(replace(check, values=values), Evaluation(results))
        reason = f"called as it is timed, {failure}" if failure else None
        return Agreement(failure is None, _level(check), reason, {"checks": [entry]})

    def _checks_for(self, implementation: Implementation) -> list[Expected]:
        return [check for check in self.checks if check.dtype in implementation.dtypes]

    def _is_inexact_kernel(
        self, implementation: Implementation, expected: Expected, entry: dict[str, Any]
    ) -> bool:
        """Whether integers differ only because the kernel rounds, as Winograd and FFT kernels do.

        Then the error lies within the rounding bound, and float64, which has no such kernels, is exact.
        """
        if expected.kind == "floats" or expected.dtype == "float64":
            return False
        if entry["largest_error"] > expected.rounding or "float64" not in implementation.dtypes:
            return False
        exact = replace(expected, dtype="float64")
        found = evaluate(self.scope, implementation, self.dims, self.device, exact)
        if _compare(exact, found)[1] is not None:
            return False
        entry["note"] = "the kernel is not exact on integers; its error lies within the rounding bound"
        return True


def prepare(scope: Scope, dims: Dims, dtype: str, device: str) -> Judge:
    """Return the judge of all implementations of a scope that run in ``dtype``."""
    return Judge(scope, dims, device, expectations(scope, dims, dtype, device))


def _compare(expected: Expected, found: Evaluation) -> tuple[dict[str, Any], str | None]:
    """Return the evidence of one check, and a sentence about the worst element if it fails."""
    entry: dict[str, Any] = {
        "kind": expected.kind,
        "dtype": expected.dtype,
        "informative": expected.informative,
        "results": list(found.results),
        "magnitude": expected.magnitude or None,
        "largest_error": 0.0,
        "largest_share_of_limit": 0.0,
    }
    failures = [_compare_one(name, found.results.get(name), expected, entry) for name in expected.values]
    return entry, next(filter(None, [found.misdeed, *failures]), None)


def _compare_one(name: str, actual: Tensor | None, expected: Expected, entry: dict[str, Any]) -> str | None:
    wanted = expected.values[name]
    if actual is None:
        return f"the implementation gives no {name}"
    if actual.shape != wanted.shape:
        return f"the {name} has shape {list(actual.shape)}, the reference has {list(wanted.shape)}"
    if str(actual.dtype) != f"torch.{expected.dtype}":
        return f"the {name} is {actual.dtype}, the inputs are torch.{expected.dtype}"
    if not actual.numel():
        return None
    limit = expected.limits[name].double().to(wanted.device).expand(wanted.shape)
    error = torch.where(actual.double() == wanted, 0.0, (actual.double() - wanted).abs())
    # A NaN is an error without bound; written so that it never compares as small.
    error = torch.where(torch.isnan(error), torch.inf, error)
    entry["largest_error"] = max(entry["largest_error"], float(error.max()))
    excess = torch.where((error > limit) | error.isinf(), error - limit.clamp_max(_LARGEST), -1.0)
    if float(excess.max()) < 0:
        shares = torch.where(limit > 0, error / limit, 0.0)
        entry["largest_share_of_limit"] = max(entry["largest_share_of_limit"], float(shares.max()))
        return _compare_whole(name, error, wanted, expected)
    place = torch.unravel_index(excess.argmax(), wanted.shape)
    index = tuple(int(i) for i in place)
    return (
        f"{name}{list(index)} is {float(actual[index]):.9g}, the reference has {float(wanted[index]):.9g}: "
        f"the error is {float(error[index]):.3g}, the limit {float(limit[index]):.3g} "
        f"({expected.kind}, {expected.dtype})"
    )


def _compare_whole(name: str, error: Tensor, wanted: Tensor, expected: Expected) -> str | None:
    """Compare the norm of the error, which tells where a limit per element is too wide to."""
    if math.isinf(expected.whole):
        return None
    norm, size = float(error.norm()), float(wanted.double().norm())
    if norm <= expected.whole * size:
        return None
    return (
        f"the {name} as a whole is off by {norm / size if size else math.inf:.1%} of its norm, "
        f"the limit is {expected.whole:.1%} ({expected.kind}, {expected.dtype})"
    )


def _level(expected: Expected) -> str:
    if expected.kind != "floats":
        return "exact on integers"
    return "L0" if expected.bounded else "float64 without a bound"


def describe_inputs(scope: Scope, dims: Dims) -> Mapping[str, Any]:
    """Return what a record says of the inputs: seed, shapes, roles and distributions."""
    return {
        "seed": seed(scope, dims),
        "tensors": {
            name: {"shape": list(spec.shape), "role": spec.role, "distribution": spec.distribution}
            for name, spec in scope.inputs(dims).items()
        },
    }


def save(judge: Judge) -> dict[str, Any]:
    """Return the judge's expectations in a form that torch.save writes and torch.load reads safely."""
    # Not asdict, which copies every tensor.
    return {"checks": [dict(vars(check)) for check in judge.checks]}


def restore(scope: Scope, dims: Dims, device: str, saved: Mapping[str, Any]) -> Judge:
    """Rebuild a judge from what :func:`save` returned."""
    return Judge(scope, dims, device, [Expected(**check) for check in saved["checks"]])
