"""A run whose every name, reason and fact ends in an attack; for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.paper.record import Agreement, ClaimRecord, Reading, Record
from harness.paper.store import Header, Run
from harness.paper.units import Unit

from .specimen import make_run

ATTACKS = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></title><iframe src=//evil.example>",
    "javascript:alert(1)",
    "../../../etc/passwd",
    "{{ 7 * 7 }}{% raw %}",
    "=HYPERLINK(0)",
)


def poison(value: Any, text: str) -> Any:
    """Append a text to every string in nested values."""
    if isinstance(value, str):
        return value + text
    if isinstance(value, dict):
        return {key: poison(entry, text) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(poison(entry, text) for entry in value)
    return value


def make_poisoned_run(text: str) -> Run:
    """Return the specimen with an attack at the end of every name, reason and fact."""
    run = make_run()
    header = Header(**{name: poison(value, text) for name, value in vars(run.header).items()})
    header = replace(header, machine={**header.machine, text: {text: text}}, plan=(*header.plan, text))
    records = [_poison_record(record, text) for record in run.records]
    claims = [ClaimRecord(claim.name + text, poison(dict(claim.result), text)) for claim in run.claims]
    limits = [
        replace(limit, device=limit.device + text, reasons={**poison(limit.reasons, text), text: text})
        for limit in run.limits
    ]
    sessions = [
        replace(account, phases={**account.phases, text: 1.0}, started=account.started + text)
        for account in run.sessions
    ]
    return replace(
        run,
        header=header,
        records=records,
        claims=claims,
        limits=limits,
        sessions=sessions,
        damage=[text],
    )


def _poison_record(record: Record, text: str) -> Record:
    readings = {
        name: replace(reading, facts=poison(reading.facts, text), reason=poison(reading.reason, text))
        for name, reading in record.readings.items()
    }
    agreement = record.agreement and Agreement(**poison(vars(record.agreement), text))
    return replace(
        record,
        case=type(record.case)(**poison(vars(record.case), text)),
        agreement=agreement,
        reason=poison(record.reason, text),
        worker={**poison(record.worker, text), text: text},
        readings={**readings, text: Reading(Unit.BYTES, 3.0, facts={text: text})},
    )
