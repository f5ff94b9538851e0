"""What a worker process does with one job: expect, measure or count."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.bench.agreement import Judge, describe_inputs, prepare, restore, save
from harness.bench.catalog import Catalogue
from harness.bench.machine import usable_cpus
from harness.bench.measure.arithmetic import exact_arithmetic, forbid_tf32
from harness.bench.measure.clocks import Call, clock_for
from harness.bench.measure.energy import read_energy
from harness.bench.measure.latency import Budget
from harness.bench.measure.macs import probe_with_ones, read_macs
from harness.bench.measure.memory import read_memory
from harness.bench.measure.procedure import Meter, first_line, measure
from harness.bench.measure.subject import Subject, TimedCall
from harness.bench.proof.box import certify_smallest
from harness.paper.errors import SameopError
from harness.paper.record import Agreement, CaseId, Reading, Status
from harness.paper.units import Unit

# Meters that read one call after the samples were taken. A new meter is one file and one line here.
METERS: Mapping[str, tuple[Unit, Callable[[Subject, Call], Reading]]] = {
    "memory": (Unit.BYTES, read_memory),
    "energy": (Unit.JOULES_PER_CALL, read_energy),
}


@dataclass(frozen=True)
class Job:
    """One task for one worker process. ``expected`` is the file that ``expect`` writes for ``measure``."""

    task: str
    case: CaseId
    expected: str
    threads: int
    sample_seconds: float
    warm_up_seconds: float
    result: str

    def as_json(self) -> str:
        """Return the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Job:
        """Read a job back."""
        content = json.loads(line)
        return cls(**{**content, "case": CaseId(**content["case"])})


def run(job: Job, catalogue: Catalogue) -> None:
    """Do a job and write its result; an exception becomes a result with its sentence."""
    started = time.perf_counter()
    try:
        prepare_process(job)
        content = _TASKS[job.task](job, Subject.of(catalogue, job.case))
    except SameopError as error:
        content = _failed(str(error))
    except SystemExit as error:
        content = _failed(f"It called sys.exit({error.code!r}).")
    except Exception as error:
        content = {**_failed(_sentence(error, catalogue)), "traceback": traceback.format_exc()}
    content["seconds"] = time.perf_counter() - started
    unfinished = Path(job.result + ".partial")
    unfinished.write_text(json.dumps(content, default=str), encoding="utf-8")
    unfinished.replace(job.result)


def _failed(reason: str) -> dict[str, Any]:
    return {"status": Status.FAILED, "reason": reason}


def _sentence(error: Exception, catalogue: Catalogue) -> str:
    """Say what an exception says, and at which line of a page it was raised."""
    place = _place(error, {str(path) for path in catalogue.sources})
    # On the CPU torch has no exception of its own for this.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return f"It ran out of memory at {place}: {first_line(error)}"
    return f"It raised {type(error).__name__} at {place}: {first_line(error)}"


def _place(error: Exception, pages: set[str]) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename in pages), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def prepare_process(job: Job) -> None:
    """Fix what decides times and results in this process."""
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    forbid_tf32()
    torch.backends.cudnn.benchmark = False


def _expect(job: Job, subject: Subject) -> dict[str, Any]:
    # Nothing is timed here: all processors may help.
    torch.set_num_threads(usable_cpus())
    with exact_arithmetic():
        judge = prepare(subject.scope, subject.dims, subject.dtype, subject.device)
    torch.save(save(judge), job.expected)
    return {
        "status": Status.MEASURED,
        "inputs": describe_inputs(subject.scope, subject.dims),
        "ones_probe": probe_with_ones(subject),
    }


def _measure(job: Job, subject: Subject) -> dict[str, Any]:
    saved = torch.load(job.expected, weights_only=True)
    judge = restore(subject.scope, subject.dims, subject.device, saved)
    timed = subject.timed_call()
    outcome = measure(
        judge=lambda: _agree(judge, subject, timed),
        prepare_call=lambda: timed.run,
        clock=clock_for(subject.device),
        meters={name: Meter(unit, partial(read, subject)) for name, (unit, read) in METERS.items()},
        budget=Budget(job.warm_up_seconds, job.sample_seconds),
    )
    return {**asdict(outcome), "worker": _facts()}


def _agree(judge: Judge, subject: Subject, timed: TimedCall) -> Agreement:
    """Judge the implementation, and then the very call that is timed."""
    agreement = judge.judge(subject.implementation)
    if not agreement.agrees:
        return agreement
    results, misdeed = timed.rehearse()
    if misdeed:
        return Agreement(False, agreement.level, misdeed)
    called = judge.judge_call(results, subject.dtype)
    evidence = {**agreement.evidence, "timed_call": called.evidence}
    return replace(agreement if called.agrees else called, evidence=evidence)


def _count(_: Job, subject: Subject) -> dict[str, Any]:
    return {"status": Status.MEASURED, "readings": {"macs": asdict(read_macs(subject))}}


def _certify(_: Job, subject: Subject) -> dict[str, Any]:
    with exact_arithmetic():
        certificate = certify_smallest(subject.scope, subject.implementation)
    return {"status": Status.MEASURED, "certificate": certificate.as_dict()}


def _facts() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "allocator": os.environ.get("SAMEOP_ALLOCATOR", "default"),
        "flush_denormal": float(torch.tensor([1e-40]) * 1) == 0,  # as it is, not as it was asked for
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


_TASKS: Mapping[str, Callable[[Job, Subject], dict[str, Any]]] = {
    "expect": _expect,
    "measure": _measure,
    "count": _count,
    "certify": _certify,
}
