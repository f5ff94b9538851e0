"""Plants faults into a small project and holds what ``pytest --benchmark`` makes of them to what it promises.

``python -m harness.validation.faults`` writes a project with three sound implementations, adds a fault among
them, measures it, and tells for each fault: the status and the sentence of its record, whether the others
kept their numbers, whether anything that was recorded is lost, and whether a process is left behind. Then it
kills a worker and the measuring process itself by kill -9, and lets the disk fill up. The command exits with
1 where one of them does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.paper.errors import Exit, SameopError
from harness.paper.record import Record, Status
from harness.paper.store import RECORDS_NAME, Run, read_run
from harness.validation.command import Parser, run_command, say, write

# How long a worker may be silent here; a sound one of this project answers within a second.
TIMEOUT_SECONDS = 10
# A run of this project takes some ten seconds on a quiet machine.
_PATIENCE_SECONDS = 240.0
# A neighbour whose processor was shared for the whole time would take twice as long.
KEPT_WITHIN = 1.5
SOUND = ("reference", "before", "after")

_PAGE = '''
"""Scale: every channel has a factor of its own."""

from harness import Cost, Dims, Operator, Workload, activation, parameter

operator = Operator("{name}", family="planted", source="written for this validation")


def reference(x, factor):
    """y[b,c] = factor[c] · x[b,c]."""
    return x * factor


core = operator.scope(
    "core",
    reference=reference,
    inputs=lambda d: {{"x": activation(d.B, d.C), "factor": parameter(d.C)}},
    output=lambda d: (d.B, d.C),
    cost=lambda d: Cost(
        params=d.C, macs=d.B * d.C, elements_read=d.B * d.C + d.C, elements_written=d.B * d.C
    ),
    workloads=[Workload("planted/one", Dims(B=64, C=256), "written for this validation")],
    proof_dims=(Dims(B=2, C=3),),
    polynomial=True,
    counted=lambda d: 0,
    counted_because="elementwise",
)

import ctypes
import os
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
calls = 0


def count():
    global calls
    calls += 1
    return calls


def is_timed():
    """Whether this call is one of those that are timed."""
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "take_turn":
        frame = frame.f_back
    return frame is not None


def wait_in_a_turn():
    """Say which process is in a turn, and wait there while a file stands."""
    while is_timed() and (ROOT / "wait").exists():
        (ROOT / "waiting").write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(0.05)
'''
_IMPLEMENTATION = """

@core.implementation("{name}", preferred=True, counted=lambda d: 0, counted_because="elementwise")
def {name}(x, factor):
{body}
"""
_SOUND = "return factor * x"
_WAITS = "wait_in_a_turn()\nreturn factor * x"


@dataclass(frozen=True)
class Fault:
    """A fault of a page: the body of an implementation, and what its record shall say."""

    name: str
    body: str
    status: Status
    reason: str


def _too_many_bytes() -> int:
    """Return a tebibyte, or a pebibyte where the kernel promises more memory than there is."""
    policy = Path("/proc/sys/vm/overcommit_memory")
    promises = policy.exists() and policy.read_text(encoding="ascii").strip() == "1"
    return 2**50 if promises or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") > 2**39 else 2**40


def page_faults() -> list[Fault]:
    """List the faults that a page can have."""
    crashed, disagreed = Status.CRASHED, "It disagrees with the reference before timing: "
    return [
        Fault(
            "segfault", "ctypes.string_at(0)", crashed, "Its process ended with signal SIGSEGV at scale.py:"
        ),
        Fault("os.abort", "os.abort()", crashed, "Its process ended with signal SIGABRT at scale.py:"),
        Fault(
            "endless loop",
            "while True: pass",
            Status.TIMED_OUT,
            f"It did not end within {TIMEOUT_SECONDS} s and was stopped.",
        ),
        Fault(
            "allocation of a terabyte",
            # At most one page of it is touched, should somebody have so much.
            f"return x * factor + torch.empty({_too_many_bytes()}, dtype=torch.uint8)[0]",
            Status.OUT_OF_MEMORY,
            "It ran out of memory at scale.py:",
        ),
        Fault("NaN", "return x * factor * float('nan')", Status.DISAGREED, disagreed),
        Fault("infinity", "return x * factor / 0", Status.DISAGREED, disagreed),
        Fault(
            "wrong on the third call alone",
            "return x * factor + (count() == 3)",
            Status.NONDETERMINISTIC,
            "It is not deterministic: ",
        ),
        Fault(
            "wrong after timing",
            "global calls\ncalls += is_timed()\nreturn x * factor + (calls > 0)",
            Status.DISAGREED,
            "It disagrees with the reference after timing: ",
        ),
        Fault(
            "dropout left on",
            "return torch.nn.functional.dropout(x * factor, 0.5)",
            Status.NONDETERMINISTIC,
            "It is not deterministic: ",
        ),
        Fault(
            "os._exit(0) in a turn",
            "if is_timed():\n    os._exit(0)\nreturn x * factor",
            crashed,
            "Its process",
        ),
        Fault(
            "kill -9 of the zygote",
            "if is_timed():\n    os.kill(os.getppid(), 9)\nreturn x * factor",
            crashed,
            "The process that its worker was forked from ended with signal SIGKILL.",
        ),
    ]


@dataclass(frozen=True)
class Row:
    """What became of one fault.

    reason: the sentence of its record. fits: whether it is the one that was expected. slowest: the largest
    factor between a neighbour's time and its time without a fault, None where one has no time. lost: what of
    the records is gone or wrong, a sentence, or nothing. left: processes left behind.
    """

    fault: str
    expected: str
    status: str
    reason: str
    fits: bool
    slowest: float | None
    lost: str
    left: int

    @property
    def objections(self) -> list[str]:
        """What does not hold."""
        return [
            *([] if self.status == self.expected else [f"the status is not {self.expected}"]),
            *([] if self.fits else ["the sentence is not the one that was expected"]),
            *([] if self.kept else ["others lost their numbers"]),
            *([self.lost] if self.lost else []),
            *([f"{self.left} processes are left"] if self.left else []),
        ]

    @property
    def kept(self) -> bool:
        """Whether all others kept their numbers."""
        return self.slowest is not None and self.slowest <= KEPT_WITHIN

    @property
    def verdict(self) -> str:
        """Whether what was promised holds."""
        return "; ".join(self.objections) or "holds"

    def as_json(self) -> dict[str, Any]:
        """Return the row as the document of ``--json`` has it."""
        return {
            **asdict(self),
            "others_kept": self.kept,
            "holds": not self.objections,
            "verdict": self.verdict,
        }


class Planted:
    """A project in a folder of its own, and the ways to measure it."""

    def __init__(
        self, root: Path, bodies: Mapping[str, str], second: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        # With one process a case the first page is done, and recorded, before the second is timed.
        self._more = ["--bench-processes=1"] if second else []
        package = root / "ops"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "scale.py").write_text(_page("scale", bodies), encoding="utf-8")
        if second:
            (package / "twice.py").write_text(_page("twice", second), encoding="utf-8")
        (root / "pyproject.toml").write_text('[tool.sameop]\ncases = ["ops"]\n', encoding="utf-8")

    @property
    def records(self) -> Path:
        """The file of the records."""
        return self.root / "run" / RECORDS_NAME

    @property
    def found(self) -> dict[str, Record]:
        """The records by operator and implementation."""
        return {_short(record): record for record in self.run.latest.values()}

    @property
    def run(self) -> Run:
        """The run as it is on disk."""
        return read_run(self.root / "run")

    @contextlib.contextmanager
    def start(self) -> Iterator[subprocess.Popen[str]]:
        """Start measuring; what it prints goes to a file."""
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--benchmark"]
        options = ["--bench-device=cpu", "--bench-run=run", f"--bench-timeout={TIMEOUT_SECONDS}"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        paths = os.pathsep.join(path for path in sys.path if path)
        with (self.root / "printed.txt").open("a", encoding="utf-8") as printed:
            process = subprocess.Popen(
                [*command, *options, *self._more],
                cwd=self.root,
                env={**kept, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                text=True,
            )
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def measure(self) -> int:
        """Measure to the end and return the exit code."""
        with self.start() as process:
            return process.wait(_PATIENCE_SECONDS)

    def wait_for_a_turn(self, process: subprocess.Popen[str]) -> int:
        """Return the process that waits in a turn; raise :class:`SameopError` where none comes so far."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(OSError, ValueError):
                return int((self.root / "waiting").read_text(encoding="utf-8"))
            time.sleep(0.05)
        raise SameopError(f"No worker came as far as its turns; the run printed: {self.printed[-300:]!r}.")

    @property
    def printed(self) -> str:
        """What all sessions printed so far."""
        return (self.root / "printed.txt").read_text(encoding="utf-8", errors="replace")

    def left_behind(self) -> int:
        """Count the processes whose command or folder is of this project, some time after its end."""
        end = time.monotonic() + 10
        while (left := self._processes()) and time.monotonic() < end:
            time.sleep(0.1)
        return len(left)

    def _processes(self) -> list[str]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            # Processes come and go, and some belong to others.
            with contextlib.suppress(OSError):
                told = (folder / "cmdline").read_bytes(), os.fsencode((folder / "cwd").readlink())
                if any(os.fsencode(self.root) in part for part in told):
                    found.append(folder.name)
        return found


def _page(name: str, bodies: Mapping[str, str]) -> str:
    forms = (
        _IMPLEMENTATION.format(name=form, body=textwrap.indent(body, "    ")) for form, body in bodies.items()
    )
    return _PAGE.format(name=name) + "".join(forms)


def _short(record: Record) -> str:
    return f"{record.case.operator}/{record.case.implementation}"


Times = Mapping[str, float]


def _times(found: Mapping[str, Record]) -> dict[str, float]:
    """Return the latencies of the sound implementations that have one."""
    readings = {
        name: record.readings.get("latency")
        for name, record in found.items()
        if record.case.implementation in SOUND and record.status == Status.MEASURED
    }
    return {name: reading.value for name, reading in readings.items() if reading and reading.value}


def _slowest(
    quiet: Times, found: Mapping[str, Record], operators: Sequence[str] = ("scale",)
) -> float | None:
    """Return the largest factor between two measurements of one program, in either direction."""
    times = _times(found)
    wanted = [f"{operator}/{name}" for operator in operators for name in SOUND]
    if any(name not in times for name in wanted):
        return None
    ratios = [times[name] / quiet["scale/" + name.partition("/")[2]] for name in wanted]
    return max(max(ratio, 1 / ratio) for ratio in ratios)


def quiet_times(folder: Path) -> Times:
    """Measure the project without a fault; raise :class:`SameopError` where even that has no numbers."""
    planted = Planted(folder, {"before": _SOUND, "after": _SOUND})
    code = planted.measure()
    times = _times(planted.found)
    if code or len(times) != len(SOUND):
        raise SameopError(f"The project without a fault was not measured: {planted.printed[-300:]!r}.")
    return times


def plant(fault: Fault, folder: Path, quiet: Times) -> Row:
    """Measure a project with a fault between two sound implementations."""
    planted = Planted(folder, {"before": _SOUND, "fault": fault.body, "after": _SOUND})
    code = planted.measure()
    lost = "" if code == Exit.FAILED else f"the exit code is {code}"
    return _row(fault.name, fault.status, fault.reason, planted, quiet, lost)


def _row(
    name: str,
    status: Status,
    reason: str,
    planted: Planted,
    quiet: Times,
    lost: str,
    case: str = "scale/fault",
) -> Row:
    run, found = planted.run, planted.found
    record = found.get(case)
    told = (record.reason or "") if record else ""
    fits = record is not None and told.startswith(reason) and "\n" not in told
    if not lost and (run.damage or len(run.records) != len(run.header.plan)):
        lost = f"{len(run.records)} records of {len(run.header.plan)} cases, {len(run.damage)} damaged lines"
    return Row(
        fault=name,
        expected=str(status),
        status=str(record.status) if record else "no record",
        reason=told,
        fits=fits,
        slowest=_slowest(quiet, found, sorted({key.partition("/")[0] for key in found})),
        lost=lost,
        left=planted.left_behind(),
    )


def kill_worker(folder: Path, quiet: Times) -> Row:
    """Kill a worker from outside while its call is timed."""
    planted = Planted(folder, {"before": _SOUND, "fault": _WAITS, "after": _SOUND})
    (planted.root / "wait").touch()
    with planted.start() as process:
        os.kill(planted.wait_for_a_turn(process), signal.SIGKILL)
        code = process.wait(_PATIENCE_SECONDS)
    lost = "" if code == Exit.FAILED else f"the exit code is {code}"
    wanted = "Its process ended with signal SIGKILL."
    return _row("kill -9 of a worker in a turn", Status.CRASHED, wanted, planted, quiet, lost)


def kill_parent(folder: Path, quiet: Times) -> Row:
    """Kill the measuring process while its second group is timed, and resume."""

    def kill(process: subprocess.Popen[str], planted: Planted) -> str:
        process.kill()
        process.wait()
        left = planted.left_behind()
        return f"{left} processes outlived their parent" if left else ""

    return _resumed("kill -9 of the parent", kill, folder, quiet)


def fill_disk(folder: Path, quiet: Times) -> Row:
    """Leave room for a record and a half when the second group is written, and resume with more."""
    import resource

    def fill(process: subprocess.Popen[str], planted: Planted) -> str:
        longest = max(map(len, planted.records.read_bytes().splitlines()))
        room = planted.records.stat().st_size + 3 * longest // 2
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, hard))
        (planted.root / "wait").unlink()
        code = process.wait(_PATIENCE_SECONDS)
        if code != Exit.USAGE or "Traceback" in planted.printed:
            return f"the full disk ended the run with exit code {code}, or with a traceback"
        said = planted.printed.count("can no longer be written")
        return "" if said else "the full disk was not told"

    return _resumed("full disk while records are written", fill, folder, quiet)


def _resumed(
    name: str, end: Callable[[subprocess.Popen[str], Planted], str], folder: Path, quiet: Times
) -> Row:
    """End a run in its second group in some way, and resume it: what was recorded stays to the byte."""
    first, second = {"before": _SOUND, "after": _SOUND}, {"before": _SOUND, "fault": _WAITS, "after": _SOUND}
    planted = Planted(folder, first, second)
    (planted.root / "wait").touch()
    with planted.start() as process:
        planted.wait_for_a_turn(process)
        before = planted.records.read_bytes()
        lost = end(process, planted)
    kept = planted.records.read_bytes()
    (planted.root / "wait").unlink(missing_ok=True)
    code = planted.measure()
    after = planted.records.read_bytes()
    if not lost and not (b'"scale"' in before and kept.startswith(before)):
        lost = "what was recorded before is not there any more"
    whole = kept[: kept.rfind(b"\n") + 1]
    if not lost and not (after.startswith(whole) and code == Exit.PASS):
        lost = f"the run could not be resumed: exit code {code}"
    return _row(name, Status.MEASURED, "", planted, quiet, lost, "twice/fault")


def validate() -> Iterator[Row]:
    """Plant every fault and tell what became of it."""
    if sys.platform != "linux":
        raise SameopError(f"Processes are looked for in /proc, and this system is {sys.platform}: use Linux.")
    with tempfile.TemporaryDirectory(prefix="sameop-faults-") as scratch:
        root = Path(scratch).resolve()
        quiet = quiet_times(root / "quiet")
        for number, fault in enumerate(page_faults()):
            yield plant(fault, root / f"page-{number}", quiet)
        for number, act in enumerate((kill_worker, kill_parent, fill_disk)):
            yield act(root / f"act-{number}", quiet)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, printed with its meaning."""
    return run_command(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m harness.validation.faults", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output")
    return parser


_ROW = "{:<36} {:<17} {:<8} {:<6} {:<6} {}"


def _run(options: argparse.Namespace) -> Exit:
    rows = []
    if not options.json:
        write(_ROW.format("fault", "status", "others", "lost", "left", "verdict and sentence"))
    for row in validate():
        rows.append(row)
        if not options.json:
            write(told(row))
    if options.json:
        document = {"kept_within": KEPT_WITHIN, "rows": [row.as_json() for row in rows]}
        write(json.dumps(document))
    held = sum(not row.objections for row in rows)
    say(f"{held} of {len(rows)} faults cost what they may cost and nothing else.")
    return Exit.PASS if held == len(rows) else Exit.FAILED


def told(row: Row) -> str:
    """Write a row of the table."""
    others = "none" if row.slowest is None else f"×{row.slowest:.2f}"
    words = f"{row.verdict}: {row.reason}" if row.reason else row.verdict
    return _ROW.format(row.fault, row.status, others, "yes" if row.lost else "no", row.left, words)


if __name__ == "__main__":
    sys.exit(main())
