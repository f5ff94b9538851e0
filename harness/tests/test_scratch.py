"""Scratch folders: removed at the end, and after kill -9 by the next process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from harness.bench.measure.scratch import Scratch
from harness.tests.projects import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the platform has no advisory locks")


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_folder_is_removed_at_the_end(tmp_path: Path) -> None:
    """A process that ends in order leaves nothing."""
    scratch = Scratch()
    (scratch.path / "a.expected").write_bytes(b"numbers")
    assert scratch.path.parent == tmp_path
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_folder_in_use_is_left_alone() -> None:
    """Two processes at once keep their folders."""
    first, second = Scratch(), Scratch()
    assert first.path.is_dir()
    first.close()
    second.close()


def test_folder_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    """What kill -9 left is found by its lock, which the kernel has given up."""
    program = (
        "from harness.bench.measure.scratch import Scratch\n"
        "scratch = Scratch()\nprint(scratch.path, flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        Scratch().close()
        assert left.is_dir(), "its process still runs"
        process.kill()
        process.wait()
    assert left.is_dir()
    Scratch().close()
    assert not left.exists()


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    """A folder that only looks like ours, or is a link, is not touched."""
    (tmp_path / "sameop-notes").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "lock").touch()
    (tmp_path / "sameop-link").symlink_to(tmp_path / "target")
    Scratch().close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sameop-link", "sameop-notes", "target"]
