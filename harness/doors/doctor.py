"""What this machine can measure, and what disturbs it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from harness.bench.machine import device_missing, identity, torch_notice
from harness.bench.measure.clocks import Block, CpuClock
from harness.paper.stats import summarise

Finding = dict[str, Any]


def examine() -> list[Finding]:
    """Return one finding per check: what was looked at, what was found, and the advice or None."""
    return [finding for check in _CHECKS for finding in check()]


def _finding(what: str, found: object, advice: str | None = None) -> Finding:
    return {"what": what, "found": str(found), "advice": advice}


def _machine() -> list[Finding]:
    facts = identity()
    return [
        _finding("processor", f"{facts['cpu']}, {facts['usable_cpus']} of {facts['cpus']} CPUs usable"),
        _finding("memory", f"{facts['memory_gib']} GiB"),
        _finding("torch", torch.__version__, torch_notice()),
    ]


def _cuda() -> list[Finding]:
    reason = device_missing("cuda")
    if reason:
        return [
            _finding(
                "CUDA", reason, "CUDA cases are left out; an explicit --bench-device=cuda ends with exit 13"
            )
        ]
    return [_finding("CUDA", ", ".join(identity()["gpus"]))]


def _load() -> list[Finding]:
    if not hasattr(os, "getloadavg"):
        return [_finding("load", "unknown on this platform", "close other programs before measuring")]
    load = os.getloadavg()[0]
    busy = load > 0.25 * (os.cpu_count() or 1)
    return [
        _finding(
            "load", f"{load:.2f} over the last minute", "other work disturbs times; wait" if busy else None
        )
    ]


def _frequency() -> list[Finding]:
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if not governor.exists():
        return [_finding("frequency scaling", "not visible", "clock changes cannot be told from slower code")]
    name = governor.read_text(encoding="utf-8").strip()
    advice = None if name == "performance" else "set the governor to performance for steadier times"
    return [_finding("frequency scaling", f"governor {name}", advice)]


def _allocator() -> list[Finding]:
    if sys.platform == "linux":
        return [
            _finding("allocator", "workers keep freed memory (pinned), so no call pays page faults for it")
        ]
    return [_finding("allocator", "cannot be pinned here", "large outputs may pay page faults on every call")]


def _noise() -> list[Finding]:
    blocks = _equal_blocks()
    wall = summarise([block.seconds for block in blocks])
    cpu = summarise([block.cpu_seconds or 0.0 for block in blocks])
    found = (
        f"middle half of 200 equal blocks: {_width(wall):.1%} by the wall, {_width(cpu):.1%} by the CPU clock"
    )
    advice = "expect wide intervals; look at the load" if _width(wall) > 0.1 else None
    return [_finding("noise floor", found, advice)]


def _equal_blocks() -> list[Block]:
    """Time the same block 200 times on one thread, as cases are by default."""
    a, clock, threads = torch.randn(96, 96), CpuClock(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [clock.time(lambda: a @ a, 20) for _ in range(220)][20:]
    finally:
        torch.set_num_threads(threads)


def _width(summary: Any) -> float:
    return float((summary.high_quartile - summary.low_quartile) / summary.median)


def _tools() -> list[Finding]:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    advice = None if compiler else "compiled forms will be recorded as failed: install g++"
    return [_finding("C++ compiler", compiler or "absent", advice)]


def _libraries() -> list[Finding]:
    return [_library(module, package, loss) for module, package, loss in _OPTIONAL]


def _library(module: str, package: str, loss: str) -> Finding:
    if importlib.util.find_spec(module) is None:
        return _finding(package, "absent", f"{loss}: pip install {package}")
    try:
        return _finding(package, version(package))
    except PackageNotFoundError:  # the same module may come from a distribution of another name
        return _finding(package, "of unknown version")


# What a run can do without, and what it then lacks.
_OPTIONAL = (
    ("pytest_benchmark", "pytest-benchmark", "no benchmark.json will be written"),
    ("fvcore", "fvcore", "one witness of the MACs will be missing"),
    ("pynvml", "nvidia-ml-py", "energy and the names of GPUs will be missing"),
)


_CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    _machine,
    _cuda,
    _load,
    _frequency,
    _allocator,
    _tools,
    _libraries,
    _noise,
)
