"""How long ago a process began."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.doors import startup
from harness.doors.startup import seconds_since_start
from harness.tests.projects import environment

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PROGRAM = """
import time
began = time.perf_counter()
from harness.doors.startup import seconds_since_start
time.sleep(0.3)
print(seconds_since_start(), time.perf_counter() - began)
"""


@linux_only
def test_the_age_of_a_process_is_its_own() -> None:
    """A process is older than its first line and younger than the one that started it."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment(), text=True, capture_output=True, check=True
    )
    outside = time.perf_counter() - began
    age, inside = map(float, done.stdout.split())
    # The kernel counts in hundredths of a second.
    assert inside - 0.02 <= age <= outside + 0.02
    assert age < seconds_since_start()


@linux_only
def test_the_age_grows_with_time() -> None:
    """Two looks differ by the time between them."""
    first, began = seconds_since_start(), time.perf_counter()
    time.sleep(0.1)
    grown, passed = seconds_since_start() - first, time.perf_counter() - began
    assert grown == pytest.approx(passed, abs=0.02)


@linux_only
def test_a_name_may_hold_parentheses_and_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the name of the process does not move the fields behind it."""
    name, _, rest = Path("/proc/self/stat").read_text(encoding="utf-8").partition(")")
    stat = tmp_path / "stat"
    stat.write_text(f"{name} ) S 1 2) R 3){rest}", encoding="utf-8")
    true = seconds_since_start()
    monkeypatch.setattr(startup, "_STAT", stat)
    assert seconds_since_start() == pytest.approx(true, abs=1)


@pytest.mark.parametrize("text", [None, "", "1 (python) S 1 2 3", f"1 (python) {'x ' * 40}"])
def test_where_the_platform_does_not_tell_it_is_zero(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No start-up is counted rather than a wrong one."""
    stat = tmp_path / "stat"
    if text is not None:
        stat.write_text(text, encoding="utf-8")
    monkeypatch.setattr(startup, "_STAT", stat)
    assert seconds_since_start() == 0.0


@linux_only
def test_a_start_in_the_future_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a container shifts makes no age negative."""
    before, _, rest = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")
    fields = rest.split()
    fields[19] = str(10**12)
    stat = tmp_path / "stat"
    stat.write_text(f"{before}) {' '.join(fields)}", encoding="utf-8")
    monkeypatch.setattr(startup, "_STAT", stat)
    assert seconds_since_start() == 0.0
