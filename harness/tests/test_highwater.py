"""Malloc's high-water mark, on blocks of known sizes, and the comparison that it is made for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.bench.catalog import load_catalogue
from harness.bench.measure.sharedlibrary import c_compiler, compile_library
from harness.paper.errors import SameopError
from harness.paper.record import CaseId
from harness.tests.projects import Project, environment, make_project
from harness.validation import memory
from harness.validation.memory import FLAGS, SOURCE, Compared, choose, told

MIB = 1 << 20

needs_shim = pytest.mark.skipif(
    sys.platform != "linux" or c_compiler() is None,
    reason="malloc's mark needs Linux and a C compiler, and one of them is missing",
)

# What a process with the library preloaded does first; then follows what a test asks.
_BEFORE = """
import ctypes, gc, json, sys, threading

gc.disable()
c, mark = ctypes.CDLL(None), ctypes.CDLL(sys.argv[1])
for name in ("malloc", "calloc", "realloc", "memalign", "aligned_alloc", "valloc", "pvalloc", "reallocarray"):
    getattr(c, name).restype = ctypes.c_void_p
for name in ("held", "objects", "peak", "peak_objects"):
    getattr(mark, "highwater_" + name).restype = ctypes.c_longlong
size, block = ctypes.c_size_t, ctypes.c_void_p
MIB = 1 << 20


def aligned(alignment, bytes):
    place = block()
    assert c.posix_memalign(ctypes.byref(place), size(alignment), size(bytes)) == 0
    return place.value


def free(place):
    c.free(block(place))


def watch(action):
    mark.highwater_reset()
    before, objects = mark.highwater_held(), mark.highwater_objects()
    action()
    return {
        "peak": mark.highwater_peak() - before,
        "held": mark.highwater_held() - before,
        "objects": mark.highwater_peak_objects() - objects,
    }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the library."""
    path = tmp_path_factory.mktemp("highwater") / "highwater.so"
    assert compile_library(SOURCE, path, *FLAGS, "-Wall", "-Wextra", "-Werror") is None
    return path


def watched(library: Path, action: str) -> Mapping[str, Any]:
    """Run the statements of an action in a process with the library preloaded; return what was counted."""
    body = "\n".join(f"    {line}" for line in action.splitlines())
    program = f"{_BEFORE}\n\ndef action():\n{body}\n\n\nprint(json.dumps(watch(action)))\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(library)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "LD_PRELOAD": str(library)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@needs_shim
@pytest.mark.parametrize(
    ("action", "peak", "held"),
    [
        ("c.malloc(size(MIB))", 1, 1),
        ("free(c.malloc(size(MIB)))", 1, 0),
        ("for _ in range(9): free(c.malloc(size(MIB)))", 1, 0),
        ("places = [c.malloc(size(MIB)) for _ in range(9)]\nfor place in places: free(place)", 9, 0),
        # Far above the limit from which malloc maps a block of its own.
        ("free(c.malloc(size(200 * MIB)))", 200, 0),
        ("free(c.calloc(size(1024), size(2048)))", 2, 0),
        # It grows where it lies or moves: then both blocks are there for a while.
        ("free(c.realloc(block(None), size(MIB)))", 1, 0),
        ("c.realloc(block(c.malloc(size(4 * MIB))), size(MIB))", 4, 1),
        ("c.realloc(block(aligned(64, MIB)), size(4 * MIB))", 5, 4),
        ("c.realloc(block(c.malloc(size(MIB))), size(0))", 1, 0),
        ("free(c.reallocarray(block(None), size(1024), size(2048)))", 2, 0),
        ("free(aligned(64, MIB))", 1, 0),
        ("free(aligned(8, MIB))", 1, 0),
        ("free(aligned(2 * MIB, MIB))", 1, 0),
        ("free(c.memalign(size(4096), size(MIB)))", 1, 0),
        ("free(c.aligned_alloc(size(64), size(MIB)))", 1, 0),
        ("free(c.valloc(size(MIB)))", 1, 0),
        ("free(c.pvalloc(size(MIB - 5)))", 1, 0),
        # What cannot be had is not counted.
        ("assert c.malloc(ctypes.c_size_t(-1)) is None", 0, 0),
        ("assert c.calloc(size(1 << 40), size(1 << 40)) is None", 0, 0),
        ("assert c.reallocarray(block(None), size(1 << 40), size(1 << 40)) is None", 0, 0),
        ("assert c.posix_memalign(ctypes.byref(block()), size(24), size(MIB)) == 22", 0, 0),
    ],
)
def test_blocks_count_while_they_are_there(library: Path, action: str, peak: int, held: int) -> None:
    """Every way to request memory counts its bytes once, from the request to the release."""
    found = watched(library, action)
    # The interpreter allocates a little for itself meanwhile.
    assert found["peak"] == pytest.approx(peak * MIB, abs=8192)
    assert found["held"] == pytest.approx(held * MIB, abs=8192)


@needs_shim
def test_contents_survive(library: Path) -> None:
    """Blocks keep their alignment, and what is in them when they move."""
    watched(
        library,
        "for alignment in (8, 16, 32, 64, 4096):\n"
        "    place = aligned(alignment, 1000)\n"
        "    assert place % alignment == 0\n"
        "    ctypes.memset(place, 7, 1000)\n"
        "    for bytes in (5000, 10 * MIB, 100):\n"
        "        place = c.realloc(block(place), size(bytes))\n"
        "        assert place % 16 == 0\n"
        "        assert ctypes.string_at(place, 100) == b'\\x07' * 100\n"
        "place = c.calloc(size(1000), size(7))\n"
        "assert ctypes.string_at(place, 7000) == bytearray(7000)",
    )


@needs_shim
def test_objects_are_small_and_not_aligned(library: Path) -> None:
    """Small blocks count as objects at the moment of the peak, and aligned or large ones do not."""
    found = watched(
        library,
        "places = [c.malloc(size(1000)) for _ in range(500)]\n"
        "places += [aligned(64, 1000) for _ in range(500)]\n"
        "places += [c.malloc(size(2000)) for _ in range(500)]\n"
        "for place in places: free(place)",
    )
    # The list of the places grows too.
    assert found["peak"] == pytest.approx(2_000_000, abs=40_000)
    assert found["objects"] == pytest.approx(500_000, abs=40_000)


@needs_shim
def test_threads_lose_no_byte(library: Path) -> None:
    """Threads that allocate at once leave the count where it was, and the peak below their sum."""
    found = watched(
        library,
        "def work():\n"
        "    for _ in range(500): free(c.malloc(size(MIB)))\n"
        "threads = [threading.Thread(target=work) for _ in range(4)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()",
    )
    assert MIB <= found["peak"] <= 4 * MIB + 256 * 1024
    assert found["held"] == pytest.approx(0, abs=128 * 1024)


@pytest.mark.parametrize(
    ("row", "verdict", "words"),
    [
        (Compared("a", 1000.0 * MIB, 1000.0 * MIB), "agrees", "agrees"),
        (Compared("a", 980.0 * MIB, 1000.0 * MIB), "agrees", "agrees"),
        (Compared("a", 1021.0 * MIB, 1000.0 * MIB), "is out", "is out"),
        (Compared("a", 979.0 * MIB, 1000.0 * MIB), "is out", "is out"),
        (Compared("a", 0.0, 65536.0), "agrees", "agrees"),
        (Compared("a", 0.0, 66900.0), "is out", "is out"),
        (
            Compared("a", 1.0 * MIB, 2.0 * MIB, 1.0 * MIB),
            "explained",
            "explained by objects that describe tensors: 1.00 MiB of the mark",
        ),
        (Compared("a", 4.0 * MIB, 2.0 * MIB, 1.0 * MIB), "is out", "is out"),
        (Compared("a", None, 2.0, 0.0, "nobody knows"), "none", "none: nobody knows"),
    ],
)
def test_verdicts(row: Compared, verdict: str, words: str) -> None:
    """A reading agrees within 2 % and 64 KiB, and what it is out by is told where it is known."""
    assert (row.verdict, row.told) == (verdict, words)
    assert told(row).endswith(f"  {words}")
    assert row.as_json()["verdict"] == verdict


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a project whose operator has an output of 1 MiB, and one that is too small to be compared."""
    made = make_project(tmp_path)
    text = made.page.read_text()
    large = 'Workload("tiny/one", Dims(B=4, C=6), "made for a test"), '
    large += 'Workload("wide/one", Dims(B=64, C=4096), "made for a test")'
    old = 'Workload("tiny/one", Dims(B=4, C=6), "made for a test")'
    assert old in text
    made.page.write_text(text.replace(old, large))
    return made


def test_cases_are_chosen_by_size(project: Project) -> None:
    """Every eager form is compared where the output is neither tiny nor huge, the best in three more ways."""
    cases = list(choose(load_catalogue([project.page.parent]), "*"))
    assert [str(case) for case in cases] == [
        "scale/core/reference/wide-one/float32/cpu/forward",
        "scale/core/reference/wide-one/float64/cpu/forward",
        "scale/core/reference/wide-one/float32/cpu/training",
    ]


@needs_shim
def test_the_command_compares(project: Project) -> None:
    """In a project of its own the command compares its operator, and the two agree."""
    done = subprocess.run(
        [sys.executable, "-m", "harness.validation.memory", "--json"],
        cwd=project.root,
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "exit 0: pass")
    document = json.loads(done.stdout)
    assert document["verdicts"] == {"agrees": len(document["rows"])}
    forward, double = document["rows"][0], document["rows"][-2]
    assert forward["mark"] == pytest.approx(MIB, abs=memory.BYTES)
    assert double["mark"] == pytest.approx(2 * MIB, abs=memory.BYTES)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing_like_it"], 4, "No operator is named 'nothing_like_it'"),
        (["--unknown"], 4, "Unrecognized arguments: --unknown: see `python -m harness.validation.memory"),
    ],
)
def test_mistakes_are_sentences(
    arguments: list[str],
    code: int,
    words: str,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong name or option is one sentence and the exit code of usage."""
    monkeypatch.chdir(project.root)
    assert memory.main(arguments) == code
    assert words in capsys.readouterr().err


def test_nothing_of_fitting_size_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A selection without a workload of fitting size measures nothing, and says which sizes fit."""
    monkeypatch.chdir(make_project(tmp_path).root)
    assert memory.main([]) == 13
    assert "has a workload whose output takes between 97.7 KiB and 28.6 MiB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda patch: patch.setattr(sys, "platform", "darwin"), "this system is darwin"),
        (lambda patch: patch.setenv("PATH", ""), "no C compiler was found"),
    ],
    ids=["another system", "no compiler"],
)
def test_what_stands_in_the_way_is_told(
    change: Callable[[pytest.MonkeyPatch], None], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without glibc or a compiler nothing is compared, and the reason is told."""
    if sys.platform != "linux" and reason.startswith("no C"):
        pytest.skip("there is no mark on this system in any case")
    monkeypatch.delenv("CC", raising=False)
    change(monkeypatch)
    case = CaseId("scale", "core", "reference", "tiny/one", "float32", "cpu", "forward")
    with pytest.raises(SameopError, match=reason):
        list(memory.compare([case], []))
