"""Records: what is written is read back, and what is not one is told in a sentence."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from harness.paper.errors import SameopError
from harness.paper.record import SCHEMA, Agreement, CaseId, ClaimRecord, Reading, Record, Status
from harness.paper.units import Unit

CASE = CaseId("involution", "core", "shifted", "rednet50/stage2", "float32", "cpu", "forward")
RECORD = Record(
    case=CASE,
    status=Status.MEASURED,
    agreement=Agreement(True, "exact on integers", evidence={"before": {"checks": []}}),
    readings={
        "latency": Reading(Unit.SECONDS_PER_CALL, 2.2e-4, 2.1e-4, 2.3e-4, (2.1e-4, 2.2e-4, 2.3e-4)),
        "energy": Reading.missing(Unit.JOULES_PER_CALL, "on the CPU energy is not read by this version"),
    },
    inputs={"seed": 69650864729265},
    worker={"threads": 1},
    started="2026-11-21T07:44:35+00:00",
    seconds=0.39,
)
CLAIM: dict[str, Any] = {
    "verdict": "holds",
    "expected": "holds",
    "level": "L1",
    "evidence": [],
    "mutants": [{"name": "flipped-taps", "verdict": "refuted", "expected": "refuted"}],
}


def through_json(line: dict[str, Any]) -> dict[str, Any]:
    """Write a line and parse it again, as a run does."""
    return dict(json.loads(json.dumps(line, allow_nan=False)))


def test_a_case_id_has_seven_parts() -> None:
    """A workload's own slash is written as a dash, so that an id always has seven parts."""
    assert str(CASE) == "involution/core/shifted/rednet50-stage2/float32/cpu/forward"


def test_a_group_leaves_out_the_implementation() -> None:
    """Cases of one group compute the same thing."""
    assert CASE.group == replace(CASE, implementation="authors").group
    assert CASE.group != replace(CASE, dtype="float64").group


def test_a_record_is_read_back_as_it_was() -> None:
    """Nothing is lost between a record and its line."""
    assert Record.from_json(through_json(RECORD.as_json())) == RECORD


def test_a_line_names_its_kind_schema_and_case() -> None:
    """A reader without sameop can tell what a line is."""
    line = RECORD.as_json()
    assert (line["kind"], line["schema"], line["id"]) == ("case", SCHEMA, str(CASE))


def test_keys_of_later_versions_are_left_alone() -> None:
    """A key may be added without a new schema."""
    line = RECORD.as_json()
    line = {**line, "mood": "calm", "case": {**line["case"], "colour": "red"}}
    line["readings"]["latency"] = {**line["readings"]["latency"], "skew": 1.0}
    assert Record.from_json(line) == RECORD


def test_a_newer_schema_is_refused() -> None:
    """A record that this version could misread is not read."""
    with pytest.raises(SameopError) as refusal:
        Record.from_json({**RECORD.as_json(), "schema": SCHEMA + 1})
    assert str(refusal.value) == (
        "The record has schema 2, this sameop reads up to 1: "
        "read it with the version that wrote it, or a newer one."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status": "fine"}, "'fine' is not a valid Status"),
        ({"readings": {"latency": {"unit": "furlongs"}}}, "'furlongs' is not a valid Unit"),
        ({"schema": "one"}, "'>' not supported between instances of 'str' and 'int'"),
    ],
)
def test_a_line_that_is_no_record_says_why(change: dict[str, Any], why: str) -> None:
    """What another tool wrote is told in one sentence."""
    with pytest.raises(SameopError) as refusal:
        Record.from_json({**RECORD.as_json(), **change})
    assert str(refusal.value) == f"The line is no record of sameop ({why}): leave it out."


def test_a_line_that_lacks_its_case_says_so() -> None:
    """A missing key is named."""
    with pytest.raises(SameopError) as refusal:
        Record.from_json({"kind": "case", "schema": 1, "status": "measured"})
    assert str(refusal.value) == "The line is no record of sameop (it lacks 'case'): leave it out."


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reading_that_is_no_number_is_a_reason(value: float) -> None:
    """A meter that fails silently leaves a reason and no number."""
    reading = Reading(Unit.BYTES, value, low=1.0, high=2.0)
    assert (reading.value, reading.low, reading.high) == (None, None, None)
    assert str(reading) == f"none: the meter read {value}"


def test_a_reading_writes_itself() -> None:
    """A reading is told in its own unit, or by its reason."""
    assert str(RECORD.readings["latency"]) == "220 µs"
    assert str(RECORD.readings["energy"]) == "none: on the CPU energy is not read by this version"


def test_what_json_lacks_is_written_as_a_word() -> None:
    """An infinite error in the evidence costs no record."""
    agreement = Agreement(False, "L0", "it is NaN", {"checks": [{"largest_error": math.inf}, math.nan]})
    line = through_json(replace(RECORD, agreement=agreement).as_json())
    assert line["agreement"]["evidence"] == {"checks": [{"largest_error": "inf"}, "nan"]}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"verdict": "refuted"}, False),
        ({"verdict": "refuted", "expected": "refuted"}, True),
        ({"mutants": [{"name": "flipped-taps", "verdict": "holds", "expected": "refuted"}]}, False),
        ({"mutants": []}, True),
    ],
)
def test_a_claim_is_as_expected_with_all_its_mutants(change: dict[str, Any], expected: bool) -> None:
    """A mutant that was not judged as expected makes the whole claim a failure."""
    assert ClaimRecord("a-claim", {**CLAIM, **change}).as_expected is expected


def test_a_claim_is_read_back_as_it_was() -> None:
    """Nothing is lost between a claim's record and its line."""
    record = ClaimRecord("a-claim", CLAIM)
    assert ClaimRecord.from_json(through_json(record.as_json())) == record


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"name": "a-claim"}, "it lacks 'result'"),
        ({"name": "a-claim", "result": {"verdict": "holds"}}, "it lacks 'expected'"),
        ({"name": "a-claim", "result": 3}, "'int' object is not a mapping"),
    ],
)
def test_a_line_that_is_no_claim_says_why(line: dict[str, Any], why: str) -> None:
    """A claim's line is checked as a record's is."""
    with pytest.raises(SameopError) as refusal:
        ClaimRecord.from_json(line)
    assert str(refusal.value) == f"The line is no record of sameop ({why}): leave it out."
