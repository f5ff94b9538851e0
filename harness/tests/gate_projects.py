"""Little git repositories for the gate, whose head is slower than their base, each in its own way."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_AUTHOR = ["-c", "user.name=me", "-c", "user.email=me@example.com", "-c", "commit.gpgsign=false"]


@dataclass(frozen=True)
class Repo:
    """A git repository on disk."""

    root: Path

    @classmethod
    def make(cls, root: Path) -> Self:
        """Make an empty one."""
        root.mkdir(parents=True)
        repo = cls(root)
        repo.git("init", "--quiet", "--initial-branch=main")
        return repo

    def git(self, *arguments: str) -> str:
        """Run git in it and return what it printed."""
        done = subprocess.run(
            ["git", *_AUTHOR, *arguments], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files by their paths."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")

    def commit(self, message: str) -> str:
        """Commit all that differs, and return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD")
