"""Two versions of a project side by side: neither ever runs what belongs to the other."""

from __future__ import annotations

import math
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import typing_extensions

from harness.bench.twins.trunk import SideRefusedError
from harness.bench.twins.twins import Grove, Twins, TwinSettings
from harness.doors.gate.building import build
from harness.doors.gate.checkouts import Checkouts, check_out
from harness.doors.gate.run import side_of
from harness.paper.gate.policy import FILE_NAME, Policy, read_policy
from harness.paper.record import CaseId
from harness.tests.gate_projects import (
    BASE_NANOSECONDS,
    COMPILED_SETTINGS,
    COMPILED_WAYS,
    EDITABLE,
    EDITABLE_WAYS,
    HEAD_NANOSECONDS,
    SOURCE_WAYS,
    VENDORED_SETTINGS,
    VENDORED_WAYS,
    WAYS,
    Repo,
    also_imported_by_torch,
    install_copy,
    make_project,
)

SETTINGS = TwinSettings(warm_up_seconds=0.005, sample_seconds=0.02)
# Running one version on both sides gives 1.
SLOWER = pytest.approx(HEAD_NANOSECONDS / BASE_NANOSECONDS, rel=0.2)


def twins_of(sides: Checkouts, policy: Policy) -> Twins:
    """Return twins of both sides, as the gate makes them."""
    both = (sides.base, sides.head)
    for side in both:
        build(side, policy.build)
    return Twins({side.name: side_of(side, policy, sides) for side in both}, SETTINGS, sides.scratch)


def twins_at(repo: Repo, stack: ExitStack) -> Twins:
    """Return twins of the last two commits of a project."""
    policy = read_policy(repo.root / FILE_NAME)
    return twins_of(stack.enter_context(check_out(repo.root, "HEAD~1")), policy)


def ratio(grove: Grove, way: str, sides: tuple[str, str] = ("base", "head")) -> float:
    """Return how often longer the second side takes for a way."""
    case = CaseId("scale", "core", way, "tiny/one", "float32", "cpu", "forward")
    number = grove.measure(case, sides, grove.inspect(case, sorted(set(sides))))
    assert number.cpu is not None
    return math.exp(number.cpu)


@pytest.fixture(scope="module")
def python_grove(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grove]:
    """Return both sides of a project of Python alone."""
    with ExitStack() as stack:
        twins = twins_at(make_project(tmp_path_factory.mktemp("python") / "repo", WAYS), stack)
        yield stack.enter_context(twins.grove(["base", "head"], judging=True))


@pytest.mark.parametrize("way", WAYS)
def test_each_side_runs_its_own(python_grove: Grove, way: str) -> None:
    """Whatever the way by which an operator finds its parts, each side finds those of its own version."""
    assert ratio(python_grove, way) == SLOWER


def test_either_side_may_be_called_base(python_grove: Grove) -> None:
    """The order of the sides turns the ratio round."""
    assert 1 / ratio(python_grove, "lazy_import", ("head", "base")) == SLOWER


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler `cc` on PATH")
@pytest.mark.skipif(
    not Path(sysconfig.get_path("include"), "Python.h").exists(), reason="no headers of Python"
)
def test_each_side_runs_what_was_compiled_for_it(tmp_path: Path) -> None:
    """Libraries and extension modules of one name are built in both copies, and each side loads its own."""
    repo = make_project(tmp_path / "repo", COMPILED_WAYS, COMPILED_SETTINGS)
    with ExitStack() as stack:
        twins = twins_at(repo, stack)
        grove = stack.enter_context(twins.grove(["base", "head"], judging=True))
        assert {way: ratio(grove, way) for way in COMPILED_WAYS} == dict.fromkeys(COMPILED_WAYS, SLOWER)
        assert twins.reason == ""


def test_each_side_has_its_own_dependency(tmp_path: Path) -> None:
    """A dependency that another commit brings in another version is that of its side."""
    repo = make_project(tmp_path / "repo", VENDORED_WAYS, VENDORED_SETTINGS)
    with ExitStack() as stack:
        twins = twins_at(repo, stack)
        grove = stack.enter_context(twins.grove(["base", "head"], judging=True))
        assert {way: ratio(grove, way) for way in VENDORED_WAYS} == dict.fromkeys(VENDORED_WAYS, SLOWER)
        assert twins.reason == ""


def test_a_dependency_that_torch_imports_is_started_apart(tmp_path: Path) -> None:
    """What the common parent has imported cannot be another version after a fork: then no fork serves."""
    ways = also_imported_by_torch(typing_extensions)
    repo = make_project(tmp_path / "repo", ways, VENDORED_SETTINGS)
    with ExitStack() as stack:
        twins = twins_at(repo, stack)
        grove = stack.enter_context(twins.grove(["base", "head"], judging=True))
        assert ratio(grove, "module_of_torch") == SLOWER
        assert twins.reason.endswith(" brings its own typing_extensions, which torch imports too.")


def test_an_editable_install_serves_neither_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side runs what its version has, beside an install that leads to the worktree.

    A module that git ignores is in no copy: both sides would run that of the worktree, and none may, however
    late it is imported.
    """
    repo = make_project(tmp_path / "repo", EDITABLE_WAYS)
    repo.write({".git/info/exclude": "generated.py\n", "generated.py": "def work():\n    pass\n"})
    (tmp_path / "site").mkdir()
    finder = EDITABLE.replace("ROOT", repr(str(repo.root)))
    (tmp_path / "site" / "sitecustomize.py").write_text(finder, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with ExitStack() as stack:
        grove = stack.enter_context(twins_at(repo, stack).grove(["base", "head"], judging=True))
        assert ratio(grove, "lazy_import") == SLOWER
        with pytest.raises(SideRefusedError) as caught:
            ratio(grove, "only_in_the_worktree")
    assert str(caught.value) == (
        f"{caught.value.side} is not kept apart: it imported the module generated from "
        f"{repo.root}/generated.py (1 in all). Name the folders of its packages in `paths` of the policy, "
        "and build what is compiled by `build`."
    )


def test_what_was_installed_of_the_project_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides would run the package that was installed, until `paths` names the folder of their own."""
    repo = make_project(tmp_path / "repo", SOURCE_WAYS)
    installed = install_copy(repo, "src", tmp_path / "site")
    monkeypatch.syspath_prepend(str(installed))
    with ExitStack() as stack:
        grove = twins_at(repo, stack).grove(["base", "head"], judging=True)
        with pytest.raises(SideRefusedError, match=f"the module own from {installed}/own/__init__.py"):
            stack.enter_context(grove)
    with ExitStack() as stack:
        sides = stack.enter_context(check_out(repo.root, "HEAD~1"))
        twins = twins_of(sides, Policy(paths=("src", ".")))
        assert (
            ratio(stack.enter_context(twins.grove(["base", "head"], judging=True)), "package_in_src")
            == SLOWER
        )
