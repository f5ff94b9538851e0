"""sameop's own side of the comparison: its sessions as they are, with the time of a turn."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.paper.record import CaseId, Record
from harness.validation.peers.peer import Estimate
from harness.validation.peers.turns import Outcome, Turn

if TYPE_CHECKING:
    from harness.bench.case import Case
    from harness.bench.catalog import Catalogue
    from harness.bench.measure.group import Answer, Lap, Member
    from harness.bench.measure.session import Session
    from harness.bench.measure.settings import Settings
    from harness.bench.measure.workers import Allocator

# Fewer processes have no interval; more than these would each have too short a share of the time.
_PROCESSES = (3, 12)
_ZYGOTES = 3
_ANSWER_SECONDS = 300.0


class Ours:
    """sameop as a tool. Every turn has interpreters of its own, as the turns of peers have.

    Only what the references compute is kept from turn to turn: it decides no time and takes minutes.
    shelf: the folder where it is kept.
    """

    def __init__(self, shelf: Path) -> None:
        self._shelf = shelf
        self._answers: dict[CaseId, Answer] = {}

    def take_turn(self, turn: Turn, folders: Sequence[Path]) -> Mapping[CaseId, Outcome]:
        """Measure the cases of a turn in a stretch, as a run does."""
        from harness.bench.catalog import load_catalogue
        from harness.bench.measure.pace import Pace
        from harness.bench.measure.workers import Workers

        catalogue = load_catalogue(folders)
        settings = settings_of(turn)
        with Workers(folders, 1, _ANSWER_SECONDS, settings.allocator, _ZYGOTES) as workers:
            workers.start()
            session = self._session()(workers, settings, Pace(None, turn.seconds, len(turn.cases)))
            kept = _Kept(session)
            # Where what the references computed takes much room, there are several stretches.
            while left := [case for case in turn.cases if case not in kept.outcomes]:
                session.measure([[_case(catalogue, case)] for case in left], kept)
        return kept.outcomes

    def _session(self) -> type[Session]:
        from harness.bench.measure.session import Session

        expect = self.expect

        class LatencyAlone(Session):
            """A session that judges and times, and reads nothing else of a call."""

            def _expect(self, case: Case, ahead: Sequence[Case] = ()) -> Answer:
                file = Path(self._job("expect", case).expected)
                return expect(case.id, file, lambda: super(LatencyAlone, self)._expect(case, ahead))

            def _lap(self, members: Sequence[Member], settings: Settings) -> Lap:
                return replace(super()._lap(members, settings), modes=("hot",), meters=False)

            def _look_closer(self, cases: Sequence[Case]) -> dict[str, dict[str, Answer]]:  # noqa: ARG002  # as it is called
                return {}

        return LatencyAlone

    def expect(self, case: CaseId, file: Path, evaluate: Callable[[], Answer]) -> Answer:
        """Return what evaluating a reference answered, with its file in place; evaluate it only once."""
        kept = self._shelf / str(case).replace("/", "+")
        if case in self._answers:
            shutil.copyfile(kept, file)
            return self._answers[case]
        answer = evaluate()
        if file.exists():
            shutil.copyfile(file, kept)
            self._answers[case] = answer
        return answer


def settings_of(turn: Turn) -> Settings:
    """Return settings that use the time of a turn for processes, however precise they are earlier."""
    from harness.bench.measure.settings import Settings

    share = turn.seconds / _PROCESSES[1]
    return replace(
        Settings.of("quick"),
        total_seconds=None,
        case_seconds=turn.seconds,
        processes=_PROCESSES,
        precision=0.0,
        stretch_seconds=math.inf,
        warm_up_seconds=share,
        sample_seconds=share,
        allocator=cast("Allocator", turn.allocator),
    )


def _case(catalogue: Catalogue, case: CaseId) -> Case:
    from harness.bench.case import Case

    scope = catalogue.operators[case.operator].scopes[case.scope]
    implementation = scope.implementations[case.implementation]
    workload = catalogue.workload(scope, case.workload)
    return Case(scope, implementation, workload, case.dtype, case.device, case.direction)


class _Kept:
    """Keeps the outcomes of a session, and what every case took."""

    def __init__(self, session: Session) -> None:
        self.outcomes: dict[CaseId, Outcome] = {}
        self._session = session
        self._spent: dict[CaseId, float] = {}
        self._charged = _spent(session)

    def advance(self, case: Case, replicates: int, seconds: float) -> None:  # noqa: ARG002  # as a session tells it
        """Charge what was spent since the last step to the case."""
        now = _spent(self._session)
        self._spent[case.id] = self._spent.get(case.id, 0.0) + now - self._charged
        self._charged = now

    def keep(self, records: Sequence[Record], seconds: float) -> None:  # noqa: ARG002  # with the reference's
        """Read the record of a case."""
        for record in records:
            self.outcomes[record.case] = outcome_of(record, self._spent[record.case])


def _spent(session: Session) -> float:
    """Return the seconds of starting processes, judging the call and timing it, without the reference's."""
    phases = session.account.so_far(0).phases
    return phases.get("agreeing", 0.0) + phases.get("measuring", 0.0)


def outcome_of(record: Record, spent: float) -> Outcome:
    """Read a record: its latency, with the wall time beside it, or why there is none."""
    reading = record.readings.get("latency")
    if reading is None or reading.value is None:
        return Outcome(None, spent, record.reason or (reading and reading.reason) or "it has no latency")
    wall = reading.facts.get("wall_seconds_per_call")
    also = {} if wall is None else {"wall": float(wall)}
    return Outcome(Estimate(reading.value, reading.low, reading.high, also), spent)
