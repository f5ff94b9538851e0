"""Files as a kernel shows them, in a folder of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.bench.conditions.tree import Tree

CPU = "sys/devices/system/cpu"


def kernel_files(folder: Path, files: Mapping[str, str | int]) -> Tree:
    """Write files below a folder, over those that are there."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return Tree(folder)


def stat(*cpus: tuple[int, int, int]) -> str:
    """Write /proc/stat with busy, idle and stolen ticks of each processor."""
    whole = tuple(map(sum, zip(*cpus, strict=True)))
    names = ["cpu", *(f"cpu{number}" for number in range(len(cpus)))]
    lines = [
        f"{name} {busy} 0 0 {idle} 0 0 0 {stolen} 0 0"
        for name, (busy, idle, stolen) in zip(names, [whole, *cpus], strict=True)
    ]
    return "\n".join([*lines, "intr 1"])
