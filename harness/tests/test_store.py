"""The run folder: what was appended is never lost, and what is foreign is never touched."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.paper.account import SessionAccount
from harness.paper.errors import RunRefusedError
from harness.paper.record import SCHEMA, CaseId, ClaimRecord, Record, Status
from harness.paper.roofline import CopyPoint, PeakPoint, ReadPoint, SpeedLimit, WritePoint
from harness.paper.store import HEADER_NAME, RECORDS_NAME, Header, RunWriter, open_run, read_run

RECORDED = Path(__file__).parent / "data" / f"run_schema_{SCHEMA}"
HEADER = Header(
    identity={
        "machine": {"cpu": "AMD EPYC", "gpus": [], "torch": "2.13.0+cpu"},
        "commit": {"commit": "012734e", "dirty": False},
        "options": {"preset": "quick", "threads": 1},
    },
    machine={"libraries": {"torch": "2.13.0+cpu"}},
    catalogue={"operators": []},
    plan=("a/core/reference/tiny-one/float32/cpu/forward",),
    left_out=({"what": "every case on cuda", "reason": "no CUDA device was found on this machine"},),
    started="2026-11-21T07:44:35+00:00",
)

_KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from harness.tests.test_store import HEADER, record
from harness.paper.store import open_run
with open_run(Path(sys.argv[1]), HEADER) as run:
    run.append(record("a"))
    run.append(record("b"))
    run._records.write(b'{"kind": "case", "sche')
    os.kill(os.getpid(), signal.SIGKILL)
"""

_FULL_DISK = """
import resource, sys
from pathlib import Path
from harness.paper.errors import RunRefusedError
from harness.paper.store import RECORDS_NAME, open_run
from harness.tests.test_store import HEADER, names, record
folder = Path(sys.argv[1])
with open_run(folder, HEADER) as run:
    run.append(record("a"))
    size = (folder / RECORDS_NAME).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
    try:
        run.append(record("b"))
    except RunRefusedError as refused:
        print(refused)
    assert (folder / RECORDS_NAME).stat().st_size == size
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run.append(record("c"))
"""


class FullDisk(io.FileIO):
    """A file on a disk that takes ``room`` more bytes, at most seven at a time, and then refuses."""

    def __init__(self, path: Path, room: int, refusal: int | None = errno.ENOSPC) -> None:
        super().__init__(path, "ab")
        self.room, self.refusal = room, refusal

    def write(self, content: Any) -> int:
        """Write what there is room for; without a refusal, say that it was nothing."""
        part = bytes(content)[: min(7, self.room)]
        if not part and self.refusal is not None:
            raise OSError(self.refusal, os.strerror(self.refusal))
        self.room -= len(part)
        return super().write(part) if part else 0


def record(implementation: str, **changes: Any) -> Record:
    """Make a record that differs from others by the name of its implementation."""
    case = CaseId("tiny", "core", implementation, "tiny/one", "float32", "cpu", "forward")
    return replace(Record(case, Status.MEASURED, started="now", seconds=0.5), **changes)


def names(folder: Path) -> list[str]:
    """Name the implementations that a run holds, in order."""
    return [found.case.implementation for found in read_run(folder).records]


def write(folder: Path, *implementations: str) -> None:
    """Add records to a run and close it."""
    with open_run(folder, HEADER) as run:
        for implementation in implementations:
            run.append(record(implementation))


def refusal(folder: Path, header: Header = HEADER) -> str:
    """Return why a run may not be added to."""
    with pytest.raises(RunRefusedError) as refused, open_run(folder, header):
        pass
    return str(refused.value)


def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    """Header, records and claims survive the folder."""
    claim = ClaimRecord(
        "a-claim",
        {"verdict": "holds", "expected": "holds", "level": "L1", "evidence": [], "mutants": []},
    )
    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a"))
        run.append(claim)
    found = read_run(tmp_path / "run")
    assert (found.header, found.records, found.claims, found.damage) == (HEADER, [record("a")], [claim], [])


def test_what_the_run_says_of_itself_is_read_back(tmp_path: Path) -> None:
    """The speed limits and the accounts of a run's sessions survive the folder, in order."""
    limit = SpeedLimit(
        device="cpu",
        copy=(CopyPoint(2**15, 1, 9.5e10),),
        read=(ReadPoint(2**15, 1, 1.5e11),),
        write=(WritePoint(2**15, 1, 1e11),),
        peak=(PeakPoint("float32", 1, 1e11),),
        reasons={"peak float16 1": "there is no matrix product"},
        started="now",
        seconds=1.5,
    )
    session = SessionAccount({"measuring": 2.0, "proving": 1.0}, 4.0, "now", "later", 3)
    for _ in range(2):
        with open_run(tmp_path / "run", HEADER) as run:
            for line in (limit, record("a"), session):
                run.append(line)
    found = read_run(tmp_path / "run")
    assert (found.limits, found.sessions, found.damage) == ([limit] * 2, [session] * 2, [])
    assert found.records == [record("a")] * 2
    assert run.run == found


def test_a_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    """Another process can read a record while the run is still open."""
    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a"))
        assert names(tmp_path / "run") == ["a"]
        run.append(record("b"))
        assert names(tmp_path / "run") == ["a", "b"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_in_mid_line_loses_only_that_line(tmp_path: Path) -> None:
    """A run killed while it writes keeps what was appended, and goes on where it ended."""
    command = [sys.executable, "-c", _KILLED_WRITER, str(tmp_path / "run")]
    killed = subprocess.run(command, check=False, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert names(tmp_path / "run") == ["a", "b"]
    assert read_run(tmp_path / "run").damage == [
        "records.jsonl line 3 is not a whole record and was left out."
    ]
    write(tmp_path / "run", "c")
    assert names(tmp_path / "run") == ["a", "b", "c"]
    assert read_run(tmp_path / "run").damage == []


def test_a_resumed_run_starts_on_a_line_of_its_own(tmp_path: Path) -> None:
    """What a kill left of a line is cut before the next record is written."""
    write(tmp_path / "run", "a")
    path = tmp_path / "run" / RECORDS_NAME
    path.write_bytes(path.read_bytes()[:-20])
    write(tmp_path / "run", "b")
    assert [json.loads(line)["id"].split("/")[2] for line in path.read_text().splitlines()] == ["b"]


def test_a_resumed_run_knows_what_is_finished(tmp_path: Path) -> None:
    """The writer of a resumed run offers the records that it holds, the last of each case."""
    write(tmp_path / "run", "a", "b")
    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a", seconds=9.0))
        assert [found.seconds for found in run.finished.values()] == [9.0, 0.5]


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("machine", {"cpu": "Xeon"}, "its machine differs (cpu was 'AMD EPYC' and is 'Xeon' now)"),
        ("machine", {"gpus": ["H200"]}, "its machine differs (gpus was [] and is ['H200'] now)"),
        ("commit", {"dirty": True}, "its commit differs (dirty was False and is True now)"),
        ("options", {"preset": "full"}, "its options differs (preset was 'quick' and is 'full' now)"),
        ("options", {"colour": "red"}, "its options differs (colour was None and is 'red' now)"),
    ],
)
def test_a_run_of_another_identity_is_not_resumed(
    tmp_path: Path, part: str, change: dict[str, Any], told: str
) -> None:
    """Another machine, commit or option set is refused, and the first difference is named."""
    write(tmp_path / "run", "a")
    other = replace(HEADER, identity={**HEADER.identity, part: {**HEADER.identity[part], **change}})
    assert refusal(tmp_path / "run", other) == (
        f"The run in {tmp_path / 'run'} cannot be resumed: {told}. Leave --bench-run out to start a new run."
    )
    assert names(tmp_path / "run") == ["a"]


def test_what_is_no_part_of_the_identity_may_differ(tmp_path: Path) -> None:
    """A run may be resumed later, under another load."""
    write(tmp_path / "run", "a")
    with open_run(tmp_path / "run", replace(HEADER, machine={"load": [3.0]}, started="later")) as run:
        assert run.run.header == HEADER


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """Two processes never write one run."""
    pytest.importorskip("fcntl", reason="this platform has no advisory locks")
    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a"))
        assert refusal(tmp_path / "run") == (
            f"Another process is writing the run in {tmp_path / 'run'}: wait for it, or start a new run."
        )
        run.append(record("b"))
    assert names(tmp_path / "run") == ["a", "b"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A run is never written beside somebody's files."""
    (tmp_path / "thesis.tex").write_text("mine")
    assert refusal(tmp_path) == (
        f"{tmp_path} is not empty and holds no run.json: name a new folder, or one that holds a run."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """The system's own reason is passed on."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "run"
    assert refusal(folder) == (
        f"The run folder {folder} cannot be written (Not a directory): name another one with --bench-run."
    )


def test_a_disk_that_fills_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that cannot be forced to disk ends the run in a sentence and keeps the others."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a"))
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunRefusedError) as refused:
            run.append(record("b"))
    assert str(refused.value) == (
        f"The run in {tmp_path / 'run'} can no longer be written (No space left on device): "
        "make room, then name it with --bench-run to go on."
    )
    assert list(run.finished) == ["tiny/core/a/tiny-one/float32/cpu/forward"]


def torn(folder: Path, room: int, **how: Any) -> str:
    """Let the disk fill up within the second record, and return what is told."""
    with FullDisk(folder / RECORDS_NAME, room, **how) as disk:
        run = RunWriter(folder, read_run(folder), disk)
        with pytest.raises(RunRefusedError) as refused:
            run.append(record("b"))
        assert names(folder) == ["a"]
        assert read_run(folder).damage == []
        disk.room = 2**20
        run.append(record("c"))
    return str(refused.value)


@pytest.mark.parametrize("room", [0, 1, 7, 100])
@pytest.mark.parametrize(("refusal", "told"), [(errno.EDQUOT, "exceeded"), (None, "No space left")])
def test_a_line_that_the_disk_takes_in_part_is_cut(
    tmp_path: Path, room: int, refusal: int | None, told: str
) -> None:
    """Nothing recorded is lost, nothing of the refused record is left, and the next is not glued to it."""
    write(tmp_path / "run", "a")
    assert told in torn(tmp_path / "run", room, refusal=refusal)
    assert names(tmp_path / "run") == ["a", "c"]
    assert read_run(tmp_path / "run").damage == []


def test_a_line_that_arrives_in_pieces_is_whole(tmp_path: Path) -> None:
    """A disk may take a record in as many pieces as it likes."""
    write(tmp_path / "run", "a")
    folder = tmp_path / "run"
    with FullDisk(folder / RECORDS_NAME, room=2**20) as disk:
        RunWriter(folder, read_run(folder), disk).append(record("b"))
    assert read_run(folder).records == [record("a"), record("b")]


def test_a_line_that_could_not_be_cut_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even the cut succeeds at first, the next record still starts on a line of its own."""
    write(tmp_path / "run", "a")
    folder = tmp_path / "run"

    def broken(*_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with FullDisk(folder / RECORDS_NAME, room=30) as disk:
        run = RunWriter(folder, read_run(folder), disk)
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", broken)
            with pytest.raises(RunRefusedError):
                run.append(record("b"))
        disk.room = 2**20
        assert len(read_run(folder).damage) == 1
        run.append(record("c"))
    assert names(folder) == ["a", "c"]
    assert read_run(folder).damage == []


def test_an_interruption_loses_no_whole_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C costs the line that is being written, and no line that is written."""

    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    with open_run(tmp_path / "run", HEADER) as run:
        run.append(record("a"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                run.append(record("b"))
        assert names(tmp_path / "run") == ["a", "b"]
    with FullDisk(tmp_path / "run" / RECORDS_NAME, room=20) as disk:
        run = RunWriter(tmp_path / "run", read_run(tmp_path / "run"), disk)
        monkeypatch.setattr(os, "strerror", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.append(record("c"))
    assert names(tmp_path / "run") == ["a", "b"]
    assert read_run(tmp_path / "run").damage == []


def test_a_real_file_limit_costs_only_the_line_that_meets_it(tmp_path: Path) -> None:
    """The system takes a part of a line and refuses the rest; with room again, the same writer goes on."""
    pytest.importorskip("resource", reason="this platform has no limit on the size of files")
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == (
        f"The run in {tmp_path / 'run'} can no longer be written (File too large): "
        "make room, then name it with --bench-run to go on."
    )
    assert names(tmp_path / "run") == ["a", "c"]
    assert read_run(tmp_path / "run").damage == []


def test_a_run_that_did_not_get_as_far_as_its_header_can_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full at the start leaves nothing that refuses the same folder later."""

    def full(path: Path, *_: Any, **__: Any) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert refusal(tmp_path / "run") == (
            f"The run folder {tmp_path / 'run'} cannot be written (No space left on device): "
            "name another one with --bench-run."
        )
    write(tmp_path / "run", "a")
    assert names(tmp_path / "run") == ["a"]


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """Reading what is no run tells how to make one."""
    with pytest.raises(RunRefusedError) as refused:
        read_run(tmp_path)
    assert str(refused.value) == (
        f"No run was found in {tmp_path} (it holds no run.json): "
        "name a folder that `pytest --benchmark` wrote."
    )


@pytest.mark.parametrize(
    "content",
    ["not JSON", "[]", "{}", '{"schema": "one"}', '{"schema": 1, "identity": []}', '{"name": "left-pad"}'],
)
def test_a_run_json_of_another_tool_is_refused(tmp_path: Path, content: str) -> None:
    """Whatever run.json holds, the answer is one sentence."""
    (tmp_path / HEADER_NAME).write_text(content)
    with pytest.raises(RunRefusedError) as refused:
        read_run(tmp_path)
    told = (
        f"{tmp_path / 'run.json'} is not the run.json of a sameop run: "
        "name a folder that `pytest --benchmark` wrote."
    )
    assert str(refused.value) == told
    assert refusal(tmp_path) == told


def test_a_run_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A run that this version could misread is not read."""
    (tmp_path / HEADER_NAME).write_text(json.dumps({**HEADER.as_json(), "schema": SCHEMA + 1}))
    with pytest.raises(RunRefusedError) as refused:
        read_run(tmp_path)
    assert str(refused.value) == (
        f"The run in {tmp_path} has schema 2, this sameop reads up to 1: "
        "read it with the version that wrote it, or a newer one."
    )


def test_records_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """A records file that the system does not give is a sentence, not a traceback."""
    write(tmp_path / "run")
    path = tmp_path / "run" / RECORDS_NAME
    path.unlink()
    path.mkdir()
    with pytest.raises(RunRefusedError) as refused:
        read_run(tmp_path / "run")
    assert str(refused.value) == (
        f"{path} cannot be read (Is a directory): correct that, or name another run."
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("half a li", "records.jsonl line 2 is not a whole record and was left out."),
        ("[1, 2]", "records.jsonl line 2 is not a whole record and was left out."),
        (
            '{"event": "start", "tool": "another"}',
            "records.jsonl line 2 was left out. "
            "The line is no record of sameop (it lacks 'case'): leave it out.",
        ),
        (
            '{"kind": "claim", "name": "a-claim"}',
            "records.jsonl line 2 was left out. "
            "The line is no record of sameop (it lacks 'result'): leave it out.",
        ),
        (
            '{"kind": "limits", "schema": 1, "device": "cpu", "copy": [{"threads": 1}], "peak": []}',
            "records.jsonl line 2 was left out. "
            "The line is no record of sameop (it lacks 'working_set_bytes'): leave it out.",
        ),
        (
            '{"kind": "session", "schema": 1, "phases": [], "seconds": 1}',
            "records.jsonl line 2 was left out. The line is no record of sameop "
            "('list' object has no attribute 'items'): leave it out.",
        ),
        (
            '{"kind": "weather", "schema": 2}',
            "records.jsonl line 2 was left out, because this sameop knows nothing of the kind 'weather': "
            "read it with the version that wrote it, or a newer one.",
        ),
        (
            '{"kind": ["case"]}',
            "records.jsonl line 2 was left out, because this sameop knows nothing of the kind "
            "\"['case']\": read it with the version that wrote it, or a newer one.",
        ),
        (
            '{"kind": "case", "schema": 2}',
            "records.jsonl line 2 was left out. The record has schema 2, this sameop reads up to 1: "
            "read it with the version that wrote it, or a newer one.",
        ),
    ],
)
def test_a_line_that_is_no_record_costs_only_itself(tmp_path: Path, line: str, told: str) -> None:
    """The other records are kept, and what was left out is named."""
    write(tmp_path / "run", "a")
    with (tmp_path / "run" / RECORDS_NAME).open("a") as records:
        records.write(line + "\n")
    write(tmp_path / "run", "b")
    assert names(tmp_path / "run") == ["a", "b"]
    assert read_run(tmp_path / "run").damage == [told]


def test_a_run_without_records_is_a_run(tmp_path: Path) -> None:
    """A run that was ended before its first case can be read and resumed."""
    write(tmp_path / "run")
    (tmp_path / "run" / RECORDS_NAME).unlink()
    assert names(tmp_path / "run") == []
    write(tmp_path / "run", "a")
    assert names(tmp_path / "run") == ["a"]


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_a_run_of_every_schema_stays_readable(schema: int) -> None:
    """A run recorded by the first version that wrote a schema is read without damage."""
    run = read_run(RECORDED.with_name(f"run_schema_{schema}"))
    assert run.damage == []
    assert [str(found.status) for found in run.records] == [
        "measured",
        "measured",
        "measured",
        "disagreed",
        "crashed",
    ]
    assert list(run.latest) == list(run.header.plan)
    assert run.records[0].readings["latency"].value == pytest.approx(2.25e-4, rel=0.05)
    assert run.records[3].readings["latency"].value is None
    assert [claim.as_expected for claim in run.claims] == [True]


def test_a_recorded_run_can_be_resumed_by_its_own_header(tmp_path: Path) -> None:
    """Identity survives the journey through run.json."""
    shutil.copytree(RECORDED, tmp_path / "run")
    with open_run(tmp_path / "run", read_run(RECORDED).header) as run:
        assert len(run.finished) == 5
