"""Show a counterexample: what the ``script`` of a refuted claim or mutant calls."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bench.dims import Dims
from harness.bench.proof.kinds import check_shape
from harness.doors.project import find_project
from harness.paper.errors import SameopError


def show(name: str, *, mutant: str | None, shape: Mapping[str, Any]) -> None:
    """Check the claim of this name, or one of its mutants, at one shape and print where the sides differ."""
    claim = find_project(Path.cwd()).load().claims_named([name])[0]
    if mutant is not None:
        known = {found.name: found for found in claim.mutants}
        if mutant not in known:
            raise SameopError(f"{name} has no mutant {mutant!r}: it has {', '.join(known)}.")
        claim = claim.with_mutant(known[mutant])
    outcome = check_shape(claim, Dims(**shape))
    found = outcome.difference
    if found is None:
        print(f"{outcome.verdict}: the sides do not differ here.")  # noqa: T201  # printing is its purpose
        return
    print(  # noqa: T201  # printing is its purpose
        f"{found.result}{list(found.index)}: {found.left} on the left, {found.right} on the right; "
        f"{found.share:.1%} of the {found.result} differ."
    )
