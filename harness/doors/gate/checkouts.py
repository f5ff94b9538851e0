"""The two sides of a gate as folders: copies of a commit, or of the worktree as it stands."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.bench.measure.scratch import Scratch
from harness.doors.gate.copying import overlay, refuse_links_back, some, without_environments, write_commit
from harness.doors.gate.repository import Repository, find_repository
from harness.paper.errors import Exit, SameopError

BASE, HEAD = "base", "head"
# One length for all, since a program may take longer to find its files below a longer name.
_FOLDERS = {BASE: "base", HEAD: "head", "plant": "plnt"}


class NoBaseError(SameopError):
    """A base that has nothing to compare with."""

    exit = Exit.BASELINE


@dataclass(frozen=True)
class Checkout:
    """One side on disk.

    name: "base" or "head". ref: as it was asked for. commit: in full. copy: the folder that corresponds to
    the repository's; project: to the project's. caches: an empty folder for what compilers keep. differs: the
    files in which it differs from its commit. notes: sentences worth knowing.
    """

    name: str
    ref: str
    commit: str
    copy: Path
    project: Path
    caches: Path
    differs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return what an outcome says of a side."""
        return {
            "ref": self.ref,
            "commit": self.commit,
            "dirty": bool(self.differs),
            "differs": list(self.differs),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Checkouts:
    """Both sides. repository: the folder of the user's own, which neither may run anything of."""

    base: Checkout
    head: Checkout
    repository: Path
    scratch: Path

    def copy(self, side: Checkout, name: str = "plant") -> Checkout:
        """Copy a side as it is now, what was built included, for something to be planted into."""
        target = self.scratch / _FOLDERS[name]
        shutil.copytree(side.copy, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        inside = side.project.relative_to(side.copy)
        caches = _caches(self.scratch, name)
        return replace(side, name=name, copy=target, project=target / inside, caches=caches)


@contextlib.contextmanager
def check_out(project: Path, base: str, head: str | None = None) -> Iterator[Checkouts]:
    """Write both sides of the project in a folder into a scratch folder, which is removed with the context.

    base and head: names of commits; without ``head``, and where it names the commit that is checked out, the
    worktree is taken as it stands. Raises :class:`SameopError`.
    """
    repository = find_repository(project)
    inside = project.resolve().relative_to(repository.root.resolve())
    base_commit = repository.commit(base)
    head_commit = repository.commit(head or "HEAD")
    changes = without_environments(repository.differing())
    if changes and head_commit != repository.head:
        raise SameopError(
            f"--head {head} is another commit than the one checked out, from which the worktree differs in "
            f"{some(list(changes))}: commit or remove that, or leave --head out to measure it as it stands."
        )
    scratch = Scratch()
    try:
        # Where modules lie is told without links, such as a temporary folder may be behind.
        folder = scratch.path.resolve()
        writer = _Writer(repository, folder, inside)
        yield Checkouts(
            writer.write(BASE, base, base_commit, {}),
            writer.write(HEAD, head or "HEAD", head_commit, changes),
            repository.root,
            folder,
        )
    finally:
        scratch.close()


@dataclass(frozen=True)
class _Writer:
    repository: Repository
    scratch: Path
    inside: Path

    def write(self, name: str, ref: str, commit: str, changes: Mapping[str, str]) -> Checkout:
        """Write one side."""
        copy = self.scratch / _FOLDERS[name]
        try:
            notes = write_commit(self.repository, commit, copy, ref)
            notes += overlay(self.repository, changes, copy)
        except OSError as error:
            raise SameopError(
                f"{ref} cannot be copied to {copy} ({error}): make room, or let TMPDIR name another folder."
            ) from None
        refuse_links_back(copy, self.repository.root, ref)
        self._check(copy, ref, name)
        caches = _caches(self.scratch, name)
        return Checkout(name, ref, commit, copy, copy / self.inside, caches, tuple(changes), tuple(notes))

    def _check(self, copy: Path, ref: str, name: str) -> None:
        """Raise :class:`SameopError` where a side has no such project."""
        if (copy / self.inside).is_dir():
            return
        if name == BASE:
            raise NoBaseError(
                f"The base {ref} has no folder {self.inside}, so there is nothing to compare with: choose a "
                "base that has the project."
            )
        raise SameopError(
            f"{ref} has no folder {self.inside}: git ignores it; add the project to the repository."
        )


def _caches(scratch: Path, name: str) -> Path:
    folder = scratch / "caches" / _FOLDERS[name]
    folder.mkdir(parents=True)
    return folder
