"""Writing a commit, or the worktree as it stands, into a folder without touching the repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.doors.gate.repository import Repository, find_repository
from harness.paper.errors import SameopError

_SUBMODULE = "160000"  # the mode of an entry that is a commit of another repository
_POINTER = b"version https://git-lfs.github.com/spec/"
_SHOWN = 3


def write_commit(repository: Repository, commit: str, target: Path, ref: str) -> list[str]:
    """Write a commit with its submodules into a folder through an index of its own; return notes."""
    target.mkdir(parents=True, exist_ok=True)
    index = {"GIT_INDEX_FILE": str(target.parent / f"{target.name}.index")}
    # Attributes, such as the ends of lines, are those of the commit and not of the user's worktree.
    copy = Repository(target, repository.store)
    copy.ask("read-tree", commit, variables=index)
    copy.ask("checkout-index", "--all", "--quiet", "--force", variables=index)
    entries = copy.ask("ls-files", "--stage", "-z", variables=index)
    filtered = copy.ask("ls-files", "-z", "--", ":(attr:filter=lfs)", variables=index)
    Path(index["GIT_INDEX_FILE"]).unlink()
    notes = _note_pointers(target, filtered.split("\0"), ref)
    for entry in entries.split("\0"):
        about, _, path = entry.partition("\t")
        if about.startswith(_SUBMODULE):
            notes += _write_submodule(repository, path, about.split()[1], target, ref)
    return notes


def _write_submodule(repository: Repository, path: str, commit: str, target: Path, ref: str) -> list[str]:
    inner = _submodule(repository, path)
    if inner is None or inner.find(commit) is None:
        return [
            f"The submodule {path} is empty in the copy of {ref}, since its commit {commit[:12]} is not "
            "here: `git submodule update --init` brings it where that commit is checked out."
        ]
    return write_commit(inner, commit, target / path, ref)


def _submodule(repository: Repository, path: str) -> Repository | None:
    """Return the repository of a submodule: where it is checked out, or what git kept of it."""
    folder = repository.root / path
    if (folder / ".git").exists():
        return find_repository(folder)
    kept = repository.store / "modules" / path
    return Repository(repository.root, kept) if kept.is_dir() else None


def _note_pointers(target: Path, filtered: list[str], ref: str) -> list[str]:
    """Say which files Git LFS would have to fetch."""
    pointers = [path for path in filter(None, filtered) if _is_pointer(target / path)]
    if not pointers:
        return []
    return [
        f"Git LFS has not fetched {some(pointers)} of {ref}, so the copy holds pointers in their place: "
        f"`git lfs fetch origin {ref}` brings them."
    ]


def _is_pointer(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def overlay(repository: Repository, changes: Mapping[str, str], target: Path) -> list[str]:
    """Let a copy of HEAD differ from it as the worktree does; return notes."""
    # First all of the deletions: a folder may have become a file, or the other way round.
    for path in changes:
        _remove(target, path)
    notes = []
    for path, letters in changes.items():
        if letters == "D " or not _is_there(repository.root, path):
            continue
        source = repository.root / path
        if source.is_symlink() or not source.is_dir():
            _copy(source, target / path)
        elif (source / ".git").exists():
            notes += _overlay_submodule(source, path, target)
    return notes


def _overlay_submodule(source: Path, path: str, target: Path) -> list[str]:
    """Take a submodule, or a repository that lies in another one, as it stands."""
    inner = find_repository(source)
    if inner.find("HEAD") is None:
        return [f"The repository {path} inside of this one is left out: it has no commit yet."]
    notes = write_commit(inner, inner.head, target / path, "HEAD")
    return notes + overlay(inner, inner.differing(), target / path)


def _remove(target: Path, path: str) -> None:
    """Remove a file or a submodule, and the folders that this leaves empty."""
    place = target / path
    if not _is_there(target, path):
        return
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()
    for folder in place.parents:
        if folder == target or any(folder.iterdir()):
            return
        folder.rmdir()


def _is_there(root: Path, path: str) -> bool:
    """Whether a path exists below a root by itself, and not through a link on the way."""
    place = root / path
    above = [folder for folder in place.parents if folder.is_relative_to(root) and folder != root]
    return not any(folder.is_symlink() for folder in above) and (place.is_symlink() or place.exists())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def without_environments(changes: Mapping[str, str]) -> dict[str, str]:
    """Leave out virtual environments, which hold gigabytes and are no part of a project."""
    untracked = [Path(path) for path, letters in changes.items() if letters == "??"]
    environments = [path.parent for path in untracked if path.name == "pyvenv.cfg"]
    return {
        path: letters
        for path, letters in changes.items()
        if not any(Path(path).is_relative_to(folder) for folder in environments)
    }


def refuse_links_back(copy: Path, repository: Path, ref: str) -> None:
    """Raise :class:`SameopError` where a link leads to the worktree: both sides would run what is there."""
    for folder, folders, files in os.walk(copy):
        for path in (Path(folder, name) for name in (*folders, *files)):
            if path.is_symlink() and _leads_to(path, repository.resolve(), copy.resolve()):
                raise SameopError(
                    f"{path.relative_to(copy)} of {ref} is a link into the worktree itself "
                    f"({path.readlink()}), so both sides would run that: let the link be relative."
                )


def _leads_to(link: Path, repository: Path, copy: Path) -> bool:
    # Path.resolve raises where links go round in circles.
    end = Path(os.path.realpath(link))
    return end.is_relative_to(repository) and not end.is_relative_to(copy)


def some(names: list[str]) -> str:
    """Name a few of many files."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
