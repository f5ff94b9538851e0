"""Holds the memory that sameop reads beside malloc's own high-water mark, in one process and case by case.

``python -m harness.validation.memory`` takes operators of the project at hand, forward and training, and
compares what the meter reads with the mark of one further call, above what was held before it. The mark
comes from a library that is preloaded and counts every block that malloc hands out, so it sees what the
meter sees (tensors) and what it might not (the scratch of kernels). The meter leaves out the objects that
describe tensors, some 350 bytes each. Where an operator makes thousands of tiny tensors the difference is
explained only if these objects, which the library counts by themselves, close it to the same limits. The
command exits with 1 where one is out.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness.doors.project import find_project
from harness.paper.errors import Exit, NothingToMeasureError, SameopError
from harness.paper.record import CaseId
from harness.paper.units import format_bytes
from harness.validation.command import Parser, run_command, say, write

if TYPE_CHECKING:
    from harness.bench.catalog import Catalogue
    from harness.bench.cost import Cost
    from harness.bench.dims import Dims, Workload
    from harness.bench.pages import Implementation, Scope

SOURCE = Path(__file__).with_name("highwater.c")
# A compiler that takes malloc for the one it knows may leave out what is written in front of a block.
FLAGS = ("-fno-builtin",)
# A reading may be off by this share and by what the interpreter itself allocates meanwhile.
SHARE, BYTES = 0.02, 64 * 1024
# Outputs within these limits, in bytes: below, the interpreter is what is seen; above, a call takes long.
SMALLEST, LARGEST = 100_000, 30_000_000
_MOST_MACS = 300_000_000
# The allocator's caches, primitives and autotuning settle within these calls.
_WARM_UP_CALLS = 3
_ROW = "{:<76}{:>12}{:>12}{:>12}  {}"


@dataclass(frozen=True)
class Compared:
    """One case: what the meter read and what malloc says, in bytes, or the reason for none.

    objects: what of the mark are small objects such as those that describe tensors.
    """

    case: str
    reading: float | None
    mark: float | None
    objects: float = 0.0
    reason: str | None = None

    @property
    def difference(self) -> float | None:
        """The reading less the mark, in bytes."""
        return None if self.reading is None or self.mark is None else self.reading - self.mark

    @property
    def verdict(self) -> str:
        """Whether the two agree."""
        if self.difference is None:
            return "none"
        if self._is_within(self.difference):
            return "agrees"
        return "explained" if self._is_within(self.difference + self.objects) else "is out"

    @property
    def told(self) -> str:
        """The verdict with its reason, where one is known."""
        if self.difference is None:
            return f"none: {self.reason}"
        if self.verdict == "explained":
            return f"explained by objects that describe tensors: {format_bytes(self.objects)} of the mark"
        return self.verdict

    def _is_within(self, difference: float) -> bool:
        return self.mark is not None and abs(difference) <= SHARE * self.mark + BYTES

    def as_json(self) -> dict[str, Any]:
        """Return the row as the document of ``--json`` has it."""
        return {**asdict(self), "difference": self.difference, "verdict": self.verdict, "told": self.told}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, printed with its meaning."""
    return run_command(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.validation.memory", description=__doc__)
    parser.add_argument("operator", nargs="?", default="*", help="a glob of operators' names")
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    return parser


def _run(options: argparse.Namespace) -> Exit:
    project = find_project(Path.cwd())
    cases = list(choose(project.load(), options.operator))
    if not cases:
        raise NothingToMeasureError(
            f"No operator like {options.operator!r} has a workload whose output takes between "
            f"{format_bytes(SMALLEST)} and {format_bytes(LARGEST)}: name another."
        )
    if not options.json:
        write(_ROW.format("case", "reading", "mark", "difference", "verdict"))
    rows = []
    for row in compare(cases, project.folders):
        rows.append(row)
        if not options.json:
            write(told(row))
    counts = Counter(row.verdict for row in rows)
    if options.json:
        document = {"share": SHARE, "bytes": BYTES, "rows": [row.as_json() for row in rows]}
        write(json.dumps({**document, "verdicts": counts}))
    say(summary(counts))
    return Exit.PASS if counts["agrees"] and not counts["is out"] + counts["none"] else Exit.FAILED


def summary(counts: Mapping[str, int]) -> str:
    """Say how many rows of each verdict there are."""
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"Within {SHARE:.0%} and {format_bytes(BYTES)}: {words}."


def told(row: Compared) -> str:
    """Write a row of the table."""
    sizes = (row.reading, row.mark, row.difference)
    return _ROW.format(row.case, *("" if size is None else format_bytes(size) for size in sizes), row.told)


def choose(catalogue: Catalogue, pattern: str) -> Iterator[CaseId]:
    """Name the cases to compare: of each operator every eager form at its smallest workload within limits.

    The best form is compared at the largest as well, in float64, and in the training direction.
    """
    for operator in catalogue.operators_like(pattern):
        scope = next(iter(operator.scopes.values()))
        fitting = [workload for workload in scope.workloads if _fits(scope.cost(workload.dims))]
        if not fitting:
            continue
        fitting.sort(key=lambda workload: scope.cost(workload.dims).elements_written)
        cases = [_case(scope, form, fitting[0]) for form in _forms(scope, fitting[0].dims)]
        best = scope.best_eager(fitting[-1].dims)
        for dtype, direction in (("float32", "forward"), ("float64", "forward"), ("float32", "training")):
            cases.append(_case(scope, best, fitting[-1], dtype, direction))
        yield from dict.fromkeys(cases)


def _case(
    scope: Scope,
    form: Implementation,
    workload: Workload,
    dtype: str = "float32",
    direction: str = "forward",
) -> CaseId:
    return CaseId(scope.operator.name, scope.name, form.name, workload.name, dtype, "cpu", direction)


def _fits(cost: Cost) -> bool:
    return SMALLEST <= 4 * cost.elements_written <= LARGEST and cost.macs <= _MOST_MACS


def _forms(scope: Scope, dims: Dims) -> Iterator[Implementation]:
    for form in scope.implementations.values():
        if form.kind == "eager" and "cpu" in form.devices and form.refusal(dims) is None:
            yield form


def compare(cases: Iterable[CaseId], folders: Iterable[Path]) -> Iterator[Compared]:
    """Compare case by case, in processes prepared as those that measure, with malloc's mark preloaded.

    Raises :class:`SameopError` where the library cannot be made.
    """
    from harness.bench.measure.scratch import Scratch
    from harness.bench.measure.sharedlibrary import compile_library
    from harness.bench.measure.workers import PINNED_ALLOCATOR

    if sys.platform != "linux":
        raise SameopError(
            f"Malloc's mark needs glibc, and this system is {sys.platform}: compare on Linux instead."
        )
    with closing(Scratch()) as scratch:
        library = scratch.path / "highwater.so"
        reason = compile_library(SOURCE, library, *FLAGS)
        if reason is not None:
            raise SameopError(f"The library that counts malloc's blocks cannot be made: {reason}.")
        environment = {
            **os.environ,
            **PINNED_ALLOCATOR,
            **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "LD_PRELOAD": str(library),
        }
        program = "from harness.validation.memory import serve; serve()"
        request = {
            "library": str(library),
            "folders": [str(folder) for folder in folders],
            "cases": [asdict(case) for case in cases],
        }
        command = [sys.executable, "-P", "-c", program]
        with (scratch.path / "comparison.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        answered = 0
        for row in _ask(process, request):
            answered += 1
            yield row
        if answered < len(request["cases"]):
            lines = Path(log.name).read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing"]
            raise SameopError(
                f"The process that compares ended after {answered} of {len(request['cases'])} cases with "
                f"exit code {process.returncode}; it printed last: {lines[-1]}"
            )


def _ask(process: subprocess.Popen[str], request: dict[str, Any]) -> Iterator[Compared]:
    """Hand in the request and take the rows as they come; the process ends with the last, or is ended."""
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        try:
            for line in process.stdout:
                yield Compared(**json.loads(line))
        finally:
            process.kill()


def serve() -> None:
    """Answer one request; this runs with the library preloaded, and forks a process for every case."""
    # What it starts itself is not to be counted.
    os.environ.pop("LD_PRELOAD", None)
    request = json.loads(sys.stdin.read())
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    # The profiler imports this in seconds: once here, not in every process.
    import torch._dynamo  # noqa: F401

    from harness.bench.catalog import load_catalogue

    catalogue = load_catalogue(Path(folder) for folder in request["folders"])
    mark = Mark(request["library"])
    for content in request["cases"]:
        case = CaseId(**content)
        replies.write(json.dumps(asdict(_in_its_own_process(catalogue, case, mark))) + "\n")
        replies.flush()


def _in_its_own_process(catalogue: Catalogue, case: CaseId, mark: Mark) -> Compared:
    # No operator has run here: a fork after OpenMP code would hang.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compare_one, args=(catalogue, case, mark, sender))
    process.start()
    sender.close()
    try:
        found: Compared = receiver.recv()
    except EOFError:
        process.join()
        found = Compared(str(case), None, None, reason=f"its process ended with exit code {process.exitcode}")
    process.join()
    return found


def _compare_one(catalogue: Catalogue, case: CaseId, mark: Mark, replies: Connection) -> None:
    import torch

    from harness.bench.measure.memory import read_memory
    from harness.bench.measure.subject import Subject

    try:
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        subject = Subject.of(catalogue, case)
        call = subject.timed_call().run
        for _ in range(_WARM_UP_CALLS):
            call()
        reading = read_memory(subject, call)
        # What the profiler left behind is no part of the next call.
        call()
        replies.send(Compared(str(case), reading.value, *mark.of(call), reading.reason))
    except Exception as error:
        replies.send(Compared(str(case), None, None, reason=f"it raised {type(error).__name__}: {error}"))


class Mark:
    """Malloc's high-water mark in this process, where the library at ``path`` is preloaded."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        self._reset = library.highwater_reset
        self._held, self._objects, self._peak, self._peak_objects = (
            _counter(library, name) for name in ("held", "objects", "peak", "peak_objects")
        )
        if not self._held():
            raise SameopError("Malloc's blocks are not counted here: is another allocator preloaded?")

    def of(self, call: Callable[[], object]) -> tuple[float, float]:
        """Return the most bytes that one call held above what was held before it, and the objects of them."""
        self._reset()
        held, objects = self._held(), self._objects()
        result = call()
        peak, peak_objects = self._peak(), self._peak_objects()
        del result
        return float(peak - held), float(peak_objects - objects)


def _counter(library: ctypes.CDLL, name: str) -> Callable[[], int]:
    function = library[f"highwater_{name}"]
    function.restype = ctypes.c_longlong
    return cast("Callable[[], int]", function)


if __name__ == "__main__":
    sys.exit(main())
