"""What a gate asks git: nothing here writes into the repository, its index or its worktree."""

from __future__ import annotations

import difflib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.paper.errors import SameopError

# A hook that calls the gate has these set, for a repository or an index that may be another one.
_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE")
# Reading takes no locks and refreshes nothing; nobody is asked for a password; LFS downloads nothing.
_READ_ONLY = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",
}
_SETTINGS = (
    "core.hooksPath=" + os.devnull,  # writing an index of our own would call a hook
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.splitIndex=false",
    "core.sparseCheckout=false",
    "index.sparse=false",
    "submodule.recurse=false",
)
_NEAR = 3


@dataclass(frozen=True)
class Repository:
    """A repository as seen from a worktree. root: the top of the worktree. store: its ``.git``."""

    root: Path
    store: Path

    def ask(self, *arguments: str, given: str = "", variables: Mapping[str, str] | None = None) -> str:
        """Return what git answers, names of files as Python has them; raises :class:`SameopError`."""
        places = [f"--git-dir={self.store}", f"--work-tree={self.root}"]
        done = run_git(self.root, [*places, *arguments], given, variables)
        if done.returncode:
            raise SameopError(
                f"`git {arguments[0]}` failed in {self.root} ({_complaint(done)}): see what git says there."
            )
        return os.fsdecode(done.stdout)

    def commit(self, ref: str) -> str:
        """Return the commit that a name stands for, or raise :class:`SameopError` with what is near."""
        commit = self.find(ref)
        if commit is not None:
            return commit
        if self.find("HEAD") is None:
            raise SameopError(f"{ref!r} names no commit, since {self.root} has none yet: commit first.")
        raise SameopError(f"{ref!r} names no commit of {self.root}: {self._advice(ref)}.")

    def find(self, ref: str) -> str | None:
        """Return the commit that a name stands for, or None."""
        if not ref or "\n" in ref:
            return None
        # On standard input a name is never taken for an option.
        asked = "--batch-check=%(objecttype) %(objectname)"
        kind, _, commit = self.ask("cat-file", asked, given=f"{ref}^{{commit}}\n").strip().partition(" ")
        return commit if kind == "commit" else None

    @cached_property
    def head(self) -> str:
        """The commit that is checked out."""
        return self.commit("HEAD")

    def differing(self) -> dict[str, str]:
        """Return git's two letters for each file that differs from HEAD, is missing or is untracked."""
        options = ("--no-renames", "--untracked-files=all", "--ignore-submodules=none")
        answer = self.ask("status", "--porcelain=v1", "-z", *options)
        # Told twice is a file that the index has lost and that lies there untracked: the latter is how it is.
        return {entry[3:]: entry[:2] for entry in filter(None, answer.split("\0"))}

    def _advice(self, ref: str) -> str:
        if self.ask("rev-parse", "--is-shallow-repository").strip() == "true":
            return "the clone is shallow, so run `git fetch --unshallow` or `git fetch --depth=N` first"
        near = self._near(ref)
        return f"near are {', '.join(near)}" if near else "`git branch --all` and `git tag` list the names"

    def _near(self, ref: str) -> list[str]:
        names = self.ask("for-each-ref", "--format=%(refname:short)").split()
        remote = [name for name in names if name.endswith(f"/{ref}")]
        return list(dict.fromkeys([*remote, *difflib.get_close_matches(ref, names, _NEAR)]))[:_NEAR]


def find_repository(folder: Path) -> Repository:
    """Return the repository whose worktree a folder lies in, or raise :class:`SameopError`."""
    done = run_git(folder, ["rev-parse", "--show-toplevel", "--absolute-git-dir"])
    if done.returncode:
        raise SameopError(
            f"The gate compares two commits, and {folder} lies in no git worktree ({_complaint(done)}): "
            "run it inside of one."
        )
    root, store = os.fsdecode(done.stdout).rstrip("\n").split("\n")
    return Repository(Path(root), Path(store))


def run_git(
    folder: Path, arguments: list[str], given: str = "", variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder so that it writes nothing that it was not told to."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    try:
        return subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env={**environment(), **_READ_ONLY, **(variables or {})},
            input=os.fsencode(given),
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise SameopError(
            "The gate compares two commits and found no `git` on PATH: install git, or extend PATH."
        ) from None


def environment() -> dict[str, str]:
    """Return this process's variables without those that name a repository."""
    return {name: value for name, value in os.environ.items() if name not in _INHERITED}


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the line of git's that says what is wrong; advice follows it."""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines[-1:] or [f"exit code {done.returncode}"])[0].rstrip(".")
