"""What the allocator of this machine costs, beside one that keeps freed memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median

from harness.bench.measure.clocks import Block
from harness.doors.doctor.finding import Finding, advise, fine
from harness.doors.doctor.trial import Trial
from harness.doors.doctor.wording import listed
from harness.paper.units import three_digits

_WORK = "convolution"
# Libraries that replace malloc, by a piece of their file names.
_REPLACEMENTS = ("jemalloc", "tcmalloc", "mimalloc", "hoard", "tbbmalloc")
_SLOWER = 1.05


def examine_allocator(
    trial: Trial, environment: Mapping[str, str] = os.environ, platform: str = "linux"
) -> list[Finding]:
    """Return what the default allocator costs, measured, and whether it is another one than the system's."""
    return [_cost(trial, platform), _preloaded(environment)]


def _cost(trial: Trial, platform: str) -> Finding:
    pinned = [blocks[_WORK] for blocks in trial.pinned if blocks[_WORK]]
    default = [blocks[_WORK] for blocks in trial.default if blocks[_WORK]]
    if not pinned or not default:
        return advise("allocator", "It could not be measured.", "Run the doctor again on a quiet machine.")
    found = f"A convolution that writes 2 MiB pays {_faults(default)} with the default malloc"
    if platform != "linux":
        return advise(
            "allocator", f"{found}.", "It cannot be pinned here: large outputs may pay page faults."
        )
    ratio = max(map(_seconds, default)) / median(map(_seconds, pinned))
    found = f"{found} and {_faults(pinned)} where freed memory is kept: {_compared(ratio)}."
    if ratio < _SLOWER:
        return fine("allocator", found)
    advice = (
        "Workers keep freed memory; a program of yours that does not will be slower than what they measure."
    )
    return advise("allocator", found, advice)


def _compared(ratio: float) -> str:
    if ratio >= _SLOWER:
        return f"the default is up to {three_digits(ratio)} times slower"
    if ratio > 1 / _SLOWER:
        return "no difference in these processes, though the next may have one"
    return f"the default is {three_digits(1 / ratio)} times faster"


def _faults(processes: Sequence[Sequence[Block]]) -> str:
    """Write the page faults per call of every process, or of all where they are the same."""
    known = [
        [block.faults / block.calls for block in blocks if block.faults is not None] for blocks in processes
    ]
    rates = [f"{fmean(rates):.0f}" for rates in known if rates]
    if not rates:
        return "an unknown number of page faults"
    several = f" (in {len(rates)} processes)" if len(set(rates)) > 1 else ""
    return f"{' or '.join(dict.fromkeys(rates))} page faults a call{several}"


def _seconds(blocks: Sequence[Block]) -> float:
    return median((block.cpu_seconds or block.seconds) / block.calls for block in blocks)


def _preloaded(environment: Mapping[str, str]) -> Finding:
    libraries = environment.get("LD_PRELOAD", "").replace(":", " ").split()
    names = [Path(library).name for library in libraries]
    replacing = [name for name in names if any(known in name for known in _REPLACEMENTS)]
    if replacing:
        return advise(
            "preloaded allocator",
            f"LD_PRELOAD puts {', '.join(replacing)} in the place of malloc, in workers too.",
            "Unset LD_PRELOAD where times shall be compared with those of others.",
        )
    besides = f"; LD_PRELOAD holds {', '.join(names)}" if names else ""
    found = f"No other allocator replaces that of the system{besides}"
    tuned = sorted(name for name in environment if name == "GLIBC_TUNABLES" or name.startswith("MALLOC_"))
    if tuned:
        advice = f"Unset {listed(tuned)} where times shall be compared with those of others."
        return advise("preloaded allocator", f"{found}, but the environment sets {listed(tuned)}.", advice)
    return fine("preloaded allocator", f"{found}.")
