"""What a worker process does with the requests of one channel."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from harness.bench.agreement import Judge, describe_inputs, prepare, restore, save
from harness.bench.catalog import Catalogue
from harness.bench.measure.arithmetic import exact_arithmetic, forbid_tf32
from harness.bench.measure.channel import Channel
from harness.bench.measure.clocks import Call
from harness.bench.measure.jobs import Job
from harness.bench.measure.kernels import sentinel, watch_kernels
from harness.bench.measure.macs import probe_with_ones, read_macs
from harness.bench.measure.meters import METERS
from harness.bench.measure.modes import HOT, clocks_for
from harness.bench.measure.procedure import Meter, Procedure, first_line
from harness.bench.measure.speedlimit import measure_speed_limit
from harness.bench.measure.subject import Subject
from harness.bench.measure.surroundings import Surroundings
from harness.bench.measure.vouching import Vouched, Voucher
from harness.bench.proof.box import certify_smallest
from harness.bench.proof.prover import prove
from harness.paper.errors import SameopError
from harness.paper.record import Status

Answer = dict[str, Any]
# What a change of the surroundings may have brought about; an exception speaks for itself.
_JUDGED = (Status.MEASURED, Status.DISAGREED, Status.NONDETERMINISTIC)


def serve(channel: Channel, desk: Desk) -> None:
    """Answer requests until the channel closes."""
    process = os.getpid()
    while (request := channel.receive()) is not None:
        answer = desk.answer(request)
        if os.getpid() != process:
            # A page forked and came back in both processes: this one was never asked.
            os._exit(0)
        channel.send(answer)


class Desk:
    """Answers requests one after the other, and remembers the measurement that is under way."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._procedure: Procedure | None = None
        self._subject: Subject | None = None
        self._surroundings: Surroundings | None = None

    def answer(self, request: Mapping[str, Any]) -> Answer:
        """Do what is asked; an exception becomes an answer with its sentence."""
        started = time.perf_counter()
        try:
            content = self._do(Job.of_request(request))
        except SameopError as error:
            content = _failed(str(error))
        except SystemExit as error:
            content = _failed(f"It called sys.exit({error.code!r}).")
        except BaseException as error:  # of a page, whatever it is: Ctrl-C never reaches a worker
            content = {**self._told(error), "traceback": traceback.format_exc()}
        if self._surroundings is not None and content["status"] in _JUDGED:
            change = self._surroundings.change()
            content = _failed(change) if change else content
        content["seconds"] = time.perf_counter() - started
        return content

    def _do(self, job: Job) -> Answer:
        if job.task == "turn":
            return self._turn(**job.options)
        if job.task == "end":
            return self._end(**job.options)
        prepare_process(job)
        if job.task == "limits":
            return _find_limit(**job.options)
        if job.task == "prove":
            return self._prove(**job.options)
        assert job.case is not None
        self._surroundings = Surroundings()
        self._subject = Subject.of(self._catalogue, job.case)
        if job.task == "begin":
            return self._begin(job, self._subject, **job.options)
        return _TASKS[job.task](job, self._subject)

    def _begin(
        self,
        job: Job,
        subject: Subject,
        *,
        warm_up_seconds: float,
        modes: list[str],
        calls: int | None = None,
        bits: str = "",
        level: str = "",
    ) -> Answer:
        timed = subject.timed_call()
        voucher = Voucher(subject, timed, partial(_judge, job, subject), bits, level)
        finish = torch.cuda.synchronize if subject.device == "cuda" else _nothing
        clocks = clocks_for(subject.device)
        self._procedure = Procedure(lambda: timed.run, voucher.vouch_for, voucher.vouch, clocks, finish)
        begun = self._procedure.begin(warm_up_seconds, calls, modes)
        return {
            **_vouched(begun.vouched),
            "calls": begun.calls,
            "first_call_seconds": begun.first_call_seconds,
            "warm_up_calls": begun.warm.calls,
            "warm_up_stable": begun.warm.stable,
            "seconds_per_call": begun.warm.seconds_per_call if begun.warm.blocks else None,
            "measuring_seconds": begun.measuring_seconds,
            "worker": _facts(),
        }

    def _turn(self, *, mode: str, calls: int, rewarm: bool) -> Answer:
        assert self._procedure is not None
        blocks = self._procedure.turn(mode, calls, rewarm=rewarm)
        return {"status": Status.MEASURED, "blocks": [asdict(block) for block in blocks]}

    def _end(self, *, meters: bool) -> Answer:
        assert self._procedure is not None
        assert self._subject is not None
        subject = self._subject
        wanted = {name: Meter(unit, partial(read, subject)) for name, (unit, read) in METERS.items()}
        # Every process of a compiled form shows that it ran compiled; of the others one tells for all.
        watched = meters or subject.implementation.kind == "compiled"
        watch = partial(_watch, subject) if watched else None
        ended = self._procedure.end(wanted if meters else {}, watch)
        readings = {name: asdict(reading) for name, reading in ended.readings.items()}
        return {
            **_vouched(ended.vouched),
            "readings": readings,
            "facts": dict(ended.facts),
            "measuring_seconds": ended.measuring_seconds,
        }

    def _prove(self, *, claim: str, brief: bool) -> Answer:
        return {"status": Status.MEASURED, "result": prove(self._catalogue.claims[claim], brief=brief)}

    def _told(self, error: BaseException) -> Answer:
        """Say what an exception says, and at which line of a page it was raised."""
        place = _place(error, {str(path) for path in self._catalogue.sources})
        # On the CPU torch has no exception of its own for this.
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            reason = f"It ran out of memory at {place}: {first_line(error)}"
            return {"status": Status.OUT_OF_MEMORY, "reason": reason}
        return _failed(f"It raised {type(error).__name__} at {place}: {first_line(error)}")


def _failed(reason: str) -> Answer:
    return {"status": Status.FAILED, "reason": reason}


def _place(error: BaseException, pages: set[str]) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if frame.filename in pages), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def prepare_process(job: Job) -> None:
    """Fix what decides times and results in this process."""
    if job.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, job.cpus)
    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    forbid_tf32()
    torch.backends.cudnn.benchmark = False


def _judge(job: Job, subject: Subject) -> Judge:
    saved = torch.load(job.expected, weights_only=True)
    return restore(subject.scope, subject.dims, subject.device, saved)


def _expect(job: Job, subject: Subject) -> Answer:
    with exact_arithmetic():
        judge = prepare(subject.scope, subject.dims, subject.dtype, subject.device)
    torch.save(save(judge), job.expected)
    return {
        "status": Status.MEASURED,
        "inputs": describe_inputs(subject.scope, subject.dims),
        "ones_probe": probe_with_ones(subject),
    }


def _count(_: Job, subject: Subject) -> Answer:
    return {"status": Status.MEASURED, "readings": {"macs": asdict(read_macs(subject))}}


def _certify(_: Job, subject: Subject) -> Answer:
    with exact_arithmetic():
        certificate = certify_smallest(subject.scope, subject.implementation)
    return {"status": Status.MEASURED, "certificate": certificate.as_dict()}


def _find_limit(*, device: str, dtypes: list[str], threads: list[int]) -> Answer:
    limit = measure_speed_limit(device, dtypes, threads, clocks_for(device)[HOT]())
    return {"status": Status.MEASURED, "limit": limit.as_json()}


def _watch(subject: Subject, call: Call) -> tuple[Mapping[str, Any], str | None]:
    """Say what one call ran, and what is wrong with it."""
    ran = watch_kernels(call, subject.device)
    return {"kernels": ran.as_json()}, sentinel(subject.implementation.kind, ran)


def _vouched(vouched: Vouched) -> Answer:
    return asdict(vouched)


def _facts() -> dict[str, Any]:
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "threads": torch.get_num_threads(),
        "cpus": affinity,
        "allocator": os.environ.get("SAMEOP_ALLOCATOR", "default"),
        "flush_denormal": float(torch.tensor([1e-40]) * 1) == 0,  # as it is, not as it was asked for
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _nothing() -> None:
    """Wait for nothing: the CPU has finished when a call returns."""


_TASKS: Mapping[str, Callable[[Job, Subject], Answer]] = {
    "expect": _expect,
    "count": _count,
    "certify": _certify,
}
