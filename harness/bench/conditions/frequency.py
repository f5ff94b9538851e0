"""How fast the processors are clocked, who decides it, and how often heat has slowed them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.bench.conditions.tree import Tree

_CPU = "sys/devices/system/cpu"


@dataclass(frozen=True)
class Scaling:
    """Who sets the clock of the processors; frequencies in kHz. ``boost`` is None where it is not told."""

    governors: tuple[str, ...]
    driver: str | None
    boost: bool | None
    now: tuple[int, ...]
    most: int | None


def scaling(tree: Tree, cpus: Collection[int]) -> Scaling | None:
    """Return how these processors are clocked; None where the kernel does not tell."""
    folders = [f"{_CPU}/cpu{cpu}/cpufreq" for cpu in sorted(cpus)]
    governors = {tree.text(f"{folder}/scaling_governor") for folder in folders} - {None}
    if not governors:
        return None
    now = (tree.number(f"{folder}/scaling_cur_freq") for folder in folders)
    most = (tree.number(f"{folder}/cpuinfo_max_freq") for folder in folders)
    return Scaling(
        governors=tuple(sorted(filter(None, governors))),
        driver=next(filter(None, (tree.text(f"{folder}/scaling_driver") for folder in folders)), None),
        boost=_boost(tree),
        now=tuple(filter(None, now)),
        most=max(filter(None, most), default=None),
    )


def _boost(tree: Tree) -> bool | None:
    forbidden = tree.number(f"{_CPU}/intel_pstate/no_turbo")
    if forbidden is not None:
        return not forbidden
    allowed = tree.number(f"{_CPU}/cpufreq/boost")
    return None if allowed is None else bool(allowed)


def slowed_by_heat(tree: Tree) -> int | None:
    """Count how often a core or its package was slowed by heat since the start; None where not told."""
    counts = tree.numbers(f"{_CPU}/cpu[0-9]*/thermal_throttle/*_throttle_count")
    return sum(counts) if counts else None
