"""The methods, generated from what the records say was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from harness.paper.compare import PROCESS_SPREAD
from harness.paper.record import Reading, Record
from harness.paper.store import Run

from .columns import title_of
from .conditions import tell_conditions
from .facts import in_words, write_fact
from .latencies import is_latency, processes_of
from .prose import count, join, span
from .timing import tell_timing
from .trust import meters_of, reading_of, why_withheld

# Facts of a latency that a reader needs in order to repeat it.
_CONDITIONS = ("clock", "cache", "launch")
# Facts of any other meter that say what its number is.
_MEANINGS = ("means", "interval")
_LEVELS = (
    "“Exact on integers” means bitwise equality on integers so small that nothing can round; “L0” means that "
    "the difference stays within an a-priori rounding bound. A case that disagreed has no number."
)
_RANKS = (
    "An operator's best form is the one with the lowest median of those measured. In a comparison a rank is "
    "one more than the number of operators that are faster beyond doubt: medians of identical code differ by "
    f"up to {100 * PROCESS_SPREAD:g} % from one process to the next, so intervals are widened by as much, "
    "and operators whose widened intervals overlap share a rank."
)


def describe_methods(run: Run) -> tuple[str, ...]:
    """Return one short paragraph for each thing that was done."""
    records = [record for record in run.latest.values() if why_withheld(record) is None]
    return tuple(text for text in _paragraphs(run, records) if text)


def _paragraphs(run: Run, records: list[Record]) -> Iterator[str]:
    yield _tell_claims(run)
    if not records:
        yield "No case was measured."
        return
    yield _tell_agreement(records)
    timed = [record for record in records if processes_of(reading_of(record, "latency"))]
    if timed:
        yield from tell_timing(run, timed)
        yield from tell_conditions(run, timed)
    latencies = (reading_of(record, "latency") for record in records)
    yield _tell_latency([reading for reading in latencies if not processes_of(reading)])
    yield _tell_workers(records)
    for meter in meters_of(records):
        if not is_latency(meter):
            yield _tell_meter(meter, [reading_of(record, meter) for record in records])
    yield _RANKS


def _tell_claims(run: Run) -> str:
    evidence = [entry for claim in run.claims for entry in claim.result.get("evidence", ())]
    passes = [found for entry in evidence for found in entry.get("passes") or (entry,)]
    random = [found for found in passes if found.get("trials") and found.get("degree")]
    if not random:
        return ""
    mutants = any(claim.result.get("mutants") for claim in run.claims)
    trials, degrees = (span(found[key] for found in random) for key in ("trials", "degree"))
    return (
        "Claims at level L1 were certified on random integers so small that no addition or multiplication "
        f"rounds, with {trials} trials at degree {degrees}, forward and by vector-Jacobian products; by "
        "Schwartz and Zippel a false polynomial identity would pass with at most the stated probability. "
        "This certifies the programs at the shapes listed and says nothing about other shapes."
        + (" Every mutant was put to the same check." if mutants else "")
    )


def _tell_agreement(records: list[Record]) -> str:
    levels = Counter(record.agreement.level for record in records if record.agreement)
    how = ", ".join(f"{number} at level “{level}”" for level, number in levels.items())
    return (
        f"Each of the {count(len(records), 'measured case')} equalled its reference in values and gradients "
        f"before it was timed and again afterwards ({how}). {_LEVELS}"
    )


def _tell_latency(readings: list[Reading]) -> str:
    found = [reading for reading in readings if reading.value is not None]
    if not found:
        return ""
    sentences = [
        f"Latency is the median of {span(len(reading.samples) for reading in found)} samples per case; the "
        "interval is the distribution-free 95 % interval of the median, and the band in a chart spans the "
        "quartiles"
    ]
    if calls := _values(found, "calls_per_sample"):
        sentences.append(f"calls per sample: {span(calls)}")
    told = [_tell_fact(key, _values(found, key)) for key in _CONDITIONS]
    sentences.append("; ".join(part for part in told if part))
    if warm := _values(found, "warm_up_stable"):
        sentences.append(f"times were stable at the end of the warm-up in {sum(warm)} of {len(warm)} cases")
    if faults := _values(found, "faults_per_call"):
        few = sum(number < 1 for number in faults)
        sentences.append(f"{few} of {count(len(faults), 'case')} had less than one page fault a call")
    return join(sentences)


def _tell_workers(records: list[Record]) -> str:
    keys = dict.fromkeys(key for record in records for key in record.worker)
    told = [_tell_fact(key, [record.worker.get(key) for record in records]) for key in keys]
    return join(["every case ran in a worker process", "; ".join(part for part in told if part)])


def _tell_meter(meter: str, readings: list[Reading]) -> str:
    found = [reading for reading in readings if reading.value is not None]
    means, interval = (" or ".join(dict.fromkeys(map(str, _values(found, key)))) for key in _MEANINGS)
    told = means + (f"; interval: {interval}" if means and interval else "")
    return f"{title_of(meter)} ({count(len(found), 'case')}): {told}." if told else ""


def _tell_fact(key: str, values: Iterable[Any]) -> str:
    """Write the values that a fact took, or nothing if there were none, many, or values with parts."""
    plain = [value for value in values if isinstance(value, (str, int, float))]
    known = list(dict.fromkeys(write_fact(key, value) for value in plain))
    return f"{in_words(key)}: {' or '.join(known)}" if 0 < len(known) <= 3 else ""


def _values(readings: list[Reading], key: str) -> list[Any]:
    return [value for reading in readings if (value := reading.facts.get(key)) is not None]
