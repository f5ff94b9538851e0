"""Records: from what the processes of a case answered to one record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from harness.bench.cost import Cost
from harness.bench.measure.group import Answer, Member
from harness.bench.measure.latency import latency_reading
from harness.bench.measure.meters import METERS
from harness.bench.measure.modes import HOT, READINGS, Mode
from harness.bench.measure.settings import Settings
from harness.paper.record import Agreement, Reading, Record, Status, writable
from harness.paper.roofline import WINOGRAD, Roofline, SpeedLimit, faster_than_possible, roofline
from harness.paper.units import Unit

Readings = dict[str, Reading]


def make_record(
    member: Member,
    settings: Settings,
    expected: Answer,
    after: Mapping[str, Answer],
    limits: Mapping[str, SpeedLimit],
    started: str,
) -> Record:
    """Make the record of a case.

    expected: what evaluating the reference answered. after: what counting and certifying answered, of a
    case that was measured. limits: the speed limit by device.
    """
    failure = member.failure or _objection(after)
    status = Status(failure["status"]) if failure else Status.MEASURED
    record = Record(
        case=member.case.id,
        status=status,
        reason=failure.get("reason") if failure else None,
        agreement=_agreement(member, failure, after),
        readings=_withheld(failure) if failure else {},
        inputs=expected.get("inputs", {}),
        worker=_worker_facts(member),
        started=started,
        seconds=member.seconds,
    )
    if failure:
        return record
    readings = _readings(member, settings, expected, after)
    return _held_to_the_limit(replace(record, readings=readings), member, limits.get(member.case.device))


def _objection(after: Mapping[str, Answer]) -> Answer | None:
    """Return the failure of an implementation that was followed and differs from its reference."""
    certificate = _certificate(after["certified"]) if "certified" in after else None
    if certificate is None or certificate["agrees"]:
        return None
    reason = f"It disagrees with the reference: {certificate['reason']}"
    agreement = {
        "agrees": False,
        "level": "L1",
        "reason": certificate["reason"],
        "evidence": {"certificate": certificate},
    }
    return {"status": Status.DISAGREED, "reason": reason, "agreement": agreement}


def _certificate(answer: Answer) -> Mapping[str, Any]:
    """Return how an implementation was certified; a box that broke when it was opened is black."""
    if answer["status"] == Status.MEASURED:
        return writable(answer["certificate"])
    return {"box": "black", "agrees": True, "reason": f"following it failed: {answer['reason']}"}


def _agreement(member: Member, failure: Answer | None, after: Mapping[str, Answer]) -> Agreement | None:
    """Return both judgements of the first process, or the one that found a difference."""
    if failure is not None:
        found = failure.get("agreement")
        return Agreement(**writable(found)) if found else None
    before, later = (writable(answer["agreement"]) for answer in (member.begun, member.ended))
    evidence = {"before": before["evidence"], "after": later["evidence"]}
    if "certified" in after:
        evidence["certificate"] = _certificate(after["certified"])
    return Agreement(**{**before, "evidence": evidence})


def _withheld(failure: Answer) -> Readings:
    """Name the readings of a case that was judged and found wrong, and why they are not there."""
    agreement = failure.get("agreement")
    if not agreement or agreement.get("agrees"):
        return {}
    when = agreement.get("evidence", {}).get("when")
    reason = "withheld, because the implementation disagrees with its reference" + (
        f" {when}" if when else ""
    )
    units = {"latency": Unit.SECONDS_PER_CALL, **{name: unit for name, (unit, _) in METERS.items()}}
    return {name: Reading.missing(unit, reason) for name, unit in units.items()}


def _worker_facts(member: Member) -> dict[str, Any]:
    return {**member.begun.get("worker", {}), **member.ended.get("facts", {})}


def _readings(member: Member, settings: Settings, expected: Answer, after: Mapping[str, Answer]) -> Readings:
    readings = {
        **{READINGS[mode]: _latency(member, settings.threads, mode) for mode in member.samples},
        **_scaling(member, settings.threads),
        **_compilation(member),
        **{name: _reading(found) for name, found in member.ended.get("readings", {}).items()},
    }
    if "instructions" in after:
        readings["instructions"] = _reading(after["instructions"])
    if "counted" in after:
        readings["macs"] = _counted(after["counted"], expected["ones_probe"])
    return readings


def _latency(member: Member, threads: int, mode: str) -> Reading:
    conditions = Mode.of(mode, member.case.device, threads)
    reading = latency_reading(member.samples[mode], conditions, member.stopped)
    paired = {"paired": member.paired[mode]} if mode in member.paired else {}
    return replace(reading, facts={**reading.facts, "deterministic": member.deterministic, **paired})


def _scaling(member: Member, threads: int) -> Readings:
    """Return the latency on all processors, with that on fewer beside it."""
    if not member.scaling:
        return {}
    laps = {threads: member, **member.scaling}
    most = max(laps)
    failed = {count: str(lap.failure["reason"]) for count, lap in laps.items() if lap.failure}
    if most in failed:
        reason = f"with {most} threads: {failed[most]}"
        return {"latency_all_threads": Reading.missing(Unit.SECONDS_PER_CALL, reason)}
    found = {count: _latency(laps[count], count, HOT) for count in sorted(laps) if count not in failed}
    one, all_of_them = found[min(found)].value, found[most].value
    facts = {
        **found[most].facts,
        "scaling": {str(count): reading.value for count, reading in found.items()},
        "scaling_missing": {str(count): reason for count, reason in failed.items()},
        "speedup": one / all_of_them if one and all_of_them else None,
    }
    return {"latency_all_threads": replace(found[most], facts=facts)}


def _compilation(member: Member) -> Readings:
    """Return what the first call of a compiled form took beyond a later one."""
    if member.case.implementation.kind != "compiled":
        return {}
    later = member.begun["seconds_per_call"]
    return {
        "compilation": Reading(
            Unit.SECONDS,
            max(0.0, member.begun["first_call_seconds"] - later),
            facts={
                "means": "the first call of the first process, less a later call; no cache held its result"
            },
        )
    }


def _held_to_the_limit(record: Record, member: Member, limit: SpeedLimit | None) -> Record:
    """Add every latency's share of the roofline, and refuse a latency that cannot be true."""
    if limit is None:
        return record
    cost = member.case.scope.cost(member.case.workload.dims)
    readings = dict(record.readings)
    for name in [name for name in readings if name.startswith("latency")]:
        reading = readings[name]
        if reading.value is None:
            continue
        found = _roofline(member, cost, limit, int(reading.facts["threads"]))
        impossible = faster_than_possible(reading.value, found, _fewer_products(member))
        if impossible and member.case.direction == "forward":
            return replace(
                record,
                status=Status.FAILED,
                reason=f"Its time is not valid: {impossible}",
                readings={"latency": Reading.missing(Unit.SECONDS_PER_CALL, f"invalid: {impossible}")},
            )
        readings[name] = replace(reading, facts={**reading.facts, "roofline": _told(found, reading, cost)})
    return replace(record, readings=readings)


def _roofline(member: Member, cost: Cost, limit: SpeedLimit, threads: int) -> Roofline:
    """Return the roofline of a forward call; a training step does at least as much."""
    dtype = member.case.dtype
    itemsize: int = getattr(torch, dtype).itemsize
    return roofline(limit, cost.minimal_bytes(itemsize), _macs(cost), dtype, threads)


def _macs(cost: Cost) -> float:
    """Return the MACs that no program can leave out: taps on padding can be."""
    return float(cost.macs if cost.macs_in_bounds is None else cost.macs_in_bounds)


def _fewer_products(member: Member) -> float:
    """Return how many times fewer products than the formula's the implementation may need.

    Where its page declares another count it reorders the formula, and nothing is known.
    """
    return math.inf if member.case.implementation.counted else WINOGRAD


def _told(found: Roofline, reading: Reading, cost: Cost) -> dict[str, Any]:
    return {
        "seconds": found.seconds,
        "share": found.share(reading.value) if reading.value else None,
        "bound": found.bound,
        "reason": found.reason,
        "bytes": found.minimal_bytes,
        "macs": _macs(cost),
    }


def _reading(content: Mapping[str, Any]) -> Reading:
    unit, value = Unit(content["unit"]), content["value"]
    if value is not None and not math.isfinite(value):
        return Reading.missing(unit, f"the meter returned {value}")
    return Reading(**{**writable(content), "unit": unit, "samples": tuple(content["samples"])})


def _counted(answer: Answer, ones_probe: Mapping[str, Any]) -> Reading:
    """Return the reading of the counters, with the witness that is common to all implementations."""
    if answer["status"] != Status.MEASURED:
        return Reading.missing(Unit.MACS_PER_CALL, f"counting failed: {answer['reason']}")
    reading = _reading(answer["readings"]["macs"])
    witnesses = {"ones_probe": ones_probe, **reading.facts["witnesses"]}
    return replace(reading, facts={**reading.facts, "witnesses": witnesses})
