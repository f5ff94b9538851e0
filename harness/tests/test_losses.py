"""Workers whose zygote ended beneath them get a second chance, alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.bench.measure.losses import despite_losses
from harness.bench.measure.workers import LOST


@dataclass
class Fellow:
    """One that may be lost, or fail on its own account."""

    name: str
    failure: Mapping[str, Any] | None = None


def test_only_the_lost_are_repeated_one_by_one() -> None:
    """Who failed by itself stays failed; who is lost again is told, and nobody is asked thrice."""
    culprit, victim, wrong, sound = (Fellow(name) for name in ("culprit", "victim", "wrong", "sound"))
    rounds: list[list[str]] = []

    def replicate(fellows: Sequence[Fellow]) -> None:
        rounds.append([fellow.name for fellow in fellows])
        if wrong in fellows:
            wrong.failure = {"status": "disagreed"}
        if culprit in fellows:
            for fellow in fellows:
                fellow.failure = fellow.failure or ({LOST: True} if fellow is not sound else None)

    despite_losses([culprit, victim, wrong, sound], replicate)
    assert rounds == [["culprit", "victim", "wrong", "sound"], ["culprit"], ["victim"]]
    assert (culprit.failure, victim.failure) == ({LOST: True}, None)
    assert (wrong.failure, sound.failure) == ({"status": "disagreed"}, None)
