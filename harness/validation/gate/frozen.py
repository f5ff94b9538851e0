"""What is fixed before the first trial: thresholds, the code that applies them, and what is tried."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.paper.gate.policy import Policy
from harness.validation.gate import noops, plants, suite

# Everything that decides what a run of the gate says: the rule, what measures, and what puts both together.
SOURCES = ("paper/gate", "bench/twins", "bench/measure", "doors/gate")
_HARNESS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Frozen:
    """SHA-256 digests of what may not change between trials, and of all together.

    policy, sources, plan: digests. cases: git's name for the committed cases. machine: where. seed: of what
    is left to chance.
    """

    digest: str
    policy: str
    sources: str
    plan: str
    cases: str
    machine: Mapping[str, Any]
    seed: str

    def difference(self, other: Frozen) -> str:
        """Name the first thing in which two differ, empty where all is the same; a seed is drawn once."""
        for name in ("policy", "sources", "plan", "cases", "machine"):
            before, now = getattr(self, name), getattr(other, name)
            if before != now:
                return f"{_CALLED[name]} {_short(before)}, and now it is {_short(now)}"
        return ""


_CALLED = {
    "policy": "the policy",
    "sources": f"the sources of harness/{', harness/'.join(SOURCES)} at",
    "plan": "the plan of trials",
    "cases": "the committed cases",
    "machine": "the machine",
}


def freeze(policy: Policy, cases: str, machine: Mapping[str, Any], seed: str) -> Frozen:
    """Return the digests of what trials now would be decided by."""
    parts: dict[str, Any] = {
        "policy": policy.digest,
        "sources": digest_sources(_HARNESS),
        "plan": _digest(_plan()),
        "cases": cases,
        # As a line of the notebook gives it back.
        "machine": json.loads(json.dumps(machine)),
        "seed": seed,
    }
    return Frozen(digest=_digest(parts), **parts)


def digest_sources(harness: Path) -> str:
    """Return the digest of every source file that decides."""
    found = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((harness / folder).rglob("*.py")):
            found.update(f"{path.relative_to(harness).as_posix()}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def _plan() -> Any:
    """Return what is tried: the suite, the changes, and the plants with their code."""
    code = {
        name: Path(module.__file__ or "").read_text(encoding="utf-8") for name, module in _MODULES.items()
    }
    return {"suite": [asdict(entry) for entry in suite.SUITE], "sizes": dict(plants.SIZES), "code": code}


_MODULES = {"noops": noops, "plants": plants, "suite": suite}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
