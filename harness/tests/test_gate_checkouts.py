"""The two sides on disk: what is copied, what is refused, and a repository that is left as it was."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.doors.gate.building import BaseNotBuiltError, HeadNotBuiltError, build
from harness.doors.gate.checkouts import Checkout, check_out
from harness.paper.errors import Exit, SameopError
from harness.tests.gate_projects import Repo
from harness.tests.projects import environment


@pytest.fixture(autouse=True)
def scratch_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where scratch folders are made in this test."""
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """Return a repository with two commits, the second of which is checked out."""
    repo = Repo.make(tmp_path / "repo")
    repo.write({"a.py": "one\n", "ops/b.py": "one\n", "gone.py": "one\n", ".gitignore": "built/\n"})
    repo.commit("first")
    (repo.root / "gone.py").unlink()
    repo.write({"a.py": "two\n"})
    repo.commit("second")
    return repo


def contents(folder: Path) -> dict[str, str]:
    """Read every file and link below a folder, with the modes of files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = ("x " if os.access(path, os.X_OK) else "") + path.read_text(encoding="utf-8")
    return found


def written(
    repo: Repo, base: str, head: str | None = None
) -> tuple[Checkout, dict[str, str], dict[str, str]]:
    """Return the head, and what both sides hold."""
    with check_out(repo.root, base, head) as sides:
        return sides.head, contents(sides.base.copy), contents(sides.head.copy)


def refusal(repo: Repo, base: str, head: str | None = None, folder: str = ".") -> tuple[str, Exit]:
    """Return the sentence that refuses a gate, with the repository called REPO, and its exit code."""
    with pytest.raises(SameopError) as caught, check_out(repo.root / folder, base, head):
        pass
    return str(caught.value).replace(str(repo.root), "REPO"), caught.value.exit


class TestSides:
    """What the copies hold."""

    def test_each_side_is_its_commit(self, repo: Repo) -> None:
        """A clean worktree is its commit, and the base another."""
        head, base_files, head_files = written(repo, "HEAD~1")
        assert base_files == {
            "a.py": "one\n",
            "gone.py": "one\n",
            "ops/b.py": "one\n",
            ".gitignore": "built/\n",
        }
        assert head_files == {"a.py": "two\n", "ops/b.py": "one\n", ".gitignore": "built/\n"}
        assert head.as_json() == {
            "ref": "HEAD",
            "commit": repo.git("rev-parse", "HEAD"),
            "dirty": False,
            "differs": [],
            "notes": [],
        }

    def test_one_commit_on_both_sides(self, repo: Repo) -> None:
        """A commit may be compared with itself."""
        _, base_files, head_files = written(repo, "HEAD", "HEAD")
        assert base_files == head_files

    def test_another_head_than_the_one_checked_out(self, repo: Repo) -> None:
        """With a clean worktree any two commits may be compared."""
        head, base_files, head_files = written(repo, "HEAD", "HEAD~1")
        assert (base_files["a.py"], head_files["a.py"]) == ("two\n", "one\n")
        assert head.ref == "HEAD~1"

    def test_names_of_equal_length(self, repo: Repo) -> None:
        """No side has the longer path, and neither has the plant."""
        with check_out(repo.root, "HEAD~1") as sides:
            plant = sides.copy(sides.base)
            assert len({len(str(side.project)) for side in (sides.base, sides.head, plant)}) == 1
            assert len({side.caches for side in (sides.base, sides.head, plant)}) == 3
            assert contents(plant.copy) == contents(sides.base.copy)

    def test_worktree_as_it_stands(self, repo: Repo) -> None:
        """Changed, staged, new, deleted, linked and executable files are as they lie there."""
        repo.write(
            {"a.py": "three\n", "new ü.py": "new\n", "built/x.so": "ignored\n", "staged.py": "staged\n"}
        )
        repo.git("add", "staged.py")
        repo.write({"staged.py": "and changed\n"})
        (repo.root / "ops/b.py").unlink()
        (repo.root / "run.sh").write_text("run\n")
        (repo.root / "run.sh").chmod(0o755)
        (repo.root / "link.py").symlink_to("a.py")
        head, _, head_files = written(repo, "HEAD~1")
        assert head_files == {
            ".gitignore": "built/\n",
            "a.py": "three\n",
            "link.py": "-> a.py",
            "new ü.py": "new\n",
            "run.sh": "x run\n",
            "staged.py": "and changed\n",
        }
        assert sorted(head.differs) == ["a.py", "link.py", "new ü.py", "ops/b.py", "run.sh", "staged.py"]
        assert head.as_json()["dirty"]

    def test_folders_become_files_and_links(self, repo: Repo) -> None:
        """A folder that became a link is a link, and a link that became a folder is a folder."""
        (repo.root / "way").symlink_to("ops")
        repo.commit("third")
        (repo.root / "way").unlink()
        repo.write({"way/c.py": "c\n"})
        (repo.root / "ops/b.py").unlink()
        (repo.root / "ops").rmdir()
        (repo.root / "ops").symlink_to("way")
        _, base_files, head_files = written(repo, "HEAD")
        assert (base_files["way"], base_files["ops/b.py"]) == ("-> ops", "one\n")
        assert head_files == {".gitignore": "built/\n", "a.py": "two\n", "ops": "-> way", "way/c.py": "c\n"}

    def test_file_that_the_index_has_lost(self, repo: Repo) -> None:
        """A file that was removed from the index and lies there is taken, unless it is ignored now."""
        repo.git("rm", "--cached", "--quiet", "a.py", "ops/b.py")
        repo.write({".gitignore": "ops/\n"})
        _, _, head_files = written(repo, "HEAD")
        assert head_files == {".gitignore": "ops/\n", "a.py": "two\n"}

    def test_attributes_are_those_of_the_commit(self, repo: Repo) -> None:
        """How a commit is written does not depend on what the worktree says now."""
        repo.write({".gitattributes": "a.py text eol=crlf\n"})
        _, base_files, head_files = written(repo, "HEAD")
        assert base_files["a.py"] == "two\n"
        assert head_files["a.py"] == "two\n", "the worktree's file, as it lies there"
        repo.commit("third")
        with check_out(repo.root, "HEAD", "HEAD") as sides:
            assert (sides.base.copy / "a.py").read_bytes() == b"two\r\n"

    def test_virtual_environment_is_left_out(self, repo: Repo) -> None:
        """A virtual environment that git does not ignore makes nothing dirty and is not copied."""
        repo.write({".venv/pyvenv.cfg": "home = /usr\n", ".venv/lib/x.py": "x\n"})
        head, _, head_files = written(repo, "HEAD")
        assert not head.differs
        assert ".venv/lib/x.py" not in head_files

    def test_project_below_the_top(self, repo: Repo) -> None:
        """In a repository of several projects the copy is whole and the project is where it was."""
        repo.write({"one/pyproject.toml": "", "two/x.py": "x\n"})
        repo.commit("third")
        with check_out(repo.root / "one", "HEAD") as sides:
            assert sides.head.project == sides.head.copy / "one"
            assert (sides.head.copy / "two" / "x.py").exists()
            assert sides.copy(sides.head).project.name == "one"

    def test_linked_worktree(self, repo: Repo, tmp_path: Path) -> None:
        """A worktree that another one lent its repository to has a HEAD of its own."""
        repo.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"), "HEAD~1")
        with check_out(tmp_path / "linked", "HEAD") as sides:
            assert (sides.head.copy / "a.py").read_text() == "one\n"

    def test_index_of_a_hook(self, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
        """Inside a hook git names a repository and an index, which are not those of the folder."""
        monkeypatch.setenv("GIT_INDEX_FILE", str(repo.root / "none"))
        monkeypatch.setenv("GIT_DIR", str(repo.root / "nowhere"))
        assert not written(repo, "HEAD~1")[0].differs

    def test_sparse_worktree_is_compared_in_full(self, repo: Repo) -> None:
        """Files that a sparse worktree leaves out are in both copies, also where it is dirty."""
        repo.git("sparse-checkout", "set", "ops")
        (repo.root / "ops/b.py").write_text("three\n")
        repo.write({"a/b.py": "x"})
        _, base_files, head_files = written(repo, "HEAD")
        assert set(base_files) <= set(head_files)
        assert head_files["ops/b.py"] == "three\n"


class TestSubmodules:
    """Repositories in repositories."""

    @pytest.fixture
    def inner(self, repo: Repo, tmp_path: Path) -> Repo:
        """Return a submodule `lib` of the repository, checked out."""
        lib = Repo.make(tmp_path / "lib")
        lib.write({"lib.py": "one\n"})
        lib.commit("first")
        repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(lib.root), "lib")
        repo.commit("with lib")
        return Repo(repo.root / "lib")

    def test_each_side_has_its_version(self, repo: Repo, inner: Repo) -> None:
        """A submodule is part of both copies, at the commit of each."""
        inner.write({"lib.py": "two\n"})
        inner.commit("second")
        repo.commit("newer lib")
        _, base_files, head_files = written(repo, "HEAD~1")
        assert (base_files["lib/lib.py"], head_files["lib/lib.py"]) == ("one\n", "two\n")

    def test_dirty_submodule_is_taken_as_it_stands(self, repo: Repo, inner: Repo) -> None:
        """What differs in a submodule differs in the copy."""
        inner.write({"lib.py": "three\n", "more.py": "more\n"})
        head, base_files, head_files = written(repo, "HEAD")
        assert head.differs == ("lib",)
        assert base_files["lib/lib.py"] == "one\n"
        assert (head_files["lib/lib.py"], head_files["lib/more.py"]) == ("three\n", "more\n")

    def test_removed_submodule(self, repo: Repo, inner: Repo) -> None:
        """A submodule that is gone from the worktree is gone from head, and base has it from git's store."""
        repo.git("rm", "--quiet", "lib")
        _, base_files, head_files = written(repo, "HEAD")
        assert base_files["lib/lib.py"] == "one\n"
        assert "lib/lib.py" not in head_files

    def test_commit_that_is_not_here(self, repo: Repo, inner: Repo) -> None:
        """A submodule's commit that nobody fetched leaves an empty folder and a sentence."""
        repo.git("update-index", "--cacheinfo", f"160000,{'1' * 40},lib")
        repo.git("commit", "--quiet", "-m", "an unknown lib")
        repo.git("submodule", "--quiet", "deinit", "--force", "lib")
        with check_out(repo.root, "HEAD") as sides:
            assert sides.base.notes == (
                "The submodule lib is empty in the copy of HEAD, since its commit 111111111111 is not here: "
                "`git submodule update --init` brings it where that commit is checked out.",
            )
            assert list((sides.base.copy / "lib").iterdir()) == []

    def test_untracked_repository(self, repo: Repo) -> None:
        """A repository that lies in the worktree is taken as it stands; one without a commit is not."""
        Repo.make(repo.root / "tool").write({"x.py": "x\n"})
        Repo(repo.root / "tool").commit("first")
        Repo.make(repo.root / "empty")
        head, _, head_files = written(repo, "HEAD")
        assert head_files["tool/x.py"] == "x\n"
        assert head.notes == ("The repository empty/ inside of this one is left out: it has no commit yet.",)


class TestRefusals:
    """What a gate cannot compare, in one sentence each."""

    def test_unknown_name(self, repo: Repo) -> None:
        """The names that are near are told."""
        repo.git("branch", "feature/speed")
        repo.git("tag", "v1.0")
        assert refusal(repo, "feature/sped") == (
            "'feature/sped' names no commit of REPO: near are feature/speed.",
            Exit.USAGE,
        )
        assert refusal(repo, "HEAD~1", "zzz") == (
            "'zzz' names no commit of REPO: `git branch --all` and `git tag` list the names.",
            Exit.USAGE,
        )

    def test_branch_of_a_remote(self, repo: Repo) -> None:
        """A runner of CI often has the branch of the remote and none of its own."""
        repo.git("update-ref", "refs/remotes/origin/release", "HEAD")
        assert refusal(repo, "release")[0] == "'release' names no commit of REPO: near are origin/release."

    @pytest.mark.parametrize("ref", ["", "--help", "a\nb", "HEAD:a.py", "HEAD..HEAD~1", "HEAD --"])
    def test_names_that_are_no_names(self, repo: Repo, ref: str) -> None:
        """An option, a file or a range is no commit, and is never obeyed."""
        assert refusal(repo, ref)[0].startswith(f"{ref!r} names no commit of REPO: ")

    def test_shallow_clone(self, repo: Repo, tmp_path: Path) -> None:
        """A clone without the base says how to get it."""
        subprocess.run(
            ["git", "clone", "--quiet", "--depth=1", f"file://{repo.root}", str(tmp_path / "shallow")],
            check=True,
        )
        shallow = Repo(tmp_path / "shallow")
        assert refusal(shallow, "HEAD~1")[0] == (
            "'HEAD~1' names no commit of REPO: the clone is shallow, so run `git fetch --unshallow` or "
            "`git fetch --depth=N` first."
        )

    def test_dirty_worktree_and_another_head(self, repo: Repo) -> None:
        """What lies in the worktree belongs to no other commit than the one checked out."""
        repo.write({"a.py": "three\n"})
        assert refusal(repo, "HEAD", "HEAD~1") == (
            "--head HEAD~1 is another commit than the one checked out, from which the worktree differs in "
            "a.py: commit or remove that, or leave --head out to measure it as it stands.",
            Exit.USAGE,
        )
        assert written(repo, "HEAD~1", "HEAD")[2]["a.py"] == "three\n"

    def test_no_repository(self, tmp_path: Path) -> None:
        """Outside of a repository there are no commits."""
        with pytest.raises(SameopError) as caught, check_out(tmp_path, "HEAD"):
            pass
        assert str(caught.value) == (
            f"The gate compares two commits, and {tmp_path} lies in no git worktree (fatal: not a git "
            "repository (or any of the parent directories): .git): run it inside of one."
        )

    def test_no_commit(self, tmp_path: Path) -> None:
        """A repository may be empty."""
        repo = Repo.make(tmp_path / "repo")
        assert refusal(repo, "main")[0] == "'main' names no commit, since REPO has none yet: commit first."

    def test_no_git(self, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
        """Git may be missing."""
        monkeypatch.setenv("PATH", "/nonexistent")
        assert refusal(repo, "HEAD")[0] == (
            "The gate compares two commits and found no `git` on PATH: install git, or extend PATH."
        )

    def test_project_that_the_base_lacks(self, repo: Repo) -> None:
        """A new project has nothing to be compared with; one that git ignores is in no copy."""
        repo.write({"one/x.py": "x\n", "built/pyproject.toml": "\n"})
        assert refusal(repo, "HEAD", folder="one") == (
            "The base HEAD has no folder one, so there is nothing to compare with: choose a base that has "
            "the project.",
            Exit.BASELINE,
        )
        assert refusal(repo, "HEAD", folder="built")[1] == Exit.BASELINE

    def test_links_into_the_worktree(self, repo: Repo) -> None:
        """A link by which both sides would run the worktree's own file is refused, before anything runs."""
        (repo.root / "ops/c.py").symlink_to(repo.root / "a.py")
        (repo.root / "round").symlink_to("round")
        repo.commit("third")
        assert refusal(repo, "HEAD")[0] == (
            "ops/c.py of HEAD is a link into the worktree itself (REPO/a.py), so both sides would run that: "
            "let the link be relative."
        )

    def test_pointers_of_lfs(self, repo: Repo) -> None:
        """Where Git LFS has fetched nothing the copy holds pointers, and says so."""
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
        repo.write({".gitattributes": "*.bin filter=lfs\n", "x.bin": pointer, "y.bin": "content"})
        repo.commit("third")
        with check_out(repo.root, "HEAD") as sides:
            assert sides.head.notes == (
                "Git LFS has not fetched x.bin of HEAD, so the copy holds pointers in their place: "
                "`git lfs fetch origin HEAD` brings them.",
            )

    def test_file_that_cannot_be_read(self, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that is full ends in a sentence, and the scratch folder is removed."""

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        repo.write({"a.py": "three\n"})
        monkeypatch.setattr("harness.doors.gate.copying.shutil.copy2", full)
        sentence, _ = refusal(repo, "HEAD")
        assert sentence.startswith("HEAD cannot be copied to ")
        assert sentence.endswith(
            "([Errno 28] No space left on device): make room, or let TMPDIR name another folder."
        )


def state(root: Path) -> dict[str, tuple[int, str]]:
    """Digest every file of a worktree and its `.git`, with the times at which they were changed."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [root, *root.rglob("*")]
    }


@pytest.fixture
def touchy(repo: Repo, tmp_path: Path) -> Repo:
    """Return a dirty repository whose hooks, monitor and stale index would all leave a trace."""
    trace = f'#!/bin/sh\necho "$0" >> {tmp_path / "trace"}\n'
    for hook in (
        "post-checkout",
        "post-index-change",
        "pre-commit",
        "fsmonitor-watchman",
        "reference-transaction",
    ):
        path = repo.root / ".git" / "hooks" / hook
        path.write_text(trace)
        path.chmod(0o755)
    repo.git("config", "core.fsmonitor", ".git/hooks/fsmonitor-watchman")
    repo.write({"a.py": "three\n", "untracked.py": "new\n"})
    # The index takes this file for changed until somebody refreshes it.
    os.utime(repo.root / "ops/b.py", (1, 1))
    (tmp_path / "trace").unlink(missing_ok=True)
    return repo


def test_the_repository_is_left_as_it_was(touchy: Repo, tmp_path: Path) -> None:
    """Neither worktree nor index, refs, objects, hooks or times change, and no hook or monitor runs."""
    before = state(touchy.root)
    with check_out(touchy.root, "HEAD~1") as sides:
        build(sides.head, ["echo built > built.txt"])
        sides.copy(sides.base)
        assert contents(sides.head.copy)["built.txt"] == "built\n"
    assert state(touchy.root) == before
    assert not (tmp_path / "trace").exists()
    # The trap would have sprung: git's own ways of reading and writing an index trip it.
    touchy.git("status")
    assert (tmp_path / "trace").exists()
    assert state(touchy.root) != before


class TestScratch:
    """The folder of the copies."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SameopError, SystemExit])
    def test_removed_however_it_ends(
        self, repo: Repo, scratch_place: Path, error: type[BaseException]
    ) -> None:
        """Whatever ends the gate, its folder goes."""

        def fail_within() -> None:
            with check_out(repo.root, "HEAD") as sides:
                assert sides.base.copy.is_relative_to(scratch_place)
                raise error

        with pytest.raises(error):
            fail_within()
        assert list(scratch_place.iterdir()) == []

    def test_removed_after_an_interrupt_within_a_build(
        self, repo: Repo, tmp_path: Path, scratch_place: Path
    ) -> None:
        """Ctrl-C while a command builds ends it with all that it started, and removes the folder."""
        pid = tmp_path / "pid"
        program = (
            "import sys\nfrom pathlib import Path\n"
            "from harness.doors.gate.building import build\n"
            "from harness.doors.gate.checkouts import check_out\n"
            "with check_out(Path(sys.argv[1]), 'HEAD') as sides:\n"
            f"    build(sides.base, ['sleep 600 & echo $! > {pid}.new; mv {pid}.new {pid}; wait'])\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(repo.root)],
            env=environment({"TMPDIR": str(scratch_place)}),
            stderr=subprocess.DEVNULL,
        ) as process:
            wait_for(pid.exists)
            assert len(list(scratch_place.iterdir())) == 1
            process.send_signal(signal.SIGINT)
        assert list(scratch_place.iterdir()) == []
        wait_for(lambda: is_gone(int(pid.read_text())))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait until something has happened, at most a minute."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestBuild:
    """Commands of the policy in both copies."""

    def test_commands_run_in_the_project_with_this_python(self, repo: Repo) -> None:
        """Each command runs in the project's folder, one after the other, and finds this interpreter."""
        command = 'python -c \'import sys; open("which", "w").write(sys.prefix)\''
        repo.write({"one/x.py": "x\n"})
        repo.commit("third")
        with check_out(repo.root / "one", "HEAD") as sides:
            build(sides.head, [command, 'cat which > again; printf %s "$TORCH_EXTENSIONS_DIR" > kept'])
            assert (sides.head.project / "again").read_text() == sys.prefix
            kept = Path((sides.head.project / "kept").read_text())
            assert kept.is_relative_to(sides.head.caches)

    def test_no_repository_is_found_from_a_copy(self, repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the scratch folder lies in the repository itself, a build cannot take it for the copy's."""
        repo.write({"built/x": "x"})
        monkeypatch.setattr(tempfile, "tempdir", str(repo.root / "built"))
        with check_out(repo.root, "HEAD") as sides:
            build(sides.head, ["! git rev-parse --show-toplevel"])

    @pytest.mark.parametrize(
        ("name", "kind", "code"),
        [("base", BaseNotBuiltError, Exit.BASELINE), ("head", HeadNotBuiltError, Exit.FAILED)],
    )
    def test_failure_is_that_of_its_side(
        self, repo: Repo, name: str, kind: type[SameopError], code: Exit
    ) -> None:
        """A base that does not build is no baseline; a head that does not build has failed."""
        with check_out(repo.root, "HEAD~1") as sides, pytest.raises(kind) as caught:
            build(getattr(sides, name), ["for i in 1 2 3 4 5 6; do echo line $i; done; exit 3"])
        assert caught.value.exit == code
        ref = "HEAD~1" if name == "base" else "HEAD"
        assert str(caught.value) == (
            "`for i in 1 2 3 4 5 6; do echo line $i; done; exit 3` of the policy's `build` ended with exit "
            f"code 3 in {name} ({ref}): mend it, or the `build`. Its last lines:\n"
            "  line 2\n  line 3\n  line 4\n  line 5\n  line 6"
        )
