"""The options of ``pytest --benchmark``: added, read, and refused in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.paper.errors import SameopError

if TYPE_CHECKING:
    import pytest

    from harness.bench.case import Preset, Selection
    from harness.bench.measure.settings import Scaling, Settings


# More tell nothing new, and each has an interpreter to be forked from.
_MOST_PROCESSES = 30

# Name, default, what stands for its value, help.
_OPTIONS: Sequence[tuple[str, str | None, str, str]] = (
    (
        "--bench-preset",
        "quick",
        "PRESET",
        "How much to measure: quick (the default) fits in 3 minutes on 2 cores; standard; full.",
    ),
    (
        "--bench-device",
        "all",
        "DEVICE",
        "Where to measure: cpu, cuda, or all (the default), which skips what is absent.",
    ),
    ("--bench-operator", "*", "GLOB", "Which operators, such as 'dynamic_*'."),
    (
        "--bench-network",
        "",
        "NAME",
        "Measure the layers of a network, such as resnet18 or swin_t+involution, in place of workloads.",
    ),
    ("--bench-run", None, "DIR", "The run folder; an existing run is resumed."),
    ("--bench-threads", "1", "N", "Threads of every case on the CPU: a number, 1 by default, or all."),
    (
        "--bench-allocator",
        "pinned",
        "NAME",
        "Memory on the CPU: pinned (the default) keeps what is freed; default is the platform's own way.",
    ),
    ("--bench-cache", None, "NAME", "hot, or both: time calls on overwritten caches too."),
    (
        "--bench-scaling",
        None,
        "NAME",
        "Time cases on all processors too: off, first (those at the first workload of a scope), or on.",
    ),
    (
        "--bench-precision",
        None,
        "SHARE",
        "Stop when half the interval is at most this share of the median, such as 1%.",
    ),
    ("--bench-seconds", None, "SECONDS", "Sample a case for at most so long."),
    ("--bench-processes", None, "N", "Measure each case in exactly so many processes."),
    (
        "--bench-timeout",
        "300",
        "SECONDS",
        "Stop a worker that does not answer for so long; 300 by default.",
    ),
)


def add_options(group: pytest.OptionGroup) -> None:
    """Add ``--benchmark`` and the ``--bench-…`` options."""
    group.addoption(
        "--benchmark", action="store_true", help="Prove the claims and measure the cases; write a run folder."
    )
    for name, default, metavar, text in _OPTIONS:
        group.addoption(name, default=default, metavar=metavar, help=text)
    group.addoption(
        "--bench-instructions", action="store_true", help="Count instructions under valgrind too; slow."
    )
    group.addoption("--bench-builtin", action="store_true", help="Add sameop's own cases to the project's.")


def require_the_machine(option: Any) -> None:
    """Refuse the options that leave nothing to measure, or no quiet to measure in."""
    if getattr(option, "numprocesses", None) or getattr(option, "tx", None):
        raise SameopError("Measuring needs the machine to itself: leave -n out, or --benchmark.")
    if getattr(option, "benchmark_skip", False):
        raise SameopError("--benchmark-skip leaves out every case: leave it out, or --benchmark.")
    if option.bench_run == "":
        raise SameopError("--bench-run names no folder: give one, or leave the option out for a new one.")


def read_selection(option: Any) -> Selection:
    """Return what a run is asked for, or raise :class:`SameopError`."""
    from harness.bench.case import DEVICES, PRESETS, Selection

    return Selection(
        _one_of("--bench-preset", option.bench_preset, PRESETS),
        _one_of("--bench-device", option.bench_device, DEVICES),
        option.bench_operator,
        option.bench_network,
    )


def read_settings(option: Any, preset: Preset) -> Settings:
    """Return how a run is measured, or raise :class:`SameopError`."""
    from harness.bench.measure.settings import Settings
    from harness.bench.measure.workers import ALLOCATORS

    changes: dict[str, Any] = {
        "threads": _threads(option.bench_threads),
        "allocator": _one_of("--bench-allocator", option.bench_allocator, ALLOCATORS),
        "instructions": option.bench_instructions,
        "timeout_seconds": _timeout(option.bench_timeout),
    }
    for name, value, read in (
        ("cold", option.bench_cache, _cold),
        ("scaling", option.bench_scaling, _scaling),
        ("precision", option.bench_precision, _precision),
        ("case_seconds", option.bench_seconds, _seconds),
        ("processes", option.bench_processes, _processes),
    ):
        if value is not None:
            changes[name] = read(value)
    return replace(Settings.of(preset), **changes)


def _one_of(option: str, asked: str, known: Sequence[str]) -> Any:
    if asked not in known:
        last = f"{', '.join(known[:-1])} or {known[-1]}"
        raise SameopError(f"{option}={asked} is unknown: choose {last}.")
    return asked


def _threads(text: str) -> int:
    from harness.bench.machine import usable_cpus

    most = usable_cpus()
    if text == "all":
        return most
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise SameopError(
            f"--bench-threads={text} is no count of threads that fits the {most} CPUs here: "
            f"give a whole number from 1 to {most}, or all."
        )
    return int(text)


def _cold(text: str) -> bool:
    return bool(_one_of("--bench-cache", text, ("hot", "both")) == "both")


def _scaling(text: str) -> Scaling:
    from harness.bench.measure.settings import SCALINGS

    found: Scaling = _one_of("--bench-scaling", text, SCALINGS)
    return found


def _precision(text: str) -> float:
    share = _number(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < share < 1:
        raise SameopError(f"--bench-precision={text} is no share of a median: give one such as 1% or 0.01.")
    return share


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not seconds > 0:
        raise SameopError(f"--bench-seconds={text} is no time: give a number of seconds above zero.")
    return seconds


def _timeout(text: str) -> float:
    seconds = _number(text)
    if not seconds > 0:
        raise SameopError(f"--bench-timeout={text} is no time: give a number of seconds above zero.")
    return seconds


def _processes(text: str) -> tuple[int, int]:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_PROCESSES:
        raise SameopError(
            f"--bench-processes={text} is no count of processes: give a whole number from 1 to "
            f"{_MOST_PROCESSES}."
        )
    return int(text), int(text)


def _number(text: str) -> float:
    """Read a finite number; what is none counts as one that every option refuses."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if number < float("inf") else 0.0
