"""A measuring run from the first case to the page."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import dropwhile
from pathlib import Path
from typing import Any, Protocol

from harness.bench.case import Case, Plan, Selection
from harness.bench.catalog import Catalogue, describe
from harness.bench.claims import Claim
from harness.bench.machine import commit_facts, machine_facts
from harness.bench.measure.pace import Pace
from harness.bench.measure.session import Session
from harness.bench.measure.settings import Settings
from harness.bench.measure.workers import Workers
from harness.bench.proof.prover import prove
from harness.doors.project import Project, load_renderer
from harness.doors.proving import Proofs
from harness.doors.startup import seconds_since_start
from harness.paper.account import Account, SessionAccount
from harness.paper.errors import RunRefusedError, SameopError
from harness.paper.record import ClaimRecord, Record
from harness.paper.store import Header, Line, RunWriter, open_run

PAGE_NAME = "index.html"
BENCHMARK_NAME = "benchmark.json"


class Watcher(Protocol):
    """Who shows what happens between two reports."""

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Hear that the group of a case has so many replicates, and the last step for it took so long."""

    def finish(self, cases: int, seconds: float) -> None:
        """Hear that so many cases are done, which took so long in all."""


@dataclass
class MeasuringRun:
    """An open run folder with the processes that measure; finished cases are never measured again.

    cases: what it set out to measure, by id. known: the cases and claims that earlier sessions finished.
    asked: the cases that this session shall measure. proofs: proves claims; closed before anything is timed.
    watcher: is told how cases get on before their own turn to be reported.
    """

    writer: RunWriter
    session: Session
    cases: Mapping[str, Case]
    known: frozenset[str]
    asked: Sequence[str] = ()
    proofs: Proofs | None = None
    watcher: Watcher | None = None
    is_full: bool = False
    _is_ready: bool = False

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.writer.folder

    @property
    def account(self) -> Account:
        """Where the time of this session went so far."""
        return self.session.account

    def measure(self, name: str) -> Record:
        """Return the record of a case; what the run does not hold yet is measured, a stretch at a time."""
        if name not in self.writer.finished:
            self._get_ready()
            self.session.measure(list(self._groups_from(name)), self)
        return self.writer.finished[name]

    def advance(self, case: Case, replicates: int, seconds: float) -> None:
        """Hear of every step of a stretch, and pass it on."""
        if self.watcher:
            self.watcher.advance(case, replicates, seconds)

    def keep(self, records: Sequence[Record], seconds: float) -> None:
        """Write the records of a group as soon as it is done."""
        with self.account.phase("writing"):
            for record in records:
                self._append(record)
        if self.watcher:
            self.watcher.finish(len(records), seconds)

    def _groups_from(self, name: str) -> Iterator[list[Case]]:
        """Give what is still to be measured in groups of equal workloads, from that of a case on."""
        following = list(dropwhile(lambda group: name not in group, self._groups))
        for group in following or [{name: self.cases[name]}]:
            if unfinished := [case for other, case in group.items() if other not in self.writer.finished]:
                yield unfinished

    @cached_property
    def _groups(self) -> list[dict[str, Case]]:
        """The cases that were asked for, by what they have in common, each by its name."""
        groups: dict[str, dict[str, Case]] = {}
        for name in self.asked or self.cases:
            case = self.cases[name]
            groups.setdefault(str(case.id.group), {})[name] = case
        return list(groups.values())

    def _get_ready(self) -> None:
        """Once: let nobody prove any more, wait for the zygotes, and measure the speed limit."""
        if self._is_ready:
            return
        self._is_ready = True
        if self.proofs is not None:
            self.proofs.close()
        with self.account.phase("start-up"):
            self.session.workers.start()
        with self.account.phase("speed limit"):
            for limit in self.session.find_limits(self.cases.values()):
                self._append(limit)

    def prove(self, claim: Claim) -> ClaimRecord:
        """Return the record of a claim, proving it unless the run already holds it; briefly if in haste."""
        for known in self.writer.run.claims:
            if known.name == claim.name:
                return known
        with self.account.phase("proving"):
            brief = self.session.settings.is_brief
            result = self.proofs.of(claim) if self.proofs else prove(claim, brief=brief)
        record = ClaimRecord(claim.name, result)
        with self.account.phase("writing"):
            self._append(record)
        return record

    def _append(self, line: Line) -> None:
        try:
            self.writer.append(line)
        except RunRefusedError:
            self.is_full = True
            raise

    def close_account(self) -> SessionAccount:
        """Write where the time of this session went, and return it."""
        account = self.account.so_far(len(set(self.writer.finished) - self.known))
        # The disk may be full; then the account is printed all the same.
        with contextlib.suppress(RunRefusedError):
            self.writer.append(account)
        return account

    def write_page(self) -> str:
        """Render the page and return one line that says where it is, or how to make it."""
        try:
            text = load_renderer("html")([self.writer.run])
        except SameopError as error:
            return f"none. {error} Then: sameop report {self.folder} --out {PAGE_NAME}"
        except Exception as error:  # a renderer may come from anywhere; the records outlive its mistakes
            return f"none. Its renderer raised {type(error).__name__}: {error}"
        path = self.folder / PAGE_NAME
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            self.is_full = True
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            return f"none. {path} cannot be written ({error.strerror})."
        return str(path)


@contextlib.contextmanager
def open_measuring_run(
    project: Project,
    catalogue: Catalogue,
    plan: Plan,
    selection: Selection,
    folder: Path | None,
    settings: Settings,
) -> Iterator[MeasuringRun]:
    """Open or resume a run folder and its workers.

    Raises :class:`SameopError` where the folder is refused, or cannot be made.
    """
    header = _header(project, catalogue, plan, selection, settings)
    zygotes, most = settings.processes[0], settings.threads
    with (
        open_run(folder or _new_folder(project, header), header) as writer,
        Workers(project.folders, most, settings.timeout_seconds, settings.allocator, zygotes) as workers,
    ):
        known = frozenset([*writer.finished, *(claim.name for claim in writer.run.claims)])
        cases = {str(case.id): case for case in plan.cases}
        account = Account(already=seconds_since_start())
        left, whole = len(set(cases) - known), settings.whole_case_seconds
        pace = Pace(settings.total_seconds, settings.case_seconds, left, whole=whole)
        yield MeasuringRun(writer, Session(workers, settings, pace, account), cases, known)


def _header(
    project: Project, catalogue: Catalogue, plan: Plan, selection: Selection, settings: Settings
) -> Header:
    facts = machine_facts()
    return Header(
        identity={
            "machine": facts["identity"],
            "commit": commit_facts(project.root, catalogue.sources),
            "options": {**asdict(selection), **settings.options()},
        },
        machine=facts,
        catalogue=describe(catalogue),
        plan=tuple(str(case.id) for case in plan.cases),
        left_out=tuple(plan.left_out),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _new_folder(project: Project, header: Header) -> Path:
    moment = header.started.replace(":", "").replace("-", "").partition("+")[0]
    commit = str(header.identity["commit"]["commit"]).partition(":")[0][:7]
    try:
        project.runs.mkdir(parents=True, exist_ok=True)
        ignored = project.runs / ".gitignore"
        if not ignored.exists():
            ignored.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise SameopError(
            f"The folder {project.runs} cannot be made ({error.strerror}): "
            "name a run folder with --bench-run."
        ) from None
    return project.runs / f"{moment}-{commit}-{os.getpid()}"


def write_benchmark_json(folder: Path, content: Mapping[str, Any]) -> None:
    """Write pytest-benchmark's JSON into the run folder."""
    path = folder / BENCHMARK_NAME
    # Where there is no room, the file that its user named is more than a copy.
    try:
        path.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
