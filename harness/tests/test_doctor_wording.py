"""Numbers and lists as a sentence holds them."""

from __future__ import annotations

import pytest

from harness.doors.doctor.wording import listed, percent, plural, ranges


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (0.00004, "less than 0.01%"),
        (0.0005, "0.05%"),
        (0.0094, "0.9%"),
        (0.00949, "0.9%"),
        (0.0949, "9.5%"),
        (0.09951, "10%"),
        (1.0, "100%"),
    ],
)
def test_shares(share: float, text: str) -> None:
    """A share keeps as many digits as it deserves, and never reads as nothing when it is something."""
    assert percent(share) == text


def test_lists_and_counts() -> None:
    """Lists read as in a sentence, processors as the kernel writes them."""
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert (plural(1, "CPU"), plural(0, "CPU"), plural(2, "CPU")) == ("1 CPU", "0 CPUs", "2 CPUs")
    assert [ranges(cpus) for cpus in ([], [3], [8, 0, 1, 2])] == ["", "3", "0-2,8"]
