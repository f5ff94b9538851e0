"""A claim is told in the words of its level."""

from __future__ import annotations

from typing import Any

import pytest

from .claims import say_chance, say_level


def result(level: str, **more: Any) -> dict[str, Any]:
    """Return a result that holds."""
    return {"verdict": "holds", "level": level, "evidence": [{"log10_p": -31.2}, {"log10_p": -30.4}], **more}


def test_the_weakest_shape_gives_the_probability() -> None:
    """Of several shapes the largest chance is stated."""
    assert say_level(result("L1")).endswith("probability below 1e-30")


@pytest.mark.parametrize(
    ("log10_p", "words"), [(-30.0, "at most 1e-30"), (-30.4, "below 1e-30"), (-5.3, "below 1e-5")]
)
def test_a_chance_is_never_rounded_down(log10_p: float, words: str) -> None:
    """The stated power of ten is an upper bound."""
    assert say_chance(log10_p) == words


@pytest.mark.parametrize(("level", "proved"), [("L0", False), ("L1", False), ("L2", True), ("L3", True)])
def test_only_complete_levels_are_called_proved(level: str, proved: bool) -> None:
    """The word is kept for what left nothing to chance."""
    assert ("proved" in say_level(result(level))) == proved


def test_a_claim_without_a_probability_states_none() -> None:
    """Inequalities rest on a construction, negative statements on a counterexample."""
    assert "construction" in say_level(result("L1", kind="inequality", evidence=[{"shape": {}}]))
    countered = {"shape": {}, "method": "counterexample"}
    assert "counterexample" in say_level(result("L2", kind="negative", evidence=[countered]))


def test_every_level_has_its_say() -> None:
    """What holds for every size says nothing of the programs, so what does is told beside it."""
    evidence = [
        {"level": "L1", "log10_p": -30.4, "shape": {"H": 7}},
        {"level": "L2", "shape": {"H": 2}},
        {"level": "L3", "shape": {}},
    ]
    told = say_level(result("L3", evidence=evidence)).split("; ")
    assert [sentence.split()[0] for sentence in told] == ["proved", "proved", "certified:"]


def test_a_refused_claim_tells_why() -> None:
    """A certificate that could not be made decides nothing."""
    assert say_level({"verdict": "refused", "reason": "it divides."}) == "it divides."
