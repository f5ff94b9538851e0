"""The roofline: how fast a machine could do a case at best, and when a latency cannot be true.

Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, TypeVar

from harness.paper.record import SCHEMA, readable, writable
from harness.paper.units import format_bytes, format_seconds

# Winograd's F(6×6, 3×3) makes 36 outputs of a 3×3 kernel with 64 products in place of 324
# (Lavin and Gray 2016, arXiv 1509.09308); no larger tile is in use, since rounding grows with it.
WINOGRAD = 36 * 9 / 64
# A limit is a best of repeats and a latency a median: one tenth is more than the two can differ by.
_BEYOND_DOUBT = 0.9
# Half-precision inputs may be widened and computed in the format of the other units.
_WIDENED_TO = {"bfloat16": "float32", "float16": "float32"}


@dataclass(frozen=True)
class Traffic:
    """Bytes a second over a working set that was touched before; all bytes moved are counted."""

    working_set_bytes: int
    threads: int
    bytes_per_second: float

    def __post_init__(self) -> None:
        if not (self.working_set_bytes > 0 and 0 < self.bytes_per_second < math.inf):
            raise ValueError(f"{self.bytes_per_second} bytes a second over {self.working_set_bytes} bytes")


class CopyPoint(Traffic):
    """One half of the working set is copied to the other: bytes read plus bytes written."""


class ReadPoint(Traffic):
    """The working set is read."""


class WritePoint(Traffic):
    """The working set is written."""


@dataclass(frozen=True)
class PeakPoint:
    """FLOPs a second of the fastest matrix product; one MAC is two FLOPs."""

    dtype: str
    threads: int
    flops_per_second: float

    def __post_init__(self) -> None:
        if not 0 < self.flops_per_second < math.inf:
            raise ValueError(f"{self.flops_per_second} FLOPs a second")


Place = TypeVar("Place", bound=Traffic)
Point = TypeVar("Point", CopyPoint, ReadPoint, WritePoint, PeakPoint)


@dataclass(frozen=True)
class SpeedLimit:
    """What one device can do at best, as measured.

    reasons: what could not be measured, by name, and why. Threads play no part on other devices than
    the CPU. started: date and time; seconds: what measuring it took.
    """

    device: str
    copy: tuple[CopyPoint, ...] = ()
    read: tuple[ReadPoint, ...] = ()
    write: tuple[WritePoint, ...] = ()
    peak: tuple[PeakPoint, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the limit as one line of a run's ``records.jsonl``."""
        return writable({"kind": "limits", "schema": SCHEMA, **asdict(self)})

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Read back what :meth:`as_json` wrote, or raise :class:`SameopError`."""
        with readable(line):
            return cls(
                device=line["device"],
                copy=_points(CopyPoint, line["copy"]),
                read=_points(ReadPoint, line.get("read", ())),
                write=_points(WritePoint, line.get("write", ())),
                peak=_points(PeakPoint, line["peak"]),
                reasons={**line.get("reasons", {})},
                started=line.get("started", ""),
                seconds=line.get("seconds", 0.0),
            )


@dataclass(frozen=True)
class Roofline:
    """How long a case takes at the measured speed of the machine, and how long at least.

    seconds is the larger of the time to move the bytes and the time to do the products, and bound says
    which; where one of the two is unknown, seconds is None and reason says why. least_bytes_seconds and
    least_products_seconds are what no program can stay below, None where that is unknown.
    """

    seconds: float | None = None
    bound: str | None = None
    bytes_seconds: float | None = None
    products_seconds: float | None = None
    least_bytes_seconds: float | None = None
    least_products_seconds: float | None = None
    minimal_bytes: float | None = None
    reason: str | None = None

    def share(self, latency_seconds: float) -> float | None:
        """Return how near a latency comes to the roofline: 1 is as fast as the machine."""
        return None if self.seconds is None else self.seconds / latency_seconds


def roofline(
    limit: SpeedLimit, minimal_bytes: float | None, macs: float | None, dtype: str, threads: int
) -> Roofline:
    """Return the roofline of a case.

    minimal_bytes: every input read once and every output written once. macs: those that fall inside the
    map, where that is known; None where the number is unknown.
    """
    moving, no_bytes = _bytes_seconds(limit, minimal_bytes, threads)
    doing, no_products = _products_seconds(limit, macs, dtype, threads)
    parts: dict[str, Any] = {
        "bytes_seconds": moving,
        "products_seconds": doing,
        "least_bytes_seconds": _least_bytes_seconds(limit, minimal_bytes, threads),
        "least_products_seconds": _least_products_seconds(limit, macs, dtype, threads),
        "minimal_bytes": minimal_bytes,
    }
    if moving is None or doing is None:
        return Roofline(**parts, reason=no_bytes or no_products)
    if not moving and not doing:
        return Roofline(**parts, reason="the case moves no bytes and needs no products")
    return Roofline(max(moving, doing), "bytes" if moving >= doing else "products", **parts)


def faster_than_possible(
    latency_seconds: float, roofline: Roofline, fewer_products: float = WINOGRAD
) -> str | None:
    """Return one sentence where a latency is below what is possible on this machine, or None.

    fewer_products: how many times fewer products than the formula's a fast algorithm needs at most. The
    default is right for kernels up to 3×3; transforms of large kernels (FFT), and implementations that
    reorder or merge the formula, need fewer still.
    """
    least = roofline.least_bytes_seconds
    if least is not None and latency_seconds < _BEYOND_DOUBT * least:
        return (
            f"A call took {format_seconds(latency_seconds)}, but moving its "
            f"{format_bytes(roofline.minimal_bytes or 0)} takes at least {format_seconds(least)} on this "
            "machine: what was timed is not the whole call."
        )
    least = roofline.least_products_seconds
    if least is not None and latency_seconds < _BEYOND_DOUBT * least / fewer_products:
        return (
            f"A call took {format_seconds(latency_seconds)}, but its products take at least "
            f"{format_seconds(least / fewer_products)} on this machine, even where a fast algorithm needs "
            f"{fewer_products:.2f} times fewer of them: what was timed is not the whole call."
        )
    return None


def best_of(limits: Sequence[SpeedLimit]) -> SpeedLimit | None:
    """Join the limits of one device, measured at different times: a limit is a best.

    A session that was disturbed while it measured its limit is thereby corrected by the others.
    """
    if not limits:
        return None
    devices = sorted({limit.device for limit in limits})
    if len(devices) > 1:
        raise ValueError(f"Limits of one device can be joined, these are of {', '.join(devices)}.")
    lacking = set.intersection(*(set(limit.reasons) for limit in limits))
    return SpeedLimit(
        device=devices[0],
        copy=_best(point for limit in limits for point in limit.copy),
        read=_best(point for limit in limits for point in limit.read),
        write=_best(point for limit in limits for point in limit.write),
        peak=_best_peaks(point for limit in limits for point in limit.peak),
        reasons={name: why for name, why in limits[-1].reasons.items() if name in lacking},
        started=limits[0].started,
        seconds=sum(limit.seconds for limit in limits),
    )


def _best(points: Iterable[Place]) -> tuple[Place, ...]:
    best: dict[tuple[int, int], Place] = {}
    for point in points:
        place = point.threads, point.working_set_bytes
        if place not in best or point.bytes_per_second > best[place].bytes_per_second:
            best[place] = point
    return tuple(best[place] for place in sorted(best))


def _best_peaks(points: Iterable[PeakPoint]) -> tuple[PeakPoint, ...]:
    best: dict[tuple[str, int], PeakPoint] = {}
    for point in points:
        place = point.dtype, point.threads
        if place not in best or point.flops_per_second > best[place].flops_per_second:
            best[place] = point
    return tuple(best[place] for place in sorted(best))


def _bytes_seconds(
    limit: SpeedLimit, count: float | None, threads: int
) -> tuple[float, None] | tuple[None, str]:
    """Return the time to move bytes as fast as copying does at that working set."""
    if count is None:
        return None, "the bytes that the case moves are unknown"
    if not count:
        return 0.0, None
    points = [point for point in limit.copy if _at(limit, point.threads, threads)]
    if not points:
        return None, limit.reasons.get("copy", f"copying was not measured{_with(limit, threads)}")
    return count / _interpolated(points, count), None


def _interpolated(points: Sequence[CopyPoint], working_set: float) -> float:
    """Return bytes a second at a working set: on a line between two points, over the logarithm of size."""
    ordered = sorted(points, key=lambda point: point.working_set_bytes)
    for lower, upper in itertools.pairwise(ordered):
        if lower.working_set_bytes <= working_set <= upper.working_set_bytes:
            span = math.log(upper.working_set_bytes / lower.working_set_bytes)
            place = math.log(working_set / lower.working_set_bytes) / span
            return lower.bytes_per_second + place * (upper.bytes_per_second - lower.bytes_per_second)
    nearest = ordered[0] if working_set < ordered[0].working_set_bytes else ordered[-1]
    return nearest.bytes_per_second


def _products_seconds(
    limit: SpeedLimit, macs: float | None, dtype: str, threads: int
) -> tuple[float, None] | tuple[None, str]:
    """Return the time to do products as fast as the fastest matrix product does."""
    if macs is None:
        return None, "the MACs of the case are unknown"
    if not macs:
        return 0.0, None
    for point in limit.peak:
        if point.dtype == dtype and _at(limit, point.threads, threads):
            return 2 * macs / point.flops_per_second, None
    missing = f"the peak of {dtype} was not measured{_with(limit, threads)}"
    return None, limit.reasons.get(peak_name(dtype, threads), missing)


def peak_name(dtype: str, threads: int) -> str:
    """Return the name under which :attr:`SpeedLimit.reasons` says why there is no peak."""
    return f"peak {dtype} {threads}"


def _at(limit: SpeedLimit, measured: int, asked: int) -> bool:
    return limit.device != "cpu" or measured == asked


def _with(limit: SpeedLimit, threads: int) -> str:
    return f" with {threads} thread{'s' * (threads != 1)}" if limit.device == "cpu" else ""


def _least_bytes_seconds(limit: SpeedLimit, count: float | None, threads: int) -> float | None:
    """Return a time that no program can stay below that moves so many different bytes, or None.

    Copying is no upper bound for programs that mostly read, and a program may hold a part of its data in
    caches where copying holds nothing, and use the caches and the memory at the same time. What is certain:
    of ``count`` bytes at most ``w`` lie where a working set of ``w`` bytes lies, the others have to come from
    further away, and no mixture of reading and writing is faster than both at once. The smallest working
    set measured stands for the nearest cache. A point that a disturbance made slow is lifted by every larger
    working set that was faster.
    """
    rates = _fastest(limit, threads)
    if count is None or not rates:
        return None
    sizes = sorted(rates)
    # The rate of a working set, or of any larger one.
    envelope = [max(rates[size] for size in sizes[place:]) for place in range(len(sizes))]
    beyond = zip((0, *sizes[1:]), envelope, strict=True)
    return max((count - held) / rate for held, rate in beyond if held <= count)


def _fastest(limit: SpeedLimit, threads: int) -> dict[int, float]:
    """Return bytes a second that nothing exceeds, by working set, where all three kinds were measured."""
    if not any(_at(limit, point.threads, threads) for point in limit.copy):
        return {}
    kinds: list[Sequence[Traffic]] = [limit.copy, limit.read, limit.write]
    # A program may use fewer threads than it has.
    copy, read, write = (
        {
            point.working_set_bytes: point.bytes_per_second
            for point in sorted(kind, key=lambda point: point.bytes_per_second)
            if limit.device != "cpu" or point.threads <= threads
        }
        for kind in kinds
    )
    return {size: max(copy[size], read[size] + write[size]) for size in {*copy} & {*read} & {*write}}


def _least_products_seconds(limit: SpeedLimit, macs: float | None, dtype: str, threads: int) -> float | None:
    """Return the time of the products at the fastest rate that their inputs allow, or None."""
    rates = []
    for name in filter(None, (dtype, _WIDENED_TO.get(dtype))):
        found = [
            point.flops_per_second
            for point in limit.peak
            if point.dtype == name and (limit.device != "cpu" or point.threads <= threads)
        ]
        if not found:
            return None
        rates += found
    return None if macs is None else 2 * macs / max(rates)


def _points(kind: type[Point], lines: Iterable[Mapping[str, Any]]) -> tuple[Point, ...]:
    return tuple(kind(**{each.name: line[each.name] for each in fields(kind)}) for line in lines)
