"""What proving a claim leaves behind, in the shape of ``sameop prove --json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.bench.claims import Claim, Mutant
from harness.bench.dims import Dims
from harness.bench.proof.certificate import Difference, Outcome


def certified(d: Dims, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Describe a certificate at one shape: the figures of its weaker pass, and both passes in full."""
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


def countered(d: Dims, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Describe what a counterexample shows at one shape: it is conclusive, and has no probability."""
    found = outcome.difference
    place = f"{found.result}{list(found.index)}" if found else None
    entry = {**certified(d, outcome, seconds), "method": "counterexample", "log10_p": None, "found": place}
    return {**entry, "level": "L2"} if found else entry


def constructed(d: Dims, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Describe what an inequality rests on at one shape; draws alone that do not violate it say little."""
    method, level = ("construction", "L1") if outcome.evidence else ("draws", "L0")
    return {**certified(d, outcome, seconds), "method": method, "level": level, "log10_p": None}


def unconditional(
    level: str, method: str, backend: str, shape: Mapping[str, Any], seconds: float
) -> dict[str, Any]:
    """Describe what leaves no probability, in the keys that all evidence has."""
    return {
        "level": level,
        "method": method,
        "shape": shape,
        "log10_p": None,
        "degree": None,
        "majorant_ratio": None,
        "backend": backend,
        "vjp": False,
        "seconds": seconds,
    }


def counterexample(claim: Claim, mutant: Mutant | None, d: Dims, difference: Difference) -> dict[str, Any]:
    """Describe a place where the sides differ, with a program that shows it."""
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
