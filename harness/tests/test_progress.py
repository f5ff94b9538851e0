"""Progress and the time that is left, by a fake clock."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest

from harness.doors.progress import Progress


@dataclass
class Screen:
    """A screen that remembers what was written, rewritten lines marked with ``~``."""

    isatty: bool
    written: list[str] = field(default_factory=list)

    def rewrite(self, line: str, *, erase: bool = False) -> None:
        """Remember a line that replaces the current one."""
        assert erase
        self.written.append(f"~{line}")

    def write_line(self, line: str) -> None:
        """Remember a whole line."""
        self.written.append(line)

    def ensure_newline(self) -> None:
        """Nothing is unfinished here."""


@dataclass
class Clock:
    """A clock that a test moves."""

    seconds: float = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.seconds


def steps(progress: Progress, clock: Clock, *taken: tuple[str, float]) -> None:
    """Do steps of the given kinds that take the given seconds."""
    for kind, seconds in taken:
        progress.begin(f"a {kind}")
        clock.seconds += seconds
        progress.end(kind, f"a {kind} is done")


def test_plain_lines_where_nobody_watches() -> None:
    """In a log every finished step is one line with the time left; nothing is rewritten."""
    screen, clock = Screen(isatty=False), Clock()
    steps(Progress(screen, ["case"] * 3, clock), clock, ("case", 60), ("case", 62), ("case", 1))
    assert screen.written == [
        "[1/3] a case is done (2:00 left)",
        "[2/3] a case is done (1:01 left)",
        "[3/3] a case is done",
    ]


def test_one_line_is_rewritten_on_a_terminal() -> None:
    """On a terminal the step under way is shown and then replaced by its end."""
    screen, clock = Screen(isatty=True), Clock()
    steps(Progress(screen, ["case"] * 2, clock, lambda: 80), clock, ("case", 5))
    assert screen.written == ["~[0/2] a case …", "~[1/2] a case is done (0:05 left)", ""]


def test_line_under_way_fits_the_terminal() -> None:
    """A line that would wrap is cut, because what wraps cannot be rewritten."""
    screen = Screen(isatty=True)
    Progress(screen, ["case"], Clock(), lambda: 20).begin("a case with a long name")
    assert screen.written == ["~[0/1] a case with …"]
    assert len(screen.written[0]) == 20  # the mark and nineteen columns


def test_each_kind_has_its_own_mean() -> None:
    """Slow claims say nothing about how long quick cases take."""
    clock = Clock()
    progress = Progress(Screen(isatty=False), ["claim", "claim", *["case"] * 10], clock)
    steps(progress, clock, ("claim", 100), ("claim", 100))
    assert progress.time_left() == "16:40"  # no case has ended: the mean of all that has
    steps(progress, clock, ("case", 2))
    assert progress.time_left() == "0:18"


def test_steps_of_an_earlier_session_do_not_count() -> None:
    """What was found done and took no time does not make the rest look quick."""
    clock = Clock()
    progress = Progress(Screen(isatty=False), ["case"] * 4, clock)
    progress.end("case", "found", worked=False)
    assert progress.time_left() == "unknown time"
    steps(progress, clock, ("case", 30))
    assert progress.time_left() == "1:00"


@pytest.mark.parametrize(("done", "shown"), [(0, "[ 0/12]"), (11, "[11/12]")])
def test_counter_keeps_its_width(done: int, shown: str) -> None:
    """Lines of progress stand below each other."""
    screen = Screen(isatty=True)
    Progress(screen, ["case"] * 12, Clock(), lambda: 80, done=done).begin("x")
    assert screen.written == [f"~{shown} x …"]


class Terminal(io.StringIO):
    """A file that claims that a person watches."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


def test_pytest_writes_whole_lines(request: pytest.FixtureRequest) -> None:
    """On pytest's own reporter each step ends in one line that starts at the left edge."""
    file, clock = Terminal(), Clock()
    reporter = pytest.TerminalReporter(request.config, file)
    steps(Progress(reporter, ["case"] * 2, clock), clock, ("case", 1), ("case", 1))
    shown = [line.rpartition("\r")[2].rstrip() for line in file.getvalue().split("\n")]
    assert shown == ["[1/2] a case is done (0:01 left)", "[2/2] a case is done", ""]


def test_guesses_count_until_others_are_known() -> None:
    """One slow first step does not make the rest seem as slow, and many steps outweigh what was guessed."""
    clock = Clock()
    progress = Progress(Screen(False), ["claim"] * 100, clock, guesses={"claim": 1.0})
    assert progress.time_left() == "1:40"
    steps(progress, clock, ("claim", 6))
    assert progress.time_left() == "3:02"  # 99 steps of (6 + 5 · 1) ÷ 6 s
    steps(progress, clock, *[("claim", 6.0)] * 50)
    assert progress.time_left() == "4:32"  # 49 steps of (51 · 6 + 5 · 1) ÷ 56 s


def test_steps_that_are_worked_on_together() -> None:
    """What is spent ahead lowers the time left at once; what is done is counted before it is reported."""
    screen, clock = Screen(isatty=True), Clock()
    progress = Progress(screen, ["case"] * 4, clock, lambda: 80, guesses={"case": 10.0})
    progress.begin("a case")
    for seconds, left in ((5, "0:35"), (5, "0:30"), (6, "0:24")):
        clock.seconds += seconds
        progress.advance("a group", seconds)
        assert screen.written[-1] == f"~[0/4] a group … ({left} left)"
    progress.finish("case", 2, 10.0)
    # Two steps of (5 · 10 + 2 · 5) ÷ 7 s, less 6 s of theirs.
    assert progress.time_left() == "0:11"
    progress.finish("case", 1, 6.0)
    progress.end("case", "done")
    progress.end("case", "done")
    assert screen.written[-2] == "~[2/4] done (0:08 left)"
    progress.end("case", "done")
    progress.begin("the last")
    clock.seconds += 7
    progress.end("case", "the last")
    assert screen.written[-2:] == ["~[4/4] the last", ""]
    assert progress.time_left() == "0:00"


def test_a_log_is_not_silent_for_long() -> None:
    """Where nothing is rewritten, what is under way is told now and then, below the counters."""
    screen, clock = Screen(isatty=False), Clock()
    progress = Progress(screen, ["case"] * 12, clock, guesses={"case": 5.0})
    for _ in range(25):
        clock.seconds += 1
        progress.advance("a group", 1)
    assert screen.written == [f"        a group … ({left} left)" for left in ("0:50", "0:40")]
    progress.finish("case", 12, 25.0)
    progress.end("case", "done")
    clock.seconds += 9
    progress.advance("another", 0)
    assert len(screen.written) == 3
