"""A fresh process that times two pieces of work, block by block, whenever it is told to.

A line on standard input says ``WORK CALLS BLOCKS``; the answer is one line of JSON, a list of blocks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch.nn import functional as F

from harness.bench.measure.clocks import CpuClock

# [1, 128, 64, 64] in float32: 2 MiB, which glibc takes from the kernel and gives back on every call.
_MAP = (1, 128, 64, 64)
_SIDE = 96


def works() -> dict[str, Callable[[], object]]:
    """Return what is timed: a product of matrices in the cache, a convolution that writes 2 MiB."""
    torch.manual_seed(0)
    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    x, weight = torch.randn(_MAP), torch.randn(_MAP[1], 1, 3, 3)
    return {"product": lambda: a @ b, "convolution": lambda: F.conv2d(x, weight, padding=1, groups=_MAP[1])}


def serve() -> None:
    """Answer every line of standard input."""
    torch.set_num_threads(1)
    known, clock = works(), CpuClock()
    for line in sys.stdin:
        name, calls, blocks = line.split()
        work = known[name]
        # What ran in between has emptied the caches.
        work()
        timed = [asdict(clock.time(work, int(calls))) for _ in range(int(blocks))]
        sys.stdout.write(json.dumps(timed) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with torch.no_grad():
        serve()
