"""What processor this is: its instructions, its caches, and which of its threads share a core."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from harness.bench.conditions.tree import Tree, to_bytes, to_cpus

_CPU = "sys/devices/system/cpu"
# What flags of the kernel stand for which width of vector or matrix instructions, narrow to wide.
_INSTRUCTIONS = (
    ("asimd", "NEON"),
    ("sve", "SVE"),
    ("avx2", "AVX2"),
    ("avx512f", "AVX-512"),
    ("amx_tile", "AMX"),
)


@dataclass(frozen=True)
class Cache:
    """One cache as one processor sees it. ``cpus``: those that share it."""

    name: str
    bytes: int
    cpus: frozenset[int]


def flags(tree: Tree) -> frozenset[str]:
    """Return what the first processor says it can do."""
    described = tree.table("proc/cpuinfo")
    return frozenset((described.get("flags") or described.get("Features") or "").split())


def instructions(tree: Tree) -> list[str]:
    """Name the vector and matrix instructions, narrow to wide; empty where the kernel does not tell."""
    known = flags(tree)
    return [name for flag, name in _INSTRUCTIONS if flag in known]


def hypervisor(tree: Tree) -> str | None:
    """Name what this virtual machine runs on; None on a machine of its own."""
    kind = tree.text("sys/hypervisor/type") or ""
    if not kind and "hypervisor" not in flags(tree):
        return None
    maker = tree.text("sys/class/dmi/id/sys_vendor") or ""
    return kind or maker or "an unnamed hypervisor"


def cores(tree: Tree, cpus: Collection[int]) -> list[frozenset[int]]:
    """Group processors by the core they are threads of; empty where the kernel does not tell."""
    groups = set()
    for cpu in cpus:
        siblings = tree.text(f"{_CPU}/cpu{cpu}/topology/thread_siblings_list")
        if siblings is None:
            return []
        groups.add((to_cpus(siblings) | {cpu}) & frozenset(cpus))
    return sorted(groups, key=min)


def caches(tree: Tree, cpu: int) -> list[Cache]:
    """Return the caches that hold data, from the nearest."""
    found = []
    for folder in tree.paths(f"{_CPU}/cpu{cpu}/cache/index*"):
        kind, level = tree.text(f"{folder}/type"), tree.text(f"{folder}/level")
        size = to_bytes(tree.text(f"{folder}/size"))
        if kind != "Instruction" and size and level:
            name = f"L{level}" + ("d" if kind == "Data" else "")
            found.append(Cache(name, size, to_cpus(tree.text(f"{folder}/shared_cpu_list"))))
    return sorted(found, key=lambda cache: cache.name)


def memory_nodes(tree: Tree, cpus: Collection[int]) -> dict[int, frozenset[int]]:
    """Return the NUMA nodes that these processors belong to, each with those of them that it holds."""
    found = {}
    for path in tree.paths("sys/devices/system/node/node*/cpulist"):
        held = to_cpus(tree.text(path)) & frozenset(cpus)
        if held:
            found[int(path.split("/")[-2].removeprefix("node"))] = held
    return found
