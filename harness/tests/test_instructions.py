"""Instructions per call, from counters and a valgrind that the tests make, and once from the real one."""

from __future__ import annotations

import gc
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.bench.measure import instructions
from harness.bench.measure.instructions import Request, count, count_instructions, instructions_reading
from harness.bench.measure.sharedlibrary import c_compiler, compile_library
from harness.paper.record import CaseId
from harness.paper.units import Unit
from harness.tests.projects import make_project

CASE = CaseId("scale", "core", "reference", "tiny/one", "float32", "cpu", "forward")


class Pretended:
    """A counter that counts 1000 instructions for a call, 70 for a turn of the loop and 333 for itself."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def count(self, call: Callable[[], object], calls: int) -> int:
        """Count as if the calls had been made."""
        self.asked.append(calls)
        return 333 + 1070 * calls


def valgrind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a program of the name ``valgrind`` first on the path."""
    if sys.platform == "win32":
        pytest.skip("a shell script is no program on Windows")
    path = tmp_path / "bin" / "valgrind"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(path.parent), prepend=":")
    monkeypatch.setattr(torch._C, "_valgrind_supported_platform", lambda: True)


def test_start_and_end_of_counting_are_not_counted() -> None:
    """The difference between N and 2N calls holds N calls and nothing that happens once."""
    found = count(lambda: None, Pretended(), seconds=1.0)
    reading = instructions_reading({**found, "counted_from_the_start": False}, threads=1, seconds=2.0)
    assert (reading.unit, reading.value) == (Unit.INSTRUCTIONS_PER_CALL, 1070)
    assert (reading.low, reading.high, reading.samples) == (1070, 1070, (1070, 1070, 1070))
    assert {name: reading.facts[name] for name in ("calls", "repeats", "spread", "threads")} == {
        "calls": 20,
        "repeats": 3,
        "spread": 0.0,
        "threads": 1,
    }


@pytest.mark.parametrize(
    ("seconds", "asked"),
    [
        (0.001, [1, 1, 2]),  # No second trial, one repeat.
        (0.35, [1, 1, *(1, 2) * 3]),
        (100.0, [1, 1, *(20, 40) * 3]),
    ],
)
def test_how_often_is_counted_follows_from_the_time(
    seconds: float, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one call takes up the time it is counted once and twice; where there is time, all is repeated."""
    counter = Pretended()
    monkeypatch.setattr(instructions, "_seconds_of", lambda action: action() and 0.03)
    count(lambda: None, counter, seconds)
    assert counter.asked == asked


def test_spread_is_told() -> None:
    """The value is the median of the repeats, and the spread the distance of the others over it."""
    found = {"calls": 2, "counts": [(10, 210), (10, 212), (10, 250)], "counted_from_the_start": True}
    reading = instructions_reading(found, threads=2, seconds=1.0)
    assert (reading.value, reading.low, reading.high) == (101, 100, 120)
    assert reading.facts["spread"] == pytest.approx(20 / 101)
    assert reading.facts["counted_from_the_start"] is True


def test_one_repeat_has_no_spread() -> None:
    """Where only one repeat was made the spread is unknown, and not zero."""
    found = {"calls": 1, "counts": [(10, 210)], "counted_from_the_start": False}
    assert instructions_reading(found, threads=1, seconds=1.0).facts["spread"] is None


def test_the_collector_works_again_after_a_call_that_raises() -> None:
    """Counting switches the collector of cycles off, and on again whatever happens."""

    class Broken(Pretended):
        def count(self, call: Callable[[], object], calls: int) -> int:
            assert not gc.isenabled()
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        count(lambda: None, Broken(), seconds=1.0)
    assert gc.isenabled()


def test_a_request_survives_the_command_line() -> None:
    """The process under valgrind reads what was asked."""
    request = Request(CASE, ("a b", "c"), 2, 1.5, "dumps", "result", None)
    assert Request.from_json(request.as_json()) == request


def test_no_valgrind_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without valgrind there is a reason that says what to install."""
    monkeypatch.setattr(torch._C, "_valgrind_supported_platform", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    reading = count_instructions(CASE, [])
    assert (reading.unit, reading.value) == (Unit.INSTRUCTIONS_PER_CALL, None)
    assert reading.reason == "valgrind is not installed: install the package valgrind of this system"


def test_a_platform_without_valgrind_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that was built without valgrind's requests is a reason."""
    monkeypatch.setattr(torch._C, "_valgrind_supported_platform", lambda: False)
    reason = count_instructions(CASE, []).reason
    assert reason == "this build of torch cannot talk to valgrind on this platform"


def test_a_gpu_is_a_reason() -> None:
    """A case on CUDA is not counted."""
    case = CaseId(*str(CASE).replace("cpu", "cuda").split("/"))
    reason = count_instructions(case, []).reason
    assert reason == "valgrind counts the instructions of the processor, and the case runs on cuda"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            'echo "it broke" >&2\nexit 3',
            "under valgrind its process ended with exit code 3; it printed last: it broke",
        ),
        ("exec sleep 60", "under valgrind it did not end within 1 s and was stopped"),
        (
            'for word; do case "$word" in --log-file=*) log="${word#--log-file=}";; esac; done\n'
            'echo "vex amd64->IR: unhandled instruction bytes: 0x62\nUnrecognised instruction" > "$log"\n'
            "kill -ILL $$",
            "under valgrind its process ended with an instruction that valgrind does not know, "
            "such as one of AVX-512",
        ),
    ],
    ids=["an error", "too long", "an unknown instruction"],
)
def test_a_process_that_fails_is_a_reason(
    script: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the process, there is a sentence and no number."""
    valgrind(tmp_path, monkeypatch, script)
    reading = count_instructions(CASE, [], timeout=1.0)
    assert (reading.value, reading.reason) == (None, reason)


def test_a_file_that_does_not_compile_is_a_reason(tmp_path: Path) -> None:
    """What the compiler says first is part of the reason, and no compiler is one."""
    source = tmp_path / "wrong.c"
    source.write_text("this is no C\n")
    reason = compile_library(source, tmp_path / "wrong.so")
    if c_compiler() is None:
        assert reason == "no C compiler was found: install one, or name it in the variable CC"
    else:
        assert reason is not None
        assert "does not compile wrong.c: " in reason


def test_real_instructions_hardly_spread(tmp_path: Path) -> None:
    """Under the real valgrind a call of some thousand instructions is counted alike in every repeat."""
    reason = instructions.why_not("cpu")
    if reason is not None:
        pytest.skip(reason)
    project = make_project(tmp_path)
    reading = count_instructions(CASE, [project.page.parent])
    assert reading.reason is None
    assert reading.value is not None
    # A multiplication of 24 numbers is all dispatch: far above a hundred and far below a million.
    assert 1e2 < reading.value < 1e6
    assert reading.facts["spread"] < 0.05
    assert reading.facts["valgrind"].count(".") == 2
