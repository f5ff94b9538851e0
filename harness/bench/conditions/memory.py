"""How much memory there is, and how the kernel hands it out."""

from __future__ import annotations

from dataclasses import dataclass

from harness.bench.conditions.tree import Tree, to_number


@dataclass(frozen=True)
class Memory:
    """Memory and swap in bytes; None where the kernel does not tell."""

    total: int | None
    available: int | None
    swap_total: int | None
    swap_free: int | None

    @property
    def swap_used(self) -> int | None:
        """Return how much lies on the disk."""
        if self.swap_total is None or self.swap_free is None:
            return None
        return self.swap_total - self.swap_free


def read_memory(tree: Tree) -> Memory:
    """Return what the kernel counts."""
    told = tree.table("proc/meminfo")
    total, available, swap_total, swap_free = (
        _bytes(told.get(name)) for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
    )
    return Memory(total, available, swap_total, swap_free)


def _bytes(text: str | None) -> int | None:
    number = to_number((text or "").removesuffix("kB").strip())
    return None if number is None else number * 1024


def huge_pages(tree: Tree) -> str | None:
    """Return when memory is handed out in large pages: ``always``, ``madvise`` or ``never``."""
    text = tree.text("sys/kernel/mm/transparent_hugepage/enabled") or ""
    _, _, chosen = text.partition("[")
    return chosen.partition("]")[0] or None


def overcommit(tree: Tree) -> int | None:
    """Return what happens when more is asked for than there is: 0 a guess, 1 always given, 2 never."""
    return tree.number("proc/sys/vm/overcommit_memory")
