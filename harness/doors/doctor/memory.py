"""How much memory there is, and how it is handed out."""

from __future__ import annotations

from harness.bench.conditions.limits import memory_limit
from harness.bench.conditions.memory import Memory, huge_pages, overcommit, read_memory
from harness.bench.conditions.tree import Tree
from harness.doors.doctor.finding import Finding, advise, fine
from harness.paper.units import format_bytes

# The largest workloads hold a few GiB with their references in double precision.
_ENOUGH_BYTES = 4 * 2**30
_HUGE_PAGES = {
    "always": "Large pages are handed out to everyone (setting always): times depend on where some are free.",
    "madvise": "Large pages are handed out only where a program asks (setting madvise); torch does not.",
    "never": "Large pages are never handed out (setting never).",
}
_OVERCOMMIT = {
    0: "The kernel guesses whether more memory than there is may be promised (setting 0).",
    1: "The kernel promises any amount of memory (setting 1): a case that is too large is killed.",
    2: "The kernel promises no more memory than there is (setting 2): large cases may be refused early.",
}


def examine_memory(tree: Tree) -> list[Finding]:
    """Return how much memory and swap there is, and how the kernel hands it out."""
    told = read_memory(tree)
    return [_amount(told, memory_limit(tree)), _swap(told), _pages(tree), _promises(tree)]


def _amount(told: Memory, limit: int | None) -> Finding:
    if told.total is None:
        return fine("memory", "The system does not tell how much memory there is.")
    bound = limit if limit is not None and limit < told.total else None
    contained = f", of which a container may use {format_bytes(bound)}" if bound else ""
    free = told.available if told.available is not None else told.total
    found = f"{format_bytes(told.total)}{contained}; {format_bytes(free)} are available."
    few = min(free, bound or free) < _ENOUGH_BYTES
    return advise(
        "memory", found, "Large cases may run out of memory: close other programs." if few else None
    )


def _swap(told: Memory) -> Finding:
    if not told.swap_total:
        return fine("swap", "No swap is set up: nothing is moved to the disk.")
    used = told.swap_used or 0
    found = f"{format_bytes(used)} of {format_bytes(told.swap_total)} swap are in use."
    # A few idle pages lie there on every machine that has been up for long.
    much = used > 0.1 * told.swap_total and used > 2**28
    return advise(
        "swap", found, "Memory that lies on the disk stalls calls: close programs." if much else None
    )


def _pages(tree: Tree) -> Finding:
    unknown = "The system does not tell whether it hands out large pages."
    return fine("huge pages", _HUGE_PAGES.get(huge_pages(tree) or "", unknown))


def _promises(tree: Tree) -> Finding:
    setting = overcommit(tree)
    unknown = "The system does not tell whether it promises more memory than there is."
    return fine("overcommit", unknown if setting is None else _OVERCOMMIT.get(setting, unknown))
