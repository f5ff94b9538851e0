"""What is told of one case behind its row: how it was timed, what ran, and how it was judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.paper.record import Reading, Record
from harness.paper.units import format_bytes, format_seconds

from .columns import title_of
from .facts import Pairs, list_facts, number_in, part_in, parts_in
from .latencies import (
    clock_of,
    is_latency,
    processes_of,
    say_medians,
    say_processors,
    say_scaling,
    share_of,
    write_share,
)
from .trust import reading_of
from .view import FactGroup

# Told in words of their own, or in a cell of the row.
_TOLD = {"processes", "modes", "roofline", "gpu", "scaling", "witnesses", "interval", "stopped", "blocks"}
_TOLD |= {"clock", "speedup", "deterministic"}
# So many kernels are named; what ran most of the time stands first.
_MOST_KERNELS, _FEWER_KERNELS = 4, 2


def list_briefly(record: Record) -> Iterator[FactGroup]:
    """Tell what a number rests on in a few words, for runs of very many cases."""
    reading = reading_of(record, "latency")
    told = ("medians of its processes", "processors", "sampling stopped")
    facts = [(name, text) for name, text in _how_timed(reading) if text and name in told]
    ran = part_in(record.worker, "kernels")
    names = [*(_name_kernel(kernel) for kernel in parts_in(ran, "kernels")), *_native(ran)]
    facts += [("ran", _some(names, _FEWER_KERNELS))] if names else []
    yield FactGroup("", tuple(facts))


def list_at_length(record: Record, shared: Iterable[str]) -> Iterator[FactGroup]:
    """Tell everything but the raw samples; ``shared`` names the facts that all workers have in common."""
    if record.agreement is not None:
        yield FactGroup("agreement", list_facts(_judged(record.agreement.evidence)))
    for meter in record.readings:
        reading = reading_of(record, meter)
        yield FactGroup(title_of(meter), tuple(_facts_of(meter, reading)))
    yield FactGroup("what one call ran", tuple(_what_ran(record)))
    yield FactGroup("inputs", list_facts(record.inputs))
    own = {key: value for key, value in record.worker.items() if key not in {*shared, "kernels"}}
    yield FactGroup("worker", list_facts({**own, "started": record.started or None}))


def describe_kernels(record: Record) -> str:
    """Name the kernels that one call ran, those that took longest first."""
    ran = part_in(record.worker, "kernels")
    names = [_name_kernel(kernel) for kernel in parts_in(ran, "kernels")]
    return _some(names)


def describe_libraries(record: Record) -> str:
    """Name the libraries that one call ran in."""
    return _names(part_in(record.worker, "kernels").get("libraries"))


def _facts_of(meter: str, reading: Reading) -> Iterator[tuple[str, str]]:
    if reading.low is not None and reading.high is not None:
        name = "interval" if meter in ("energy", "instructions") else "95 % interval of the median"
        yield name, f"{reading.unit.format(reading.low)} to {reading.unit.format(reading.high)}"
    if is_latency(meter):
        yield from ((name, text) for name, text in _how_timed(reading) if text)
        yield from ((name, text) for name, text in _how_near(reading) if text)
        yield from _state_of_gpu(part_in(reading.facts, "gpu"))
    told = _TOLD if is_latency(meter) else {"witnesses"}
    yield from list_facts({key: value for key, value in reading.facts.items() if key not in told})


def _how_timed(reading: Reading) -> Iterator[tuple[str, str]]:
    facts = reading.facts
    yield "clock", clock_of(reading)
    yield "medians of its processes", say_medians(reading)
    yield "processors", say_processors(reading)
    yield "sampling stopped", str(facts.get("stopped") or "")
    yield "by numbers of threads", say_scaling(reading)


def _how_near(reading: Reading) -> Iterator[tuple[str, str]]:
    """Say what the interval is made of, and how near the latency comes to the roofline."""
    facts, found = reading.facts, part_in(reading.facts, "roofline")
    yield "interval", str(facts.get("interval") or "")
    if processes_of(reading) and facts.get("deterministic") is True:
        yield "results", "the same bits in every process"
    if not found:
        return
    share, words = share_of(reading)
    yield "roofline", words if share is None else f"{write_share(share)}, bound by {words}"
    seconds, count = number_in(found, "seconds"), number_in(found, "bytes")
    yield "time at the speed limit", "" if seconds is None else format_seconds(seconds)
    yield "least bytes moved", "" if count is None else format_bytes(count)


def _state_of_gpu(gpu: Mapping[str, Any]) -> Pairs:
    known = {key: value for key, value in gpu.items() if value not in (None, [], {}, 0)}
    return list_facts(known, "GPU") if known else ()


def _what_ran(record: Record) -> Iterator[tuple[str, str]]:
    ran = part_in(record.worker, "kernels")
    if not ran:
        return
    told = [
        ("libraries", describe_libraries(record)),
        ("kernels", describe_kernels(record)),
        ("torch’s own loops", _some(_native(ran))),
        ("attention", _names(ran.get("attention"))),
    ]
    if number_in(ran, "compiled_regions"):
        told.append(("compiled regions entered", str(ran["compiled_regions"])))
    yield from ((name, text) for name, text in told if text)
    yield from list_facts(part_in(ran, "reasons"))
    yield from list_facts(part_in(ran, "builds"))


def _name_kernel(kernel: Mapping[str, Any]) -> str:
    """Name a kernel with its library, and how often it ran: ``oneDNN convolution jit_dw:avx512 × 2``."""
    name = " ".join(str(kernel[key]) for key in ("library", "name") if kernel.get(key))
    calls = number_in(kernel, "calls") or 1
    return name if calls == 1 else f"{name} × {calls:g}"


def _names(value: Any) -> str:
    return ", ".join(str(name) for name in value) if isinstance(value, (list, tuple)) else ""


def _native(ran: Mapping[str, Any]) -> list[str]:
    names = ran.get("native")
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def _some(names: list[str], most: int = _MOST_KERNELS) -> str:
    more = len(names) - most
    shown = ", ".join(names[:most])
    return f"{shown} and {more} more" if more > 0 else shown


def _judged(evidence: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell once what was the same before and after timing."""
    if "before" in evidence and evidence["before"] == evidence.get("after"):
        others = {key: value for key, value in evidence.items() if key not in ("before", "after")}
        return {"before and after timing": evidence["before"], **others}
    return evidence
