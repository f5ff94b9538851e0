"""A measuring run from the first case to the page."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.bench.case import Case, Plan, Selection
from harness.bench.catalog import Catalogue, describe
from harness.bench.claims import Claim
from harness.bench.machine import commit_facts, machine_facts
from harness.bench.measure.session import Session
from harness.bench.measure.workers import Workers
from harness.bench.proof.prover import prove
from harness.doors.project import Project, load_renderer
from harness.paper.errors import SameopError
from harness.paper.record import ClaimRecord, Record
from harness.paper.store import Header, RunWriter, open_run

PAGE_NAME = "index.html"
BENCHMARK_NAME = "benchmark.json"
# A case that takes longer than this in one worker is stopped and recorded as timed out.
TIMEOUT_SECONDS = 300.0


@dataclass
class MeasuringRun:
    """An open run folder with the processes that measure; finished cases are never measured again.

    cases: what it set out to measure, by id. known: the cases and claims that earlier sessions finished.
    """

    writer: RunWriter
    session: Session
    cases: Mapping[str, Case]
    known: frozenset[str]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.writer.folder

    def measure(self, name: str) -> Record:
        """Return the record of a case, measuring it unless the run already holds it."""
        known = self.writer.finished.get(name)
        if known is not None:
            return known
        record = self.session.measure(self.cases[name])
        self.writer.append(record)
        return record

    def prove(self, claim: Claim) -> ClaimRecord:
        """Return the record of a claim, proving it unless the run already holds it; briefly if in haste."""
        for known in self.writer.run.claims:
            if known.name == claim.name:
                return known
        record = ClaimRecord(claim.name, prove(claim, brief=self.session.preset == "quick"))
        self.writer.append(record)
        return record

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
            return f"none. {path} cannot be written ({error.strerror})."
        return str(path)


@contextlib.contextmanager
def open_measuring_run(
    project: Project,
    catalogue: Catalogue,
    plan: Plan,
    selection: Selection,
    folder: Path | None,
    threads: int,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Iterator[MeasuringRun]:
    """Open or resume a run folder and its workers.

    Raises :class:`SameopError` where the folder is refused, or cannot be made.
    """
    header = _header(project, catalogue, plan, selection, threads)
    with (
        open_run(folder or _new_folder(project, header), header) as writer,
        Workers(project.folders, threads, timeout_seconds) as workers,
    ):
        known = frozenset([*writer.finished, *(claim.name for claim in writer.run.claims)])
        cases = {str(case.id): case for case in plan.cases}
        yield MeasuringRun(writer, Session(workers, selection.preset, threads), cases, known)


def _header(project: Project, catalogue: Catalogue, plan: Plan, selection: Selection, threads: int) -> Header:
    facts = machine_facts()
    return Header(
        identity={
            "machine": facts["identity"],
            "commit": commit_facts(project.root, catalogue.sources),
            "options": {**asdict(selection), "threads": threads},
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
    path.write_text(json.dumps(content, indent=1, default=str), encoding="utf-8")
