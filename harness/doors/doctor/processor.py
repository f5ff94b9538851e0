"""What the processor is, and how much of it may be used."""

from __future__ import annotations

from harness.bench.conditions.limits import cpu_quota, held_back
from harness.bench.conditions.processor import (
    Cache,
    caches,
    cores,
    hypervisor,
    instructions,
    memory_nodes,
)
from harness.bench.conditions.tree import Tree
from harness.doors.doctor.finding import Finding, advise, fine
from harness.doors.doctor.wording import listed, plural, ranges
from harness.paper.units import format_bytes

# What torch calls the instructions that its own loops use, for the names of the kernel, narrow to wide.
_USED = {"AVX2": "AVX2", "AVX512": "AVX-512", "SVE": "SVE", "SVE256": "SVE"}
_WIDTHS = ("AVX2", "AVX-512")


def processor(model: str, installed: int, cpus: frozenset[int]) -> Finding:
    """Name the processor and what of it this process may run on."""
    return fine("processor", f"{model}: this process may run on {len(cpus)} of {plural(installed, 'CPU')}.")


def container(tree: Tree, cpus: frozenset[int]) -> Finding:
    """Say what a container limits the processor time to."""
    quota, stopped = cpu_quota(tree), held_back(tree)
    if quota is None or quota >= len(cpus):
        return fine("CPU limit", "No container limits the processor time below the usable CPUs.")
    times = f", and has been stopped {plural(stopped, 'time')} so far" if stopped else ""
    found = f"A container limits this process to {quota:g} of {plural(len(cpus), 'usable CPU')}{times}."
    whole = int(quota)
    advice = (
        f"Measure with at most {plural(whole, 'thread')}, or raise the limit: a process beyond it is stopped "
        "for tens of milliseconds."
        if whole
        else "Raise the limit to a whole CPU: every process is stopped for tens of milliseconds at a time."
    )
    return advise("CPU limit", found, advice)


def threads_per_core(tree: Tree, cpus: frozenset[int]) -> Finding:
    """Say which of the usable CPUs are threads of one core."""
    groups = cores(tree, cpus)
    teller = ", as the hypervisor tells it" if hypervisor(tree) else ""
    if not groups:
        return fine("threads per core", "The system does not tell which CPUs share a core.")
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return fine("threads per core", f"Every usable CPU is a core of its own{teller}.")
    pairs = listed([f"CPUs {ranges(group)}" for group in shared[:4]])
    more = f" and {len(shared) - 4} more cores" if len(shared) > 4 else ""
    one_each = ",".join(str(min(group)) for group in groups)
    return advise(
        "threads per core",
        f"The {len(cpus)} usable CPUs are threads of {plural(len(groups), 'core')}: {pairs}{more}{teller}.",
        "Two threads of one core slow each other down: for measurements with several threads start with "
        f"`taskset -c {one_each}`.",
    )


def instruction_sets(tree: Tree, used: str) -> Finding:
    """Say which vector and matrix instructions there are, and which of them torch's loops use."""
    known = instructions(tree)
    has = (
        f"The processor has {listed(known)}" if known else "The system does not tell the vector instructions"
    )
    name = _USED.get(used.upper(), used)
    wider = _WIDTHS[_WIDTHS.index(name) + 1 :] if name in _WIDTHS else _WIDTHS
    unused = [width for width in wider if width in known]
    found = f"{has}; torch's own loops use {name if name != 'DEFAULT' else 'none of them'}."
    if not unused:
        return fine("instructions", found)
    return advise(
        "instructions",
        found,
        f"torch leaves {listed(unused)} unused: look at the variable ATEN_CPU_CAPABILITY, or try another "
        "build of torch.",
    )


def cache_sizes(tree: Tree, cpus: frozenset[int]) -> Finding:
    """Name the caches and who shares them."""
    found = caches(tree, min(cpus, default=0))
    if not found:
        return fine("caches", "The system does not tell the sizes of the caches.")
    return fine("caches", ", ".join(_cache(cache, cpus) for cache in found) + ".")


def _cache(cache: Cache, cpus: frozenset[int]) -> str:
    sharing = cache.cpus & cpus
    whose = f"shared by {len(sharing)} usable CPUs" if len(sharing) > 1 else "for each CPU"
    return f"{cache.name} {format_bytes(cache.bytes)} {whose}"


def numa(tree: Tree, cpus: frozenset[int]) -> Finding:
    """Say whether the usable CPUs share one memory."""
    nodes = memory_nodes(tree, cpus)
    if not nodes:
        return fine("memory nodes", "The system does not tell which memory is near to which CPU.")
    if len(nodes) == 1:
        return fine("memory nodes", "All usable CPUs are equally near to the memory (one NUMA node).")
    first = min(nodes)
    held = listed([f"node {node} holds CPUs {ranges(nodes[node])}" for node in sorted(nodes)])
    return advise(
        "memory nodes",
        f"The usable CPUs belong to {len(nodes)} NUMA nodes: {held}.",
        "Memory of another node is slower: start with "
        f"`numactl --cpunodebind={first} --membind={first}` to stay on one.",
    )


def examine_processor(
    tree: Tree, cpus: frozenset[int], model: str, installed: int, capability: str
) -> list[Finding]:
    """Return every finding about the processor itself."""
    return [
        processor(model, installed, cpus),
        container(tree, cpus),
        threads_per_core(tree, cpus),
        instruction_sets(tree, capability),
        cache_sizes(tree, cpus),
        numa(tree, cpus),
    ]
