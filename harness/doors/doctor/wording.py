"""Numbers and lists as a sentence holds them."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """Write names with an `and` before the last."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def ranges(numbers: Collection[int]) -> str:
    """Write numbers as the kernel does: ``0-3,8``."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def percent(share: float) -> str:
    """Write a share with two significant digits, and with one decimal at most from one per cent on."""
    value = 100 * share
    if value == 0:
        return "0%"
    if value < 0.01:
        return "less than 0.01%"
    return f"{value:.2f}%" if value < 0.095 else f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"
