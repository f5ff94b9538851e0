"""The run folder: append-only records of one machine, one commit and one option set."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harness.paper.account import SessionAccount
from harness.paper.errors import RunRefusedError, SameopError
from harness.paper.record import SCHEMA, ClaimRecord, Facts, Record
from harness.paper.roofline import SpeedLimit

HEADER_NAME = "run.json"
RECORDS_NAME = "records.jsonl"
_PARTIAL_NAME = HEADER_NAME + ".partial"

Line = Record | ClaimRecord | SpeedLimit | SessionAccount
# What a line of each kind is read as; a line without a kind is a case.
_KINDS: Mapping[str, type[Line]] = {
    "case": Record,
    "claim": ClaimRecord,
    "limits": SpeedLimit,
    "session": SessionAccount,
}


@dataclass(frozen=True)
class Header:
    """What a run is a run of. ``identity`` decides whether a later session may add to it.

    ``identity`` holds the three parts ``machine``, ``commit`` and ``options``; ``machine`` holds
    every fact about the machine, ``catalogue`` what a reader needs to know of the operators,
    ``plan`` the ids of the cases that the run set out to measure, and ``left_out`` what it did
    not set out to measure, with a reason each.
    """

    identity: Mapping[str, Facts]
    machine: Facts
    catalogue: Facts
    plan: tuple[str, ...]
    left_out: tuple[Facts, ...]
    started: str

    def as_json(self) -> dict[str, Any]:
        """Return the content of ``run.json``."""
        return {
            "schema": SCHEMA,
            "identity": {part: dict(facts) for part, facts in self.identity.items()},
            "machine": dict(self.machine),
            "catalogue": dict(self.catalogue),
            "plan": list(self.plan),
            "left_out": [dict(entry) for entry in self.left_out],
            "started": self.started,
        }


@dataclass
class Run:
    """A run as read from its folder; ``damage`` lists what could not be read, a sentence each."""

    folder: Path
    header: Header
    records: list[Record] = field(default_factory=list)
    claims: list[ClaimRecord] = field(default_factory=list)
    limits: list[SpeedLimit] = field(default_factory=list)
    sessions: list[SessionAccount] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    @property
    def latest(self) -> dict[str, Record]:
        """The last record of every case."""
        return {str(record.case): record for record in self.records}

    def add(self, line: Line) -> None:
        """Add what one line of the folder says."""
        match line:
            case Record():
                self.records.append(line)
            case ClaimRecord():
                self.claims.append(line)
            case SpeedLimit():
                self.limits.append(line)
            case SessionAccount():
                self.sessions.append(line)


def read_run(folder: Path) -> Run:
    """Read a run folder, or raise :class:`RunRefusedError` with one sentence.

    A line that cannot be read is left out and named in ``damage``; the others are kept.
    """
    run = Run(folder=folder, header=_read_header(folder))
    path = folder / RECORDS_NAME
    if not path.exists():
        return run
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                _read_line(run, number, line)
    except OSError as error:
        raise RunRefusedError(
            f"{path} cannot be read ({error.strerror}): correct that, or name another run."
        ) from None
    return run


def _read_line(run: Run, number: int, line: str) -> None:
    try:
        content = json.loads(line)
        kind = str(content.get("kind", "case"))
        if kind in _KINDS:
            run.add(_KINDS[kind].from_json(content))
        else:
            run.damage.append(
                f"{RECORDS_NAME} line {number} was left out, because this sameop knows nothing of the kind "
                f"{kind[:40]!r}: read it with the version that wrote it, or a newer one."
            )
    except (ValueError, AttributeError):
        run.damage.append(f"{RECORDS_NAME} line {number} is not a whole record and was left out.")
    except SameopError as error:
        run.damage.append(f"{RECORDS_NAME} line {number} was left out. {error}")


def _read_header(folder: Path) -> Header:
    path = folder / HEADER_NAME
    if not path.is_file():
        raise RunRefusedError(
            f"No run was found in {folder} (it holds no {HEADER_NAME}): "
            "name a folder that `pytest --benchmark` wrote."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content["schema"]
        if schema > SCHEMA:
            raise RunRefusedError(
                f"The run in {folder} has schema {schema}, this sameop reads up to {SCHEMA}: "
                "read it with the version that wrote it, or a newer one."
            )
        return Header(
            identity={part: {**facts} for part, facts in content["identity"].items()},
            machine={**content["machine"]},
            catalogue={**content["catalogue"]},
            plan=tuple(content["plan"]),
            left_out=tuple({**entry} for entry in content["left_out"]),
            started=content["started"],
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise RunRefusedError(
            f"{path} is not the {HEADER_NAME} of a sameop run: name a folder that `pytest --benchmark` wrote."
        ) from None


class RunWriter:
    """Adds records to a run folder; each is on disk before :meth:`append` returns."""

    def __init__(self, folder: Path, run: Run, records: BinaryIO) -> None:
        """Write to ``records``, which is unbuffered and open for appending."""
        self.folder = folder
        self.run = run
        self._records = records
        self._torn_at: int | None = None
        self._finished = run.latest

    @property
    def finished(self) -> Mapping[str, Record]:
        """The records that the folder already holds, by case id; it is asked for with every case."""
        return self._finished

    def append(self, line: Line) -> None:
        """Write one line and force it to disk, or raise :class:`RunRefusedError` and leave the file whole."""
        content = json.dumps(line.as_json(), allow_nan=False, default=str).encode() + b"\n"
        end = self._torn_at
        try:
            self._cut()
            self._torn_at = end = os.fstat(self._records.fileno()).st_size
            _write(self._records, content)
            self._torn_at = None  # it is whole: whatever interrupts from here on need not cost it
            os.fsync(self._records.fileno())
        except OSError as error:
            self._torn_at = end
            raise RunRefusedError(
                f"The run in {self.folder} can no longer be written ({error.strerror}): make room, then name "
                "it with --bench-run to go on."
            ) from None
        finally:
            # At once, since nobody knows what is still to come; where even that fails, before the next line.
            with contextlib.suppress(OSError):
                self._cut()
        self.run.add(line)
        if isinstance(line, Record):
            self._finished[str(line.case)] = line

    def _cut(self) -> None:
        """Cut what is left of a line that did not reach the disk whole."""
        if self._torn_at is not None:
            os.ftruncate(self._records.fileno(), self._torn_at)
            self._torn_at = None


def _write(file: BinaryIO, content: bytes) -> None:
    """Write all of it: a disk that is nearly full takes a part, and refuses the rest."""
    while content:
        written = file.write(content)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        content = content[written:]


@contextlib.contextmanager
def open_run(folder: Path, header: Header) -> Iterator[RunWriter]:
    """Create ``folder`` for a new run, or open an existing run of the same identity for adding.

    Raises :class:`RunRefusedError` where the folder holds a run of another machine, commit or option
    set, holds something else, is being written by another process, or cannot be written.
    """
    try:
        _create_unless_there(folder, header)
        # Unbuffered: what a full disk refused must not be written again by a later flush.
        records = (folder / RECORDS_NAME).open("ab", buffering=0)
    except OSError as error:
        raise RunRefusedError(
            f"The run folder {folder} cannot be written ({error.strerror}): "
            "name another one with --bench-run."
        ) from None
    with records:
        _lock(records, folder)
        _drop_partial_line(folder / RECORDS_NAME)
        yield RunWriter(folder, read_run(folder), records)


def _create_unless_there(folder: Path, header: Header) -> None:
    if (folder / HEADER_NAME).exists():
        _require_same_identity(folder, _read_header(folder), header)
        return
    if folder.exists() and any(path.name != _PARTIAL_NAME for path in folder.iterdir()):
        raise RunRefusedError(
            f"{folder} is not empty and holds no {HEADER_NAME}: name a new folder, or one that holds a run."
        )
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / _PARTIAL_NAME
    partial.write_text(json.dumps(header.as_json(), indent=1, default=str), encoding="utf-8")
    partial.replace(folder / HEADER_NAME)


def _require_same_identity(folder: Path, found: Header, asked: Header) -> None:
    for part, wanted in json.loads(json.dumps(asked.identity, default=str)).items():
        held = found.identity.get(part, {})
        # In their order: a preset decides many of the options that follow it.
        differing = [key for key in {**wanted, **held} if wanted.get(key) != held.get(key)]
        if differing:
            key = differing[0]
            raise RunRefusedError(
                f"The run in {folder} cannot be resumed: its {part} differs "
                f"({key} was {held.get(key)!r} and is {wanted.get(key)!r} now). "
                "Leave --bench-run out to start a new run."
            )


def _lock(records: BinaryIO, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no advisory locks on this platform: two writers are the user's to avoid
        return
    try:
        fcntl.flock(records, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunRefusedError(
            f"Another process is writing the run in {folder}: wait for it, or start a new run."
        ) from None


def _drop_partial_line(path: Path) -> None:
    """Cut a line that a kill left unfinished, so that the next record starts on a line of its own."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
