"""The columns of the table of cases: what each holds, and where its cells come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.paper.record import Record

from .cells import calls_cell, executed_cell, meter_cell, rate_cell, share_cell
from .gaps import Gaps
from .latencies import clock_of, is_latency, processes_of, share_of
from .trust import meters_of, reading_of
from .view import Cell, Column
from .witnesses import executed_of

_TITLES = {
    "latency": "Latency",
    "calls": "Calls",
    "latency_cold": "Cold caches",
    "latency_launched": "With launch",
    "latency_all_threads": "All processors",
    "share": "Roofline",
    "memory": "Peak memory",
    "macs": "MACs",
    "executed": "Executed MACs",
    "rate": "GMAC/s",
    "energy": "Energy",
    "instructions": "Instructions",
    "compilation": "Compilation",
}
_HINTS = {
    "calls": "samples × calls per sample",
    "latency_cold": "each call after the caches were overwritten",
    "latency_launched": "wall time from the launch of a call until the device is done",
    "latency_all_threads": "and how many times as fast as the latency",
    "share": "time at the speed limit of the machine ÷ latency, and what bounds it",
    "memory": "above the inputs, output included",
    "macs": "nominal, of one forward call",
    "executed": "counted in the running program, and how many times the useful ones, inside the map",
    "rate": "nominal MACs ÷ median latency, forward only",
    "energy": "per call, above idle power",
    "instructions": "per call, counted under valgrind",
    "compilation": "the first call less a later one",
}


@dataclass(frozen=True)
class Source:
    """A column and what makes its cells. is_meter: whether a meter stands behind it."""

    column: Column
    cell: Callable[[Record, Gaps], Cell]
    is_meter: bool


def title_of(meter: str) -> str:
    """Return the heading of a meter's column."""
    return _TITLES.get(meter, meter.replace("_", " ").capitalize())


def list_sources(records: Sequence[Record], is_brief: bool = False) -> tuple[Source, ...]:
    """Return the columns of these records in the order of display; other meters follow by name.

    is_brief: whether there are too many for second lines that a sheet of the run holds as well.
    """
    meters = meters_of(list(records))
    cells: dict[str, Callable[[Record, Gaps], Cell]] = {"calls": calls_cell, "rate": rate_cell}
    if any(share_of(reading_of(record, "latency"))[0] is not None for record in records):
        cells["share"] = share_cell
    if any(executed_of(record).macs is not None for record in records):
        cells["executed"] = executed_cell
    cells |= {meter: _meter(meter, _differ(_clocks(records, meter)), is_brief) for meter in meters}
    order = list(_TITLES)
    keys = sorted(cells, key=lambda key: (order.index(key) if key in order else len(order), key))
    return tuple(
        Source(Column(key, title_of(key), _hint(key, records), key in _TITLES), cells[key], key in meters)
        for key in keys
    )


def _meter(meter: str, clocks_differ: bool, is_brief: bool) -> Callable[[Record, Gaps], Cell]:
    return lambda record, gaps: meter_cell(record, meter, gaps, clocks_differ, is_brief)


def _hint(key: str, records: Sequence[Record]) -> str:
    told = [_HINTS[key]] if key in _HINTS else []
    if key == "latency":
        told.append(_say_value(records))
    if key == "share" and any(record.case.direction == "training" for record in records):
        told.append("of a training step, the time of its forward call at that speed")
    if is_latency(key):
        clocks = _clocks(records, key)
        told += [] if _differ(clocks) else clocks
    return "; ".join(told)


def _say_value(records: Sequence[Record]) -> str:
    """Say what the value is: of several processes, or of the samples of one."""
    found = [reading_of(record, "latency") for record in records]
    several = {len(processes_of(reading)) > 1 for reading in found if reading.value is not None}
    if True not in several:
        return "median per call, ± half the 95 % interval of the median"
    where = " where there were several" if False in several else ""
    return f"median of the medians of its processes, ± half the 95 % interval, which they alone make{where}"


def _clocks(records: Sequence[Record], meter: str) -> list[str]:
    found = (reading_of(record, meter) for record in records) if is_latency(meter) else ()
    names = dict.fromkeys(clock_of(reading) for reading in found if reading.value is not None)
    return [name for name in names if name]


def _differ(clocks: Sequence[str]) -> bool:
    return len(clocks) > 1
