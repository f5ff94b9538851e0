"""Instructions: how many one call executes, counted under valgrind. A tripwire, never the verdict.

Counts hardly change from run to run, so they show a change that times on a busy machine hide. They know
nothing of caches, of how long an instruction takes, and of AVX-512, which valgrind does not have.

Valgrind is slow: importing torch takes 13 s in place of 1.5 s, and 54 s where every instruction is counted
from the start. So counting is switched on only around the calls, by the requests of valgrind's own header,
which torch brings along; without a C compiler for them it is on from the start.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NoReturn, Protocol

import torch

from harness.bench.catalog import load_catalogue
from harness.bench.measure.arithmetic import forbid_tf32
from harness.bench.measure.scratch import Scratch
from harness.bench.measure.sharedlibrary import compile_library
from harness.bench.measure.subject import Subject
from harness.bench.measure.workers import PINNED_ALLOCATOR
from harness.paper.record import CaseId, Reading
from harness.paper.units import Unit

# At most; a call that takes seconds under valgrind is counted once and twice, and no more.
REPEATS = 3
# CPython specialises bytecode over some fifty calls: 6 % of a small training call.
_WARM_UP_CALLS = 200
_WARM_UP_SECONDS = 5.0
# malloc's searches differ from call to call; a few calls even that out to some thousandths.
_MOST_CALLS = 20
_COUNTING_SECONDS = 15.0
_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_SWITCH = """
#include <callgrind.h>
void start_instrumentation(void) { CALLGRIND_START_INSTRUMENTATION; }
"""
_MEANS = (
    "instructions of the program, without the kernel's; a tripwire, never the verdict: it hides caches and "
    "the cost of each instruction, and valgrind has no AVX-512, so narrower kernels may have run"
)


@dataclass(frozen=True)
class Request:
    """What the process under valgrind is asked for. switch: the library that turns counting on, or none."""

    case: CaseId
    folders: tuple[str, ...]
    threads: int
    seconds: float
    dumps: str
    result: str
    switch: str | None

    def as_json(self) -> str:
        """Return the request as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """Read a request back."""
        content = json.loads(text)
        return cls(**{**content, "case": CaseId(**content["case"]), "folders": tuple(content["folders"])})


def count_instructions(
    case: CaseId, folders: Sequence[Path], threads: int = 1, timeout: float = 300.0
) -> Reading:
    """Count the instructions of one timed call of a case, in a process of its own under valgrind.

    folders: the case packages. timeout: seconds after which the process is stopped.
    """
    reason = why_not(case.device)
    if reason is not None:
        return Reading.missing(Unit.INSTRUCTIONS_PER_CALL, reason)
    started = time.perf_counter()
    with closing(Scratch()) as scratch:
        request = Request(
            case=case,
            folders=tuple(str(folder) for folder in folders),
            threads=threads,
            seconds=min(_COUNTING_SECONDS, timeout / 4),
            dumps=str(scratch.path / "callgrind.out"),
            result=str(scratch.path / "instructions.json"),
            switch=_make_switch(scratch.path),
        )
        found = _run_under_valgrind(request, scratch.path / "valgrind.log", timeout)
    if "reason" in found:
        return Reading.missing(Unit.INSTRUCTIONS_PER_CALL, str(found["reason"]))
    return instructions_reading(found, threads, time.perf_counter() - started)


def why_not(device: str) -> str | None:
    """Return the reason why instructions cannot be counted here, or None."""
    if device != "cpu":
        return f"valgrind counts the instructions of the processor, and the case runs on {device}"
    if not torch._C._valgrind_supported_platform():
        return "this build of torch cannot talk to valgrind on this platform"
    if shutil.which("valgrind") is None:
        return "valgrind is not installed: install the package valgrind of this system"
    return None


def instructions_reading(found: Mapping[str, Any], threads: int, seconds: float) -> Reading:
    """Turn the counts of N and of 2N calls into instructions per call."""
    calls = found["calls"]
    per_call = [(double - single) / calls for single, double in found["counts"]]
    value = median(per_call)
    return Reading(
        unit=Unit.INSTRUCTIONS_PER_CALL,
        value=value,
        low=min(per_call),
        high=max(per_call),
        samples=tuple(per_call),
        facts={
            "means": _MEANS,
            "calls": calls,
            "repeats": len(per_call),
            # One repeat tells nothing of the spread.
            "spread": (max(per_call) - min(per_call)) / value if value and len(per_call) > 1 else None,
            "threads": threads,
            "valgrind": found.get("valgrind"),
            "counted_from_the_start": found["counted_from_the_start"],
            "seconds": seconds,
        },
    )


def _make_switch(folder: Path) -> str | None:
    """Compile what turns counting on; None where there is no compiler or no header."""
    headers = Path(torch.__file__).parent / "utils" / "benchmark" / "utils" / "valgrind_wrapper"
    source, library = folder / "switch.c", folder / "switch.so"
    source.write_text(_SWITCH, encoding="utf-8")
    return None if compile_library(source, library, f"-I{headers}") else str(library)


def _run_under_valgrind(request: Request, log: Path, timeout: float) -> dict[str, Any]:
    threads = str(request.threads)
    environment = {
        **os.environ,
        **PINNED_ALLOCATOR,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": "1",
        # The order of sets and dictionaries of strings is part of the program that is counted.
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--instr-atstart={'no' if request.switch else 'yes'}",
        "--collect-atstart=no",
        f"--callgrind-out-file={request.dumps}",
        f"--log-file={log}",
        *(sys.executable, "-P", "-m", "harness.bench.measure.instructions", request.as_json()),
    ]
    try:
        done = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"under valgrind it did not end within {timeout:g} s and was stopped"}
    result = Path(request.result)
    if done.returncode == 0 and result.exists():
        content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return {**content, "valgrind": _version(log)}
    return {"reason": f"under valgrind its process ended with {_ending(done, log)}"}


def _version(log: Path) -> str | None:
    """Read the version from what valgrind prints first."""
    found = re.search(r"Valgrind-([\w.]+)", log.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else None


def _ending(done: subprocess.CompletedProcess[str], log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    if "unrecognised instruction" in text or "Unrecognised instruction" in text:
        return "an instruction that valgrind does not know, such as one of AVX-512"
    lines = done.stderr.strip().splitlines()
    return f"exit code {done.returncode}" + (f"; it printed last: {lines[-1][:300]}" if lines else "")


def main(arguments: Sequence[str]) -> NoReturn:
    """Serve one request; this runs under valgrind."""
    request = Request.from_json(arguments[0])
    Path(request.result).write_text(json.dumps(_serve(request)), encoding="utf-8")
    # Taking an interpreter with torch in it apart takes seconds under valgrind, and nobody waits for it.
    sys.stderr.flush()
    os._exit(0)


def _serve(request: Request) -> dict[str, Any]:
    torch.set_num_threads(request.threads)
    torch.set_flush_denormal(True)
    forbid_tf32()
    subject = Subject.of(load_catalogue(Path(folder) for folder in request.folders), request.case)
    if subject.implementation.kind != "eager":
        kind = subject.implementation.kind
        return {
            "reason": f"the implementation is {kind}: its code is made for AVX-512 where the processor has it"
        }
    call = subject.timed_call().run
    _warm_up(call)
    if request.switch:
        ctypes.CDLL(request.switch).start_instrumentation()
    counter = Callgrind(Path(request.dumps))
    return {**count(call, counter, request.seconds), "counted_from_the_start": request.switch is None}


def _warm_up(call: Callable[[], object]) -> None:
    end = time.perf_counter() + _WARM_UP_SECONDS
    for _ in range(_WARM_UP_CALLS):
        call()
        if time.perf_counter() > end:
            return


class Callgrind:
    """Counts the instructions between two moments, in a process that runs under callgrind.

    dumps: where callgrind writes what it counted; each counting writes the next number behind it.
    """

    def __init__(self, dumps: Path) -> None:
        self._on, self._off = torch._C._valgrind_toggle, torch._C._valgrind_toggle_and_dump_stats
        self._dumps = dumps
        self._written = 0

    def count(self, call: Callable[[], object], calls: int) -> int:
        """Count the instructions of ``calls`` calls, and of the loop around them."""
        repeat = range(calls)
        self._on()
        for _ in repeat:
            call()
        self._off()
        self._written += 1
        dump = self._dumps.with_name(f"{self._dumps.name}.{self._written}")
        found = _TOTALS.search(dump.read_text(encoding="utf-8", errors="replace"))
        assert found is not None, f"callgrind wrote no total into {dump}"
        dump.unlink()
        return int(found[1])


class Counter(Protocol):
    """Counts the instructions of some calls."""

    def count(self, call: Callable[[], object], calls: int) -> int:
        """Return the instructions of ``calls`` calls and of whatever surrounds them."""


def count(call: Callable[[], object], counter: Counter, seconds: float) -> dict[str, Any]:
    """Count N and 2N calls, several times; their difference knows neither start-up nor the loop's own.

    seconds: about how long counting may take; N and the repeats are chosen for it, at least one of each.
    """
    gc.collect()
    gc.disable()
    try:
        each = _seconds_of(lambda: counter.count(call, 1))
        if each < seconds / 10:
            # Valgrind translates code when it first runs, so the first call is no measure of the next.
            each = _seconds_of(lambda: counter.count(call, 1))
        rounds = seconds / (3 * max(each, 1e-9))
        repeats = max(1, min(REPEATS, int(rounds)))
        calls = max(1, min(_MOST_CALLS, int(rounds / repeats)))
        counts = [(counter.count(call, calls), counter.count(call, 2 * calls)) for _ in range(repeats)]
    finally:
        gc.enable()
    return {"calls": calls, "counts": counts}


def _seconds_of(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
