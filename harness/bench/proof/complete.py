"""What a complete check of two programs at one shape says: it leaves no probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.bench.proof.certificate import Difference

Verdict = Literal["holds", "refuted", "refused"]
Method = Literal["basis", "symbolic"]


@dataclass(frozen=True)
class Complete:
    """The verdict of a complete check at one shape.

    verdict: ``holds`` where the two programs compute the same function at this shape, ``refuted`` with the
    difference, ``refused`` with the reason. method: by packed basis vectors, or by symbols. details:
    numbers of the check (calls, terms, digits, seconds), written into the record as they are.
    """

    verdict: Verdict
    method: Method
    difference: Difference | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
