"""Tally: what one call does that has no noise in it."""

from __future__ import annotations

from itertools import accumulate

import torch

from harness.bench.measure.clocks import Call

_MEMORY = "[memory]"


def tally(call: Call) -> dict[str, float]:
    """Count ATen operators, bytes allocated, and the peak of what is held above the inputs.

    Empty where the profiler of this torch reports no events.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call()
    del result
    results = profile.profiler.kineto_results if profile.profiler else None
    if results is None:
        return {}
    events = results.events()
    memory = sorted(
        (event for event in events if event.name() == _MEMORY), key=lambda event: event.start_ns()
    )
    changes = [event.nbytes() for event in memory]
    return {
        "aten_operators": sum(event.name().startswith("aten::") for event in events),
        "bytes_allocated": sum(change for change in changes if change > 0),
        "peak_bytes": max(accumulate(changes), default=0),
    }
