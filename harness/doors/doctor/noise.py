"""The noise floor: what this machine does to times of equal work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, pi, sqrt
from statistics import NormalDist, fmean, median, stdev

from harness.bench.measure.clocks import Block
from harness.doors.doctor.finding import Finding, advise, fine, missing
from harness.doors.doctor.trial import WORKS, Blocks, Trial
from harness.doors.doctor.wording import listed, percent
from harness.paper.stats import student_quantile, summarise

_CONFIDENCE = 0.95
_MUCH = 0.05
_MANY_PREEMPTED = 0.05
_TITLES = {"product": "work in the cache", "convolution": "work that writes 2 MiB"}
_LATENCY = "latency on the CPU"

Read = Callable[[Block], float]


def _wall(block: Block) -> float:
    return block.seconds / block.calls


def _cpu(block: Block) -> float:
    return (block.cpu_seconds or 0.0) / block.calls


# Single-threaded work on the CPU is timed by the first of them.
_CLOCKS: dict[str, Read] = {"thread-CPU clock": _cpu, "wall clock": _wall}


@dataclass(frozen=True)
class Spread:
    """How times of equal work differ, as shares. ``told``: the smallest difference that can be told."""

    within: float
    between: float
    told: float


def spread(processes: Sequence[Sequence[float]]) -> Spread:
    """Return how the seconds per call of several processes differ, in each and between them.

    Means of the logarithms of two sets of as many processes, divided by the scatter of a third, follow
    Student's t with the degrees of freedom of the third: nineteen in twenty equal pairs stay below ``told``.
    Medians of few processes may lie together by chance: they are not taken to differ by less than the
    standard error of one of them.
    """
    medians = [median(samples) for samples in processes]
    between = stdev([log(one) for one in medians])
    scatter = max(between, fmean(_standard_error(samples) for samples in processes))
    count = len(processes)
    t = student_quantile((1 + _CONFIDENCE) / 2, count - 1)
    told = exp(t * scatter * sqrt(2 / count)) - 1
    return Spread(median(map(_width, processes)), between, told)


def _width(samples: Sequence[float]) -> float:
    summary = summarise(samples)
    return (summary.high_quartile - summary.low_quartile) / summary.median


def _standard_error(samples: Sequence[float]) -> float:
    """Return that of the median as a share of it, from the quartiles, which a few outliers do not move."""
    sigma = _width(samples) / (2 * NormalDist().inv_cdf(0.75))
    return sigma * sqrt(pi / 2 / len(samples))


def examine_noise(trial: Trial) -> list[Finding]:
    """Return the noise within a process, between processes, and the difference that can be told."""
    if len(trial.pinned) < 3 or not all(_timed(blocks) for blocks in trial.pinned):
        reason = "The noise floor could not be measured: its processes gave too few times."
        return [missing("noise floor", reason, "Run the doctor again when the machine is quiet.", _LATENCY)]
    found = {work: {name: _spread(trial, work, read) for name, read in _CLOCKS.items()} for work in WORKS}
    return [
        _within(found),
        _between(found, len(trial.pinned)),
        _floor(found, len(trial.pinned)),
        _preempted(trial),
    ]


def _timed(blocks: Blocks) -> bool:
    return all(blocks[work] and min(map(_cpu, blocks[work])) > 0 for work in WORKS)


def _spread(trial: Trial, work: str, read: Read) -> Spread:
    return spread([[read(block) for block in blocks[work]] for blocks in trial.pinned])


Found = dict[str, dict[str, Spread]]


def _by_clock(found: Found, read: Callable[[Spread], float]) -> str:
    """Write the shares of each piece of work, by each clock."""
    first, second = ([percent(read(found[work][clock])) for work in WORKS] for clock in _CLOCKS)
    named = [f"{share} for {_TITLES[work]}" for share, work in zip(first, WORKS, strict=True)]
    clock, other = _CLOCKS
    return f"{listed(named)} by the {clock}, {listed(second)} by the {other}"


def _within(found: Found) -> Finding:
    wide = max(clocks["wall clock"].within for clocks in found.values()) > 2 * _MUCH
    return advise(
        "noise in a process",
        f"The middle half of the times of equal work spans {_by_clock(found, lambda one: one.within)}.",
        "Expect wide intervals: look at the load and at stolen time." if wide else None,
    )


def _between(found: Found, count: int) -> Finding:
    return fine(
        "noise between",
        f"The medians of {count} fresh processes scatter with a standard deviation of "
        f"{_by_clock(found, lambda one: one.between)}.",
    )


def _floor(found: Found, count: int) -> Finding:
    told = max(clocks["thread-CPU clock"].told for clocks in found.values())
    return advise(
        "noise floor",
        f"With one thread and {count} processes of each side, differences cannot be told here below "
        f"{_by_clock(found, lambda one: one.told)}.",
        "Small differences need a quieter machine or more processes." if told > _MUCH else None,
        f"{_LATENCY} (differences above {percent(told)})",
    )


def _preempted(trial: Trial) -> Finding:
    blocks = [block for process in trial.pinned for work in WORKS for block in process[work]]
    known = [block for block in blocks if block.preemptions is not None]
    if not known:
        return fine("preempted blocks", "The system does not tell when it takes the processor away.")
    share = fmean(bool(block.preemptions) for block in known)
    found = f"In {percent(share)} of {len(known)} blocks the system gave the processor to somebody else."
    advice = "Other programs take turns with what is measured: end them." if share > _MANY_PREEMPTED else None
    return advise("preempted blocks", found, advice)
