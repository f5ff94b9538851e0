"""Memory: the peak of what one call holds above its inputs.

On the CPU it counts what torch's allocator hands out: tensors and the scratch of kernels, and not the
objects that describe tensors, some 350 bytes each. ``python -m harness.validation.memory`` holds it beside
malloc's own high-water mark.
"""

from __future__ import annotations

import torch

from harness.bench.measure.clocks import Call
from harness.bench.measure.subject import Subject
from harness.paper.record import Reading
from harness.paper.units import Unit


def read_memory(subject: Subject, call: Call) -> Reading:
    """Measure one call after the samples were taken; profiling would disturb them."""
    peak = _cuda_peak(call) if subject.device == "cuda" else _cpu_peak(call)
    if peak is None:
        return Reading.missing(Unit.BYTES, "the profiler of this torch reports no memory events")
    bytes_per_element: int = getattr(torch, subject.dtype).itemsize
    cost = subject.scope.cost(subject.dims)
    written = cost.elements_written * bytes_per_element
    return Reading(
        unit=Unit.BYTES,
        value=float(peak),
        facts={
            "means": "peak of tensors and scratch above the inputs, output included",
            "output_bytes": written,
            "minimal_bytes": cost.minimal_bytes(bytes_per_element),
            "scratch_share": max(0.0, 1 - written / peak) if peak else 0.0,
        },
    )


def _cpu_peak(call: Call) -> int | None:
    """Peak of the running sum of the allocator's events: it sees the scratch inside kernels."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        result = call()
    del result
    results = profile.profiler.kineto_results if profile.profiler else None
    if results is None:
        return None
    events = [event for event in results.events() if event.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return peak if events else None


def _cuda_peak(call: Call) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    del result
    return torch.cuda.max_memory_allocated() - before
