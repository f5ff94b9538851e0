"""What else the machine is busy with."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence

from harness.bench.conditions.load import (
    Process,
    Ticks,
    busiest,
    load_average,
    read_processes,
    read_ticks,
)
from harness.bench.conditions.tree import Tree
from harness.doors.doctor.finding import Finding, advise, fine
from harness.doors.doctor.wording import listed, percent

_WATCHED_SECONDS = 0.2
# A quarter of the processors at work leaves a single-threaded measurement a quiet one on most machines.
_BUSY_SHARE = 0.25
# Below this the tick of the kernel, one in a hundred, says nothing about 0.2 s.
_VISIBLE_SHARE = 0.1
# A CPU that is at work for half of the time is one that a measurement has to share or to avoid.
_MUCH_SHARE = 0.5
_STOLEN_SHARE = 0.01


def examine_load(
    tree: Tree, cpus: frozenset[int], sleep: Callable[[float], None] = time.sleep
) -> list[Finding]:
    """Return the load average, and what uses the processors just now."""
    ticks, processes = read_ticks(tree), read_processes(tree)
    sleep(_WATCHED_SECONDS)
    ticks = {name: now.since(ticks[name]) for name, now in read_ticks(tree).items() if name in ticks}
    # Threads of the kernel's own count too; this process does not.
    working = busiest(processes, read_processes(tree), besides=(os.getpid(),))
    return [_average(tree, cpus), _now(ticks, working, cpus)]


def _average(tree: Tree, cpus: frozenset[int]) -> Finding:
    load = load_average(tree)
    if load is None:
        return advise("load", "The system does not tell its load.", "Close other programs before measuring.")
    found = f"{load:.2f} processes wanted to run over the last minute, on {len(cpus)} usable CPUs."
    busy = load > _BUSY_SHARE * len(cpus)
    return advise("load", found, "Other work disturbs times: end it, or wait." if busy else None)


def _now(ticks: Mapping[str, Ticks], working: Sequence[Process], cpus: frozenset[int]) -> Finding:
    shares = {cpu: ticks[f"cpu{cpu}"].busy_share for cpu in sorted(cpus) if f"cpu{cpu}" in ticks}
    known = {cpu: share for cpu, share in shares.items() if share is not None}
    if not known:
        return fine("CPU use now", "The system does not tell what its CPUs do.")
    busy = {cpu: share for cpu, share in known.items() if share >= _VISIBLE_SHARE}
    if not busy:
        return fine("CPU use now", f"All {len(known)} usable CPUs are idle.")
    first = sorted(busy, key=lambda cpu: -busy[cpu])[:4]
    shown = listed([f"CPU {cpu} is {percent(busy[cpu])} busy" for cpu in sorted(first)])
    more = f" ({len(busy)} of {len(known)} CPUs are at work)" if len(busy) > len(first) else ""
    much = max(busy.values()) > _MUCH_SHARE or sum(known.values()) > _BUSY_SHARE * len(known)
    advice = "End what is not needed: it takes turns with what is measured." if much else None
    return advise("CPU use now", f"Just now {shown}{more}. {_users(ticks, working)}", advice)


def _users(ticks: Mapping[str, Ticks], working: Sequence[Process]) -> str:
    """Name who works, unless most of the work is done where this process cannot look."""
    seen = sum(process.ticks for process in working)
    if not seen or ("cpu" in ticks and 2 * seen < ticks["cpu"].busy):
        return "Most is used by processes that cannot be seen from here."
    return f"Most is used by {listed([f'{one.name} (process {one.number})' for one in working[:3]])}."


def stolen_time(before: Mapping[str, Ticks], after: Mapping[str, Ticks], hypervisor: str | None) -> Finding:
    """Say how much of the time that was wanted a hypervisor gave to others, lately and since the start."""
    if "cpu" not in before or "cpu" not in after:
        return fine("stolen time", "The system does not tell.")
    if hypervisor is None and not after["cpu"].stolen:
        return fine("stolen time", "No hypervisor takes time from this machine.")
    lately = after["cpu"].since(before["cpu"]).stolen_share or 0.0
    always = after["cpu"].stolen_share or 0.0
    found = (
        f"The hypervisor gave others {percent(lately)} of the processor time that was wanted during the "
        f"measurement of noise, and {percent(always)} since the machine started."
    )
    high = max(lately, always) > _STOLEN_SHARE
    advice = "Other guests of the host disturb times: measure at another hour, or on a machine of your own."
    return advise("stolen time", found, advice if high else None)
