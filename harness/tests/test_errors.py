"""Exit codes that scripts rely on."""

from __future__ import annotations

import pytest

from harness.paper.errors import Exit, NothingToMeasureError, RunRefusedError, SameopError


@pytest.mark.parametrize(
    ("code", "number", "meaning"),
    [
        (Exit.PASS, 0, "pass"),
        (Exit.FAILED, 1, "tests, agreement or a claim failed"),
        (Exit.USAGE, 4, "usage: an unknown option, name or file"),
        (Exit.REGRESSED, 10, "regressed"),
        (Exit.INCONCLUSIVE, 11, "inconclusive, or insensitive beyond the policy"),
        (Exit.BASELINE, 12, "the baseline is missing, from another machine, or does not import"),
        (Exit.NOTHING, 13, "nothing was measured"),
        (Exit.CHANGED, 14, "a case of the base is missing or changed"),
        (Exit.INTERRUPTED, 130, "interrupted"),
    ],
)
def test_an_exit_code_keeps_its_number_and_meaning(code: Exit, number: int, meaning: str) -> None:
    """The numbers are an interface; each is printed with its meaning."""
    assert (int(code), code.meaning) == (number, meaning)


def test_codes_of_make_and_pytest_are_left_alone() -> None:
    """Make turns 1 into 2, and pytest means things of its own by 3 and 5."""
    assert {2, 3, 5}.isdisjoint(Exit)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(SameopError, Exit.USAGE), (NothingToMeasureError, Exit.NOTHING), (RunRefusedError, Exit.USAGE)],
)
def test_an_error_knows_its_exit_code(kind: type[SameopError], code: Exit) -> None:
    """Each error carries the code with which a command ends."""
    assert kind("a sentence").exit is code
