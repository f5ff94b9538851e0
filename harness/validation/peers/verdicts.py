"""What the observations say: do the tools agree, and how far apart are the repeats of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles, stdev

from harness.paper.record import CaseId
from harness.paper.stats import estimate
from harness.validation.peers.observations import Notebook, Observation
from harness.validation.peers.roster import OURS

# An interval wider than this to either side is too wide to say that two tools agree.
WIDEST = 0.02
# How many of the operators must agree: 10 of 12.
SHARE = 10 / 12
# Under load our spread is to be at most this share of the best peer's, and on a quiet machine no larger.
WANTED: Mapping[str, float] = {"busy": 0.5, "quiet": 1.0}
# The same time is one that is at most this many times the other: no tool ends to the millisecond.
LONGER = 1.25
# Fewer repeats say nothing about how far repeats lie apart.
_FEWEST = 3


@dataclass(frozen=True)
class Interval:
    """The median of one tool's rounds with an interval for it."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def half_width(self) -> float:
        """Half the interval as a share of the value."""
        return (self.high - self.low) / 2 / self.value

    def overlaps(self, other: Interval) -> bool:
        """Whether the two intervals have a point in common."""
        return self.low <= other.high and other.low <= self.high


def interval(values: Sequence[float]) -> Interval | None:
    """Return the median of one value a round, with its interval; None for fewer than three.

    Every tool's rounds are treated in this one way: a round is one value, however many processes and
    samples it was made from, since only rounds lie minutes apart and see the machine change.
    """
    if len(values) < _FEWEST:
        return None
    found = estimate(values)
    assert found.low is not None
    assert found.high is not None
    return Interval(found.value, found.low, found.high, len(values))


@dataclass(frozen=True)
class Agreement:
    """One operator: our interval, each peer's, and what they say."""

    case: CaseId
    ours: Interval | None
    peers: Mapping[str, Interval | None]

    @property
    def is_undecided(self) -> bool:
        """Whether a tool has too few rounds for an interval."""
        return not self.peers or None in (self.ours, *self.peers.values())

    @property
    def verdict(self) -> str:
        """Whether our interval overlaps every peer's, in words."""
        if self.ours is None:
            return f"{OURS} has too few rounds"
        short = [name for name, found in self.peers.items() if found is None]
        if short or not self.peers:
            return f"too few rounds of {', '.join(short) or 'any peer'}"
        if self.ours.half_width > WIDEST:
            return f"{OURS}'s interval is ±{self.ours.half_width:.1%}"
        apart = [name for name, found in self.peers.items() if found and not self.ours.overlaps(found)]
        return f"differs from {', '.join(apart)}" if apart else "agree"

    @property
    def agrees(self) -> bool:
        """Whether the verdict is that they agree."""
        return self.verdict == "agree"

    def difference(self, peer: str) -> float | None:
        """How much larger our value is than a peer's, as a share."""
        found = self.peers[peer]
        return self.ours.value / found.value - 1 if self.ours and found else None


def agreements(notebook: Notebook, cases: Sequence[CaseId], peers: Sequence[str]) -> list[Agreement]:
    """Compare, on the quiet machine, every operator's values of all tools."""
    return [
        Agreement(case, _of(notebook, OURS, case), {name: _of(notebook, name, case) for name in peers})
        for case in cases
    ]


def _of(notebook: Notebook, tool: str, case: CaseId) -> Interval | None:
    return interval([one.value for one in notebook.values("quiet", tool, case) if one.value is not None])


@dataclass(frozen=True)
class Spread:
    """How far one tool's repeats lie apart: medians over operators, as shares.

    bias: how much larger the values are than the tool's own on the quiet machine; a tool that always says
    the same has no spread, and so this stands beside it. spent: seconds a case and round.
    """

    load: str
    tool: str
    rounds: int
    cases: int
    deviation: float
    quartiles: float
    bias: float | None
    spent: float | None


def spreads(notebook: Notebook, load: str, cases: Sequence[CaseId], tools: Sequence[str]) -> list[Spread]:
    """Return the spread of every tool, and of every other value that a tool reports beside its first."""
    found = []
    for tool in tools:
        names = sorted({name for one in notebook.observations if one.tool == tool for name in one.also})
        for also in (None, *names):
            spread = _spread(notebook, load, cases, tool, also)
            if spread:
                found.append(spread)
    return found


def _spread(
    notebook: Notebook, load: str, cases: Sequence[CaseId], tool: str, also: str | None
) -> Spread | None:
    by_case = {case: notebook.values(load, tool, case) for case in cases}
    repeats = {case: _numbers(seen, also) for case, seen in by_case.items() if len(seen) >= _FEWEST}
    if not repeats:
        return None
    quiet = {case: _numbers(notebook.values("quiet", tool, case), also) for case in repeats}
    biases = [median(repeats[case]) / median(before) - 1 for case, before in quiet.items() if before]
    spent = [one.spent for seen in by_case.values() for one in seen if one.spent is not None]
    return Spread(
        load,
        f"{tool} ({also})" if also else tool,
        min(len(values) for values in repeats.values()),
        len(repeats),
        median(stdev(values) / fmean(values) for values in repeats.values()),
        median(_quartile_range(values) / median(values) for values in repeats.values()),
        median(biases) if biases and load != "quiet" else None,
        fmean(spent) if spent else None,
    )


def _numbers(seen: Sequence[Observation], also: str | None) -> list[float]:
    values = [one.value if also is None else one.also.get(also) for one in seen]
    return [value for value in values if value is not None]


def _quartile_range(values: Sequence[float]) -> float:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return high - low


@dataclass(frozen=True)
class SpreadVerdict:
    """Our spread against the best peer's, by one measure of spread.

    longer: how many times the best peer's time ours took, None where that is unknown.
    """

    load: str
    measure: str
    ours: float
    best: float
    best_tool: str
    longer: float | None

    @property
    def is_fair(self) -> bool:
        """Whether our values were not simply bought with more time."""
        return self.longer is None or self.longer <= LONGER

    @property
    def holds(self) -> bool:
        """Whether ours is as small as is wanted, in the same time."""
        return self.is_fair and self.ours <= WANTED[self.load] * self.best


def judge_spreads(found: Sequence[Spread], peers: Sequence[str]) -> list[SpreadVerdict]:
    """Hold our spread against the best of the peers' first values, by deviation and by quartiles."""
    ours = next((spread for spread in found if spread.tool == OURS), None)
    others = [spread for spread in found if spread.tool in peers]
    if ours is None or not others:
        return []
    return [_judge(ours, others, measure) for measure in ("deviation", "quartiles")]


def _judge(ours: Spread, others: Sequence[Spread], measure: str) -> SpreadVerdict:
    best = min(others, key=lambda spread: float(getattr(spread, measure)))
    longer = ours.spent / best.spent if ours.spent and best.spent else None
    return SpreadVerdict(
        ours.load, measure, getattr(ours, measure), getattr(best, measure), best.tool, longer
    )
