"""How fast the processor is clocked, and what changes that."""

from __future__ import annotations

from harness.bench.conditions.frequency import Scaling, scaling
from harness.bench.conditions.processor import hypervisor
from harness.bench.conditions.tree import Tree
from harness.doors.doctor.finding import Finding, advise, fine, missing
from harness.doors.doctor.wording import listed, plural

_CLOCKS = "clock changes of the processor"


def examine_frequency(tree: Tree, cpus: frozenset[int]) -> list[Finding]:
    """Return who sets the clock of the processor, and whether this machine is a virtual one."""
    return [_scaling(scaling(tree, cpus), hypervisor(tree)), _virtual(hypervisor(tree))]


def _scaling(found: Scaling | None, host: str | None) -> Finding:
    if found is None:
        where = "in this virtual machine" if host else "by this system"
        return missing(
            "frequency scaling",
            f"The clock of the processor is not shown {where}.",
            "A clock that changes cannot be told from code that became slower: compare only what was "
            "measured in one session.",
            _CLOCKS,
        )
    sentence = f"The governor is {listed(found.governors)}{_driver(found)}{_boost(found)}{_speed(found)}."
    return advise("frequency scaling", sentence, _advice(found), _CLOCKS)


def _driver(found: Scaling) -> str:
    return f" (driver {found.driver})" if found.driver else ""


def _boost(found: Scaling) -> str:
    return "" if found.boost is None else f", boost is {'on' if found.boost else 'off'}"


def _speed(found: Scaling) -> str:
    if not found.now or not found.most:
        return ""
    low, high = (kilohertz * 1e-6 for kilohertz in (min(found.now), max(found.now)))
    now = f"{high:.2f} GHz" if high - low < 0.01 else f"{low:.2f} to {high:.2f} GHz"
    return f", now {now} of at most {found.most * 1e-6:.2f} GHz"


def _advice(found: Scaling) -> str | None:
    if set(found.governors) != {"performance"}:
        return (
            "Set the governor to performance for steadier times: "
            "`sudo cpupower frequency-set -g performance`."
        )
    if found.boost:
        return (
            "The clock under boost depends on heat and on the other cores: switch it off for comparisons "
            "below a few per cent."
        )
    return None


def _virtual(host: str | None) -> Finding:
    if host is None:
        return fine("virtual machine", "No hypervisor shows itself.")
    return advise(
        "virtual machine",
        f"This machine runs on {host}: clock changes, heat and neighbours on the host are not visible.",
        "Compare only what was measured in one session, interleaved.",
    )


def throttling(before: int | None, after: int | None) -> Finding:
    """Say how often heat has slowed the processor, since the start and during the measurement of noise."""
    if before is None or after is None:
        return missing(
            "throttling",
            "The system does not count how often heat slows the processor.",
            "A processor that heat slows down cannot be told from slower code.",
            "throttling of the processor",
        )
    if not after:
        return fine(
            "throttling",
            "Heat has never slowed this processor since its start.",
            "throttling of the processor",
        )
    lately = f", {after - before} of them during the measurement of noise" if after > before else ""
    return advise(
        "throttling",
        f"Heat has slowed the processor {plural(after, 'time')} since its start{lately}.",
        "Let the machine cool down, and measure fewer cases in a row." if after > before else None,
        "throttling of the processor",
    )
