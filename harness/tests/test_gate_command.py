"""``sameop gate`` as its user meets it: every verdict, its exit code, and an untouched worktree."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from harness.paper.errors import Exit
from harness.paper.gate.outcome import GateOutcome
from harness.tests.gate_projects import Repo
from harness.tests.in_process import sameop
from harness.tests.projects import PAGE, Done, Project, implementation

CASE = "scale/core/{}/tiny-one/float32/cpu/forward"
# Fewer processes than any policy that is meant, and more alarms: what is told apart here is far apart.
POLICY = "processes = [3, 3]\nplant = 0.9\nsensitivity = 0.9\nfalse_alarms = 0.05\n"
SPIN = """
from time import thread_time_ns

def spin(us):
    end = thread_time_ns() + us * 1000
    while thread_time_ns() < end:
        pass
"""
BASE = {
    "steady": "spin(300)\nreturn x * factor",
    "slower": "spin(300)\nreturn x * factor",
    "hungry": "spin(300)\nreturn x * factor",
    "accepted": "spin(300)\nreturn x * factor",
    "deleted": "return x * factor",
    "spoilt": "return x * factor",
    "dying": "return x * factor",
    "mended": "return x + factor",
}
HEAD = {
    "steady": "# the same by another name\nspin(300)\nproduct = x * factor\nreturn product",
    "slower": "spin(600)\nreturn x * factor",
    "hungry": "spin(300)\nheld = x.new_empty(1 << 20)\nreturn x * factor",
    "accepted": "spin(600)\nreturn x * factor",
    "spoilt": "return x * factor * 1.01",
    "dying": "import os\nos.abort()",
    "mended": "return x * factor",
    "added": "return x * factor",
}
ACCEPT = (
    f'[[accept]]\nmatch = "{CASE.format("accepted")}"\nup_to = 2.5\n'
    'reason = "it does twice as much now"\nexpires = 2999-01-01\n'
)


# Operators of a page each, by what differs between the sides.
OTHERS = {
    "shrunk": ("Dims(B=4, C=6)", "Dims(B=4, C=3)"),
    "redefined": ("return x * factor", "return x * factor + x"),
}


def other_pages(*, is_head: bool) -> dict[str, str]:
    """Return the pages of the operators that change their meaning."""
    return {
        f"ops/{name}.py": PAGE.replace('Operator("scale"', f'Operator("{name}"').replace(
            was, new if is_head else was
        )
        for name, (was, new) in OTHERS.items()
    }


def write(repo: Repo, forms: dict[str, str], page: str = PAGE) -> None:
    """Write a project whose operator has these implementations."""
    bodies = "\n".join(implementation(name, body) for name, body in forms.items())
    repo.write(
        {
            "ops/__init__.py": "",
            "ops/scale.py": page.replace("operator =", f"{SPIN}\n\noperator =", 1) + bodies,
            "pyproject.toml": '[tool.sameop]\ncases = ["ops"]\n',
            "sameop-gate.toml": POLICY + ACCEPT,
        }
    )


def gate(root: Path, *arguments: str) -> Done:
    """Run the gate in a folder."""
    return sameop(root, "gate", *arguments)


@dataclass(frozen=True)
class Gated:
    """One run of the gate over a head with everything that can go wrong."""

    repo: Repo
    done: Done
    document: dict[str, Any]

    @property
    def outcome(self) -> GateOutcome:
        """What was found, read back from what was printed."""
        return GateOutcome.from_json(self.document)

    def case(self, name: str) -> dict[str, Any]:
        """Return what is told of an implementation."""
        found: dict[str, Any] = next(
            case for case in self.document["cases"] if case["name"] == CASE.format(name)
        )
        return found


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    """Gate an uncommitted head against its base."""
    repo = Repo.make(tmp_path_factory.mktemp("gate") / "repo")
    write(repo, BASE)
    repo.write(other_pages(is_head=False))
    repo.commit("base")
    write(repo, HEAD)
    repo.write(other_pages(is_head=True))
    before = state(repo)
    # A process of its own, once: its standard output holds the document and nothing else.
    files = ["--json", "--junit", str(repo.root.parent / "junit.xml")]
    done = Project(repo.root).sameop("gate", "--base", "HEAD", *files)
    assert state(repo) == before
    return Gated(repo, done, json.loads(done.out))


def state(repo: Repo) -> tuple[str, bytes, dict[Path, float]]:
    """Return what a gate must leave as it is: refs, index, files and their times."""
    files = {path: path.stat().st_mtime for path in repo.root.rglob("*") if path.is_file()}
    refs = repo.git("--no-optional-locks", "for-each-ref")
    return refs, (repo.root / ".git/index").read_bytes(), files


@pytest.mark.parametrize(
    ("name", "verdict", "said"),
    [
        ("steady", "PASS", ""),
        ("slower", "FAIL", "slower"),
        ("hungry", "FAIL", "memory"),
        ("accepted", "ACCEPTED", "it does twice as much now"),
        ("deleted", "MISSING", "renamed or deleted"),
        ("spoilt", "DISAGREED", "disagrees with the reference"),
        ("dying", "BROKEN", "SIGABRT"),
        ("mended", "NEW", "base has no sound number"),
        ("added", "NEW", "no such case"),
    ],
)
def test_every_case_has_its_verdict_and_reason(gated: Gated, name: str, verdict: str, said: str) -> None:
    """Each kind of change is told apart, in a sentence."""
    case = gated.case(name)
    assert case["verdict"] == verdict, case["reason"]
    assert said in case["reason"]


def test_the_first_exit_code_wins_and_all_are_named(gated: Gated) -> None:
    """A wrong head outranks a missing case, and that a slowdown."""
    assert gated.done.code == Exit.FAILED == gated.document["exit"]
    named = [entry["code"] for entry in gated.document["exits"]]
    assert named == [Exit.FAILED, Exit.CHANGED, Exit.REGRESSED]


def test_the_slowdown_is_measured(gated: Gated) -> None:
    """Twice the work takes about twice the time, with a bound that rests on fresh processes."""
    bounds = gated.case("slower")["bounds"]
    assert 1.5 < bounds["low"] < bounds["ratio"] < 2.5
    assert bounds["processes"] == 3


def test_the_controls_are_sound(gated: Gated) -> None:
    """Base is as fast as itself, and what was planted through the loader is found."""
    controls = {control["kind"]: control for control in gated.document["controls"]}
    assert set(controls) == {"A/A", "plant"}
    assert all(control["is_sound"] for control in controls.values()), controls
    assert controls["plant"]["outcome"]["verdict"] == "FAIL"


def test_a_dirty_worktree_is_marked(gated: Gated) -> None:
    """What was measured is said to differ from its commit, and in which files."""
    assert gated.document["head"]["dirty"]
    assert "ops/scale.py" in gated.document["head"]["differs"]
    assert not gated.document["base"]["dirty"]
    assert gated.document["twins"]["how"] == "forked"


@pytest.mark.parametrize(
    ("operator", "said"),
    [
        # Whoever measures less under the same name is not faster.
        ("shrunk", "dimensions C is 6 in base and 3 in head"),
        # A head whose reference computes something else agrees with itself alone.
        ("redefined", "another function than base"),
    ],
)
def test_what_measures_something_else_is_a_change(gated: Gated, operator: str, said: str) -> None:
    """A case that keeps its name and not its meaning is neither faster nor slower."""
    name = CASE.format("reference").replace("scale", operator, 1)
    case = next(case for case in gated.outcome.cases if case.name == name)
    assert case.verdict == "CHANGED"
    assert said in case.reason
    assert replace(gated.outcome, cases=[case], controls=()).exit == Exit.CHANGED


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--base", "nowhere"], Exit.USAGE, "names no commit"),
        (["--base", "HEAD", "--head", "HEAD~1"], Exit.USAGE, "the worktree differs"),
        (["--base", "HEAD", "--cases", "nothing/*"], Exit.NOTHING, "nothing/*"),
        (["--base", "HEAD", "--device", "cuda"], Exit.NOTHING, "cuda"),
        (["--base", "HEAD", "--budget", "0"], Exit.USAGE, "--budget 0"),
        (["--base", "HEAD", "--policy", "none.toml"], Exit.USAGE, "none.toml"),
        (["--base", "HEAD~1"], Exit.BASELINE, "base cannot be imported"),
        ([], Exit.USAGE, "--base"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(
    broken: Repo, arguments: list[str], code: Exit, said: str
) -> None:
    """Each mistake has its own exit code, and no traceback."""
    done = gate(broken.root, *arguments)
    assert done.code == code, done.err
    assert said in done.err
    assert "Traceback" not in done.err


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Make a repository whose first commit does not import, with something uncommitted."""
    repo = Repo.make(tmp_path_factory.mktemp("broken") / "repo")
    write(repo, {}, PAGE + "\nimport nothing_of_this_name\n")
    repo.commit("cannot be imported")
    write(repo, {})
    repo.commit("mended")
    write(repo, {"steady": "return x * factor"})
    return repo


def test_a_head_that_does_not_import_fails(broken: Repo) -> None:
    """It is no matter of the base."""
    # Without time for any number: that it is imported and judged is enough here.
    done = gate(broken.root, "--base", "HEAD", "--policy", "sameop-gate.toml", "--budget", "0.001")
    assert done.code in (Exit.PASS, Exit.INCONCLUSIVE), done.err
    broken.write({"ops/more.py": "raise RuntimeError('not today')\n"})
    done = gate(broken.root, "--base", "HEAD")
    assert done.code == Exit.FAILED
    assert "head cannot be imported" in done.err


def test_outside_of_a_repository_is_one_sentence(tmp_path: Path) -> None:
    """There is nothing to compare with."""
    (tmp_path / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")
    (tmp_path / "ops").mkdir()
    done = gate(tmp_path, "--base", "HEAD")
    assert done.code == Exit.USAGE
    assert "Traceback" not in done.err
