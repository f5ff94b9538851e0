"""Strips of dots as geometry: the numbers of each stage over one axis of head ÷ base."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil, exp, expm1, floor, log, log1p
from statistics import fmean
from typing import Any

from harness.paper.gate.outcome import CaseOutcome

from .facts import parts_in
from .prose import count

# Steps of the axis, as shares, and the most ticks that are told apart on a telephone.
_STEPS = tuple(factor * 10.0**power for power in range(-4, 3) for factor in (1.0, 2.0, 5.0))
_MOST_STEPS = 6
# What the axis shows around 1 where a policy says nothing: two and four times the default slowdown.
_DETECT = 0.02
# The slowdown that the first stage must exclude by the wall, in margins.
WALL_DETECT = 2
# The lanes of a case whose sides were not measured in pairs.
SIDES = ("base", "head")
# A logarithm of a ratio that no machine shows; what a file holds beyond it is drawn here.
_FAR = 20.0


@dataclass(frozen=True)
class Axis:
    """A range of shares, 0 for equal times; it is even in the logarithm of the ratio."""

    low: float
    high: float

    def place(self, share: float) -> float:
        """Return where a share lies, in percent of the width, at an edge where it is outside."""
        start, end = log1p(self.low), log1p(self.high)
        return round(min(100.0, max(0.0, 100 * (log1p(share) - start) / (end - start))), 2)

    def holds(self, share: float) -> bool:
        """Whether a share lies on the axis."""
        return self.low <= share <= self.high


@dataclass(frozen=True)
class Lane:
    """The dots of one stage: places in percent of the width, and how many lie beyond either edge."""

    title: str
    dots: tuple[float, ...]
    below: int
    above: int
    text: str


@dataclass(frozen=True)
class Strip:
    """A drawing: its lanes, the lines that cross them, what the judged numbers say, and the ticks.

    lines: a role (``zero``, ``margin``, ``detect``) and a place each. low: the family-wise lower bound. What
    lies beyond the axis is not there.
    """

    lanes: tuple[Lane, ...]
    lines: tuple[tuple[str, float], ...]
    low: float | None
    interval: tuple[float, float] | None
    middle: float | None
    ticks: tuple[tuple[float, str], ...]
    words: str


def shares_of(case: CaseOutcome) -> list[list[float]]:
    """Return what each pair of each stage found on the clock of the verdict: head ÷ base − 1.

    Of sides that were not measured in pairs, each process of base and of head, by the mean of base.
    """
    if case.medians:
        sides = [[log(time) for time in case.medians.get(side, ()) if time > 0] for side in SIDES]
        middle = fmean(sides[0] or [0.0])
        return [[ratio_of(time - middle) - 1 for time in side] for side in sides]
    by_wall = _is_by_wall(case)
    found = [[number.wall if by_wall else number.cpu for number in stage] for stage in case.stages]
    return [[ratio_of(each) - 1 for each in stage if each is not None] for stage in found]


def common_axis(policy: Mapping[str, Any], setting: str = "detect") -> Axis:
    """Return the axis that all rows of a table share, so that they can be compared by eye.

    setting: the slowdown of the policy that it is laid out for.
    """
    detect = share_in(policy, setting) or _DETECT
    return Axis(-2 * min(detect, 0.2), 4 * detect)


def own_axis(case: CaseOutcome, policy: Mapping[str, Any]) -> Axis:
    """Return an axis that holds everything of one case."""
    shares = [share for stage in shares_of(case) for share in stage]
    shares += [share for _, share in _lines(case, policy)]
    if case.bounds:
        shares += [ratio - 1 for ratio in (case.bounds.low, *case.bounds.interval) if _is_near(ratio)]
    low, high = log1p(min(shares)), log1p(max(shares))
    edge = 0.06 * (high - low or 0.02)
    return Axis(expm1(low - edge), expm1(high + edge))


def _is_near(ratio: float) -> bool:
    return exp(-_FAR) < ratio < exp(_FAR)


def draw_strip(case: CaseOutcome, axis: Axis, policy: Mapping[str, Any]) -> Strip | None:
    """Return the drawing of a case over an axis, None for a case without numbers."""
    stages = shares_of(case)
    if not any(stages):
        return None
    # A stage that the end of the budget left empty is no lane.
    lanes = tuple(
        _lane(title, stage, axis) for title, stage in zip(_titles(case), stages, strict=True) if stage
    )
    found = case.bounds
    return Strip(
        lanes=lanes,
        lines=tuple((role, axis.place(share)) for role, share in _lines(case, policy) if axis.holds(share)),
        low=_point(axis, found.low) if found else None,
        interval=_piece(axis, found.interval) if found else None,
        middle=_point(axis, found.ratio) if found else None,
        ticks=tuple((axis.place(share), _tick(share)) for share in _ticks(axis)),
        words="; ".join(f"{lane.title}: {lane.text}" for lane in lanes),
    )


def _tick(share: float) -> str:
    return f"{100 * share:+.4g} %".replace("-", "−") if share else "0 %"


def _point(axis: Axis, ratio: float) -> float | None:
    return axis.place(ratio - 1) if axis.holds(ratio - 1) else None


def _piece(axis: Axis, interval: tuple[float, float]) -> tuple[float, float] | None:
    """Return the part of an interval that lies on the axis."""
    low, high = (ratio - 1 for ratio in interval)
    touches = low <= axis.high and high >= axis.low
    return (axis.place(max(low, axis.low)), axis.place(min(high, axis.high))) if touches else None


def _titles(case: CaseOutcome) -> list[str]:
    return (
        list(SIDES) if case.medians else [f"stage {number}" for number, _ in enumerate(case.stages, start=1)]
    )


def _lane(title: str, shares: Sequence[float], axis: Axis) -> Lane:
    below, above = sum(share < axis.low for share in shares), sum(share > axis.high for share in shares)
    counted = count(len(shares), "pair") if title not in SIDES else _processes(len(shares))
    beyond = f", {below + above} beyond the axis" if below + above else ""
    return Lane(
        title=title,
        dots=tuple(axis.place(share) for share in shares if axis.holds(share)),
        below=below,
        above=above,
        text=f"{counted}{beyond}",
    )


def _processes(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"


def _lines(case: CaseOutcome, policy: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return equal times, and the margin and the slowdown to be excluded that hold for a case."""
    settings = {**policy}
    for table in parts_in(policy, "cases"):
        if fnmatchcase(case.name, str(table.get("match", ""))):
            settings |= table
    margin, detect = share_in(settings, "margin"), share_in(settings, "detect")
    if case.medians:
        margin, detect = share_in(settings, "baseline_margin"), None
        if _is_by_wall(case):
            margin = max(filter(None, (margin, share_in(settings, "wall_margin"))), default=None)
    elif _is_by_wall(case):
        margin = share_in(settings, "wall_margin")
        detect = margin and WALL_DETECT * margin
    named = (("margin", margin), ("detect", detect))
    return [("zero", 0.0), *((role, share) for role, share in named if share is not None)]


def _is_by_wall(case: CaseOutcome) -> bool:
    return case.clock.startswith("wall")


def share_in(policy: Mapping[str, Any], name: str) -> float | None:
    """Return a share that a policy sets, None where a file holds something else."""
    value = policy.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if 0 < value < 10 else None


def _ticks(axis: Axis) -> Iterable[float]:
    step = next((step for step in _STEPS if (axis.high - axis.low) / step <= _MOST_STEPS), None)
    if step is None:
        return (0.0,)
    return [round(k * step, 6) for k in range(ceil(axis.low / step), floor(axis.high / step) + 1)]


def ratio_of(logarithm: float) -> float:
    """Return a ratio from its logarithm; beyond any that a machine shows, a file's mistake, it is cut."""
    return exp(min(_FAR, max(-_FAR, logarithm)))
