"""Readings as cells of a table."""

from __future__ import annotations

from collections.abc import Iterator

from harness.paper.record import CaseId, Reading, Record
from harness.paper.units import format_bytes, format_count, three_digits

from .gaps import Gaps
from .trust import reading_of
from .view import Cell


def spread_of(reading: Reading) -> str:
    """Write half the interval as a share of the value: ``±0.8 %``."""
    if reading.value is None or reading.low is None or reading.high is None or not reading.value:
        return ""
    return f"±{100 * (reading.high - reading.low) / 2 / reading.value:.1f} %"


def meter_cell(record: Record, meter: str, gaps: Gaps) -> Cell:
    """Write what a meter found, or the number of the reason why there is nothing."""
    reading = reading_of(record, meter)
    if reading.value is None:
        return Cell(gap=gaps.note(reading.reason or "", meter, str(record.case)))
    text = reading.unit.format(reading.value)
    if meter == "macs":  # the heading of the column says what is counted
        text = text.removesuffix(" MACs")
    return Cell(text, _detail(meter, reading), reading.value, flags=tuple(_flags(reading)))


def calls_cell(record: Record, gaps: Gaps) -> Cell:
    """Write how many calls stand behind a latency: samples × calls per sample."""
    reading = reading_of(record, "latency")
    if reading.value is None or not reading.samples:
        reason = reading.reason or "the record holds no samples"
        return Cell(gap=gaps.note(reason, "calls", str(record.case)))
    per_sample = reading.facts.get("calls_per_sample") or 1
    count = len(reading.samples)
    return Cell(f"{count} × {per_sample}", "", count * float(per_sample))


def rate_cell(record: Record, gaps: Gaps) -> Cell:
    """Derive GMAC/s from the nominal MACs and the median latency, of forward calls alone."""
    macs, latency = reading_of(record, "macs"), reading_of(record, "latency")
    if record.case.direction == "training":
        # The nominal count is that of one forward call; over the time of a training step it is no rate.
        reason = "the MACs are those of a forward call, the time is that of forward and backward"
    elif macs.value and latency.value:
        rate = macs.value / latency.value / 1e9
        return Cell(three_digits(rate) if rate < 1000 else format_count(rate), "", rate)
    else:
        reason = latency.reason or macs.reason or "the operator has no MACs"
    return Cell(gap=gaps.note(reason, "GMAC/s", str(record.case)))


def ratio_text(value: float | None, to: float | None) -> str:
    """Write a ratio: ``2.31×``."""
    return f"{three_digits(value / to)}×" if value and to else ""


def setting_of(case: CaseId, parts: tuple[str, ...] = ("dtype", "device", "direction")) -> str:
    """Write the parts of a case that say under what it was measured."""
    return " · ".join(value for value in (getattr(case, part) for part in parts) if value)


def _flags(reading: Reading) -> Iterator[str]:
    """Say what disturbed the samples: fresh memory in every call, or times that still moved."""
    faults = reading.facts.get("faults_per_call")
    if isinstance(faults, (int, float)) and faults >= 1:
        yield f"{format_count(round(faults)).strip()} page faults a call"
    if reading.facts.get("warm_up_stable") is False:
        yield "warm-up not stable"


def _detail(meter: str, reading: Reading) -> str:
    if meter == "memory":
        least = reading.facts.get("output_bytes")
        return f"output {format_bytes(least)}" if isinstance(least, (int, float)) else ""
    if meter == "macs":
        params = reading.facts.get("params")
        return f"{format_count(params).strip()} params" if isinstance(params, (int, float)) and params else ""
    return spread_of(reading)
