"""How calls were timed, in words made from the records of a run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.paper.record import Reading, Record
from harness.paper.store import Run
from harness.paper.units import format_seconds

from .facts import number_in, part_in
from .latencies import CPU_TIME, EVENTS, WALL, processes_of
from .prose import cases, join, list_words, span
from .trust import reading_of

_PROCESSES, _PLACE = re.compile(r"\b\d+(?= processes)"), "\0"
_WHY_CLOCK = {
    CPU_TIME: "one thread computed and neither waited nor let others work, and this clock stands still "
    "while the kernel runs something else",
    WALL: "the program waits, or several threads work",
    EVENTS: "the GPU’s own time from one event to the next, launches excluded",
}


def tell_timing(run: Run, timed: Sequence[Record]) -> Iterator[str]:
    """Yield one paragraph for each thing that was done to time these cases, which knew their processes."""
    readings = [reading_of(record, "latency") for record in timed]
    yield _tell_turns(timed)
    yield _tell_processes(run, timed, readings)
    yield _tell_samples(readings)
    yield _tell_clock(readings)
    yield _tell_process_state(timed)
    yield _tell_bits(readings)
    yield _tell_gpu(readings)


def _tell_turns(records: Sequence[Record]) -> str:
    """Say what took turns: what was measured together has the same beginning."""
    together = Counter((record.case.group, record.started) for record in records)
    several = [number for number in together.values() if number > 1]
    if not several:
        return ""
    alone = len(records) - sum(several)
    return (
        f"The implementations of a workload were measured in lock-step, {span(several)} at a time: one "
        "process of each, taking turns of some milliseconds in a random order that was drawn anew every "
        "round, so that what happened on the machine meanwhile met all of them."
        + (f" {cases(alone)} had no other to take turns with." if alone else "")
    )


def _tell_processes(run: Run, records: Sequence[Record], readings: Sequence[Reading]) -> str:
    counts = [len(processes_of(reading)) for reading in readings]
    sentences = [
        f"the process is the unit of the latency: each case was timed in {span(counts)} processes, and its "
        "latency is the median of their medians"
    ]
    asked = run.header.identity.get("options", {}).get("processes")
    if isinstance(asked, (list, tuple)) and asked and any(record.case.device == "cpu" for record in records):
        sentences.append(
            f"on the CPU they were forked in turn from {asked[0]} interpreters, each started by itself, so "
            "that memory lies differently in them"
        )
    sentences.append(_tell_apart(readings))
    told = count_words(readings, "interval")
    sentences.append(f"the interval is {list_words(told)}" if told else "")
    stopped = count_words(readings, "stopped")
    sentences.append(f"sampling ended because of this: {list_words(stopped)}" if stopped else "")
    modes = sum(bool(reading.facts.get("modes")) for reading in readings)
    if modes:
        sentences.append(
            f"in {cases(modes)} the processes fell into groups far apart, which stand beside the number"
        )
    return join(sentences)


def _tell_apart(readings: Sequence[Reading]) -> str:
    """Say how far the processes of a case lay apart, where there were several."""
    found = [number_in(reading.facts, "first_to_last_process_seconds") for reading in readings]
    apart = [seconds for seconds in found if seconds]
    if not apart:
        return ""
    low, high = (format_seconds(end(apart)) for end in (min, max))
    return (
        f"the first and the last of a case began {low if low == high else f'{low} to {high}'} apart, because "
        "the workloads of a stretch of the run had one process each in turn, and a case so met more than one "
        "state of the machine"
    )


def _tell_samples(readings: Sequence[Reading]) -> str:
    sentences = []
    blocks = [round(count) for reading in readings if (count := number_in(reading.facts, "blocks"))]
    calls = [round(count) for reading in readings if (count := number_in(reading.facts, "calls_per_sample"))]
    if blocks and calls:
        noun = "call" if set(calls) == {1} else "calls in a row"
        sentences.append(f"there were {span(blocks)} samples a case, of {span(calls)} {noun} each")
        sentences.append("the band in a chart spans the quartiles within a process")
    warm = [stable for reading in readings if (stable := reading.facts.get("warm_up_stable")) is not None]
    if warm:
        sentences.append(
            f"each process was warmed up until times and page faults were stable, which they were in "
            f"{sum(map(bool, warm))} of {len(warm)} cases"
        )
    faults = [
        count for reading in readings if (count := number_in(reading.facts, "faults_per_call")) is not None
    ]
    if faults:
        few = sum(count < 1 for count in faults)
        sentences.append(f"{few} of {cases(len(faults))} had less than one page fault a call")
    return join(sentences)


def _tell_clock(readings: Sequence[Reading]) -> str:
    clocks = Counter(str(reading.facts["clock"]) for reading in readings if reading.facts.get("clock"))
    told = [
        f"{clock} in {cases(number)}" + (f" ({_WHY_CLOCK[clock]})" if clock in _WHY_CLOCK else "")
        for clock, number in clocks.items()
    ]
    return join([f"the clock was {list_words(told)}"]) if told else ""


def _tell_process_state(records: Sequence[Record]) -> str:
    pinned = sum(record.worker.get("allocator") == "pinned" for record in records)
    sentences = []
    if pinned:
        sentences.append(
            f"in {cases(pinned)} malloc kept what was freed (allocator pinned): by default it gives large "
            "blocks back, and every call pays for fresh pages"
        )
    if default := sum(record.worker.get("allocator") == "default" for record in records):
        sentences.append(f"in {cases(default)} malloc was left as it is (allocator default)")
    held = [
        len(cpus)
        for record in records
        for process in processes_of(reading_of(record, "latency"))
        if isinstance(cpus := process.get("cpus"), list) and cpus
    ]
    if held:
        noun = "processor" if set(held) == {1} else "processors"
        sentences.append(f"a process was allowed on {span(held)} {noun}, which its row names")
    return join(sentences)


def _tell_bits(readings: Sequence[Reading]) -> str:
    known = [reading for reading in readings if isinstance(reading.facts.get("deterministic"), bool)]
    if not known:
        return ""
    several = [reading for reading in known if len(processes_of(reading)) > 1]
    same = sum(reading.facts["deterministic"] for reading in several)
    loose = sum(not reading.facts["deterministic"] for reading in known)
    sentences = []
    if same:
        sentences.append(
            f"in {cases(same)} every later process returned the same bits as the first, which had been "
            "judged in full: on the timed inputs before timing, on these and on others afterwards"
        )
    if loose:
        sentences.append(
            f"in {cases(loose)} results differed between calls or processes within rounding; other bits were "
            "judged in full again"
        )
    return join(sentences)


def _tell_gpu(readings: Sequence[Reading]) -> str:
    states = [gpu for reading in readings if (gpu := part_in(reading.facts, "gpu"))]
    if not states:
        return ""
    left_out = sum(number_in(gpu, "discarded") or 0 for gpu in states)
    hidden = [gpu["launch_hidden"] for gpu in states if isinstance(gpu.get("launch_hidden"), bool)]
    sentences = [
        f"the state of the GPU was read around every sample; {left_out:g} samples were left out, because it "
        "was throttled meanwhile"
    ]
    if hidden:
        sentences.append(
            f"calls were launched behind a kernel that only spins, so that no launch is timed; this hid the "
            f"launches in {sum(hidden)} of {cases(len(hidden))}"
        )
    return join(sentences)


def count_words(readings: Iterable[Reading], key: str) -> list[str]:
    """List what a fact of some readings says, each with its cases; numbers of processes become a range."""
    numbers: dict[str, list[int]] = {}
    told: Counter[str] = Counter()
    for reading in readings:
        text = str(reading.facts.get(key) or "")
        plain = _PROCESSES.sub(_PLACE, text)
        told.update([plain] if text else [])
        numbers.setdefault(plain, []).extend(int(found) for found in _PROCESSES.findall(text))
    return [
        f"{text.replace(_PLACE, span(numbers[text] or [0]))} ({cases(number)})"
        for text, number in told.most_common(6)
    ]
