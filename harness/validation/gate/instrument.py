"""The instrument beside the gate: what a plant truly costs, by a measurement that shares no code with twins.

A fresh interpreter loads the pages of both versions under names of their own, and forks a process for every
case and repeat. In it base and head take turns, call block by call block, in an order drawn each time; the
middle of the paired log ratios is the number of that process. Reads one task from standard input and prints a
line for each case.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from harness.bench.measure.zygote import end_with_parent

Call = Callable[[], object]
Answer = dict[str, Any]
# Long against reading the clocks and short against what disturbs a machine.
_BLOCK_SECONDS = 1e-3
_STEPS = 100_000


def main() -> int:
    """Do one task: ``scale`` of the suite in one version, or ``truth`` of some plants in two."""
    task = json.loads(sys.stdin.read())
    end_with_parent()
    if os.getppid() != task["parent"]:
        return 1
    # After that: importing torch takes seconds, in which the parent may end.
    from harness.bench.packages import load_package
    from harness.validation.peers.prepared import settle

    settle()

    names = {side: f"measured_{side}" for side in task["sides"]}
    for side, folder in task["sides"].items():
        load_package(Path(folder) / "cases", names[side])
    measure = _scale if task["what"] == "scale" else partial(_compare, seconds=task["seconds"])
    for entry in task["entries"]:
        versions = [_load(names[side], entry) for side in task["sides"]]
        found = [_fork(partial(measure, *versions)) for _ in range(task["processes"])]
        sys.stdout.write(json.dumps({"entry": entry, "found": found}) + "\n")
        sys.stdout.flush()
    return 0


@dataclass(frozen=True)
class _Version:
    """One version of a case: its function, given its inputs."""

    function: Callable[[Any], object]
    draw: Callable[[], Any]

    def call(self, inputs: Any) -> Call:
        """Return one forward call on these inputs."""
        import torch

        function = self.function

        def call() -> object:
            with torch.no_grad():
                return function(inputs)

        return call


def _load(package: str, entry: Mapping[str, str]) -> _Version:
    from harness.bench.expectation import bind, inputs_of

    scope = import_module(f"{package}.{entry['page']}").operator.scopes[entry["scope"]]
    dims = scope.workload(entry["workload"]).dims
    function = bind(scope, scope.implementations[entry["implementation"]], dims)
    return _Version(function, partial(inputs_of, scope, dims, "float32", "cpu"))


def _scale(version: _Version) -> Answer:
    from harness.bench.twins.tally import tally

    inputs = version.draw()
    call, x = version.call(inputs), next(iter(inputs.values()))
    _settle(call)
    return {
        "seconds": _cpu_seconds(call),
        "peak_bytes": tally(call).get("peak_bytes", 0),
        "copy_seconds": _cpu_seconds(lambda: x.reshape(-1)[:].clone()),
        "touch_seconds": _cpu_seconds(lambda: x.reshape(-1)[:1].clone()),
        "elements": x.numel(),
        "step_seconds": _step_seconds(),
    }


def _cpu_seconds(call: Call) -> float:
    found = []
    for _ in range(30):
        start = time.thread_time_ns()
        call()
        found.append((time.thread_time_ns() - start) / 1e9)
    return median(found)


def _step_seconds() -> float:
    def step() -> None:
        number = 1.0
        for _ in range(_STEPS):
            number = number * 0.999 + 0.001

    return _cpu_seconds(step) / _STEPS


def _compare(base: _Version, head: _Version, seconds: float) -> Answer:
    dice = random.Random(os.getpid())  # noqa: S311  # an order, no secret
    # The same tensors for both: of two equal ones, one may lie better in the caches.
    inputs = base.draw()
    calls = (base.call(inputs), head.call(inputs))
    for call in calls:
        _settle(call)
    number = max(1, round(_BLOCK_SECONDS / _cpu_seconds(calls[0])))
    cpu: list[float] = []
    wall: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(cpu) < 10:
        times = _round(calls, number, dice)
        cpu.append(log(times[1][0] / times[0][0]))
        wall.append(log(times[1][1] / times[0][1]))
    return {"cpu": _middle(cpu), "wall": _middle(wall), "rounds": len(cpu)}


def _round(calls: Sequence[Call], number: int, dice: random.Random) -> dict[int, tuple[float, float]]:
    """Time two blocks of either side, in one of the orders in which a steady drift cancels."""
    times = {0: (0.0, 0.0), 1: (0.0, 0.0)}
    first = dice.randrange(2)
    for side in (first, 1 - first, 1 - first, first):
        call, repeat = calls[side], range(number)
        call()
        cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
        for _ in repeat:
            call()
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        times[side] = times[side][0] + cpu, times[side][1] + wall
    return times


def _middle(values: Sequence[float]) -> float:
    """Return the mean of the middle half."""
    ordered = sorted(values)
    kept = ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4]
    return sum(kept) / len(kept)


def _settle(call: Call) -> None:
    """Warm up, and keep the collector from running at moments of its own choosing."""
    for _ in range(3):
        call()
    gc.collect()
    gc.freeze()
    gc.disable()


def _fork(work: Callable[[], Answer]) -> Answer:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        try:
            end_with_parent()
            os.write(write, json.dumps(_answer(work)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said)) if said else {"failed": "its process ended without an answer"}


def _answer(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:1000]}


if __name__ == "__main__":
    sys.exit(main())
