"""Latencies: what stands beside their number, in words: clock, processes, disturbances, the roofline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.paper.record import Reading
from harness.paper.units import format_count, three_digits

from .facts import number_in, part_in, parts_in

WALL, CPU_TIME, EVENTS = "wall", "thread CPU time", "CUDA events"
_CLOCKS = {WALL: "by the wall", CPU_TIME: "CPU time of the thread", EVENTS: "by CUDA events"}
# Where fewer samples were interrupted than this, their median lies among the others all the same.
_MANY = 0.1


def is_latency(meter: str) -> bool:
    """Whether a meter reads seconds per call under some condition."""
    return meter == "latency" or meter.startswith("latency_")


def processes_of(reading: Reading) -> list[Mapping[str, Any]]:
    """Return what is known of every process; nothing for a run that took one process a case."""
    return parts_in(reading.facts, "processes")


def clock_of(reading: Reading) -> str:
    """Name the clock, nothing where the record does not."""
    name = reading.facts.get("clock")
    return _CLOCKS.get(name, name) if isinstance(name, str) else ""


def list_flags(meter: str, reading: Reading) -> Iterator[str]:
    """Say what speaks against a latency: modes, interruptions, fresh memory, times that still moved."""
    facts = reading.facts
    if modes := say_modes(reading):
        yield modes
    preempted = number_in(facts, "preempted_share")
    # Another clock stands still while something else runs.
    if facts.get("clock") == WALL and preempted is not None and preempted >= _MANY:
        yield f"preempted in {100 * preempted:.0f} % of the samples"
    faults = number_in(facts, "faults_per_call")
    if faults is not None and faults >= 1:
        yield f"{format_count(round(faults)).strip()} page faults a call"
    if facts.get("warm_up_stable") is False:
        yield "warm-up not stable"
    if meter == "latency" and facts.get("deterministic") is False:
        yield "results differ between calls within rounding"
    yield from _flags_of_gpu(part_in(facts, "gpu"))


def say_modes(reading: Reading) -> str:
    """Say into which groups the processes fall: ``2 processes at 640 µs, 1 at 2.30 ms``."""
    told: list[str] = []
    for mode in parts_in(reading.facts, "modes"):
        middle, processes = number_in(mode, "median"), number_in(mode, "processes")
        if middle is None or processes is None:
            continue
        noun = "" if told else " process" if processes == 1 else " processes"
        told.append(f"{processes:g}{noun} at {reading.unit.format(middle)}")
    return ", ".join(told) if len(told) > 1 else ""


def say_medians(reading: Reading) -> str:
    """List the medians of the processes, in their order."""
    medians = [number_in(process, "median") for process in processes_of(reading)]
    return ", ".join(reading.unit.format(value) for value in medians if value is not None)


def say_processors(reading: Reading) -> str:
    """List the processors of each process; those in a row that had the same once."""
    told: list[str] = []
    for process in processes_of(reading):
        held = process.get("cpus")
        text = _ranges([cpu for cpu in held if isinstance(cpu, int)]) if isinstance(held, list) else ""
        if text and told[-1:] != [text]:
            told.append(text)
    return "; ".join(told)


def count_samples(reading: Reading) -> int:
    """Return how many samples were taken; a record keeps a part of many."""
    blocks = number_in(reading.facts, "blocks")
    return len(reading.samples) if blocks is None else round(blocks)


def share_of(reading: Reading) -> tuple[float | None, str]:
    """Return the share of the roofline and what bounds it, or None and the reason."""
    found = part_in(reading.facts, "roofline")
    share = number_in(found, "share")
    if share is not None and reading.value is not None:
        return share, str(found.get("bound") or "")
    if reading.value is None:
        return None, reading.reason or ""
    return None, str(found.get("reason") or "the run holds no speed limit of this machine")


def write_share(share: float) -> str:
    """Write a share in percent: ``4.22 %``, ``112 %``."""
    percent = 100 * share
    return f"{three_digits(percent) if percent >= 1 else format(percent, '.2g')} %"


def say_speedup(reading: Reading) -> str:
    """Say how many times as fast more threads are: ``1.72× on 2``."""
    speedup, threads = (number_in(reading.facts, key) for key in ("speedup", "threads"))
    return "" if speedup is None or threads is None else f"{three_digits(speedup)}× on {threads:g}"


def say_scaling(reading: Reading) -> str:
    """List the latency for every number of threads."""
    found = part_in(reading.facts, "scaling")
    known = [(count, number_in(found, count)) for count in found]
    return ", ".join(
        f"{reading.unit.format(value)} on {count}" for count, value in known if value is not None
    )


def _flags_of_gpu(gpu: Mapping[str, Any]) -> Iterator[str]:
    share = number_in(gpu, "throttled_share")
    if gpu.get("flag"):
        yield f"GPU throttled: {gpu['flag']}"
    elif share:
        yield f"GPU throttled in {write_share(share)} of the samples, which were left out"
    if gpu.get("launch_hidden") is False:
        because = gpu.get("not_hidden_because")
        yield "launch not hidden" + (f": {because}" if because else "")


def _ranges(numbers: list[int]) -> str:
    """Write numbers with neighbours joined: ``0–3, 8``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low}–{high}" for low, high in spans)
