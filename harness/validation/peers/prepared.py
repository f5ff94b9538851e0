"""A process prepared as those are that sameop measures in, and one peer's measurement in it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

# The interpreters that sameop forks from hold it too. Once it is imported, the default allocator keeps
# megabytes that it gave back before: a depthwise convolution had 850 page faults a call, and then none.
import torch._dynamo

from harness.bench.catalog import Catalogue
from harness.bench.measure.arithmetic import forbid_tf32
from harness.bench.measure.subject import Subject
from harness.paper.record import CaseId
from harness.validation.peers.peer import Peer


def settle() -> None:
    """Fix what decides times in this process, as every process that sameop measures in has it."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    forbid_tf32()
    torch.backends.cudnn.benchmark = False


def measure(peer: Peer, catalogue: Catalogue, case: Mapping[str, str], seconds: float) -> Mapping[str, Any]:
    """Make a case's callable ready and hand it to a peer; return its answer and how long it took."""
    settle()
    timed = Subject.of(catalogue, CaseId(**case)).timed_call()
    # What a process of sameop's does before it times anything. By what was allocated and freed so far the
    # default allocator decides what it keeps, and so what every later call costs.
    timed.run()
    timed.rehearse()
    started = time.perf_counter()
    answer = peer.measure(timed.run, seconds)
    return {"answer": answer, "spent": time.perf_counter() - started}
