"""What a container allows: limits of control groups, of both versions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from harness.bench.conditions.tree import Tree, to_number

_GROUPS = "sys/fs/cgroup"
# Version 1 writes "no limit" as the largest multiple of a page that fits into 63 bits.
_UNLIMITED = 2**62


def cpu_quota(tree: Tree) -> float | None:
    """Return how many processors' worth of time this process may use; None without a limit."""
    return min(_quotas(tree), default=None)


def memory_limit(tree: Tree) -> int | None:
    """Return how many bytes this process and those beside it may use; None without a limit."""
    files = ("memory.max", "memory.limit_in_bytes")
    found = (tree.number(f"{folder}/{name}") for folder in _folders(tree, "memory") for name in files)
    return min((limit for limit in found if limit is not None and limit < _UNLIMITED), default=None)


def held_back(tree: Tree) -> int | None:
    """Return how often the group's processes were stopped because their quota was used up."""
    for folder in _folders(tree, "cpu"):
        stopped = to_number(tree.table(f"{folder}/cpu.stat").get("nr_throttled"))
        if stopped is not None:
            return stopped
    return None


def _quotas(tree: Tree) -> Iterator[float]:
    for folder in _folders(tree, "cpu"):
        # A limit of any group above binds too.
        quota, _, period = (tree.text(f"{folder}/cpu.max") or "").partition(" ")
        microseconds = to_number(quota) or tree.number(f"{folder}/cpu.cfs_quota_us")
        each = to_number(period) or tree.number(f"{folder}/cpu.cfs_period_us")
        if microseconds and each and microseconds > 0:
            yield microseconds / each


def _folders(tree: Tree, controller: str) -> Iterator[str]:
    """Name the folders of this process's group and of all groups above, under every usual mount."""
    for line in (tree.text("proc/self/cgroup") or "0::/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        mounts = [f"{_GROUPS}/{controllers}", f"{_GROUPS}/{controller}"] if controllers else [_GROUPS]
        mounts += [] if controllers else [f"{_GROUPS}/unified"]
        place = PurePosixPath("/" + group.strip("/"))
        # Inside a container the group is named as seen from outside: then its folder is the mount itself.
        for mount in dict.fromkeys(mounts):
            yield from (mount + str(above).rstrip("/") for above in (place, *place.parents))
