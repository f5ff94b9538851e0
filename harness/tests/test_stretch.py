"""A stretch: passes over groups, whose order and end a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from harness.bench.measure.stretch import pass_by_pass


@dataclass
class Group:
    """A group that needs so many replicates, and could be kept after two."""

    name: str
    needed: int
    taken: int = 1

    @property
    def is_done(self) -> bool:
        """Whether it has all."""
        return self.taken >= self.needed

    @property
    def has_the_least(self) -> bool:
        """Whether it has two."""
        return self.taken >= 2


@dataclass
class Course:
    """Takes groups through passes, and notes what happens."""

    stop_at: str = ""
    events: list[str] = field(default_factory=list)

    def begun(self, groups: list[Group]) -> Iterator[Group]:
        """Give groups after a first replicate each."""
        for group in groups:
            self.note(f"{group.name}1")
            yield group

    def replicate(self, group: Group) -> None:
        """Take one more replicate."""
        self.note(f"{group.name}{group.taken + 1}")
        group.taken += 1

    def finish(self, group: Group) -> None:
        """Note that a group is done."""
        self.events.append(f"{group.name} done")

    def note(self, event: str) -> None:
        """Note what happens, unless Ctrl-C comes first."""
        if event == self.stop_at:
            raise KeyboardInterrupt
        self.events.append(event)

    def run(self, *groups: Group) -> list[str]:
        """Take the groups through their passes, every other one backwards."""
        pass_by_pass(self.begun(list(groups)), self.replicate, self.finish, list.reverse)
        return self.events


def test_every_pass_takes_every_group_once() -> None:
    """No group has its next replicate before all others had theirs, and each is finished at once."""
    found = Course().run(Group("a", 3), Group("b", 2), Group("c", 4))
    assert found == [
        *("a1", "b1", "c1"),
        *("c2", "b2", "b done", "a2"),
        *("c3", "a3", "a done"),
        *("c4", "c done"),
    ]


def test_a_group_may_be_done_with_its_first_replicate() -> None:
    """What failed, or needs one process, waits for nobody."""
    assert Course().run(Group("a", 1), Group("b", 2)) == ["a1", "a done", "b1", "b2", "b done"]


def test_without_groups_nothing_happens() -> None:
    """A stretch of nothing ends."""
    assert Course().run() == []


@pytest.mark.parametrize(
    ("stop_at", "kept"),
    [
        ("b1", []),
        ("a2", ["b done", "c done"]),
        ("a3", ["a done", "b done", "c done"]),
    ],
)
def test_an_interruption_keeps_what_has_the_least(stop_at: str, kept: list[str]) -> None:
    """Ctrl-C finishes the groups that could be kept, and goes on to whoever waits for it."""
    course = Course(stop_at)
    with pytest.raises(KeyboardInterrupt):
        course.run(*(Group(name, 9) for name in ("a", "b", "c")))
    assert [event for event in course.events if event.endswith("done")] == kept
