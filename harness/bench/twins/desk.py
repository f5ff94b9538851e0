"""What a process of a twin does beyond what every worker does."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from harness.bench.agreement import describe_inputs, restore
from harness.bench.case import Case, Preset, Selection, plan_cases
from harness.bench.catalog import Catalogue
from harness.bench.measure.jobs import Job
from harness.bench.measure.macs import count_by_witnesses
from harness.bench.measure.subject import Subject
from harness.bench.measure.worker import Desk, prepare_process
from harness.bench.twins.called import functions_called
from harness.bench.twins.side import Side
from harness.bench.twins.tally import tally
from harness.paper.errors import NothingToMeasureError
from harness.paper.record import Status

Answer = dict[str, Any]


class TwinDesk(Desk):
    """Answers the requests of a gate for one side."""

    def __init__(self, catalogue: Catalogue, side: Side) -> None:
        super().__init__(catalogue)
        self._side = side
        self._tasks: Mapping[str, Callable[..., Answer]] = {
            "list": self._list,
            "block": self._block,
            "tally": self._tally,
            "strays": self._strays,
        }
        self._about: Mapping[str, Callable[[Job, Subject], Answer]] = {
            "match": _match,
            "macs": _macs,
            "called": self._called,
        }

    def _do(self, job: Job) -> Answer:
        if job.task in self._tasks:
            return {"status": Status.MEASURED, **self._tasks[job.task](**job.options)}
        if job.task in self._about:
            assert job.case is not None
            prepare_process(job)
            found = self._about[job.task](job, Subject.of(self._catalogue, job.case))
            return {"status": Status.MEASURED, **found}
        return super()._do(job)

    def _list(self, *, preset: Preset, device: str, match: str) -> Answer:
        """List the cases whose names match, each with what it measures."""
        try:
            plan = plan_cases(self._catalogue, Selection(preset, device))
        except NothingToMeasureError as error:
            return {"cases": [], "left_out": str(error)}
        chosen = [case for case in plan.cases if fnmatch.fnmatchcase(str(case.id), match)]
        return {"cases": [_describe(case) for case in chosen], "left_out": ""}

    def _block(self, *, calls: int, rewarm: bool) -> Answer:
        """Time one block of the case that was begun."""
        assert self._procedure is not None
        return {"block": asdict(self._procedure.block(calls, rewarm=rewarm))}

    def _tally(self) -> Answer:
        """Count what one call of the case that was begun does."""
        assert self._procedure is not None
        return {"counts": tally(self._procedure.call)}

    def _strays(self) -> Answer:
        """Say what this process holds of the other side, now that it has run its own."""
        return {"strays": self._side.strays()}

    def _called(self, _: Job, subject: Subject) -> Answer:
        """List the functions of this side that one call runs."""
        call = subject.timed_call().run
        call()
        return {"called": [asdict(found) for found in functions_called(call, self._side.root)]}


def _describe(case: Case) -> Answer:
    """Say what makes two cases of one name the same: dimensions, inputs and shape of the output."""
    dims = case.workload.dims
    return {
        "case": asdict(case.id),
        "workload": {
            "dimensions": dict(dims),
            "inputs": describe_inputs(case.scope, dims),
            "output": list(case.scope.output(dims)),
        },
    }


def _match(job: Job, subject: Subject) -> Answer:
    """Judge the implementation of this side by what the other side's reference computed."""
    saved = torch.load(job.expected, weights_only=True)
    judge = restore(subject.scope, subject.dims, subject.device, saved)
    agreement = judge.judge(subject.implementation)
    return {"agrees": agreement.agrees, "because": agreement.reason}


def _macs(_: Job, subject: Subject) -> Answer:
    """Count the MACs that one forward call executes."""
    found = count_by_witnesses(subject)["flop_counter"]
    return {"macs": found["macs"]}
