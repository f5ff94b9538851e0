"""The other conditions of a latency: cold caches, the launch, all processors, the speed of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.paper.record import Reading, Record
from harness.paper.store import Run

from .facts import number_in, part_in
from .latencies import share_of
from .limits import limits_of
from .prose import cases, join, list_words
from .timing import count_words
from .trust import reading_of


def tell_conditions(run: Run, timed: Sequence[Record]) -> Iterator[str]:
    """Yield one paragraph for each condition under which any of these cases was timed."""
    for meter, tell in (
        ("latency_cold", _tell_cold),
        ("latency_launched", _tell_launched),
        ("latency_all_threads", _tell_scaling),
    ):
        found = [record for record in timed if reading_of(record, meter).value is not None]
        yield tell(found) if found else ""
    yield _tell_limit(run, timed)


def _tell_cold(records: Sequence[Record]) -> str:
    devices = {record.case.device for record in records}
    caches = [
        *(["twice the last-level cache of the processor"] if "cpu" in devices else []),
        *(["twice the second-level cache of the GPU"] if "cuda" in devices else []),
    ]
    return (
        f"Cold caches ({cases(len(records))}): before every call, outside of what is timed, memory of "
        f"{' or '.join(caches) or 'more than the caches'} is overwritten; every sample is one call. All "
        "other latencies are those of hot caches."
    )


def _tell_launched(records: Sequence[Record]) -> str:
    return (
        f"With launch ({cases(len(records))}): wall time from before the launch of a call until the GPU is "
        "done, one call after the other."
    )


def _tell_scaling(records: Sequence[Record]) -> str:
    readings = [reading_of(record, "latency_all_threads") for record in records]
    own = {number_in(reading_of(record, "latency").facts, "threads") for record in records}
    found = {int(name) for reading in readings for name in _scaling(reading) if name.isdecimal()}
    counts = sorted(found - own)
    clock = count_words(readings, "clock")
    return join(
        [
            f"all processors ({cases(len(records))}): measured again in processes of their own, with "
            f"{list_words([str(count) for count in counts])} threads, on as many processors"
            if counts
            else f"all processors ({cases(len(records))}): measured again in processes of their own",
            f"clock: {list_words(clock)}" if clock else "",
            "the speed-up is the latency divided by this one",
        ]
    )


def _scaling(reading: Reading) -> Mapping[str, Any]:
    return part_in(reading.facts, "scaling")


def _tell_limit(run: Run, records: Sequence[Record]) -> str:
    readings = [reading_of(record, "latency") for record in records]
    limits = limits_of(run)
    if not limits:
        return ""
    shares = [share for reading in readings if (share := share_of(reading)[0]) is not None]
    sentences = [
        f"the speed limit of {list_words([limit.device.upper() for limit in limits])} was measured in this "
        "run: the fastest copying of a working set, bytes read and written, and the fastest matrix product "
        "of each dtype",
    ]
    if shares:
        sentences.append(
            f"the roofline (Williams et al. 2009), known for {cases(len(shares))}, is the longer of two "
            "times at that speed: for moving every input and output once, and for the products inside the "
            "map; the column gives this time as a share of the latency and says which of the two it is"
        )
    above = sum(share > 1 for share in shares)
    if above:
        sentences.append(
            f"{cases(above)} {'stands' if above == 1 else 'stand'} above 100 %: copying writes as much as it "
            "reads, and a program that mostly reads, keeps a part of its data in nearer caches or needs "
            "fewer products may be faster"
        )
    if shares and any(record.case.direction == "training" for record in records):
        sentences.append("for a training step it is that of the forward call, so the true share is higher")
    return join(sentences)
