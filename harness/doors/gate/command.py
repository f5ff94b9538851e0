"""The ``sameop gate`` command: from its options to an outcome."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from harness.bench.case import DEVICES, Preset
from harness.doors.gate.baseline import StoredRequest, run_stored_gate
from harness.doors.gate.output import Outputs
from harness.doors.gate.run import Request, run_gate
from harness.doors.gate.survey import Choice
from harness.doors.project import find_project
from harness.paper.errors import SameopError
from harness.paper.gate.outcome import GateOutcome
from harness.paper.gate.policy import read_policy

POLICY_NAME = "sameop-gate.toml"
_WHOLE: Preset = get_args(Preset)[-1]


def run_command(
    base: str | None,
    baseline: Path | None,
    head: str | None,
    cases: str | None,
    device: str,
    budget: float | None,
    policy: Path | None,
    seed: int | None,
    files: tuple[Path | None, Path | None, Path | None],
    say: Callable[[str], None],
) -> tuple[GateOutcome, Outputs]:
    """Check the options, run the gate, and return what it found and where that goes."""
    _demand_one_base(base, baseline, head)
    if device not in DEVICES:
        raise SameopError(f"--device {device} is unknown: choose one of {', '.join(DEVICES)}.")
    if budget is not None and budget <= 0:
        raise SameopError(f"--budget {budget:g} leaves no time: give a number of seconds above zero.")
    outputs = Outputs(*files)
    outputs.check()
    project = find_project(Path.cwd())
    if not project.is_configured:
        raise SameopError(
            f"No project with cases was found at or above {project.root}: write [tool.sameop] with "
            'cases = ["FOLDER"] into its pyproject.toml.'
        )
    rules = read_policy(policy or project.root / POLICY_NAME, is_optional=policy is None)
    # Written into the outcome, so that a run can be repeated.
    seed = secrets.randbits(32) if seed is None else seed
    today = datetime.now(UTC).date()

    def tell(line: str) -> None:
        say(f"gate  {line}")

    if base is None:
        assert baseline is not None
        stored = StoredRequest(baseline, cases or "*", device, budget, seed)
        return run_stored_gate(project, rules, stored, today, tell), outputs
    # A pattern means what it says, whatever a preset would leave out.
    choice = Choice(match=cases, preset=_WHOLE, device=device) if cases else Choice(device=device)
    return run_gate(project, rules, Request(base, head, choice, budget, seed), today, tell), outputs


def _demand_one_base(base: str | None, baseline: Path | None, head: str | None) -> None:
    if (base is None) == (baseline is None):
        both = "both were given" if base is not None else "neither was given"
        raise SameopError(
            f"The gate needs either --base REF or --baseline RUN, and {both}: give one of them."
        )
    if baseline is not None and head is not None:
        raise SameopError(
            f"--head {head} cannot be held against a stored baseline, which is compared with the worktree as "
            "it stands: check that commit out and leave --head out, or name a --base."
        )
