"""The forms of one operator on one input: reference, authors' way and best; and what may be ranked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.paper.compare import PROCESS_SPREAD
from harness.paper.record import CaseId, Reading, Record
from harness.paper.store import Run
from harness.paper.units import three_digits

from .plots import Item
from .trust import reading_of

ROLES = ("reference", "authors", "best")
ROLE_WORDS = {"reference": "reference", "authors": "authors’ way", "best": "best measured"}


@dataclass
class Forms:
    """The cases of a run that compute the same thing, by implementation."""

    group: CaseId
    records: dict[str, Record] = field(default_factory=dict)

    def latency(self, implementation: str) -> Reading:
        """Return the latency of an implementation as far as it may be shown."""
        return reading_of(self.records[implementation], "latency")

    @property
    def best(self) -> str | None:
        """The implementation with the lowest measured median."""
        times = {name: self.latency(name).value for name in self.records}
        measured = {name: value for name, value in times.items() if value is not None}
        return min(measured, key=lambda name: measured[name]) if measured else None

    def named(self, role: str) -> str | None:
        """Return the implementation that plays a role, or None."""
        if role == "best":
            return self.best
        return role if role in self.records else None


def group_forms(run: Run) -> dict[CaseId, Forms]:
    """Group the latest records of a run by what they compute."""
    groups: dict[CaseId, Forms] = {}
    for record in run.latest.values():
        group = record.case.group
        groups.setdefault(group, Forms(group)).records[record.case.implementation] = record
    return groups


def is_faster(first: Reading, second: Reading) -> bool:
    """Whether the whole interval of the ratio lies below one, the spread between processes included."""
    if first.value is None or second.value is None:
        return False
    high, low = first.high or first.value, second.low or second.value
    return high * (1 + PROCESS_SPREAD) < low


def rank(readings: Sequence[Reading]) -> list[int | None]:
    """Rank latencies from 1: one more than the number that is faster beyond doubt, so ties share a rank."""
    return [
        None if reading.value is None else 1 + sum(is_faster(other, reading) for other in readings)
        for reading in readings
    ]


def list_items(forms: Forms, anchors: Mapping[str, str], heading: str = "") -> Iterator[Item]:
    """List reference, authors' way and best of a group for a chart, each implementation once.

    anchors: from the id of a case to the link to its row.
    """
    playing: dict[str, list[str]] = {}
    for role in ROLES:
        name = forms.named(role)
        if name is not None:
            playing.setdefault(name, []).append(role)
    reference = forms.latency("reference").value if "reference" in forms.records else None
    for name, roles in playing.items():
        reading = forms.latency(name)
        notes = [] if name in ROLES else [name]
        if reading.value and reference and name != "reference":
            notes.append(f"{three_digits(reference / reading.value)}× as fast")
        yield Item(
            label=" and ".join(ROLE_WORDS[role] for role in roles),
            role=roles[-1],
            reading=reading,
            heading=heading,
            note=", ".join(notes) if reading.value is not None else f"no number: {reading.reason}",
            href=anchors.get(str(forms.records[name].case), ""),
        )
        heading = ""
