"""The clone: a temporary repository in which heads are made, so that nobody's worktree is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.doors.gate.copying import write_commit
from harness.doors.gate.repository import Repository, find_repository, run_git
from harness.paper.errors import SameopError
from harness.validation.gate.suite import files

KEPT = "cases"
# Nobody to ask for a name or a signature; nothing of the user's own settings decides what is written.
_AUTHOR = ("user.name=gate-validation", "user.email=gate-validation@localhost", "commit.gpgsign=false")


def find_source() -> Path:
    """Return the repository that this harness lies in, or raise :class:`SameopError`."""
    root = Path(__file__).resolve().parents[3]
    if not (root / KEPT).is_dir():
        raise SameopError(
            f"The validation of the gate runs sameop's own cases, and {root} holds none: run it from a "
            "clone of sameop's repository."
        )
    return find_repository(root).root


def commit_of_cases(source: Path) -> str:
    """Return git's name for the committed content of the cases, whatever else was committed since."""
    return find_repository(source).ask("rev-parse", f"HEAD:{KEPT}").strip()


@dataclass(frozen=True)
class Clone:
    """A clone whose first commit of its own is the base of every trial. base: that commit."""

    root: Path
    base: str

    def commit(self, changes: Mapping[str, str]) -> str:
        """Commit files by their paths on top of the base, and return the commit; the base without any."""
        if not changes:
            return self.base
        _write(self.root, changes)
        try:
            return _commit(self.root)
        finally:
            _git(self.root, "checkout", "--quiet", "--force", "--detach", self.base)

    def pages(self) -> dict[str, str]:
        """Return the text of every page of the cases, by path."""
        return {
            path.relative_to(self.root).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted((self.root / KEPT).rglob("*.py"))
            if not path.name.startswith("test_") and path.name != "conftest.py"
        }

    @contextlib.contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """Write a commit into a folder beside the clone, for as long as the context lasts."""
        folder = Path(tempfile.mkdtemp(dir=self.root.parent))
        try:
            write_commit(Repository(self.root, self.root / ".git"), commit, folder / "side", commit)
            yield folder / "side"
        finally:
            shutil.rmtree(folder)


@contextlib.contextmanager
def cloned(source: Path) -> Iterator[Clone]:
    """Clone a repository, and leave in it the committed cases and the suite alone."""
    with tempfile.TemporaryDirectory(prefix="sameop-gate-") as scratch:
        root = Path(scratch).resolve() / "clone"
        _git(Path(scratch), "clone", "--quiet", "--no-checkout", str(source), str(root))
        _git(root, "checkout", "--quiet", "HEAD", "--", KEPT)
        _write(root, files())
        # What was not checked out is taken as deleted: neither side holds a harness of its own.
        yield Clone(root, _commit(root))


def _write(root: Path, content: Mapping[str, str]) -> None:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _commit(root: Path) -> str:
    _git(root, "add", "--all")
    settings = [part for setting in _AUTHOR for part in ("-c", setting)]
    _git(root, *settings, "commit", "--quiet", "--allow-empty", "--message", "a version")
    return _git(root, "rev-parse", "HEAD")


def _git(folder: Path, *arguments: str) -> str:
    done: subprocess.CompletedProcess[bytes] = run_git(folder, list(arguments))
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        raise SameopError(f"`git {arguments[0]}` failed in {folder} ({said}): see what git says there.")
    return os.fsdecode(done.stdout).strip()
