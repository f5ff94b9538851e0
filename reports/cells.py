"""Readings as cells of a table."""

from __future__ import annotations

from harness.paper.record import CaseId, Reading, Record
from harness.paper.units import format_bytes, format_count, three_digits

from .facts import number_in
from .gaps import Gaps
from .latencies import clock_of, count_samples, is_latency, list_flags, say_speedup, share_of, write_share
from .trust import reading_of
from .view import Cell
from .witnesses import executed_of


def spread_of(reading: Reading) -> str:
    """Write half the interval as a share of the value: ``±0.8 %``."""
    if reading.value is None or reading.low is None or reading.high is None or not reading.value:
        return ""
    return f"±{100 * (reading.high - reading.low) / 2 / reading.value:.1f} %"


def meter_cell(
    record: Record, meter: str, gaps: Gaps, clocks_differ: bool = False, is_brief: bool = False
) -> Cell:
    """Write what a meter found, or the number of the reason why there is nothing.

    clocks_differ: whether the clock has to be named with the number, since others have another one.
    is_brief: whether what is the same for all implementations of a workload is left out.
    """
    reading = reading_of(record, meter)
    if reading.value is None:
        return Cell(gap=gaps.note(reading.reason or "", meter, str(record.case)))
    text = reading.unit.format(reading.value)
    # The headings of the columns say what is counted.
    for ending in (" MACs", " instructions"):
        text = text.removesuffix(ending)
    if not is_latency(meter):
        is_common = meter in ("memory", "macs")
        return Cell(text, "" if is_brief and is_common else _detail(meter, reading), reading.value)
    note = say_speedup(reading) or (clock_of(reading) if clocks_differ else "")
    return Cell(text, spread_of(reading), reading.value, note=note, flags=tuple(list_flags(meter, reading)))


def calls_cell(record: Record, gaps: Gaps) -> Cell:
    """Write how many calls stand behind a latency: samples × calls per sample."""
    reading = reading_of(record, "latency")
    if reading.value is None or not reading.samples:
        reason = reading.reason or "the record holds no samples"
        return Cell(gap=gaps.note(reason, "calls", str(record.case)))
    per_sample = reading.facts.get("calls_per_sample") or 1
    count = count_samples(reading)
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


def share_cell(record: Record, gaps: Gaps) -> Cell:
    """Write how near the latency comes to the roofline, and what bounds it there."""
    share, words = share_of(reading_of(record, "latency"))
    if share is None:
        return Cell(gap=gaps.note(words, "share of the roofline", str(record.case)))
    return Cell(write_share(share), words, share)


def executed_cell(record: Record, gaps: Gaps) -> Cell:
    """Write the MACs that the program executes, and how many times the useful ones they are."""
    executed = executed_of(record)
    if executed.macs is None:
        return Cell(gap=gaps.note(executed.reason, "executed MACs", str(record.case)))
    detail = f"{three_digits(executed.macs / executed.useful)}×"
    return Cell(format_count(executed.macs).strip(), detail, executed.macs)


def ratio_text(value: float | None, to: float | None) -> str:
    """Write a ratio: ``2.31×``."""
    return f"{three_digits(value / to)}×" if value and to else ""


def setting_of(case: CaseId, parts: tuple[str, ...] = ("dtype", "device", "direction")) -> str:
    """Write the parts of a case that say under what it was measured."""
    return " · ".join(value for value in (getattr(case, part) for part in parts) if value)


def _detail(meter: str, reading: Reading) -> str:
    if meter == "memory":
        least = number_in(reading.facts, "output_bytes")
        return "" if least is None else f"output {format_bytes(least)}"
    if meter == "macs":
        params = number_in(reading.facts, "params")
        return f"{format_count(params).strip()} params" if params else ""
    return spread_of(reading)
