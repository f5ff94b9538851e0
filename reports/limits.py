"""The speed limit of the machine: how fast it copies, by working set, and multiplies matrices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.paper.roofline import CopyPoint, SpeedLimit, best_of
from harness.paper.store import Run
from harness.paper.units import format_bytes, format_count, format_seconds

from .view import FactGroup


def limits_of(run: Run) -> tuple[SpeedLimit, ...]:
    """Return the limit of every device: the best of what the sessions of the run found."""
    by_device: dict[str, list[SpeedLimit]] = {}
    for limit in run.limits:
        by_device.setdefault(limit.device, []).append(limit)
    return tuple(joined for found in by_device.values() if (joined := best_of(found)) is not None)


def list_limits(run: Run) -> tuple[FactGroup, ...]:
    """Return the limit of every device: copying with each number of threads, products, and reasons."""
    return tuple(group for limit in limits_of(run) for group in _groups(limit) if group.facts)


def write_rate(per_second: float, unit: str) -> str:
    """Write a rate: ``105 GB/s``, ``180 GFLOP/s``."""
    number, _, prefix = format_count(per_second).partition(" ")
    return f"{number} {prefix}{unit}/s"


def _groups(limit: SpeedLimit) -> Iterator[FactGroup]:
    device = limit.device.upper()
    for threads in sorted({point.threads for point in limit.copy}):
        points = [point for point in limit.copy if point.threads == threads]
        yield FactGroup(f"{device}: copying{_with(limit, threads)}", tuple(_copying(points)))
    peaks = tuple(
        (f"{point.dtype}{_with(limit, point.threads)}", write_rate(point.flops_per_second, "FLOP"))
        for point in limit.peak
    )
    yield FactGroup(f"{device}: matrix products", peaks)
    yield FactGroup(f"{device}: not measured", tuple(limit.reasons.items()))
    took = format_seconds(limit.seconds) if limit.seconds else ""
    yield FactGroup(f"{device}: measuring it", (("took", took),) if took else ())


def _copying(points: Sequence[CopyPoint]) -> Iterator[tuple[str, str]]:
    for point in sorted(points, key=lambda point: point.working_set_bytes):
        yield f"{format_bytes(point.working_set_bytes)} working set", write_rate(point.bytes_per_second, "B")


def _with(limit: SpeedLimit, threads: int) -> str:
    """Name the threads where they play a part."""
    if limit.device != "cpu":
        return ""
    return f", {threads} thread{'s' * (threads != 1)}"
