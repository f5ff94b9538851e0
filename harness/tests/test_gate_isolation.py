"""Two versions of a project side by side: neither ever runs what belongs to the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from harness.bench.twins.twins import Grove, Twins, TwinSettings
from harness.doors.gate.building import build
from harness.doors.gate.checkouts import Checkouts, check_out
from harness.doors.gate.run import side_of
from harness.paper.gate.policy import FILE_NAME, Policy, read_policy
from harness.paper.record import CaseId
from harness.tests.gate_projects import BASE_NANOSECONDS, HEAD_NANOSECONDS, WAYS, Repo, make_project

SETTINGS = TwinSettings(warm_up_seconds=0.005, sample_seconds=0.02)


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
        yield stack.enter_context(twins.grove(["base", "head"]))


@pytest.mark.parametrize("way", WAYS)
def test_each_side_runs_its_own(python_grove: Grove, way: str) -> None:
    """Whatever the way by which an operator finds its parts, each side finds those of its own version."""
    assert ratio(python_grove, way) == pytest.approx(HEAD_NANOSECONDS / BASE_NANOSECONDS, rel=0.2)
