"""One turn of one peer: a fresh interpreter that imports everything, and forks a process for every case.

The process that a peer measures in is the one that sameop's workers are: torch and the pages imported, no
operator run before, the same settings, the same callable. Only what calls it differs.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

# The interpreters that sameop forks from hold it too. Once it is imported, the default allocator keeps
# megabytes that it gave back before: a depthwise convolution had 850 page faults a call, and then none.
import torch._dynamo

from harness.bench.catalog import load_catalogue
from harness.bench.measure.arithmetic import forbid_tf32
from harness.bench.measure.subject import Subject
from harness.bench.measure.zygote import end_with_parent
from harness.paper.record import CaseId
from harness.validation.peers.roster import peer_named


def main() -> int:
    """Read one turn from standard input, and let every process write its answer into the turn's folder."""
    end_with_parent()
    turn = json.loads(sys.stdin.read())
    peer = peer_named(turn["peer"])
    peer.load()
    catalogue = load_catalogue(Path(folder) for folder in turn["folders"])
    for number, case in enumerate(turn["cases"]):
        for process in range(peer.processes):
            path = Path(turn["answers"]) / f"{number}-{process}.json"
            _fork(lambda case=case: _measure(peer, catalogue, case, turn["seconds"]), path)
    return 0


def _fork(work: Any, path: Path) -> None:
    child = os.fork()
    if child == 0:
        # os._exit on every path: the child must never return into the parent's loop.
        try:
            end_with_parent()
            unfinished = path.with_suffix(".partial")
            unfinished.write_text(json.dumps(_answer(work)), encoding="utf-8")
            unfinished.replace(path)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if not path.exists():
        reason = f"its process ended with status {os.waitstatus_to_exitcode(status)}"
        path.write_text(json.dumps({"failed": reason}), encoding="utf-8")


def _answer(work: Any) -> Mapping[str, Any]:
    try:
        return {"found": work()}
    except Exception as error:
        traceback.print_exc()
        return {"failed": f"it raised {type(error).__name__}: {error}"}


def settle() -> None:
    """Fix what decides times in this process, as every process that sameop measures in has it."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    forbid_tf32()
    torch.backends.cudnn.benchmark = False


def _measure(peer: Any, catalogue: Any, case: Mapping[str, str], seconds: float) -> Mapping[str, Any]:
    settle()
    timed = Subject.of(catalogue, CaseId(**case)).timed_call()
    # What a process of sameop's does before it times anything. By what was allocated and freed so far the
    # default allocator decides what it keeps, and so what every later call costs.
    timed.run()
    timed.rehearse()
    started = time.perf_counter()
    answer = peer.measure(timed.run, seconds)
    return {"answer": answer, "spent": time.perf_counter() - started}


if __name__ == "__main__":
    sys.exit(main())
