"""Replay: pytest-benchmark's statistics are those of the measured samples, to the bit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.doors.replay import ReplayTimer, RunFile, replay


class Fixture:
    """What replay uses of pytest-benchmark's fixture."""

    def __init__(self, timer: ReplayTimer) -> None:
        self.extra_info: dict[str, Any] = {}
        self.timer = timer
        self.rounds: list[float] = []
        self.disabled = False

    def pedantic(self, function: Any, *, rounds: int, iterations: int, warmup_rounds: int) -> None:
        """Time rounds as pytest-benchmark does: two readings, and their difference."""
        assert (iterations, warmup_rounds) == (1, 0)
        assert rounds >= 1
        if self.disabled:
            return
        for _ in range(rounds):
            start = self.timer()
            function()
            self.rounds.append(self.timer() - start)


def test_rounds_are_the_samples_to_the_bit() -> None:
    """A difference from zero rounds nothing: every sample comes back as it was."""
    samples = [0.1, 0.3 - 0.2, 1e-9, 1 / 3, 5e-324]
    fixture = Fixture(timer := ReplayTimer())
    replay(fixture, timer, samples, {"sameop_case": "a/b"})
    assert fixture.rounds == samples
    assert fixture.extra_info == {"sameop_case": "a/b"}


def test_nothing_to_replay_is_told_to_the_fixture() -> None:
    """A case without a number uses the fixture without a round, so that nothing warns of a forgotten one."""
    fixture = Fixture(timer := ReplayTimer())
    replay(fixture, timer, (), {"sameop_case": "a/b"})
    assert fixture.disabled
    assert fixture.rounds == []


def test_run_file_serves_both_ways_to_write(tmp_path: Path) -> None:
    """Older releases of pytest-benchmark enter an open file, later ones open a path."""
    file = RunFile(tmp_path / "benchmark.json")
    with file as older:
        older.write(b"older")
    assert (tmp_path / "benchmark.json").read_bytes() == b"older"
    with open(file, "wb") as later:
        later.write(b"later")
    assert (tmp_path / "benchmark.json").read_bytes() == b"later"
    assert str(file) == os.fspath(file) == str(tmp_path / "benchmark.json")
